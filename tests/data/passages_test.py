import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data.passages import WordRows, encode_words, owners, passages, windows
from tests.data.toy import Toy
from tests.text.tokenizers import KINDS, TEXT, tokenizer

LENGTHS = (st.integers(0, 200), st.integers(1, 60), st.integers(1, 60))


@given(*LENGTHS)
def test_every_token_is_in_a_window_and_none_is_too_long(total, room, stride):
    seen = windows(total, room, stride)
    shown = np.zeros(total, int)
    for first, size in seen:
        assert first >= 0 and size <= room and first + size <= total
        shown[first : first + size] += 1
    assert (shown > 0).all()
    assert all(size == room for _, size in seen[:-1])
    assert [b[0] - a[0] for a, b in zip(seen, seen[1:], strict=False)] == (
        [min(room, stride)] * (len(seen) - 1)
    )


@given(st.integers(1, 120), st.integers(1, 40), st.integers(1, 40))
def test_a_span_is_whole_in_some_window_if_the_overlap_holds_it(total, room, stride):
    seen = windows(total, room, stride)
    longest = max(1, room - min(room, stride))
    for first in range(total - longest + 1):
        assert any(a <= first and first + longest <= a + size for a, size in seen)


@given(st.integers(1, 150), st.integers(1, 40), st.integers(1, 40))
def test_a_token_belongs_to_the_window_of_max_context(total, room, stride):
    seen = windows(total, room, stride)
    for token, owner in enumerate(owners(seen, total)):
        scores = [
            min(token - first, first + size - 1 - token) + 0.01 * size
            if first <= token < first + size
            else -1
            for first, size in seen
        ]
        assert owner == scores.index(max(scores))


def test_a_short_last_window_gives_up_a_token_that_a_whole_one_shows_nearly_as_well():
    seen = windows(388, 384, 128)
    assert seen == [(0, 384), (128, 260)]
    token = np.arange(388)
    poorer = np.minimum(token, 383 - token), np.minimum(token - 128, 387 - token)
    owner = owners(seen, 388)
    # One more token on the poorer side is less than a hundredth of 384 less 260.
    assert poorer[1][256] - poorer[0][256] == 1 and owner[256] == 0
    assert owner[:257].max() == 0 and owner[257:].min() == 1


def test_max_context_as_the_released_code_explains_it():
    # "the man went to the store and bought a gallon of milk", windows of 5, a step of 3
    seen = windows(12, 5, 3)
    assert seen == [(0, 5), (3, 5), (6, 5), (9, 3)]
    assert owners(seen, 12)["the man went to the store and bought".split().index("bought")] == 2


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_the_text_between_blanks(kind):
    text = "It's  (1895-1943),\nsaid \u00a0Zoë."
    (passage,) = passages(tokenizer(kind), [text])
    assert [text[a:b] for a, b in passage.bounds] == text.split()
    assert len(passage.word) == len(passage.tokens) and (np.diff(passage.word) >= 0).all()
    for number, word in enumerate(text.split()):
        first, last = passage.span(number, number)
        plain = tokenizer(kind).decode(tokenizer(kind).encode(word))
        assert tokenizer(kind).decode(passage.tokens[first:last]).strip() == plain


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece", "gpt2"])
@given(text=TEXT)
def test_a_tokenizer_that_keeps_blanks_sees_them(kind, text):
    words = text.split()
    (passage,) = passages(tokenizer(kind), [text])
    assert tokenizer(kind).decode(passage.tokens) == " ".join(words)


def test_each_word_is_encoded_once():
    class Counting(Toy):
        def encode_batch(self, texts):
            self.asked = list(texts)
            return super().encode_batch(texts)

    toy = Counting()
    ids = encode_words(toy, [["a", "bananas", "a"], [], ["bananas"]])
    assert sorted(toy.asked) == ["a", "bananas"]
    assert ids == [[[4], [5, 6], [4]], [], [[5, 6]]]


def test_the_words_of_characters_are_those_that_have_some_of_them():
    (passage,) = passages(Toy(), ["The cat  sat."])
    found = {
        (0, 3): (0, 0),
        (1, 2): (0, 0),
        (2, 5): (0, 1),
        (3, 13): (1, 2),
        (7, 9): None,
        (8, 10): (2, 2),
        (4, 4): None,
        (13, 20): None,
    }
    for (start, end), words in found.items():
        assert passage.words(start, end) == words, (start, end)


def test_tags_come_back_to_their_words():
    rows = WordRows(
        (2, 1, 1),
        np.array([[-1, 0, -1, 2], [-1, -1, 0, -1]]),
        np.array([[-1, 1, -1, 0], [-1, -1, 0, -1]]),
    )
    tags = rows.tags(np.arange(8).reshape(2, 4))
    assert [t.tolist() for t in tags] == [[6, 1], [-1], [3]]
