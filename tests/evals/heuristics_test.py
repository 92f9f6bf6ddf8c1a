"""GPT-1's zero-shot heuristics: what is asked of the language model, and what is made of it."""

import json

import numpy as np
import pytest

from lm.core.errors import ConfigError
from lm.data.records import Choice
from lm.data.tasks import TaskConfig, read
from lm.evals.heuristics import answer_untrained, best_threshold, candidates
from lm.evals.scorer import Score
from lm.evals.tasks import told
from lm.metrics.classes import matthews


class Said:
    """Stands for a `Scorer`: a word is a token, and its log-probability is told by `worth`."""

    def __init__(self, worth, length=9):
        self.worth, self.length, self.asked = worth, length, []

    def fits(self, requests):
        return [len(request.continuation.split()) <= self.length for request in requests]

    def scores(self, requests):
        assert all(self.fits(requests))
        self.asked += [(request.context, request.continuation) for request in requests]
        return [
            Score(
                sum(map(self.worth, r.continuation.split())), len(r.continuation.split()), False, 0
            )
            for r in requests
        ]


def task_of(folder, name, header, parts):
    lines = {"train": parts[0], "dev": parts[1]}
    for part, rows in lines.items():
        text = "".join("\t".join(row) + "\n" for row in [header, *rows])
        (folder / f"{part}.tsv").write_text(text)
    return read(TaskConfig(name=name, root=str(folder)))


COLA = ("source", "label", "mark", "sentence")


def test_cola_accepts_what_is_likelier_a_token_than_a_threshold_of_the_training_items(tmp_path):
    train = [("s", "1", "", "fine"), ("s", "1", "", "fine fair"), ("s", "0", "", "fair bad bad")]
    valid = [("s", "1", "", "fine fine fair fair"), ("s", "0", "", "bad"), ("s", "0", "", "fair")]
    task = task_of(tmp_path, "cola", COLA, (train, valid))
    said = Said({"fine": -1.0, "fair": -2.0, "bad": -4.0}.get)
    found = answer_untrained(said, task, "valid")
    # means -1, -1.5 and -3.33 make a threshold of -2.42; sums would refuse the long one
    assert found.answers == [1, 0, 1]
    assert found.figures["accuracy"] == pytest.approx(2 / 3)
    assert {context for context, _ in said.asked} == {""}


def test_a_sentence_longer_than_the_context_is_refused_and_no_metric_counts_it(tmp_path):
    train = [("s", "1", "", "fine"), ("s", "0", "", "bad"), ("s", "0", "", "fine fine fine fine")]
    valid = [("s", "1", "", "fine"), ("s", "1", "", "bad bad bad bad"), ("s", "0", "", "bad")]
    task = task_of(tmp_path, "cola", COLA, (train, valid))
    found = answer_untrained(Said({"fine": -1.0, "bad": -4.0}.get, length=3), task, "valid")
    assert found.answers == [1, None, 0] and found.figures["accuracy"] == 1.0
    counts = found.counts(task, "valid")
    assert counts == {"items": 3, "labelled": 3, "refused": 1}
    assert told(counts) == "3 items; 1 refused, longer than the model's context"
    found.write(tmp_path / "answers.jsonl", task, "valid")
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [row["answer"] for row in rows] == ["acceptable", None, "unacceptable"]


def test_an_item_of_which_one_choice_is_longer_than_the_context_is_refused(tmp_path):
    row = {"context": "Where?", "question": "Say.", "choices": ["b", "a a a"], "label": 1}
    fitting = row | {"choices": ["b", "a a"]}
    for part in ("train", "valid"):
        rows = (row, fitting)
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    task = read(TaskConfig(name="choice", root=str(tmp_path)))
    found = answer_untrained(Said({"a": -1.0, "b": -2.0}.get, length=2), task, "valid")
    assert found.answers == [None, 1] and found.figures["accuracy"] == 1.0


@pytest.mark.parametrize("seed", range(20))
def test_the_threshold_is_the_best_of_all_with_equal_values_on_one_side(seed):
    numbers = np.random.default_rng(seed)
    values = numbers.integers(0, 6, 15).astype(float)
    label = numbers.integers(0, 2, 15)
    found = matthews((values > best_threshold(values, label)).astype(int), label)
    every = [matthews((values > cut).astype(int), label) for cut in np.arange(-0.5, 6.5)]
    assert found == pytest.approx(max(every))


def test_sst2_asks_which_word_follows_very(tmp_path):
    rows = [("dull and long ", "0"), ("a joy", "1")]
    task = task_of(tmp_path, "sst2", ("sentence", "label"), (rows, rows))
    said = Said(lambda word: -1.0 if word == "positive" else -2.0)
    assert answer_untrained(said, task, "valid").answers == [1, 1]
    assert said.asked == [
        ("dull and long very", " negative"), ("dull and long very", " positive"),
        ("a joy very", " negative"), ("a joy very", " positive"),
    ]  # fmt: skip


def test_of_several_answers_the_likeliest_a_token_is_taken_and_not_the_shortest(tmp_path):
    row = {"context": "Where?", "question": "Say.", "choices": ["b", "a a a"], "label": 1}
    for part in ("train", "valid"):
        (tmp_path / f"{part}.jsonl").write_text(json.dumps(row) + "\n")
    task = read(TaskConfig(name="choice", root=str(tmp_path)))
    said = Said({"a": -1.0, "b": -2.0}.get)  # in sum, the first is likelier
    assert answer_untrained(said, task, "valid").figures["accuracy"] == 1.0
    assert said.asked[0] == ("Where? Say.", " b")


def test_of_referents_what_follows_them_is_scored(tmp_path):
    row = {
        "context_options": ["It does not fit because the " + noun for noun in ("trophy", "bag")],
        "continuation": "is too large.", "gold": 0,
    }  # fmt: skip
    (tmp_path / "valid.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "test.jsonl").write_text(json.dumps(row) + "\n")
    task = read(TaskConfig(name="winograd", root=str(tmp_path)))
    (record,) = task.test
    assert record == Choice(
        id="test:1", context="It does not fit because the",
        choices=("trophy is too large.", "bag is too large."), label=0,
    )  # fmt: skip
    assert candidates(task, record) == [
        ("It does not fit because the trophy", " is too large."),
        ("It does not fit because the bag", " is too large."),
    ]


def test_a_task_without_a_heuristic_is_refused_with_the_way_out(tmp_path):
    rows = [("a", "b", "entailment"), ("c", "d", "not_entailment")]
    task = task_of(tmp_path, "rte", ("sentence1", "sentence2", "label"), (rows, rows))
    with pytest.raises(ConfigError, match="no zero-shot heuristic for rte: name cola, sst2 or"):
        answer_untrained(Said(len), task, "valid")
