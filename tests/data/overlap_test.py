import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.core.errors import ConfigError
from lm.data import overlap
from lm.data.overlap import GramIndex, gram_words, merged, runs, word_count


def prose(words, seed):
    chosen = random.Random(seed)
    return " ".join(f"w{chosen.randrange(1000)}" for _ in range(words))


QUESTION = "What is it that walks on four legs in the morning, on two at noon and on three?"
WORDS = QUESTION.split()


def test_thirteen_words_in_a_row_are_an_overlap_and_twelve_are_none():
    index = GramIndex([QUESTION])
    assert index.positions(f"before {' '.join(WORDS[3:16])} after")
    assert not index.positions(f"before {' '.join(WORDS[3:15])} after")
    assert not index.positions(" ".join(WORDS[:12] + ["not"] + WORDS[13:]))
    assert not index.positions("") and not GramIndex([]).positions(QUESTION)


def test_case_punctuation_and_white_space_make_no_difference():
    index = GramIndex([QUESTION])
    assert index.positions(QUESTION.upper().replace(" ", "\n\t — ").replace("t", "'T"))
    assert not index.positions(QUESTION.replace(" ", ""))


def test_positions_are_those_of_the_words():
    index = GramIndex([QUESTION])
    text = f"{prose(40, 0)} «{QUESTION}» {prose(40, 1)} {' '.join(WORDS[:13])}. {prose(5, 2)}"
    (first, second) = index.positions(text)
    assert text[slice(*first)] == f"«{QUESTION}»"  # the word with its punctuation
    assert text[slice(*second)] == " ".join(WORDS[:13]) + "."
    assert index.positions(prose(500, 3)) == []


@pytest.mark.parametrize("before", [0, 5, 50, 63, 64, 65, 99, 64 * 40 + 7])
def test_nothing_is_lost_where_a_long_document_is_looked_up_in_pieces(before, monkeypatch):
    monkeypatch.setattr(overlap, "PIECE", 200)
    index = GramIndex([QUESTION, " ".join(WORDS[:9])])
    text = f"{prose(before, 0)} {QUESTION} {prose(400, 1)}"
    ((start, end),) = index.positions(text)
    assert text[start:end] == QUESTION
    assert index.scan([text]) == 1
    assert all((grams.documents == 1).all() for grams in index.lengths.values())


def test_the_texts_that_stand_in_a_corpus_are_told_from_those_that_do_not():
    items = [prose(30, seed) for seed in range(200)]
    leaked = {3, 50, 199}
    corpus = [prose(5000, 1000 + n) for n in range(20)]
    for number, item in enumerate(sorted(leaked)):
        place = 300 * (number + 1)
        corpus[number] = corpus[number][:place] + f" {items[item]} " + corpus[number][place:]
    index = GramIndex(items)
    assert index.scan(corpus) == 20
    assert set(np.flatnonzero(index.contaminated()).tolist()) == leaked
    # the control: the same words in another order are no overlap
    shuffled = GramIndex([" ".join(random.Random(0).sample(i.split(), 30)) for i in items])
    shuffled.scan(corpus)
    assert not shuffled.contaminated().any()


def test_what_more_than_ten_documents_share_is_no_sign():
    index = GramIndex([QUESTION, prose(20, 0)])
    index.scan([f"{n} {QUESTION} {n}" for n in range(10)])
    assert index.contaminated().tolist() == [True, False] and index.common() == 0
    assert index.positions(QUESTION, most=10) == [(0, len(QUESTION))]
    index.scan([f"{QUESTION} {QUESTION}"])  # an eleventh, which counts once
    assert index.contaminated().tolist() == [False, False]
    assert index.contaminated(most=None).tolist() == [True, False]
    assert index.common() == len(WORDS) - 12
    assert index.positions(QUESTION) == [(0, len(QUESTION))]
    assert index.positions(QUESTION, most=10) == []


def test_a_text_shorter_than_a_gram_is_looked_up_whole_or_not_at_all():
    ten, five = " ".join(WORDS[:10]), " ".join(WORDS[:5])
    index = GramIndex([ten, five, QUESTION])
    assert (index.texts, index.short) == (3, 1) and sorted(index.lengths) == [10, 13]
    index.scan([f"so {ten} so"])
    assert index.contaminated().tolist() == [True, False, False]
    assert not index.positions(" ".join(WORDS[:9]))
    assert GramIndex([five], shortest=5).positions(QUESTION)
    with pytest.raises(ConfigError, match="shortest 14 must be in 1..13"):
        GramIndex([], shortest=14)


def test_texts_may_have_grams_of_their_own_length():
    index = GramIndex([QUESTION, QUESTION], [9, 13])
    index.scan([f"before {' '.join(WORDS[3:13])} after"])  # ten words
    assert index.contaminated().tolist() == [True, False]
    index.scan([QUESTION])
    assert index.contaminated().tolist() == [True, True]


def test_the_share_of_a_text_is_that_of_its_different_grams():
    """GPT-2's measure of a test set, by 8 words: 9.09% of WikiText-103's stand in its training."""
    nine, ten = prose(16, 0), prose(17, 1)  # of nine and of ten grams
    index = GramIndex([nine, f"{ten} {ten}", "too short", nine], 8)
    index.scan([f"so {' '.join(nine.split()[2:14])} so", "nothing"])  # five of the nine
    assert index.shares() == [5 / 9, 0, None, 5 / 9]
    index.scan([ten.upper()])  # all but those across the two times that it stands there
    assert index.shares()[1] == 10 / 17


def test_the_words_of_a_gram_follow_the_lengths_of_a_test_set():
    assert gram_words([prose(5, 0)] * 100) == 8
    assert gram_words([prose(11, 0)] * 100) == 11
    assert gram_words([prose(50, 0)] * 100) == 13 == gram_words([])
    assert gram_words([prose(9, 0)] * 10 + [prose(90, 0)] * 90) == 9


def test_stretches_that_touch_are_one():
    assert merged([(5, 7), (0, 3), (3, 4), (6, 9), (1, 2)]) == [(0, 4), (5, 9)]


@given(st.text(st.sampled_from("ab.\u2003\x1c\n é—"), max_size=60), st.integers(1, 4))
def test_the_words_of_a_text_are_the_same_in_pieces_and_whole(text, words):
    expected = [w for w in ("".join(filter(str.isalnum, each)) for each in text.split()) if w]
    assert word_count(text) == len(expected)
    hashes = [overlap.word_hash(word) for word in expected]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "PIECE", 3)
        parts = list(runs(text, words))
    for part, first in parts:
        assert part.tolist() == hashes[first : first + len(part)]
        assert len(part) >= words or len(parts) == 1
    starts = [first + n for part, first in parts for n in range(max(0, len(part) - words + 1))]
    assert starts == list(range(max(0, len(hashes) - words + 1)))  # every run of words once
    assert sum(len(p) for p, _ in parts) >= len(hashes)
