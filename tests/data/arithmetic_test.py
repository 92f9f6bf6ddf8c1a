"""Problems made here have the text form and the distribution of the released files."""

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lm.core.errors import ConfigError
from lm.data.arithmetic import COMPOSITE, OPERATIONS, problems

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "gpt3_synthetic"
ANY_NUMBER = re.compile(r"-?\d+")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the released files are not there")


def released(name: str) -> list[dict[str, str]]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def numbers(rows: list[dict[str, str]]) -> np.ndarray:
    return np.array([[int(n) for n in re.findall(r"\d+", row["context"])] for row in rows])


def test_a_row_is_that_of_the_paper():
    problem = problems("two_digit_addition", 1, seed=0)[0]
    a, b = map(int, re.findall(r"\d+", problem.question))
    assert problem.row == {
        "context": f"\n\nQ: What is {a} plus {b}?\n\nA:", "completion": f" {a + b}",
    }  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_problems_are_right_different_and_the_seeds_own(name):
    made = problems(name, 1000, seed=1)
    assert len(set(made)) == 1000
    assert made == problems(name, 1000, seed=1) != problems(name, 1000, seed=2)
    for problem in made:
        sum_ = problem.question.removeprefix("What is ").removesuffix("?")
        for word, sign in (("plus", "+"), ("minus", "-"), ("times", "*")):
            sum_ = sum_.replace(word, sign)
        assert re.fullmatch(r"[0-9 ()*+-]+", sum_) and eval(sum_) == problem.answer


@needs_data
@pytest.mark.parametrize("name", OPERATIONS)
def test_text_and_distribution_are_those_of_the_released_file(name):
    theirs = released(name)
    ours = [problem.row for problem in problems(name, 2000, seed=0)]

    def forms(rows):
        return {
            tuple(re.sub(r"\d+", "N", row[part]) for part in ("context", "completion"))
            for row in rows
        }

    assert forms(ours) == forms(theirs)
    a, b = numbers(ours), numbers(theirs)
    assert a.shape[1] == b.shape[1]
    # the two samples of each number: Kolmogorov and Smirnov's distance, at a level of 0.1%
    for place in range(a.shape[1]):
        assert distance(a[:, place], b[:, place]) < 1.95 * np.sqrt(1 / len(a) + 1 / len(b))
    # the control: numbers of another law are told apart
    assert distance(a[:, 0] // 2, b[:, 0]) > 1.95 * np.sqrt(1 / len(a) + 1 / len(b))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    at = np.union1d(a, b)
    shares = [np.searchsorted(np.sort(x), at, side="right") / len(x) for x in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())


@needs_data
def test_operations_of_the_composite_are_alike_often():
    def shapes(rows):
        return Counter(re.sub(r"\d", "N", row["context"]) for row in rows)

    ours, theirs = (
        shapes([p.row for p in problems(COMPOSITE, 2000, seed=0)]),
        shapes(released(COMPOSITE)),
    )
    assert ours.keys() == theirs.keys() and len(ours) == 9
    for counts in (ours, theirs):
        np.testing.assert_allclose(np.array([*counts.values()]) / counts.total(), 1 / 9, atol=0.03)


def test_more_problems_than_there_are_and_unknown_ones_are_refused():
    with pytest.raises(ConfigError, match="unknown arithmetic task 'two_digit_sums'"):
        problems("two_digit_sums", 10, seed=0)
    with pytest.raises(ConfigError, match="9000 problems of two_digit_addition: there are 10000"):
        problems("two_digit_addition", 9000, seed=0)
