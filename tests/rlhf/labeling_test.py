"""What is put before a labeler."""

import itertools
import json

import numpy as np
import pytest

from lm.core.errors import DataError
from lm.data.dialogue_comparisons import DialogueComparisonsConfig
from lm.data.smalltalk import gold
from lm.rlhf import labeling
from lm.rlhf.labeling import LabelingConfig, label, model_written
from lm.text.byte import ByteTokenizer
from lm.text.dialogue import Chat
from tests.text.dialogue_test import turns

LENGTHS = {"batch": 4, "prompt_length": 64, "answer_length": 8}
ASKED = [turns("next a"), turns("!s", "next a", "people", "again"),
         turns("next a", "people", "and b", "people", "and c")]  # fmt: skip


def speaking(monkeypatch, says):
    """A model that says what `says` does to each prompt; the prompts that it was given."""
    given = []

    def answered(asked, *rest, **lengths):
        given.extend(asked)
        return [says(turns) for turns in asked]

    monkeypatch.setattr(labeling, "answered", answered)
    return given


def test_every_answer_before_the_ranked_one_is_written_anew_turn_after_turn(monkeypatch):
    given = speaking(monkeypatch, lambda talk: f"model {len(talk)}")
    found = model_written(ASKED, Chat(ByteTokenizer()), None, 0, None, **LENGTHS)
    assert found == [
        turns("next a"),
        turns("!s", "next a", "model 2", "again"),
        turns("next a", "model 1", "and b", "model 3", "and c"),
    ]
    assert set(given) == {
        turns("!s", "next a"), turns("next a"), turns("next a", "model 1", "and b")
    }  # fmt: skip


def test_a_conversation_that_no_longer_fits_is_left_out(monkeypatch):
    speaking(monkeypatch, lambda talk: "x" if len(talk) < 3 else None)
    found = model_written(ASKED, Chat(ByteTokenizer()), None, 0, None, **LENGTHS)
    assert found == [turns("next a"), turns("!s", "next a", "x", "again")]


def test_rankings_are_written_as_the_labelling_page_does_and_read_back(monkeypatch, tmp_path):
    said = iter(["it is b.", " ", "b", "c."])

    def answered(asked, *rest, **lengths):
        answer = next(said)
        return [answer, None]

    monkeypatch.setattr(labeling, "answered", answered)
    out = tmp_path / "labels.jsonl"
    judge = lambda prompts, answers: np.array(gold(prompts, answers))  # noqa: E731
    config = LabelingConfig(answers=4, noise=0.0)
    found = label(config, ASKED[:2], Chat(ByteTokenizer()), None, judge, out, None,
                  prompt_length=64, answer_length=8)  # fmt: skip
    assert found["rankings"] == 1 and found["bayes_accuracy"] == 1.0
    row = json.loads(out.read_text())
    assert (
        row["kind"] == "ranking" and row["ranks"][0] == 1 and sorted(row["ranks"]) == [1, 2, 3, 4]
    )
    (read,) = DialogueComparisonsConfig(train=str(out), valid=str(out)).compared("train")
    assert row["answers"][1] == "" and row["ranks"][1] == 4  # no labeler prefers nothing to words
    assert read.prompt == ASKED[0] and read.answers[0] == "it is b." and read.ranks[0] == 0


def test_a_judge_that_gives_no_number_leaves_no_rankings(monkeypatch, tmp_path):
    number = itertools.count()
    monkeypatch.setattr(
        labeling, "answered", lambda asked, *_, **__: [str(next(number)) for _ in asked]
    )
    out = tmp_path / "labels.jsonl"
    with pytest.raises(DataError, match="the judge gave .*nan"):
        label(
            LabelingConfig(prompts=2, answers=2, batch=2), ASKED[:2], Chat(ByteTokenizer()), None,
            lambda prompts, answers: np.array([np.nan] * len(answers)), out, None, prompt_length=64,
            answer_length=8,
        )  # fmt: skip
    assert not out.exists()
