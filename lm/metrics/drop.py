"""Scores of DROP, as its own evaluation has them (Dua et al. 2019, section 5).

An answer is one or several spans. Each is compared as a set of words without case, punctuation and
articles, numbers by their value; a span with a number that the answer lacks gets nothing. A text
that a model wrote is one span, as lm-evaluation-harness takes it too.
"""

import re
import string
from collections.abc import Sequence

from lm.metrics.answers import ARTICLES

PUNCTUATION = str.maketrans("", "", string.punctuation)
Spans = Sequence[str]


def drop_exact(answer: str, references: Sequence[Spans]) -> float:
    """Whether the answer is one of the references, word for word."""
    given = normalized(answer)
    return float(any([normalized(span) for span in spans] == [given] for spans in references))


def drop_f1(answer: str, references: Sequence[Spans]) -> float:
    """The best F1 over the references: of several spans, one can be met and the others are not."""
    return max(
        round(max(_overlap(answer, span) for span in spans) / len(spans), 2) for spans in references
    )


def _overlap(answer: str, span: str) -> float:
    """F1 of two sets of words; 0 where the span has numbers of which the answer has none."""
    given, wanted = set(normalized(answer).split()), set(normalized(span).split())
    numbers = {word for word in wanted if is_number(word)}
    if numbers and not numbers & given:
        return 0.0
    if not given and not wanted:
        return 1.0
    shared = len(given & wanted)
    # with one side empty the official precision or recall is 1, and the other 0
    return 2 * shared / (len(given) + len(wanted)) if given and wanted else 0.0


def normalized(text: str) -> str:
    """Words between blanks and hyphens, each in lower case, without punctuation unless it is a
    number, which is written as Python writes a float, and without articles."""
    words = []
    for word in re.split(" |-", text.lower()):
        if not is_number(word):
            word = word.translate(PUNCTUATION)
        word = str(float(word)) if is_number(word) else word
        words += ARTICLES.sub(" ", word).split()
    return " ".join(words)


def is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
