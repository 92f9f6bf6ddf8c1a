"""The same update on every mesh, in any number of microbatches, and never a bad one."""

import functools
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.core.mesh import MeshConfig, make_mesh, place
from lm.data.batches import TokenBatch
from lm.models.gpt import GptConfig
from lm.train.guard import GuardConfig
from lm.train.optimizer import AdamWConfig
from lm.train.pretrain import Pretrain
from lm.train.state import abstract_state, create, initialiser, shardings
from lm.train.step import norms_by_layer, train_step

VOCAB = 127  # divides by no tensor axis
EXPERIMENT = Pretrain(
    model=GptConfig(
        layers=2, width=64, heads=4, length=16, vocab=VOCAB, residual_dropout=0.1,
        embedding_dropout=0.1,
    ),
    optim=AdamWConfig(peak_lr=1e-2, epsilon=1e-3, b1=0.0, clip=None),  # the moment is the gradient
    steps=1,
    batch=16,
    guard=GuardConfig(nonfinite="skip", spike="off"),
)  # fmt: skip


def batch_of(seed=0):
    numbers = np.random.default_rng(seed)
    ids = numbers.integers(0, VOCAB, (16, 17)).astype(np.int32)
    mask = numbers.random((16, 16)) < np.linspace(0.1, 1.0, 16)[:, None]  # rows of unequal length
    return TokenBatch(ids[:, :-1], ids[:, 1:], mask, np.arange(16, dtype=np.uint32))


@functools.cache
def first_state():
    """The first state, made once: on one device."""
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        state = create(EXPERIMENT.initial(), EXPERIMENT.abstract(mesh), 0)
    return jax.device_get(state)


def updated(experiment, sizes, devices, batch=None, state=None):
    mesh = make_mesh(MeshConfig(**sizes), jax.devices()[:devices])
    with jax.set_mesh(mesh):
        abstract = experiment.abstract(mesh)
        state = jax.device_put(state or first_state(), shardings(abstract))
        before = jax.device_get(state.params)
        placed = experiment.split(batch or batch_of(), mesh, slice(0, 16), 16)
        state, metrics = experiment.step(mesh, abstract)(state, placed, jnp.float32(1e-2))
    return before, jax.device_get(state), jax.device_get(metrics)


@pytest.fixture(scope="module")
def single():
    return updated(EXPERIMENT, {"data": 1}, 1)


def assert_same(result, single):
    assert abs(result[2].loss - single[2].loss) < 1e-5
    assert abs(result[2].grad_norm - single[2].grad_norm) < 1e-5
    same = partial(np.testing.assert_allclose, rtol=0, atol=1e-5)
    jax.tree.map(same, gradient(result), gradient(single))
    jax.tree.map(same, result[1].moments, single[1].moments)


def gradient(result):
    return result[1].moments[0].mu


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param({"data": 8}, marks=pytest.mark.slow),
        pytest.param({"data": 1, "fsdp": 8}, marks=pytest.mark.slow),
        pytest.param({"data": 2, "tensor": 4}, marks=pytest.mark.slow),
        {"data": 2, "fsdp": 2, "tensor": 2},
        pytest.param({"data": 1, "fsdp": 4, "sequence": 2}, marks=pytest.mark.slow),
    ],
)
def test_every_mesh_makes_the_update_of_one_device(sizes, single):
    assert_same(updated(EXPERIMENT, sizes, 8), single)


@pytest.mark.slow
def test_a_stream_split_by_its_length_and_a_vocabulary_in_parts_make_the_same_update(single):
    model = replace(EXPERIMENT.model, stream="length", remat="products")
    changed = replace(EXPERIMENT, model=model, vocabulary_parts=3)
    assert_same(updated(changed, {"data": 1, "fsdp": 2, "tensor": 4}, 8), single)


def test_microbatches_of_unequal_length_make_the_update_of_the_whole_batch(single):
    assert_same(updated(replace(EXPERIMENT, microbatches=4), {"data": 1}, 1), single)


def test_a_row_that_is_lost_makes_another_gradient(single):
    batch = batch_of()
    fewer = TokenBatch(
        batch.tokens, batch.targets, batch.mask & (batch.rows > 0)[:, None], batch.rows
    )
    with pytest.raises(AssertionError):
        assert_same(updated(EXPERIMENT, {"data": 1}, 1, fewer), single)


def test_a_gradient_is_scaled_to_the_length_it_is_clipped_to(single):
    clipped = replace(EXPERIMENT, optim=replace(EXPERIMENT.optim, clip=0.01))
    result = updated(clipped, {"data": 1}, 1)
    assert result[2].grad_norm > 0.02  # told as it was
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradient(result))))
    assert abs(norm - 0.01) < 1e-6


def test_an_update_that_is_not_finite_is_not_made(single):
    before, state, metrics = single
    assert metrics.applied and not np.array_equal(
        before["tokens"]["table"], state.params["tokens"]["table"]
    )
    poisoned = jax.tree.map(np.copy, first_state())
    poisoned.params["tokens"]["table"][:] = np.inf
    before, state, metrics = updated(EXPERIMENT, {"data": 1}, 1, state=poisoned)
    assert not metrics.finite and not metrics.applied
    jax.tree.map(np.testing.assert_array_equal, before, state.params)
    jax.tree.map(np.testing.assert_array_equal, poisoned.moments, state.moments)


class Noise:
    """A loss that is what its keys draw."""

    weights = {"loss": 1.0}

    def counts(self, batch):
        return {"loss": jnp.ones(())}

    def sums(self, params, batch, keys):
        return {"loss": params["kernel"] + jax.random.uniform(keys.key)}


def test_every_step_draws_anew_and_the_same_step_the_same():
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    direction, guard = EXPERIMENT.optim.direction(), GuardConfig(spike="off")
    batch = TokenBatch(*np.zeros((3, 1, 1, 4), np.int32), np.zeros((1, 1), np.uint32))
    with jax.set_mesh(mesh):
        initial = initialiser(lambda key: {"kernel": jnp.zeros(())}, direction, guard)
        abstract = abstract_state(initial, mesh)
        step = train_step(Noise(), direction, abstract, mesh, seed=0, clip=None, guard=guard)
        state, losses = create(initial, abstract, 0), []
        for at in (0, 1, 0):
            state, metrics = step(state.replace(step=jnp.int32(at)), batch, jnp.float32(0.0))
            losses.append(float(metrics.loss))
    assert losses[0] != losses[1] and losses[0] == losses[2]


def test_the_norm_of_a_stack_is_told_layer_by_layer_and_that_of_a_table_whole():
    leaf = np.array([[3.0, 4.0], [5.0, 12.0]], np.float32)
    found = norms_by_layer({"stack": {"blocks": {"kernel": leaf}}, "tokens": {"table": leaf}})
    np.testing.assert_allclose(found["stack/blocks/kernel"], [5.0, 13.0])
    np.testing.assert_allclose(found["tokens/table"], np.sqrt(194.0), rtol=1e-6)


def test_a_batch_without_labels_has_loss_zero():
    batch = batch_of()
    nothing = TokenBatch(batch.tokens, batch.targets, np.zeros_like(batch.mask), batch.rows)
    _, _, metrics = updated(EXPERIMENT, {"data": 1}, 1, nothing)
    assert metrics.loss == 0 and metrics.tokens == 0


def test_a_batch_is_placed_row_by_row():
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    rows = np.arange(16)
    np.testing.assert_array_equal(place(rows, mesh, slice(0, 16), 16), rows)
