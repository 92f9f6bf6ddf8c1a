"""When a text that a model wrote is right: by metric, of each way to compare.

words      SQuAD's own: without case, punctuation and articles (lm/metrics/answers.py)
squad2     the same, where an answer may be that there is none: right or wrong, not in part
verbatim   only blanks around are no matter: of numbers the sign counts
left_out   CoQA's and QuAC's F1: the mean over references left out
trivia     TriviaQA's own: of punctuation blanks remain (lm/metrics/triviaqa.py)
drop       DROP's (lm/metrics/drop.py), against the item's `answers`
number     GSM8K's: the number after "####" (lm/metrics/final_number.py)
bleu       a translation, scored with all others of the set (lm/metrics/bleu.py)
bleu_intl  the same over international tokens
rouge      a summary, of sentences (lm/metrics/rouge.py)
noun       whether it names a noun, against whether that noun is meant
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from lm.data.prose import sentences
from lm.metrics.answers import answer_f1, answered, exact_match, left_out_f1, normalized
from lm.metrics.bleu import Tokens, bleu
from lm.metrics.drop import drop_exact, drop_f1
from lm.metrics.final_number import same_number
from lm.metrics.rouge import rouge
from lm.metrics.triviaqa import trivia_exact

Compare = Literal[
    "words", "squad2", "verbatim", "left_out", "trivia", "drop", "number", "bleu", "bleu_intl",
    "rouge", "noun",
]  # fmt: skip


def named(text: str, noun: str) -> bool:
    """Whether a text that was written has all words of the noun, or the noun has all of its."""
    said, meant = (set(normalized(words).split()) for words in (text, noun))
    return bool(said and meant) and (said <= meant or meant <= said)


def as_meant(text: str, answers: Sequence[Sequence[str]]) -> float:
    """Whether the text names the noun if that is meant, and does not if not, of which any other
    text is right too. The answers are the noun, and "true" or "false"."""
    (noun,), (label,) = answers
    return float(named(text, noun) == (label == "true"))


def rouge_l(text: str, summaries: Sequence[str]) -> float:
    """Against the nearest of several summaries."""
    given = list(sentences(text))
    return max(rouge(given, list(sentences(summary)))["rougeL"] for summary in summaries)


TOKENS: dict[Compare, Tokens] = {"bleu": "13a", "bleu_intl": "intl"}  # of BLEU
SCORES: dict[Compare, dict[str, Callable[[str, Any], float]]] = {  # of what is right, as text
    "words": {
        "exact_match": lambda text, right: exact_match([text], [right]),
        "answer_f1": lambda text, right: answer_f1([text], [right]),
    },
    "squad2": {
        "exact_match": lambda text, right: exact_match([answered(text)], [[*map(answered, right)]]),
        "answer_f1": lambda text, right: answer_f1([answered(text)], [[*map(answered, right)]]),
    },
    "verbatim": {"exact_match": lambda text, right: float(text in right)},
    "left_out": {"answer_f1": left_out_f1},
    "trivia": {"exact_match": trivia_exact},
    "drop": {"exact_match": drop_exact, "answer_f1": drop_f1},
    "number": {"exact_match": lambda text, right: float(same_number(text, right[0]))},
    "bleu": {"bleu": lambda text, right: bleu([text], right[:1])[0]},
    "bleu_intl": {"bleu": lambda text, right: bleu([text], right[:1], tokens="intl")[0]},
    "rouge": {"rougeL": rouge_l},
    "noun": {"accuracy": as_meant},
}
