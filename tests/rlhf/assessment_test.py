"""What an evaluation of a policy says of several draws."""

from types import SimpleNamespace

import numpy as np
import pytest

from lm.core.errors import DataError
from lm.losses.ppo import kl_estimate
from lm.metrics.spread import standard_error
from lm.rlhf import assessment
from lm.rlhf.assessment import Answered, PpoEvaluation, mean_figures, told_rate
from lm.rlhf.best_of import best_of_n, win_rates
from lm.rlhf.experience import AdvantageConfig


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


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_equal_rates_of_a_few_prompts_are_not_certain(rate):
    for count in (2, 64):
        mean, low, high = told_rate(np.full(count, rate))
        assert mean == rate and low <= rate <= high
        assert high - low > 0.5 / count
    low = told_rate(np.ones(4))[1]  # Wilson's at a rate of 1
    assert low == pytest.approx(4 / (4 + 1.96**2), abs=1e-4)


def test_the_kl_that_is_told_of_an_evaluation_is_that_of_the_penalty(monkeypatch):
    logp = {"policy": np.array([[-1.0, -2.0]]), "reference": np.array([[-3.0, -1.0]])}
    monkeypatch.setattr(assessment, "answer_logp", lambda config, params, *_: logp[params])
    mask = np.array([[True, True]])
    rollout = SimpleNamespace(tokens=None, start=None, mask=mask, sight=None)
    for kind in ("k1", "k3"):
        found = assessment.answer_kl.__wrapped__(
            None, "policy", "reference", rollout, 1.0, None, kind
        )
        expected = kl_estimate(logp["policy"], logp["reference"], kind).sum()
        np.testing.assert_allclose(found, [expected], rtol=1e-6)


def test_a_gold_score_that_is_no_number_is_an_error_and_the_rewards_is_left_to_training(
    monkeypatch,
):
    rollout = SimpleNamespace(mask=np.ones((3, 2), bool))
    for name, said in (("roll_out", rollout), ("answer_kl", np.zeros(3)), ("texts", [])):
        monkeypatch.setattr(assessment, name, lambda *some, said=said, **more: said)
    config = SimpleNamespace(
        policy_model=None, answer_length=2, end=lambda form: 0, temperature=1.0, seed=0,
        advantages=AdvantageConfig(),
    )  # fmt: skip
    form = SimpleNamespace(tokenizer=SimpleNamespace(vocab_size=9))
    right, wrong, padding = np.arange(3.0), np.array([0, np.nan, 1]), np.array([0, 1, np.nan])
    scorers = {"reward": lambda _: wrong, "gold": lambda _: padding, "second": lambda _: right}
    run = SimpleNamespace(
        config=config, material=SimpleNamespace(form=form), scorers=scorers, reference=None,
        batches=lambda: [None], prompts=SimpleNamespace(mask=np.ones(2)),
    )  # fmt: skip
    found = PpoEvaluation.answered(run, None, 0).scores  # padding is no answer
    assert np.isnan(found["reward"]).any() and np.isfinite(found["gold"]).all()
    for name in ("gold", "second"):
        run.scorers = scorers | {name: lambda _: wrong}
        with pytest.raises(DataError, match=f"{name} gave nan for 1 of 2 answers"):
            PpoEvaluation.answered(run, None, 0)


def test_an_answer_whose_reward_is_no_number_is_no_lost_comparison():
    scores = {"reward": np.array([0.5, np.nan])}
    drawn = Answered(scores=scores, kl=np.ones(2), length=np.ones(2), shown="")
    run = SimpleNamespace(
        config=SimpleNamespace(best_of=2, steps=1), scorers=scores, reference=None,
        answered=lambda params, seed: drawn, drawn=lambda params: [drawn],
        measured=lambda step, params, drawn: {},
    )  # fmt: skip
    with pytest.raises(DataError, match="reward gave nan for 1 of 2 answers"):
        PpoEvaluation.finish(run, None)
    scores["reward"][1] = 0.0  # the control
    assert PpoEvaluation.finish(run, None)["win_rate"][0] == 0.5


def test_the_best_of_n_are_the_references_by_the_reward_and_no_two_answers_are_one_draw():
    asked = []

    def answered(params, seed):
        asked.append((params, seed))
        return one(seed)

    run = SimpleNamespace(
        config=SimpleNamespace(best_of=4, steps=1, evaluate_draws=3), reference="reference",
        scorers=("reward", "gold"), answered=answered, measured=lambda step, params, drawn: {},
    )  # fmt: skip
    run.drawn = lambda params: PpoEvaluation.drawn(run, params)
    found = PpoEvaluation.finish(run, "policy")
    assert [params for params, _ in asked] == ["reference"] * 4 + ["policy"] * 3
    seeds = [seed for _, seed in asked]
    assert len(set(seeds)) == 7
    theirs = {
        name: np.stack([one(seed).scores[name] for seed in seeds[:4]])
        for name in ("reward", "gold")
    }  # fmt: skip
    for point, n in zip(found["best_of_n"], (1, 2, 4), strict=True):
        for name, scores in theirs.items():
            expected = best_of_n(theirs["reward"], n, scores).mean()
            assert point["n"] == n and point[name] == pytest.approx(expected)
    rates = [win_rates(one(seed).scores["gold"], theirs["gold"]).mean() for seed in seeds[4:]]
    assert found["gold_win_rate"][0] == pytest.approx(np.mean(rates))
