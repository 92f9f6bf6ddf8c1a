"""The one layer that a task adds to a model."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lm.models.heads import TaskModel
from tests.models.pretrained.models import gpt2


def test_scores_of_a_task_are_float32_and_not_what_bfloat16_can_hold():
    model = TaskModel(gpt2(dtype="bfloat16", layers=1), 2, "tokens", head_dropout=0.0)
    numbers = np.random.default_rng(0)
    batch = SimpleNamespace(tokens=numbers.integers(0, 50, (8, 1, 4)))
    shapes = nn.unbox(jax.eval_shape(lambda key: model.init(key, batch), jax.random.key(0)))
    params = jax.tree.map(lambda leaf: 0.1 * numbers.standard_normal(leaf.shape), shapes)
    found = jax.jit(lambda params: model.apply(params, batch)[0])(params)
    assert found.dtype == jnp.float32
    assert np.mean(found != found.astype(jnp.bfloat16)) > 0.9
