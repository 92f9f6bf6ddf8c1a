"""Answers about images beside controls that must break them: black images, another example's, and
no image at all but the likeliest answer; of a conversation its newest question alone."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from lm.core.errors import DataError
from lm.data.visual import Example
from lm.data.visual.example import Said
from lm.decode.images import ImageGenerator
from lm.evals.visual import answer, longest, score
from lm.text.tokenizer import Tokenizer


def outcomes(
    seer: ImageGenerator, tokenizer: Tokenizer, examples: Sequence[Example]
) -> list[dict[str, Any]]:
    """What came of each example: its answer, how right that is, and how right under `black` and
    `others` images and, where it follows others, `alone`; or why it is `unread`.

    Raises:
      DataError: an example that does not fit the context, or no example can be read.
    """
    side, room = seer.config.vision.image, seer.config.text.length
    tokens = min(room // 2, longest(examples, tokenizer))
    right = answer(seer, tokenizer, examples, tokens)
    valid = right.examples  # those that can be read

    def black(number: int) -> np.ndarray:
        return np.zeros((len(valid[number].pictures), side, side, 3), np.uint8)

    def others(number: int) -> np.ndarray:
        """The images of another example, which shows none of the same; black ones where all do."""
        mine = set(map(repr, valid[number].pictures))
        for step in range(len(valid)):
            other = (number + len(valid) // 2 + step) % len(valid)
            if not mine & set(map(repr, valid[other].pictures)):
                break
        else:
            return black(number)
        found = [picture.pixels(side) for picture in valid[other].pictures]
        return np.stack((found * len(valid[number].pictures))[: len(valid[number].pictures)])

    told: list[dict[str, Any]] = [
        {"answer": said, "score": value}
        for said, value in zip(right.answers, right.scores.tolist(), strict=True)
    ]
    for name, shown in (("black", black), ("others", others)):
        broken = answer(seer, tokenizer, valid, tokens, shown).scores.tolist()
        for row, value in zip(told, broken, strict=True):
            row[name] = value
    places = [n for n, one in enumerate(valid) if any(isinstance(p, Said) for p in one.parts)]
    if places:
        alone = answer(seer, tokenizer, [newest(valid[n]) for n in places], tokens)
        for place, value in zip(places, alone.scores.tolist(), strict=True):
            told[place]["alone"] = value
    read, why = {id(one) for one in valid}, iter(right.unread)
    rows = iter(told)
    return [next(rows) if id(one) in read else {"unread": next(why)} for one in examples]


def newest(example: Example) -> Example:
    """A conversation's last question alone."""
    said = [place for place, part in enumerate(example.parts) if isinstance(part, Said)]
    parts = example.parts[said[-1] + 1 :] if said else example.parts
    return dataclasses.replace(example, parts=parts)


def prior(train: Sequence[Example], valid: Sequence[Example]) -> float:
    """What the likeliest answer to the same question gets, or to any where it was never asked."""
    by_question: dict[str, Counter[str]] = {}
    overall: Counter[str] = Counter()
    for one in train:
        by_question.setdefault(one.question, Counter())[one.answers[0]] += 1
        overall[one.answers[0]] += 1
    said = [
        by_question.get(one.question, overall).most_common(1)[0][0] if overall else ""
        for one in valid
    ]
    return float(np.mean([score(guess, one) for guess, one in zip(said, valid, strict=True)]))


def digest(examples: Sequence[Example], side: int) -> str:
    """Of all that outcomes depend on but the model: the texts, the pixels, and which cannot be
    read."""
    told = hashlib.sha256()
    for one in examples:
        told.update(repr((one.id, one.answers, one.match, one.kind)).encode())
        for part in one.parts:
            if isinstance(part, str):
                told.update(repr((type(part).__name__, str(part))).encode())
                continue
            try:
                told.update(part.pixels(side).tobytes())
            except DataError as error:
                told.update(str(error).encode())
    return told.hexdigest()[:12]
