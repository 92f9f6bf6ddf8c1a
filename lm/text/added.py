"""Ids behind a vocabulary's own, for specials that it was published without.

GPT-2's vocabulary has no chat markers, our own have. `with_specials(tokenizer, names)` knows them
all; what it adds lies above every id of the vocabulary, so that a model's embedding only grows.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from lm.text.interface import Tokenizer


class AddedSpecials(Tokenizer):
    """A tokenizer and further specials; text has the ids that it had."""

    def __init__(self, base: Tokenizer, names: Sequence[str]):
        self.base = base
        self.kind = base.kind
        self.lossless = base.lossless
        self.end, self.pad = base.end, base.pad
        self.vocab_size = base.vocab_size + len(names)
        self.specials = base.specials | {name: base.vocab_size + i for i, name in enumerate(names)}

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self.base.encode_batch(texts)

    def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        return self.base.encode_arrays(texts)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        added = range(self.base.vocab_size, self.vocab_size)
        return self.base.decode_bytes(i for i in ids if i not in added)

    def files(self) -> dict[str, bytes]:
        return self.base.files()


def with_specials(tokenizer: Tokenizer, names: Iterable[str]) -> Tokenizer:
    """The tokenizer itself where it knows all the names, else with the missing ones behind it."""
    missing = [name for name in names if name not in tokenizer.specials]
    return AddedSpecials(tokenizer, missing) if missing else tokenizer
