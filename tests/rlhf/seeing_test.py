"""PPO on prompts with images: what is seen decides, and the code that learns from text learns."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from lm.core.mesh import MeshConfig, make_mesh
from lm.data.visual import VisualConfig
from lm.models.gpt_vision import forward
from lm.rlhf import ppo
from lm.rlhf.controller import KlConfig
from lm.rlhf.rollout import answer_logp, roll_out
from lm.rlhf.scores import RewardConfig
from lm.rlhf.seeing import SeeingPpo
from lm.rlhf.update import UpdateConfig
from lm.train import visual
from lm.train.guard import GuardConfig
from lm.train.optimizer import AdamWConfig
from lm.train.session import LoopConfig
from tests.train.squares import config, write_squares


@pytest.fixture(scope="module", autouse=True)
def one_device():
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    with pytest.MonkeyPatch.context() as patch:
        for module in (ppo, visual):
            patch.setattr(module, "make_mesh", lambda config: mesh)
        yield mesh


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_squares(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def base(data, tmp_path_factory):
    """A run that was ended when it had only begun to tell colours apart."""
    workdir = tmp_path_factory.mktemp("base") / "seen"
    loop = LoopConfig(log_every=20, evaluate_every=50, save_every=50)
    config(data, steps=30, loop=loop).run(workdir)
    return workdir


def setting(data, base, **changes):
    made = SeeingPpo(
        init=str(base), images=VisualConfig(root=str(data)),
        reward=RewardConfig(function="lm.rlhf.seeing:right"),
        optim=AdamWConfig(peak_lr=2e-3, weight_decay=0.0),
        value_optim=AdamWConfig(peak_lr=2e-3, weight_decay=0.0),
        batch=32, steps=60, prompt_length=16, answer_length=6, warmup=0, best_of=1,
        kl=KlConfig(beta=0.01), update=UpdateConfig(minibatches=2, average=0.5),
        guard=GuardConfig(spike="off"), evaluate_prompts=12,
        loop=LoopConfig(log_every=1, evaluate_every=60, save_every=60),
    )  # fmt: skip
    return replace(made, **changes)


def test_a_rollout_is_scored_as_the_model_that_sees_scores_it(data, base, one_device):
    made = setting(data, base)
    source = made.source(one_device)
    material = made.material(made.form(source), source)
    prompts = material.prompts(0, one_device)
    rollout = roll_out(
        source.model, source.params, prompts, jax.random.key(0), count=6, end=source.tokenizer.end
    )
    again = answer_logp(
        source.model, source.params, rollout.tokens, rollout.start, 6, sight=rollout.sight
    )
    drawn, scored = (np.where(rollout.mask, logp, 0) for logp in (rollout.logp, again))
    np.testing.assert_allclose(drawn, scored, atol=1e-5)
    # by the definition: the whole model, from the images themselves
    images = material.images(np.asarray(prompts.sight.example))
    params = {**source.eyes, "text": source.params}
    logits = forward(source.whole, params, rollout.tokens, images, rollout.start)
    logp = np.asarray(jax.nn.log_softmax(logits))
    first = np.asarray(rollout.start)
    rows = np.arange(len(first))
    wanted = logp[rows, first - 1, np.asarray(rollout.tokens)[rows, first]]
    np.testing.assert_allclose(scored[:, 0], wanted, atol=1e-5)
    # the control: with other images than its own it is not what was drawn
    other = rollout.sight.replace(vectors=rollout.sight.vectors[::-1])
    strange = answer_logp(
        source.model, source.params, rollout.tokens, rollout.start, 6, sight=other
    )
    assert np.abs(np.where(rollout.mask, strange, 0) - drawn).max() > 0.1
