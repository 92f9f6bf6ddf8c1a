"""BERT's pre-training rows: which instance, with which masks, stands in row `r` of step `s`.

A pure function of (seed, step, row), as in `lm.data.batches`; the instances of a pass lie in a
file (`lm.data.pairs`), and the masks of each are drawn when it is read.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from lm.core.config import require
from lm.core.errors import ConfigError
from lm.data.masking import MaskedBatch, Masks, word_starts
from lm.data.pairs import AROUND, FORMAT, SPAN, InstancesConfig, stored
from lm.data.permutation import mix, permute
from lm.data.sentences import SentenceFile
from lm.text.tokenizer import Tokenizer


class Instances:
    """Training rows of `length` tokens: [CLS] A [SEP] B [SEP] and padding.

    The rows of the run are its passes one after another, each a permutation of its instances;
    after `duplication` passes the first one comes again, with the same pairs and masks in another
    order. A pass is built when its first row is asked for.
    """

    def __init__(
        self,
        text: SentenceFile,
        length: int,
        seed: int,
        config: InstancesConfig,
        tokenizer: Tokenizer,
    ):
        """
        Raises:
          ConfigError: rows too short, or a tokenizer without [CLS], [SEP], [MASK] and padding.
          DataError: text of which no pair can be made.
        """
        require(8 <= length <= 2**16, f"length must be between 8 and 65536 tokens, got {length}")
        missing = [name for name in ("cls", "sep", "mask") if name not in tokenizer.specials]
        if missing or tokenizer.pad is None:
            raise ConfigError(
                f"tokenizer.kind={tokenizer.kind!r} has no {', '.join(missing) or 'pad'}, which "
                "BERT needs; use wordpiece, sentencepiece or bytes"
            )
        self.text, self.length, self.seed, self.config = text, length, seed, config
        self.cls, self.sep = tokenizer.specials["cls"], tokenizer.specials["sep"]
        self.pad = tokenizer.pad
        self.masks = Masks(
            mask_id=tokenizer.specials["mask"],
            vocab_size=tokenizer.vocab_size,
            fraction=config.mask_fraction,
            most=config.predictions(length),
            masked=config.masked,
            kept=config.kept,
            starts_word=word_starts(tokenizer) if config.whole_word else None,
        )
        self.passes = [stored(text, length, config, seed, 0)]

    @property
    def count(self) -> int:
        """Rows of the first pass; the others differ a little, since their pairs are drawn anew."""
        return len(self.passes[0])

    @property
    def cut(self) -> float:
        """The share of the text's tokens that truncation takes out of the first pass."""
        spans = self.passes[0]
        follows = spans["random"] == 0
        shown = spans["a_length"].sum(dtype=int) + spans["b_length"][follows].sum(dtype=int)
        return 1 - float(shown) / (len(self.text.file.tokens) - self.text.documents)

    @property
    def digest(self) -> str:
        """Identity of all rows: text, tokenizer, length, seed and configuration."""
        how = [FORMAT, self.text.digest, self.length, self.seed, dataclasses.astuple(self.config)]
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()

    def __call__(self, first: int, count: int) -> MaskedBatch:
        """Rows `first`, ..., `first + count - 1` of the run."""
        rows = np.arange(first, first + count, dtype=np.int64)
        return self.batch(*self.drawn(rows), rows)

    def origins(self, first: int, count: int) -> list[dict[str, Any]]:
        """Of each of these rows where its one or two texts are from."""
        rows, file = np.arange(first, first + count, dtype=np.int64), self.text.file
        found = []
        for row, span in zip(rows.tolist(), self.drawn(rows)[0], strict=True):
            texts = [
                file.span(int(span[name]), int(span[name]) + int(span[f"{name}_length"]))
                for name in ("a", "b")
                if span[f"{name}_length"]
            ]
            found.append({"row": row, "file": str(file.folder), "texts": texts})
        return found

    def drawn(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The instances of rows [B] int64 as records of `SPAN`, and what their masks are drawn
        from. [B] each"""
        count = len(rows)
        epochs, index = self.locate(rows)
        spans, keys = np.empty(count, SPAN), np.empty(count, np.uint64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            turn = int(epoch) % self.config.duplication
            drawn = permute(index[here], len(self.passes[turn]), self.seed, int(epoch))
            spans[here] = self.passes[turn][drawn]
            keys[here] = self.keys(drawn, turn)
        return spans, keys

    def locate(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The epoch of each row, and its number in it. [B] int64, [B] uint64"""
        while True:
            starts = np.cumsum([0, *map(len, self.passes)])
            built = len(self.passes)
            if built == self.config.duplication or rows.max(initial=0) < starts[-1]:
                break
            self.passes.append(stored(self.text, self.length, self.config, self.seed, built))
        rounds, rest = np.divmod(rows, starts[-1])
        turns = np.searchsorted(starts, rest, side="right") - 1
        return rounds * built + turns, (rest - starts[turns]).astype(np.uint64)

    def in_order(self, rows: int) -> Iterator[MaskedBatch]:
        """Each instance of the first pass once, in the order of the text, for held-out text.

        Batches have `rows` rows; those that fill up the last one have no token that counts.
        """
        spans = self.passes[0]
        for first in range(0, len(spans), rows):
            some = np.arange(first, first + rows)
            there = some < len(spans)
            kept = np.where(there, some, 0)
            batch = self.batch(spans[kept], self.keys(kept.astype(np.uint64), 0), some)
            mask, next_mask = batch.mask & there[:, None], batch.next_mask & there
            yield dataclasses.replace(batch, mask=mask, next_mask=next_mask)

    def keys(self, index: np.ndarray, turn: int) -> np.ndarray:
        """What the masks of each instance are drawn from. [B] uint64"""
        return mix(index, int(mix(np.array([turn], np.uint64), self.seed)[0]))

    def batch(self, spans: np.ndarray, keys: np.ndarray, rows: np.ndarray) -> MaskedBatch:
        count, length, flat = len(spans), self.length, self.text.file.tokens
        a, b = spans["a_length"].astype(np.int64), spans["b_length"].astype(np.int64)
        tokens = np.full((count, length), self.pad, np.int32)
        tokens[:, 0] = self.cls
        starts = zip(spans["a"].tolist(), a.tolist(), spans["b"].tolist(), b.tolist(), strict=True)
        for row, (at, size, then, more) in zip(tokens, starts, strict=True):
            row[1 : size + 1] = flat[at : at + size]
            row[size + 2 : size + 2 + more] = flat[then : then + more]
        every = np.arange(count)
        used = a + b + AROUND[self.config.pairs]
        tokens[every, a + 1] = tokens[every, used - 1] = self.sep
        column = np.arange(length)
        valid = column < used[:, None]
        words = (
            valid & (column > 0) & (column != (a + 1)[:, None]) & (column != (used - 1)[:, None])
        )
        segments = (valid & (column > (a + 1)[:, None])).astype(np.int32)
        if self.config.objective == "masked":
            seen, positions, targets, mask = self.masks(tokens, words, used, keys)
        else:
            seen, mask = tokens, np.roll(valid, -1, axis=1)
            mask[:, -1] = False
            positions = np.tile(column.astype(np.int32), (count, 1))
            targets = np.where(mask, np.roll(tokens, -1, axis=1), 0)
        return MaskedBatch(
            tokens=seen,
            segments=segments,
            valid=valid,
            positions=positions,
            targets=targets,
            mask=mask,
            next=spans["random"].astype(np.int32),
            next_mask=np.full(count, self.config.pairs),
            rows=rows.astype(np.uint32),
        )
