"""How fast reinforcement learning and reward models are, by the programs that the runs themselves
use: a whole update of PPO, from prompts to new parameters, and a step of reward training.

Four models of one shape; answers go on to their last token, so that every update is as long. On a
machine that others use as well, the seconds of its processors (`cpu_ms`) say more than the clock.
"""

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lm.core.mesh import one_device, place
from lm.models import gpt, reward
from lm.models.gpt import GptConfig
from lm.rlhf.experience import assess
from lm.rlhf.ppo import Ppo
from lm.rlhf.ranking import abstract_rankings
from lm.rlhf.reward import RewardTraining
from lm.rlhf.rollout import Prompts, roll_out
from lm.rlhf.scores import score_rollout
from lm.rlhf.update import UpdateConfig
from lm.studies.speed import Dtype, share_of_matmul, spread
from lm.train.optimizer import AdamWConfig
from lm.train.state import create

ADAM = AdamWConfig(peak_lr=1e-5, weight_decay=0.0)
NEVER = -1  # a token that is not drawn
CPU_PARTS = 8  # a pass over 512 tokens at a time: what it keeps stays in a processor's cache


def decoder(dtype: Dtype) -> GptConfig:
    """4 layers of width 128, a vocabulary of 1024, and room for 128 tokens."""
    return GptConfig(
        layers=4, width=128, heads=4, vocab=1024, length=128, dtype=dtype, unroll=4
    )  # fmt: skip


def ppo_setting(dtype: Dtype) -> Ppo:
    """32 prompts and answers of 64 tokens, four inner epochs of one minibatch: TRL's default."""
    return Ppo(
        model=decoder(dtype), value_model=decoder(dtype), optim=ADAM, value_optim=ADAM, batch=32,
        prompt_length=64, answer_length=64, fixed_length=True, microbatches=CPU_PARTS,
        update=UpdateConfig(minibatches=1, inner_epochs=4),
    )  # fmt: skip


def drawn(config: GptConfig, seed: int, *, scalar: bool) -> Any:
    """Parameters of a language model, or of one with a scalar head."""
    key = jax.random.key(seed)
    made = jax.jit(reward.init if scalar else gpt.init, static_argnums=0)(config, key)
    return nn.unbox(made)


def ppo_figure(dtype: Dtype, repeats: int) -> dict[str, Any]:
    """Median seconds of an update, and of its parts, each waited for; compiling is left out."""
    config = ppo_setting(dtype)
    model = config.policy_model
    mesh = one_device()
    numbers = np.random.default_rng(0)
    host = Prompts(
        tokens=numbers.integers(0, model.vocab, (config.batch, config.prompt_length), np.int32),
        start=np.full(config.batch, config.prompt_length, np.int32),
        mask=np.ones(config.batch, bool), rows=np.arange(config.batch, dtype=np.uint32),
    )  # fmt: skip
    with jax.set_mesh(mesh):
        abstract = config.abstract(mesh)
        state: Any = create(config.initial(), abstract, 0)
        reference, judge = drawn(model, 1, scalar=False), drawn(model, 2, scalar=True)
        update = config.compiled(mesh, abstract)
        prompts = place(host, mesh, slice(0, config.batch), config.batch)
        laps: dict[str, list[float]] = {"rollout": [], "score": [], "update": [], "whole": []}
        busy_seconds = []
        for number in range(repeats + 1):
            key = jax.random.key(number)
            at, busy = [time.perf_counter()], time.process_time()

            def lap(done: Any, at: list[float] = at) -> None:
                jax.block_until_ready(done)
                at.append(time.perf_counter())

            rollout = roll_out(
                model, state.policy, prompts, key, count=config.answer_length, end=NEVER
            )
            lap(rollout)
            experience, figures = assess(
                model, model, config.advantages, state.policy, reference, state.value, rollout,
                score_rollout(model, judge, rollout), state.beta, temperature=1.0,
                parts=config.microbatches,
            )  # fmt: skip
            lap(experience)
            rates = jnp.float32(1e-5), jnp.float32(1e-5)
            state, _ = update(state, experience, None, figures["kl"], rates, key)
            lap(state)
            if number:  # the first one compiles
                busy_seconds.append(time.process_time() - busy)
                for name, seconds in zip(laps, [*np.diff(at), at[-1] - at[0]], strict=True):
                    laps[name].append(float(seconds))
    median = {name: statistics.median(seconds) for name, seconds in laps.items()}
    answered = config.batch * config.answer_length
    # forward and backward of policy and value in each epoch; before them a third of that, forward
    # alone, of language models for the rollout and two assessments, of others for the third and for
    # the reward
    epochs, of_answers = config.update.inner_epochs, config.answer_length / config.width
    each = (epochs + 3 / 3) * model.flops_per_token(config.width, of_answers)
    each += (epochs + 2 / 3) * model.flops_per_token(config.width, scored=0.0)
    flops = each * config.batch * config.width
    return {
        "name": "ppo", "model": "4x4x128", "batch": config.batch, "length": config.width,
        "dtype": dtype, "inner_epochs": config.update.inner_epochs,
        "answer_tokens_per_second": round(answered / median["whole"], 1),
        "ms": round(1e3 * median["whole"], 2), "spread_ms": spread(laps["whole"]),
        "cpu_ms": round(1e3 * statistics.median(busy_seconds), 2),
        **floor(flops, median["whole"], dtype),
        **{f"{name}_ms": round(1e3 * median[name], 2) for name in ("rollout", "score", "update")},
    }  # fmt: skip


def reward_figure(dtype: Dtype, repeats: int) -> dict[str, Any]:
    """Median seconds of a step on 32 pairs of 128 tokens, state donated from step to step."""
    model = decoder(dtype)
    config = RewardTraining(model=model, optim=ADAM, batch=32, length=128, steps=1,
                            microbatches=2 * CPU_PARTS)  # fmt: skip
    mesh = one_device()
    numbers = np.random.default_rng(0)
    shapes = abstract_rankings(config.batch, config.length, answers=2)
    host = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    host = host.replace(
        tokens=numbers.integers(0, model.vocab, host.tokens.shape, np.int32),
        read=np.full_like(host.read, config.length - 1), mask=np.ones_like(host.mask),
        ranks=np.broadcast_to(np.arange(2, dtype=np.int32), host.ranks.shape),
    )  # fmt: skip
    with jax.set_mesh(mesh):
        abstract = config.abstract(mesh)
        state = create(config.initial(), abstract, 0)
        step = config.step(mesh, abstract)
        batch = config.split(host, mesh, slice(0, config.batch), config.batch)
        seconds, busy_seconds = [], []
        for _ in range(repeats + 1):
            start, busy = time.perf_counter(), time.process_time()
            state, metrics = step(state, batch, jnp.float32(1e-5))
            jax.block_until_ready(metrics)
            seconds.append(time.perf_counter() - start)
            busy_seconds.append(time.process_time() - busy)
    median, tokens = statistics.median(seconds[1:]), host.tokens.size
    flops = tokens * config.flops_per_token()
    return {
        "name": "reward", "model": "4x4x128", "batch": config.batch, "length": config.length,
        "dtype": dtype, "tokens_per_second": round(tokens / median, 1),
        "ms": round(1e3 * median, 2), "spread_ms": spread(seconds[1:]),
        "cpu_ms": round(1e3 * statistics.median(busy_seconds[1:]), 2),
        **floor(flops, median, dtype),
    }  # fmt: skip


def floor(flops: float, seconds: float, dtype: Dtype) -> dict[str, float]:
    """The milliseconds below which no program of these products gets, and how near this one is."""
    near = share_of_matmul(flops / seconds, dtype)
    return {"floor_ms": round(flops / near["matmul_gflops"] / 1e6, 2), **near}
