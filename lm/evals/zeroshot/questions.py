"""Questions without training, seeded with pairs of question and answer (Radford et al. 2019,
section 3.8).

Answers are greedy and end with the line; exact match is SQuAD's. The report adds the accuracy on
the hundredth of questions whose answers the model holds likeliest: 63.1 for the largest, which has
4.1 over all. The form of the pairs is our choice, as is their number.
"""

import math
from collections.abc import Sequence

import numpy as np

from lm.evals.incontext import Item, Style, fit
from lm.evals.scorer import Request, Scorer
from lm.evals.zeroshot.figure import Figure, mean
from lm.evals.zeroshot.prompts import counted, written
from lm.metrics.answers import exact_match

PAIRS = 5
TOKENS = 24
SURE = 0.01  # the part of the questions that is answered most confidently
LINES = Style(between="\n")


def question(text: str, answers: Sequence[str]) -> Item:
    """Natural Questions leave out the question mark; here it is written."""
    mark = "" if text.endswith("?") else "?"
    return Item(
        contexts=(f"Q: {text}{mark}\nA:",), completions=tuple(f" {answer}" for answer in answers)
    )


def question_figures(
    scorer: Scorer, items: Sequence[Item], examples: Sequence[Item]
) -> list[Figure]:
    """Exact match over all questions, and over the most confident hundredth (at least one).

    Raises:
      DataError: nothing fits the context.
    """
    prompts = (
        fit(item, examples, LINES, scorer.tokenizer, length=scorer.length, answer=TOKENS)
        for item in items
    )
    asked = written(scorer, prompts, TOKENS)
    answers = [text.strip() for _, text in asked]
    right = [
        exact_match([answer], [prompt.item.completions])
        for answer, (prompt, _) in zip(answers, asked, strict=True)
    ]
    told = [n for n, answer in enumerate(answers) if answer]
    scores = scorer.scores([Request(asked[n][0].contexts[0], f" {answers[n]}\n") for n in told])
    sure = np.full(len(asked), -np.inf)
    sure[told] = [score.log_likelihood for score in scores]
    few = np.argsort(-sure, kind="stable")[: math.ceil(SURE * len(asked))]
    figures = [mean("exact_match", right), mean("exact_match_sure", [right[n] for n in few])]
    return counted(figures, asked, len(items))
