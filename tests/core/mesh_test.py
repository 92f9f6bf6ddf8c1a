"""Meshes, and what is split over them."""

from types import SimpleNamespace

import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from lm.core import axes
from lm.core.errors import ConfigError
from lm.core.mesh import (
    TENSOR,
    MeshConfig,
    check_divides,
    local_rows,
    make_mesh,
    parameter_spec,
    place,
)


def test_a_wrong_product_names_both_numbers():
    with pytest.raises(ConfigError, match="needs 6 devices.* but 8 were found"):
        MeshConfig(data=3, fsdp=2).shape(8)


def test_minus_one_takes_the_devices_that_are_left():
    assert MeshConfig(fsdp=2, tensor=2).shape(8) == (2, 2, 2, 1)
    assert MeshConfig(data=1, fsdp=-1).shape(8) == (1, 8, 1, 1)


def test_two_sizes_of_minus_one_are_refused():
    with pytest.raises(ConfigError, match="at most one"):
        MeshConfig(data=-1, fsdp=-1)


def test_an_axis_has_its_own_mesh_axis_before_another_may_take_it():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    both = parameter_spec((axes.WIDTH, axes.HIDDEN), (8, 16), mesh)
    assert both == P(("fsdp",), ("tensor",))
    assert parameter_spec((axes.HIDDEN,), (16,), mesh) == P(("tensor", "fsdp"))


def test_a_vocabulary_that_does_not_divide_leaves_the_tensor_axis_to_the_width():
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    names = (axes.VOCABULARY, axes.ENTRY)
    assert parameter_spec(names, (50_257, 16), mesh) == P(None, ("fsdp", "tensor"))
    assert parameter_spec(names, (50_304, 16), mesh) == P(("tensor",), ("fsdp",))


def test_an_axis_that_does_not_divide_is_whole():
    mesh = make_mesh(MeshConfig(data=1, fsdp=8))
    assert parameter_spec((axes.WIDTH,), (12,), mesh) == P(None)
    assert parameter_spec((None, axes.WIDTH), (8, 16), mesh) == P(None, ("fsdp",))


@pytest.mark.parametrize("leading", [0, 1])
def test_placed_rows_are_the_rows_that_were_given(leading):
    mesh = make_mesh(MeshConfig(data=4, fsdp=2))
    rows = local_rows(mesh, 16)
    assert rows == slice(0, 16)
    host = np.arange(48).reshape(16, 3)[(None,) * leading]
    placed = place({"x": host}, mesh, rows, 16, leading)["x"]
    np.testing.assert_array_equal(placed, host)
    assert placed.addressable_shards[0].data.shape[leading] == 2


def test_heads_that_the_tensor_axis_does_not_divide_are_refused_with_both_numbers():
    mesh = make_mesh(MeshConfig(data=1, tensor=8))
    check_divides(mesh, TENSOR, heads=16, hidden=64)
    with pytest.raises(ConfigError, match="model.heads 12 is not divisible by mesh.tensor 8"):
        check_divides(mesh, TENSOR, heads=12, hidden=64)


def test_slices_of_tpus_are_parts_of_the_data_axis():
    pods = [SimpleNamespace(platform="tpu", slice_index=n // 4) for n in range(8)]
    with pytest.raises(ConfigError, match="mesh.data 1 is no multiple of the 2 slices"):
        make_mesh(MeshConfig(data=1, fsdp=8), pods)
