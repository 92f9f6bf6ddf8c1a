"""Eight simulated devices, asked for before jax is imported, and caches of the suite's own.

Nothing that an earlier run compiled or tokenised is used: it takes as long as on a new machine.
The tests' own programs are translated to machine code without optimization: most of them run once,
and that takes two thirds of the time. What XLA makes of a program before that is as ever, and so
are the commands that tests start (tests/launched.py).
"""

import atexit
import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)
os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
if "PYTEST_XDIST_WORKER" not in os.environ:  # the workers share what the first process makes
    os.environ["LM_CACHE"] = tempfile.mkdtemp(prefix="lm-tests-")
    atexit.register(shutil.rmtree, os.environ["LM_CACHE"], ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(os.environ["LM_CACHE"], "compiled")
