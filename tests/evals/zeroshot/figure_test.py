import numpy as np
import pytest

from lm.evals.zeroshot.figure import mean, perplexity, ratio_of


def test_a_mean_has_its_standard_error_and_one_item_has_none():
    figure = mean("accuracy", [1.0, 0.0, 1.0, 1.0])
    assert (figure.value, figure.items) == (0.75, 4)
    assert figure.error == pytest.approx(0.25)
    assert mean("accuracy", [1.0]).error is None


def test_the_error_of_a_ratio_is_the_spread_of_ratios_of_many_samples():
    random = np.random.default_rng(0)
    words = random.integers(5, 40, (400, 300))
    nats = words * random.normal(3.0, 0.5, words.shape) + random.normal(0, 4, words.shape)
    ratios = nats.sum(1) / words.sum(1)
    told = [ratio_of("", row, units).error for row, units in zip(nats, words, strict=True)]
    assert np.mean(told) == pytest.approx(ratios.std(ddof=1), rel=0.1)
    # the control: lines taken as if each had the same number of words
    assert np.mean(told) != pytest.approx((nats / words.mean()).std(1).mean() / 300**0.5, rel=0.3)


def test_perplexity_is_the_exponential_of_all_nats_over_all_words():
    figure = perplexity("word_perplexity", [2.0, 10.0], [1, 3])
    assert figure.value == pytest.approx(np.exp(3.0))
    assert figure.error == pytest.approx(np.exp(3.0) * ratio_of("", [2.0, 10.0], [1, 3]).error)
