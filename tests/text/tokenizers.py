"""The tokenizers that several tests look at, and text that is hard on them."""

import functools
import gzip
import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import strategies as st

from lm.text.byte import ByteTokenizer
from lm.text.interface import SPECIALS, Tokenizer
from lm.text.sentencepiece import train
from lm.text.tokenizer import TokenizerConfig, build

# Parts of a tokenizer.json as transformers writes them, of GPT-2 and of BERT uncased.
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
BERT = {
    "normalizer": {
        "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
        "strip_accents": None, "lowercase": True,
    },
    "pre_tokenizer": {"type": "BertPreTokenizer"},
}  # fmt: skip
BERT_MODEL = {
    "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
    "max_input_chars_per_word": 100,
}  # fmt: skip
DATA = Path(__file__).parents[2].parent / "shared" / "data"
PUBLISHED = {"gpt2": "vocab_gpt2", "gpt1": "vocab_gpt1", "wordpiece": "vocab_bert"}
KINDS = ("bytes", "sentencepiece", *PUBLISHED)
LOSSLESS = ("bytes", "sentencepiece", "gpt2")

PROSE = "The quick brown fox jumps over the lazy dog.\n\tIt   did not; did it?\n" * 20
HARD = [
    "",
    "\0",
    "a\0b",
    "one\r\ntwo\rthree\n\n\n",
    "\t\t tabs\t",
    "  leading, double  and trailing  ",
    "\ufeffmark",
    "▁ ▁▁a▁b ",
    "😀👨‍👩‍👧 e\u0301 ﬁ ½ 漢字 \u2028\u0085\u00a0",
    "<0x41> </s> <unk> [MASK] ##ing Ġa </w>",
    "it's IT'S don't 3.14 $%^",
    "".join(SPECIALS.values()) + "<|endoftext|>\n[CLS] x [SEP] <pad>",
]
# Any text without surrogates, with a taste for what tokenizers treat in their own way.
TEXT = st.lists(st.text() | st.sampled_from(HARD), max_size=4).map("".join)


@functools.cache
def tokenizer(kind: str) -> Tokenizer:
    if kind == "bytes":
        return ByteTokenizer()
    if kind == "sentencepiece":
        return train(lambda: [PROSE, "".join(HARD)], 420)
    return build(TokenizerConfig(kind=kind, path=str(published(kind))), list)


def published(kind: str) -> Path:
    pytest.importorskip("tokenizers")
    folder = DATA / PUBLISHED[kind]
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    return folder


def web_lines(count: int) -> list[str]:
    rows = data_lines("web_samples/c4_demo.jsonl.gz")
    return random.Random(0).sample(
        [line for row in rows for line in json.loads(row)["text"].split("\n")], count
    )


def data_lines(name: str) -> list[str]:
    """The lines of a gzipped file of the shared data, without those that hold nothing."""
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [line for line in file.read().split("\n") if line.strip()]


# Letters, digits and marks of scripts that the shared data has little of.
SCRIPTS = {
    "Chinese": "\u4e00-\u9fa5\u3001\u3002\uff0c",
    "Japanese": "\u3041-\u3096\u30a1-\u30fa\u4e00-\u4fff\u3002",
    "Korean": "\uac00-\ud7a3",
    "Arabic": "\u0621-\u064a\u064b-\u0652\u0660-\u0669\u060c",
    "Hebrew": "\u05b0-\u05bd\u05d0-\u05ea",
    "Cyrillic": "\u0401\u0410-\u044f\u0451",
    "Greek": "\u0386-\u038a\u038c\u038e-\u03a1\u03a3-\u03ce",
    "Hindi": "\u0900-\u0963\u0966-\u096f",
    "Thai": "\u0e01-\u0e3a\u0e40-\u0e4e",
    "marks": "!-/:-@\\[-`{-~\u00a1-\u00bf\u2010-\u2027\u20a0-\u20b0",
}


def script_lines(count: int) -> list[str]:
    """`count` lines of random words in each of `SCRIPTS`, with some Latin words among them."""
    chance = random.Random(0)
    lines = []
    for inside in SCRIPTS.values():
        letters = [c for c in map(chr, range(0x21, 0xD800)) if re.match(f"[{inside}]", c)]
        for _ in range(count):
            words = [
                "".join(chance.choices(letters, k=chance.randint(1, 7)))
                for _ in range(chance.randint(2, 9))
            ]
            lines.append(" ".join([*words, chance.choice(["Ünïcode", "BERT's", "x=1", "e\u0301"])]))
    return lines


def bytes_alone(use_regex=False):
    """The library's splitting into bytes, behind another or GPT-2's own."""
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def learned(pre_tokenizer=None, normalizer=None):
    """The library's byte-level BPE, learned with its own splitting, by default GPT-2's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    whole = Tokenizer(models.BPE())
    whole.pre_tokenizer = pre_tokenizer or bytes_alone(use_regex=True)
    whole.decoder = decoders.ByteLevel()
    if normalizer:
        whole.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    whole.train_from_iterator([PROSE, "f(self, x) == y\n\n    return (a)\n" * 20], trainer)
    return whole


def learned_gpt2(folder: Path) -> Tokenizer:
    """A small vocabulary of GPT-2's kind, in files of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    learned().model.save(str(folder))
    return build(TokenizerConfig(kind="gpt2", path=str(folder)), list)
