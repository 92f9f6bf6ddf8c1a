"""GPT-1's vocabulary: lower-cased BPE with `</w>` at word ends."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from lm.text.interface import Tokenizer
from lm.text.vocabulary import (
    Merges,
    bpe_files,
    encode,
    find,
    library,
    need,
    read_merges,
    read_vocab,
    spelled,
)


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
        tokenizers = library()
        self._vocab, self._merges = vocab, merges
        self.vocab_size = len(vocab)
        self.end = need(vocab, "\n</w>", self.kind)
        self.specials = {"end": self.end, "unk": need(vocab, "<unk>", self.kind)}
        self._encoder = tokenizers.Tokenizer(
            tokenizers.models.BPE(
                vocab=vocab,
                merges=merges,
                end_of_word_suffix="</w>",
                unk_token="<unk>",
            )
        )
        self._encoder.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
        self._encoder.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        self._words = {i: piece.replace("</w>", " ") for piece, i in vocab.items()}
        # an unknown character may have stood at the end of a word
        self._words |= {self.end: "", self.specials["unk"]: " "}

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return encode(self._encoder, texts)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        text = spelled(self.kind, self._words, ids)
        return " ".join(word for word in text.split(" ") if word).encode()

    def files(self) -> dict[str, bytes]:
        return bpe_files(self._vocab, self._merges)


def read(folder: Path) -> Gpt1Tokenizer:
    """From `encoder_bpe_40000.json` and `vocab_40000.bpe`, or `vocab.json` and `merges.txt`."""
    vocab = read_vocab(find(folder, "encoder_bpe_40000.json", "vocab.json"))
    return Gpt1Tokenizer(vocab, read_merges(find(folder, "vocab_40000.bpe", "merges.txt")))
