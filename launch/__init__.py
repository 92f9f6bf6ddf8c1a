"""Command lines. What must be set before jax is imported is set here, and nowhere else."""

import os

from lm.core import heap

heap.keep_freed_memory()
cache = os.environ.get("LM_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "lm")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(cache, "compiled"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
