"""What is written for AutoTokenizer has our ids, or nothing that it could read."""

import json

import pytest

from lm.text import auto_tokenizer
from lm.text.byte import ByteTokenizer
from tests.text.tokenizers import HARD, PROSE, tokenizer

library = pytest.importorskip("tokenizers")


def test_a_sentencepiece_of_ours_is_written_with_its_own_ids():
    ours = tokenizer("sentencepiece")
    files = auto_tokenizer.files(ours)
    theirs = library.Tokenizer.from_str(files["tokenizer.json"].decode())
    for text in (PROSE, *HARD):
        if "\u2581" not in text:
            assert theirs.encode(text).ids == ours.encode(text), text
            assert theirs.decode(ours.encode(text)) == text
    told = json.loads(files["tokenizer_config.json"])
    assert ours.specials["end"] == theirs.token_to_id(told["eos_token"])


def test_a_vocabulary_that_comes_out_otherwise_is_not_written(monkeypatch):
    ours = tokenizer("sentencepiece")
    pieces = ours.pieces()
    monkeypatch.setattr(ours, "pieces", lambda: [(p, s and -s) for p, s in pieces])
    for one in (ours, ByteTokenizer()):
        (name,) = files = auto_tokenizer.files(one)
        assert name == "tokenizer_config.json" and auto_tokenizer.NONE.encode() in files[name]
