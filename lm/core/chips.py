"""What vendors publish of the chips that programs run on or are planned for."""

import dataclasses
import re

# FLOP/s in bfloat16 of one device, dense, by how what jax calls the device begins.
PEAKS = {
    "TPU v4": 275e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "TPU7x": 1153e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H200 NVL": 835e12,
}


def published_peak(kind: str) -> float | None:
    """That of a device that jax calls so: of the longest name that begins it and ends with a word
    ("NVIDIA A100-SXM4-80GB" is an A100); None where there is none."""
    known = [name for name in PEAKS if re.match(rf"{re.escape(name)}\b", kind)]
    return PEAKS[max(known, key=len)] if known else None


@dataclasses.dataclass(frozen=True)
class Chip:
    """A TPU as a planner sees it: one device, which on tpu7x is half a chip."""

    memory: float  # bytes of HBM that the compiler allows a program
    peak: float  # FLOP/s in bfloat16
    link: float  # bytes/s one way over one link to a neighbour, the device's share
    dimensions: int  # of the torus
    wraps: int  # a dimension whose size this divides is a ring
    outside: float  # bytes/s one way between slices, over the data centre's network


GIB = 2**30
# Between slices: of v5e and v6e a pod's published bandwidth over its 256 chips; of the others that
# of v5p in the JAX scaling book (Austin et al. 2025), our assumption for v4 and tpu7x.
CHIPS = {
    "v4": Chip(30.75 * GIB, 275e12, 45e9, 3, 4, 6.25e9),
    "v5p": Chip(95.73 * GIB, 459e12, 90e9, 3, 4, 6.25e9),
    "v5e": Chip(15.75 * GIB, 197e12, 45e9, 2, 16, 3.125e9),
    "v6e": Chip(31.24 * GIB, 918e12, 90e9, 2, 16, 12.5e9),
    "tpu7x": Chip(94.74 * GIB, 1153e12, 45e9, 3, 4, 6.25e9),
}
