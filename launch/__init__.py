"""Command lines. What must be set before jax is imported is set here, and nowhere else."""

import ctypes
import os
import sys


def keep_freed_memory() -> None:
    """Tells glibc to reuse large buffers: XLA on CPU maps and unmaps each of them at every step."""
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # a C library without it
        return
    m_trim_threshold, m_mmap_max = -1, -4
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, 2**31 - 1)


keep_freed_memory()
cache = os.environ.get("LM_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "lm")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(cache, "compiled"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
