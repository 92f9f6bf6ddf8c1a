"""Scores of answers in words: exact match and F1 of SQuAD.

The definitions are those of SQuAD's own evaluation (Rajpurkar et al. 2016, section 6.1; for
questions without an answer, Rajpurkar et al. 2018, section 5), as fractions. An answer is a
string, "" where the model says that there is none; a reference holds every answer that counts as
right, none where there is none.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from lm.core.errors import DataError

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
References = Sequence[Sequence[str]]
NO_ANSWER = "unanswerable"  # how a model writes that a question has no answer; our choice
NO_ANSWERS = (NO_ANSWER, "not in background")  # and InstructGPT's (Ouyang et al. 2022, figure 20)


def normalized(text: str) -> str:
    """In lower case, without ASCII punctuation, then articles, then surplus white space."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact_match(predictions: Sequence[str], references: References) -> float:
    """The part of the answers that equal a right one when both are normalized."""
    return float(np.mean(_scores(predictions, references, _equal)))


def answer_f1(predictions: Sequence[str], references: References) -> float:
    """The mean over questions of the F1 of words, the best over the right answers."""
    return float(np.mean(_scores(predictions, references, _overlap)))


def answered(text: str) -> str:
    """What a model wrote as an answer: "" where it wrote that there is none."""
    return "" if normalized(text) in NO_ANSWERS else text


def left_out_f1(answer: str, references: Sequence[str]) -> float:
    """The mean over references left out of the best F1 against the others (CoQA, QuAC): people,
    with whom one compares, have one reference fewer than there are."""
    if len(references) == 1:
        return answer_f1([answer], [references])
    each = [answer_f1([answer], [[reference]]) for reference in references]
    return float(np.mean([max(each[:n] + each[n + 1 :]) for n in range(len(each))]))


def has_answer_exact(predictions: Sequence[str], references: References) -> float:
    """`exact_match` over the questions that have an answer; NaN where none has."""
    return _mean(_scores(predictions, references, _equal), _answered(references))


def has_answer_f1(predictions: Sequence[str], references: References) -> float:
    """`answer_f1` over the questions that have an answer; NaN where none has."""
    return _mean(_scores(predictions, references, _overlap), _answered(references))


def no_answer_exact(predictions: Sequence[str], references: References) -> float:
    """The part of the questions without an answer that were left so; NaN where all have one."""
    return _mean(_scores(predictions, references, _equal), ~_answered(references))


def _answered(references: References) -> np.ndarray:
    return np.array([len(right) > 0 for right in references], bool)


def _mean(scores: np.ndarray, chosen: np.ndarray) -> float:
    return float(scores[chosen].mean()) if chosen.any() else math.nan


def _scores(predictions: Sequence[str], references: References, one) -> np.ndarray:
    """The score of each question, the best over its right answers. [N]

    Right answers of which nothing remains when normalized do not count, as in SQuAD 2.0's script;
    1.1's keeps them, and no answer of its data is one.
    """
    if len(predictions) != len(references):
        raise DataError(f"{len(predictions)} answers for {len(references)} questions")
    if not predictions:
        raise DataError("no answers to score")
    scores = []
    for answer, right in zip(predictions, references, strict=True):
        wanted = [text for text in map(normalized, right) if text] or [""]
        scores.append(max(one(normalized(answer), text) for text in wanted))
    return np.array(scores, np.float64)


def _equal(answer: str, right: str) -> float:
    return float(answer == right)


def _overlap(answer: str, right: str) -> float:
    """F1 of the words of two normalized texts, counted as often as they stand in both."""
    given, wanted = answer.split(), right.split()
    if not given or not wanted:
        return float(given == wanted)
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted))
