"""The recurrent control: what it computes, what it sees, and its size."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lm.core import tree
from lm.core.errors import ConfigError
from lm.models import lstm
from lm.models.lstm import BiLstm, LstmConfig, Recurrence
from lm.nn.dropout import DropoutKeys

CONFIG = LstmConfig(vocab=50, length=16, width=12, units=20, layers=2)
IDS = np.random.default_rng(0).integers(0, 50, (2, 9))


def abstract(config):
    zeros = jnp.zeros((1, 1), jnp.int32)
    boxed = jax.eval_shape(lambda key: config.module().init(key, zeros), jax.random.key(0))
    return nn.unbox(boxed)["params"]


def drawn(config, seed=0):
    numbers = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: 0.3 * numbers.standard_normal(leaf.shape).astype(np.float32), abstract(config)
    )


def logits(config, params, ids, keys=None):
    apply = jax.jit(lambda p, x, k: config.module().apply({"params": p}, x, None, k)[0])
    return np.asarray(apply(params, ids, keys))


@pytest.mark.parametrize("layers", [1, 3])
def test_the_parameters_are_those_of_the_tree(layers):
    config = replace(CONFIG, layers=layers)
    assert config.parameters() == tree.count(abstract(config))
    # the paper's: one layer of 2048 units, at GPT-1's width and vocabulary
    paper = LstmConfig(vocab=40_478, length=512, width=768, units=2048)
    assert paper.parameters() == 40_478 * 768 + (768 + 2048 + 1) * 8192 + 2048 * 768 + 768


def transcribed(params, ids, forget=1.0):
    """The whole model by the formulas of Hochreiter and Schmidhuber, in float64."""
    params = jax.tree.map(lambda leaf: leaf.astype(np.float64), params)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    x = params["tokens"]["table"][ids]
    for layer in range(CONFIG.layers):
        weights = params[f"recurrences_{layer}"]
        h = c = np.zeros((len(ids), CONFIG.units))
        out = []
        for t in range(ids.shape[1]):
            gates = x[:, t] @ weights["input"]["kernel"] + weights["input"]["bias"]
            i, f, g, o = np.split(gates + h @ weights["kernel"], 4, axis=-1)
            c = sigmoid(f + forget) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            out.append(h)
        x = np.stack(out, axis=1)
    x = x @ params["projection"]["kernel"] + params["projection"]["bias"]
    return x @ params["tokens"]["table"].T


def test_it_computes_the_recurrence_as_written_out():
    params = drawn(CONFIG)
    found = logits(CONFIG, params, IDS)
    np.testing.assert_allclose(found, transcribed(params, IDS), atol=1e-5)
    assert np.abs(found - transcribed(params, IDS, forget=0.0)).max() > 1e-3


def test_what_a_cell_adds_up_over_a_row_is_not_rounded_away_in_bfloat16():
    layer, x = Recurrence(units=1, std=0.0), jnp.zeros((1, 512, 1), jnp.bfloat16)
    added = 0.75 * 2**-10  # half of it a step, for the input gate is half open
    gates = np.array([0.0, 30.0, added, 0.0], np.float32)  # and nothing is forgotten
    params = {"input": {"kernel": np.zeros((1, 4)), "bias": gates}, "kernel": np.zeros((1, 4))}
    found = jax.jit(layer.apply)({"params": params}, x)
    assert found.dtype == jnp.bfloat16
    assert float(found[0, -1, 0]) == pytest.approx(0.5 * np.tanh(512 * added / 2), rel=0.01)


def test_a_token_changes_what_comes_after_it_and_nothing_before():
    params = drawn(CONFIG)
    other = IDS.copy()
    other[:, 4] = (other[:, 4] + 1) % 50
    moved = np.abs(logits(CONFIG, params, IDS) - logits(CONFIG, params, other)).max(axis=(0, 2))
    assert (moved[:4] == 0).all() and (moved[4:] > 0).all()


def test_dropout_follows_the_keys_of_each_row_and_not_its_place():
    config = replace(CONFIG, layers=1)
    params = drawn(config)
    twice = np.concatenate([IDS[:1], IDS[:1]])
    one, other = (
        logits(config, params, twice, DropoutKeys(jax.random.key(3), jnp.array(rows)))
        for rows in ([5, 6], [6, 5])
    )
    assert np.abs(one[0] - one[1]).max() > 1e-3
    np.testing.assert_array_equal(one, other[::-1])


def test_every_layer_drops_by_keys_of_its_own(monkeypatch):
    variables, seen = {"params": drawn(CONFIG)}, []

    def kept(x, rate, keys):
        seen.append(tuple(jax.random.key_data(keys.key).tolist()))
        return x

    monkeypatch.setattr(lstm, "dropout", kept)
    keys = DropoutKeys(jax.random.key(3), jnp.array([5, 6]))
    CONFIG.module().apply(variables, IDS, None, keys)
    assert len(seen) == len(set(seen)) == CONFIG.layers + 1


def test_a_size_that_cannot_be_is_refused_by_value():
    with pytest.raises(ConfigError, match="units must be positive, got 0"):
        replace(CONFIG, units=0)
    with pytest.raises(ConfigError, match="dropout must be at least 0 and below 1, got 1"):
        replace(CONFIG, dropout=1.0)


def test_two_directions_see_both_sides_and_no_padding():
    model = BiLstm(units=5, layers=2, std=0.3)
    x = np.random.default_rng(0).standard_normal((2, 7, 4)).astype(np.float32)
    valid = np.arange(7) < np.array([[7], [4]])
    params = nn.unbox(jax.jit(model.init)(jax.random.key(0), x, valid))
    apply = jax.jit(model.apply)
    found = np.asarray(apply(params, x, valid))
    assert found.shape == (2, 7, 10)
    alone = np.asarray(apply(params, x[1:, :4], valid[1:, :4]))
    np.testing.assert_allclose(found[1:, :4], alone, atol=1e-6)
    seen = jax.jit(jax.jacobian(lambda row: model.apply(params, row[None], valid[1:])[0].sum(-1)))
    by = np.abs(np.asarray(seen(x[1]))).sum(-1)  # [T S]
    assert by[:4, :4].min() > 0 and by[:4, 4:].max() == 0


def test_the_other_direction_is_the_same_layer_on_the_turned_row():
    model = BiLstm(units=5, layers=1, std=0.3)
    x = np.random.default_rng(0).standard_normal((1, 6, 4)).astype(np.float32)
    valid = np.ones((1, 6), bool)
    params = nn.unbox(jax.jit(model.init)(jax.random.key(0), x, valid))["params"]
    swapped = {"forth_0": params["back_0"], "back_0": params["forth_0"]}
    here = np.asarray(model.apply({"params": params}, x, valid))
    there = np.asarray(model.apply({"params": swapped}, x[:, ::-1], valid))[:, ::-1]
    np.testing.assert_allclose(here, np.roll(there, 5, axis=-1), atol=1e-6)
