"""What a policy answers to held-out prompts, beside what the reference does."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm.core.mesh import local_rows, place
from lm.data.features import in_order, take
from lm.evals.perplexity import HeldOut
from lm.metrics.spread import bootstrap_interval, standard_error
from lm.models.gpt import GptConfig
from lm.rlhf.best_of import best_of_n, best_of_n_kl, win_rates
from lm.rlhf.material import PpoMaterial
from lm.rlhf.rollout import Rollout, answer_logp, roll_out
from lm.rlhf.scores import RewardConfig, RolloutScorer, gathered, texts
from lm.rlhf.sft import NextAnswer
from lm.train.session import Session

SHOWN = 4  # answers that are written down at an evaluation
TEXT_BATCHES = 20  # of an estimate of the loss on pre-training text
SEED = 1_000  # of draws for measuring: none of them is a draw of training


@dataclasses.dataclass(frozen=True)
class Answered:
    """Answers to the held-out prompts."""

    reward: np.ndarray  # [P]
    gold: np.ndarray | None  # [P]
    kl: np.ndarray  # [P] nats an answer, from the reference
    length: np.ndarray  # [P] tokens
    shown: str

    def figures(self) -> dict[str, float]:
        means = {"reward": self.reward, "kl": self.kl, "length": self.length}
        if self.gold is not None:
            means["gold"] = self.gold
        found = {f"valid_{name}": float(values.mean()) for name, values in means.items()}
        return found | {"valid_reward_error": standard_error(self.reward)}


@partial(jax.jit, static_argnames=("config", "temperature"))
def answer_kl(
    config: GptConfig, policy: Any, reference: Any, rollout: Rollout, temperature: float
) -> jax.Array:
    """An estimate of each answer's KL from the reference, in nats. [B]"""
    logp = [
        answer_logp(config, params, rollout.tokens, rollout.start, rollout.mask.shape[1],
                    temperature, rollout.sight)
        for params in (policy, reference)
    ]  # fmt: skip
    return jnp.sum(jnp.where(rollout.mask, logp[0] - logp[1], 0.0), axis=1)


class PpoEvaluation:
    """Reward, gold score, KL and tax of a policy; at the end the best of n, and who wins."""

    def __init__(
        self, config: Any, material: PpoMaterial, reference: Any, score: RolloutScorer,
        mesh: jax.sharding.Mesh, session: Session,
    ):  # fmt: skip
        """`config`: the `Ppo`."""
        self.config, self.material, self.reference = config, material, reference
        self.score, self.mesh, self.session = score, mesh, session
        gold: RewardConfig = config.gold
        self.gold = RolloutScorer(gold, material.form, mesh) if gold.given else None
        count = min(config.evaluate_prompts, len(material.valid.mask))
        self.prompts = take(material.valid, np.arange(count))
        self.total = jax.jit(NextAnswer(config.policy_model).total)

    def __call__(self, step: int, params: Any) -> dict[str, float]:
        """Figures of held-out prompts; the answers to a few are kept."""
        return self.measured(step, params, self.answered(params, SEED))

    def measured(self, step: int, params: Any, answered: Answered) -> dict[str, float]:
        self.session.journal.sample(step, answered.shown)
        figures = answered.figures()
        if self.material.held_out is not None:
            held_out = HeldOut(
                self.material.held_out, self.config.width, self.config.batch, self.mesh
            )
            some = held_out.estimate(TEXT_BATCHES, self.config.seed)
            figures["pretraining_loss"] = held_out.loss(self.total, params, some)
        return figures

    def answered(self, params: Any, seed: int) -> Answered:
        """Answers of a policy to every held-out prompt; `seed` numbers the draws."""
        config, form = self.config, self.material.form
        scores, gold, kl, length = [], [], [], []
        shown = ""
        for some in self.batches():
            rollout = roll_out(
                config.policy_model, params, some, jax.random.key(config.seed + seed),
                count=config.answer_length, end=config.end(form),
                temperature=config.temperature,
            )  # fmt: skip
            scores.append(gathered(self.score(rollout)))
            if self.gold is not None:
                gold.append(gathered(self.gold(rollout)))
            found = answer_kl(
                config.policy_model, params, self.reference, rollout, config.temperature
            )
            kl.append(gathered(found))
            length.append(gathered(rollout.mask).sum(axis=1))
            if not shown:
                pairs = zip(texts(rollout, form)[:SHOWN], scores[0], strict=False)
                shown = "".join(f"{form.spell(p)}[{a}]  {score:.3f}\n\n" for (p, a), score in pairs)
        count = len(self.prompts.mask)
        return Answered(
            reward=np.concatenate(scores)[:count],
            gold=np.concatenate(gold)[:count] if gold else None,
            kl=np.concatenate(kl)[:count],
            length=np.concatenate(length)[:count],
            shown=shown,
        )

    def batches(self) -> Iterator[Any]:
        """The held-out prompts in blocks of an update's size, for which all is compiled."""
        mine = local_rows(self.mesh, self.config.batch)
        for some in in_order(self.prompts, self.config.batch):
            local = jax.tree.map(lambda leaf: leaf[mine], some)
            yield place(local, self.mesh, mine, self.config.batch)

    def finish(self, params: Any) -> dict[str, Any]:
        """The last figures, and the summary: the policy beside the best of n of the reference."""
        most = self.config.best_of
        baseline = [self.answered(self.reference, SEED + 1 + n) for n in range(most)]
        ours = self.answered(params, SEED)
        theirs = np.stack([one.reward for one in baseline])
        gold = None
        if self.gold is not None:
            gold = np.stack([one.gold for one in baseline])  # type: ignore[misc]
        points = []
        for n in (2**k for k in range(most.bit_length()) if 2**k <= most):
            point = {"n": n, "kl": best_of_n_kl(n), "reward": best_of_n(theirs, n).mean()}
            if gold is not None:
                point["gold"] = best_of_n(theirs, n, gold).mean()
            points.append({name: float(value) for name, value in point.items()})
        summary = {"best_of_n": points, "win_rate": told_rate(win_rates(ours.reward, theirs))}
        if gold is not None and ours.gold is not None:
            summary["gold_win_rate"] = told_rate(win_rates(ours.gold, gold))
        figures = self.measured(self.config.steps, params, ours)
        return figures | summary | {"figures": figures}


def told_rate(rates: np.ndarray) -> list[float]:
    """Mean over prompts and its 95% interval."""
    return [float(rates.mean()), *bootstrap_interval(rates)]
