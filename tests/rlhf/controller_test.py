"""The coefficient of the KL penalty against lm-human-preferences, written out."""

from dataclasses import replace

import numpy as np
import pytest

from experiments import instructgpt
from lm.core.errors import ConfigError
from lm.rlhf.controller import KlConfig, check_beta, next_beta, own_beta
from lm.rlhf.update import UpdateConfig


def test_beta_is_steered_as_in_lm_human_preferences():
    config = KlConfig(beta=0.2, target=6.0, horizon=10_000)
    ours = theirs = 0.2
    for kl in (0.0, 3.0, 5.5, 6.5, 7.5, 40.0, 6.0):
        ours = next_beta(config, ours, kl, 512)
        theirs *= 1 + np.clip(kl / 6.0 - 1, -0.2, 0.2) * 512 / 10_000
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert float(next_beta(config, 0.2, 12.0, 512)) > 0.2 > float(next_beta(config, 0.2, 1.0, 512))


def test_a_fixed_beta_stays():
    assert next_beta(KlConfig(beta=0.02), 0.02, 1e6, 512) == 0.02


def test_a_fixed_beta_is_that_of_the_config_whatever_the_state_began_with():
    was, steered = np.float32(0.02), KlConfig(beta=0.5, target=6.0)
    assert own_beta(KlConfig(beta=0.5), was) == next_beta(KlConfig(beta=0.5), was, 9.0, 512) == 0.5
    assert own_beta(steered, was) == was < next_beta(steered, was, 9.0, 512) < 0.03  # the control


def test_a_beta_that_was_steered_since_is_not_set_anew():
    changed = {"kl.beta": (0.02, 0.5), "steps": (4, 9)}
    with pytest.raises(
        ConfigError, match=r"^kl.beta: checkpoint 0.02, now 0.5, .* at 0.5$"
    ) as told:
        check_beta(KlConfig(beta=0.5, target=6.0), changed)
    assert "\n" not in str(told.value)
    check_beta(KlConfig(beta=0.5), changed)  # the controls
    check_beta(KlConfig(beta=0.5, target=6.0), {"steps": (4, 9)})


def test_a_penalty_that_an_update_could_turn_below_zero_is_refused():
    kl = KlConfig(target=6.0, horizon=10)
    with pytest.raises(ConfigError, match="^batch 50 must be below 5 x kl.horizon 10: .* longer"):
        replace(instructgpt.ppo(), batch=50, update=UpdateConfig(minibatches=1), kl=kl)
    for batch, config in ((49, kl), (50, KlConfig(horizon=10))):  # the controls
        replace(instructgpt.ppo(), batch=batch, update=UpdateConfig(minibatches=1), kl=config)
    assert float(next_beta(kl, 0.2, 0.0, 49)) > 0 >= float(next_beta(kl, 0.2, 0.0, 50))


def test_a_target_without_a_penalty_to_steer_is_refused():
    with pytest.raises(ConfigError, match="kl.target 6.0 steers kl.beta by factors"):
        KlConfig(beta=0.0, target=6.0)
