"""Examples as rows of ids and pictures, and the batch of a step as a pure function of its number.

A row is the prompt, in which each image is a run of `slots` image ids, the answer and the end
token, and so on in a conversation; the loss counts the answer and its end. Rows with images and
rows of text alone share a batch; how many images it has room for is one of few numbers, so that few
programs are compiled.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence

import flax.struct
import numpy as np

from lm.core.config import require, require_at_least_zero, require_positive
from lm.core.errors import ConfigError, DataError, TooLong
from lm.core.paths import at_home
from lm.data.images import moved
from lm.data.permutation import mix, permute
from lm.data.visual.example import Example, Kept, Picture, Said, spread, unfolded
from lm.data.visual.layouts import Part
from lm.data.visual.sets import SETS
from lm.data.visual.written import written
from lm.text.tokenizer import Tokenizer

BUCKETS = (0, 1, 2, 4, 8, 16)  # images a row of a batch has room for
MULTIPLE = 8  # of the width of rows


@flax.struct.dataclass
class VisionBatch:
    """Rows of a decoder that sees."""

    tokens: np.ndarray  # [B T] int32
    targets: np.ndarray  # [B T] int32: the token after each
    mask: np.ndarray  # [B T] bool: targets that count
    prefix: np.ndarray  # [B] int32: tokens before the answer
    images: np.ndarray  # [B I R R 3] uint8, each row's in its order, then black ones
    rows: np.ndarray  # [B] uint32: the row's number in the run


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisualConfig:
    """Which questions are learned."""

    root: str = "data"  # folder of the real sets
    # names of `SETS`, or .jsonl files of one's own, which are not looked for in `root`
    sets: tuple[str, ...] = dataclasses.field(default=("easy_vqa",), metadata={"also": ("train",)})
    times: tuple[int, ...] = ()  # how often an epoch has each set; once where ()
    valid: str | None = None  # a .jsonl to measure on instead of the sets' own
    shift: int = 0  # pixels that an image is moved at most, at random, when it is learned from
    limit: int | None = None  # examples of a set at most
    valid_limit: int | None = 500  # likewise held out: each is answered, token by token

    def __post_init__(self) -> None:
        require(len(self.sets) > 0, "data.sets is empty: name one, such as easy_vqa")
        require(
            not self.times or len(self.times) == len(self.sets),
            f"data.times {self.times} are not one a set of {self.sets}: "
            f"--set 'data.times={(1,) * len(self.sets)}' has each once",
        )
        require_positive(self, "limit", "valid_limit")
        require_at_least_zero(self, "shift")
        require(all(n > 0 for n in self.times), f"data.times {self.times} must be positive")
        for name in self.sets:
            require(
                name in SETS or name.endswith((".jsonl", ".jsonl.gz")),
                f"unknown set {name!r}; known: {', '.join(SETS)}, or a .jsonl of your own",
            )

    def examples(self, part: Part) -> list[Example]:
        """The examples of a part, those of each set so often as an epoch has it; of a conversation
        that is held out each answer is one.

        Raises:
          DataError: a file is missing or malformed, or there is nothing to measure on.
        """
        if part == "valid" and self.valid is not None:
            found = [turn for one in written(at_home(self.valid)) for turn in unfolded(one)]
            return found[: self.valid_limit]
        found = []
        times = (self.times or (1,) * len(self.sets)) if part == "train" else (1,) * len(self.sets)
        for name, count in zip(self.sets, times, strict=True):
            found += self.of(name, part) * count
        if not found:
            raise DataError(f"{', '.join(self.sets)}: nothing to measure on; name data.valid")
        return found

    def of(self, name: str, part: Part) -> list[Example]:
        if name in SETS:
            some = SETS[name](at_home(self.root), part)
        else:
            some = written(at_home(name)) if part == "train" else []
        if part == "valid":
            some = [turn for one in some for turn in unfolded(one)]
        return spread(some, self.limit if part == "train" else self.valid_limit)


@dataclasses.dataclass(frozen=True)
class Encoded:
    """An example as ids, with its image slots and the end after each answer."""

    ids: list[int]
    learned: list[bool]  # of each id, whether it is of an answer that is learned
    prefix: int  # ids before the last answer
    pictures: tuple[Picture, ...]


def encode(
    examples: Sequence[Example], tokenizer: Tokenizer, image_id: int, slots: int, *,
    every: bool = False,
) -> list[Encoded]:  # fmt: skip
    """Examples as ids. Text is encoded as text, even where it spells the image marker.

    Args:
      every: every answer of a conversation is learned, not its last alone.
    """
    texts = [part for one in examples for part in (*one.parts, one.answers[0])]
    known = iter(tokenizer.encode_batch([part for part in texts if isinstance(part, str)]))
    found = []
    for one in examples:
        ids, learned, prefix = list[int](), list[bool](), 0
        for part in (*one.parts, Said(one.answers[0])):
            said, prefix = isinstance(part, Said), len(ids)
            ids += next(known) if isinstance(part, str) else [image_id] * slots
            ids += [tokenizer.end] * said
            counts = every and isinstance(part, Said) and part.taught and bool(part.strip())
            learned += [counts] * (len(ids) - prefix)
        learned[prefix:] = [True] * (len(ids) - prefix)
        found.append(Encoded(ids, learned, prefix, one.pictures))
    return found


def prompt_ids(
    parts: Sequence[str | Picture], tokenizer: Tokenizer, image_id: int, slots: int, room: int
) -> list[int]:
    """The ids of one prompt, for an answer of up to so many tokens less.

    Raises:
      DataError: it is empty; TooLong: it has more images or text than fit.
    """
    pictures = sum(not isinstance(part, str) for part in parts)
    if pictures * slots > room:
        raise TooLong(
            f"{pictures} images are {pictures * slots} places, and the context has room for {room} "
            f"({room // slots} images): give fewer"
        )
    ids: list[int] = []
    for part in parts:
        ids += tokenizer.encode(part) if isinstance(part, str) else [image_id] * slots
        ids += [tokenizer.end] * isinstance(part, Said)
    if not ids:
        raise DataError("the prompt is empty: give text or an image")
    if len(ids) > room:
        raise TooLong(f"the prompt has {len(ids)} tokens, there is room for {room}: shorten it")
    return ids


def image_id(tokenizer: Tokenizer) -> int:
    """The id of an image's slots: the vocabulary's own, or the one after its last."""
    return tokenizer.specials.get("image", tokenizer.vocab_size)


class VisualRows:
    """Training rows: row `i` of an epoch is `permute(i)`, and its number is the only state."""

    def __init__(
        self, examples: Sequence[Example], tokenizer: Tokenizer, *,
        image_id: int, slots: int, side: int, length: int, seed: int, every: bool = False,
    ):  # fmt: skip
        """
        Args:
          image_id, slots: the id and number of the places that an image takes.
          side: pixels of an image's side.
          length: tokens of a row at most; what is longer is left out, and counted in `long`.
          every: every answer of a conversation counts, not its last alone.

        Raises:
          ConfigError: an example has more images than the largest bucket.
          DataError: none fits.
        """
        encoded = encode(examples, tokenizer, image_id, slots, every=every)
        fits = [one for one in encoded if len(one.ids) <= length]
        self.long = len(encoded) - len(fits)
        if not fits:
            raise DataError(
                f"none of {len(encoded)} examples fits into {length} tokens, {slots} of them an "
                "image: set a larger length"
            )
        self.read, self.seed, self.count = Kept(side), seed, len(fits)
        self.pictures = [one.pictures for one in fits]
        self.images = np.array([len(one.pictures) for one in fits], np.int32)
        if self.images.max() > BUCKETS[-1]:
            raise ConfigError(
                f"an example has {self.images.max()} images, a row holds {BUCKETS[-1]} at most"
            )
        longest = max(len(one.ids) - 1 for one in fits)
        self.width = min(length, -(-longest // MULTIPLE) * MULTIPLE)
        self.prefix = np.array([one.prefix for one in fits], np.int32)
        self.ids = np.full((len(fits), self.width + 1), tokenizer.pad or 0, np.int32)
        self.learned = np.zeros(self.ids.shape, bool)
        for row, one in enumerate(fits):
            self.ids[row, : len(one.ids)] = one.ids
            self.learned[row, : len(one.ids)] = one.learned

    @property
    def digest(self) -> str:
        """Identity of the text, and of which images it is about."""
        told = hashlib.sha256(self.ids.tobytes())
        told.update(json.dumps([repr(pictures) for pictures in self.pictures]).encode())
        return told.hexdigest()

    def bucket(self, index: np.ndarray) -> int:
        """Images that a batch of these rows has room for, in each row."""
        most = int(self.images[index].max())
        return next(size for size in BUCKETS if size >= most)

    def index(self, first: int, count: int) -> np.ndarray:
        """Which examples rows `first`, ..., `first + count - 1` of the run are."""
        rows = np.arange(first, first + count, dtype=np.uint64)
        epochs, index = rows // np.uint64(self.count), rows % np.uint64(self.count)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            index[here] = permute(index[here], self.count, self.seed, int(epoch))
        return index.astype(np.int64)

    def batch(self, first: int, count: int, mine: slice) -> tuple[VisionBatch, list[str]]:
        """Rows `mine` of a global batch, and what is wrong with images that could not be read.

        A row with such an image does not count.
        """
        index = self.index(first, count)
        return self.take(index[mine], first + mine.start, self.bucket(index))

    def take(
        self, index: np.ndarray, first: int, room: int | None = None
    ) -> tuple[VisionBatch, list[str]]:
        """These examples as a batch whose first row has this number in the run."""
        room = self.bucket(index) if room is None else room
        images = np.zeros((len(index), room, *2 * (self.read.side,), 3), np.uint8)
        mask = self.learned[index, 1:]
        wrong = []
        for row, example in enumerate(index):
            try:
                for number, picture in enumerate(self.pictures[example]):
                    images[row, number] = self.read(picture)
            except DataError as error:
                wrong.append(str(error))
                mask[row] = False
        batch = VisionBatch(
            tokens=self.ids[index, :-1], targets=self.ids[index, 1:], mask=mask,
            prefix=self.prefix[index], images=images,
            rows=np.arange(first, first + len(index)).astype(np.uint32),
        )  # fmt: skip
        return batch, wrong


def shifted(images: np.ndarray, rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Images [B I R R 3], each row's moved by up to so many pixels: a function of its number."""
    count = images.shape[1]
    numbers = rows.astype(np.uint64)[:, None] * np.uint64(2 * BUCKETS[-1])
    draws = mix(numbers + np.arange(2 * count, dtype=np.uint64), seed) % np.uint64(2 * most + 1)
    moves = draws.astype(np.int64).reshape(len(images), count, 2) - most
    found = np.empty_like(images)
    for row, some in enumerate(moves.tolist()):
        for number, (right, down) in enumerate(some):
            found[row, number] = moved(images[row, number], right, down)
    return found
