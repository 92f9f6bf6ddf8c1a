import json
import math

import numpy as np
import pytest

from experiments.gpt3 import SIZES, TOKENS, tiny, train
from lm.core.config import dump
from lm.core.errors import DataError
from lm.metrics.spread import student
from lm.studies.scaling import PF_DAY, fit, fit_irreducible, points

COMPUTE = np.geomspace(1e-3, 1e2, 6)


def planted(seed, *, noise, irreducible=0.0, compute=COMPUTE):
    """Losses of 2.57 C^-0.2 with a relative error."""
    errors = np.random.default_rng(seed).standard_normal(len(compute))
    return (2.57 * compute**-0.2 + irreducible) * np.exp(noise * errors)


def test_a_law_without_noise_comes_out_exactly():
    law = fit(COMPUTE, planted(0, noise=0))
    assert (law.scale, law.exponent) == (pytest.approx(2.57), pytest.approx(0.2))
    assert law.high - law.low < 1e-9 and law.error < 1e-9
    np.testing.assert_allclose(law([1e3, 1e-6]), 2.57 * np.array([1e3, 1e-6]) ** -0.2)
    assert "C^-0.2" in str(law) and "6 points" in str(law)


def test_a_law_is_told_as_it_is():
    rising = fit([1, 10, 100], [1, 1.1, 1.3], confidence=0.999)
    assert " C^0.05697, exponent -" in str(rising) and "(99.9%, 3 points)" in str(rising)
    assert "(95%, 6 points)" in str(fit(COMPUTE, planted(0, noise=0)))


def covered(fitted):
    return np.mean([law.low <= 0.2 <= law.high for law in fitted])


def test_the_interval_holds_the_planted_exponent_as_often_as_it_says():
    trials = 600
    for confidence in (0.8, 0.95):
        laws = [fit(COMPUTE, planted(n, noise=0.05), confidence=confidence) for n in range(trials)]
        spread = math.sqrt(confidence * (1 - confidence) / trials)
        assert abs(covered(laws) - confidence) < 3.5 * spread
    # the control: the normal interval of so few points does not
    half = np.array([(law.high - law.low) / 2 * 1.96 / student(0.95, 4) for law in laws])
    near = np.abs(np.array([law.exponent for law in laws]) - 0.2) < half
    assert near.mean() < 0.95 - 3.5 * spread


def test_losses_that_do_not_follow_compute_have_no_exponent():
    losses = planted(0, noise=0.02)
    shuffled = [np.random.default_rng(n).permutation(losses) for n in range(100)]
    laws = [fit(COMPUTE, some) for some in shuffled]
    assert np.mean([law.low <= 0 <= law.high for law in laws]) > 0.85
    assert fit(COMPUTE, losses).low > 0


def test_a_loss_that_no_compute_removes_is_found_by_the_law_that_has_it_alone():
    compute = np.geomspace(1e-3, 1e3, 10)
    laws, without = [], []
    for n in range(60):
        losses = planted(n, noise=0.01, irreducible=1.5, compute=compute)
        laws.append(fit_irreducible(compute, losses))
        without.append(fit(compute, losses))
    assert covered(laws) > 0.85
    assert np.median([law.irreducible for law in laws]) == pytest.approx(1.5, rel=0.05)
    assert np.median([law.exponent for law in laws]) == pytest.approx(0.2, rel=0.1)
    assert covered(without) == 0  # the control: the plain law is surely wrong
    # three numbers are fitted: so many points fewer are free
    away = laws[0](compute) / planted(0, noise=0.01, irreducible=1.5, compute=compute) - 1
    assert laws[0].error == pytest.approx((away @ away / (10 - 3)) ** 0.5, rel=1e-6)
    pure = fit_irreducible(COMPUTE, planted(0, noise=0))
    assert pure.exponent == pytest.approx(0.2, rel=2e-3)
    assert pure.irreducible == pytest.approx(0, abs=0.02)


def test_gpt3s_own_curve_is_read_back_from_its_sizes():
    days = [6 * train(size).model.parameters() * TOKENS / PF_DAY for size in SIZES]
    law = fit(days, [train(size).reference.value for size in SIZES])
    assert law.exponent == pytest.approx(0.048, abs=5e-4)
    assert law.scale == pytest.approx(2.57, abs=5e-3)


def test_the_points_of_runs_are_their_products_and_their_loss(tmp_path):
    config = tiny()
    (tmp_path / "config.gin").write_text(dump(config))
    (tmp_path / "summary.json").write_text(json.dumps({"valid_loss": 5.1, "tokens": 300_032}))
    compute, loss = points([tmp_path])
    flops = config.model.flops_per_token(config.model.length) * 300_032
    assert compute[0] == pytest.approx(flops / PF_DAY) and loss.tolist() == [5.1]
    with pytest.raises(DataError, match="is not a pre-training run that has ended"):
        points([tmp_path / "absent"])


@pytest.mark.parametrize(
    ("compute", "loss", "said"),
    [
        ([1, 2], [1, 2], "needs 3 of both"),
        ([1, 2, 3], [1, 2], "3 computes and 2 losses"),
        ([1, 1, 2, 2], [1, 1, 2, 2], "2 different computes"),
        ([1, 2, 0], [1, 2, 3], "not positive"),
        ([1, 2, 3], [1, 2, math.nan], "not positive"),
    ],
)
def test_points_that_carry_no_law_are_refused(compute, loss, said):
    with pytest.raises(DataError, match=said):
        fit(compute, loss)
