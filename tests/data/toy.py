"""A tokenizer whose tokens can be read: words and marks in lower case, four characters a piece."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from lm.text.interface import Tokenizer


class Toy(Tokenizer):
    """Learns a piece's id when it first sees it. Marks of its own: `~` gives no token at all."""

    kind = "toy"
    lossless = False

    def __init__(self) -> None:
        self.specials = {"pad": 0, "cls": 1, "sep": 2, "mask": 3}
        self.pad, self.end, self.vocab_size = 0, 2, 1000
        self.pieces = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [[self._id(piece) for piece in self._split(text)] for text in texts]

    def _split(self, text: str) -> Iterable[str]:
        for word in re.findall(r"\w+|[^\w\s~]", text.lower()):
            for i in range(0, len(word), 4):
                yield ("##" if i else "") + word[i : i + 4]

    def _id(self, piece: str) -> int:
        if piece not in self.pieces:
            self.pieces.append(piece)
        return self.pieces.index(piece)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        words = (self.pieces[i] for i in ids if i >= len(self.specials))
        return "".join(w[2:] if w.startswith("##") else f" {w}" for w in words).strip().encode()

    def files(self) -> dict[str, bytes]:
        return {}

    def show(self, ids: np.ndarray, **names: int) -> str:
        """The pieces of a row; `names` are ids outside the vocabulary."""
        called = {i: name for name, i in names.items()}
        return " ".join(called[i] if i in called else self.pieces[i] for i in map(int, ids))
