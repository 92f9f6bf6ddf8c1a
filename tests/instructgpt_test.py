"""The numbers of Ouyang et al. (2022), at every size, of prompts and of conversations."""

import pytest

from experiments import chatgpt, instructgpt
from lm.train.optimizer import Progress

#        rate, batch of SFT; rate before PPO; rate of the value function (appendix C)
SIZES = {
    "1.3b": (9.65e-6, 32, 5e-6, 9e-6),
    "6b": (9.65e-6, 32, 1.04e-5, 9e-6),
    "175b": (5.03e-6, 8, 2.45e-6, 5e-6),
}


def whole(optim):
    """First and last rate of a run, as parts of the highest; what else its Adam is."""
    rates = [optim.rate(Progress(step, 1000, step + 1, 1000)) for step in (0, 999)]
    return [rate / optim.peak_lr for rate in rates], (optim.b1, optim.b2, optim.weight_decay)


# the method of ChatGPT is that of InstructGPT (its announcement)
BOTH = pytest.mark.parametrize("of", [instructgpt, chatgpt], ids=lambda of: of.__name__)
COSINE = (pytest.approx([1.0, 0.1], rel=1e-4), (0.9, 0.95, 0.0))


@BOTH
@pytest.mark.parametrize("size", SIZES)
def test_sft_has_the_papers_numbers(of, size):
    rate, batch, _, _ = SIZES[size]
    found = of.sft(size)
    assert (found.optim.peak_lr, found.batch, found.epochs) == (rate, batch, 16.0)
    assert found.decoder.residual_dropout == 0.2 and whole(found.optim) == COSINE
    assert found.pretraining_share == 0.0 and found.data.per_user == 200


@BOTH
def test_the_one_reward_model_has_the_papers_numbers(of):
    found = of.reward("6b")
    assert (found.optim.peak_lr, found.batch, found.epochs) == (9e-6, 64, 1.0)
    assert whole(found.optim) == COSINE and (found.loss, found.end_token) == ("pairs", True)
    assert found.data.per_user == 200
    for size in SIZES:
        assert of.reward(size) == found


@BOTH
@pytest.mark.parametrize("size", SIZES)
def test_the_model_that_ppo_starts_from_has_the_papers_numbers(of, size):
    start = of.pipeline(size).sft
    assert start.data == of.sft(size).data and start.model == of.sft(size).model
    assert (start.optim.peak_lr, start.batch) == (SIZES[size][2], SIZES[size][1])
    assert (start.epochs, start.pretraining_share) == (2.0, 0.1) and whole(start.optim) == COSINE


@BOTH
@pytest.mark.parametrize("size", SIZES)
def test_ppo_and_ppo_ptx_have_the_papers_numbers(of, size):
    plain, ptx = of.ppo(size), of.ppo_ptx(size)
    assert (plain.update.gamma, ptx.update.gamma, ptx.update.text_rows) == (0.0, 27.8, 8)
    for found in (plain, ptx):
        assert found.batch * found.steps == 256_000 and found.batch == 512
        assert (found.update.minibatches, found.update.inner_epochs) == (8, 1)
        assert (found.update.clip, found.update.average, found.kl.beta) == (0.2, 0.992, 0.02)
        assert (found.advantages.discount, found.advantages.decay) == (1.0, 0.95)
        assert (found.temperature, found.answer_length, found.fixed_length) == (1.0, 1024, False)
        assert (found.value_optim.peak_lr, found.warmup) == (SIZES[size][3], 10)
        assert found.critic_model == of.reward("6b").decoder
        assert found.kl.target is None and not found.linear_decay
        assert found.data.per_user == 200 and found.data.common_prefix  # its length: ours
        # swept, not printed
        assert 2.55e-6 <= found.optim.peak_lr <= 2.55e-5
        steps, rise = (0, 5, 10, 499), pytest.approx([0.1, 0.55, 1.0, 1.0])
        policy, value = zip(*(map(float, found.rates(step)) for step in steps), strict=True)
        assert [rate / found.optim.peak_lr for rate in policy] == rise
        fixed = [rate / found.value_optim.peak_lr for rate in value]
        assert fixed == pytest.approx([1.0] * 4) and fixed != rise
        found.check_rates()
    if of is chatgpt:
        assert of.pipeline(size).ppo == ptx
    else:
        assert of.pipeline(size).ppo == plain and of.pipeline(size).ppo_ptx == ptx


@BOTH
def test_the_tiny_sizes_have_other_numbers(of):
    assert of.ppo_ptx().update.gamma not in (0.0, 27.8)  # the control
    assert of.ppo().update.average != 0.992
    assert of.pipeline().sft == of.sft() and of.pipeline().ppo == of.ppo()
