"""Curves and errors of planted probabilities."""

from dataclasses import replace

import numpy as np
import pytest

from lm.core.errors import ConfigError
from lm.evals.calibration import (
    Question,
    changes,
    errors,
    of_answers,
    of_choices,
    pooled,
    reliability,
)


def planted(count, seed=0, distort=lambda p: p):
    """Statements that are right as often as their probability, which is then told distorted."""
    random = np.random.default_rng(seed)
    p = random.uniform(size=count)
    return distort(p), random.uniform(size=count) < p


def test_probabilities_that_mean_what_they_say_have_no_error_but_chance():
    curve = reliability(*planted(200_000))
    np.testing.assert_allclose(curve.right, curve.confidence, atol=0.02)
    np.testing.assert_allclose(curve.confidence, np.arange(0.05, 1, 0.1), atol=0.005)
    assert curve.counts.sum() == 200_000 and curve.ece < 0.005


def test_the_error_of_a_known_distortion_is_known():
    # told p^2 of true p: off by p - p^2, on average 1/2 - 1/3
    curve = reliability(*planted(200_000, distort=np.square))
    assert curve.ece == pytest.approx(1 / 6, abs=0.005)
    assert (curve.right > curve.confidence).all()
    sure = reliability(*planted(200_000, distort=lambda p: (p > 0.5) * 1.0))
    assert sure.ece == pytest.approx(0.25, abs=0.005)  # three of four of its certainties are true


def asked(count, seed=0, power=1.0):
    """Questions of three choices that are right as often as is said, or told too sure of that."""
    random = np.random.default_rng(seed)
    rows = random.dirichlet(np.ones(3), count)
    golds = [int(random.choice(3, p=row)) for row in rows]
    told = rows**power / (rows**power).sum(axis=1, keepdims=True)
    return [Question(*each) for each in zip(told.tolist(), golds, strict=True)]


def figures(questions):
    rows, golds = [one.probabilities for one in questions], [one.gold for one in questions]
    choices, answers = of_choices(rows, golds), of_answers(rows, golds)
    told = float(np.mean(answers[1])), reliability(*choices).ece, reliability(*answers).ece
    return dict(zip(("accuracy", "choices", "answers"), told, strict=True))


def test_the_standard_errors_are_the_deviations_over_sets_of_questions():
    for power, wide in ((4.0, 1.0), (1.0, 1.5)):  # an ECE that is nearly 0 can only be larger
        sets = [list(figures(asked(250, seed, power)).values()) for seed in range(1, 200)]
        found = errors(asked(250, power=power))
        assert list(found) == ["accuracy", "choices", "answers"]
        wanted = np.std(sets, axis=0) * [1.0, wide, wide]
        assert list(found.values()) == pytest.approx(wanted.tolist(), rel=0.2)
    assert set(errors(asked(1)).values()) == {None}


def test_questions_of_one_group_are_one_part_of_the_sample():
    alone = asked(60)
    copies = [Question(one.probabilities, one.gold, f"{n}") for n, one in enumerate(alone)] * 4
    assert errors(copies) == pytest.approx(errors(alone))


def test_two_answers_to_the_same_questions_are_drawn_together():
    before = asked(200)
    after = [replace(one, probabilities=(np.array(one.probabilities) * 0.98 + 0.02 / 3).tolist())
             for one in before]  # fmt: skip
    found, alone = changes(before, after), errors(after)
    for name, (change, error) in found.items():
        assert change == pytest.approx(figures(after)[name] - figures(before)[name])
        assert error < alone[name]
    assert found["accuracy"] == (0.0, 0.0)  # the order of the choices is the same
    other = changes(before, asked(200, seed=1))  # answers that know nothing of each other
    apart = {name: np.hypot(error, errors(asked(200, 1))[name]) for name, error in alone.items()}
    assert {name: error for name, (_, error) in other.items()} == pytest.approx(apart, rel=0.3)


def test_bins_are_closed_above_and_empty_ones_do_not_count():
    curve = reliability([0.0, 0.1, 0.2, 0.2001, 1.0], [0, 0, 1, 1, 1])
    assert curve.counts.tolist() == [2, 1, 1, 0, 0, 0, 0, 0, 0, 1]
    assert np.isnan(curve.right[5])
    assert curve.ece == pytest.approx((0.1 + 0.8 + 0.7999 + 0) / 5)
    told = curve.figures()
    assert told["counts"] == [2, 1, 1, 1] and told["bins"] == 10
    assert reliability([0.4, 0.6], [0, 1], bins=1).ece == pytest.approx(0)


def test_a_curve_of_several_is_that_of_all_their_statements():
    p, right = planted(3000)
    parts = slice(0, 40), slice(40, 900), slice(900, None)
    found = pooled([reliability(p[part], right[part]).figures() for part in parts])
    whole = reliability(p, right)
    assert found.counts.tolist() == whole.counts.tolist()
    np.testing.assert_allclose(found.confidence, whole.confidence)
    np.testing.assert_allclose(found.right, whole.right)
    ends = [reliability([p], [1]).figures() for p in (0.3, 0.3000001, 0.3)]  # at a bin's end
    assert pooled(ends).counts[2:4].tolist() == [2, 1]


def test_every_choice_is_a_statement_or_only_the_likeliest():
    rows, golds = [[0.7, 0.2, 0.1], [0.4, 0.6]], [0, 0]
    p, right = of_choices(rows, golds)
    assert p.tolist() == [0.7, 0.2, 0.1, 0.4, 0.6]
    assert right.tolist() == [True, False, False, True, False]
    p, right = of_answers(rows, golds)
    assert p.tolist() == [0.7, 0.6] and right.tolist() == [True, False]


def test_what_is_no_probability_is_refused():
    with pytest.raises(ConfigError, match="not in 0..1"):
        reliability([1.1], [1])
    with pytest.raises(ConfigError, match="no statements"):
        reliability([], [])
