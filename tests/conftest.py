"""Eight simulated devices, asked for before jax is imported, and caches of the suite's own.

Nothing that an earlier run compiled or tokenised is used: it takes as long as on a new machine.
"""

import atexit
import os
import shutil
import tempfile
from importlib.metadata import version

import pytest
from hypothesis import settings

settings.register_profile("lm", deadline=None)  # how long one takes is the machine's affair
settings.load_profile("lm")
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
if "PYTEST_XDIST_WORKER" not in os.environ:  # the workers share what the first process makes
    os.environ["LM_CACHE"] = tempfile.mkdtemp(prefix="lm-tests-")
    atexit.register(shutil.rmtree, os.environ["LM_CACHE"], ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(os.environ["LM_CACHE"], "compiled")
# what compiles in under a second is kept too: many tests, and commands, make the same programs
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


def pytest_configure(config):
    """Chooses how programs are translated to machine code, the larger part of the time.

    Most programs of the tests run a few times, and are as good without optimization. What XLA makes
    of a program before that is as ever. Commands that tests start do the same (tests/launched.py).
    """
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    flags = ["--xla_force_host_platform_device_count=8"]
    if version("jaxlib").startswith("0.10."):
        # Fused elementwise work goes straight to LLVM, not by way of MLIR, and a program is one
        # module, not up to 32: less than half the time to compile. Later ones only know MLIR, and
        # die of a flag that they do not know.
        flags += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
    os.environ["XLA_FLAGS"] = " ".join(flags)


@pytest.fixture
def optimized(monkeypatch):
    """For a test that trains for longer than it compiles."""
    import jax

    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module")
def one_device():
    """The mesh of the first device, for a module of whole runs, which then have no other.

    Eight simulated ones take up to four times as long, and have tests of their own.
    """
    import jax

    from lm.core import mesh

    first = jax.devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda: first)
        yield mesh.one_device()
