"""What an evaluation of a policy says of several draws."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax import linen as nn

from lm.core.errors import DataError
from lm.losses.ppo import kl_estimate
from lm.metrics.spread import standard_error
from lm.models import gpt
from lm.models.gpt import GptConfig
from lm.rlhf import assessment
from lm.rlhf.assessment import Answered, PpoEvaluation, mean_figures, told_rate
from lm.rlhf.best_of import best_of_n, win_rates
from lm.rlhf.experience import AdvantageConfig
from lm.rlhf.ppo import Ppo
from lm.rlhf.rollout import Rollout, encode_prompts
from lm.rlhf.update import UpdateConfig
from tests.rlhf.runs import MODEL, OPTIM


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
    logp = {"policy": np.array([[-1.0, -2.0, -4.0]]), "reference": np.array([[-3.0, -1.0, -1.0]])}

    def answer_logp(config, params, tokens, start, count, temperature, *_):
        return logp[params] / temperature

    monkeypatch.setattr(assessment, "answer_logp", answer_logp)
    rollout = Rollout(
        tokens=np.zeros((1, 4), np.int32), start=np.ones(1, np.int32),
        mask=np.array([[True, True, False]]), logp=np.zeros((1, 3)), ended=np.ones(1, bool),
    )  # fmt: skip
    for kind in ("k1", "k3"):
        found = assessment.answer_kl.__wrapped__(
            None, "policy", "reference", rollout, 0.5, None, kind
        )
        of_tokens = kl_estimate(2 * logp["policy"], 2 * logp["reference"], kind)
        expected = of_tokens[:, :2].sum()  # the third stands behind the answer
        np.testing.assert_allclose(found, [expected], rtol=1e-6)


def test_the_kl_is_the_same_in_parts_which_need_the_memory_of_one_of_them():
    config = GptConfig(layers=1, width=16, heads=2, vocab=2_000, length=16)
    policy, reference = (
        nn.unbox(jax.jit(gpt.init, static_argnums=0)(config, jax.random.key(seed)))
        for seed in range(2)
    )
    numbers = np.random.default_rng(0)
    rollout = Rollout(
        tokens=numbers.integers(0, 2_000, (32, 16), np.int32),
        start=numbers.integers(1, 8, 32, np.int32), mask=numbers.random((32, 8)) < 0.7,
        logp=np.zeros((32, 8), np.float32), ended=np.ones(32, bool),
    )  # fmt: skip
    whole, parts = (
        assessment.answer_kl.lower(
            config, policy, reference, rollout, 1.0, parts=parts
        ).compile() for parts in (1, 8)
    )  # fmt: skip
    found = parts(policy, reference, rollout)
    np.testing.assert_allclose(found, whole(policy, reference, rollout), rtol=1e-5, atol=1e-5)
    assert np.abs(found).min() > 1e-3  # the control: they differ
    sizes = [one.memory_analysis().temp_size_in_bytes for one in (whole, parts)]
    assert sizes[1] < sizes[0] / 4


@pytest.mark.parametrize(
    ("held_out", "rollout_parts", "blocks"),
    [
        (100, 1, [32, 32]), (64, 1, [32, 32]), (12, 1, [16]), (5, 1, [8]), (12, 2, [16]),
        (17, 2, [32]), (5, 8, [8]),
    ],
)  # fmt: skip
def test_held_out_prompts_are_answered_in_blocks_no_larger_than_they_fill(
    held_out, rollout_parts, blocks, one_device
):
    config = Ppo(
        model=MODEL, optim=OPTIM, batch=32, update=UpdateConfig(minibatches=4),
        evaluate_prompts=64, prompt_length=4, answer_length=8, rollout_parts=rollout_parts,
    )  # fmt: skip
    prompts, _ = encode_prompts([[1 + n % 7, n] for n in range(held_out)], 4)
    material = SimpleNamespace(valid=prompts, form=None)
    asks = []
    session = SimpleNamespace(asking=lambda measure: measure, ask=lambda: asks.append(1))
    found = PpoEvaluation(config, material, None, None, one_device, session)
    some = list(found.batches())
    assert [len(one.mask) for one in some] == blocks and len(asks) == len(blocks)
    assert found.rows % config.at_once == 0 and config.at_once == 8
    most = config.drawn_at_once
    assert found.rows <= most or found.rows % most == 0  # in whole parts of as many as in training
    assert sum(int(one.mask.sum()) for one in some) == min(held_out, 64)


def test_the_text_that_the_tax_is_measured_on_is_the_same_however_it_is_divided(monkeypatch):
    read = []

    class Told(assessment.HeldOut):
        def estimate(self, batches, seed):
            read.append((self.rows, batches * self.rows))

        def loss(self, loss, params, batches):
            return 0.0

    monkeypatch.setattr(assessment, "HeldOut", Told)
    for minibatches in (1, 4):
        config = Ppo(optim=OPTIM, batch=32, update=UpdateConfig(minibatches=minibatches))
        run = SimpleNamespace(
            config=config, material=SimpleNamespace(held_out=object()), mesh=None, total=None,
            session=SimpleNamespace(journal=SimpleNamespace(sample=lambda *_: None)),
        )  # fmt: skip
        assert PpoEvaluation.measured(run, 0, None, [one(0)])["pretraining_loss"] == 0.0
    assert read == [(32, 640), (8, 640)]


def evaluating(monkeypatch, scorers, **changes):
    """An evaluation of two prompts in rows of three, and the model and key of each draw."""
    drawn_by, rollout = [], SimpleNamespace(mask=np.ones((3, 2), bool))

    def roll_out(config, params, some, key, *, temperature, **more):
        assert temperature == 0.7
        drawn_by.append((params, tuple(jax.random.key_data(key).tolist())))
        return rollout

    monkeypatch.setattr(assessment, "roll_out", roll_out)
    for name, said in (("answer_kl", np.zeros(3)), ("texts", [])):
        monkeypatch.setattr(assessment, name, lambda *some, said=said, **more: said)
    config = SimpleNamespace(
        policy_model=None, answer_length=2, end=lambda form: 0, temperature=0.7, seed=0,
        advantages=AdvantageConfig(), best_of=4, steps=1, evaluate_draws=3, at_once=3,
        drawn_at_once=3,
    )  # fmt: skip
    vars(config).update(changes)
    form = SimpleNamespace(tokenizer=SimpleNamespace(vocab_size=9))
    run = SimpleNamespace(
        config=config, material=SimpleNamespace(form=form), scorers=scorers, reference="reference",
        batches=lambda: [None], prompts=SimpleNamespace(mask=np.ones(2)), rows=3,
        measured=lambda step, params, drawn: {},
    )  # fmt: skip
    run.answered = lambda params, seed: PpoEvaluation.answered(run, params, seed)
    run.drawn = lambda params: PpoEvaluation.drawn(run, params)
    return run, drawn_by


def test_each_answer_of_an_evaluation_has_a_key_of_its_own_and_every_policy_the_same_keys(
    monkeypatch,
):
    keys = {}
    for seed in (0, 1):
        run, drawn_by = evaluating(monkeypatch, {"reward": lambda _: np.zeros(3)}, seed=seed)
        PpoEvaluation.finish(run, "policy")
        run.drawn("another")
        asked = [params for params, _ in drawn_by]
        assert asked == ["reference"] * 4 + ["policy"] * 3 + ["another"] * 3
        keys[seed] = [key for _, key in drawn_by]
        assert len(set(keys[seed])) == 7 and keys[seed][4:7] == keys[seed][7:]
    assert keys[0] != keys[1]  # the control


def test_a_gold_score_that_is_no_number_is_an_error_and_the_rewards_is_left_to_training(
    monkeypatch,
):
    right, wrong, padding = np.arange(3.0), np.array([0, np.nan, 1]), np.array([0, 1, np.nan])
    scorers = {"reward": lambda _: wrong, "gold": lambda _: padding, "second": lambda _: right}
    run, _ = evaluating(monkeypatch, scorers)
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

    def answer(params, seed):
        """A policy's has more of the reward and less of what it stands for."""
        found, gain = one(seed), 0.5 * (params == "policy")
        scores = {"reward": found.scores["reward"] + gain, "gold": found.scores["gold"] - gain}
        return replace(found, scores=scores)

    def answered(params, seed):
        asked.append((params, seed))
        return answer(params, seed)

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
        name: np.stack([answer("reference", seed).scores[name] for seed in seeds[:4]])
        for name in ("reward", "gold")
    }  # fmt: skip
    for point, n in zip(found["best_of_n"], (1, 2, 4), strict=True):
        for name, scores in theirs.items():
            expected = best_of_n(theirs["reward"], n, scores).mean()
            assert point["n"] == n and point[name] == pytest.approx(expected)
    for name, key in (("reward", "win_rate"), ("gold", "gold_win_rate")):
        rates = [win_rates(answer("policy", s).scores[name], theirs[name]) for s in seeds[4:]]
        assert found[key][0] == pytest.approx(np.mean(rates))
    assert found["gold_win_rate"][0] < 0.45 < 0.55 < found["win_rate"][0]
