"""Answers to a part of a task: above which odds none is given is learned on the held-out part."""

import json

import jax
import numpy as np
import pytest

from lm.core.mesh import MeshConfig, make_mesh, one_device
from lm.data.bert_features import BertFeatures, encode
from lm.data.tasks import TaskConfig, read
from lm.evals import tasks
from lm.evals.spans import NEVER
from lm.evals.tasks import answer_task, null_threshold
from tests.data.toy import Toy

SAT = {"text": "sat", "answer_start": 4}


def answered(folder, part, odds, threshold=None):
    """The answers of a model that says "sat" to every item, and no answer with these odds."""
    task = read(TaskConfig(name="span", root=str(folder), test="test.jsonl"))
    toy = Toy()
    encoded = encode(task.records(part), toy, BertFeatures(length=16, question=4, stride=8))
    said = np.zeros((*encoded.rows.tokens[:, 0].shape, 2), np.float32)
    said[:, 5] = 1.0  # [CLS] who ? [SEP] cat sat [SEP]
    said[:, 0] = 1 + np.array(odds)[:, None] / 2
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        return answer_task(
            lambda params, rows: params[rows.example], said, encoded, task, part, toy, mesh, 1,
            threshold,
        )  # fmt: skip


def items(folder, part, there):
    rows = [
        {"question": "Who?", "context": "cat sat", "answers": [SAT] * answer} for answer in there
    ]
    (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path):
    for part in ("train", "valid", "test"):
        items(tmp_path, part, [True, False])
    return tmp_path


def test_a_test_part_is_scored_with_the_threshold_of_the_held_out_one(folder):
    valid = answered(folder, "valid", [-1, 1])
    assert valid.figures["null_threshold"] == -1 and valid.figures["answer_f1"] == 1
    (folder / "summary.json").write_text(json.dumps(valid.figures))
    test = answered(folder, "test", [0.5, 2], null_threshold(folder))
    assert test.answers == ["", ""] and test.figures["answer_f1"] == 0.5
    assert "null_threshold" not in test.figures
    own = answered(folder, "valid", [0.5, 2])  # the control: what its own threshold would give it
    assert own.figures["answer_f1"] == 1


def test_a_run_without_a_threshold_has_that_of_even_odds(folder):
    assert null_threshold(folder) == 0
    (folder / "summary.json").write_text("{}")
    assert null_threshold(folder) == 0
    assert answered(folder, "test", [-0.1, 0.1], null_threshold(folder)).answers == ["sat", ""]


@pytest.mark.parametrize(
    ("labels", "accuracy", "line"),
    [
        (("a", "a", ""), 0.5, "3 items; the 2 with a label are measured"),
        (("", "", ""), None, "3 items; none has a label"),
        (("a", "a", "a"), 2 / 3, "3 items"),
    ],
)
def test_of_a_file_the_items_with_a_label_are_measured(tmp_path, labels, accuracy, line):
    rows = {"train": ("a", "b"), "valid": ("a", "b"), "test": labels}
    for part, told in rows.items():
        texts = [json.dumps({"text": "cat", "label": label or None}) + "\n" for label in told]
        (tmp_path / f"{part}.jsonl").write_text("".join(texts))
    task = read(TaskConfig(name="classification", root=str(tmp_path), test="test.jsonl"))
    toy, mesh = Toy(), one_device()
    encoded = encode(task.test, toy, BertFeatures(length=16, question=4, stride=8))
    said = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])  # a, b, a
    with jax.set_mesh(mesh):
        found = answer_task(
            lambda params, rows: params[rows.example], said, encoded, task, "test", toy, mesh, 3
        )
    assert found.figures.get("accuracy") == (accuracy and pytest.approx(accuracy))
    assert tasks.told(found.counts(task, "test")) == line


@pytest.mark.parametrize(
    ("name", "row", "told"),
    [
        ("classification", {"text": "cat", "label": "b"}, {"a": 0.25, "b": 0.75}),
        ("choice", {"context": "cat", "choices": ["sat", "who"], "label": 1}, [0.25, 0.75]),
    ],
)
def test_each_class_or_choice_has_its_probability_beside_the_answer(tmp_path, name, row, told):
    more = {"text": "who", "label": "a"}
    if name == "choice":  # of three, so that the other row is padded
        more = {"context": "who", "choices": ["cat", "sat", "who"], "label": 0}
    for part in ("train", "valid"):
        (tmp_path / f"{part}.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(more) + "\n")
    task, toy, mesh = read(TaskConfig(name=name, root=str(tmp_path))), Toy(), one_device()
    encoded = encode(task.valid, toy, BertFeatures(length=16, question=4, stride=8))
    said = np.log([[1.0, 3.0, 4.0]] * 2)[:, : 2 if name == "classification" else 3]
    with jax.set_mesh(mesh):
        answers = answer_task(
            lambda params, rows: params[rows.example], said, encoded, task, "valid", toy, mesh, 2
        )
    answers.write(tmp_path / "answers.jsonl", task, "valid")
    first = json.loads((tmp_path / "answers.jsonl").read_text().splitlines()[0])
    assert first["probabilities"] == pytest.approx(told)
    assert first["answer"] == first["reference"]


def test_an_answer_of_a_passage_stands_beside_the_others_and_the_odds_of_none(folder):
    found = answered(folder, "valid", [-1, 1])
    task = read(TaskConfig(name="span", root=str(folder)))
    found.write(folder / "answers.jsonl", task, "valid")
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    for row, odds in zip(rows, [-1, 1], strict=True):
        assert row["null_odds"] == odds
        assert {guess["text"] for guess in row["guesses"]} == {"", "cat", "sat", "cat sat"}
        scores = [guess["score"] for guess in row["guesses"]]
        assert scores == sorted(scores, reverse=True) and max(scores) == max(2, 2 + odds)
        assert sum(guess["probability"] for guess in row["guesses"]) == pytest.approx(1)


def test_never_to_answer_is_a_number_that_json_has(folder):
    items(folder, "valid", [False, False])
    valid = answered(folder, "valid", [-3, 1])
    assert valid.answers == ["", ""]
    told = json.dumps(valid.figures, allow_nan=False)
    assert json.loads(told)["null_threshold"] == NEVER
