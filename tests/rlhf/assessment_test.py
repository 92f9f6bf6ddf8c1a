"""What an evaluation of a policy says of several draws."""

import numpy as np
import pytest

from lm.metrics.spread import standard_error
from lm.rlhf.assessment import Answered, mean_figures, told_rate


def one(seed):
    numbers = np.random.default_rng(seed).standard_normal((4, 6))
    scores = {"reward": numbers[0], "gold": numbers[1]}
    return Answered(scores=scores, kl=numbers[2], length=numbers[3], shown="")


def test_figures_are_means_over_prompts_and_draws_and_the_error_is_over_prompts():
    first, again = one(0), one(1)
    found = mean_figures([first, again])
    for name in ("reward", "gold"):
        both = np.concatenate([first.scores[name], again.scores[name]])
        assert found[f"valid_{name}"] == pytest.approx(both.mean())
    assert found["valid_kl"] == pytest.approx((first.kl.mean() + again.kl.mean()) / 2)
    means = (first.scores["reward"] + again.scores["reward"]) / 2
    assert found["valid_reward_error"] == standard_error(means)
    # the control: the same draw twice says no more than once, however many answers there are
    assert mean_figures([first, first]) == pytest.approx(mean_figures([first]))
    assert "valid_second" not in found


def test_of_a_single_held_out_prompt_there_are_figures_without_an_error():
    drawn = [
        Answered(scores={"reward": np.array([score])}, kl=np.ones(1), length=np.ones(1), shown="")
        for score in (1.0, 2.0)
    ]
    assert mean_figures(drawn) == {"valid_reward": 1.5, "valid_kl": 1.0, "valid_length": 1.0}
    assert told_rate(np.array([0.75])) == [0.75, 0.0, 1.0]
    assert 0 < told_rate(np.array([0.0, 1.0, 1.0, 1.0]))[1] < 1  # the control: several prompts
