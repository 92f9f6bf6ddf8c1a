"""The order that people put answers in: what is descended, and what is measured of it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from lm.data.rankings import RankingBatch
from lm.losses.language import masked_sum
from lm.losses.preference import choice_losses, chosen, comparison_losses, pairs, right_pairs
from lm.models import reward
from lm.models.gpt import GptConfig
from lm.nn.dropout import DropoutKeys
from lm.rlhf.rollout import seen
from lm.rlhf.stage import summed


def abstract_rankings(batch: int, length: int, answers: int = 9) -> RankingBatch:
    """Shapes of the widest batch: K from 4 to 9 answers (section 3.5)."""
    shape, struct = (batch, answers), jax.ShapeDtypeStruct
    fields: dict[str, Any] = {
        "tokens": struct((*shape, length), jnp.int32),
        "start": struct(shape, jnp.int32),
        "read": struct(shape, jnp.int32),
        "ranks": struct(shape, jnp.int32),
        "mask": struct(shape, jnp.bool_),
        "reference": struct(shape, jnp.float32),
        "rows": struct(shape[:1], jnp.uint32),
    }
    return RankingBatch(**fields)


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Mean over prompts of the mean loss over a prompt's pairs, or of the loss of its choice."""

    model: GptConfig
    loss: Literal["pairs", "choice"] = "pairs"
    weights: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"prompts": 1.0})

    def counts(self, batch: RankingBatch) -> dict[str, jax.Array]:
        ranks, mask = jnp.asarray(batch.ranks), jnp.asarray(batch.mask)
        flat = (-1, ranks.shape[-1])  # a step counts over all its microbatches
        count = pairs if self.loss == "pairs" else chosen
        counted = count(ranks.reshape(flat), mask.reshape(flat)) > 0
        return {"prompts": jnp.sum(counted, dtype=jnp.float32)}

    def sums(
        self, params: Any, batch: RankingBatch, keys: DropoutKeys | None = None
    ) -> dict[str, jax.Array]:
        return {"prompts": jnp.sum(self.losses(self.scores(params, batch, keys), batch))}

    def losses(self, scores: jax.Array, batch: RankingBatch) -> jax.Array:
        """Of each prompt, from scores [B C]; 0 where it is not counted. [B]"""
        of = comparison_losses if self.loss == "pairs" else choice_losses
        return of(scores, jnp.asarray(batch.ranks), jnp.asarray(batch.mask))

    def scores(
        self, params: Any, batch: RankingBatch, keys: DropoutKeys | None = None
    ) -> jax.Array:
        """[B C]"""
        return scored(self.model, params, batch, keys)


def scored(
    model: GptConfig, params: Any, batch: RankingBatch, keys: DropoutKeys | None = None
) -> jax.Array:
    """The reward of each answer. [B C]"""
    tokens, read, start = (jnp.asarray(x) for x in (batch.tokens, batch.read, batch.start))
    sight = None if batch.sight is None else batch.sight.of_answers()
    inserted, prefix = seen(sight, start.reshape(-1), tokens.shape[-1])
    return reward.answer_scores(model, params, tokens, read, keys, inserted, prefix)


class Accuracy:
    """How many pairs are in the right order, over prompts and labelers nothing was learned of, and
    the loss that is descended, of these."""

    def __init__(self, objective: Ranking, material: Any, mesh: jax.sharding.Mesh, rows: int):
        self.parts = {name: some for name, some in material.parts.items() if name != "train"}
        self.mesh, self.rows = mesh, rows

        def sums(params: Any, batch: Any) -> dict[str, jax.Array]:
            said, ranks, mask = objective.scores(params, batch), batch.ranks, batch.mask
            counted = pairs(ranks, mask)
            there = counted > 0
            share = right_pairs(said, ranks, mask) / jnp.maximum(counted, 1.0)
            return {
                "prompts": jnp.sum(there),
                "right": masked_sum(share, there),
                "squares": masked_sum(jnp.square(share), there),
                "loss": jnp.sum(objective.losses(said, batch)),
                "losses": objective.counts(batch)["prompts"],
            }

        self.sums = jax.jit(sums)

    def __call__(self, step: int, params: Any) -> dict[str, float]:
        del step
        figures: dict[str, float] = {}
        for name, ranked in self.parts.items():
            found = summed(self.sums, params, ranked.rows, self.mesh, self.rows)
            count = found["prompts"]
            accuracy = found["right"] / count
            figures[f"{name}_accuracy"] = accuracy
            if count > 1:  # over prompts, whose pairs are not independent; of one it is not known
                spread = max(0.0, found["squares"] / count - accuracy**2)
                figures[f"{name}_accuracy_error"] = (spread / (count - 1)) ** 0.5
            if found["losses"]:
                figures[f"{name}_loss"] = found["loss"] / found["losses"]
        return figures

    def summary(self) -> dict[str, Any]:
        return {}
