"""BERT's input for tagged words: sentences or whole documents, in windows where they are longer.

(Devlin et al. 2018, section 5.3.) No word is cut off, and each is labelled in one row.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lm.core.errors import DataError
from lm.data.bert_layout import BertFeatures, delimiters
from lm.data.features import Candidate, Counts, Encoded, pack, padded
from lm.data.passages import WordRows, encode_words, owners, windows
from lm.data.records import Tagging
from lm.data.sides import NONE
from lm.text.interface import Tokenizer


class _Row(NamedTuple):
    ids: list[int]
    heads: list[tuple[int, int, int]]  # a labelled position, and the item and word it is of


def encode_tags(records: Sequence[Tagging], tokenizer: Tokenizer, config: BertFeatures) -> Encoded:
    """Tagged words: the label of each stands at its first token, once among all rows.

    Consecutive items of one document are joined, and each word is labelled in the window that shows
    most of the document around it: the "maximal document context" of section 5.3. An item that
    names no document stands alone, and with `config.documents=False` every one does.

    Raises:
      DataError: not one tag a word, a tag below 0, no token in the whole set.
    """
    _check(records)
    names = [
        (record.document if config.documents else None) or number
        for number, record in enumerate(records)
    ]
    cls, sep = delimiters(tokenizer)
    groups = [
        [(item, word) for item, _ in group for word in range(len(records[item].words))]
        for _, group in itertools.groupby(enumerate(names), key=lambda pair: pair[1])
    ]
    texts = [[records[item].words[word] for item, word in group] for group in groups]
    rows: list[_Row] = []
    for group, pieces in zip(groups, encode_words(tokenizer, texts), strict=True):
        rows += _windows(group, pieces, config)
    if not rows:
        raise DataError("no word of the set gives a token: check the tokenizer and the set")
    width = padded(max(map(len, (row.ids for row in rows))) + 2, config.length)
    label, items, words = np.full((3, len(rows), width), NONE, np.int32)
    for row, (_, heads) in enumerate(rows):
        for place, item, word in heads:
            tags = records[item].label
            label[row, place] = NONE if tags is None else tags[word]
            items[row, place], words[row, place] = item, word
    return Encoded(
        rows=pack(
            [[Candidate([cls, *ids, sep], len(ids) + 2, 0)] for ids, _ in rows],
            label,
            [heads[0][1] for _, heads in rows],
            width=width,
            pad=tokenizer.pad,
        ),
        counts=Counts(
            items=len(records),
            rows=len(rows),
            empty=sum(not record.words for record in records),
            lost=sum(len(record.words) for record in records) - int((items >= 0).sum()),
        ),
        words=WordRows(tuple(len(record.words) for record in records), items, words),
    )


def _windows(
    group: list[tuple[int, int]], pieces: list[list[int]], config: BertFeatures
) -> list[_Row]:
    """The windows over the words of a document that label one; none where no word has a token."""
    tokens = list(itertools.chain.from_iterable(pieces))
    starts = itertools.accumulate(map(len, pieces), initial=0)
    heads = [(start, *name) for start, ids, name in zip(starts, pieces, group, strict=False) if ids]
    seen = windows(len(tokens), config.length - 2, config.stride)
    owner = owners(seen, len(tokens))
    rows = []
    for number, (first, size) in enumerate(seen):
        here = [(t - first + 1, item, word) for t, item, word in heads if owner[t] == number]
        if here:
            rows.append(_Row(tokens[first : first + size], here))
    return rows


def _check(records: Sequence[Tagging]) -> None:
    for record in records:
        tags = record.label
        if tags is not None and (len(tags) != len(record.words) or min(tags, default=0) < 0):
            raise DataError(
                f"item {record.id}: {len(record.words)} words have the tags {list(tags)}, which "
                "are not one index a word"
            )
