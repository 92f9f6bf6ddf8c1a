"""A gap filled by the candidate that makes the text likeliest: CBT and Winograd schemas.

Children's Book Test (Hill et al. 2016; Radford et al. 2019, section 3.2): twenty sentences, then
one with a gap and ten candidates. Each is put in, and the candidate with the rest of its sentence
is scored, after the Penn Treebank's marks are written as people write. The validation split is
used, since a book of the test split is in WebText.

Winograd schemas (section 3.4, after Trinh and Le 2018): the pronoun is replaced by each of two
candidates. "full" takes the likelier of the whole texts, "partial" the one after which the rest is
likelier.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from lm.core.errors import DataError
from lm.data.tasks.rows import Problem, lines
from lm.evals.scorer import Request, Scorer
from lm.evals.zeroshot.figure import Figure, ratio_of
from lm.metrics.spread import by_group
from lm.text.detokenizer import CBT

GAP = "XXXXX"
SENTENCES = 20


@dataclasses.dataclass(frozen=True)
class Question:
    """One question of the CBT."""

    context: str
    sentence: str  # with GAP in it
    candidates: tuple[str, ...]
    right: int


@dataclasses.dataclass(frozen=True)
class Schema:
    """A Winograd schema: each context has one candidate in the place of the pronoun."""

    contexts: tuple[str, ...]
    rest: str
    right: int


def read_cbt(path: Path) -> list[Question]:
    """Questions of `cbtest_CN_valid_2000ex.txt` and its kind.

    Lines begin with their number from 1 to 21; the last has the sentence, the answer, and the
    candidates with bars between, all between tabs; a blank line follows.

    Raises:
      DataError: with file and line, where a line is not of that form.
    """
    return list(_questions(path, lines(path)))


def _questions(path: Path, numbered: Iterable[tuple[int, str | Problem]]) -> Iterator[Question]:
    context: list[str] = []
    for at, line in numbered:
        if isinstance(line, Problem):
            raise DataError(str(line))
        if not line.strip():
            continue
        where = f"{path}:{at}"
        number, _, text = line.partition(" ")
        if number != str(len(context) + 1):
            raise DataError(f"{where}: line {len(context) + 1} of a question begins {number!r}")
        if len(context) < SENTENCES:
            context.append(text)
            continue
        cells = [cell for cell in text.split("\t") if cell.strip()]
        candidates = tuple(cells[-1].split("|")) if len(cells) == 3 else ()
        if len(cells) != 3 or cells[0].count(GAP) != 1 or cells[1] not in candidates:
            raise DataError(
                f"{where}: expected a sentence with one {GAP}, an answer and candidates that have "
                "it, between tabs"
            )
        yield Question(" ".join(context), cells[0], candidates, candidates.index(cells[1]))
        context = []
    if context:
        raise DataError(f"{path}: the last question has {len(context)} of {SENTENCES + 1} lines")


def cbt_requests(question: Question) -> list[Request]:
    """What is scored: the candidate and the rest of its sentence, after all that stands before.

    Texts are written first and cut then, at the last blank before they part, since a candidate may
    be written against the word before it.
    """
    texts = [
        CBT.write(f"{question.context} {question.sentence.replace(GAP, candidate)}")
        for candidate in question.candidates
    ]
    before = os.path.commonprefix(texts).rpartition(" ")[0]
    return [Request(before, text[len(before) :]) for text in texts]


def cbt_figures(scorer: Scorer, questions: Sequence[Question]) -> list[Figure]:
    groups = [cbt_requests(question) for question in questions]
    return [chosen("accuracy", scorer, groups, [question.right for question in questions])]


def winograd_figures(scorer: Scorer, schemas: Sequence[Schema]) -> list[Figure]:
    """Twins, whose contexts are the same, are one part of the sample in the errors."""
    right = [schema.right for schema in schemas]
    full = [
        [Request("", f"{context} {schema.rest}") for context in schema.contexts]
        for schema in schemas
    ]
    partial = [
        [Request(context, f" {schema.rest}") for context in schema.contexts] for schema in schemas
    ]
    twins = ["\n".join(sorted(schema.contexts)) for schema in schemas]
    return [
        chosen("accuracy_full", scorer, full, right, twins),
        chosen("accuracy_partial", scorer, partial, right, twins),
    ]


def chosen(
    metric: str, scorer: Scorer, groups: Sequence[Sequence[Request]], right: Sequence[int],
    parts: Sequence[str] = (),
) -> Figure:  # fmt: skip
    """The share of groups whose likeliest request is the right one.

    Args:
      parts: what a group is of, which varies together in the error; (): each stands alone.
    """
    scores = iter(scorer.scores([request for group in groups for request in group]))
    found, cut = np.zeros(len(groups)), 0
    for number, (group, index) in enumerate(zip(groups, right, strict=True)):
        some = [next(scores) for _ in group]
        values = [score.log_likelihood for score in some]
        found[number] = values.index(max(values)) == index
        cut += any(score.truncated for score in some)
    parts = parts or [""] * len(groups)
    figure = ratio_of(
        metric, by_group(found, parts).tolist(), by_group(np.ones(len(groups)), parts).tolist()
    )
    return dataclasses.replace(figure, items=len(groups), cut=cut)
