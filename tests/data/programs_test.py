"""Tasks with their programs: right by Python itself, and apart by part."""

from random import Random

import pytest

from lm.core.errors import ConfigError
from lm.data.programs import DEPTH, NUMBERS, TEXTS, ProgramText, draw, made, problems
from lm.data.puzzles import held_out


def test_every_program_does_what_its_words_say():
    random = Random(0)
    ways = set()
    for _ in range(2000):
        problem = made(random, random.randint(1, DEPTH))
        program = eval(f"lambda x: {problem.program}")  # our own text
        assert [(x, program(x)) for x, _ in problem.cases] == list(problem.cases)
        ways.add(problem.program)
    assert {"x*3", "3*x"} <= ways  # both spellings are there


def test_a_tested_program_tells_right_from_wrong_and_types_apart():
    problem = next(p for p in problems(60) if isinstance(p.cases[0][1], int))
    for expression, right in (
        (problem.program, True), ("None", False), ("float(x)", False),
        *((name, False) for name in ("y", "z", "made")),  # of the test itself: nothing to copy
    ):  # fmt: skip
        try:
            exec(problem.tested(expression), {})
        except (AssertionError, TypeError, ValueError, NameError):
            assert not right
        else:
            assert right


def test_tasks_for_test_are_in_no_training_document():
    data = ProgramText(train="stdlib:", documents_train=400, documents_valid=400, prose_share=0.0)
    words = {
        part: {
            line.removeprefix("# ")
            for document in data.documents(part)
            for line in document.text.splitlines()
            if line.startswith("# ")
        }
        for part in ("train", "valid")
    }
    asked = {problem.words for problem in problems(60)}
    assert len(asked) == 60 and not asked & words["train"]
    assert all(map(held_out, asked)) and all(map(held_out, words["valid"]))
    assert not any(map(held_out, words["train"]))


def test_problems_have_every_depth_and_both_kinds_and_are_the_same_again():
    some = problems(60)
    assert [p.depth for p in some].count(2) == 20 and some == problems(60)
    assert problems(30) == some[:30] and problems(60, seed=1) != some
    assert {type(p.cases[0][0]) for p in some} == {str, int}
    assert len(TEXTS) == len(NUMBERS) == len(some[0].cases)


def test_where_one_operation_has_no_more_tasks_those_of_several_are_drawn():
    some = problems(200)
    counts = [[p.depth for p in some].count(depth) for depth in (1, 2, 3)]
    assert len({p.words for p in some}) == 200 and counts == [54, 73, 73]
    assert problems(150) == some[:150]


def test_documents_are_a_function_of_the_row_and_fit():
    data = ProgramText(train="stdlib:", prose_share=0.5)
    texts = [data.document("train", row) for row in range(200)]
    assert texts == [data.document("train", row) for row in range(200)]
    assert max(map(len, texts)) <= 127
    prose = sum(not text.startswith("# ") or "\n" not in text for text in texts)
    assert 60 < prose < 140
    assert draw(Random(0), "train").text.count("\n") == 2


def test_a_share_above_one_is_refused():
    with pytest.raises(ConfigError, match="prose_share 2 must be in"):
        ProgramText(train="stdlib:", prose_share=2)
