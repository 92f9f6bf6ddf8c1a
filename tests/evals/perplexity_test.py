"""Held-out loss: every token after the first is a target once, and the loss is told by bytes."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.core.mesh import MeshConfig, make_mesh
from lm.data.token_file import TokenFile
from lm.evals.perplexity import HeldOut


def held_out(count):
    file = TokenFile(Path("t"), {"bytes": 100}, np.arange(count, dtype=np.uint16))
    return HeldOut(file, 4, 3, make_mesh(MeshConfig(data=1), jax.devices()[:1]))


@pytest.mark.parametrize("count", [2, 5, 20, 21, 22, 30])
def test_every_token_after_the_first_is_a_target_once(count):
    batches = list(held_out(count).whole())
    told = [batch.targets[batch.mask] for batch in batches]
    assert np.concatenate(told).tolist() == list(range(1, count))
    for batch in batches:
        assert batch.tokens.shape == (3, 4)
        assert np.array_equal(batch.tokens[batch.mask] + 1, batch.targets[batch.mask])


def test_the_loss_is_a_mean_over_tokens_and_not_over_batches():
    def summed(params, batch):
        return jnp.sum(batch.targets * batch.mask), jnp.sum(batch.mask)

    data = held_out(20)
    assert data.loss(summed, None, data.whole()) == np.arange(1, 20).mean()


def test_bits_a_byte_are_those_of_the_tokens_that_are_targets():
    # two nats for each of 20 tokens, which are 100 bytes of text
    assert held_out(21).bits_per_byte(2.0) == pytest.approx(40 / np.log(2) / 100)
