"""Text while it comes is the text of all ids together, in every vocabulary."""

import random

import pytest

from lm.serve.model import Served
from lm.serve.spelling import WINDOW, Words
from lm.text import gpt1, wordpiece
from lm.text.byte import ByteTokenizer

TEXT = (
    "Mr. Smith didn't say: \"I'm here\". It's 3 o'clock, isn't it?\n"
    "They've gone (all of them) to the U.S. market - well-known, $5.00 each... "
    "The cat sat on the mat, and the dog ran away; nobody knew why!\n\n"
)


@pytest.fixture(scope="module")
def vocabularies():
    def texts():
        return [TEXT * 3]

    return {
        "gpt1": gpt1.train(texts, 130),
        "wordpiece": wordpiece.train(texts, 130),
        "cased": wordpiece.train(texts, 130, cased=True),
        "bytes": ByteTokenizer(),
    }


def streamed(served, ids):
    spelling = served.spelling()
    parts = [spelling.add(i) for i in ids]
    return "".join(parts) + spelling.finish(), parts


@pytest.mark.parametrize("kind", ["gpt1", "wordpiece", "cased", "bytes"])
def test_what_is_streamed_is_what_all_ids_say_together(vocabularies, kind):
    tokenizer = vocabularies[kind]
    served = Served("it", None, tokenizer)
    ids = tokenizer.encode(TEXT * 4)
    assert len(ids) > 3 * WINDOW
    text, parts = streamed(served, ids)
    assert text == tokenizer.decode(ids)
    assert sum(bool(part) for part in parts) > len(text.split()) / 2  # it does come in parts
    # the control: id by id the blanks would be lost
    assert kind == "bytes" or "".join(map(served.text, ([i] for i in ids))) != text
    for cut in range(1, 40):
        assert streamed(served, ids[:cut])[0] == tokenizer.decode(ids[:cut])


@pytest.mark.parametrize("kind", ["gpt1", "wordpiece"])
def test_a_long_answer_is_decoded_in_a_window(vocabularies, kind):
    tokenizer = vocabularies[kind]
    decoded = []

    def spelled(ids):
        decoded.append(len(ids))
        return tokenizer.decode(ids)

    spelling, ids = Words(spelled), tokenizer.encode(TEXT * 8)
    for i in ids:
        spelling.add(i)
    assert max(decoded) < 3 * WINDOW < len(ids)
    assert spelling.size == len(tokenizer.decode(ids))


def test_words_in_no_order_lose_no_blank(vocabularies):
    tokenizer, drawn = vocabularies["wordpiece"], random.Random(0)
    served = Served("it", None, tokenizer)
    for _ in range(50):
        ids = [drawn.randrange(tokenizer.vocab_size) for _ in range(drawn.randrange(1, 200))]
        assert streamed(served, ids)[0] == tokenizer.decode(ids)


def test_where_a_token_begins_counts_whole_characters():
    spelling = Served("it", None, ByteTokenizer()).spelling()
    begins = []
    for byte in "aß€x".encode():
        begins.append(spelling.size)
        spelling.add(byte)
    assert begins == [0, 1, 1, 2, 2, 2, 3]
