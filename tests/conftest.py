"""Eight simulated devices, asked for before jax is imported."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
