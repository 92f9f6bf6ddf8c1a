"""One question about images, and the images: stored in a folder or an archive, or drawn."""

import dataclasses
import functools
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from lm.core.errors import DataError
from lm.data.images import pixels

# How an answer is judged: lm/evals/visual.py.
Match = Literal["exact", "relaxed", "anls", "caption"]
DRAWN = 20_000  # drawings that are kept, each some kilobytes
KEPT = 2**29  # bytes of pixels that are kept of the rows of a run


class Picture(Protocol):
    """An image that can be fetched when it is needed, in any process."""

    def pixels(self, side: int) -> np.ndarray:
        """[side side 3] uint8. Raises DataError where it cannot be read."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """A file in a folder, a .zip or a .tar."""

    where: str
    name: str

    def data(self) -> bytes:
        """The bytes of the file. Raises DataError where it is not there."""
        return opened(self.where)(self.name)

    def pixels(self, side: int) -> np.ndarray:
        return pixels(self.data(), side, f"{self.where}: {self.name}")


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A drawing of a program: `draw(*arguments)` gives a Pillow image. Kept once it was drawn."""

    draw: Callable[..., Any]  # a function of a module, so that another process finds it
    arguments: tuple[Any, ...]

    def __repr__(self) -> str:
        """The same in every process: what a run has learned from is known by it."""
        return f"{self.draw.__module__}.{self.draw.__qualname__}{self.arguments}"

    def pixels(self, side: int) -> np.ndarray:
        return pixels(
            drawn(self.draw, self.arguments), side, f"{self.draw.__name__}{self.arguments}"
        )


@dataclasses.dataclass(frozen=True)
class Given:
    """A file's bytes, from a person or a request."""

    content: bytes
    name: str

    def pixels(self, side: int) -> np.ndarray:
        return pixels(self.content, side, self.name)


@functools.lru_cache(maxsize=DRAWN)
def drawn(draw: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    out = io.BytesIO()
    draw(*arguments).save(out, "PNG")
    return out.getvalue()


class Kept:
    """Pictures of one side, each read once while there is room; what came first stays, as in a
    permuted epoch no picture is likelier to come next."""

    def __init__(self, side: int, room: int = KEPT):
        self.side, self.left = side, room // (3 * side * side)
        self.pixels: dict[Picture, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the pixels: a process that rows are given to reads its own."""
        room = self.left + len(self.pixels)
        return {"side": self.side, "left": room, "pixels": {}}

    def __call__(self, picture: Picture) -> np.ndarray:
        """[side side 3] uint8, not to be written to. Raises DataError where it cannot be read."""
        known = self.pixels.get(picture)
        if known is None:
            known = picture.pixels(self.side)
            if self.left > 0:
                self.left -= 1
                self.pixels[picture] = known
        return known


class Said(str):
    """What was answered earlier in a conversation. As ids the end of a text follows it."""

    taught = True  # whether it is to be learned


class Untaught(Said):
    """Such an answer that is shown and not learned."""

    taught = False


Parts = tuple[str | Picture, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """A prompt in which images stand, and its right answers."""

    id: str
    parts: Parts  # a conversation's are its turns, of which `Said` are the assistant's
    answers: tuple[str, ...]  # any of them is right; the first is learned
    match: Match = "exact"
    kind: str = ""  # of question, for the table of results

    @property
    def pictures(self) -> tuple[Picture, ...]:
        return tuple(part for part in self.parts if not isinstance(part, str))

    @property
    def about(self) -> str:
        """What it is about: the name of its first image, or its text where it has none."""
        first = next(iter(self.pictures), self.question)
        return first.name if isinstance(first, Stored) else str(first)

    @property
    def question(self) -> str:
        texts = (part for part in self.parts if isinstance(part, str))
        return "".join(f"{part}\n" if isinstance(part, Said) else part for part in texts).strip()


def spread(examples: Sequence[Example], limit: int | None) -> list[Example]:
    """So many of the examples, chosen by a hash of their names: evenly over every kind of question,
    as every n-th of them would not be."""
    if limit is None or len(examples) <= limit:
        return list(examples)
    return sorted(examples, key=lambda one: zlib.crc32(one.id.encode()))[:limit]


def asked(question: str, *pictures: Picture) -> Parts:
    """Images, and a question after them in the form in which all are put."""
    return (*pictures, question.strip() + "\n")


def unfolded(example: Example) -> list[Example]:
    """Each answer of a conversation as an example of its own, with what came before; those that say
    nothing are none."""
    places = [
        place for place, part in enumerate(example.parts)
        if isinstance(part, Said) and part.taught and part.strip()
    ]  # fmt: skip
    if not places:
        return [example]
    answers = [*((str(example.parts[place]),) for place in places), example.answers]
    return [
        dataclasses.replace(
            example, id=f"{example.id}-{turn}", parts=example.parts[:place], answers=right,
            kind=f"turn {turn}",
        )
        for turn, (place, right) in enumerate(zip([*places, None], answers, strict=True), start=1)
    ]  # fmt: skip


@functools.lru_cache(maxsize=16)
def opened(where: str) -> Callable[[str], bytes]:
    """Reads files of a folder, a .zip or a .tar by name.

    Raises:
      DataError: there is no such folder or archive, or it is damaged.
    """
    path = Path(where)
    if not path.exists():
        raise DataError(f"no images at {where}: name a folder, a .zip or a .tar")
    if path.is_dir():

        def read(name: str) -> bytes:
            try:
                return (path / name).read_bytes()
            except (OSError, ValueError):  # a name with a NUL
                raise DataError(f"{where} has no image {name}") from None

        return read
    try:
        if path.suffix == ".zip":
            archive = zipfile.ZipFile(path)  # reads under a lock of its own
            return lambda name: found(archive.read, name, where)
        with tarfile.open(path) as tar:
            spans = {member.name: (member.offset_data, member.size) for member in tar}
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise DataError(f"{where} is no archive of images: {error}") from None

    def cut(name: str) -> bytes:
        start, size = spans[name]
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    return lambda name: found(cut, name, where)


def found(read: Callable[[str], bytes], name: str, where: str) -> bytes:
    try:
        return read(name)
    except KeyError:
        raise DataError(f"{where} has no image {name}") from None
    except (OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # or has a password
        raise DataError(f"image {name} of {where} cannot be read: {error}") from None
