"""What a policy answers to held-out prompts, beside what the reference does."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm.core.mesh import fetch, place_whole
from lm.data.features import in_order, take
from lm.evals.perplexity import HeldOut
from lm.losses.ppo import Estimator, kl_estimate
from lm.metrics.spread import bootstrap_interval, standard_error, wilson_interval
from lm.models.gpt import GptConfig
from lm.rlhf.best_of import best_of_n, best_of_n_kl, win_rates
from lm.rlhf.function import finite
from lm.rlhf.material import PpoMaterial
from lm.rlhf.parts import in_parts
from lm.rlhf.rollout import Rollout, answer_logp, roll_out
from lm.rlhf.scores import RewardConfig, RolloutScorer, texts
from lm.rlhf.sft import NextAnswer
from lm.train.session import Session

SHOWN = 4  # answers that are written down at an evaluation
TEXT_BATCHES = 20  # of an update's size, of an estimate of the loss on pre-training text
SEED = 1_000  # of draws for measuring: none of them is a draw of training


@dataclasses.dataclass(frozen=True)
class Answered:
    """One answer to each held-out prompt."""

    scores: dict[str, np.ndarray]  # [P] by scorer: reward, and gold and second where they are given
    kl: np.ndarray  # [P] nats an answer, from the reference
    length: np.ndarray  # [P] tokens
    shown: str


def mean_figures(drawn: Sequence[Answered]) -> dict[str, float]:
    """Means over prompts and draws; the error of the reward is over prompts, as draws of one are
    not independent, and is left out of a single prompt."""
    tables = [one.scores | {"kl": one.kl, "length": one.length} for one in drawn]
    means = {name: np.mean([table[name] for table in tables], axis=0) for name in tables[0]}
    found = {f"valid_{name}": float(values.mean()) for name, values in means.items()}
    several = len(means["reward"]) > 1
    return found | ({"valid_reward_error": standard_error(means["reward"])} if several else {})


@partial(jax.jit, static_argnames=("config", "temperature", "vocab", "estimator", "parts"))
def answer_kl(
    config: GptConfig, policy: Any, reference: Any, rollout: Rollout, temperature: float,
    vocab: int | None = None, estimator: Estimator = "k1", parts: int = 1,
) -> jax.Array:  # fmt: skip
    """An estimate of each answer's KL from the reference, in nats; the models read the rows in
    `parts`, as `assess` does. [B]"""

    def read(part: Rollout) -> jax.Array:
        logp = [
            answer_logp(config, params, part.tokens, part.start, part.mask.shape[1],
                        temperature, part.sight, vocab)
            for params in (policy, reference)
        ]  # fmt: skip
        return jnp.sum(jnp.where(part.mask, kl_estimate(logp[0], logp[1], estimator), 0.0), axis=1)

    return in_parts(read, rollout, parts)


class PpoEvaluation:
    """Scores, KL and tax of a policy; at the end the best of n, and who wins."""

    def __init__(
        self, config: Any, material: PpoMaterial, reference: Any, score: RolloutScorer,
        mesh: jax.sharding.Mesh, session: Session,
    ):  # fmt: skip
        """`config`: the `Ppo`."""
        self.config, self.material, self.reference = config, material, reference
        self.mesh, self.session = mesh, session
        beside: dict[str, RewardConfig] = {"gold": config.gold, "second": config.second}
        self.scorers = {"reward": score} | {
            name: RolloutScorer(
                one, material.form, mesh, config.width, config.at_once, session.first > 0
            )
            for name, one in beside.items() if one.given
        }  # fmt: skip
        count = min(config.evaluate_prompts, len(material.valid.mask))
        self.prompts = take(material.valid, np.arange(count))
        read, drawn = config.at_once, config.drawn_at_once  # rows at a time, as in training
        self.rows = min(config.batch, -(-count // read) * read)
        if self.rows > drawn:
            both = math.lcm(read, drawn)
            self.rows = min(config.batch, -(-count // both) * both)
        self.total = session.asking(jax.jit(NextAnswer(config.policy_model).total))

    def __call__(self, step: int, params: Any) -> dict[str, float]:
        """Figures of held-out prompts; the answers to a few are kept."""
        return self.measured(step, params, self.drawn(params))

    def measured(self, step: int, params: Any, drawn: Sequence[Answered]) -> dict[str, float]:
        self.session.journal.sample(step, drawn[0].shown)
        figures = mean_figures(drawn)
        if self.material.held_out is not None:
            held_out = HeldOut(
                self.material.held_out, self.config.width, self.config.at_once, self.mesh
            )
            some = held_out.estimate(TEXT_BATCHES * self.config.parts, self.config.seed)
            figures["pretraining_loss"] = held_out.loss(self.total, params, some)
        return figures

    def drawn(self, params: Any) -> list[Answered]:
        """A policy's own answers, as often as is asked for; the draws are those of any policy."""
        return [self.answered(params, SEED - n) for n in range(self.config.evaluate_draws)]

    def answered(self, params: Any, seed: int) -> Answered:
        """Answers of a policy to every held-out prompt; `seed` numbers the draws.

        Raises:
          DataError: a score is not a number, but for the reward, at which an update stops, and
            saves what there is.
        """
        config, form = self.config, self.material.form
        vocab = form.tokenizer.vocab_size
        scores: dict[str, list[np.ndarray]] = {name: [] for name in self.scorers}
        kl, length, shown = [], [], ""
        for some in self.batches():
            rollout = roll_out(
                config.policy_model, params, some, jax.random.key(config.seed + seed),
                count=config.answer_length, end=config.end(form),
                temperature=config.temperature, vocab=vocab,
                parts=max(1, self.rows // config.drawn_at_once),
            )  # fmt: skip
            for name, score in self.scorers.items():
                scores[name].append(fetch(score(rollout)))
            found = answer_kl(
                config.policy_model, params, self.reference, rollout, config.temperature, vocab,
                config.advantages.estimator, self.rows // config.at_once,
            )  # fmt: skip
            kl.append(fetch(found))
            length.append(fetch(rollout.mask).sum(axis=1))
            if not shown:
                pairs = zip(texts(rollout, form)[:SHOWN], scores["reward"][0], strict=False)
                shown = "".join(f"{form.spell(p)}[{a}]  {score:.3f}\n\n" for (p, a), score in pairs)
        count = len(self.prompts.mask)
        joined = {name: np.concatenate(some)[:count] for name, some in scores.items()}
        return Answered(
            scores={
                name: whole if name == "reward" else finite(whole, name)
                for name, whole in joined.items()
            },
            kl=np.concatenate(kl)[:count],
            length=np.concatenate(length)[:count],
            shown=shown,
        )

    def batches(self) -> Iterator[Any]:
        """The held-out prompts in blocks of an update's size, or of as many parts of one as they
        fill. Asks before each whether to leave."""
        for some in in_order(self.prompts, self.rows):
            self.session.ask()
            yield place_whole(some, self.mesh)

    def finish(self, params: Any) -> dict[str, Any]:
        """The last figures, and the summary: the policy beside the best of n of the reference.

        Raises:
          DataError: a score is not a number: it would count as a comparison lost.
        """
        most = self.config.best_of
        baseline = [self.answered(self.reference, SEED + 1 + n) for n in range(most)]
        drawn = self.drawn(params)
        for one in (*baseline, *drawn):
            finite(one.scores["reward"], "reward")
        theirs = {
            name: np.stack([one.scores[name] for one in baseline]) for name in self.scorers
        }  # [N P] each
        points = [
            {"n": n, "kl": best_of_n_kl(n)} | {
                name: float(best_of_n(theirs["reward"], n, scores).mean())
                for name, scores in theirs.items()
            }
            for n in (2**k for k in range(most.bit_length()))
        ]  # fmt: skip
        summary: dict[str, Any] = {"best_of_n": points}
        for name, key in (("reward", "win_rate"), ("gold", "gold_win_rate")):
            if name in theirs:
                rates = [win_rates(one.scores[name], theirs[name]) for one in drawn]
                summary[key] = told_rate(np.mean(rates, axis=0))
        figures = self.measured(self.config.steps, params, drawn)
        return figures | summary | {"figures": figures}


def told_rate(rates: np.ndarray) -> list[float]:
    """Mean over prompts and its 95% interval, which of a single prompt is all that there is, and of
    equal rates Wilson's."""
    mean, count = float(rates.mean()), len(rates)
    if count == 1:
        return [mean, 0.0, 1.0]
    same = bool(np.ptp(rates) == 0)
    return [mean, *(wilson_interval(mean, count) if same else bootstrap_interval(rates))]
