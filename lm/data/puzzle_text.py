"""A corpus of small tasks in between real prose: what a tiny model learns to learn from.

Document `row` of a part is a pure function of (seed, part, row) and of the prose. It is a passage,
or one task's examples, so many as there may be or fewer, so that a first, a second and a later
example are all there to be predicted; or random letters said over and over, from which a model
learns to look for what followed the same thing before, which the tasks alone teach it far later
(results/capacity.md).
"""

import collections
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from string import ascii_letters

from lm.core.config import require, require_positive
from lm.core.errors import DataError
from lm.data.puzzles import HELD_OUT, PUZZLES, Family, Puzzle, Stock, held_out
from lm.data.sources import Document, documents
from lm.data.token_writer import write_tokens
from lm.data.tokens import Part, TextConfig, cache_folder
from lm.text.byte import ByteTokenizer

REPEATED = (8, 40)  # letters that are said over and over
SHOWN = 256  # documents that tell one corpus from another


@dataclasses.dataclass(frozen=True, kw_only=True)
class PuzzleText(TextConfig):
    """Prose of `train` with tasks in between, as bytes; `valid` and `valid_fraction` mean nothing.

    Shares are of documents.
    """

    documents_train: int = 40_000  # four million bytes and some
    documents_valid: int = 1_000
    seed: int = 0
    prose_share: float = 0.05
    repeat_share: float = 0.2
    mapping_share: float = 0.5
    operation_share: float = 0.15
    word_share: float = 0.06
    arithmetic_share: float = 0.04
    lines: int = 20  # examples of a document, at most
    whole_share: float = 0.7  # of tasks with as many examples as there may be; others have fewer
    bytes: int = 127  # of a document, at most: a row of 128 with the end token before it
    shortest: int = 3  # letters of a word
    longest: int = 5
    vocabulary: int = 1_000  # most frequent words of the prose that tasks are made of

    def __post_init__(self) -> None:
        super().__post_init__()
        require(not self.mixture, "a corpus of tasks has its own mixture: set data.mixture=()")
        require_positive(self, "documents_train", "documents_valid", "lines", "bytes", "vocabulary")
        require(
            2 < self.shortest <= self.longest,
            f"shortest {self.shortest} must be above 2 and not above longest {self.longest}",
        )
        shares = [self.prose_share, self.repeat_share, *self.shares.values()]
        require(
            min(shares) >= 0 and abs(sum(shares) - 1) < 1e-6,
            f"the six shares must not be negative and add up to 1, got {shares}",
        )

    @property
    def shares(self) -> dict[Family, float]:
        return {
            "mapping": self.mapping_share,
            "operation": self.operation_share,
            "word": self.word_share,
            "arithmetic": self.arithmetic_share,
        }

    def documents(self, part: Part) -> Iterator[Document]:
        """Documents 0, 1, ... of a part."""
        count = self.documents_train if part == "train" else self.documents_valid
        for row in range(count):
            yield Document(f"{part}:{row}", self.document(part, row))

    def document(self, part: Part, row: int) -> str:
        """The text of one document."""
        random = Random(f"{self.seed}/{part}/{row}")
        kind = random.random()
        if kind < self.prose_share:
            return passage(self.train, part, random, self.bytes)
        if kind < self.prose_share + self.repeat_share:
            return self.repeated(random)
        puzzle = self.draw(random)
        rule = puzzle.rule(random, self.stock(part))
        text = ""
        whole = random.random() < self.whole_share
        for _ in range(self.lines if whole else random.randint(1, self.lines)):
            more = rule(random).text
            if len(text) + len(more) > self.bytes:
                break
            text += more
        return text

    def draw(self, random: Random) -> Puzzle:
        """A family by its share, and one of its kinds."""
        shares = self.shares
        (family,) = random.choices(list(shares), list(shares.values()))
        return random.choice([puzzle for puzzle in PUZZLES if puzzle.family == family])

    def repeated(self, random: Random) -> str:
        """Random letters, over and over."""
        letters = random.choices(ascii_letters, k=random.randint(*REPEATED))
        return "".join(letters * self.bytes)[: self.bytes]

    def stock(self, part: Part) -> Stock:
        """What tasks of a part are made of. Raises DataError: the prose has too few words."""
        return Stock(part, words(self.train, part, self.shortest, self.longest, self.vocabulary))

    def made_by_tokenize(self, part: Part) -> Path:
        """The tokens, which are made where they are not there yet."""
        return tokens_of(self, part, "puzzles", self.documents, self.document)


def tokens_of(
    config: TextConfig, part: Part, kind: str, made: Callable[[Part], Iterator[Document]],
    document: Callable[[Part, int], str],
) -> Path:  # fmt: skip
    """The folder with the tokens of a made-up corpus, by what it is made of and its first texts."""
    values = dataclasses.asdict(config) | {"cache": None}
    first = [document(part, row) for row in range(SHOWN)]  # of what this program writes
    key = json.dumps([values, prose(config.train), first])
    digest = hashlib.sha256(key.encode()).hexdigest()
    folder = cache_folder(config) / kind / digest[:20] / part
    if not (folder / "manifest.json").exists():
        write_tokens(made(part), ByteTokenizer(), folder, config.train)
    return folder


def passage(spec: str, part: Part, random: Random, length: int) -> str:
    """Prose, from the last tenth of a source for test and from the rest for training."""
    text = prose(spec)
    cut = len(text) * 9 // 10
    first, last = (0, cut) if part == "train" else (cut, len(text))
    start = random.randrange(first, max(first + 1, last - length))
    return text[start : start + length]


@functools.lru_cache(maxsize=2)
def prose(spec: str, most: int = 1 << 23) -> str:
    """The first characters of a source, as one text in ASCII."""
    some: list[str] = []
    held = 0
    for document in documents(spec, on_error="replace"):
        some.append(document.text.encode("ascii", "ignore").decode())
        held += len(some[-1])
        if held > most:
            break
    return "\n".join(some)[:most]


@functools.lru_cache(maxsize=4)
def words(spec: str, part: Part, shortest: int, longest: int, most: int) -> tuple[str, ...]:
    """A part's words among the most frequent ones of a source that have some lengths."""
    found = collections.Counter(re.findall(r"\b[a-z]+\b", prose(spec)))
    right = [word for word, _ in found.most_common() if shortest <= len(word) <= longest][:most]
    mine = tuple(word for word in right if held_out(word) == (part == "valid"))
    if len(mine) < 2:
        raise DataError(
            f"{spec}: {len(right)} words of {shortest} to {longest} letters are too few to hold "
            f"out one in {HELD_OUT}; name more prose in data.train"
        )
    return mine
