"""Published sizes of reward models and value functions."""

from functools import partial

import jax
import pytest

from experiments import gpt3
from lm.core import tree
from lm.models import reward


@pytest.mark.parametrize(
    ("size", "expected"),
    [("xl", 1_315_725_313), ("6.7b", 6_658_408_449), ("175b", 174_604_271_617)],
)
def test_a_scalar_head_is_one_number_a_width_and_a_bias_more(size, expected):
    config = gpt3.train(size).model
    params = jax.eval_shape(partial(reward.init, config), jax.random.key(0))
    assert tree.count(params) == expected == config.parameters() + config.width + 1
