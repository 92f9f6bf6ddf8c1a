"""BERT's pre-training rows: pairs of segments of real text, half of them torn apart.

An instance is five numbers: where A and B begin in the token file, how long each is, and whether
B is from another document. Putting unused sentences back makes the next instance depend on the
last, so the instances of each pass over the text are built once, into a memory-mapped file:

    <sentences>/instances-<key>/spans.bin       records of `SPAN`
    <sentences>/instances-<key>/manifest.json   their number and digest

From there on row `r` of step `s` is a pure function of (seed, step, row), as in `lm.data.batches`.
"""

import bisect
import dataclasses
import hashlib
import json
import math
import random
import shutil
import tempfile
import time
import zlib
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from lm.core.config import require, require_positive
from lm.core.errors import ConfigError, DataError
from lm.data.batches import mix, permute
from lm.data.masking import MaskedBatch, Masks, word_starts
from lm.data.sentences import SentenceFile
from lm.data.tokens import publish
from lm.text.tokenizer import Tokenizer

FORMAT = 1
SPAN = np.dtype(
    [("a", "<i8"), ("b", "<i8"), ("a_length", "<u2"), ("b_length", "<u2"), ("random", "<u1")]
)
AROUND = {True: 3, False: 2}  # [CLS] A [SEP] B [SEP], or [CLS] A [SEP] without pairs


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstancesConfig:
    """BERT's data builder (create_pretraining_data.py of google-research/bert; values of its
    README and of Devlin et al. 2019, appendix A.1 and A.2)."""

    pairs: bool = True  # False: one segment a row, for masked language modelling alone
    short_probability: float = 0.1  # of a target length drawn from 2 on
    short_per: Literal["document", "chunk"] = (
        "document"  # how often it is drawn; the code: document
    )
    duplication: int = 10  # passes of fresh pairs and masks, after which they come again
    mask_fraction: float = 0.15  # of a row's tokens, [CLS] and [SEP] counted but never chosen
    max_predictions: int | None = (
        None  # a row; None: as many as the fraction of a full row, 20 at 128
    )
    masked: float = 0.8  # of the chosen: become [MASK]
    kept: float = 0.1  # of the chosen: stay as they are; the rest become any token
    whole_word: bool = False  # all pieces of a word or none
    objective: Literal["masked", "next"] = "masked"  # "next": left to right, on the same rows

    def __post_init__(self) -> None:
        require_positive(self, "duplication", "max_predictions")
        short, fraction, kept = self.short_probability, self.mask_fraction, self.kept
        require(0 <= short <= 1, f"short_probability must be between 0 and 1, got {short}")
        require(0 < fraction < 1, f"mask_fraction must be between 0 and 1, got {fraction}")
        require(
            0 <= self.masked <= 1 and 0 <= kept <= 1 and self.masked + kept <= 1 + 1e-9,
            f"masked {self.masked} and kept {kept} must be shares that add up to at most 1",
        )

    def predictions(self, length: int) -> int:
        """Places for words to guess in a row of `length` tokens."""
        if self.objective == "next":
            return length
        return self.max_predictions or math.ceil(length * self.mask_fraction)


def build(
    text: SentenceFile, length: int, config: InstancesConfig, seed: int, turn: int
) -> np.ndarray:
    """The instances of one pass over the text, in its order. [instances] SPAN

    As in the official code, with two differences: each document has a random stream of its own, a
    hash of (seed, turn, document), and the other document of a random B is drawn from all others
    directly, where the code tries ten times and then may take the same one.

    Raises:
      DataError: one document only, from which no random B can be drawn.
    """
    room = length - AROUND[config.pairs]
    count = text.documents
    if config.pairs and count < 2:
        raise DataError(
            f"{text.file.folder}: a random next segment needs another document, and the text is "
            "one; name more files, cut it with sentences.chapters=True or sentences.paragraphs=50, "
            "or set instances.pairs=False"
        )
    bounds, firsts = text.bounds.data, text.firsts.tolist()
    seeds = mix(np.arange(count, dtype=np.uint64), int(mix(np.array([turn], np.uint64), seed)[0]))
    short, per_chunk, pairs = config.short_probability, config.short_per == "chunk", config.pairs
    spans = array("q")
    for document, stream in enumerate(seeds.tolist()):
        draw = random.Random(stream).random  # the one method whose numbers Python promises to keep
        here, last = firsts[document], firsts[document + 1] - 1
        target = room
        if draw() < short:
            target = 2 + int(draw() * (room - 1))
        while here < last:
            if per_chunk and here > firsts[document]:
                target = 2 + int(draw() * (room - 1)) if draw() < short else room
            # sentences here, ..., end - 1 fill the target, or are the document's last
            end = bisect.bisect_left(bounds, bounds[here] + target, here + 1, last)
            if not pairs:
                a, a_end = shrink(bounds[here], bounds[end], room, draw)
                spans.extend((a, a_end, a_end, a_end, 0))
                here = end
                continue
            middle = here + 1
            if end - here >= 2:
                middle += int(draw() * (end - here - 1))
            a, a_end = bounds[here], bounds[middle]
            torn = end - here == 1 or draw() < 0.5
            if torn:
                other = int(draw() * (count - 1))
                other += other >= document
                low, high = firsts[other], firsts[other + 1] - 1
                start = low + int(draw() * (high - low))
                wanted = bounds[start] + target - (a_end - a)
                b = bounds[start]
                b_end = bounds[bisect.bisect_left(bounds, wanted, start + 1, high)]
                here = middle  # the sentences of the chunk that B does not use are put back
            else:
                b, b_end = a_end, bounds[end]
                here = end
            while (a_end - a) + (b_end - b) > room:
                front = draw() < 0.5
                if a_end - a > b_end - b:
                    a, a_end = a + front, a_end - (not front)
                else:
                    b, b_end = b + front, b_end - (not front)
            spans.extend((a, a_end, b, b_end, torn))
    table = np.frombuffer(spans, np.int64).reshape(-1, 5)
    out = np.empty(len(table), SPAN)
    out["a"], out["b"], out["random"] = table[:, 0], table[:, 2], table[:, 4]
    out["a_length"], out["b_length"] = table[:, 1] - table[:, 0], table[:, 3] - table[:, 2]
    return out


def shrink(start: int, end: int, room: int, draw: Callable[[], float]) -> tuple[int, int]:
    """A segment cut to `room` tokens, each one from the front or the back with equal chance."""
    while end - start > room:
        if draw() < 0.5:
            start += 1
        else:
            end -= 1
    return start, end


def stored(
    text: SentenceFile, length: int, config: InstancesConfig, seed: int, turn: int
) -> np.ndarray:
    """The instances of a pass, memory-mapped: built now or by an earlier run.

    Raises:
      DataError: the file is damaged, or what `build` refuses.
    """
    how = [config.pairs, config.short_probability, config.short_per]
    key = json.dumps([FORMAT, text.digest, length, seed, turn, *how])
    name = f"instances-{hashlib.sha256(key.encode()).hexdigest()[:20]}"
    folder = text.file.folder / name
    if not (folder / "manifest.json").exists():
        spans = build(text, length, config, seed, turn)
        work = Path(tempfile.mkdtemp(prefix=name + ".", dir=text.file.folder))
        work.chmod(0o755)
        try:
            spans.tofile(work / "spans.bin")
            manifest = {"key": key, "count": len(spans), "crc32": zlib.crc32(spans.tobytes())}
            (work / "manifest.json").write_text(json.dumps(manifest) + "\n")
            publish(work, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        spans = np.memmap(folder / "spans.bin", SPAN, "r")
        fits = manifest["key"] == key and manifest["count"] == len(spans)
        fits = fits and manifest["crc32"] == zlib.crc32(spans.view(np.uint8).data)
    except (OSError, ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        raise DataError(f"{folder} is damaged; remove it, it is made again")
    return spans


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
    def digest(self) -> str:
        """Identity of all rows: text, tokenizer, length, seed and configuration."""
        how = [FORMAT, self.text.digest, self.length, self.seed, dataclasses.astuple(self.config)]
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()

    def __call__(self, first: int, count: int) -> MaskedBatch:
        """Rows `first`, ..., `first + count - 1` of the run."""
        rows = np.arange(first, first + count, dtype=np.int64)
        epochs, index = self.locate(rows)
        spans, keys = np.empty(count, SPAN), np.empty(count, np.uint64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            turn = int(epoch) % self.config.duplication
            drawn = permute(index[here], len(self.passes[turn]), self.seed, int(epoch))
            spans[here] = self.passes[turn][drawn]
            keys[here] = self.keys(drawn, turn)
        return self.batch(spans, keys, rows)

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


def measure(text: SentenceFile, length: int, config: InstancesConfig) -> tuple[int, float]:
    """Tokens of text and seconds of one pass of the builder, written nowhere."""
    began = time.perf_counter()
    build(text, length, config, seed=0, turn=0)
    return len(text.file.tokens), time.perf_counter() - began
