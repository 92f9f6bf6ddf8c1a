"""What a training step holds at its peak."""

import pytest

from lm.studies.speed import Size, pretraining, step_memory

SIZE = Size(layers=8, heads=4, width=128, vocab=256, batch=8, length=128)


def ratio(remat):
    held = step_memory(pretraining(SIZE, "float32", remat=remat))
    return held["peak"] / held["floor"]


def test_a_step_under_full_remat_holds_little_more_than_it_must():
    assert ratio("full") < 1.2


@pytest.mark.slow
def test_without_remat_it_holds_every_layers_activations():
    assert ratio("none") > 2
