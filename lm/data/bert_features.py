"""BERT's input for each kind of task (Devlin et al. 2018, section 4; run_classifier.py).

    a text              [CLS] text [SEP]
    a pair              [CLS] text [SEP] pair [SEP]              the second in segment 1
    a choice            [CLS] context question [SEP] answer [SEP]      for each answer
    a span              [CLS] question [SEP] passage [SEP]      for each window of the passage
    tagged words        [CLS] words [SEP]                       for each window of them

The head of the first three reads [CLS], that of the others every token.
"""

import dataclasses
from collections.abc import Sequence

from lm.core.config import require, require_positive
from lm.core.errors import ConfigError
from lm.data.features import Candidate, Counts, Encoded, pack, padded
from lm.data.records import Record
from lm.data.sides import (
    Sided,
    Sides,
    keep_question,
    labels,
    longest_first,
    require_one_kind,
    sides,
)
from lm.text.interface import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertFeatures:
    """How long rows are, in tokens. The values are those of the released code."""

    length: int = 128  # specials included; 384 for SQuAD
    question: int = 64  # a question about a passage is cut to this
    stride: int = 128  # from one window of a passage to the next
    multiple: int = 8  # rows are as wide as the longest, up to a multiple of this; 0: as `length`

    def __post_init__(self) -> None:
        require_positive(self, "length", "question", "stride")
        require(self.multiple >= 0, f"multiple must not be negative, got {self.multiple}")
        require(self.length >= 8, f"length {self.length} holds no pair: set at least 8")


def encode(records: Sequence[Record], tokenizer: Tokenizer, config: BertFeatures) -> Encoded:
    """All items of a set, of whichever kind they are.

    Raises:
      ConfigError: the tokenizer has no [CLS] and [SEP].
      DataError: no items, items of several kinds, a label that is none.
    """
    require_one_kind(records)
    sided = [record for record in records if isinstance(record, Sided)]
    return encode_sides(sided, tokenizer, config)


def encode_sides(records: Sequence[Sided], tokenizer: Tokenizer, config: BertFeatures) -> Encoded:
    """Texts, pairs and choices, a pair cut "longest first". What goes of a choice's first side is

    the end of the context, before anything of the question.
    """
    cls, sep = delimiters(tokenizer)
    label = labels(records)
    rows, truncated, cut, empty = [], 0, 0, 0
    for item in sides(records, tokenizer):
        row = [_candidate(item, second, cls, sep, config.length) for second in item.seconds]
        full = len(item.context) + len(item.question) + 2
        lost = sum(
            full + (0 if second is None else len(second) + 1) - len(candidate.ids)
            for second, candidate in zip(item.seconds, row, strict=True)
        )
        truncated, cut, empty = truncated + (lost > 0), cut + lost, empty + item.empty
        rows.append(row)
    width = padded(max(len(c.ids) for row in rows for c in row), config.length, config.multiple)
    return Encoded(
        rows=pack(rows, label, range(len(rows)), width=width, pad=tokenizer.pad),
        counts=Counts(items=len(rows), rows=len(rows), truncated=truncated, cut=cut, empty=empty),
    )


def _candidate(item: Sides, second: list[int] | None, cls: int, sep: int, length: int) -> Candidate:
    full = len(item.context) + len(item.question)
    if second is None:
        ids = [cls, *keep_question(item.context, item.question, length - 2), sep]
        return Candidate(ids, len(ids), 0)
    first, other = longest_first(full, len(second), length - 3)
    body = [cls, *keep_question(item.context, item.question, first), sep]
    return Candidate([*body, *second[:other], sep], len(body), 0)


def delimiters(tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids of [CLS] and [SEP]; ConfigError where the vocabulary has none."""
    for name in ("cls", "sep"):
        if name not in tokenizer.specials:
            raise ConfigError(
                f"a {tokenizer.kind} vocabulary has no special {name!r}, which BERT's input needs: "
                "set tokenizer.kind to wordpiece, sentencepiece or bytes"
            )
    return tokenizer.specials["cls"], tokenizer.specials["sep"]
