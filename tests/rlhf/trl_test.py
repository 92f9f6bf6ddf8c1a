"""PPO against TRL's own trainer (1.9, `trl.experimental.ppo`): its formulas, and a whole update.

TRL's convention is not lm-human-preferences' (tests/losses/ppo_test.py), and each of these tests
has a control that theirs would pass. One thing differs from `Ppo` on purpose: TRL also values the
state behind an answer's end token, and pays the score there, so its mask of values is one longer.
The formulas here are given that mask.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.core.mesh import MeshConfig, make_mesh
from lm.losses import ppo
from lm.models.pretrained import read
from lm.rlhf.experience import AdvantageConfig, assess
from lm.rlhf.ppo import Ppo
from lm.rlhf.rollout import Rollout
from lm.rlhf.scores import score_rollout
from lm.rlhf.update import UpdateConfig
from lm.train.optimizer import AdamWConfig
from tests.rlhf import trl_trainer
from tests.rlhf.trl_trainer import ANSWER, END, PROMPT, ROWS

pytestmark = pytest.mark.slow
TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}


class Recorded:
    """Arrays of one update of TRL's."""

    def __init__(self, calls, args):
        self.calls, self.args = calls, args
        ((_, (tokens, _)),) = calls["batch_generation"]
        self.tokens, self.answers = tokens.numpy(), tokens.numpy()[:, PROMPT:]
        (_, logp), (_, reference), *_ = calls["selective_log_softmax"]
        self.logp, self.reference = logp.numpy(), reference.numpy()
        (_, (values, _, _)), (_, (_, scores, _)) = calls["get_reward"]
        self.values, self.scores = values.numpy()[:, PROMPT - 1 : -1, 0], scores.numpy()
        self.ended = (self.answers == END).any(axis=1)
        last = np.where(self.ended, (self.answers == END).argmax(axis=1), ANSWER - 1)
        places = np.arange(ANSWER)
        self.mask = places <= last[:, None]
        self.value_mask = places <= last[:, None] + 1
        self.whitened = [(given[0], given[1] != 0, result.numpy())
                         for given, result in calls["masked_whiten"]]  # fmt: skip

    def rewards(self, **changes):
        """Ours, from its log-probabilities and scores."""
        kl = ppo.kl_estimate(self.logp, self.reference, changes.get("kl", self.args.kl_estimator))
        scores = self.scores - self.args.missing_eos_penalty * ~self.ended
        kl = jnp.where(self.mask, kl, 0.0)
        return ppo.token_rewards(scores, kl, self.value_mask, self.args.kl_coef)

    def gae(self, rewards, **changes):
        decay = changes.get("decay", self.args.lam)
        return ppo.gae(rewards, self.values, self.value_mask, discount=1.0, decay=decay)

    def minibatches(self):
        """Rows, new log-probabilities, new values and the two losses of each."""
        means = self.calls["masked_mean"][-16:]
        read = self.calls["forward"][-4:]
        drawn = self.calls["selective_log_softmax"][-4:]
        for number in range(4):
            answers, (_, values) = drawn[number][0][1], read[number][1]
            rows = [int(np.flatnonzero((self.answers == row).all(axis=1))[0]) for row in answers]
            value_loss, policy_loss = (means[4 * number + n][1].item() for n in (0, 2))
            yield (rows, drawn[number][1].detach().numpy(),
                   values.detach().numpy()[:, PROMPT - 1 : -1, 0], policy_loss,
                   0.5 * value_loss)  # fmt: skip


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    made = {}

    def of(**settings):
        key = tuple(settings.items())
        if key not in made:
            folder = tmp_path_factory.mktemp("trl")
            made[key] = Recorded(*trl_trainer.update(folder, trl_trainer.models(), **settings))
        return made[key]

    return of


@pytest.fixture(params=["k1", "k3"])
def theirs(record, request):
    return record(kl_estimator=request.param, whiten_rewards=request.param == "k3")


def furthest(ours, expected):
    return float(np.abs(np.asarray(ours) - expected).max())


def test_answers_of_several_lengths_were_drawn(theirs):
    assert len(set(theirs.mask.sum(axis=1))) > 3 and 3 < theirs.ended.sum() < ROWS - 3


def test_rewards_are_those_of_trl_with_its_own_estimate_of_the_kl(theirs):
    if theirs.args.whiten_rewards:
        expected = theirs.whitened[0][0]
        assert furthest(theirs.rewards(), expected) < 1e-6 * np.abs(expected).max()
        assert furthest(theirs.rewards(kl="k1"), expected) > 0.1
    else:  # they go into the advantages unseen
        expected, _, _ = theirs.whitened[0]
        advantages, _ = theirs.gae(theirs.rewards())
        np.testing.assert_allclose(advantages, expected, **TOLERANCE)
        assert furthest(theirs.gae(theirs.rewards(kl="k3"))[0], expected) > 0.1


def test_whitening_is_over_real_tokens_with_bessels_correction(theirs):
    for number, (given, mask, expected) in enumerate(theirs.whitened):
        shift = number + 1 == len(theirs.whitened)  # advantages; rewards keep their mean
        ours = np.asarray(ppo.whiten(given, mask, bessel=True, shift=shift))
        np.testing.assert_allclose(ours[mask], expected[mask], **TOLERANCE)
        biased = ppo.whiten(given, mask, bessel=False, shift=shift)
        everywhere = ppo.whiten(given, np.ones_like(mask), bessel=False, shift=shift)
        for other in (biased, everywhere):  # lm-human-preferences'
            assert furthest(np.asarray(other)[mask], expected[mask]) > 1e-3


def advantages_of(theirs):
    rewards = theirs.rewards()
    if theirs.args.whiten_rewards:
        rewards = ppo.whiten(rewards, theirs.value_mask, bessel=True, shift=False)
    return theirs.gae(rewards)


def test_advantages_are_those_of_trl(theirs):
    advantages, _ = advantages_of(theirs)
    np.testing.assert_allclose(advantages, theirs.whitened[-1][0], **TOLERANCE)
    shorter = ppo.gae(theirs.rewards(), theirs.values, theirs.mask, discount=1.0, decay=0.95)
    assert furthest(shorter[0], theirs.whitened[-1][0]) > 0.1  # without the state behind the end


def test_clipped_losses_are_those_of_trl_in_every_minibatch(theirs):
    advantages, returns = advantages_of(theirs)
    advantages = ppo.whiten(advantages, theirs.mask, bessel=True)
    seen = 0
    for rows, logp, values, policy_loss, value_loss in theirs.minibatches():
        of = [np.asarray(x)[rows] for x in (theirs.logp, advantages, theirs.mask)]
        ours = ppo.policy_loss(logp, *of, clip=0.2)
        np.testing.assert_allclose(ours, policy_loss, **TOLERANCE)
        more = [np.asarray(x)[rows] for x in (theirs.values, returns, theirs.value_mask)]
        ours = ppo.value_loss(values, *more, clip=0.2)
        np.testing.assert_allclose(ours, value_loss, **TOLERANCE)
        seen += abs(float(ppo.policy_loss(logp, *of, clip=1e6)) - policy_loss) > 1e-4
        more[-1] = of[-1]
        assert abs(float(ppo.value_loss(values, *more, clip=0.2)) - value_loss) > 1e-4
    assert seen  # the clip has cut something


def test_one_update_of_ppo_is_one_of_trl(tmp_path):
    four = trl_trainer.models()
    for name, model in zip(("policy", "reference", "reward", "value"), four, strict=True):
        (tmp_path / name).mkdir()
        body = trl_trainer.models()[0]
        body.transformer = model.transformer
        body.tie_weights()
        body.save_pretrained(tmp_path / name)
    found = {name: read(tmp_path / name) for name in ("policy", "reference", "reward", "value")}
    model, policy = found["policy"]
    reward, value = (
        {"model": found[name][1],
         "head": {"kernel": one.score.weight.detach().numpy().T.copy(), "bias": np.zeros(1)}}
        for name, one in zip(("reward", "value"), four[2:], strict=True)
    )  # fmt: skip
    theirs = Recorded(*trl_trainer.update(
        tmp_path / "run", four, stop_token_id=None, missing_eos_penalty=None, num_ppo_epochs=1,
        num_mini_batches=1, gradient_accumulation_steps=1, per_device_train_batch_size=ROWS,
        vf_coef=1.0, adam_epsilon=1e-3, kl_estimator="k3",
    ))  # fmt: skip
    adam = AdamWConfig(peak_lr=1e-2, b2=0.999, epsilon=1e-3, weight_decay=0.0, clip=None)
    config = Ppo(
        model=model, value_model=model, optim=adam, value_optim=adam, batch=ROWS, temperature=0.7,
        prompt_length=PROMPT, answer_length=ANSWER, advantages=AdvantageConfig(estimator="k3"),
        update=UpdateConfig(minibatches=1),
    )  # fmt: skip
    everything = np.ones((ROWS, ANSWER), bool)
    rollout = Rollout(
        tokens=theirs.tokens.astype(np.int32), start=np.full(ROWS, PROMPT, np.int32),
        mask=everything, logp=theirs.logp, ended=np.zeros(ROWS, bool),
    )  # fmt: skip
    rollout = jax.tree.map(jnp.asarray, rollout)
    scores = score_rollout(model, reward, rollout)
    np.testing.assert_allclose(scores, theirs.scores, rtol=1e-5, atol=1e-5)
    divided = score_rollout(model, reward, rollout, parts=2)
    np.testing.assert_allclose(divided, scores, rtol=1e-6, atol=1e-6)

    def updated(config):
        experience, _ = assess(
            model, model, config.advantages, policy, found["reference"][1], value, rollout, scores,
            jnp.float32(theirs.args.kl_coef), temperature=config.temperature, parts=1,
        )  # fmt: skip
        mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
        with jax.set_mesh(mesh):
            abstract = config.abstract(mesh)
            state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract)
            first = jax.tree.map(jnp.array, {"policy": policy, "value": value, "average": policy})
            rate = jnp.float32(1e-2)
            state, _ = config.compiled(mesh, abstract)(
                state.replace(**first), experience, None, jnp.float32(0), (rate, rate),
                jax.random.key(0),
            )  # fmt: skip
        return state, experience

    state, experience = updated(config)
    np.testing.assert_allclose(experience.logp, theirs.logp, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(experience.values, theirs.values, rtol=1e-4, atol=1e-5)
    expected = theirs.whitened[-1][2]
    np.testing.assert_allclose(experience.advantages, expected, rtol=1e-4, atol=1e-4)
    four[0].save_pretrained(tmp_path / "policy after")
    _, after = read(tmp_path / "policy after")

    def distance(state):
        return max(jax.tree.leaves(jax.tree.map(furthest, state.policy, after)))

    assert max(jax.tree.leaves(jax.tree.map(furthest, policy, after))) > 9e-3  # it has moved
    assert distance(state) < 2e-5
    head = np.asarray(state.value["head"]["kernel"]).T
    assert furthest(head, four[3].score.weight.detach().numpy()) < 2e-5
    # the control: one configuration value of the other convention and the update is another
    other = AdvantageConfig(estimator="k3", whitening="minibatch")
    assert distance(updated(dataclasses.replace(config, advantages=other))[0]) > 1e-4
