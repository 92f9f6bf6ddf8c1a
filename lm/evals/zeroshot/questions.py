"""Questions without training, seeded with pairs of question and answer (Radford et al. 2019,
section 3.8).

Answers are greedy and end with the line; exact match is SQuAD's. The report adds the accuracy on
the hundredth of questions whose answers the model holds likeliest: 63.1 for the largest, which has
4.1 over all.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from lm.evals.scorer import Request, Scorer
from lm.evals.zeroshot.figure import Figure, mean
from lm.metrics.answers import exact_match

PAIRS = 5
TOKENS = 24
SURE = 0.01  # the part of the questions that is answered most confidently


@dataclasses.dataclass(frozen=True)
class Asked:
    question: str
    answers: tuple[str, ...]  # each is right


def question_figures(
    scorer: Scorer, items: Sequence[Asked], examples: Sequence[Asked]
) -> list[Figure]:
    """Exact match over all questions, and over the most confident hundredth (at least one)."""
    prompts = [prompt(item.question, examples) for item in items]
    answers = [text.strip() for text in scorer.generate(prompts, TOKENS)]
    right = [
        exact_match([answer], [item.answers]) for answer, item in zip(answers, items, strict=True)
    ]
    told = [n for n, answer in enumerate(answers) if answer]
    scores = scorer.scores([Request(prompts[n], f" {answers[n]}\n") for n in told])
    sure = np.full(len(items), -np.inf)
    sure[told] = [score.log_likelihood for score in scores]
    few = np.argsort(-sure, kind="stable")[: math.ceil(SURE * len(items))]
    return [
        mean("exact_match", right),
        mean("exact_match_sure", [right[n] for n in few]),
    ]


def prompt(question: str, examples: Sequence[Asked]) -> str:
    shown = "".join(f"Q: {asked(one)}\nA: {one.answers[0]}\n" for one in examples)
    return f"{shown}Q: {asked(Asked(question, ()))}\nA:"


def asked(item: Asked) -> str:
    """The question with the mark that Natural Questions leaves out."""
    return item.question if item.question.endswith("?") else f"{item.question}?"
