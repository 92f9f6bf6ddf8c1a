"""The vocabularies that came with GPT-2, GPT-1 and BERT, through the `tokenizers` library.

Loaded offline from the files as they were published, plain or gzipped, or under the names that
Hugging Face gave them. No special is registered with the library, so text that spells one is text.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lm.core.errors import ConfigError, DataError
from lm.text.interface import BytePieces, Tokenizer, outside, require_utf8

if TYPE_CHECKING:
    import tokenizers

Merges = list[tuple[str, str]]


class Gpt2Tokenizer(Tokenizer):
    """GPT-2's byte-level BPE (Radford et al. 2019, section 2.2): 50,257 ids, exact on any text."""

    kind = "gpt2"
    pad = None

    def __init__(self, vocab: dict[str, int], merges: Merges):
        library = _library()
        self._vocab, self._merges = vocab, merges
        self.vocab_size = len(vocab)
        self.end = _need(vocab, "<|endoftext|>", self.kind)
        self.specials = {"end": self.end}
        self._encoder = library.Tokenizer(library.models.BPE(vocab=vocab, merges=merges))
        self._encoder.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
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
        return _encode(self._encoder, texts)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return self._pieces.join(ids)

    def files(self) -> dict[str, bytes]:
        return _bpe_files(self._vocab, self._merges)


class Gpt1Tokenizer(Tokenizer):
    """GPT-1's lower-cased BPE with `</w>` at word ends: 40,478 ids. Lossy.

    Case, accents and blanks are lost, and a character outside the vocabulary is `<unk>`, which
    decodes to a blank; decoding is idempotent. Words are split as Hugging Face does without ftfy
    and spaCy (BERT's rules), which differs from the paper's code on some punctuation.

    The vocabulary has no end of text: documents end with its newline token, id 40477, which these
    rules never make from text, since they drop newlines with the other blanks.
    """

    kind = "gpt1"
    pad = None
    lossless = False

    def __init__(self, vocab: dict[str, int], merges: Merges):
        library = _library()
        self._vocab, self._merges = vocab, merges
        self.vocab_size = len(vocab)
        self.end = _need(vocab, "\n</w>", self.kind)
        self.specials = {"end": self.end, "unk": _need(vocab, "<unk>", self.kind)}
        self._encoder = library.Tokenizer(
            library.models.BPE(
                vocab=vocab,
                merges=merges,
                end_of_word_suffix="</w>",
                unk_token="<unk>",
            )
        )
        self._encoder.normalizer = library.normalizers.BertNormalizer(lowercase=True)
        self._encoder.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
        self._words = {i: piece.replace("</w>", " ") for piece, i in vocab.items()}
        # an unknown character may have stood at the end of a word
        self._words |= {self.end: "", self.specials["unk"]: " "}

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return _encode(self._encoder, texts)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        text = "".join(_plain_pieces(self, self._words, ids))
        return " ".join(word for word in text.split(" ") if word).encode()

    def files(self) -> dict[str, bytes]:
        return _bpe_files(self._vocab, self._merges)


class WordPieceTokenizer(Tokenizer):
    """BERT's uncased WordPiece: 30,522 ids in the published vocabulary. Lossy.

    Case, accents and blanks are lost, and a word that the pieces cannot spell is `[UNK]`, which
    decodes to nothing; decoding is idempotent. Documents end with `[SEP]`.
    """

    kind = "wordpiece"
    lossless = False

    def __init__(self, words: list[str]):
        library = _library()
        vocab = {word: i for i, word in enumerate(words)}
        if len(vocab) != len(words):
            twice = next(word for i, word in enumerate(words) if vocab[word] != i)
            raise DataError(f"vocab.txt lists {twice!r} twice: restore the published file")
        self._list = words
        self.vocab_size = len(words)
        self.specials = {
            name: _need(vocab, f"[{name.upper()}]", self.kind)
            for name in ("pad", "unk", "cls", "sep", "mask")
        }
        self.end = self.specials["end"] = self.specials["sep"]
        self.pad = self.specials["pad"]
        self._encoder = library.Tokenizer(library.models.WordPiece(vocab, unk_token="[UNK]"))
        self._encoder.normalizer = library.normalizers.BertNormalizer(lowercase=True)
        self._encoder.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
        self._words = {
            i: word[2:] if word.startswith("##") and len(word) > 2 else f" {word}"
            for i, word in enumerate(words)
        } | dict.fromkeys(self.specials.values(), "")

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return _encode(self._encoder, texts)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return "".join(_plain_pieces(self, self._words, ids)).strip(" ").encode()

    def files(self) -> dict[str, bytes]:
        return {"vocab.txt": "".join(f"{word}\n" for word in self._list).encode()}


def read_gpt2(folder: Path) -> Gpt2Tokenizer:
    """From `encoder.json` and `vocab.bpe`, or `vocab.json` and `merges.txt`."""
    vocab = _vocab(_find(folder, "encoder.json", "vocab.json"))
    return Gpt2Tokenizer(vocab, _merges(_find(folder, "vocab.bpe", "merges.txt")))


def read_gpt1(folder: Path) -> Gpt1Tokenizer:
    """From `encoder_bpe_40000.json` and `vocab_40000.bpe`, or `vocab.json` and `merges.txt`."""
    vocab = _vocab(_find(folder, "encoder_bpe_40000.json", "vocab.json"))
    return Gpt1Tokenizer(vocab, _merges(_find(folder, "vocab_40000.bpe", "merges.txt")))


def read_wordpiece(path: Path) -> WordPieceTokenizer:
    """From `vocab.txt`, one piece a line, or the folder that holds it."""
    file = path if path.is_file() else _find(path, "vocab.txt")
    return WordPieceTokenizer(_text(file).removesuffix("\n").replace("\r\n", "\n").split("\n"))


def _library():  # type: ignore[no-untyped-def]  # the module `tokenizers`, an optional extra
    try:
        import tokenizers
    except ImportError:
        raise ConfigError(
            "tokenizers of kind gpt2, gpt1 and wordpiece need the package tokenizers: "
            "pip install 'lm[text]'"
        ) from None
    return tokenizers


def _encode(encoder: "tokenizers.Tokenizer", texts: Sequence[str]) -> list[list[int]]:
    require_utf8(texts)
    return [row.ids for row in encoder.encode_batch_fast(list(texts), add_special_tokens=False)]


def _plain_pieces(tokenizer: Tokenizer, words: dict[int, str], ids: Iterable[int]) -> list[str]:
    pieces = []
    for i in map(int, ids):
        if i not in words:
            raise outside(tokenizer.kind, i, tokenizer.vocab_size)
        pieces.append(words[i])
    return pieces


def _byte_characters() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte, as character -> byte (encoder.py)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [i for i in range(256) if i not in plain]
    shifted = {chr(256 + n): i for n, i in enumerate(others)}
    return {chr(i): i for i in plain} | shifted


def _need(vocab: dict[str, int], piece: str, kind: str) -> int:
    if piece not in vocab:
        raise DataError(
            f"this is no {kind} vocabulary: {piece!r} is not among its {len(vocab)} pieces; "
            "check tokenizer.kind and tokenizer.path"
        )
    return vocab[piece]


def _find(folder: Path, *names: str) -> Path:
    for name in names:
        for file in (folder / name, folder / f"{name}.gz"):
            if file.is_file():
                return file
    raise DataError(
        f"no {' or '.join(names)} (or .gz) in {folder}: point tokenizer.path at the folder that "
        "holds the vocabulary"
    )


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
        return (gzip.decompress(data) if file.suffix == ".gz" else data).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the vocabulary {file}: {error}; copy it again") from None


def _vocab(file: Path) -> dict[str, int]:
    try:
        vocab = json.loads(_text(file))
    except ValueError as error:
        raise DataError(f"{file} is not JSON ({error}): copy it again") from None
    if not isinstance(vocab, dict) or sorted(map(str, vocab.values())) != sorted(
        map(str, range(len(vocab)))
    ):
        raise DataError(f"{file} does not give its pieces the ids 0, 1, 2, ...: copy it again")
    return vocab


def _merges(file: Path) -> Merges:
    merges = []
    for number, line in enumerate(_text(file).split("\n"), start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        left, _, right = line.partition(" ")
        if not right or " " in right:
            raise DataError(f"{file}:{number}: {line!r} is not a merge of two pieces")
        merges.append((left, right))
    return merges


def _bpe_files(vocab: dict[str, int], merges: Merges) -> dict[str, bytes]:
    ordered = dict(sorted(vocab.items(), key=lambda item: item[1]))
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    return {
        "vocab.json": json.dumps(ordered, ensure_ascii=False).encode(),
        "merges.txt": "".join(f"{line}\n" for line in lines).encode(),
    }
