"""Eight simulated devices, asked for before jax is imported, and caches of the suite's own.

Nothing that an earlier run compiled or tokenised is used: it takes as long as on a new machine.
"""

import atexit
import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
if "PYTEST_XDIST_WORKER" not in os.environ:  # the workers share what the first process makes
    os.environ["LM_CACHE"] = tempfile.mkdtemp(prefix="lm-tests-")
    atexit.register(shutil.rmtree, os.environ["LM_CACHE"], ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(os.environ["LM_CACHE"], "compiled")


def pytest_configure(config):
    """Chooses how well programs are translated to machine code, the larger part of the time.

    Most programs of the fast tests run once, and are as good without optimization: it is 0 of 0 to
    3 for them. With 1 the trainings of the slow ones are as fast as with 3. What XLA makes of a
    program before that is as ever, and so are commands that tests start (tests/launched.py).
    """
    fast = config.option.markexpr == "not slow and not soak"
    os.environ["XLA_FLAGS"] = (
        "--xla_force_host_platform_device_count=8 "
        f"--xla_backend_optimization_level={0 if fast else 1}"
    )
