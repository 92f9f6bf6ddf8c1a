"""The one layer that a task adds to a model."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lm.models.heads import TaskModel
from tests.models.pretrained.models import bert, gpt1, gpt2


def test_scores_of_a_task_are_float32_and_not_what_bfloat16_can_hold():
    model = TaskModel(gpt2(dtype="bfloat16", layers=1), 2, "tokens", head_dropout=0.0)
    numbers = np.random.default_rng(0)
    batch = SimpleNamespace(tokens=numbers.integers(0, 50, (8, 1, 4)))
    shapes = nn.unbox(jax.eval_shape(lambda key: model.init(key, batch), jax.random.key(0)))
    params = jax.tree.map(lambda leaf: 0.1 * numbers.standard_normal(leaf.shape), shapes)
    found = jax.jit(lambda params: model.apply(params, batch)[0])(params)
    assert found.dtype == jnp.float32
    assert np.mean(found != found.astype(jnp.bfloat16)) > 0.9


def test_berts_head_begins_as_a_normal_cut_at_two_deviations_and_gpt1s_as_a_plain_one():
    ids = np.zeros((1, 1, 1), int)
    batch = SimpleNamespace(tokens=ids, segments=ids, valid=ids == 0, read=ids[0])

    def furthest(backbone):
        model = TaskModel(backbone, 100, "classes")
        made = jax.jit(lambda key: model.init(key, batch)["params"]["head"])(jax.random.key(0))
        return jnp.abs(nn.unbox(made)["kernel"]).max()

    assert furthest(bert(layers=1)) <= 0.04 + 1e-8 < 0.05 < furthest(gpt1(layers=1))
