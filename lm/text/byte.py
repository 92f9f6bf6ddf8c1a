"""The vocabulary that needs no training: one id a byte of UTF-8, and the specials after them."""

from collections.abc import Iterable, Sequence

import numpy as np

from lm.text.interface import SPECIALS, BytePieces, Tokenizer, utf8

BYTES = 256


class ByteTokenizer(Tokenizer):
    """Ids 0..255 are the bytes themselves, then come the specials."""

    kind = "bytes"

    def __init__(self) -> None:
        self.specials = {name: BYTES + i for i, name in enumerate(SPECIALS)}
        self.vocab_size = BYTES + len(SPECIALS)
        self.end = self.specials["end"]
        self.pad = self.specials["pad"]
        self._pieces = BytePieces(
            self.kind, [bytes([i]) for i in range(BYTES)] + [b""] * len(SPECIALS)
        )

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(utf8(text)) for text in texts]

    def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.frombuffer(utf8(text), np.uint8) for text in texts]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return self._pieces.join(ids)

    def files(self) -> dict[str, bytes]:
        return {}
