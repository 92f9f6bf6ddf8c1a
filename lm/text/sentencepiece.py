"""SentencePiece (Kudo and Richardson 2018): vocabularies trained on the run's own text.

The library's defaults lose text: they collapse blanks, apply NFKC and drop what they do not know.
A model trained here keeps every string exact: identity normalisation, no blanks added or removed,
bytes for rare characters. One character is left to us: U+2581, which the library uses for the
blank and so decodes as one. We write it in byte pieces.
"""

import base64
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lm.core.errors import ConfigError, DataError
from lm.text.interface import SPECIALS, BytePieces, Tokenizer, outside, require_utf8
from lm.text.vocabulary import OPTIONS, filled, read_options, within_limit

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

FILE = "spiece.model"
MODEL = "sentencepiece_model"  # in tokenizer_config.json: the file, as base64
BLANK = "\u2581"
LINE = 1000  # characters: at most 4,000 bytes, below the 4,192 at which the trainer drops a line
PROBE = "  \u0000\ufb01\r\n \U0001f600\t"


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model: trained by `train`, or any other `.model` file.

    Another model keeps its own normalisation, so it may be lossy; its `end` is its `</s>`, or
    else its `[SEP]`, and its `pad` is None where it has none.
    """

    kind = "sentencepiece"

    def __init__(self, model: bytes, source: str = FILE):
        self._model = model
        self._spm = _open(model, source)
        spm = self._spm
        self.vocab_size = spm.vocab_size()
        self.specials = _specials(spm)
        if "end" not in self.specials:
            raise DataError(
                f"{source} has no end of text (</s>, <|endoftext|> or [SEP]): train one"
            )
        self.end = self.specials["end"]
        self.pad = self.specials.get("pad")
        # Byte pieces cover every string only where the model's normalisation leaves it alone.
        all_bytes = all(spm.is_byte(spm.piece_to_id(f"<0x{i:02X}>")) for i in range(256))
        self._blank = [spm.piece_to_id(f"<0x{i:02X}>") for i in BLANK.encode()]
        self._pieces = BytePieces(self.kind, _bytes_of_pieces(spm))
        # a blank that a model puts before every text is one of the bytes of the pieces
        self.lossless = all_bytes and self._pieces.join(spm.encode(PROBE)) == PROBE.encode()

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        require_utf8(texts)
        ids: list[list[int]] = self._spm.encode(list(texts))
        if self.lossless:
            for row, text in enumerate(texts):
                if BLANK in text:
                    ids[row] = self._encode_around_blanks(text)
        return ids

    def _encode_around_blanks(self, text: str) -> list[int]:
        first, *rest = self._spm.encode(text.split(BLANK))
        return [*first, *(i for part in rest for i in (*self._blank, *part))]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        if self.lossless:
            return self._pieces.join(ids)
        kept = []
        for i in map(int, ids):
            if not 0 <= i < self.vocab_size:
                raise outside(self.kind, i, self.vocab_size)
            if not (self._spm.is_control(i) or self._spm.is_unknown(i)):
                kept.append(i)
        return str(self._spm.decode(kept)).encode()

    def pieces(self) -> list[tuple[str, float | None]]:
        """As the model spells them, each with its score; None of specials and bytes."""
        spm = self._spm
        ids = range(self.vocab_size)
        bare = [spm.is_control(i) or spm.is_unknown(i) or spm.is_byte(i) for i in ids]
        return [(spm.id_to_piece(i), None if bare[i] else spm.get_score(i)) for i in ids]

    def files(self) -> dict[str, bytes]:
        return {FILE: self._model}


def train(texts: Callable[[], Iterable[str]], vocab: int) -> SentencePieceTokenizer:
    """Train a BPE model of `vocab` pieces on the texts (their first 268 million characters), or of
    as many as these fill, which is said.

    The same texts give the same model. ConfigError where the text does not fit into `vocab`.
    """
    import sentencepiece

    specials = iter(SPECIALS.values())
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(texts()),
            model_writer=model,
            model_type="bpe",
            # its specials' ids below have to be in it; whatever is that small is told as too small
            vocab_size=max(vocab, len(SPECIALS)),
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            pad_piece=next(specials),
            bos_piece=next(specials),
            eos_piece=next(specials),
            unk_piece=next(specials),
            control_symbols=list(specials),
            user_defined_symbols=["\n"],
            num_threads=2,  # any number gives the same pieces; a fixed one, the same file
            minloglevel=2,
        )
    except RuntimeError as error:
        if most := re.search(r"value <= (\d+)", str(error)):
            filled(int(most[1]), vocab)
            return train(texts, int(most[1]))
        raise _cannot_train(str(error), vocab) from None
    return SentencePieceTokenizer(model.getvalue())


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Lines of the texts, long ones cut: the trainer silently drops what is too long."""
    for text in within_limit(texts):  # the trainer holds them all in memory
        for line in text.split("\n"):
            for start in range(0, len(line), LINE):
                yield line[start : start + LINE]


def _cannot_train(error: str, vocab: int) -> ConfigError | DataError:
    if least := re.search(r"required_chars\. \d+ vs (\d+)", error):
        return ConfigError(
            f"tokenizer.vocab={vocab} is too small for the bytes, specials and characters of this "
            f"text: use at least {least[1]}"
        )
    if "sentences_.empty()" in error or "all_chars_count" in error:
        return DataError("no text to train a tokenizer on: name files that hold some")
    return DataError(f"sentencepiece cannot train {vocab} pieces: {' '.join(error.split())}")


def read(path: Path) -> SentencePieceTokenizer:
    """The model in a `.model` file, or in the folder that holds `spiece.model`, or an export of
    ours that transformers has saved again, without files that it does not know."""
    if path.is_dir() and not (path / FILE).is_file() and (model := embedded(path)):
        return SentencePieceTokenizer(model, f"{MODEL} of {path / OPTIONS}")
    path = path / FILE if path.is_dir() else path
    try:
        return SentencePieceTokenizer(path.read_bytes(), str(path))
    except OSError as error:
        raise DataError(f"cannot read the tokenizer {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is damaged: a piece is no UTF-8; copy it again") from None


def embedded(folder: Path) -> bytes | None:
    """The model that the options in a folder hold; None where they hold none."""
    try:
        found = read_options(folder).get(MODEL)
        return None if found is None else base64.b64decode(found, validate=True)
    except (TypeError, ValueError):
        raise DataError(f"{MODEL} of {folder / OPTIONS} is damaged: copy it again") from None


def _open(model: bytes, source: str) -> "SentencePieceProcessor":
    import sentencepiece

    try:
        if model:
            return sentencepiece.SentencePieceProcessor(model_proto=model)
    except (RuntimeError, ValueError):  # its own message may be no UTF-8
        pass
    raise DataError(
        f"{source} is not a sentencepiece model, or is cut short ({len(model)} bytes): copy it "
        "again, or train one by leaving tokenizer.path unset"
    )


def _specials(spm: "SentencePieceProcessor") -> dict[str, int]:
    """Names and ids of the control symbols, under our names; others keep their own spelling."""
    controls = {
        spm.id_to_piece(i): i
        for i in range(spm.vocab_size())
        if spm.is_control(i) or spm.is_unknown(i)
    }
    spellings = {spelling: name for name, spelling in SPECIALS.items()} | {
        "<pad>": "pad",
        "<s>": "bos",
        "</s>": "end",
        "<unk>": "unk",
        "[CLS]": "cls",
        "[SEP]": "sep",
        "[MASK]": "mask",
    }
    specials = {spellings.get(piece, piece): i for piece, i in controls.items()}
    if "end" not in specials and "sep" in specials:
        specials["end"] = specials["sep"]
    return specials


def _bytes_of_pieces(spm: "SentencePieceProcessor") -> list[bytes]:
    pieces = []
    for i in range(spm.vocab_size()):
        piece = spm.id_to_piece(i)
        if spm.is_control(i) or spm.is_unknown(i):
            pieces.append(b"")
        elif spm.is_byte(i):
            pieces.append(bytes([int(piece[3:5], 16)]))
        else:
            pieces.append(piece.replace(BLANK, " ").encode())
    return pieces
