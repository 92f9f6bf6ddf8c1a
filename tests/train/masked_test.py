"""Pre-training with masked words and next sentences: loss, stages, and a whole small run."""

import functools
import json
import random
import shutil
from collections import defaultdict
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments import bert as published
from lm.core.errors import CheckpointError, ConfigError, DataError
from lm.core.mesh import MeshConfig, make_mesh
from lm.data.masking import MaskedBatch
from lm.data.pairs import InstancesConfig
from lm.data.sentences import SentencesConfig, prepare_sentences
from lm.data.sources import tell
from lm.data.tokens import TextConfig
from lm.losses.language import mean
from lm.models.bert import BertConfig
from lm.text.byte import ByteTokenizer
from lm.text.tokenizer import TokenizerConfig
from lm.train import masked
from lm.train.guard import GuardConfig, GuardState
from lm.train.masked import MaskedPretrain
from lm.train.masked_evaluation import Evaluation
from lm.train.masked_objective import MaskedWords
from lm.train.optimizer import BertAdamConfig
from lm.train.process import Process, Stop
from lm.train.session import Finished, LoopConfig
from lm.train.state import TrainState, shardings
from tests.launched import final_digests, losses
from tests.models.pretrained.models import drawn
from tests.train.reading import rows_read

VOCAB, LENGTH, ROWS = 272, 16, 16  # bytes, rounded up so that meshes divide it
EXPERIMENT = MaskedPretrain(
    model=BertConfig(
        layers=1, width=32, heads=4, vocab=VOCAB, length=LENGTH,
        attention_dropout=0.0, residual_dropout=0.0, embedding_dropout=0.0,
    ),
    optim=BertAdamConfig(peak_lr=1e-2, b1=0.0, clip=None),  # the moment is the gradient
    guard=GuardConfig(spike="off"),
    tokenizer=TokenizerConfig(kind="bytes"),
    stages=((LENGTH, 1.0),),
    steps=1,
    batch=ROWS,
)  # fmt: skip


def batch_of(seed=0):
    """Rows with few words to guess first and many last, and a next sentence in some."""
    numbers = np.random.default_rng(seed)
    shape = (ROWS, 4)
    return MaskedBatch(
        tokens=numbers.integers(0, VOCAB, (ROWS, LENGTH)).astype(np.int32),
        segments=np.tile((np.arange(LENGTH) > 8).astype(np.int32), (ROWS, 1)),
        valid=np.arange(LENGTH) < numbers.integers(10, LENGTH + 1, (ROWS, 1)),
        positions=np.sort(numbers.integers(1, 10, shape)).astype(np.int32),
        targets=numbers.integers(0, VOCAB, shape).astype(np.int32),
        mask=np.arange(4) < np.repeat([1, 2, 3, 4], 4)[:, None],
        next=numbers.integers(0, 2, ROWS).astype(np.int32),
        next_mask=np.arange(ROWS) % 5 > 0,
        rows=np.arange(ROWS, dtype=np.uint32),
    )


# ------------------------------------------------------------ the two means


@functools.cache
def first_state():
    """A state on the host, with every parameter away from what it starts as."""
    params = drawn(EXPERIMENT.model)
    moments = jax.device_get(jax.jit(EXPERIMENT.optim.direction().init)(params))
    guard = GuardState.empty(EXPERIMENT.guard)
    return TrainState(np.zeros((), np.int32), params, moments, jax.device_get(guard))


def updated(experiment, sizes, devices, batch=None):
    """The gradient of a step, and its metrics."""
    mesh = make_mesh(MeshConfig(**sizes), jax.devices()[:devices])
    with jax.set_mesh(mesh):
        abstract = experiment.abstract(mesh)
        state = jax.device_put(first_state(), shardings(abstract))
        placed = experiment.split(batch or batch_of(), mesh, slice(0, ROWS), ROWS)
        state, metrics = experiment.step(mesh, abstract)(state, placed, jnp.float32(1e-2))
    return jax.device_get(state.moments[0].mu), jax.device_get(metrics)


@pytest.fixture(scope="module")
def single():
    return updated(EXPERIMENT, {"data": 1}, 1)


def assert_same(found, single):
    close = partial(np.testing.assert_allclose, rtol=0, atol=1e-5)
    close(found[1].loss, single[1].loss)
    assert found[1].parts.keys() == {"words", "next"}
    jax.tree.map(close, found[1].parts, single[1].parts)
    jax.tree.map(close, found[0], single[0])


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param({"data": 8}, marks=pytest.mark.slow),
        pytest.param({"data": 1, "fsdp": 8}, marks=pytest.mark.slow),
        pytest.param({"data": 2, "fsdp": 2, "tensor": 2}, marks=pytest.mark.slow),
    ],
)
def test_every_mesh_takes_the_two_means_of_one_device(sizes, single):
    assert_same(updated(EXPERIMENT, sizes, 8), single)


def test_microbatches_of_unequal_counts_make_the_two_means_of_the_whole_batch(single):
    assert_same(updated(replace(EXPERIMENT, microbatches=4), {"data": 1}, 1), single)


def test_a_mean_over_nothing_is_no_figure_of_a_step():
    alone = replace(batch_of(), next_mask=np.zeros(ROWS, bool))
    metrics = updated(EXPERIMENT, {"data": 1}, 1, alone)[1]
    assert np.isnan(metrics.parts["next"]) and metrics.finite
    assert metrics.loss == metrics.parts["words"] > 0


def test_the_loss_is_the_sum_of_two_means_and_no_mean_of_means(single):
    objective = MaskedWords(EXPERIMENT.model, pairs=True)
    params, batch = first_state().params, batch_of()
    words, follows = jax.jit(objective.scores)(params, batch)
    word_losses = crossed(words, batch.targets)
    next_losses = crossed(follows, batch.next)
    sums, counts = jax.jit(objective.sums)(params, batch), objective.counts(batch)
    assert counts == {"words": 40, "next": 12}
    assert float(sums["words"]) == pytest.approx(word_losses[batch.mask].sum(), rel=1e-5)
    assert float(sums["next"]) == pytest.approx(next_losses[batch.next_mask].sum(), rel=1e-5)
    of_rows = (word_losses * batch.mask).sum(1) / batch.mask.sum(1)
    assert abs(of_rows.mean() - word_losses[batch.mask].mean()) > 1e-3
    # what a step reports
    metrics = single[1]
    assert metrics.tokens == 40
    assert metrics.parts["words"] == pytest.approx(word_losses[batch.mask].mean(), rel=1e-5)
    assert metrics.parts["next"] == pytest.approx(next_losses[batch.next_mask].mean(), rel=1e-5)
    assert metrics.loss == pytest.approx(metrics.parts["words"] + metrics.parts["next"], rel=1e-6)


def test_the_mean_of_256_words_or_more_is_the_released_codes_whose_count_is_larger_by_a_trifle():
    counts = jnp.arange(256, 12_000, dtype=jnp.float32)
    totals = counts * jax.random.uniform(jax.random.key(0), counts.shape)
    np.testing.assert_array_equal(mean(totals, counts), totals / (counts + 1e-5))
    assert mean(jnp.float32(0), jnp.float32(0)) == 0


def test_what_is_measured_on_held_out_text_is_of_the_words_and_pairs_that_count():
    """By a loop; of words and pairs that do not count some would be right, too."""
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    session = SimpleNamespace(asking=lambda measure: measure)
    evaluation = Evaluation(EXPERIMENT, ByteTokenizer(), None, mesh, session)
    scores = jax.jit(EXPERIMENT.objective().scores)
    params, batches, expected = first_state().params, [], defaultdict(list)
    for seed in range(2):
        batch = batch_of(seed)
        words, follows = scores(params, batch)
        guesses, told = np.argmax(words, -1), np.argmax(follows, -1)
        targets = np.where(np.arange(4) % 2, guesses, batch.targets).astype(np.int32)
        batch = replace(batch, targets=targets)
        losses, next_losses = crossed(words, targets), crossed(follows, batch.next)
        for row, place in np.argwhere(batch.mask):
            expected["valid_loss"].append(losses[row, place])
            expected["valid_accuracy"].append(guesses[row, place] == targets[row, place])
        for row in np.flatnonzero(batch.next_mask):
            expected["next_loss"].append(next_losses[row])
            expected["next_accuracy"].append(told[row] == batch.next[row])
            expected["next_random"].append(batch.next[row])
        batches.append(batch)
    with jax.set_mesh(mesh):
        found = evaluation.figures(params, iter(batches))
    del found["unigram_entropy"]
    means = {name: np.mean(each) for name, each in expected.items()}
    assert found == pytest.approx(means, rel=1e-5)


def crossed(scores, targets):
    """Cross-entropy in float64."""
    scores = np.asarray(scores, np.float64)
    logs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    return -np.take_along_axis(logs, targets[..., None], axis=-1)[..., 0]


def test_without_pairs_only_words_count():
    objective = MaskedWords(EXPERIMENT.model, pairs=False)
    assert objective.weights == {"words": 1.0} and objective.counts(batch_of()) == {"words": 40}


def test_without_the_loss_of_the_next_sentence_the_rows_are_pairs_still(running):
    from lm.data.sentences import prepare_sentences
    from lm.text.byte import ByteTokenizer

    words = replace(running, next_sentences=False)
    assert words.objective().weights == {"words": 1.0}
    text = prepare_sentences(words.data, words.sentences, ByteTokenizer(), "valid")
    batch, both = (run.rows(text, 16, ByteTokenizer())(0, 8) for run in (words, running))
    assert batch.segments.any(axis=1).all()
    jax.tree.map(np.testing.assert_array_equal, batch, both)

    def rows_of_segments(run):
        objective = run.objective()
        table = jax.jit(jax.grad(lambda params: sum(objective.sums(params, batch).values())))
        return np.abs(nn.unbox(table(first_state().params))["segments"]["table"]).max(axis=1)

    assert (rows_of_segments(words) > 0).all()


# ------------------------------------------------------------------- stages


def test_nine_tenths_of_the_steps_are_short_and_tokens_are_counted_by_their_length():
    base = published.base()
    assert base.bounds() == [0, 900_000, 1_000_000]
    assert [base.stage(step) for step in (0, 899_999, 900_000, 999_999)] == [
        (0, 0),
        (0, 0),
        (1, 900_000),
        (1, 900_000),
    ]
    assert base.tokens_before(1) == 256 * 128
    assert base.tokens_before(900_000) == 256 * 128 * 900_000
    assert base.tokens_before(900_001) == 256 * (128 * 900_000 + 512)
    assert base.tokens_before(1_000_000) == 256 * (128 * 900_000 + 512 * 100_000)
    assert base.abstract_rows().tokens.shape == (256, 512)
    assert base.abstract_rows().positions.shape == (256, 77)


def test_useful_products_are_of_the_words_that_are_predicted():
    """Of all words where the next one is, and of the places of a row where some are masked."""
    base, (length, _) = EXPERIMENT.model, EXPERIMENT.stages[-1]
    every = replace(
        EXPERIMENT, model=replace(base, causal=True), instances=InstancesConfig(objective="next")
    )
    assert every.flops_at(length) == every.model.flops_per_token(length, scored=1.0)
    some = replace(EXPERIMENT, instances=InstancesConfig(max_predictions=4))
    assert some.flops_at(length) == base.flops_per_token(length, scored=4 / length)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"stages": ((32, 1.0),)},
            r"stages \(\(32, 1.0\),\): length 32 is longer than model.length 16: set stages",
        ),
        ({"stages": ((8, 0.5), (16, 0.4))}, "with shares that add up to 1"),
        ({"stages": ()}, "with shares that add up to 1"),
        (
            {"model": replace(EXPERIMENT.model, causal=True)},
            "model.causal=True with instances.objective='masked': a left-to-right model",
        ),
        (
            {"instances": InstancesConfig(objective="next")},
            "model.causal=False with instances.objective='next'",
        ),
        ({"steps": 0}, "steps must be positive, got 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        replace(EXPERIMENT, **changes)


# --------------------------------------------------------------------- runs


def write_documents(path, documents=40, seed=0):
    """A sentence a line, an empty line between documents."""
    chosen = random.Random(seed)
    words = ["cat", "sat", "on", "a", "mat", "and", "ran"]
    texts = [
        "\n".join(
            " ".join(chosen.choice(words) for _ in range(chosen.randint(1, 3))) + "."
            for _ in range(12)
        )
        for _ in range(documents)
    ]
    path.write_text("\n\n".join(texts) + "\n")
    return path


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """An experiment of two stages on a text of its own, with dropout, on the first device."""
    with pytest.MonkeyPatch.context() as patch:
        one = make_mesh(MeshConfig(data=1), jax.devices()[:1])
        patch.setattr(masked, "make_mesh", lambda config: one)
        yield experiment_in(tmp_path_factory.mktemp("text"))


def experiment_in(folder):
    text = {part: write_documents(folder / f"{part}.txt", seed=seed)
            for seed, part in enumerate(("train", "valid"))}  # fmt: skip
    return replace(
        EXPERIMENT,
        optim=BertAdamConfig(peak_lr=3e-3, warmup_steps=3),
        model=replace(EXPERIMENT.model, residual_dropout=0.1),
        batch=8,
        steps=12,
        stages=((12, 0.5), (16, 0.5)),
        data=TextConfig(train=str(text["train"]), valid=str(text["valid"]),
                        cache=str(folder / "cache")),
        sentences=SentencesConfig(form="lines"),
        loop=LoopConfig(log_every=1, save_every=4, evaluate_every=6, log_norms=True),
        evaluate_batches=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def straight(running, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("straight")
    running.run(workdir)
    return workdir


def test_operations_are_counted_of_rows_as_long_as_the_step_s(running, monkeypatch, tmp_path):
    class Begun(Exception):
        pass

    def begun(config, *_, flops_per_token=None, **__):
        raise Begun(flops_per_token)

    monkeypatch.setattr(MaskedPretrain, "begun", begun)
    with pytest.raises(Begun) as caught:
        running.run(tmp_path)
    (flops_per_token,) = caught.value.args
    short, long = running.flops_at(12), running.flops_at(16)
    assert [flops_per_token(step) for step in (0, 5, 6, 11)] == [short, short, long, long]
    assert short < running.flops_per_token() < long


@pytest.mark.slow
def test_a_run_writes_all_that_a_run_writes(straight):
    assert {path.name for path in straight.iterdir()} == {
        "config.gin", "tokenizer", "metrics.jsonl", "checkpoints", "samples", "report.html",
        "summary.json", "goodput.json",
    }  # fmt: skip
    assert [path.name for path in sorted((straight / "samples").iterdir())] == [
        f"{step:08}.txt" for step in (0, 6, 12)
    ]
    assert "|" in (straight / "samples" / "00000012.txt").read_text()  # [guess|truth]
    summary = json.loads((straight / "summary.json").read_text())
    assert summary["steps"] == 12 and summary["tokens"] == 8 * (6 * 12 + 6 * 16)
    assert summary["parameters"] == EXPERIMENT.model.parameters()
    assert 0 < summary["unigram_entropy"] < summary["valid_loss"] < np.log(VOCAB)
    assert 0 < summary["next_accuracy"] < 1 and 0 < summary["next_loss"] < 2
    assert 0.3 < summary["next_random"] < 1  # a chunk of one sentence always has a random B
    rows = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 13))
    assert [row["tokens"] for row in steps[5:8]] == [576, 704, 832]
    for row in steps:
        assert row["loss"] == pytest.approx(row["loss/words"] + row["loss/next"], rel=1e-5)
    assert [row["step"] for row in rows if "valid_loss" in row] == [0, 6, 12]
    (last,) = [row for row in rows if "whole_valid_loss" in row]  # the curve itself is of estimates
    assert last["whole_valid_loss"] == summary["valid_loss"] != last["valid_loss"]
    assert last["whole_next_accuracy"] == summary["next_accuracy"]


@pytest.mark.slow
def test_norms_of_gradients_and_of_the_stream_are_logged_where_asked(straight):
    rows = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    for row in (row for row in rows if "loss" in row):
        assert len(row["norm/stream"]) == 2 and min(row["norm/stream"]) > 0
        assert "norm/stack/blocks/norm1/scale" in row


@pytest.mark.slow
def test_text_that_is_damaged_after_it_was_made_stops_the_run(running, tmp_path):
    config = experiment_in(tmp_path)
    tokenizer = ByteTokenizer()
    file = prepare_sentences(config.data, config.sentences, tokenizer, "valid").file
    path = file.folder / "tokens.bin"
    data = bytearray(path.read_bytes())
    data[40] ^= 1  # still an id, so that opening the file does not see it
    path.write_bytes(data)
    with pytest.raises(DataError, match="block 0 .* is damaged"):
        config.run(tmp_path / "run")


@pytest.mark.slow
def test_going_on_from_before_the_second_stage_repeats_every_bit(running, straight, tmp_path):
    workdir = tmp_path / "cut"
    shutil.copytree(straight, workdir)
    # as a kill at step 7 leaves it: later rows and no later checkpoint
    for step in (8, 12):
        shutil.rmtree(workdir / "checkpoints" / str(step))
    (workdir / "summary.json").unlink()
    running.run(workdir, Process())
    assert losses(workdir) == losses(straight)
    assert final_digests(workdir, 12) == final_digests(straight, 12)
    one, other = (json.loads((d / "summary.json").read_text()) for d in (workdir, straight))
    assert one["valid_loss"] == other["valid_loss"]


@pytest.mark.slow
def test_more_steps_begin_the_second_stage_elsewhere_and_are_asked_for(running, straight, tmp_path):
    workdir = tmp_path / "more"
    shutil.copytree(straight, workdir)
    with pytest.raises(
        CheckpointError, match=r"data_stages: checkpoint \[\[0, 12\], \[6, 16\]\], now"
    ):
        replace(running, steps=16).run(workdir)
    replace(running, steps=16).run(workdir, Process(allow_data_change=True))
    summary = json.loads((workdir / "summary.json").read_text())
    tokens = (
        8 * (6 * 12 + 6 * 16) + 8 * 4 * 16
    )  # those that were read, and not 8 * (8 * 12 + 8 * 16)
    assert summary["steps"] == 16 and summary["tokens"] == tokens


@pytest.mark.slow
def test_a_run_of_one_stage_takes_more_steps_unasked(running, tmp_path):
    one = replace(running, stages=((16, 1.0),), steps=4)
    one.run(tmp_path)
    replace(one, steps=5).run(tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 5


@pytest.mark.slow
def test_after_another_batch_the_first_stage_reads_on_and_the_second_begins_with_its_own_rows(
    running, tmp_path, monkeypatch
):
    read = rows_read(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(Stop, "requested", lambda stop, step: step == 2)
        with pytest.raises(Finished):
            replace(running, steps=8).run(tmp_path)
    replace(running, steps=8, batch=4).run(tmp_path, Process(allow_data_change=True))
    first = [(0, 7), (8, 15), (16, 19), (20, 23)]
    assert read == [*first, (0, 3), (4, 7), (8, 11), (12, 15)]


@pytest.mark.slow
def test_another_order_of_the_data_is_refused_on_resume(running, straight):
    with pytest.raises(ConfigError, match="seed: checkpoint 0, now 1: other data or order"):
        replace(running, seed=1, steps=13).run(straight)


def test_a_part_of_one_document_is_told_with_what_makes_it_more(tmp_path):
    (tmp_path / "text").mkdir()
    for number in range(12):
        write_documents(tmp_path / "text" / f"{number}.txt", 1, number)
    config = replace(experiment_in(tmp_path), sentences=SentencesConfig())
    config = replace(config, data=replace(config.data, train=str(tmp_path / "text"), valid=None))
    said = r"of 12 documents data.valid_fraction=0.1 holds out one: raise it, or set data.valid"
    with pytest.raises(DataError, match=said):
        config.run(tmp_path / "run")
    one = replace(config.data, valid=str(tmp_path / "text" / "3.txt"))
    with pytest.raises(DataError, match=r"data.valid=.*3.txt is one document: name more files"):
        replace(config, data=one).run(tmp_path / "run")


def test_text_that_is_learned_from_and_measured_on_is_told(tmp_path, capsys):
    config = experiment_in(tmp_path)
    for number in range(2):
        write_documents(tmp_path / f"{number}.txt", 1, number)
    for valid, said in ((0, 1), (1, 0)):
        tell.cache_clear()
        some = {"train": str(tmp_path / "0.txt"), "valid": str(tmp_path / f"{valid}.txt")}
        with pytest.raises(DataError, match="needs another document"):
            replace(config, data=replace(config.data, **some)).run(tmp_path / "run")
        assert capsys.readouterr().err.count("warning: data.valid is what is learned") == said
    config.check_documents(2, 2)
    replace(config, instances=InstancesConfig(pairs=False)).check_documents(11, 1)


def test_a_batch_that_does_not_divide_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match=r"batch 16 is not divisible by \d+ .data axes x micro"):
        replace(EXPERIMENT, microbatches=3).run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_left_to_right_predicts_every_next_token_and_sees_none_of_them(running):
    from lm.data.sentences import prepare_sentences
    from lm.text.byte import ByteTokenizer

    left = replace(
        running,
        model=replace(running.model, causal=True),
        instances=InstancesConfig(objective="next", pairs=False),
    )
    text = prepare_sentences(left.data, left.sentences, ByteTokenizer(), "valid")
    batch = left.rows(text, 16, ByteTokenizer())(0, 8)
    np.testing.assert_array_equal(batch.targets[:, :-1][batch.mask[:, :-1]],
                                  batch.tokens[:, 1:][batch.mask[:, :-1]])  # fmt: skip
    scores = jax.jit(left.objective().scores)
    words = np.asarray(scores(first_state().params, batch)[0])
    moved = batch.tokens.copy()
    moved[:, 9] = (moved[:, 9] + 1) % 256
    other = np.asarray(scores(first_state().params, replace(batch, tokens=moved))[0])
    changed = np.abs(words - other).max(axis=(0, 2)) > 0
    assert not changed[:9].any() and changed[9:].all()
