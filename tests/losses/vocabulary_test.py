"""The loss by parts of the vocabulary is the plain loss, and holds less."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.core.mesh import MeshConfig, make_mesh
from lm.losses.cached import LARGE, cached_losses
from lm.losses.language import token_losses
from lm.losses.vocabulary import vocabulary_losses
from lm.models.gpt import GptConfig
from lm.plan.hlo import ARRAY, instructions
from lm.train.optimizer import AdamWConfig
from lm.train.pretrain import Pretrain

B, T, D, V = 8, 4, 16, 37  # 37 tokens divide by nothing
RANDOM = np.random.default_rng(0)
HIDDEN = RANDOM.normal(size=(B, T, D)).astype(np.float32)
TABLE = RANDOM.normal(size=(V, D)).astype(np.float32)
TARGETS = np.where(np.arange(B * T).reshape(B, T) == 0, V - 1, RANDOM.integers(0, V, (B, T)))
WEIGHTS = RANDOM.normal(size=(B, T)).astype(np.float32)


def plain(hidden, table):
    return token_losses(jnp.einsum("BTD,VD->BTV", hidden, table), TARGETS)


def with_gradients(losses):
    """Losses [B T], and the gradients of their weighted sum for hidden states and table."""

    def total(hidden, table):
        found = losses(hidden, table)
        return jnp.sum(found * WEIGHTS), found

    gradients, found = jax.grad(total, argnums=(0, 1), has_aux=True)(HIDDEN, TABLE)
    return found, *gradients


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ({"data": 8}, 5),
        ({"fsdp": 2, "tensor": 4}, 1),
        ({"data": 2, "fsdp": 2, "tensor": 2}, 40),  # some of them without a token on some device
    ],
)
def test_values_and_gradients_are_those_of_the_plain_loss(sizes, parts):
    wanted = jax.jit(lambda: with_gradients(plain))()
    with jax.set_mesh(make_mesh(MeshConfig(**({"data": 1} | sizes)))):
        found = jax.jit(
            lambda: with_gradients(lambda h, t: vocabulary_losses(h, t, TARGETS, parts=parts))
        )()
    for mine, right in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("vocab", [1000, LARGE + 1])
def test_the_loss_of_a_large_vocabulary_on_a_cpu_is_the_plain_loss(vocab):
    table = RANDOM.normal(size=(vocab, D)).astype(np.float32)
    targets = np.where(np.arange(B * T).reshape(B, T) == 0, vocab - 1, TARGETS * 20)
    weights = jnp.asarray(WEIGHTS)

    def of(losses):
        def total(hidden, table):
            found = losses(hidden, table, targets)
            return jnp.sum(found * weights), found

        gradients, found = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(HIDDEN, table)
        return found, *gradients

    wanted = of(lambda h, t, y: token_losses(jnp.einsum("BTD,VD->BTV", h, t), y))
    chosen = vocabulary_losses if vocab >= LARGE else cached_losses
    for mine, right in zip(of(chosen), wanted, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-5, atol=1e-6)
    kept = jax.vjp(lambda h: chosen(h, table, targets), HIDDEN)[1]
    assert max(leaf.size for leaf in jax.tree.leaves(kept)) < B * T * vocab  # never all scores


EXPERIMENT = Pretrain(
    model=GptConfig(layers=1, width=32, heads=4, length=64, vocab=4_099),
    optim=AdamWConfig(peak_lr=1e-2),
    steps=1,
    batch=16,
)
SCORES = 16 * 64 * 4_099  # of all tokens


def largest(**changes):
    """Elements of the largest array in a device's program of the step."""
    sizes = changes.pop("sizes")
    experiment = replace(EXPERIMENT, **changes)
    text = experiment.lowered(make_mesh(MeshConfig(**sizes))).compile().as_text()
    return max(
        math.prod(int(n) for n in dims.split(",") if n)
        for one in instructions(text)
        for _, dims in ARRAY.findall(one.shape)
    )


@pytest.mark.slow
def test_no_device_holds_scores_of_the_whole_vocabulary():
    sizes = {"data": 1, "fsdp": 2, "tensor": 4}
    assert largest(sizes=sizes) <= 1.01 * SCORES / 8


@pytest.mark.slow
def test_in_parts_a_device_holds_the_scores_of_one():
    sizes = {"data": 1, "fsdp": 8}
    assert largest(sizes=sizes) >= SCORES / 8  # whole: what the bound below would refuse
    assert largest(sizes=sizes, vocabulary_parts=4) <= 1.01 * SCORES / 8 / 4
