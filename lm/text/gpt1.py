"""GPT-1's text pipeline and its lower-cased BPE (Radford et al. 2018, section 4.1).

As the released encoder has it (openai/finetune-transformer-lm, text_utils.py): broken text is
mended by ftfy, dashes and quotes are made plain and runs of marks stand apart, English words are
split off, and each, lower-cased, is a sequence of pieces whose last one carries `</w>`.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from lm.core.errors import ConfigError
from lm.text.interface import Tokenizer, require_utf8
from lm.text.vocabulary import (
    Merges,
    bpe_files,
    check_merges,
    learn,
    library,
    need,
    read_bpe,
    spelled,
)

NEWLINE, UNKNOWN, END = "\n</w>", "<unk>", "<|endoftext|>"
# The published vocabulary has no end of text. This piece, a scrap of somebody's scanned books, is
# taken for it: eight soft hyphens in a row, which are encoded as two pieces of four instead.
FREED = "\u00ad" * 8
PLAIN = str.maketrans({"—": "-", "–": "-", "―": "-", "…": "...", "´": "'"})
APART = re.compile(r"(-+|~+|!+|\"+|;+|\?+|\++|,+|\)+|\(+|/+|\*+|\[+|\]+|\}+|\{+|\|+|_+)")
ASCII = re.compile(r"[\n -%'-~]*")  # printable and without &: ftfy leaves it alone
KEPT = 1 << 18  # chunks of text whose ids are remembered
ROUNDS = 8  # of re-encoding until decoded text stays as it is


class Gpt1Tokenizer(Tokenizer):
    """Lower-cased BPE over English words: 40,478 ids in the published vocabulary. Lossy.

    Case and blanks are lost, a line's end is a token, and a character outside the vocabulary is
    `<unk>`, id 0, which decodes to a blank. Decoding writes each word so that it is encoded as the
    same word, `i'm` and `Mr.` where `'m` and `mr.` alone would be split further; so it is
    idempotent. `end` is a piece that no text becomes; the published vocabulary has no `pad`.
    """

    kind = "gpt1"
    pad = None
    lossless = False

    def __init__(self, vocab: dict[str, int], merges: Merges):
        self._vocab, self._merges = vocab, merges
        self.vocab_size = len(vocab)
        self.end = vocab[END] if END in vocab else need(vocab, FREED, self.kind)
        self._newline = need(vocab, NEWLINE, self.kind)
        self.specials = {"end": self.end, "unk": need(vocab, UNKNOWN, self.kind)}
        known = [pair for pair in merges if "".join(pair) != FREED or END in vocab]
        check_merges(vocab, known)
        self._bpe = library().models.BPE(
            vocab=vocab,
            merges=known,
            end_of_word_suffix="</w>",
            unk_token=UNKNOWN,
        )
        self._fix = _ftfy()
        self._known: dict[str, list[int]] = {}
        self._words = {i: piece.replace("</w>", " ") for piece, i in vocab.items()}
        # an unknown character may have stood at the end of a word
        self._words |= {self.end: "", self.specials["unk"]: " ", self._newline: " \n "}

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        require_utf8(texts)
        return [
            [i for chunk in standardized(text, self._fix).split(" ") for i in self._ids(chunk)]
            for text in texts
        ]

    def _ids(self, chunk: str) -> list[int]:
        ids = self._known.get(chunk)
        if ids is None:
            ids = [token.id for word in _lowered(chunk) for token in self._bpe.tokenize(word)]
            ids = [self._newline] if chunk == "\n" else ids
            if len(self._known) < KEPT:
                self._known[chunk] = ids
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        text = _written(_words_of(spelled(self.kind, self._words, ids)))
        for _ in range(ROUNDS):
            again = _written(_words_of(spelled(self.kind, self._words, self.encode(text))))
            if again == text:
                break
            text = again
        return text.encode()

    def files(self) -> dict[str, bytes]:
        return bpe_files(self._vocab, self._merges)


def train(texts: Callable[[], Iterable[str]], vocab: int) -> Gpt1Tokenizer:
    """Learns `vocab` pieces on the texts (their first 268 million characters), read twice.

    The pipeline and `</w>` are GPT-1's. First come `<unk>`, the line's end and an end of text.
    """
    fix = _ftfy()
    tokenizers = library()
    encoder = tokenizers.Tokenizer(tokenizers.models.BPE(end_of_word_suffix="</w>"))
    encoder.normalizer = tokenizers.normalizers.Lowercase()
    encoder.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()

    def words() -> Iterator[str]:
        for text in texts():
            yield " ".join(
                word for chunk in standardized(text, fix).split() for word in _lowered(chunk)
            )

    first = (UNKNOWN, NEWLINE, END)
    pieces, merges = learn(encoder, words, vocab, first, last="</w>")
    return Gpt1Tokenizer({piece: i for i, piece in enumerate(pieces)}, merges)


def read(folder: Path) -> Gpt1Tokenizer:
    """From `encoder_bpe_40000.json` and `vocab_40000.bpe`, `vocab.json` and `merges.txt`, or
    `tokenizer.json`."""
    names = ("encoder_bpe_40000.json", "vocab.json"), ("vocab_40000.bpe", "merges.txt")
    return Gpt1Tokenizer(*read_bpe(folder, *names))


def standardized(text: str, fix: Callable[[str], str]) -> str:
    """Mended text with plain marks, one blank between chunks, and lines' ends as chunks."""
    text = text if ASCII.fullmatch(text) else fix(text)
    text = APART.sub(r" \1 ", text.translate(PLAIN))
    text = re.sub(r"(?<!\s)\s*\n\s*", " \n ", text)
    return re.sub(r"[^\S\n]+", " ", text).strip()


def _ftfy() -> Callable[[str], str]:
    try:
        import ftfy
    except ImportError:
        raise ConfigError(
            "tokenizers of kind gpt1 need the package ftfy: pip install 'lm[text]'"
        ) from None
    return ftfy.fix_text


def _words_of(text: str) -> list[str]:
    return [word for word in text.split(" ") if word]


def _written(words: list[str]) -> str:
    """The words with blanks between them, but joined where a word alone would be split again."""
    chunks, place = [], 0
    while place < len(words):
        size, chunk = _chunk(words[place : place + 3])
        chunks.append(chunk)
        place += size
    return re.sub(" ?\n ?", "\n", " ".join(chunks)).strip(" \n")


def _chunk(words: list[str]) -> tuple[int, str]:
    """How many of the words to write as one chunk of text, and that chunk."""
    for size in range(len(words), 0, -1):
        if size == 1 or any(_spelling(word) is None for word in words[1:size]):
            chunk = _spelling(*words[:size])
            if chunk is not None:
                return size, chunk
    return 1, " ".join(_lowered(words[0]))


@functools.lru_cache(maxsize=KEPT)
def _spelling(*words: str) -> str | None:
    """The chunk that is split into these lower-case words; None where there is none."""
    text = "".join(words)
    return next((t for t in (text, text.title(), text.upper()) if _lowered(t) == words), None)


def _lowered(chunk: str) -> tuple[str, ...]:
    from lm.text.english import split  # whose patterns take a quarter of a second to compile

    return tuple(word.lower() for word in split(chunk))
