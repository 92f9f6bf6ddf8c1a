"""The order that people put answers in: what is descended, and what is measured of it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lm.data.prompts import same
from lm.data.rankings import RankingBatch
from lm.evals.tasks import of_batches
from lm.losses.language import masked_sum
from lm.losses.preference import (
    answer_losses,
    choice_losses,
    chosen,
    comparison_losses,
    pairs,
    right_pairs,
)
from lm.metrics.spread import NORMAL, by_group, ratio_error, wilson_interval
from lm.models import reward
from lm.models.gpt import GptConfig
from lm.nn.dropout import DropoutKeys
from lm.rlhf.rollout import seen
from lm.rlhf.stage import added


def abstract_rankings(
    batch: int, length: int, answers: int = 9, questions: int = 0
) -> RankingBatch:
    """Shapes of the widest batch: K from 4 to 9 answers (section 3.5)."""
    shape, struct = (batch, answers), jax.ShapeDtypeStruct
    fields: dict[str, Any] = {
        "tokens": struct((*shape, length), jnp.int32),
        "start": struct(shape, jnp.int32),
        "read": struct(shape, jnp.int32),
        "ranks": struct(shape, jnp.int32),
        "mask": struct(shape, jnp.bool_),
        "faults": struct((*shape, answers), jnp.bool_),
        "reference": struct(shape, jnp.float32),
        "rows": struct(shape[:1], jnp.uint32),
        "answered": struct((*shape, questions), jnp.int8) if questions else None,
    }
    return RankingBatch(**fields)


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Mean over prompts of the mean loss over a prompt's pairs, or of the loss of its choice; where
    "metadata" has a weight, beside it the mean loss of the questions that were answered."""

    model: GptConfig
    loss: Literal["pairs", "choice"] = "pairs"
    weights: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"prompts": 1.0})

    def counts(self, batch: RankingBatch) -> dict[str, jax.Array]:
        # a step counts over all its microbatches
        ranks, mask = (jnp.reshape(x, (-1, x.shape[-1])) for x in (batch.ranks, batch.mask))
        faults = jnp.reshape(batch.faults, (-1, *batch.faults.shape[-2:]))
        count = pairs if self.loss == "pairs" else chosen
        counted = count(ranks, mask, faults) > 0
        counts = {"prompts": jnp.sum(counted, dtype=jnp.float32)}
        if "metadata" in self.weights:
            counts["metadata"] = jnp.sum(told(batch) >= 0, dtype=jnp.float32)
        return counts

    def sums(
        self, params: Any, batch: RankingBatch, keys: DropoutKeys | None = None
    ) -> dict[str, jax.Array]:
        scores, log_odds = self.said(params, batch, keys)
        sums = {"prompts": jnp.sum(self.losses(scores, batch))}
        if "metadata" in self.weights:
            sums["metadata"] = jnp.sum(answer_losses(log_odds, told(batch)))
        return sums

    def said(
        self, params: Any, batch: RankingBatch, keys: DropoutKeys | None = None
    ) -> tuple[jax.Array, Any]:
        """Scores [B C], and of the questions that are asked the log-odds of a yes [B C Q]."""
        if batch.answered is None:
            return self.scores(params, batch, keys), None
        found = numbers(self.model, params, batch, keys, batch.answered.shape[-1])
        return found[..., 0], found[..., 1:]

    def losses(self, scores: jax.Array, batch: RankingBatch) -> jax.Array:
        """Of each prompt, from scores [B C]; 0 where it is not counted. [B]"""
        of = comparison_losses if self.loss == "pairs" else choice_losses
        return of(scores, *(jnp.asarray(x) for x in (batch.ranks, batch.mask, batch.faults)))

    def scores(
        self, params: Any, batch: RankingBatch, keys: DropoutKeys | None = None
    ) -> jax.Array:
        """[B C]"""
        return scored(self.model, params, batch, keys)

    def beside(self, scores: jax.Array, batch: RankingBatch) -> dict[str, jax.Array]:
        """What else is told of scores [B C] by name, each [B]: a mean over the rows that count."""
        del scores, batch
        return {}


def scored(
    model: GptConfig, params: Any, batch: RankingBatch, keys: DropoutKeys | None = None
) -> jax.Array:
    """The reward of each answer. [B C]"""
    return numbers(model, params, batch, keys)[..., 0]


def numbers(
    model: GptConfig, params: Any, batch: RankingBatch, keys: DropoutKeys | None = None,
    questions: int = 0,
) -> jax.Array:  # fmt: skip
    """The reward of each answer, and the log-odds of a yes to each question. [B C 1 + Q]"""
    tokens, read, start = (jnp.asarray(x) for x in (batch.tokens, batch.read, batch.start))
    sight = None if batch.sight is None else batch.sight.of_answers()
    inserted, prefix = seen(sight, start.reshape(-1), tokens.shape[-1])
    return reward.answer_numbers(model, params, tokens, read, keys, inserted, prefix, questions)


def told(batch: RankingBatch) -> jax.Array:
    """What answers that are there were said to be: 1 yes, 0 no, -1 not answered. [... C Q]"""
    there = jnp.expand_dims(batch.mask, -1)
    return jnp.where(there, jnp.asarray(batch.answered), -1)


class Accuracy:
    """How many pairs are in the right order, a mean over rankings of prompts and by labelers that
    nothing was learned of, its error over the prompts, and the loss of the order; and how many
    questions are answered as people did, and theirs."""

    def __init__(
        self, objective: Ranking, material: Any, mesh: jax.sharding.Mesh, rows: int,
        questions: Sequence[str] = (),
    ):  # fmt: skip
        self.parts = {name: some for name, some in material.parts.items() if name != "train"}
        self.mesh, self.rows = mesh, rows
        self.answers: dict[str, Any] = {}  # what people say to the questions, by part and question

        def shares(params: Any, batch: Any) -> tuple[jax.Array, dict[str, Any]]:
            """Of each row the share of its pairs that is right, and whether it has any [B 2]; and
            sums of the rest."""
            said, log_odds = objective.said(params, batch)
            order = batch.ranks, batch.mask, batch.faults
            counted = pairs(*order)
            there = counted > 0
            share = right_pairs(said, *order) / jnp.maximum(counted, 1.0)
            return jnp.stack([share * there, there], axis=-1), {
                "loss": jnp.sum(objective.losses(said, batch)),
                "losses": objective.counts(batch)["prompts"],
                "beside": {
                    what: jnp.sum(jnp.where(there, values, 0.0))
                    for what, values in objective.beside(said, batch).items()
                },
                "questions": {
                    name: judged(log_odds[..., n], told(batch)[..., n])
                    for n, name in enumerate(questions)
                },
            }

        self.shares = jax.jit(shares)

    def __call__(self, step: int, params: Any) -> dict[str, float]:
        del step
        figures: dict[str, float] = {}
        for name, ranked in self.parts.items():
            each, sums = zip(
                *of_batches(self.shares, params, ranked.rows, self.mesh, self.rows), strict=True
            )
            found = added(sums)
            asked = [str(same(item)) for item in ranked.items]
            by_prompt = by_group(np.concatenate(each)[: len(asked)].astype(np.float64), asked)
            right, there = by_prompt[by_prompt[:, 1] > 0].T
            if len(there):
                figures[f"{name}_accuracy"] = right.sum() / there.sum()
            if len(there) > 1:  # over prompts: neither pairs nor labelers of one are independent
                # prompts that all have one share are no sign that others have: Wilson's interval
                error = ratio_error(right, there) or np.ptp(
                    wilson_interval(right.sum() / there.sum(), len(there))
                ) / (2 * NORMAL)
                figures[f"{name}_accuracy_error"] = float(error)
            if found["losses"]:
                figures[f"{name}_loss"] = found["loss"] / found["losses"]
                for what, total in found["beside"].items():
                    figures[f"{name}_{what}"] = total / found["losses"]
            figures |= self.of_questions(name, found["questions"])
        return figures

    def of_questions(self, part: str, found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Of the questions that anybody answered the share that is answered so, and the mean loss
        of all their answers; beside it is kept what a rule that knows the commoner one has."""
        figures, count = {}, sum(one["given"] for one in found.values())
        if count:
            figures[f"{part}_metadata_loss"] = sum(one["loss"] for one in found.values()) / count
        for name, one in found.items():
            given: dict[str, float] = {"given": int(one["given"])}
            if one["given"]:
                yes = one["yes"] / one["given"]
                given |= {"yes": yes, "commoner": max(yes, 1 - yes)}
                figures[f"{part}_{name}_accuracy"] = one["right"] / one["given"]
            self.answers[f"{part}_{name}_answers"] = given
        return figures

    def summary(self) -> dict[str, Any]:
        """How many answers the questions were given, the share of yes and of the commoner one."""
        return self.answers


def judged(log_odds: jax.Array, answered: jax.Array) -> dict[str, jax.Array]:
    """Sums over what was answered to a question [B C]; even odds are half right."""
    right = jnp.where(log_odds == 0, 0.5, (log_odds > 0) == (answered == 1))
    return {
        "given": jnp.sum(answered >= 0),
        "yes": jnp.sum(answered == 1),
        "right": masked_sum(right, answered >= 0),
        "loss": jnp.sum(answer_losses(log_odds, answered)),
    }
