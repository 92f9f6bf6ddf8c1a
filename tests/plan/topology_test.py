"""Names of pods, and what their links carry."""

from types import SimpleNamespace

import numpy as np
import pytest

from lm.core.errors import ConfigError
from lm.plan.topology import TABLE, Topology


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("v5p-1024", "write KIND:AxB"),
        ("v7x:4x4x4", "KIND one of v4, v5p"),
        ("v5e:4x4x4", "has 2 dimensions, this one has 3"),
        ("v5p:4x4", "has 3 dimensions, this one has 2"),
        ("v5p:3x4x4", "first two dimensions are even"),
    ],
)
def test_a_wrong_name_is_told_with_the_way_to_write_it(name, problem):
    with pytest.raises(ConfigError, match=problem):
        Topology(name)


def test_the_table_has_the_chips_of_its_names():
    counts = [Topology(name).chips for name in TABLE]
    assert counts == [64, 1024, 16, 256, 64, 512, 1024, 16, 256, 64, 512]


def devices(*shape):
    """Devices at the places of a slice of this shape, one a chip."""
    array = np.empty(shape, object)
    for place in np.ndindex(shape):
        array[place] = SimpleNamespace(coords=place, platform="tpu")
    return array


def test_a_ring_has_two_links_a_dimension_and_a_line_one():
    pod = Topology("v5p:4x4x8")
    whole = devices(4, 4, 8)
    assert pod.links(whole.reshape(16, 8), 1) == 2 * 90e9
    assert pod.links(whole.reshape(16, 8), 0) == 4 * 90e9
    assert pod.links(whole.reshape(4, 4, 2, 4), 3) == 90e9  # half a dimension does not close
    assert Topology("v5e:4x4").links(devices(4, 4), 0) == 45e9  # no wrapping below 16


def test_a_ring_that_leaps_over_chips_shares_their_links():
    pod = Topology("v5e:16x16")
    blocks = devices(16, 16).reshape(4, 4, 4, 4).transpose(0, 2, 1, 3).reshape(16, 16)
    assert pod.links(blocks, 1) == 2 * 45e9  # around a block
    assert pod.links(blocks, 0) == 45e9  # over four chips, two closed dimensions


def test_what_leaves_a_slice_goes_over_the_network():
    pod = Topology("v6e:4x4", slices=2)
    array = np.stack([devices(4, 4), devices(4, 4)])
    for device in array[1].ravel():
        device.slice_index = 1
    assert pod.chips == 32
    assert pod.links(array.reshape(2, 16), 0) == 12.5e9 < pod.links(array.reshape(2, 16), 1)
