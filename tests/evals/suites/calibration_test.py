"""Multiple choice by letters: what is asked, and the curves of a model that is known."""

import json
import math

import numpy as np
import pytest

from lm.core.errors import DataError
from lm.evals.calibration import Question
from lm.evals.requests import Score
from lm.evals.scorer import Scorer
from lm.evals.suites import Model, Options
from lm.evals.suites.calibration import TASKS, compared, curves, draw, evaluate, unlike
from lm.models.gpt import GptConfig
from lm.text.byte import ByteTokenizer

ITEMS = 300


class Knowing(Scorer):
    """Holds the right letter, which the question tells, likely by 0.7; says so to a power."""

    def __init__(self, power=1.0, length=2000):
        self.config = GptConfig(layers=1, width=8, heads=1, length=length, vocab=269)
        self.tokenizer, self.power, self.contexts = ByteTokenizer(), power, []

    def scores(self, requests):
        self.contexts += [request.context for request in requests]
        found = []
        for request in requests:
            said = request.context.rpartition("hint ")[2][0]
            p = 0.7 if request.continuation == f" {said}" else 0.1
            found.append(Score(self.power * math.log(p), 1, False, 0))
        return found


@pytest.fixture
def root(tmp_path):
    """Questions whose hint is right in 7 of 10."""
    random = np.random.default_rng(0)
    rows = []
    for n in range(ITEMS):
        hint = random.integers(4)
        gold = hint if random.uniform() < 0.7 else (hint + random.integers(1, 4)) % 4
        rows.append(
            {"query": f"Question: Number {n}, hint {'ABCD'[hint]}?", "gold": int(gold),
             "choices": ["one", "two", "three", "four"]}
        )  # fmt: skip
    (tmp_path / "arc_easy").mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "arc_easy" / "arc_easy.jsonl").write_text(text)
    return tmp_path


def run(root, scorer, name="m", **asked):
    said: list[str] = []
    model = Model(name=name, scorer=scorer, step=1, digest=name, tokens=0, training=list)
    return evaluate(model, Options(root=root, out=root / name, **asked), said.append), said


def test_choices_stand_with_letters_and_a_letter_is_asked_for(root):
    task = next(task for task in TASKS if task.name == "arc_easy_letters")
    item = task.read(root).items[0]
    head = item.contexts[0].partition("\n")[0]
    assert head.startswith("Question: Number 0, hint ")
    assert item.contexts[0] == head + "\nA. one\nB. two\nC. three\nD. four\nAnswer:"
    assert item.completions == (" A", " B", " C", " D")


def test_a_model_that_says_what_it_knows_is_calibrated_and_one_that_is_too_sure_is_not(root):
    scorer = Knowing()
    true, said = run(root, scorer)
    assert all(context.count("\nAnswer:") == 6 for context in scorer.contexts)  # five examples
    assert true["all"]["accuracy"] == pytest.approx(0.7, abs=0.06)
    assert true["all"]["choices"]["ece"] < 0.04 and true["all"]["answers"]["ece"] < 0.06
    sure, _ = run(root, Knowing(power=4.0), "sure")
    assert sure["all"]["accuracy"] == true["all"]["accuracy"]
    assert sure["all"]["answers"]["ece"] == pytest.approx(0.3, abs=0.06)
    assert sure["all"]["choices"]["ece"] > 3 * true["all"]["choices"]["ece"]
    assert json.loads((root / "m" / "calibration-step1.json").read_text()) == [true]
    assert "figure 8, every choice of MMLU: 0.007 before RLHF, 0.074 after RLHF" in "\n".join(said)
    (row,) = (row for row in said if row.startswith("all "))
    assert f"{true['all']['accuracy']:.4f} ± {true['all']['errors']['accuracy']:.4f}" in row
    assert true["all"]["errors"]["accuracy"] == pytest.approx((0.7 * 0.3 / 300) ** 0.5, rel=0.1)
    change = compared([true, sure], [root / "m", root / "sure"])
    assert change.startswith("on 300 questions that both were asked: accuracy +0.0000 ± 0.0000, ")
    rise = sure["all"]["choices"]["ece"] - true["all"]["choices"]["ece"]
    assert f"ECE, choices {rise:+.4f} ± 0.0" in change
    figure = draw({"before": true, "after": sure}, root / "both.svg").read_text()
    assert "before: ECE" in figure and "after: ECE" in figure


def test_a_second_run_asks_nothing_again(root):
    first, _ = run(root, Knowing())
    again = Knowing()
    assert run(root, again)[0] == first and again.contexts == []


def test_examples_that_do_not_fit_and_items_that_are_refused_are_told(root):
    path = root / "arc_easy" / "arc_easy.jsonl"
    rows = [json.loads(row) for row in path.read_text().splitlines()[:40]]
    rows[7]["query"] += " very" * 80
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scorer = Knowing(length=250)
    result, said = run(root, scorer)
    told = result["tasks"]["arc_easy_letters"]
    assert (told["items"], told["refused"], told["shortened"], told["cut"]) == (39, 1, 39, 0)
    count = np.mean([context.count("\nAnswer:") - 1 for context in scorer.contexts])
    assert told["used"] == result["all"]["used"] == pytest.approx(count) and 1 < count < 4
    (row,) = (line for line in said if line.startswith("arc_easy "))
    assert row.split()[1:3] == [f"{count:.1f}", "39"]
    (under,) = (line for line in said if line.startswith("arc_easy_letters: "))
    assert "5: 39 prompts lost examples to fit; 5: 1 items refused" in under
    limited, said = run(root, Knowing(), limit=6)
    assert limited["all"]["items"] == 6 and any("6 of them asked" in line for line in said)


def test_tasks_of_an_earlier_call_stay_where_the_settings_are_the_same(root):
    rows = (root / "arc_easy" / "arc_easy.jsonl").read_text().splitlines(keepends=True)
    (root / "arc_challenge").mkdir()
    (root / "arc_challenge" / "arc_challenge.jsonl").write_text("".join(rows[:50]))
    whole, _ = run(root, Knowing(), "whole")
    first, _ = run(root, Knowing(), tasks=("arc_easy_letters",))
    second, said = run(root, Knowing(), tasks=("arc_challenge_letters",))
    assert list(second["tasks"]) == ["arc_easy_letters", "arc_challenge_letters"]
    assert second["tasks"]["arc_easy_letters"] == first["tasks"]["arc_easy_letters"]
    assert "arc_easy_letters: asked by an earlier call" in said
    table = root / "m" / "calibration-step1.json"
    assert json.loads(table.read_text()) == [second]
    assert second["all"]["items"] == 350 and sum(second["all"]["choices"]["counts"]) == 1400
    for reading in ("choices", "answers"):
        assert second["all"][reading] == whole["all"][reading]
    assert second["all"]["errors"] == pytest.approx(whole["all"]["errors"], rel=0.1)
    other, said = run(root, Knowing(), tasks=("arc_challenge_letters",), limit=10)
    assert list(other["tasks"]) == ["arc_challenge_letters"] and other["all"]["items"] == 10
    assert not any("earlier call" in line for line in said)
    assert json.loads(table.read_text()) == [second, other]  # which other settings do not replace
    figure = (root / "m" / "calibration-step1.svg").read_bytes()
    again, _ = run(root, Knowing(), tasks=("arc_challenge_letters",), figure=False)
    assert json.loads(table.read_text()) == [other, again] and again == second
    assert (root / "m" / "calibration-step1.svg").read_bytes() == figure
    table.write_text(json.dumps(second))  # as it was when the file held one result
    assert run(root, Knowing(), limit=10)[0] and json.loads(table.read_text())[0] == second
    path = root / "arc_easy" / "arc_easy.jsonl"
    path.write_text(path.read_text() + rows[0])  # what was asked is no longer all there is
    third, _ = run(root, Knowing(), tasks=("arc_challenge_letters",))
    assert third["all"]["items"] == 350 and "errors" not in third["all"]
    assert compared([second, third], [root / "m"] * 2).startswith("on 50 questions")


def test_two_runs_are_drawn_over_the_tasks_of_both_and_other_items_are_said(root):
    def figures(items):
        return {"used": 1.0, "shortened": 0, "refused": 0, "cut": 0} | curves(
            [Question([0.7, 0.3], 0)] * items
        )

    before = {"tasks": {"a": figures(5), "b": figures(4), "c": figures(3)}}
    after = {"tasks": {"a": figures(6), "b": figures(4)}}
    both = {"x": before, "y": after}
    assert unlike(both) == [
        "a: not the same items are asked, 5 of x, 6 of y",
        "c: not the same items are asked, 3 of x, 0 of y; left out of the figure",
    ]
    draw(both, root / "both.svg")
    del before["tasks"]["c"]
    figure = (root / "both.svg").read_text()
    assert draw(both, root / "less.svg").read_text() == figure
    with pytest.raises(DataError, match="no task has items that fit each of x, y"):
        draw({"x": before, "y": {"tasks": {}}}, root / "none.svg")


def test_a_context_without_room_is_said(root):
    with pytest.raises(DataError, match="no item fits the model's context of 20 tokens"):
        run(root, Knowing(length=20))
