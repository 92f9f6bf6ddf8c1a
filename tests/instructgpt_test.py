"""The numbers of Ouyang et al. (2022), at every size, of prompts and of conversations."""

from dataclasses import replace

import numpy as np
import pytest

from experiments import chatgpt, instructgpt
from lm.core.errors import ConfigError
from lm.rlhf.sft import Sft
from lm.rlhf.source import Source
from lm.text.byte import ByteTokenizer
from lm.train.optimizer import Progress
from tests.rlhf.runs import MODEL, write_rows

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
    assert found.pretraining_share == 0.0
    assert found.data.per_user == 200 and found.data.common_prefix == 256  # the second: ours


@BOTH
def test_the_one_reward_model_has_the_papers_numbers(of):
    found = of.reward("6b")
    assert (found.optim.peak_lr, found.batch, found.epochs) == (9e-6, 64, 1.0)
    assert whole(found.optim) == COSINE and (found.loss, found.end_token) == ("pairs", True)
    assert found.data.per_user == 200 and found.data.common_prefix == 256
    for size in SIZES:
        assert of.reward(size) == found
        assert of.dpo(size).data == found.data


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
        assert found.data.per_user == 200 and found.data.common_prefix == 256
        assert found.prompt_length == 1024
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


ALIKE = "a long beginning " * 20
ASKED = [*(f"{n} short" for n in range(40)), f"{ALIKE}1", f"{ALIKE}2", "x" * 1024, "y" * 1500,
         "z" * 5000]  # fmt: skip


START = Source(MODEL, ByteTokenizer(), None, {}, "start")


def kept(stage, folder):
    """The lengths of the long prompts that a step keeps, of a byte a token, and what it tells."""
    rows = [{"prompt": one, "response": "a", "answers": ["a", "b"], "ranks": [0, 1]}
            for one in ASKED]  # fmt: skip
    data = replace(stage.data, train=write_rows(folder / "rows.jsonl", rows))
    material = replace(stage, data=data).material(ByteTokenizer(), START, None)
    if not isinstance(stage, Sft):
        found = [one.rows.start[:, 0] for one in material.parts.values()]
    else:
        found = [one.rows.mask.argmax(axis=1) + 1 for one in (material.train, material.held_out)]
    return sorted(size for size in np.concatenate(found).tolist() if size > 10), str(material)


@pytest.mark.parametrize(
    "of", [instructgpt.sft, instructgpt.reward, instructgpt.dpo], ids=lambda of: of.__name__
)
def test_prompts_that_are_long_or_begin_alike_are_left_out_of_every_step(of, tmp_path, monkeypatch):
    monkeypatch.setattr("lm.rlhf.dpo.reference_logp", lambda _, rows, *__: rows.reference)
    sizes, told = kept(of("6b"), tmp_path)
    assert sizes == [len(ALIKE) + 1, 1024] and "of prompts above prompt_length" in told
    every = replace(of("6b"), data=of().data, prompt_length=None)  # the control
    longest = [5000] if of is instructgpt.sft else [2048 - len("a") - 1]  # one is cut, not left out
    sizes, _ = kept(replace(every, length=6000 if of is instructgpt.sft else 2048), tmp_path)
    assert sizes == [len(ALIKE) + 1] * 2 + [1024, 1500, *longest]


@BOTH
def test_the_tiny_sizes_have_other_numbers(of):
    assert of.ppo_ptx().update.gamma not in (0.0, 27.8)  # the control
    assert of.ppo().update.average != 0.992
    assert of.pipeline().sft == of.sft() and of.pipeline().ppo == of.ppo()
    assert of.sft().prompt_length is None and of.reward().prompt_length is None


@pytest.mark.parametrize("size", SIZES)
def test_a_long_conversation_is_cut_at_a_turn_and_not_left_out(size):
    for of in (chatgpt.sft, chatgpt.reward, chatgpt.dpo):
        assert of(size).prompt_length is None
    with pytest.raises(
        ConfigError, match="prompt_length 1024: of a longer conversation the newest"
    ):
        replace(chatgpt.sft(size), prompt_length=1024)
