"""Ids to text while they come.

The bytes of a lossless vocabulary's ids stand one behind the other. A lossy one, GPT-1's or BERT's,
writes words: whether a blank stands before an id, or how a word is spelled, is told by those beside
it. So its newest ids are decoded together, and the last words wait for what follows.
"""

import codecs
from collections.abc import Callable, Sequence
from typing import Protocol

from lm.text.interface import Tokenizer

HELD = 3  # words that may still change: GPT-1's `mr` and `.` become `Mr.`
WINDOW = 48  # ids that are decoded together at least


class Spelling(Protocol):
    """Takes ids one by one."""

    size: int  # characters that the ids so far make, whole ones

    def add(self, token: int) -> str:
        """The text that is certain now and was not before."""

    def finish(self) -> str:
        """What is left when no more comes."""


def spelling_of(tokenizer: Tokenizer) -> Spelling:
    """What turns the ids of one text into it."""
    if tokenizer.lossless:
        return Bytes(lambda i: tokenizer.decode_bytes([i]))
    return Words(tokenizer.decode)


class Bytes:
    """Of a vocabulary whose ids are bytes, `raw` of each."""

    def __init__(self, raw: Callable[[int], bytes]):
        self._raw = raw
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.size = 0

    def add(self, token: int) -> str:
        return self._counted(self._decoder.decode(self._raw(token)))

    def finish(self) -> str:
        return self._counted(self._decoder.decode(b"", final=True))

    def _counted(self, text: str) -> str:
        self.size += len(text)
        return text


class Words:
    """Of a vocabulary whose ids are `spelled` together."""

    def __init__(self, spelled: Callable[[Sequence[int]], str]):
        self._spelled = spelled
        self._ids: list[int] = []
        self._shown = 0  # characters of the window's text that have been given out
        self._before = 0  # characters before the window
        self.size = 0

    def add(self, token: int) -> str:
        self._ids.append(token)
        text = self._spelled(self._ids)
        self.size = self._before + len(text)
        certain = len(" ".join(text.split(" ")[:-HELD]))
        new = text[self._shown : certain]
        self._shown = max(self._shown, certain)
        if len(self._ids) >= 2 * WINDOW:
            self._shorten(text)
        return new

    def finish(self) -> str:
        text = self._spelled(self._ids)
        new = text[self._shown :]
        self._shown = max(self._shown, len(text))
        return new

    def _shorten(self, text: str) -> None:
        """Forgets ids whose text has been given out, where the others' text is the rest of it."""
        for cut in range(len(self._ids) - WINDOW, 0, -1):
            rest = self._spelled(self._ids[cut:])
            gone = len(text) - len(rest)
            if gone <= self._shown and text.endswith(rest) and text[gone - 1 : gone] in (" ", "\n"):
                self._ids = self._ids[cut:]
                self._before += gone
                self._shown -= gone
                return
