"""Mesh axes laid around blocks of a torus."""

from dataclasses import dataclass

import numpy as np
import pytest

from lm.core.mesh import MeshConfig, make_mesh
from lm.core.torus import block_of, rings


@dataclass(frozen=True)
class Chip:
    """What a mesh asks of a device."""

    id: int
    coords: tuple[int, int, int]
    device_kind: str
    platform: str = "tpu"
    process_index: int = 0


def slice_of_chips(width, height, kind="TPU v5 lite"):
    return [Chip(y * width + x, (x, y, 0), kind) for y in range(height) for x in range(width)]


def hops(row):
    """Between each chip of a ring and the next one, the last and the first too."""
    places = np.array([device.coords for device in row])
    return np.abs(places - np.roll(places, -1, axis=0)).sum(axis=1)


@pytest.mark.parametrize("size", [2, 4, 8, 16, 32, 64])
def test_a_ring_goes_from_neighbour_to_neighbour_and_the_rings_share_no_chip(size):
    devices = slice_of_chips(16, 16)
    found = rings(devices, size)
    assert found.shape == (256 // size, size)
    assert all((hops(row) == 1).all() for row in found)
    assert len({device.id for device in found.ravel()}) == 256
    along = np.array(devices).reshape(16, 16)  # the control: a whole dimension, closed by a link
    assert hops(along[0]).max() == 15


def test_sides_of_a_ring_are_as_equal_as_can_be_and_one_is_even():
    assert block_of(16, 16, 16) == (4, 4)
    assert block_of(8, 16, 4) == (4, 2)
    assert block_of(6, 6, 6) == (3, 2)
    assert block_of(9, 9, 9) is None and block_of(3, 4, 4) is None


def test_a_mesh_has_its_tensor_axis_around_blocks_where_a_whole_dimension_is_not_as_good():
    mesh = make_mesh(MeshConfig(data=1, fsdp=8, tensor=4, sequence=2), slice_of_chips(8, 8))
    for fsdp in range(8):
        for sequence in range(2):
            assert (hops(mesh.devices[0, fsdp, :, sequence]) == 1).all()
    wider = slice_of_chips(16, 16, "TPU v6 lite")
    assert rings(wider, 4) is not None and rings(wider, 16) is None
    assert rings(slice_of_chips(8, 8, "TPU v6 lite"), 8) is not None  # which does not close
    deep = [
        Chip(n, place, "TPU v5") for n, place in enumerate(np.ndindex(8, 8, 16))
    ]  # fmt: skip
    assert rings(deep, 8) is None and rings(deep, 16) is None
    found = rings(deep, 4)
    assert found.shape == (256, 4) and all((hops(row) == 1).all() for row in found)
    assert rings(slice_of_chips(16, 16, "TPU7x"), 4) is None
    assert rings(slice_of_chips(8, 8), 1) is None


def test_the_chips_of_a_host_hold_rows_that_follow_each_other():
    for size in (2, 4, 8):
        found = rings(slice_of_chips(8, 8), size)
        for x, y in np.ndindex(4, 4):
            rows = {
                row
                for row, members in enumerate(found)
                for device in members
                if (device.coords[0] // 2, device.coords[1] // 2) == (x, y)
            }
            assert max(rows) - min(rows) == len(rows) - 1
