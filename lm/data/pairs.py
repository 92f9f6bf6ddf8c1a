"""BERT's pairs: segments A and B of real text, half of the Bs from elsewhere.

An instance is five numbers: where A and B begin in the token file, how long each is, and whether
B is from another document. Putting unused sentences back makes each instance depend on the one
before it, so the instances of a pass over the text are built once, into a memory-mapped file:

    <sentences>/instances-<key>/spans.bin       records of `SPAN`
    <sentences>/instances-<key>/manifest.json   their number and digest
"""

import bisect
import dataclasses
import hashlib
import json
import math
import random
import time
import zlib
from array import array
from collections.abc import Callable
from typing import Literal

import numpy as np

from lm.core.config import require, require_positive
from lm.core.errors import DataError
from lm.data.permutation import mix
from lm.data.sentences import SentenceFile
from lm.data.token_writer import made_whole

FORMAT = 1
SPAN = np.dtype(
    [("a", "<i8"), ("b", "<i8"), ("a_length", "<u2"), ("b_length", "<u2"), ("random", "<u1")]
)
AROUND = {True: 3, False: 2}  # [CLS] A [SEP] B [SEP], or [CLS] A [SEP] without pairs


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstancesConfig:
    """BERT's data builder (create_pretraining_data.py of google-research/bert; Devlin et al. 2019,
    appendix A.1 and A.2; five to ten passes of duplication, by its README and its default).

    A short target drawn for a document makes all its rows short: where documents are whole books,
    cut them (`SentencesConfig.chapters`) or draw it for each chunk.
    """

    pairs: bool = True  # False: one segment a row, for masked language modelling alone
    short_probability: float = 0.1  # of a target length drawn from 2 on
    short_per: Literal["document", "chunk"] = "document"  # how often one is drawn, as in the code
    duplication: int = 10  # passes of fresh pairs and masks, after which they come again
    mask_fraction: float = 0.15  # of a row's tokens, [CLS] and [SEP] counted but never chosen
    max_predictions: int | None = None  # of a row; None: the fraction of a full one, 20 at 128
    masked: float = 0.8  # of the chosen: become [MASK]
    kept: float = 0.1  # of the chosen: stay as they are; the rest become any token
    whole_word: bool = False  # all pieces of a word or none
    objective: Literal["masked", "next"] = "masked"  # "next": left to right, on the same rows

    def __post_init__(self) -> None:
        require_positive(self, "duplication", "max_predictions")
        short, fraction, kept = self.short_probability, self.mask_fraction, self.kept
        require(0 <= short <= 1, f"short_probability must be between 0 and 1, got {short}")
        require(0 < fraction < 1, f"mask_fraction must be above 0 and below 1, got {fraction}")
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
            f"{text.file.named}: a random next segment needs another document, and the text is "
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
      DataError: the file is damaged or cannot be written, or what `build` refuses.
    """
    how = [config.pairs, config.short_probability, config.short_per]
    key = json.dumps([FORMAT, text.digest, length, seed, turn, *how])
    name = f"instances-{hashlib.sha256(key.encode()).hexdigest()[:20]}"
    folder = text.file.folder / name
    if not folder.exists():
        spans = build(text, length, config, seed, turn)
        with made_whole(folder) as work:
            spans.tofile(work / "spans.bin")
            manifest = {"key": key, "count": len(spans), "crc32": zlib.crc32(spans.tobytes())}
            (work / "manifest.json").write_text(json.dumps(manifest) + "\n")
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


def measure(text: SentenceFile, length: int, config: InstancesConfig) -> tuple[int, float]:
    """Tokens of text and seconds of one pass of the builder, written nowhere."""
    began = time.perf_counter()
    build(text, length, config, seed=0, turn=0)
    return len(text.file.tokens), time.perf_counter() - began
