"""A run in trouble says in words what is wrong, and one that is well says nothing."""

import pytest

from lm.core.errors import GuardStop
from lm.rlhf import diagnosis
from lm.rlhf.diagnosis import check_rollout

WELL = {"reward": 0.5, "reward_std": 0.3, "kl": 2.0, "length": 24.0, "ended": 0.9, "empty": 0.0,
        "entropy": 2.0, "drift": 1e-6, "drift_mean": 1e-7}  # fmt: skip


def troubles(rows, **settings):
    return diagnosis.troubles(rows, **{"missing_end": 0.0, "gamma": 0.0} | settings)


def checked(**changes):
    check_rollout(WELL | changes, tolerance=1e-4, exact=True, kl_stop=10.0)


def test_a_sound_rollout_passes():
    checked()
    check_rollout(WELL | {"drift": 0.1}, tolerance=1e-4, exact=False, kl_stop=None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reward": float("nan")}, "reward nan is not a number"),
        ({"drift": 2e-4}, r"differ by 2.00e-04 nats a token \(largest\), more than drift 1e-04"),
        ({"drift": float("nan")}, "differ by nan"),
        ({"kl": 11.0}, r"KL 11.0 .* above kl.stop 10.0.* larger kl.stop, .*--restore_step"),
        ({"kl": float("inf")}, "KL inf is not a number"),
    ],
)
def test_a_rollout_nothing_can_be_learned_from_stops_the_run(changes, words):
    with pytest.raises(GuardStop, match=words):
        checked(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reward_std": 0.0}, "every answer has the reward 0.5"),
        ({"kl": -1.0}, "log-probabilities of policy and reference disagree"),
        ({"ended": 0.0}, "0% of the answers end: set advantages.missing_end, "),
        ({"kl": 43.0}, "KL is 43.0 nats an answer of 24.0 tokens, above 1 a token"),
        ({"empty": 0.8}, "80% of the answers are empty"),
    ],
)
def test_figures_out_of_bounds_are_explained(changes, words):
    assert troubles([WELL]) == []
    (found,) = troubles([WELL, WELL | changes])
    assert words in found


def test_a_mean_that_is_negative_by_chance_is_no_trouble():
    few = WELL | {"kl": -0.3, "kl_error": 0.1}
    assert troubles([few]) == []
    assert len(troubles([few | {"kl_error": 0.05}])) == 1


def test_kl_that_rises_while_the_reward_does_not_is_told_and_a_rising_reward_is_not():
    rising = [WELL | {"kl": 0.5 * step} for step in range(20)]
    (found,) = troubles(rising)
    assert found.startswith("KL rises (2.25 to 7.25 nats) and reward does not")
    assert troubles([row | {"reward": 0.1 * n} for n, row in enumerate(rising)]) == []


def test_answers_that_become_one_are_told():
    (found,) = troubles([WELL | {"entropy": 2.0 if n < 10 else 0.1} for n in range(20)])
    assert "entropy falls from 2.00 to 0.10" in found


def test_an_exploded_kl_names_what_holds_it_and_one_of_longer_answers_is_well():
    (found,) = troubles([WELL | {"kl": 28.0, "length": 3.25}])
    assert all(name in found for name in ("kl.beta", "optim.peak_lr", "kl.stop"))
    assert troubles([WELL | {"kl": 28.0, "length": 40.0}]) == []


def test_pretraining_text_that_is_forgotten_is_told_and_a_small_tax_is_not():
    """An evaluation stands between the updates, in a row of its own; the first is the reference."""
    rows = [{"pretraining_loss": 4.83}, WELL, {"pretraining_loss": 5.2}, WELL]
    assert troubles(rows) == []
    rows += 30 * [WELL] + [{"pretraining_loss": 18.61}]
    (found,) = troubles(rows)
    assert "rose from 4.83 to 18.61 nats a token" in found and "set update.gamma (PPO-ptx)" in found
    (found,) = troubles(rows, gamma=0.5)
    assert "raise update.gamma (now 0.5)" in found


def test_a_remedy_that_is_set_already_is_to_be_raised():
    (found,) = troubles([WELL | {"ended": 0.0}], missing_end=1.0)
    assert "raise advantages.missing_end (now 1)" in found and "set " not in found
