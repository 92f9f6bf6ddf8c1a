"""What every tokenizer can do, and how one is kept on disk.

Specials are ids that only a program can write. Text never becomes one, even text that spells it:
somebody who types `<|endoftext|>` or a chat marker has typed some characters, nothing else. Only
`unk` is an answer to text, in the two vocabularies that have it for that.
"""

import abc
import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lm.core.errors import DataError
from lm.core.paths import run_path

FORMAT = 1
MANIFEST = "lm_tokenizer.json"

# The specials of our own vocabularies (bytes, trained sentencepiece), in this order of ids.
SPECIALS = {
    "pad": "<|pad|>",
    "bos": "<|bos|>",
    "end": "<|endoftext|>",
    "unk": "<|unk|>",
    "mask": "<|mask|>",
    "cls": "<|cls|>",
    "sep": "<|sep|>",
    "im_start": "<|im_start|>",
    "im_end": "<|im_end|>",
    "system": "<|system|>",
    "user": "<|user|>",
    "assistant": "<|assistant|>",
    "image": "<|image|>",
}


class Form(Protocol):
    """How a prompt, and the answer to it, are ids: a text and what follows it, which is what any
    tokenizer does, or a conversation and its next turn (`lm.text.dialogue.Chat`)."""

    @property
    def tokenizer(self) -> "Tokenizer":
        """Of an answer's text."""

    @property
    def end(self) -> int:
        """The id that ends an answer."""

    @property
    def in_turns(self) -> bool:
        """Whether a prompt has places where it can be cut without harm."""

    @property
    def eyes(self) -> str | None:
        """Identity of those that see the images of prompts; None where prompts have none."""

    def encode_prompts(self, prompts: Sequence[Any]) -> list[list[int]]:
        """The ids of each prompt."""

    def decode_prompt(self, ids: Iterable[int]) -> Any:
        """The prompt that ids stand for."""

    def cut(self, ids: Sequence[int], length: int) -> list[int]:
        """The newest ids of a prompt, at most so many; none where that cannot be done."""

    def spell(self, prompt: Any) -> str:
        """A prompt for people to read."""


class Tokenizer(abc.ABC):
    """Text to ids and back.

    `end` is the id written after each document. `pad` is never `end`; it is None where the
    published vocabulary has no padding, and then padding is told by the mask alone. `lossless`
    says that `decode(encode(text)) == text` for every text; where it is false, decoding is
    idempotent on the ids of a text: what was decoded once encodes and decodes to itself.
    """

    kind: str
    vocab_size: int
    end: int
    pad: int | None
    specials: dict[str, int]
    lossless: bool = True

    @abc.abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text. DataError on a lone surrogate, which UTF-8 cannot hold."""

    @abc.abstractmethod
    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The UTF-8 bytes that the ids stand for, specials skipped; they may end mid-character."""

    @abc.abstractmethod
    def files(self) -> dict[str, bytes]:
        """Name and content of each file that defines the vocabulary, in one canonical form."""

    def encode(self, text: str) -> list[int]:
        """The ids of one text."""
        return self.encode_batch([text])[0]

    def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text as an array of unsigned integers, each [T]."""
        return [np.array(ids, np.uint32) for ids in self.encode_batch(texts)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids, specials skipped; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    @property
    def tokenizer(self) -> "Tokenizer":
        """Itself: a tokenizer is the `Form` of prompts that are text."""
        return self

    in_turns = False
    eyes = None

    def encode_prompts(self, prompts: Sequence[Any]) -> list[list[int]]:
        """The ids of each text."""
        return self.encode_batch(prompts)

    def decode_prompt(self, ids: Iterable[int]) -> str:
        return self.decode(ids)

    def cut(self, ids: Sequence[int], length: int) -> list[int]:
        """The last `length` ids."""
        return list(ids[-length:]) if length > 0 else []

    def spell(self, prompt: Any) -> str:
        return str(prompt)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of all that defines the ids: kind, specials, files. Equal means the same ids."""
        identity = [FORMAT, self.kind, self.vocab_size, self.end, self.pad]
        content = json.dumps([*identity, self.specials], sort_keys=True).encode()
        for name, data in sorted(self.files().items()):
            content += f"\n{name} {hashlib.sha256(data).hexdigest()}".encode()
        return hashlib.sha256(content).hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write the vocabulary files and a manifest into `folder`, the manifest last."""
        folder = run_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in self.files().items():
            (folder / name).write_bytes(data)
        manifest = {
            "format": FORMAT,
            "kind": self.kind,
            "vocab_size": self.vocab_size,
            "specials": self.specials,
            "digest": self.digest,
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def unpaired(text: str) -> bool:
    """Whether the text holds half a surrogate pair, which JSON can spell and UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def require_utf8(texts: Sequence[str]) -> None:
    """DataError when a text holds a lone surrogate, which has no UTF-8 bytes and so no ids."""
    for text in texts:
        if not text.isascii():
            utf8(text)


def utf8(text: str) -> bytes:
    """The bytes of `text`, DataError on a lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise DataError(
            f"text has the lone surrogate U+{code:04X} at character {error.start}, which UTF-8 "
            "cannot hold: remove or replace it (in files, with --errors=replace)"
        ) from None


def outside(kind: str, wrong: int, size: int) -> DataError:
    return DataError(
        f"id {wrong} is not in the {kind} vocabulary of {size}: decode with the tokenizer that "
        "made these ids"
    )


class BytePieces:
    """Which bytes each id stands for: decoding for vocabularies that are made of bytes."""

    def __init__(self, kind: str, pieces: list[bytes]):
        self.kind = kind
        self.pieces = pieces  # specials are b""

    def join(self, ids: Iterable[int]) -> bytes:
        parts = []
        for i in ids:
            if not 0 <= i < len(self.pieces):
                raise outside(self.kind, int(i), len(self.pieces))
            parts.append(self.pieces[i])
        return b"".join(parts)
