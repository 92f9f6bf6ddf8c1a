"""GPT-2's vocabulary: byte-level BPE (Radford et al. 2019, section 2.2)."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from lm.core.errors import DataError
from lm.text.interface import MANIFEST, BytePieces, Tokenizer
from lm.text.sentencepiece import FILE
from lm.text.vocabulary import (
    WHOLE,
    Merges,
    bpe_files,
    check_merges,
    encode,
    existing,
    library,
    need,
    read_bpe,
    read_options,
    read_whole,
)


class Gpt2Tokenizer(Tokenizer):
    """50,257 ids in the published vocabulary, exact on any text."""

    kind = "gpt2"
    pad = None

    def __init__(self, vocab: dict[str, int], merges: Merges):
        tokenizers = library()
        self._vocab, self._merges = vocab, merges
        self.vocab_size = len(vocab)
        self.end = need(vocab, "<|endoftext|>", self.kind)
        self.specials = {"end": self.end}
        check_merges(vocab, merges)
        self.encoder = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges))
        self.encoder.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        characters = _byte_characters()
        pieces = [b""] * len(vocab)
        for piece, i in vocab.items():
            if i == self.end:
                continue
            if not characters.keys() >= set(piece):
                raise DataError(f"{piece!r} is no piece of byte-level BPE: check tokenizer.kind")
            pieces[i] = bytes(characters[character] for character in piece)
        self._pieces = BytePieces(self.kind, pieces)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return encode(self.encoder, texts)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return self._pieces.join(ids)

    def files(self) -> dict[str, bytes]:
        return bpe_files(self._vocab, self._merges)


def read(folder: Path) -> Gpt2Tokenizer:
    """From `encoder.json` and `vocab.bpe`, `vocab.json` and `merges.txt`, or `tokenizer.json`."""
    vocab, merges = ("encoder.json", "vocab.json"), ("vocab.bpe", "merges.txt")
    pieces = read_bpe(folder, vocab, merges)
    options = read_options(folder)
    if not existing(folder, *merges) and (file := existing(folder, WHOLE)):
        whole = read_whole(file, "BPE")
        options = (whole.get("pre_tokenizer") or {}) | options
        if whole["model"].get("byte_fallback"):
            raise DataError(
                f"{file} holds pieces of a SentencePiece, which are read from its model alone: put "
                f"that beside it; one that this program exported is {FILE} with {MANIFEST}"
            )
    if options.get("add_prefix_space"):
        raise DataError(
            f"{folder} says add_prefix_space=true, a blank before each text, which is not GPT-2's: "
            "set it to false there, and write the blank in the text"
        )
    return Gpt2Tokenizer(*pieces)


def _byte_characters() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte, as character -> byte (encoder.py)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [i for i in range(256) if i not in plain]
    shifted = {chr(256 + n): i for n, i in enumerate(others)}
    return {chr(i): i for i in plain} | shifted
