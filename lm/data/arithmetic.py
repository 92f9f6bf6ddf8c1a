"""GPT-3's ten arithmetic tasks, made anew (Brown et al. 2020, section 3.9.1).

Numbers are uniform on [0, 10^k), and no problem comes twice. The text is that of the released
files, newlines before it included: a file is a prompt when its rows are put one behind the other.
The paper puts the brackets of the composite task round the last two numbers; the released file has
them round the first two, and digits from 1 to 9.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import numpy as np

from lm.core.config import require
from lm.core.errors import ConfigError

SIGNS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
WORDS = {"addition": ("plus", "+"), "subtraction": ("minus", "-"), "multiplication": ("times", "*")}
DIGITS = {"two": 2, "three": 3, "four": 4, "five": 5}
COMPOSITE = "single_digit_three_ops"

OPERATIONS = (  # by the names of the released files
    *(f"{digits}_digit_{kind}" for digits in DIGITS for kind in ("addition", "subtraction")),
    "two_digit_multiplication",
    COMPOSITE,
)


@dataclasses.dataclass(frozen=True)
class Problem:
    question: str
    answer: int

    @property
    def row(self) -> dict[str, str]:
        """As the released files have it."""
        return {"context": f"\n\nQ: {self.question}\n\nA:", "completion": f" {self.answer}"}


def problems(name: str, count: int, seed: int) -> list[Problem]:
    """Different problems of one of `OPERATIONS`; `count` is 2,000 in the paper.

    Raises:
      ConfigError: an unknown task, or more problems than there are.
    """
    if name not in OPERATIONS:
        raise ConfigError(f"unknown arithmetic task {name!r}; known: {', '.join(OPERATIONS)}")
    digits = DIGITS.get(name.partition("_")[0], 0)
    most = 9**4 if name == COMPOSITE else 10 ** (2 * digits)
    require(count <= most // 2, f"{count} problems of {name}: there are {most} to draw from")
    random = np.random.default_rng([seed, OPERATIONS.index(name)])
    drawn = composites(random) if name == COMPOSITE else pairs(name, digits, random)
    different: dict[Problem, None] = {}
    for problem in drawn:
        different[problem] = None
        if len(different) == count:
            break
    return list(different)


def pairs(name: str, digits: int, random: np.random.Generator) -> Iterator[Problem]:
    word, sign = WORDS[name.rpartition("_")[2]]
    while True:
        a, b = random.integers(0, 10**digits, 2).tolist()
        yield Problem(f"What is {a} {word} {b}?", SIGNS[sign](a, b))


def composites(random: np.random.Generator) -> Iterator[Problem]:
    signs = list(itertools.product(SIGNS, SIGNS))
    while True:
        a, b, c = random.integers(1, 10, 3).tolist()
        first, second = signs[random.integers(len(signs))]
        answer = SIGNS[second](SIGNS[first](a, b), c)
        yield Problem(f"What is ({a} {first} {b}) {second} {c}?", answer)
