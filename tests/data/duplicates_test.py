import random

import numpy as np
import pytest

from lm.core.errors import ConfigError
from lm.data import overlap
from lm.data.duplicates import AGREE, BANDS, HASHES, Duplicates, signature


def article(seed, words=300):
    numbers = random.Random(seed)
    return [f"w{int(numbers.paretovariate(0.3)) % 5000}" for _ in range(words)]


def edited(words, share, seed=0):
    """A copy in which this share of the words is another."""
    numbers = random.Random(seed)
    return [f"x{numbers.random()}" if numbers.random() < share else word for word in words]


def jaccard(a, b, shingle=5):
    sets = [{tuple(t[i : i + shingle]) for i in range(len(t) - shingle + 1)} for t in (a, b)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_planted_copies_are_found_and_other_documents_are_none():
    originals = [article(n) for n in range(100)]
    copies = Duplicates()
    assert not any(copies.seen(" ".join(words)) for words in originals)
    assert all(copies.seen(" ".join(edited(words, 0.01, 1))) for words in originals[::4])
    assert not any(copies.seen(" ".join(article(n))) for n in range(100, 150))


@pytest.mark.parametrize(("share", "least", "most"), [(0.01, 0.97, 1.0), (0.3, 0.0, 0.02)])
def test_nearly_equal_is_a_copy_and_half_equal_is_not(share, least, most):
    found = 0
    for n in range(100):
        words = article(n)
        copies = Duplicates()
        assert not copies.seen(" ".join(words))
        found += copies.seen(" ".join(edited(words, share, n)))
    assert least <= found / 100 <= most


def test_the_share_of_equal_minima_is_the_jaccard_similarity():
    equal, exact = [], []
    for n in range(150):
        words = article(n)
        other = edited(words, 0.08, n)
        pair = (signature(" ".join(words)), signature(" ".join(other)))
        equal.append((pair[0] == pair[1]).mean())
        exact.append(jaccard(words, other))
    error = np.std(equal) / np.sqrt(len(equal))
    assert 0.3 < np.mean(exact) < 0.7
    assert abs(np.mean(equal) - np.mean(exact)) < 4 * error


def test_every_pair_with_six_equal_minima_is_looked_at():
    """Bands of two find all of them: six of ten cannot be in five bands and fill none."""
    numbers = np.random.default_rng(0)
    for _ in range(200):
        same = np.zeros(HASHES, bool)
        same[numbers.permutation(HASHES)[:AGREE]] = True
        assert same.reshape(BANDS, -1).all(1).any()
    with pytest.raises(ConfigError, match="agree 5 must be in 6..10"):
        Duplicates(agree=5)


@pytest.mark.parametrize(("same", "copy"), [(AGREE - 1, False), (AGREE, True), (HASHES, True)])
def test_six_of_the_ten_minima_make_a_copy_and_five_do_not(same, copy):
    text = " ".join(article(0))
    whole = signature(text)
    assert len(np.unique(whole)) == HASHES  # the hashes are ten
    copies = Duplicates()
    copies.remember(np.where(np.arange(HASHES) < same, whole, whole + np.uint64(1)))
    assert copies.seen(text) is copy


def test_the_cost_is_linear_in_the_documents():
    compared = []
    for size in (300, 600, 1200):
        copies = Duplicates()
        assert not any(copies.seen(" ".join(article(n, 60))) for n in range(size))
        compared.append(copies.compared)
    assert compared[-1] < 0.1 * 1200  # of 719,400 pairs


def test_a_copy_of_a_copy_is_compared_with_what_was_kept():
    words, copies, kept, found = article(0, 600), Duplicates(), [], []
    for first in range(0, 300, 20):  # each much as the one before, and little as the first
        text = " ".join(words[first : first + 300])
        found.append(copies.seen(text))
        own = signature(text)
        assert found[-1] == any((own == other).sum() >= AGREE for other in kept)
        kept += [] if found[-1] else [own]
    assert found[:2] == [False, True] and not all(found[1:])


def test_case_and_punctuation_make_no_other_document():
    copies = Duplicates()
    text = "It was the best of times, it was the worst of times."
    assert not copies.seen(text)
    assert copies.seen(text.upper().replace(",", " —"))
    assert not copies.seen("It was the age of wisdom, it was the age of foolishness.")


def test_short_documents_are_copies_only_where_they_are_equal():
    copies = Duplicates()
    assert not copies.seen("Page not found") and copies.seen("page not found!")
    assert not copies.seen("Page found") and not copies.seen("") and not copies.seen("")


def test_a_long_document_has_the_signature_of_its_whole(monkeypatch):
    text = " ".join(article(0, 2000))
    whole = signature(text)
    monkeypatch.setattr(overlap, "PIECE", 200)
    assert np.array_equal(signature(text), whole)
