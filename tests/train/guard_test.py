"""Spikes by a robust z-score: told or left out, and never part of their own yardstick."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.train.guard import GuardConfig, GuardState, judge, robust_z


def judged(config, values, norm=1.0):
    """What is decided about each loss, in order."""
    decide = jax.jit(judge, static_argnums=0)
    state, decided = GuardState.empty(config), []
    for value in values:
        applied, finite, z, state = decide(config, state, jnp.float32(value), jnp.float32(norm))
        decided.append((bool(applied), bool(finite), float(z)))
    return decided, state


def noisy(count, seed=0):
    return 2.0 + 0.1 * np.random.default_rng(seed).standard_normal(count)


@pytest.mark.parametrize(("spike", "applied"), [("skip", False), ("log", True), ("off", True)])
def test_a_spike_is_left_out_told_or_ignored_as_the_policy_says(spike, applied):
    decided, _ = judged(GuardConfig(spike=spike, window=16), [*noisy(16), 9.0, 2.0])
    assert [each[0] for each in decided] == [True] * 16 + [applied, True]
    assert (decided[16][2] > 8) == (spike != "off")
    assert all(each[2] < 8 for each in decided[:16])


def test_a_gradient_that_leaps_is_a_spike_where_the_loss_does_not():
    config, calm = GuardConfig(spike="skip", window=8), jnp.asarray(noisy(8), jnp.float32)
    state = GuardState(losses=calm, norms=calm)
    applied, _, z, _ = judge(config, state, jnp.float32(2.0), jnp.float32(9.0))
    assert not applied and z == robust_z(calm, jnp.float32(9.0))
    # a score of just the threshold is one
    assert not judge(replace(config, threshold=float(z)), state, *jnp.float32([2.0, 9.0]))[0]


def test_a_fall_however_deep_is_no_spike():
    decided, _ = judged(GuardConfig(spike="skip", window=16), [*noisy(16), -9.0])
    applied, _, z = decided[16]
    assert applied and z <= 0


def test_a_short_run_has_no_spikes_yet():
    decided, _ = judged(GuardConfig(spike="skip", window=16), [2.0, 2.0, 2.0, 9.0])
    assert all(applied for applied, _, _ in decided)


def test_a_loss_that_is_not_finite_is_never_applied_nor_measured_with():
    config = GuardConfig(spike="log", window=8)
    decided, state = judged(config, [*noisy(8), np.nan, np.inf, 2.0])
    assert decided[8][:2] == decided[9][:2] == (False, False) and decided[10][0]
    assert np.isfinite(np.asarray(state.losses)).all()


def test_the_score_is_the_distance_to_the_median_in_deviations():
    window = jnp.asarray([1.0, 2.0, 3.0, 4.0, 100.0])  # median 3, deviations 2 1 0 1 97: median 1
    for value, above in ((7.0, 4.0), (-1.0, -4.0)):
        found = robust_z(window, jnp.float32(value))
        np.testing.assert_allclose(found, above / 1.4826, rtol=1e-6)
