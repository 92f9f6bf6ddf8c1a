import random

import numpy as np
import pytest

from lm.core.errors import ConfigError
from lm.data.quality import FEATURES, Quality, features, fit, lomax


def page(kind, seed):
    """Words of a kind, Zipf-like, among words that both kinds have."""
    numbers = random.Random(f"{kind}{seed}")
    own = [f"{kind}{int(numbers.paretovariate(0.7))}" for _ in range(20)]
    both = [f"the{int(numbers.paretovariate(0.7))}" for _ in range(60)]
    return " ".join(numbers.sample(own + both, 80))


GOOD = [page("essay", n) for n in range(150)]
RAW = [page("click", n) for n in range(300)]


@pytest.fixture(scope="module")
def quality():
    return fit(GOOD[:100], RAW[:200])


def test_curated_text_is_told_from_raw_text_that_was_not_learned(quality):
    good = [quality.score(text) for text in GOOD[100:]]
    raw = [quality.score(text) for text in RAW[200:]]
    assert np.mean(np.array(good) > 0.5) > 0.95 and np.mean(np.array(raw) < 0.5) > 0.95
    # the control: of labels that say nothing nothing is learned
    mixed = fit(GOOD[:50] + RAW[:50], GOOD[50:100] + RAW[50:100])
    right = [mixed.score(text) > 0.5 for text in GOOD[100:]]
    right += [mixed.score(text) < 0.5 for text in RAW[200:250]]
    assert 0.3 < np.mean(right) < 0.7


def test_the_features_of_a_text_have_length_one_however_long_it_is():
    for text in ("a", "a b b", " ".join(GOOD)):
        assert np.linalg.norm(features(text)[1]) == pytest.approx(1)
    assert sorted(features("a b b")[1]) == pytest.approx([1 / 5**0.5, 2 / 5**0.5])


def test_the_score_is_the_minimum_of_the_penalised_likelihood(quality):
    """Its gradient is nought, written out without the solver."""
    rows = [features(text) for text in GOOD[:100] + RAW[:200]]
    share = np.repeat([0.5 / 100, 0.5 / 200], [100, 200])
    label = np.repeat([1.0, 0.0], [100, 200])
    scores = np.array([quality.weights[i] @ v + quality.bias for i, v in rows])
    slope = share * (1 / (1 + np.exp(-scores)) - label)
    gradient = 1e-5 * quality.weights
    for (index, values), each in zip(rows, slope, strict=True):
        gradient[index] += values * each
    at_zero = np.zeros(FEATURES)
    for (index, values), each in zip(rows, share * (0.5 - label), strict=True):
        at_zero[index] += values * each
    assert np.linalg.norm(gradient) < 0.02 * np.linalg.norm(at_zero)
    assert abs(slope.sum()) < 1e-3


def test_the_two_sides_weigh_the_same_however_many_there_are():
    few = fit(GOOD[:20], RAW[:200])
    assert np.mean([few.score(text) for text in GOOD[100:]]) > 0.5
    assert np.mean([few.score(text) for text in RAW[200:]]) < 0.5
    nothing = fit(["same words"] * 3, ["same words"] * 30)
    assert nothing.score("same words") == pytest.approx(0.5, abs=1e-3)


def test_a_text_twice_as_long_has_the_same_score(quality):
    assert quality.score(GOOD[0]) == pytest.approx(quality.score(f"{GOOD[0]} {GOOD[0]}"))
    assert features("")[0].size == 0 and 0 < quality.score("") < 1


def test_the_draw_is_numpys_pareto():
    uniform = (np.arange(100_000) + 0.5) / 100_000
    ours = np.sort([lomax(u) for u in uniform])
    theirs = np.sort(np.random.default_rng(0).pareto(9, 100_000))
    # Kolmogorov and Smirnov: 1.63 / sqrt(n) is the 1% point
    distance = np.abs(np.searchsorted(theirs, ours) / 100_000 - uniform).max()
    assert distance < 1.63 / np.sqrt(100_000)
    classic = np.sort(1 + theirs)  # the control: Pareto's own distribution begins at 1
    assert np.abs(np.searchsorted(classic, ours) / 100_000 - uniform).max() > 0.5


@pytest.mark.parametrize("score", [0.0, 0.5, 0.9, 1.0])
def test_a_document_stays_with_the_probability_of_its_score(score):
    logit = np.clip(np.log(score / (1 - score)) if 0 < score < 1 else (score - 0.5) * 100, -50, 50)
    flat = Quality(np.zeros(FEATURES), float(logit))
    texts = [f"text {n}" for n in range(4_000)]
    expected = (2 - score) ** -9
    kept = [flat.keeps(text, 0) for text in texts]
    spread = (expected * (1 - expected) / len(texts)) ** 0.5
    assert abs(np.mean(kept) - expected) <= 4 * spread
    assert kept[:500] == [flat.keeps(text, 0) for text in texts[:500]]
    if score == 0.5:
        assert kept != [flat.keeps(text, 1) for text in texts]


def test_one_side_alone_is_refused():
    with pytest.raises(ConfigError, match="documents on both sides"):
        fit([], RAW[:3])
