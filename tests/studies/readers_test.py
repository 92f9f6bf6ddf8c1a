"""What a program or a notebook gets of a run of BERT, and of a reward model."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import lm
from lm.core.config import dump
from lm.core.errors import CheckpointError, DataError
from lm.core.mesh import one_device
from lm.data.comparisons import Comparison
from lm.data.rankings import encode_rankings
from lm.data.tasks import TaskConfig, read
from lm.evals.tasks import answer_task
from lm.models import reward
from lm.rlhf.ranking import scored
from lm.rlhf.reward import RewardTraining
from lm.rlhf.seeing_reward import SeeingReward
from lm.studies.loaded import load_run
from lm.studies.readers import Encoder, Judge, Tuned
from lm.text.byte import ByteTokenizer
from lm.train.finetune import Finetune
from tests.rlhf.runs import MODEL, OPTIM, write_rows, written
from tests.train.masked_test import EXPERIMENT, first_state


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    run = written(tmp_path_factory.mktemp("bert"), EXPERIMENT, first_state())
    loaded = lm.load(run)
    assert isinstance(loaded, Encoder)
    return loaded, run


JUDGE = RewardTraining(model=MODEL, optim=OPTIM, batch=1, length=16)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    draw = np.random.default_rng(0)
    state = jax.tree.map(
        lambda leaf: (0.1 * draw.normal(size=leaf.shape)).astype(leaf.dtype),
        JUDGE.abstract(one_device()),
    )
    run = written(tmp_path_factory.mktemp("judge"), JUDGE, jax.device_put(state))
    loaded = lm.load(run)
    assert isinstance(loaded, Judge)
    return loaded, run


@pytest.mark.slow
def test_a_masked_word_is_guessed_as_the_network_scores_it_from_both_sides(bert):
    loaded, _ = bert
    (found,) = loaded.guesses("ab[MASK]cd", count=3)
    ids, segments = loaded.ids("ab[MASK]cd")
    special = ByteTokenizer().specials
    assert ids.tolist() == [special["cls"], 97, 98, special["mask"], 99, 100, special["sep"]]
    model = EXPERIMENT.model.module()
    scores = np.asarray(jax.jit(model.apply)({"params": first_state().params}, ids[None])[0])[0, 3]
    chances = np.exp(scores[: ByteTokenizer().vocab_size].astype(np.float64))
    chances /= chances.sum()
    assert [p for _, p in found] == pytest.approx(sorted(chances)[:-4:-1], rel=1e-4)
    assert found[0][0] == ByteTokenizer().decode([int(chances.argmax())])
    (other,) = loaded.guesses("ab[MASK]ce", count=3)  # what stands behind it counts
    assert [p for _, p in other] != pytest.approx([p for _, p in found], rel=1e-4)


def test_two_texts_are_two_segments_and_their_order_counts(bert):
    loaded, _ = bert
    ids, segments = loaded.ids("ab", "cde")
    assert segments.tolist() == [0] * 4 + [1] * 4 and len(ids) == 8
    assert loaded.hidden(ids, segments).shape == (8, EXPERIMENT.model.width)
    assert not np.allclose(loaded.hidden(ids, segments), loaded.hidden(ids))
    assert 0 < loaded.follows("ab", "cde") < 1
    assert loaded.follows("ab", "cde") != loaded.follows("cde", "ab")


def test_padding_changes_nothing_of_the_texts_beside_it(bert):
    loaded, _ = bert
    short, long = loaded.ids("ab")[0], loaded.ids("cdefg")[0]
    filled = np.full((2, len(long)), loaded.tokenizer.pad)
    filled[0, : len(short)], filled[1] = short, long
    for ask in (loaded.hidden, loaded.logits):
        found = ask(filled)
        np.testing.assert_allclose(found[0, : len(short)], ask(short), atol=1e-5)
        np.testing.assert_allclose(found[1], ask(long), atol=1e-5)


def test_a_text_that_masks_nothing_or_is_too_long_is_told_so(bert):
    loaded, run = bert
    with pytest.raises(DataError, match=r"no \[MASK\] in 'ab'"):
        loaded.guesses("ab")
    with pytest.raises(DataError, match="are more than the model's context of 16"):
        loaded.guesses("ab[MASK]" * 8)
    with pytest.raises(CheckpointError, match="MaskedPretrain, not a language model"):
        load_run(run)  # which is what writes


@pytest.mark.parametrize("end", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_answers_are_judged_as_they_were_read_in_training(judge, end):
    loaded, _ = judge
    loaded = replace(loaded, config=replace(loaded.config, end_token=end))
    answers = ("xyz", "a", "zz")
    found = loaded.scores(["q:"] * 3, answers)
    item = Comparison("q:", answers, (0, 1, 2), "", "", (end,) * 3)
    rows = encode_rankings([item], ByteTokenizer(), 16).rows
    params = jax.device_get(loaded.params)
    expected = np.asarray(jax.jit(scored, static_argnums=0)(MODEL, params, rows))[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not np.allclose(found, loaded.scores(["r:"] * 3, answers))
    moved = replace(loaded, params=reward.shifted(loaded.params, 1.0))
    np.testing.assert_allclose(moved.scores(["q:"] * 3, answers), found - 1, atol=1e-5)
    with pytest.raises(DataError, match="1 prompts and 3 answers"):
        loaded.scores(["q:"], answers)


ASKED = ["abz", "abcdefg", "bca"]


def tuned(folder, name, classes, row, labels=()):
    """A run of random weights on a task, and the task."""
    folder.mkdir()
    rows = [{"id": str(n), **row, "text": text} for n, text in enumerate(ASKED)]
    for part in ("train", "valid"):
        write_rows(folder / f"{part}.jsonl", rows)
    config = Finetune(
        data=TaskConfig(name=name, root=str(folder), labels=labels), model=EXPERIMENT.model,
        classes=classes, optim=OPTIM, batch=4, steps=1, length=16,
    )  # fmt: skip
    draw = np.random.default_rng(0)
    state = jax.tree.map(
        lambda leaf: (0.3 * draw.normal(size=leaf.shape)).astype(leaf.dtype),
        config.abstract(one_device()),
    )
    return config, written(folder / "run", config, jax.device_put(state))


@pytest.mark.parametrize(
    ("name", "row"),
    [("classification", {"label": "no"}), ("regression", {"label": 1.0, "pair": "xy"})],
)
def test_a_tuned_run_says_of_texts_what_it_answers_to_the_same_items_of_its_task(
    tmp_path, name, row
):
    labels = ("no", "yes") if name == "classification" else ()
    config, run = tuned(tmp_path / name, name, len(labels) or 1, row, labels)
    loaded = lm.load(run)
    assert isinstance(loaded, Tuned) and loaded.labels == labels
    task, mesh = read(config.data), one_device()
    with jax.set_mesh(mesh):
        found = answer_task(
            jax.jit(config.objective().scores), loaded.params,
            config.encode(task, "valid", ByteTokenizer()), task, "valid", ByteTokenizer(), mesh, 4,
        )  # fmt: skip
    assert [record.id for record in task.valid] == list(found.ids)
    texts = [(text, row["pair"]) if "pair" in row else text for text in ASKED]
    said = loaded.predict(texts)
    if labels:
        assert said == [labels[answer] for answer in found.answers]
        chances = np.asarray(jax.nn.softmax(loaded.scores(texts)))
        np.testing.assert_allclose(chances, found.probabilities, atol=1e-5)
    else:
        np.testing.assert_allclose(said, found.answers, atol=1e-5)
    assert np.ptp(loaded.scores(texts), axis=0).min() > 1e-3  # and each text another
    with pytest.raises(DataError, match="one or more in a list, got 'abz'"):
        loaded.scores("abz")


def test_a_tuned_run_that_answers_no_texts_says_how_to_ask_it(tmp_path):
    config = Finetune(
        data=TaskConfig(name="tagging"), model=EXPERIMENT.model, optim=OPTIM, batch=4, classes=2
    )
    (tmp_path / "config.gin").write_text(dump(config))
    with pytest.raises(CheckpointError, match=f"launch.evaluate --workdir={tmp_path} --file=FILE"):
        lm.load(tmp_path)


def test_a_judge_of_images_is_refused_by_name(tmp_path):
    (tmp_path / "config.gin").write_text(dump(SeeingReward(model=MODEL, optim=OPTIM, batch=1)))
    with pytest.raises(CheckpointError, match="judges answers about images"):
        lm.load(tmp_path)
