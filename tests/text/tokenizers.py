"""The tokenizers that several tests look at, and text that is hard on them."""

import functools
import gzip
import json
import random
from pathlib import Path

import pytest
from hypothesis import strategies as st

from lm.text.byte import ByteTokenizer
from lm.text.interface import SPECIALS, Tokenizer
from lm.text.sentencepiece import train
from lm.text.tokenizer import TokenizerConfig, build

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
        return train([PROSE, "".join(HARD)], 420)
    return build(TokenizerConfig(kind=kind, path=str(published(kind))), list)


def published(kind: str) -> Path:
    pytest.importorskip("tokenizers")
    folder = DATA / PUBLISHED[kind]
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    return folder


def web_lines(count: int) -> list[str]:
    path = DATA / "web_samples" / "c4_demo.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        texts = [line for row in file for line in json.loads(row)["text"].split("\n")]
    return random.Random(0).sample(texts, count)
