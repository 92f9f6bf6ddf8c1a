"""GPT-4's text tasks: their rows as text, and the suite with the report's figures."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lm.core.errors import ConfigError
from lm.evals.fewshot.gpt4 import TASKS
from lm.evals.incontext import Prompt
from lm.evals.protocols import Program
from lm.evals.suites import Model, Options
from lm.evals.suites.gpt4_text import evaluate
from lm.text.byte import ByteTokenizer
from tests.evals.told import Told

DATA = Path(__file__).parents[3].parent / "shared" / "data"
NAMED = {task.name: task for task in TASKS}
PROBLEM = {
    "task_id": "HumanEval/0", "prompt": 'def twice(x):\n    """Twice x."""\n',
    "entry_point": "twice", "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(3) == 6\n    assert candidate(0) == 0\n",
}  # fmt: skip
SUM = {"question": "What is 3 and 4?", "answer": "It is 3+4 = <<3+4=7>>7.\n#### 7"}


def put(root, name, *rows):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_numbers_of_examples_are_those_of_the_table():
    shots = {task.name: task.shots for task in TASKS}
    assert shots == {
        "hellaswag": 10, "arc_challenge": 25, "winogrande": 5, "humaneval": 0, "drop": 3,
        "gsm8k": 5,
    }  # fmt: skip


def test_a_program_is_right_where_its_tests_pass(tmp_path):
    put(tmp_path, "humaneval/HumanEval.jsonl", PROBLEM)
    (item,) = NAMED["humaneval"].read(tmp_path).items
    assert item.contexts == (PROBLEM["prompt"],)

    def passes(*bodies, **options):
        scorer = Told(*bodies)
        (outcome,) = Program(**options).ask(scorer, [Prompt(item, "", 0)])
        assert all(asked["stop"][:2] == ("\nclass", "\ndef") for _, asked in scorer.asked)
        return outcome.figures[f"pass_at_{options.get('k', 1)}"]

    assert passes(PROBLEM["canonical_solution"]) == 1
    assert passes("    return x + x\n") == 1
    for wrong in ("    return x\n", "    pass", "", "    return 2 *", "    exit()\n"):
        assert passes(wrong) == 0
    some = ["    return 2 * x\n", "    return x\n", "    return x\n", "    return x + x\n"]
    assert passes(*some, samples=4, temperature=0.8) == 0.5
    assert passes(*some, samples=4, k=2, temperature=0.8) == pytest.approx(1 - 1 / 6)
    assert passes(*some, samples=4, k=3, temperature=0.8) == 1
    with pytest.raises(ConfigError, match="one is greedy"):
        Program(samples=4)
    with pytest.raises(ConfigError, match="k 5 of pass@k must be from 1 to samples 4"):
        Program(samples=4, k=5, temperature=0.8)


def test_a_problem_or_question_longer_than_the_context_is_a_failed_one(tmp_path):
    head = PROBLEM["prompt"] + "    # " + "very " * 100 + "\n"
    longer = PROBLEM | {"task_id": "HumanEval/1", "prompt": head}
    put(tmp_path, "humaneval/HumanEval.jsonl", PROBLEM, longer, PROBLEM | {"task_id": "2"})
    put(tmp_path, "gsm8k/test.jsonl", SUM, SUM | {"question": "Well, " * 100})
    said: list[str] = []
    scorer = Told("    return 2 * x\n#### 7")
    scorer.config = replace(scorer.config, length=500)
    model = Model(name="m", scorer=scorer, step=3, digest="d", tokens=9, training=list)
    options = Options(root=tmp_path, out=tmp_path, tasks=("humaneval", "gsm8k"))
    programs, sums = (line.summary for line in evaluate(model, options, said.append))
    assert programs.mean()[0] == pytest.approx(2 / 3) and sums.mean()[0] == 0.5
    assert (programs.numbers, programs.failed, programs.refused) == ((0, 1, 2), 1, 0)
    told = [line for line in said if "1 items longer than the context, taken as wrong" in line]
    assert [line.partition(":")[0] for line in told] == ["humaneval", "gsm8k"]
    assert not any("of them asked" in line for line in said)
    scorer.config = replace(scorer.config, length=10)
    (none,) = evaluate(model, Options(root=tmp_path, out=tmp_path / "b", tasks=("gsm8k",)), print)
    assert none.summary.mean() is None and none.summary.refused == 2  # no figure of nothing


def test_how_many_programs_failed_for_a_module_is_told(tmp_path):
    put(tmp_path, "humaneval/HumanEval.jsonl", PROBLEM, PROBLEM | {"task_id": "HumanEval/1"})
    said: list[str] = []
    away = "    import not_installed_anywhere\n    return 2 * x\n"
    scorer = Told("    return 2 * x\n", away)
    model = Model(name="m", scorer=scorer, step=3, digest="d", tokens=9, training=lambda: iter(()))
    options = Options(root=tmp_path, out=tmp_path, tasks=("humaneval",))
    (line,) = evaluate(model, options, said.append)
    assert line.scores == {"pass_at_1": 0.5, "no_module": 0.5}
    assert "50.0% failed for a module that is not there" in "\n".join(said)


def test_a_solution_is_shown_whole_and_its_last_number_counts(tmp_path):
    others = [{"question": f"What is {n}?", "answer": f"It is {n}.\n#### {n}"} for n in (10, 1000)]
    put(tmp_path, "gsm8k/train.jsonl", SUM, *others)
    read = NAMED["gsm8k"].read(tmp_path)
    assert read.items[0].example == (
        "Question: What is 3 and 4?\nAnswer: It is 3+4 = 7.\n#### 7"  # without calculator marks
    )
    for number in range(3):  # there is no test set: an item is not among its own examples
        prompt = read.prompt(number, 5, 0, ByteTokenizer(), 2000)
        assert prompt.shots == 2 and read.items[number].contexts[0] not in prompt.prefix
    prompts = [read.prompt(n, 2, 0, ByteTokenizer(), 2000) for n in range(3)]
    told = Told(" So 7.\n#### 7", " it is 10", " Well\n#### 1,000")
    outcomes = read.task.protocol.ask(told, prompts)
    assert [outcome.figures["exact_match"] for outcome in outcomes] == [1, 0, 1]
    assert told.asked[0][1] == {"stop": ("\n\n", "Question:"), "beams": 1, "length_penalty": 0.6}


def test_the_suite_stands_beside_the_reports_figures_and_goes_on(tmp_path):
    put(tmp_path, "humaneval/HumanEval.jsonl", PROBLEM, PROBLEM | {"task_id": "HumanEval/1"})
    put(tmp_path, "gsm8k/test.jsonl", SUM)
    put(tmp_path, "gsm8k/train.jsonl", SUM | {"question": "What else?"})
    row = {"query": "Which?", "choices": ["it", "they"], "gold": 0}
    put(tmp_path, "arc_challenge/arc_challenge.jsonl", row, row | {"query": "Who?", "gold": 1})
    options = Options(root=tmp_path, out=tmp_path / "out")

    def run(scorer):
        said: list[str] = []
        model = Model(
            name="m", scorer=scorer, step=3, digest="d", tokens=9, training=lambda: iter(())
        )
        return evaluate(model, options, said.append), "\n".join(said)

    lines, said = run(Told("    return 2 * x\n#### 7"))
    assert [line.read.task.name for line in lines] == ["arc_challenge", "humaneval", "gsm8k"]
    found = {line.read.task.name: line.summary.mean()[0] for line in lines}
    assert found == {"arc_challenge": 0.5, "humaneval": 1.0, "gsm8k": 1.0}
    assert "0.670   0.481" in said and "0.963   0.852" in said and "0.920   0.571" in said
    assert "left out, no file" in said and "hellaswag, winogrande, drop" in said
    assert "2 rows of the published 164" in said and "not published" in said
    table = json.loads((tmp_path / "out" / "gpt4_text-step3.json").read_text())
    assert table[1]["published"] == {"GPT-4": 0.67, "GPT-3.5": 0.481}
    silent = Told()
    again, _ = run(silent)
    assert [line.summary for line in again] == [line.summary for line in lines]
    assert silent.asked == []


def test_of_several_programs_a_problem_the_suite_tells_pass_at_k_without_bias(tmp_path):
    put(tmp_path, "humaneval/HumanEval.jsonl", PROBLEM, PROBLEM | {"task_id": "HumanEval/1"})
    draws: list[tuple[int, list[int]]] = []
    bodies = ["    return 2 * x\n", *5 * ["    return x\n"]]
    options = {"root": tmp_path, "out": tmp_path, "tasks": ("humaneval",), "samples": 6}

    def run(k, seed=0):
        said, scorer = [], Told(*bodies, *bodies)
        model = Model(
            name="m", scorer=scorer, step=3, digest="d", tokens=9, training=lambda: iter(())
        )
        (line,) = evaluate(model, Options(k=k, seed=seed, **options), said.append)
        draws.append(tuple(scorer.asked[0][1][name] for name in ("seed", "numbers")))
        return line.summary, scorer.asked[0][1]["temperature"], "\n".join(said)

    summary, temperature, said = run(1)
    assert summary.metric == "pass_at_1" and temperature == 0.2
    assert summary.mean()[0] == pytest.approx(1 / 6) and "0.670" in said
    summary, temperature, said = run(3)  # asked anew: the ledger has what was drawn otherwise
    assert summary.metric == "pass_at_3" and temperature == 0.8
    assert summary.mean()[0] == pytest.approx(1 / 2)  # 1 - (5/6)^3 is 0.42
    assert "pass_at_3" in said and "6 programs a problem" in said and "0.670" not in said
    run(3, seed=1)
    # each program by a number of its own; another seed draws other programs
    assert draws == [(seed, list(range(12))) for seed in (0, 0, 1)]
    with pytest.raises(ConfigError, match="k 2 of pass@k must be from 1 to samples 1"):
        Options(root=tmp_path, out=tmp_path, k=2)


@pytest.mark.skipif(not DATA.is_dir(), reason="the data are not there")
def test_the_files_at_hand_are_read():
    counts = {name: len(NAMED[name].read(DATA).items) for name in ("humaneval", "gsm8k")}
    assert counts == {"humaneval": 130, "gsm8k": 7473}
