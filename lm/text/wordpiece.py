"""BERT's WordPiece (Devlin et al. 2019, section 3), published or learned on the run's own text."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lm.core.errors import DataError
from lm.text.interface import Tokenizer
from lm.text.vocabulary import (
    OPTIONS,
    WHOLE,
    encode,
    existing,
    find,
    learn,
    library,
    need,
    read_options,
    read_text,
    read_whole,
    spelled,
)

if TYPE_CHECKING:
    import tokenizers

SPECIALS = {name: f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
LOWER, STRIPPED, APART = "do_lower_case", "strip_accents", "tokenize_chinese_chars"
LONGEST = "max_input_chars_per_word"
RELEASED, HUGGING_FACE = 200, 100  # characters of a word that is spelled; a longer one is unknown


class WordPieceTokenizer(Tokenizer):
    """Words split at punctuation, then greedily into the longest pieces. Lossy.

    Blanks are lost, case as well unless `cased`, and accents where they are `stripped`: None, as
    the case is. Chinese characters stand `apart`, each a word. A word that the pieces cannot spell,
    or of more than `longest` characters, is `[UNK]`, which decodes to nothing. Decoding is
    idempotent on the ids of a text; a model may say what no text has, a `##` piece after a mark,
    which is written without the blank that such a word has when it is decoded again. Documents end
    with `[SEP]`. The published vocabularies have 30,522 ids uncased and 28,996 cased.

    The ids are those of the released code (google-research/bert, tokenization.py) but for a
    capital sigma that ends a word: in lower case it is U+03C3 here as within a word, and U+03C2
    there; and for characters that came to Unicode after the tables of the `tokenizers` library.
    """

    kind = "wordpiece"
    lossless = False

    def __init__(
        self, words: list[str], *, cased: bool = False, longest: int = RELEASED,
        stripped: bool | None = None, apart: bool = True,
    ):  # fmt: skip
        vocab = {word: i for i, word in enumerate(words)}
        if len(vocab) != len(words):
            twice = next(word for i, word in enumerate(words) if vocab[word] != i)
            raise DataError(f"vocab.txt lists {twice!r} twice: restore the published file")
        self._list = words
        self.cased = cased
        self.longest = longest
        self.stripped = not cased if stripped is None else stripped
        self.apart = apart
        self.vocab_size = len(words)
        self.specials = {name: need(vocab, piece, self.kind) for name, piece in SPECIALS.items()}
        self.end = self.specials["end"] = self.specials["sep"]
        self.pad = self.specials["pad"]
        model = library().models.WordPiece(
            vocab, unk_token=SPECIALS["unk"], max_input_chars_per_word=longest
        )
        self._encoder = _splitter(model, cased, self.stripped, apart)
        self._words = {
            i: word[2:] if word.startswith("##") and len(word) > 2 else f" {word}"
            for i, word in enumerate(words)
        } | dict.fromkeys(self.specials.values(), "")

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return encode(self._encoder, texts)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return spelled(self.kind, self._words, ids).strip(" ").encode()

    def files(self) -> dict[str, bytes]:
        options: dict[str, object] = {LOWER: not self.cased}
        if self.stripped == self.cased:  # else the case says it, and a digest is as it was
            options[STRIPPED] = self.stripped
        if not self.apart:
            options[APART] = False
        if self.longest != HUGGING_FACE:  # which what says nothing has: Hugging Face's, older runs'
            options[LONGEST] = self.longest
        return {
            "vocab.txt": "".join(f"{word}\n" for word in self._list).encode(),
            OPTIONS: (json.dumps(options) + "\n").encode(),
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
    model = library().models.BPE(continuing_subword_prefix="##")
    encoder = _splitter(model, cased, stripped=not cased, apart=True)
    return WordPieceTokenizer(
        learn(encoder, texts, vocab, tuple(SPECIALS.values()), inner="##")[0], cased=cased
    )


def read(path: Path, *, cased: bool = False) -> WordPieceTokenizer:
    """From `vocab.txt`, one piece a line, or `tokenizer.json`, or the folder that holds it.

    `cased` counts where neither the file nor one beside it, as Hugging Face writes them, says so.
    What these say of accents and of Chinese characters counts as well, so that vocab.txt without
    them may be another tokenizer, with a digest of its own. Words are spelled up to the length that
    these say, 100 characters where they do not, and 200, as the released code has it, where there
    is none of them.
    """
    file = path if path.is_file() else find(path, "vocab.txt", WHOLE)
    options = read_options(file.parent)
    longest = HUGGING_FACE if options else RELEASED
    beside = file if file.name.startswith(WHOLE) else existing(file.parent, WHOLE)
    if beside:
        whole = read_whole(beside, "WordPiece")
        longest = whole["model"].get(LONGEST, HUGGING_FACE)
        normalizer = whole.get("normalizer") or {}
        names = {LOWER: "lowercase", STRIPPED: "strip_accents", APART: "handle_chinese_chars"}
        options = {name: normalizer.get(theirs) for name, theirs in names.items()} | options
    if file == beside:
        vocab = whole["model"]["vocab"]
        words = sorted(vocab, key=vocab.__getitem__)
    else:
        words = read_text(file).removesuffix("\n").split("\n")
    lower = options.get(LOWER)
    return WordPieceTokenizer(
        words,
        cased=cased if lower is None else not lower,
        longest=options.get(LONGEST, longest),
        stripped=options.get(STRIPPED),
        apart=options.get(APART) is not False,
    )


def _splitter(model: object, cased: bool, stripped: bool, apart: bool) -> "tokenizers.Tokenizer":
    """BERT's basic tokenizer before `model`: controls dropped, Chinese characters `apart`."""
    tokenizers = library()
    encoder = tokenizers.Tokenizer(model)
    encoder.normalizer = tokenizers.normalizers.BertNormalizer(
        lowercase=not cased, strip_accents=stripped, handle_chinese_chars=apart
    )
    encoder.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return encoder
