"""BERT's WordPiece (Devlin et al. 2019, section 3), published or learned on the run's own text."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lm.core.errors import DataError
from lm.text.interface import Tokenizer
from lm.text.vocabulary import (
    WHOLE,
    encode,
    find,
    learn,
    library,
    need,
    read_text,
    read_whole,
    spelled,
)

if TYPE_CHECKING:
    import tokenizers

SPECIALS = {name: f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
OPTIONS = "tokenizer_config.json"  # as Hugging Face keeps the case beside vocab.txt


class WordPieceTokenizer(Tokenizer):
    """Words split at punctuation, then greedily into the longest pieces. Lossy.

    Blanks are lost, case and accents as well unless `cased`, and a word that the pieces cannot
    spell, or of more than 100 characters, is `[UNK]`, which decodes to nothing; decoding is
    idempotent. Documents end with `[SEP]`. The published vocabularies have 30,522 ids uncased and
    28,996 cased.
    """

    kind = "wordpiece"
    lossless = False

    def __init__(self, words: list[str], *, cased: bool = False):
        vocab = {word: i for i, word in enumerate(words)}
        if len(vocab) != len(words):
            twice = next(word for i, word in enumerate(words) if vocab[word] != i)
            raise DataError(f"vocab.txt lists {twice!r} twice: restore the published file")
        self._list = words
        self.cased = cased
        self.vocab_size = len(words)
        self.specials = {name: need(vocab, piece, self.kind) for name, piece in SPECIALS.items()}
        self.end = self.specials["end"] = self.specials["sep"]
        self.pad = self.specials["pad"]
        model = library().models.WordPiece(vocab, unk_token=SPECIALS["unk"])
        self._encoder = _splitter(model, cased)
        self._words = {
            i: word[2:] if word.startswith("##") and len(word) > 2 else f" {word}"
            for i, word in enumerate(words)
        } | dict.fromkeys(self.specials.values(), "")

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return encode(self._encoder, texts)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return spelled(self.kind, self._words, ids).strip(" ").encode()

    def files(self) -> dict[str, bytes]:
        return {
            "vocab.txt": "".join(f"{word}\n" for word in self._list).encode(),
            OPTIONS: (json.dumps({"do_lower_case": not self.cased}) + "\n").encode(),
        }


def train(
    texts: Callable[[], Iterable[str]], vocab: int, *, cased: bool = False
) -> WordPieceTokenizer:
    """Learns `vocab` pieces on the texts (their first 268 million characters), read twice.

    BERT's code has no learner. Pieces are merged by count, as the trainer of the `tokenizers`
    library does under the name of WordPiece, and not by the score count(ab) / (count(a) count(b))
    of Schuster and Nakajima (2012), which spends a small vocabulary on rare pairs. The same texts
    give the same pieces: the specials, the characters, those with `##`, and the merged ones.
    """
    encoder = _splitter(library().models.BPE(continuing_subword_prefix="##"), cased)
    return WordPieceTokenizer(
        learn(encoder, texts, vocab, tuple(SPECIALS.values()), inner="##")[0], cased=cased
    )


def read(path: Path, *, cased: bool = False) -> WordPieceTokenizer:
    """From `vocab.txt`, one piece a line, or `tokenizer.json`, or the folder that holds it.

    `cased` counts where neither the file nor one beside it, as Hugging Face writes them, says so.
    """
    file = path if path.is_file() else find(path, "vocab.txt", WHOLE)
    said = _case_beside(file)
    if file.name.startswith(WHOLE):
        whole = read_whole(file, "WordPiece")
        vocab = whole["model"]["vocab"]
        words = sorted(vocab, key=vocab.__getitem__)
        lower = (whole.get("normalizer") or {}).get("lowercase")
        said = not lower if said is None and lower is not None else said
    else:
        words = read_text(file).removesuffix("\n").split("\n")
    return WordPieceTokenizer(words, cased=cased if said is None else said)


def _case_beside(vocabulary: Path) -> bool | None:
    file = vocabulary.parent / OPTIONS
    if not file.is_file():
        return None
    try:
        lower = json.loads(file.read_text()).get("do_lower_case")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{file} is not a JSON object ({error}): copy it again") from None
    return None if lower is None else not lower


def _splitter(model: object, cased: bool) -> "tokenizers.Tokenizer":
    """BERT's basic tokenizer before `model`: controls dropped, Chinese characters one by one."""
    tokenizers = library()
    encoder = tokenizers.Tokenizer(model)
    encoder.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=not cased)
    encoder.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return encoder
