"""GPT-1's input for each kind of task: its "traversal-style" transformations.

    a text              <s> text <e>
    a pair              <s> premise $ hypothesis <e>
    a similarity        <s> text $ pair <e>, and <s> pair $ text <e>: two candidates
    a choice            <s> context question $ answer <e>      for each answer

(Radford et al. 2018, section 3.3 and figure 1.) The head reads the last token, `<e>`. Every token
that has a successor counts in the auxiliary loss of the language model, up to `<e>` itself
(train.py of openai/finetune-transformer-lm, whose mask is that of all real tokens).
"""

import dataclasses
from collections.abc import Sequence

from lm.core.config import require
from lm.core.errors import ConfigError
from lm.data.features import Candidate, Counts, Encoded, pack, padded
from lm.data.records import Choice, Record
from lm.data.sides import Sided, Sides, keep_question, labels, require_one_kind, sides
from lm.text.interface import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Specials:
    """The three ids that fine-tuning adds."""

    start: int
    delimiter: int
    classify: int

    @classmethod
    def after(cls, vocab: int) -> "Specials":
        """The ids that follow a vocabulary, in the order of the released code."""
        return cls(start=vocab, delimiter=vocab + 1, classify=vocab + 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpt1Features:
    """How long rows are, and whether the two texts of a pair have an order."""

    length: int = 512  # tokens, specials included
    both_orders: bool = False  # similarity (MRPC, STS-B, QQP): the model adds both final vectors

    def __post_init__(self) -> None:
        require(self.length >= 8, f"length {self.length} holds no pair: set at least 8")

    @property
    def side(self) -> int:
        """Tokens that are kept of each side of a pair (train.py)."""
        return self.length // 2 - 2


def encode(
    records: Sequence[Record], tokenizer: Tokenizer, config: Gpt1Features, specials: Specials
) -> Encoded:
    """All items of a set.

    A side of a pair is cut at its end to `length // 2 - 2` tokens, but of a choice's first side
    the context goes before the question does; a text alone may fill the row (our choice: the
    released code has pairs only).

    Raises:
      ConfigError: both orders of something that is no pair; spans or tags, which GPT-1 has not.
      DataError: no items, items of several kinds, a label that is none.
    """
    require_one_kind(records)
    sided = [record for record in records if isinstance(record, Sided)]
    if not sided:
        raise ConfigError(
            f"GPT-1 has no transformation for a {type(records[0]).__name__}: use BERT for it"
        )
    label = labels(sided)
    rows, truncated, cut, empty = [], 0, 0, 0
    for record, item in zip(sided, sides(sided, tokenizer), strict=True):
        if config.both_orders:
            row, lost = _both_orders(record, item, config, specials)
        else:
            row, lost = _one_order(item, config, specials)
        truncated, cut, empty = truncated + (lost > 0), cut + lost, empty + item.empty
        rows.append(row)
    width = padded(max(len(c.ids) for row in rows for c in row), config.length)
    return Encoded(
        rows=pack(rows, label, range(len(rows)), width=width, pad=tokenizer.pad, lm=True),
        counts=Counts(items=len(rows), rows=len(rows), truncated=truncated, cut=cut, empty=empty),
    )


def _one_order(
    item: Sides, config: Gpt1Features, specials: Specials
) -> tuple[list[Candidate], int]:
    row, lost = [], 0
    full = len(item.context) + len(item.question)
    for second in item.seconds:
        room = config.length - 2 if second is None else config.side
        first = keep_question(item.context, item.question, room)
        lost += full - len(first)
        body = [specials.start, *first]
        if second is not None:
            body += [specials.delimiter, *second[: config.side]]
            lost += max(0, len(second) - config.side)
        row.append(Candidate([*body, specials.classify], len(body) + 1, len(body)))
    return row, lost


def _both_orders(
    record: Sided, item: Sides, config: Gpt1Features, specials: Specials
) -> tuple[list[Candidate], int]:
    (second,) = item.seconds if len(item.seconds) == 1 else (None,)
    if second is None or isinstance(record, Choice):
        raise ConfigError(
            f"both_orders=True, and item {record.id} is no pair of texts: set both_orders=False"
        )
    turned = Sides(second, [], [item.context])
    here, lost = _one_order(item, config, specials)
    there, again = _one_order(turned, config, specials)
    return [*here, *there], lost + again
