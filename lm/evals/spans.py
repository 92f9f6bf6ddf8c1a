"""Answers in a passage, from the logits of a span task (Devlin et al. 2018, sections 4.2 and 4.3).

The best spans of all windows are brought together, each token counted in the window that shows
most around it, and its characters are found again in the passage as it was written. The released
code (run_squad.py) pairs the 20 best starts with the 20 best ends and then drops what is not
allowed; here the allowed spans are ranked, so that none is missed.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from lm.core.config import require_positive
from lm.core.errors import DataError
from lm.data.features import Encoded
from lm.data.passages import Passage, PassageRows
from lm.text.interface import Tokenizer

NEVER = -1e9  # a threshold below all odds; JSON has no -inf


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanSearch:
    """Which spans are looked at. The values are those of the released code."""

    best: int = 20  # answers that are kept for each item
    longest: int = 30  # tokens of an answer
    null: bool = False  # no answer is an answer too (SQuAD 2.0)

    def __post_init__(self) -> None:
        require_positive(self, "best", "longest")


@dataclasses.dataclass(frozen=True)
class Guess:
    """One answer: "" is that there is none."""

    text: str
    score: float  # start logit + end logit
    probability: float  # among the guesses of the item


@dataclasses.dataclass(frozen=True)
class SpanGuesses:
    """What a model answers to one item."""

    id: str
    text: str  # the best answer that is one
    null_odds: float  # score of no answer, less that of `text`
    guesses: tuple[Guess, ...]  # the best first


def search_spans(
    start: np.ndarray,  # [N T]
    end: np.ndarray,  # [N T]
    encoded: Encoded,
    tokenizer: Tokenizer,
    search: SpanSearch,
) -> list[SpanGuesses]:
    """The best answers to each item, from the logits of all rows in order.

    A span begins at a token of the passage that no other row shows with more around it, ends in
    the same row at that token or after, and has at most `longest` tokens. The score of no answer
    is the least that a row of the item gives [CLS] as start and end.

    Raises:
      DataError: logits of another shape than the rows, or not finite.
    """
    rows, places = encoded.rows, encoded.passages
    shape = (len(rows.mask), rows.tokens.shape[-1])
    if places is None or start.shape != shape or end.shape != shape:
        raise DataError(
            f"logits {start.shape} and {end.shape} are not those of {shape[0]} rows of {shape[1]} "
            "tokens of a span task: cut the rows that filled the last batch, and put none aside"
        )
    if not (np.isfinite(start).all() and np.isfinite(end).all()):
        raise DataError("a logit is not finite: the run has diverged")
    start, end = start.astype(np.float64), end.astype(np.float64)
    edges = np.searchsorted(rows.example, np.arange(len(places.ids) + 1))
    return [
        _search_item(
            item, np.arange(*edges[item : item + 2]), start, end, places, tokenizer, search
        )
        for item in range(len(places.ids))
    ]


def _search_item(
    item: int,
    rows: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    places: PassageRows,
    tokenizer: Tokenizer,
    search: SpanSearch,
) -> SpanGuesses:
    scores = np.stack([_scores(row, start[row], end[row], places, search) for row in rows])
    null = float((start[rows, 0] + end[rows, 0]).min())
    found: dict[str, float] = {}  # the first of equal texts has the highest score
    for score, (window, begin, more) in _ranked(scores, 2 * search.best):
        if len(found) == search.best:
            break
        row = rows[window]
        first = begin - places.begin[row] + places.first[row]
        text = text_of(places.passages[item], first, first + more, tokenizer)
        found.setdefault(text, score)
    (text, score), *_ = found.items()
    if search.null:
        found[""] = null
    ordered = sorted(found.items(), key=lambda pair: -pair[1])
    weights = np.exp(np.array([value for _, value in ordered]) - ordered[0][1])
    return SpanGuesses(
        places.ids[item],
        text,
        null - score,
        tuple(
            Guess(text, value, float(weight))
            for (text, value), weight in zip(ordered, weights / weights.sum(), strict=True)
        ),
    )


def _scores(
    row: int, start: np.ndarray, end: np.ndarray, places: PassageRows, search: SpanSearch
) -> np.ndarray:
    """Scores of the spans of a row by first token and tokens after it, -inf: not allowed. [T S]"""
    first, last = places.begin[row], places.begin[row] + places.size[row]
    ends = np.full(len(end) + search.longest, -np.inf)
    ends[first:last] = end[first:last]
    starts = np.where(places.best[row], start, -np.inf)
    return starts[:, None] + np.lib.stride_tricks.sliding_window_view(ends, search.longest)[:-1]


def _ranked(scores: np.ndarray, some: int) -> Iterator[tuple[float, tuple[int, ...]]]:
    """Score and index of what is allowed, the highest first; all are sorted only if asked for."""
    flat = scores.ravel()
    allowed = np.flatnonzero(flat > -np.inf)
    values, above = flat[allowed], np.inf
    while above > -np.inf:
        least = np.partition(values, -some)[-some] if some < len(values) else -np.inf
        index = allowed[(values >= least) & (values < above)]
        for i in index[np.argsort(-flat[index], kind="stable")]:
            yield float(flat[i]), tuple(map(int, np.unravel_index(i, scores.shape)))
        above, some = least, 8 * some


def text_of(passage: Passage, first: int, last: int, tokenizer: Tokenizer) -> str:
    """What the passage says, as it was written, at its tokens `first` to `last`."""
    words = int(passage.word[first]), int(passage.word[last])
    begin, end = passage.span(*words)
    original = passage.text[passage.bounds[words[0], 0] : passage.bounds[words[1], 1]]
    before, predicted, after = (
        tokenizer.decode(passage.tokens[a:b])
        for a, b in ((begin, first), (first, last + 1), (last + 1, end))
    )
    return realign(original, before, predicted, after)


def realign(original: str, before: str, predicted: str, after: str) -> str:
    """The characters of `original` that `predicted` stands for, or all of them.

    The three others are what a tokenizer made of `original`, cut where the prediction begins and
    ends. Where they have as many characters as it has, blanks aside, they are one for one ("steve
    smith" and "' s" of "Steve Smith's"); where they have not, the words are given whole
    (run_squad.py, get_final_text).
    """
    kept = [i for i, character in enumerate(original) if not character.isspace()]
    sizes = [len("".join(part.split())) for part in (before, predicted, after)]
    if sum(sizes) != len(kept) or not sizes[1]:
        return original
    return original[kept[sizes[0]] : kept[sizes[0] + sizes[1] - 1] + 1]


def best_threshold(
    null_odds: np.ndarray, answered: np.ndarray, unanswered: np.ndarray
) -> tuple[float, float]:
    """Above which `null_odds` to give no answer, for the best mean score; that score as well.

    `answered` and `unanswered` are the scores of each item (EM or F1) for its text and for "".
    Items of equal odds go together. NEVER is never to answer (evaluate-v2.0.py, find_best_thresh,
    which says 0 for it). To be found on a dev set, and used on another. Each array is [N].
    """
    order = np.argsort(null_odds, kind="stable")
    odds = null_odds[order]
    gains = np.cumsum((answered - unanswered)[order].astype(np.float64))
    whole = np.append(odds[1:] != odds[:-1], True)  # the last of those that are equal
    scores = np.append(0.0, gains[whole]) + unanswered.sum()
    best = int(np.argmax(scores))
    thresholds = np.append(NEVER, odds[whole])
    return float(thresholds[best]), float(scores[best] / len(odds))


def predictions(found: Sequence[SpanGuesses], threshold: float | None) -> dict[str, str]:
    """The text for each item's id, "" where `null_odds` are above the threshold; None: never."""
    return {
        item.id: "" if threshold is not None and item.null_odds > threshold else item.text
        for item in found
    }
