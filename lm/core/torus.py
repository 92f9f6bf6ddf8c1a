"""A mesh axis as a ring of neighbours on a torus.

An axis that takes a part of a dimension, as `jax.make_mesh` lays it, is a line: half of what a ring
sends at once. Around a block of chips it is a ring. On a TPU v5e there is a second reason: the
compiler sends beside other work only between chips that touch, and the link that closes a dimension
does not count as touching, so that even a ring along a whole dimension waits for every hop.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

# A dimension of so many chips, or a multiple of them, closes; by what jax calls them.
CLOSES = {
    "TPU v4": 4, "TPU v5": 4, "TPU v5p": 4,
    "TPU v5 lite": 16, "TPU v5e": 16, "TPU v6 lite": 16, "TPU v6e": 16,
}  # fmt: skip
NEIGHBOURS_ALONE = ("TPU v5 lite", "TPU v5e")


def rings(devices: Sequence[Any], size: int) -> np.ndarray | None:
    """Devices [others, size], each row a ring of neighbours around a block of `size` chips.

    The block lies in the first two dimensions. None where a whole dimension is as good, where it is
    no torus of one device a chip, and where no block of such a size tiles the slice.
    """
    kind = getattr(devices[0], "device_kind", "")
    if size < 2 or kind not in CLOSES:
        return None
    grid = {tuple(device.coords): device for device in devices}
    width, height, depth = dims = tuple(np.max(list(grid), axis=0) + 1)
    whole = size in dims and size % CLOSES[kind] == 0 and kind not in NEIGHBOURS_ALONE
    block = block_of(size, width, height)
    if whole or block is None or len(grid) != width * height * depth or len(devices) != len(grid):
        return None
    a, b = block
    return np.array([
        [grid[x + i, y + j, z] for i, j in ring(a, b)]
        for x in range(0, width, a)
        for y in range(0, height, b)
        for z in range(depth)
    ])  # fmt: skip


def block_of(size: int, width: int, height: int) -> tuple[int, int] | None:
    """The squarest block of `size` places, one side even, that tiles `width` x `height`."""
    sides = [
        (a, size // a)
        for a in range(1, size + 1)
        if size % a == 0 and width % a == 0 and height % (size // a) == 0
    ]
    closed = [(a, b) for a, b in sides if size == 2 or min(a, b) > 1 and size % 2 == 0]
    # of two equal ones the taller: two columns of a host's 2 x 2 chips then follow each other
    return min(closed, key=lambda block: (abs(block[0] - block[1]), block[1]), default=None)


def ring(a: int, b: int) -> list[tuple[int, int]]:
    """The places of a block, each beside the next one and the last beside the first.

    Row by row, back and forth, leaving out the first column, which leads back to the first row.
    """
    if a == 1 or b == 1:
        return [(i, j) for i in range(a) for j in range(b)]
    if a % 2:
        return [(i, j) for j, i in ring(b, a)]
    there = [(i, j if i % 2 == 0 else b - j) for i in range(a) for j in range(1, b)]
    return [(0, 0), *there, *((i, 0) for i in range(a - 1, 0, -1))]
