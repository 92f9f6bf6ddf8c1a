"""Small programs with their tasks in words: something that can be right in more than one way.

A task is a chain of operations on a text or a number, and its program a Python expression of x:

    # drop 2, reverse, add ab
    x[2:][::-1]+'ab'

Some operations are written in two ways, of which training has both. One in five tasks is for test:
no task to learn from has the same words, though a longer one may have them among its own. The set
is our own, in the place of HumanEval's problems: for models of a few thousand parameters, whose
share of right programs is to be told before a larger one is trained (GPT-4 report, section 3.2).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from lm.core.config import require, require_positive
from lm.data.puzzle_text import passage, tokens_of
from lm.data.puzzles import held_out
from lm.data.sources import Document
from lm.data.tokens import Part, TextConfig

TEXTS = ("", "a", "hello", "abcdef", "Sandbox", "x1y2z3")  # what programs on texts are tried on
NUMBERS = (0, 1, 2, 7, 13, -5)  # and on numbers
DEPTH = 3  # operations in a row, at most
LETTERS = "abcdefgh"
TRIES = 3_000  # draws of tasks that are known, after which a depth has no more


@dataclasses.dataclass(frozen=True)
class Step:
    """One operation: its words, what it does, and the expressions of it, of which {} is the value.

    `loose`: the expression binds less than a call does, so that what follows needs brackets.
    """

    words: str
    apply: Callable[[Any], Any]
    ways: tuple[str, ...]
    loose: bool = False
    brackets: bool = True  # the value needs them where it is loose


def of_text(random: Random) -> Step:
    k, letters = random.randint(1, 4), "".join(random.choices(LETTERS, k=2))
    other = random.choice(LETTERS)
    return random.choice(
        (
            Step("reverse", lambda x: x[::-1], ("{}[::-1]",)),
            Step("capitals", str.upper, ("{}.upper()",)),
            Step("second", lambda x: x[::2], ("{}[::2]",)),
            Step("sort", lambda x: "".join(sorted(x)), ("''.join(sorted({}))",), False, False),
            Step(f"first {k}", lambda x: x[:k], (f"{{}}[:{k}]",)),
            Step(f"last {k}", lambda x: x[-k:], (f"{{}}[-{k}:]",)),
            Step(f"drop {k}", lambda x: x[k:], (f"{{}}[{k}:]",)),
            Step(f"cut {k}", lambda x: x[:-k], (f"{{}}[:-{k}]",)),
            Step(f"times {k}", lambda x: x * k, (f"{{}}*{k}", f"{k}*{{}}"), True),
            Step(f"add {letters}", lambda x: x + letters, (f"{{}}+'{letters}'",), True, False),
            Step(f"put {letters}", lambda x: letters + x, (f"'{letters}'+{{}}",), True, False),
            Step(
                f"turn {letters[0]} to {other}", lambda x: x.replace(letters[0], other),
                (f"{{}}.replace('{letters[0]}','{other}')",),
            ),
        )
    )  # fmt: skip


def of_number(random: Random) -> Step:
    k = random.randint(2, 9)
    return random.choice(
        (
            Step(f"plus {k}", lambda x: x + k, (f"{{}}+{k}", f"{k}+{{}}"), True, False),
            Step(f"minus {k}", lambda x: x - k, (f"{{}}-{k}",), True, False),
            Step(f"by {k}", lambda x: x * k, (f"{{}}*{k}", f"{k}*{{}}"), True),
            Step(f"over {k}", lambda x: x // k, (f"{{}}//{k}",), True),
            Step(f"rest {k}", lambda x: x % k, (f"{{}}%{k}",), True),
            Step("negate", lambda x: -x, ("-{}",), True),
            Step("square", lambda x: x**2, ("{}**2",), True),
        )
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Problem:
    """A task in words and one of its programs."""

    words: str
    program: str
    cases: tuple[tuple[Any, Any], ...]  # what goes in, what has to come out
    depth: int

    @property
    def prompt(self) -> str:
        return f"# {self.words}\n"

    @property
    def text(self) -> str:
        return f"{self.prompt}{self.program}\n"

    def tested(self, expression: str) -> str:
        """A program that ends without an error where the expression is right."""
        given, wanted = zip(*self.cases, strict=True)
        return (  # what is wanted has a name only once nothing more is computed
            f"f = lambda x: (\n{expression}\n)\n"
            f"made = [f(x) for x in {given!r}]\n"
            f"for z, y in zip(made, {wanted!r}):\n"
            "    assert type(z) is type(y) and z == y\n"
        )


def draw(random: Random, part: Part, depth: int | None = None) -> Problem:
    """A task of a part, of some depth or any."""
    while True:
        problem = made(random, depth or random.randint(1, DEPTH))
        if held_out(problem.words) == (part == "valid"):
            return problem


def made(random: Random, depth: int) -> Problem:
    texts = random.random() < 0.5
    steps = [(of_text if texts else of_number)(random) for _ in range(depth)]
    program, loose = "x", False
    for step in steps:
        value = f"({program})" if loose and step.brackets else program
        way = random.choice(step.ways)
        program, loose = way.format(value), step.loose
    tried: Sequence[Any] = TEXTS if texts else NUMBERS
    cases = tuple((x, functools.reduce(lambda y, step: step.apply(y), steps, x)) for x in tried)
    return Problem(", ".join(step.words for step in steps), program, cases, depth)


def problems(count: int, seed: int = 0) -> list[Problem]:
    """Tasks for test, all different, as many of each depth until one has no more: of one operation
    there are about 50, of two some thousands, of three some hundred thousands."""
    random = Random(f"problems/{seed}")
    found: dict[str, Problem] = {}
    depths, again = list(range(1, DEPTH + 1)), 0
    while len(found) < count:
        depth = depths[len(found) % len(depths)]
        problem = draw(random, "valid", depth)
        again = again + 1 if problem.words in found else 0
        found.setdefault(problem.words, problem)
        if again == TRIES and len(depths) > 1:
            depths.remove(depth)
    return list(found.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgramText(TextConfig):
    """Prose of `train` with programs in between, as bytes; `valid` and `valid_fraction` mean
    nothing. Document `row` of a part is a pure function of (seed, part, row) and of the prose."""

    documents_train: int = 60_000
    documents_valid: int = 1_000
    seed: int = 0
    prose_share: float = 0.2  # of documents
    bytes: int = 127  # of a document, at most: a row of 128 with the end token before it

    def __post_init__(self) -> None:
        super().__post_init__()
        require(not self.mixture, "programs have their own mixture: set data.mixture=()")
        require_positive(self, "documents_train", "documents_valid", "bytes")
        require(0 <= self.prose_share <= 1, f"prose_share {self.prose_share} must be in 0..1")

    def documents(self, part: Part) -> Iterator[Document]:
        count = self.documents_train if part == "train" else self.documents_valid
        for row in range(count):
            yield Document(f"{part}:{row}", self.document(part, row))

    def document(self, part: Part, row: int) -> str:
        """The text of one document: prose, or as many programs as there is room for."""
        random = Random(f"{self.seed}/{part}/{row}")
        if random.random() < self.prose_share:
            return passage(self.train, part, random, self.bytes)
        text = ""
        while len(text) + len(more := draw(random, part).text) <= self.bytes:
            text += more
        return text

    def made_by_tokenize(self, part: Part) -> Path:
        """The tokens, which are made where they are not there yet."""
        return tokens_of(self, part, "programs", self.documents, self.document)
