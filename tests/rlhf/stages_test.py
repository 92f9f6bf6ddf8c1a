"""Fine-tuning on demonstrations and on rankings: what is learned, and what a run leaves."""

import json
import math
import random
import shutil
from collections import Counter
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import chatgpt, gpt3, instructgpt
from lm.core.config import dump
from lm.core.errors import CheckpointError, ConfigError, DataError
from lm.data.batches import TokenBatch
from lm.data.comparisons import Comparison, ComparisonsConfig
from lm.data.features import TaskRows
from lm.data.prompts import RowsConfig
from lm.data.rankings import encode_rankings
from lm.data.tokens import Source as TextSource
from lm.data.tokens import TokenFile
from lm.losses.language import mean
from lm.rlhf.dpo import Dpo
from lm.rlhf.ranking import Accuracy, Ranking, abstract_rankings, scored
from lm.rlhf.reward import RewardTraining, first_answers, moments
from lm.rlhf.rollout import Rollout
from lm.rlhf.scores import RewardConfig, RolloutScorer, text_scorer
from lm.rlhf.sft import Sft, SftMaterial
from lm.rlhf.sft_evaluation import SftEvaluation
from lm.rlhf.source import read_source
from lm.text.byte import ByteTokenizer
from lm.train.guard import GuardConfig, GuardState, judge
from lm.train.metrics import read_metrics
from lm.train.process import Process
from lm.train.saved import read_config
from lm.train.session import LoopConfig
from lm.train.supervised import steps_of
from tests.launched import final_digests
from tests.rlhf.runs import MODEL, OPTIM, pretrained, write_rows

pytestmark = pytest.mark.usefixtures("one_device")

LOOP = LoopConfig(log_every=10, evaluate_every=40, save_every=40, sample_tokens=8)
GUARD = GuardConfig(spike="off")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return pretrained(tmp_path_factory.mktemp("base"))


def doubled(count):
    """Prompts of two letters; the answer says the second twice, and ends."""
    letters = random.Random(0)
    pairs = ["".join(letters.choice("abcdefgh") for _ in range(3)) for _ in range(count)]
    return [{"prompt": pair + ":", "response": pair[2] * 2} for pair in pairs]


def teaching(base, folder, **changes):
    data = RowsConfig(train=write_rows(folder / "demonstrations.jsonl", doubled(300)))
    config = Sft(
        init=str(base), data=data, optim=OPTIM, batch=32, steps=80, length=16,
        residual_dropout=0.0, loop=LOOP, guard=GUARD,
    )  # fmt: skip
    return replace(config, **changes)


@pytest.fixture(scope="module")
def taught(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sft")
    config = teaching(base, folder)
    config.run(folder / "run")
    return config, folder / "run"


def summary_of(run):
    return json.loads((run / "summary.json").read_text())


@pytest.mark.slow
def test_demonstrations_teach_the_answer_and_where_it_ends(taught):
    _, run = taught
    assert summary_of(run)["valid_loss"] < 0.1  # of 5.6 at the start
    shown = (run / "samples" / "00000080.txt").read_text().split("\n\n")
    answers = [line for line in shown if line]
    assert len(answers) == 4
    for line in answers:  # xyz:[zz]: two letters, and nothing after the end token
        assert line[4:] == f"[{line[2] * 2}]", line


@pytest.mark.slow
def test_a_stage_that_was_cut_off_ends_with_the_same_parameters(taught, tmp_path):
    config, run = taught
    again = tmp_path / "run"
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints" / "80")
    (again / "summary.json").unlink()
    rows = read_metrics(again / "metrics.jsonl")
    measured = [row for row in rows if "valid_loss" in row]
    assert [row["step"] for row in measured] == [0, 40, 80]
    rows.remove(measured[1])  # as where it was cut off before the step that was saved was measured
    write_rows(again / "metrics.jsonl", rows)
    replace(config, init=str(tmp_path / "gone")).run(again)  # what it began from is not needed
    found = [row for row in read_metrics(again / "metrics.jsonl") if "valid_loss" in row]
    assert found == measured
    assert final_digests(again, 80) == final_digests(run, 80)
    assert summary_of(again)["valid_loss"] == summary_of(run)["valid_loss"]


@pytest.mark.slow
def test_a_share_of_the_rows_is_pretraining_text(base, tmp_path, taught):
    config = teaching(base, tmp_path, pretraining_share=0.25, steps=2)
    config.run(tmp_path / "run")
    found = summary_of(tmp_path / "run")
    assert "0.25 of all rows are pre-training text" in found["rows"]
    assert found["pretraining_loss"] > 1.0
    told = read_metrics(tmp_path / "run" / "metrics.jsonl")[-2]
    assert told["loss"] == pytest.approx(0.75 * told["loss/answers"] + 0.25 * told["loss/text"])
    assert "pretraining_loss" not in summary_of(taught[1])


def test_a_share_of_text_that_leaves_a_step_without_a_demonstration_is_refused(base, tmp_path):
    with pytest.raises(ConfigError, match="0.9 of batch 4 leaves less than a row"):
        teaching(base, tmp_path, pretraining_share=0.9, batch=4)
    teaching(base, tmp_path, pretraining_share=0.9, batch=32)  # the controls
    teaching(base, tmp_path, pretraining_share=0.125, batch=4)


def test_a_share_of_text_that_most_steps_have_nothing_of_is_refused(base, tmp_path):
    with pytest.raises(ConfigError, match="0.1 of batch 4 leaves more than half of all steps"):
        teaching(base, tmp_path, pretraining_share=0.1, batch=4)
    guard = GuardConfig(spike="skip")
    for share in (0.1, 0.125, 0.2):  # of the smallest batch that is let through no step is left out
        batch = math.ceil(0.5 / share)
        config = teaching(base, tmp_path, pretraining_share=share, batch=batch, model=MODEL)
        random, state = np.random.default_rng(0), GuardState.empty(guard)
        weights = config.objective().weights
        judged = jax.jit(partial(judge, guard))
        for step in range(300):
            losses = {"answers": random.normal(2, 0.05), "text": random.normal(3.5, 0.05)}
            first = step * batch
            losses["text"] *= config.text_before(first + batch) > config.text_before(first)
            loss = sum(weights[name] * one for name, one in losses.items())
            applied, _, _, state = judged(state, jnp.float32(loss), jnp.ones(()))
            assert applied, f"step {step} of share {share}"


def mixed_rows(config, folder, rows=600, width=16):
    """Demonstrations of three tokens to learn, each of its number alone, and the text that the
    config mixes with them."""
    mask = np.zeros((rows, width), bool)
    mask[:, 4:7] = True
    numbers = np.repeat(np.arange(rows)[:, None], width, axis=1)
    shown = TokenBatch(numbers, np.zeros((rows, width), int), mask, mask[:, 0])
    material = SftMaterial(config, None, None, TaskRows(shown, 0), [])
    ids = np.arange(1_000_000, 1_100_000, dtype=np.uint32)
    np.save(folder / "documents.npy", np.zeros(1, int))
    file = TokenFile(folder, {"digest": "0" * 16}, ids)
    material.mix([TextSource("text", file, 1.0)], file)
    return material


def test_how_text_is_mixed_in_is_part_of_what_a_run_is_known_by(base, tmp_path, monkeypatch):
    config = teaching(base, tmp_path, pretraining_share=0.25)
    before = mixed_rows(config, tmp_path).digest
    assert before.startswith(config.data.fingerprint)
    monkeypatch.setattr("lm.rlhf.sft.MIXING", 1)
    assert mixed_rows(config, tmp_path).digest != before


MIXED = {size: instructgpt.pipeline(size).sft for size in ("1.3b", "6b", "175b")}
MIXED["tiny"] = replace(instructgpt.sft(), pretraining_share=0.1, model=MODEL)


@pytest.mark.parametrize("size", MIXED)
def test_a_tenth_of_the_rows_and_of_what_is_descended_is_text_at_every_size(
    size, tmp_path, monkeypatch
):
    data = RowsConfig(train=write_rows(tmp_path / "rows.jsonl", doubled(1)))
    config = replace(MIXED[size], data=data)
    material, objective = mixed_rows(config, tmp_path), config.objective()
    each = {"answers": 2.0, "text": 5.0}  # of every token

    def losses(self, params, batch, keys):
        return batch.mask * np.where(batch.text, each["text"], each["answers"])[:, None]

    monkeypatch.setattr(type(objective), "losses", losses)
    steps = steps_of(replace(config, epochs=1.0), material.count, config.batch)
    shown, seen, read, learned = [], [], [], Counter()
    for step in range(steps):
        batch = material.rows(step * config.batch, config.batch)
        assert batch.tokens.shape == (config.batch, 16)
        text = batch.tokens[:, 0] >= 1_000_000
        assert np.array_equal(text, batch.text)
        origins = material.origins(step * config.batch, config.batch)
        assert ["file" in row for row in origins] == text.tolist()
        read += [row["row"] for row in origins if "file" not in row]
        shown += batch.tokens[~text, 0].tolist()
        seen += batch.tokens[text, 0].tolist()
        sums, counts = objective.sums({}, batch), objective.counts(batch)
        for name, weight in objective.weights.items():
            learned[name] += weight * float(mean(sums[name], counts[name])) / each[name]
    assert abs(len(seen) / (steps * config.batch) - 0.1) < 0.001
    # none again, none passed over
    assert seen == material.text(0, len(seen)).tokens[:, 0].tolist()
    assert shown == material.demonstrated(0, len(shown)).tokens[:, 0].tolist()
    assert read == list(range(len(read))) and abs(len(read) - 600) < config.batch
    assert learned["answers"] == pytest.approx(0.9 * steps)  # of the steps without text too
    assert learned["text"] / learned.total() == pytest.approx(0.1, abs=0.001)


@pytest.mark.slow
def test_the_checkpoint_with_the_best_reward_is_named(base, tmp_path):
    reward = RewardConfig(function="tests.rlhf.stages_test:shortness")
    config = teaching(base, tmp_path, reward=reward, steps=80, reward_prompts=8)
    config.run(tmp_path / "run")
    found = summary_of(tmp_path / "run")
    rewards = {row["step"]: row["valid_reward"]
               for row in map(json.loads, (tmp_path / "run" / "metrics.jsonl").open())
               if "valid_reward" in row}  # fmt: skip
    assert list(rewards) == [0, 40, 80]
    assert found["selected_reward"] == max(rewards[40], rewards[80])


@pytest.mark.slow
def test_the_last_checkpoint_is_written_before_one_is_chosen(base, tmp_path, monkeypatch):
    under_way = []

    def watched(method):
        def watching(self, *some):
            under_way.append(self.session.checkpoints.under_way)
            return method(self, *some)

        return watching

    for name in ("__call__", "summary"):
        monkeypatch.setattr(SftEvaluation, name, watched(getattr(SftEvaluation, name)))
    reward = RewardConfig(function="tests.rlhf.stages_test:shortness")
    loop = replace(LOOP, evaluate_every=2, save_every=2, keep=1)
    teaching(base, tmp_path, reward=reward, steps=2, loop=loop).run(tmp_path / "run")
    # the control: the last evaluation begins while it is still being written
    assert under_way == [False, True, False]
    assert summary_of(tmp_path / "run")["selected_step"] == 2


def test_where_no_checkpoint_with_a_reward_is_kept_none_is_chosen(tmp_path):
    said = []
    session = SimpleNamespace(workdir=tmp_path, journal=SimpleNamespace(say=said.append))
    run = SimpleNamespace(rewards={2: 0.5, 4: 0.1}, session=session)
    assert SftEvaluation.summary(run) == {} and "none is chosen" in said[0]
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)  # the control
    assert SftEvaluation.summary(run) == {"selected_step": 4, "selected_reward": 0.1}


def test_of_the_checkpoints_that_are_kept_the_first_of_those_with_the_best_reward_is_chosen(
    tmp_path,
):
    said = []
    session = SimpleNamespace(workdir=tmp_path, journal=SimpleNamespace(say=said.append))
    rewards = {2: 0.9, 8: 0.5, 4: 0.5, 6: 0.1, 10: 0.3}
    for step in (4, 6, 8, 10, 12):  # the best was not kept, and the last one kept was not measured
        (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
    found = SftEvaluation.summary(SimpleNamespace(rewards=rewards, session=session))
    assert found == {"selected_step": 4, "selected_reward": 0.5}
    assert said[0].startswith("step 4 answers best of those kept, by reward 0.5000")


def test_a_reward_that_is_no_number_chooses_no_checkpoint(monkeypatch):
    monkeypatch.setattr("lm.rlhf.sft_evaluation.summed", lambda *some: (1.0, 1.0))
    config = SimpleNamespace(loop=LoopConfig(sample_tokens=0), reward_prompts=2)
    material = SimpleNamespace(held_out=SimpleNamespace(rows=None), held_out_text=None)
    run = SimpleNamespace(
        config=config, material=material,
        total=None, mesh=None, rows=1, prompts=["a", "b"], form=ByteTokenizer(), rewards={},
        written=lambda params, prompts, temperature: [[97]] * len(prompts),
        ids=ByteTokenizer().encode_prompts,
        scorer=lambda *some: np.array([0.5, np.nan]),
    )  # fmt: skip
    with pytest.raises(DataError, match="reward gave nan for 1 of 2 answers"):
        SftEvaluation.__call__(run, 40, None)
    assert run.rewards == {}
    run.scorer = lambda *some: np.array([0.5, 1.5])  # the control
    assert SftEvaluation.__call__(run, 40, None)["valid_reward"] == run.rewards[40] == 1.0


def test_prompts_that_are_cut_are_counted_and_scored_as_they_were_answered(tmp_path, one_device):
    said, scored_of = [], []
    session = SimpleNamespace(
        workdir=tmp_path, first=0, asking=lambda measure: measure,
        journal=SimpleNamespace(say=said.append, sample=lambda *_: None),
    )  # fmt: skip
    config = Sft(
        model=MODEL, optim=OPTIM, batch=8, length=16, prompt_length=45,
        loop=replace(LOOP, sample_tokens=8),
        reward=RewardConfig(function="tests.rlhf.stages_test:shortness"),
    )  # fmt: skip
    short, cut, left_out = "ab:", "".join(map(chr, range(60, 102))), "x" * 46
    material = SimpleNamespace(
        prompts=[short, cut, left_out, cut], held_out_text=None,
        held_out=SimpleNamespace(rows=TokenBatch(*(np.ones((8, 16), int),) * 3, np.arange(8))),
    )  # fmt: skip
    found = SftEvaluation(config, material, ByteTokenizer(), one_device, session)
    assert set(found.prompts) == {short, cut}
    assert said == ["1 of 2 held-out prompts are cut to their newest 40 tokens, "
                    "to be answered in 8"]  # fmt: skip
    sizes = {short: 7, cut: 8}  # which leaves the second no room for an end

    def scorer(*asked):
        scored_of.extend(zip(*asked, strict=True))
        return np.zeros(2)

    found.written = lambda params, prompts, temperature: [[97] * sizes[one] for one in prompts]
    found.scorer = scorer
    found.total = lambda *_: (np.ones(()), np.ones(()))
    found(0, None)
    assert set(scored_of) == {(short, "a" * 7, True), (cut[-40:], "a" * 8, False)}


@pytest.mark.parametrize("count", [0, -3])
def test_a_reward_of_no_prompts_is_refused(count):
    with pytest.raises(ConfigError, match=f"^reward_prompts must be positive.* {count}"):
        replace(instructgpt.sft(), reward_prompts=count)


def test_a_reward_of_empty_answers_or_of_steps_that_are_not_saved_is_refused(base, tmp_path):
    reward = RewardConfig(function="tests.rlhf.stages_test:shortness")
    with pytest.raises(ConfigError, match="loop.sample_tokens 0 leaves them empty"):
        teaching(base, tmp_path, reward=reward, loop=replace(LOOP, sample_tokens=0))
    with pytest.raises(ConfigError, match="evaluate_every 20 must be a multiple"):
        teaching(base, tmp_path, reward=reward, loop=replace(LOOP, evaluate_every=20))
    for size in ("1.3b", "6b", "175b"):  # every epoch of the paper's sizes is saved
        for sft in (instructgpt.sft(size), chatgpt.sft(size)):
            chosen = replace(sft, reward=reward)
            steps = chosen.epochs * 12_725 / chosen.batch
            assert 15 < steps / chosen.loop.save_every <= 17  # loop.keep=17 has them all


@pytest.mark.slow
def test_answers_as_long_as_the_context_are_refused_before_the_first_step(base, tmp_path):
    config = teaching(base, tmp_path, loop=replace(LOOP, sample_tokens=48))
    with pytest.raises(DataError, match="sample_tokens 48 leave no room .* in model.length 48"):
        config.run(tmp_path / "run")


def shortness(prompts, answers):
    assert len(prompts) == len(answers)
    return [-len(answer) for answer in answers]


def test_a_stage_without_a_run_to_start_from_is_refused(base, tmp_path):
    with pytest.raises(ConfigError, match="--set init=RUN"):
        teaching(base, tmp_path, init=None).run(tmp_path / "run")
    with pytest.raises(ConfigError, match="length 100 is longer than model.length 48"):
        teaching(base, tmp_path, length=100).run(tmp_path / "run")


def test_a_stage_in_the_directory_of_another_run_is_refused(base, tmp_path):
    before = (base / "config.gin").read_text()
    with pytest.raises(ConfigError, match="holds a Pretrain, not a Sft; choose another"):
        teaching(base, tmp_path).run(base)
    assert (base / "config.gin").read_text() == before


@pytest.mark.slow
def test_adapters_alone_learn_the_answers_and_the_next_stage_reads_them_merged(
    base, tmp_path, one_device
):
    config = teaching(base, tmp_path, lora_rank=4, steps=160, optim=replace(OPTIM, peak_lr=2e-2))
    config.run(tmp_path / "run")
    # The table of tokens stays as it was drawn, with rows of about 0.02 sqrt(D): after the last
    # norm no logit is above 0.02 D or so, and the loss stays near ln V less that.
    first = next(row["valid_loss"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")
                 if "valid_loss" in row)  # fmt: skip
    assert summary_of(tmp_path / "run")["valid_loss"] < first - 0.4
    source = read_source(str(tmp_path / "run"), one_device)
    was = read_source(str(base), one_device)
    np.testing.assert_array_equal(source.params["tokens"]["table"], was.params["tokens"]["table"])
    kernels = [one.params["stack"]["blocks"]["mlp"]["hidden"]["kernel"] for one in (source, was)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01


# ------------------------------------------------------------------- rewards


def ranked(count, labelers=("ann", "bob")):
    """Answers of letters, the better the more of them are z; equal counts are ties."""
    letters = random.Random(1)
    rows = []
    for number in range(count):
        answers = ["".join(letters.choice("xyz") for _ in range(5)) for _ in range(4)]
        places = sorted({answer.count("z") for answer in answers}, reverse=True)
        ranks = [places.index(answer.count("z")) for answer in answers]
        rows.append({"prompt": f"q{number}:", "answers": answers, "ranks": ranks,
                     "labeler": labelers[number % 2]})  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def judged(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reward")
    data = ComparisonsConfig(
        train=write_rows(folder / "rankings.jsonl", ranked(500)), held_out=("bob",),
        valid_fraction=0.2,
    )  # fmt: skip
    said = zip("qrs", ("xyzzy", "zzxxx", "xyyzz"), strict=True)  # one of three is held out
    shown = [{"prompt": f"{name}:", "response": answer} for name, answer in said]
    config = RewardTraining(
        init=str(base), data=data, optim=OPTIM, batch=8, epochs=2.0, length=16, loop=LOOP,
        guard=GUARD, demonstrations=write_rows(folder / "shown.jsonl", shown * 20),
    )  # fmt: skip
    config.run(folder / "run")
    return folder / "run"


@pytest.mark.slow
def test_a_reward_model_orders_answers_of_prompts_and_labelers_it_never_saw(judged):
    found = summary_of(judged)
    for part in ("valid", "labelers"):
        assert found[f"{part}_accuracy"] > 0.9
    start = json.loads((judged / "metrics.jsonl").open().readline())
    assert 0.2 < start["valid_accuracy"] < 0.8  # the control: before it has learned anything
    assert 0.01 < start["valid_accuracy_error"] < 0.1  # of 70 prompts


@pytest.mark.slow
def test_demonstrations_score_zero_on_average_once_it_has_ended(judged, one_device):
    score = text_scorer(RewardConfig(run=str(judged)), ByteTokenizer(), one_device)
    config = read_config(judged)
    shown = {(one.prompt, one.answer) for one in config.data.demonstrated(config.demonstrations)}
    said = score(*zip(*sorted(shown), strict=True))
    assert len(said) == 2  # those that are learned from
    assert abs(said.mean()) < 1e-4 and np.abs(said).max() > 0.01
    assert score(["q:"], ["zzzzz"])[0] > score(["q:"], ["xxxxx"])[0] + 1


@pytest.mark.slow
def test_a_reward_model_that_has_not_ended_gives_no_rewards(judged, one_device, tmp_path):
    shutil.copytree(judged, tmp_path / "run")
    config = RewardConfig(run=str(tmp_path / "run"))
    text_scorer(config, ByteTokenizer(), one_device)  # the control
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(ConfigError, match="has not ended, .* run its command again"):
        text_scorer(config, ByteTokenizer(), one_device)


def test_a_reward_model_does_not_end_where_no_step_is_left_to_complete_it(tmp_path):
    data = ComparisonsConfig(train=write_rows(tmp_path / "rankings.jsonl", ranked(40)))
    config = RewardTraining(
        model=MODEL, data=data, optim=OPTIM, batch=8, length=16, steps=100, loop=LOOP
    )  # fmt: skip
    run = tmp_path / "run"
    (run / "checkpoints" / "40").mkdir(parents=True)
    (run / "config.gin").write_text(dump(config))
    ByteTokenizer().save(run / "tokenizer")
    with pytest.raises(ConfigError, match="at step 40 of 100, .*: set steps above 40, or go back"):
        replace(config, steps=40).run(run)
    assert (run / "config.gin").read_text() == dump(config)
    config.check_end(run, 100, 41, Process())
    for step in (0, 20):
        config.check_end(run, 100, 40, Process(restore_step=step))
    config.check_end(run, 40, 40, Process())  # it has ended, and only its summary was lost
    plain = Sft(data=RowsConfig(), optim=OPTIM, batch=8)
    plain.check_end(run, 100, 40, Process())  # nothing is done behind its last step


@pytest.mark.slow
def test_an_answer_is_read_alike_in_training_as_a_text_and_in_ppo_whether_or_not_it_ends(
    judged, one_device
):
    tokenizer, config = ByteTokenizer(), RewardConfig(run=str(judged))
    answers, ended = ["xyz", "xyz", "zz"], [True, False, True]
    source = read_source(str(judged), one_device)
    item = Comparison("q:", tuple(answers), (0, 1, 2), "", "", tuple(ended))
    rows = encode_rankings([item], tokenizer, 16).rows
    trained = np.asarray(scored(source.model, source.params, rows))[0]
    tokens, mask = np.zeros((3, 8), np.int32), np.zeros((3, 6), bool)
    for row, (answer, end) in enumerate(zip(answers, ended, strict=True)):
        ids = tokenizer.encode(answer) + [tokenizer.end] * end
        tokens[row, : 2 + len(ids)] = tokenizer.encode("q:") + ids
        mask[row, : len(ids)] = True
    rollout = Rollout(
        tokens=jnp.asarray(tokens), start=jnp.full(3, 2), mask=jnp.asarray(mask),
        logp=jnp.zeros(mask.shape), ended=jnp.asarray(ended),
    )  # fmt: skip
    rolled = np.asarray(RolloutScorer(config, tokenizer, one_device)(rollout))
    text = text_scorer(config, tokenizer, one_device)
    np.testing.assert_allclose(trained, rolled, atol=1e-4)
    np.testing.assert_allclose(text(["q:"] * 3, answers, ended), rolled, atol=1e-4)
    assert np.abs(text(["q:"] * 3, answers) - rolled)[1] > 1e-2  # the control: taken to have ended


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "relu"}, {"epsilon": 1e-6}, {"norm": "post"}, {"pattern": ("dense",)},
        {"hidden": 4096}, {"vocab": 50_260}, {"length": 1024},
    ],
)  # fmt: skip
def test_a_stage_of_a_published_size_begins_with_a_run_that_computes_the_same_alone(change):
    stage, base = replace(instructgpt.sft("1.3b"), init="RUN"), gpt3.train("xl").model
    other = replace(base, dtype="float32", remat="none")  # how it is computed
    model = stage.resolved(SimpleNamespace(model=other, text=None)).model
    assert model == stage.model and model.dtype == "bfloat16"
    (name,) = change
    refused = rf"model\.{name}\w* is .* in init=RUN: --set model=None takes that one"
    with pytest.raises(ConfigError, match=refused):
        stage.resolved(SimpleNamespace(model=replace(base, **change), text=None))


def test_dropout_of_the_fine_tuning_is_what_its_field_says_and_no_later_stage_has_it():
    base = SimpleNamespace(model=MODEL, text=None)
    tuned = Sft(optim=OPTIM, batch=8, length=16, residual_dropout=0.3).resolved(base)
    assert tuned.objective().model.residual_dropout == 0.3
    after = SimpleNamespace(model=tuned.model, text=None)
    for stage in (RewardTraining, Dpo):
        found = stage(optim=OPTIM, batch=8, length=16).resolved(after)
        assert found.objective().model == MODEL
    published = SimpleNamespace(model=gpt3.train("xl").model, text=None)
    without = replace(instructgpt.sft("1.3b"), residual_dropout=0.0).resolved(published)
    assert without.decoder.residual_dropout == 0.0


def test_after_another_batch_no_row_is_left_out_and_none_is_read_again(base, tmp_path, monkeypatch):
    read, rows = [], SftMaterial.rows

    def noted(self, *place):
        found = rows(self, *place)
        read.append((found.rows[0].item(), found.rows[-1].item()))
        return found

    monkeypatch.setattr(SftMaterial, "rows", noted)
    loop = replace(LOOP, sample_tokens=0)
    config = teaching(base, tmp_path, batch=4, steps=4, loop=loop)
    config.run(tmp_path / "run")
    allowed = Process(allow_data_change=True)
    replace(config, batch=8, steps=6).run(tmp_path / "run", allowed)
    assert read == [(0, 3), (4, 7), (8, 11), (12, 15), (16, 23), (24, 31)]


@pytest.mark.parametrize(
    ("stage", "rate"),
    [(instructgpt.sft(), 0.0), (instructgpt.reward(), 0.0), (instructgpt.reward("6b"), 0.0),
     (chatgpt.reward(), 0.0), (replace(instructgpt.reward(), residual_dropout=0.1), 0.1)],
)  # fmt: skip
def test_a_stage_from_a_model_that_has_dropout_learns_with_the_residual_dropout_of_its_own_field(
    stage, rate
):
    """As released weights of GPT-2 have it. That of attention and embeddings stays the model's."""
    rates = {"residual_dropout": 0.2, "attention_dropout": 0.1, "embedding_dropout": 0.1}
    model = replace(MODEL, **rates)
    learned = replace(stage, model=model).objective().model
    assert learned == replace(model, residual_dropout=rate)


@pytest.mark.parametrize("rank", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_before_it_learns_a_reward_model_can_say_numbers_of_mean_0_and_deviation_1(
    base, tmp_path, one_device, rank
):
    data = ComparisonsConfig(train=write_rows(tmp_path / "rankings.jsonl", ranked(40)))
    config = RewardTraining(
        init=str(base),
        data=data,
        optim=OPTIM,
        batch=8,
        length=16,
        normalise=30,
        lora_rank=rank,
    )
    source = config.source(one_device)
    config = config.resolved(source)
    material = config.material(source.tokenizer, source, one_device)
    rows = first_answers(material.rows(0, 30), 30)
    assert rows.mask.sum() == 30 and len(rows.mask) == 8  # of four answers each
    with jax.set_mesh(one_device):
        fresh = config.create(config.abstract(one_device), source)
        state = config.prepared(fresh, material, one_device)
        found = moments(config.decoder, state.params, rows, one_device, 8)
        np.testing.assert_allclose(found, (0, 1), atol=1e-4)
        _, before = moments(config.decoder, fresh.params, rows, one_device, 8)
        assert abs(before - 1) > 0.05  # the control
        same = replace(config, normalise=0).prepared(fresh, material, one_device)
        assert same is fresh


def held_out_figures(rows, loss, scores, mesh, prompts="abcdefgh"):
    """What is measured of rows of ranks to these prompts, answers with these scores [B C]."""
    ranks = np.array(rows, np.int32)
    batch = abstract_rankings(*ranks.shape[:1], 1, ranks.shape[1])
    batch = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), batch)
    batch = batch.replace(ranks=ranks, mask=np.ones(ranks.shape, bool))

    class Given(Ranking):
        def scores(self, params, batch, keys=None):
            return jnp.asarray(params)

    items = [SimpleNamespace(prompt=prompt) for prompt in prompts[: len(ranks)]]
    valid = SimpleNamespace(rows=batch, items=items)
    material = SimpleNamespace(parts={"train": None, "valid": valid})
    return Accuracy(Given(MODEL, loss), material, mesh, len(ranks))(0, np.array(scores, np.float32))


def test_the_loss_that_is_measured_is_the_one_that_is_learned(one_device):
    rows, scores = [(0, 1, 1, 1), (0, 0, 1, 1)], [(0.0,) * 4] * 2
    choice = held_out_figures(rows, "choice", scores, one_device)
    assert choice["valid_loss"] == pytest.approx(np.log(4))  # two are best in the second: no choice
    of_pairs = held_out_figures(rows, "pairs", scores, one_device)  # the control
    assert of_pairs["valid_loss"] == pytest.approx(np.log(2))
    assert choice["valid_accuracy"] == of_pairs["valid_accuracy"] == 0.5
    assert "valid_loss" not in held_out_figures(rows[1:], "choice", scores[1:], one_device)


def test_of_a_single_prompt_no_error_of_the_accuracy_is_told(one_device):
    one = held_out_figures([(0, 1)], "pairs", [(3.0, 1.0)], one_device)
    assert one["valid_accuracy"] == 1 and "valid_accuracy_error" not in one
    scores = [(3.0, 1.0), (1.0, 3.0)]
    two = held_out_figures([(0, 1)] * 2, "pairs", scores, one_device)  # the control
    assert two["valid_accuracy"] == two["valid_accuracy_error"] == 0.5


def test_prompts_that_agree_leave_an_error_that_falls_with_their_number(one_device):
    few, many = (
        held_out_figures([(0, 1)] * n, "pairs", [(3.0, 1.0)] * n, one_device) for n in (4, 8)
    )
    assert few["valid_accuracy"] == many["valid_accuracy"] == 1
    assert 0.1 < few["valid_accuracy_error"] < 0.2 and 0.05 < many["valid_accuracy_error"] < 0.1


def test_rankings_of_one_prompt_say_no_more_of_the_error_than_one_of_them(one_device):
    rows, scores = [(0, 1), (0, 1)], [(3.0, 1.0), (1.0, 3.0)]
    once = held_out_figures(rows, "pairs", scores, one_device)
    often = held_out_figures(rows * 3, "pairs", scores * 3, one_device, "ababab")
    assert often == pytest.approx(once)
    alone = held_out_figures(rows, "pairs", scores, one_device, "aa")
    assert alone["valid_accuracy"] == 0.5 and "valid_accuracy_error" not in alone
    tied = held_out_figures([*rows, (0, 0)], "pairs", [*scores, (0.0, 0.0)], one_device, "aab")
    assert "valid_accuracy_error" not in tied


def test_a_prompt_without_a_pair_is_no_prompt_of_the_accuracy(one_device):
    scores = [(3.0, 1.0), (1.0, 3.0)]
    found = held_out_figures([(0, 1), (0, 0)], "pairs", scores, one_device)
    assert found == held_out_figures([(0, 1)], "pairs", scores[:1], one_device)


# ----------------------------------------------------------------------- dpo


@pytest.mark.slow
def test_dpo_prefers_what_was_preferred_and_begins_at_log_2(base, judged, tmp_path):
    data = ComparisonsConfig(train=str(judged.parent / "rankings.jsonl"), valid_fraction=0.2)
    config = Dpo(
        init=str(base), data=data, optim=OPTIM, batch=8, steps=80, length=16, loop=LOOP,
        guard=GUARD, beta=0.1,
    )  # fmt: skip
    config.run(tmp_path / "run")
    start = json.loads((tmp_path / "run" / "metrics.jsonl").open().readline())
    np.testing.assert_allclose(start["valid_loss"], np.log(2), rtol=1e-5)
    assert start["valid_accuracy"] == 0.5
    assert summary_of(tmp_path / "run")["valid_accuracy"] > 0.9


@pytest.mark.slow
def test_dpo_goes_on_with_the_reference_that_it_began_with_and_no_other(base, tmp_path):
    data = ComparisonsConfig(
        train=write_rows(tmp_path / "rankings.jsonl", ranked(40)), valid_fraction=0.2
    )
    config = Dpo(
        init=str(base), data=data, optim=OPTIM, batch=8, steps=1, length=16, loop=LOOP, guard=GUARD
    )
    config.run(tmp_path / "run")
    other = pretrained(tmp_path / "other", seed=8)
    more = replace(config, steps=2)
    with pytest.raises(CheckpointError, match="init: checkpoint .* choose another --workdir"):
        replace(more, init=str(other)).run(tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints" / "2").exists()
    more.run(tmp_path / "run")  # the control
    assert (tmp_path / "run" / "checkpoints" / "2").is_dir()
