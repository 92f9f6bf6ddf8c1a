"""The mechanics of lm-human-preferences that InstructGPT left behind."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.instructgpt import sentiment
from lm.core.errors import ConfigError, DataError
from lm.core.mesh import MeshConfig, make_mesh
from lm.losses.ppo import policy_loss, value_loss
from lm.models import reward
from lm.rlhf import scores
from lm.rlhf.experience import AdvantageConfig, Experience, minibatch_advantages
from lm.rlhf.ppo import Ppo
from lm.rlhf.rollout import Rollout
from lm.rlhf.scores import RewardConfig, RolloutScorer, score_rollout
from lm.rlhf.source import Source
from lm.rlhf.truncation import TruncationConfig, truncated
from lm.rlhf.update import UpdateConfig
from lm.studies import ancestor
from lm.studies.ancestor import Ancestor
from lm.text.byte import ByteTokenizer
from lm.train.optimizer import AdamWConfig, Gpt1AdamConfig, Progress
from tests.launched import ROOT, environment
from tests.losses.ppo_test import openai_losses
from tests.rlhf.runs import MODEL, pretrained, write_rows

TOKENIZER = ByteTokenizer()
PROMPTS = ["a", "bcd", "ef", "."]
ANSWERS = ["x.yz.w.q", "no mark!", ".....end", "abcdef.g"]
COUNT = 8


def vowels(prompts, answers):
    return [float(len(answer)) for answer in answers]


def rollout():
    """Answers of a fixed length behind prompts of several."""
    prompts, answers = (TOKENIZER.encode_batch(texts) for texts in (PROMPTS, ANSWERS))
    tokens = np.zeros((4, 3 + COUNT), np.int32)
    for row, prompt, answer in zip(tokens, prompts, answers, strict=True):
        row[: len(prompt) + COUNT] = prompt + answer
    return Rollout(
        tokens=jnp.asarray(tokens), start=jnp.array([len(prompt) for prompt in prompts]),
        mask=jnp.ones((4, COUNT), bool), logp=jnp.zeros((4, COUNT)), ended=jnp.zeros(4, bool),
    )  # fmt: skip


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig(data=1), jax.devices()[:1])


def test_an_answer_is_read_to_its_first_mark_that_is_not_too_early():
    marks = TruncationConfig(mark=".").ids(TOKENIZER)
    read = truncated(rollout(), marks, 4)
    # x.yz. and not x. ; no mark: all of it; the mark at the fifth place, and none before
    assert np.asarray(read.rollout.mask).sum(axis=1).tolist() == [5, 8, 5, 7]
    assert np.asarray(read.marked).tolist() == [True, False, True, True]
    assert np.asarray(truncated(rollout(), marks, 7).marked).tolist() == [False] * 4
    assert np.asarray(truncated(rollout(), marks, 0).rollout.mask).sum(axis=1)[2] == 1


def test_an_answer_that_is_cut_at_its_mark_has_no_end_and_what_stands_behind_it_no_mark():
    marks, whole = TruncationConfig(mark=".").ids(TOKENIZER), rollout()
    ended = dataclasses.replace(whole, ended=jnp.array([True, True, False, True]))
    read = truncated(ended, marks, 4).rollout
    assert np.asarray(read.ended).tolist() == [False, True, False, False]
    assert [said for _, said in scores.texts(read, TOKENIZER)] == [
        "x.yz.", "no mark", ".....", "abcdef."  # the second's last token is its end
    ]  # fmt: skip
    short = dataclasses.replace(whole, mask=whole.mask & (jnp.arange(COUNT) < 4))
    assert not np.asarray(truncated(short, marks, 4).marked).any()


def test_an_answer_without_a_mark_has_a_fixed_score_and_the_others_that_of_what_was_read(mesh):
    cut = TruncationConfig(mark=".", after=4, missing=-1.0)
    config = RewardConfig(function=f"{__name__}:vowels", truncation=cut)
    assert RolloutScorer(config, TOKENIZER, mesh)(rollout()).tolist() == [5, -1, 5, 7]
    whole = dataclasses.replace(config, truncation=TruncationConfig())
    assert RolloutScorer(whole, TOKENIZER, mesh)(rollout()).tolist() == [8, 8, 8, 8]
    with pytest.raises(ConfigError, match="'no such' is no token"):
        TruncationConfig(mark="no such").ids(TOKENIZER)


def test_a_reward_model_of_a_context_shorter_than_prompt_and_answer_is_refused(monkeypatch, mesh):
    source = Source(MODEL, TOKENIZER, None, None, "")
    monkeypatch.setattr(scores, "reward_source", lambda *_: source)
    monkeypatch.setattr(scores, "is_classifier", lambda run: False)
    config = RewardConfig(run="short")
    with pytest.raises(ConfigError, match="is 49, more than the model.length 48 of reward.run=sh"):
        RolloutScorer(config, TOKENIZER, mesh, 49)
    assert RolloutScorer(config, TOKENIZER, mesh, 48).model is MODEL  # the control


@pytest.mark.parametrize("by_model", [True, False])
def test_one_of_two_processes_asks_a_model_about_all_answers_and_a_function_about_its_own(
    monkeypatch, mesh, by_model
):
    """What reads on the devices of all must be given the same by all."""
    asked = []

    def scored(prompts, answers, ended=None):
        asked.extend(answers)
        return np.array([float(ANSWERS.index(answer)) for answer in answers], np.float32)

    monkeypatch.setattr(scores, "text_scorer", lambda *_: scored)
    monkeypatch.setattr(scores, "read_classifier", lambda *_: (scored, ""))
    monkeypatch.setattr(scores, "is_classifier", lambda run: True)
    monkeypatch.setattr(scores, "local_rows", lambda mesh, rows: slice(2, 4))
    monkeypatch.setattr(scores, "place", lambda mine, *_: mine)
    given = {"run": "classifier"} if by_model else {"function": f"{__name__}:vowels"}
    mine = RolloutScorer(RewardConfig(**given), TOKENIZER, mesh).raw(rollout())
    assert asked == (ANSWERS if by_model else ANSWERS[2:])
    assert mine.tolist() == [2, 3]


def test_normalised_rewards_have_mean_0_and_deviation_1_but_for_the_fixed_score(mesh):
    cut = TruncationConfig(mark=".", after=4)
    score = RolloutScorer(
        RewardConfig(function=f"{__name__}:vowels", truncation=cut, normalise=4), TOKENIZER, mesh
    )
    score.normalise([rollout()])
    raw = np.array([5, 8, 5, 7.0])
    expected = (raw - raw.mean()) / raw.std()
    expected[1] = -1
    np.testing.assert_allclose(score(rollout()), expected, rtol=1e-5)
    same = RolloutScorer(RewardConfig(function=f"{__name__}:vowels"), TOKENIZER, mesh)
    with pytest.raises(DataError, match="4 answers of the reference all score 8"):
        same.normalise([rollout()])


def test_a_value_function_begins_with_the_scores_as_they_are_normalised(monkeypatch, mesh):
    params = nn.unbox(reward.init(MODEL, jax.random.key(0)))
    monkeypatch.setattr(
        scores, "reward_source", lambda *_: Source(MODEL, TOKENIZER, None, params, "")
    )
    monkeypatch.setattr(scores, "is_classifier", lambda run: False)
    score = RolloutScorer(RewardConfig(run="judge", normalise=4), TOKENIZER, mesh)
    raw = score(rollout())
    np.testing.assert_array_equal(score_rollout(MODEL, score.value(), rollout()), raw)
    score.normalise([rollout()])
    said = score_rollout(MODEL, score.value(), rollout())
    np.testing.assert_allclose(said, score(rollout()), rtol=1e-4, atol=1e-5)
    assert np.abs(said - raw).max() > 0.1  # the control


def test_the_losses_count_padding_only_where_a_minibatch_is_whitened():
    numbers = np.random.default_rng(0)
    mask = np.arange(6) < np.array([[6], [2], [4]])
    logp, old_logp, values, old_values, rewards = (
        numbers.standard_normal((3, 6)).astype(np.float32) for _ in range(5)
    )
    part = Experience(
        tokens=np.zeros((3, 8), np.int32), start=np.ones(3, np.int32), mask=mask, logp=old_logp,
        values=old_values, rewards=rewards, advantages=rewards, returns=rewards,
    )  # fmt: skip
    expected = openai_losses(logp, old_logp, values, old_values, rewards)

    def losses(config):
        advantages, returns, counted = minibatch_advantages(config, part)
        of_policy = policy_loss(logp, part.logp, advantages, counted, clip=0.2)
        return counted, (of_policy, value_loss(values, part.values, returns, counted, clip=0.2))

    counted, found = losses(AdvantageConfig(whitening="minibatch"))
    assert counted.all()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    counted, other = losses(AdvantageConfig())  # the control
    assert (counted == mask).all() and np.abs(np.subtract(other, expected)).min() > 1e-3


@pytest.mark.slow
def test_values_begin_at_zero_over_the_policy_where_the_reward_model_is_not_asked(mesh):
    found = {}
    with jax.set_mesh(mesh):
        for value_from in ("policy", "reward"):
            config = Ppo(
                model=MODEL, value_model=MODEL, optim=AdamWConfig(peak_lr=1e-3), batch=8,
                prompt_length=4, answer_length=4, value_from=value_from,
            )  # fmt: skip
            abstract = config.abstract(mesh)
            policy, judge = (
                jax.tree.map(lambda leaf, number=number: jnp.full(leaf.shape, number), params)
                for number, params in ((2.0, abstract.policy), (3.0, abstract.value))
            )
            made = config.create(abstract, Source(MODEL, TOKENIZER, None, policy, ""), judge)
            found[value_from] = (made.value, policy, judge)
    value, policy, _ = found["policy"]
    assert all(not leaf.any() for leaf in jax.tree.leaves(value["head"]))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), value["model"], policy))
    value, _, judge = found["reward"]
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), value, judge))


@pytest.mark.slow
def test_values_on_the_policys_trunk_teach_it_by_the_weight_of_their_loss(mesh):
    numbers = np.random.default_rng(0)
    drawn = numbers.standard_normal((8, 4)).astype(np.float32)
    nothing = np.zeros((8, 4), np.float32)
    part = Experience(
        tokens=numbers.integers(0, 255, (8, 8), np.int32), start=np.full(8, 4, np.int32),
        mask=np.ones((8, 4), bool), logp=nothing, values=nothing, rewards=nothing,
        advantages=nothing, returns=drawn,
    )  # fmt: skip

    def grad_norm(value_from, weight):
        config = Ppo(
            model=MODEL, value_model=MODEL, optim=AdamWConfig(peak_lr=1e-3), batch=8,
            prompt_length=4, answer_length=4, value_from=value_from,
            advantages=AdvantageConfig(whitening="none"),
            update=UpdateConfig(minibatches=1, value_weight=weight),
        )  # fmt: skip
        with jax.set_mesh(mesh):
            abstract = config.abstract(mesh)
            state = jax.tree.map(
                lambda leaf: jnp.asarray(0.1 * np.ones(leaf.shape) if leaf.dtype == jnp.float32
                                         else np.zeros(leaf.shape), leaf.dtype), abstract,
            )  # fmt: skip
            assert ("model" in state.value) == (value_from == "policy")
            rate = jnp.float32(1e-3)
            after, metrics = config.compiled(mesh, abstract)(
                state, part, None, jnp.float32(0), (rate, rate), jax.random.key(0)
            )
        assert bool(metrics.finite) and np.asarray(after.value["head"]["bias"]).item() != 0.1
        return float(metrics.grad_norm)

    tenth, whole = grad_norm("trunk", 0.1), grad_norm("trunk", 1.0)
    assert whole > 1e-3 and tenth == pytest.approx(whole / 10, rel=1e-3)
    assert grad_norm("policy", 1.0) == 0  # the control: without advantages nothing else teaches


@pytest.mark.parametrize("process", [0, 1])
def test_the_first_process_writes_the_choices_and_the_others_wait_for_it(
    monkeypatch, tmp_path, process
):
    row, seen = {"prompt": "p", "answers": ["a", "b", "c"], "ranks": [1, 0, 2]}, []

    def labeled(*some, **more):
        seen.append("labels")
        if process == 0:
            write_rows(tmp_path / "ranked.jsonl", [row])

    def waited(done):
        seen.append(sorted(path.name for path in tmp_path.iterdir()))
        return done

    monkeypatch.setattr(jax, "process_index", lambda: process)
    monkeypatch.setattr(
        ancestor, "read_source", lambda *_: Source(MODEL, TOKENIZER, None, None, "")
    )
    monkeypatch.setattr(ancestor, "text_scorer", lambda *_: None)
    monkeypatch.setattr(ancestor, "to_label", lambda *_: {})
    monkeypatch.setattr(ancestor, "label", labeled)
    monkeypatch.setattr(ancestor, "agreed", waited)
    monkeypatch.setattr(Ancestor, "cut", lambda *_: ["p"])
    sentiment().choose(tmp_path, sentiment().ppo)
    if process == 0:
        asked, chosen, ranked = "prompts.jsonl", "comparisons.jsonl", "ranked.jsonl"
        assert seen == [[asked], "labels", [chosen, asked, ranked]]
        (found,) = map(json.loads, (tmp_path / chosen).open())
        assert found == row | {"ranks": [1, 0, 1]}
    else:  # the files are another's, which may not have been written yet
        assert seen == [[], "labels", []]


def test_the_experiment_has_the_ancestors_numbers():
    ppo = sentiment().ppo
    assert ppo.optim.epsilon == ppo.value_optim.epsilon == 1e-5 and ppo.linear_decay
    assert float(ppo.rates(0)[0]) == pytest.approx(ppo.optim.peak_lr)
    last = float(ppo.rates(ppo.steps - 1)[0])
    assert last == pytest.approx(ppo.optim.peak_lr / ppo.steps)
    assert (ppo.temperature, ppo.update.inner_epochs, ppo.update.minibatches) == (0.7, 4, 1)
    assert (ppo.value_from, ppo.update.value_weight) == ("trunk", 0.1)
    assert (ppo.kl.target, ppo.kl.horizon, ppo.advantages.decay) == (6.0, 10_000, 0.95)
    assert ppo.reward.truncation == TruncationConfig(mark=".", after=16, missing=-1.0)
    reward = sentiment().reward
    assert reward.loss == "choice" and reward.epochs == 1.0
    adam = reward.optim
    assert (adam.epsilon, adam.b1, adam.b2, adam.clip) == (1e-5, 0.9, 0.999, None)
    assert (ppo.optim.b2, ppo.optim.clip, adam.weight_decay) == (0.999, None, 0.0)
    for each in (ppo.optim, ppo.value_optim, adam):
        assert isinstance(each, Gpt1AdamConfig)
    rates = [adam.rate(Progress(step, 4, step + 1, 4)) for step in range(4)]
    assert rates == pytest.approx([adam.peak_lr * left for left in (1, 0.75, 0.5, 0.25)])


def test_the_ancestors_adam_adds_epsilon_outside_the_bias_correction():
    ppo, gradient = sentiment().ppo, {"kernel": jnp.full((1, 1), 1e-4)}
    plain = AdamWConfig(peak_lr=2e-4, b2=0.999, epsilon=1e-5, weight_decay=0.0)

    def first(optim):
        direction = optim.direction()
        return direction.update(gradient, direction.init(gradient), gradient)[0]["kernel"].item()

    # training_ops.cc of TensorFlow: lr sqrt(1 - b2) / (1 - b1) x m / (sqrt(v) + epsilon)
    m, v = 0.1 * 1e-4, 0.001 * 1e-8
    expected = np.sqrt(0.001) / 0.1 * m / (np.sqrt(v) + 1e-5)
    for optim in (ppo.optim, ppo.value_optim):
        assert first(optim) == pytest.approx(expected, rel=1e-4)
    assert first(plain) > 3 * expected  # the control


@pytest.mark.slow
def test_one_command_makes_choices_a_reward_model_and_a_policy_and_goes_on(tmp_path):
    text = tmp_path / "base" / "text.txt"
    base = pretrained(tmp_path / "base", dataclasses.replace(MODEL, length=64))
    sentences = [f"The {a} was {b}. It had a {c}. Then it went." for a in "abcdefghijklmnopqrst"
                 for b in ("red", "big", "old") for c in ("hat", "fig", "eye")]  # fmt: skip
    text.write_text("\n\n".join(sentences))
    sets = {
        "init": base, "excerpts": 60, "labeling.prompts": 40, "ppo.steps": 2, "ppo.batch": 8,
        "ppo.best_of": 1, "ppo.evaluate_prompts": 6, "ppo.reward.normalise": 8, "reward.batch": 8,
        "ppo.prompt_length": 32, "labeling.batch": 8, "ppo.guard.spike": "off",
    }  # fmt: skip
    words = [f"--set={name}={value}" for name, value in sets.items()]
    command = [sys.executable, "-m", "launch.train", "--experiment=instructgpt:descriptiveness",
               f"--workdir={tmp_path / 'run'}", *words]  # fmt: skip
    for again in (False, True):
        done = subprocess.run(
            command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert ("--- ppo" in done.stdout) != again
    rows = [json.loads(line) for line in (tmp_path / "run" / "comparisons.jsonl").open()]
    assert all(sorted(row["ranks"])[:2] == [0, 1] and max(row["ranks"]) == 1 for row in rows)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["before: valid_kl"] == 0 and "after: valid_gold" in summary
