"""Exact match of TriviaQA, as its own evaluation has it (Joshi et al. 2017).

Where SQuAD's rule drops punctuation, this one has a blank: "rock-n-roll" is "rock n roll".
"""

import string
from collections.abc import Sequence

from lm.metrics.answers import ARTICLES

BLANKS = str.maketrans(dict.fromkeys(string.punctuation + "\u2018\u2019\u00b4`", " "))  # and quotes


def trivia_exact(answer: str, right: Sequence[str]) -> float:
    """Whether the answer equals one of those that are right when both are normalized."""
    return float(normalized(answer) in map(normalized, right))


def normalized(text: str) -> str:
    """In lower case, with blanks for punctuation, then for articles, and no surplus ones."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(BLANKS)).split())
