"""The suite tells a line a task and number of examples, and what the figures are worth."""

import json
import shutil

import pytest

from lm.core.errors import ConfigError, DataError
from lm.evals.requests import Score
from lm.evals.scorer import Scorer
from lm.evals.suites import Model, Options
from lm.evals.suites.gpt3 import bare, evaluate
from lm.models.gpt import GptConfig
from lm.text.byte import ByteTokenizer

LONG = "a very long sentence of more than a dozen words that stands in the training text"


class Short(Scorer):
    """Prefers the shorter continuation, and writes the answer of 1 + 1."""

    def __init__(self):
        self.config = GptConfig(layers=1, width=8, heads=1, length=400, vocab=269)
        self.tokenizer, self.asked = ByteTokenizer(), 0

    def scores(self, requests):
        self.asked += len(requests)
        return [
            Score(-(len(r.continuation) ** 2.0), len(r.continuation), False, 0) for r in requests
        ]

    def generate(self, prompts, tokens, **options):
        self.asked += len(prompts)
        return [" 2"] * len(prompts)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "copa").mkdir()
    rows = [
        {"query": f"{n} came, so", "choices": ["it", "they"], "gold": n % 4 == 0} for n in range(8)
    ]
    rows[3]["query"] = LONG
    rows = [json.dumps(row | {"gold": int(row["gold"])}) for row in rows]
    (tmp_path / "copa" / "copa.jsonl").write_text("\n".join(rows))
    (tmp_path / "gpt3_synthetic").mkdir()
    line = {"context": "\n\nQ: What is 1 plus 1?\n\nA:", "completion": " 2"}
    others = [line | {"completion": f" {n}"} for n in (3, 4, 5)]
    (tmp_path / "gpt3_synthetic" / "two_digit_addition.jsonl").write_text(
        "".join(json.dumps(each) + "\n" for each in [line, *others])
    )
    return tmp_path


def told(root, scorer=None, training=lambda: iter(()), digest="one", **options):
    said: list[str] = []
    model = Model(
        name="r", scorer=scorer or Short(), step=5, digest=digest, tokens=1000, training=training
    )
    options = {"out": root / "out", "tasks": ("copa", "two_digit_addition")} | options
    lines = evaluate(model, Options(root=root, **options), said.append)
    return lines, said


def test_every_task_is_asked_with_every_number_of_examples(root):
    lines, said = told(root)
    assert [(line.read.task.name, line.label) for line in lines] == [
        (name, label) for name in ("copa", "two_digit_addition") for label in ("0", "1", "few")
    ]
    assert [line.summary.mean()[0] for line in lines] == [0.75] * 3 + [0.25] * 3
    assert [line.summary.used for line in lines] == [0, 1, 7, 0, 1, 3]
    table = json.loads((root / "out" / "gpt3-step5.json").read_text())
    assert [row["score"] for row in table] == [0.75] * 3 + [0.25] * 3
    assert any("with GPT-3 Small: not comparable" in line for line in said)
    assert any(line.startswith("copa: 8 rows of the published 100") for line in said)


def test_what_was_asked_is_not_asked_again(root):
    first, again = Short(), Short()
    told(root, first)
    assert first.asked == 3 * 8 * 2 + 3 * 4
    lines, _ = told(root, again)
    assert again.asked == 0
    told(root, again, shots=("2",), tasks=("copa",))
    assert again.asked == 8 * 2
    told(root, again, seed=1, tasks=("copa",), shots=("1",))
    assert again.asked == 8 * 4
    told(root, again, digest="another", tasks=("copa",), shots=("1",))  # trained anew
    assert again.asked == 8 * 6


def test_items_in_the_training_text_are_told_and_left_out_of_a_second_figure(root):
    lines, said = told(root, training=lambda: ["nothing", f"Once: {LONG}, it seems."])
    assert lines[0].figures()["overlap"] == 1.0  # the others are too short to be told
    assert lines[0].figures()["clean_score"] == pytest.approx(5 / 7)
    clean, _ = told(root, training=lambda: ["nothing"])  # the control
    assert clean[0].figures()["overlap"] == 0.0

    def lost():
        raise DataError("no text in 'gone'")
        yield

    lines, said = told(root, training=lost)
    assert lines[0].overlap is None
    assert "overlap with the training text: not known, no text in 'gone'" in said
    _, said = told(root, overlap=False)
    assert "overlap with the training text: not looked for" in said


def test_marks_of_ours_are_no_part_of_what_is_looked_for():
    assert bare("Q: Who was it?\n\nA: Ann").split() == ["Who", "was", "it?", "Ann"]
    assert bare("It is so.\nquestion: is it? True or False?\nanswer: True").split() == (
        "It is so. is it? True or False? True".split()
    )
    assert bare("IQ: what is it") == "IQ: what is it"


def test_all_tasks_are_those_that_have_data(root):
    lines, said = told(root, tasks=(), shots=("0",), limit=2)
    names = [line.read.task.name for line in lines]
    assert names[:2] == ["copa", "two_digit_addition"] and "five_digit_addition" in names
    assert "hellaswag" not in names and said[0].startswith("left out, no file in")
    made = next(line for line in said if line.startswith("five_digit_addition:"))
    assert "items made here" in made and "2 of them asked" in made


def test_an_unknown_task_no_data_and_a_wrong_number_are_refused(root, tmp_path_factory):
    with pytest.raises(ConfigError, match="unknown task 'copper'; did you mean copa"):
        told(root, tasks=("copper",))
    with pytest.raises(DataError, match="no task data in"):
        told(tmp_path_factory.mktemp("empty"), tasks=())
    with pytest.raises(ConfigError, match="shots 'many' must be a number or few"):
        told(root, shots=("many",))
    with pytest.raises(ConfigError, match="--shots is empty: name numbers"):
        told(root, shots=())
    with pytest.raises(ConfigError, match="limit 0 must be at least 1"):
        told(root, limit=0)


def test_a_narrower_call_leaves_the_rows_of_other_tasks_numbers_of_examples_and_settings(root):
    def rows(**options):
        told(root, **options)
        return [(row["task"], row["asked"]) for row in table()]

    def table():
        return json.loads((root / "out" / "gpt3-step5.json").read_text())

    copa, sums = [("copa", shots) for shots in "01"], [("two_digit_addition", "0")]
    assert rows(tasks=("copa",), shots=("0",)) == copa[:1]
    assert rows(tasks=("two_digit_addition",), shots=("0",)) == copa[:1] + sums
    assert rows(tasks=("copa",), shots=("0", "1")) == sums + copa
    first = table()
    for _ in range(2):
        assert rows(tasks=("copa",), shots=("0",), seed=1) == sums + copa + copa[:1]
    assert table()[:3] == first and [row["settings"]["seed"] for row in table()] == [0, 0, 0, 1]
    assert rows(tasks=("copa",), shots=("1",), limit=1) == sums + copa + copa
    (root / "out" / "gpt3-step5.json").write_text('[{"task": "copa", "asked": "1"}]')
    assert rows(tasks=("copa",), shots=("1",)) == [copa[1]] * 2  # of the first nobody knows them


def test_a_table_has_figures_of_one_folder_of_data_and_says_which_data_they_are_of(root):
    def rows(data, task, shots="0"):
        told(data, tasks=(task,), shots=(shots,), out=root / "out")
        return json.loads((root / "out" / "gpt3-step5.json").read_text())

    (first,) = rows(root, "copa")
    assert first["settings"]["root"] == str(root.resolve())
    assert first == rows(root / "out" / "..", "two_digit_addition")[0]  # the same folder
    other = root / "other"
    shutil.copytree(root / "copa", other / "copa")
    (path,) = (other / "copa").iterdir()
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    *_, second = rows(other, "copa", "1")
    assert second["items"] < first["items"] and second["data"] != first["data"]
