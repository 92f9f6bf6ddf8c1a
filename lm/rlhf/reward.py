"""The reward model: trained on rankings (Ouyang et al. 2022, section 3.5 and appendix C.2)."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lm.core.config import require
from lm.core.errors import DataError
from lm.data.comparisons import Comparison, ComparisonsConfig
from lm.data.demonstrations import Demonstration
from lm.data.features import TaskRows, take
from lm.data.rankings import Ranked, RankingBatch, encode_rankings
from lm.losses.language import masked_sum
from lm.losses.preference import choice_losses, chosen, comparison_losses, pairs, right_pairs
from lm.models import reward
from lm.models.gpt import GptConfig
from lm.nn.dropout import DropoutKeys
from lm.rlhf.rollout import seen
from lm.rlhf.source import Source
from lm.rlhf.stage import Stage, summed
from lm.text.interface import Form
from lm.train.session import Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewardTraining(Stage):
    """Learns a number for each answer from the order that people put answers in."""

    data: ComparisonsConfig = ComparisonsConfig()
    # over all pairs of a prompt's answers, or a choice of the best of them (lm-human-preferences)
    loss: Literal["pairs", "choice"] = "pairs"
    end_token: bool = True  # behind an answer, read there; answers of fixed length have none
    demonstrations: str | None = None  # files whose answers score 0 on average once it has ended
    # answers whose first scores have mean 0 and deviation 1, before anything is learned; 0: the
    # scores of a fresh head stay as they are (lm-human-preferences: 256, of the policy's own)
    normalise: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.normalise >= 0, f"normalise must not be negative, got {self.normalise}")

    def material(self, form: Form, source: Source | None, mesh: Any) -> "ComparisonMaterial":
        material = ComparisonMaterial(self.data, form, self.length, self.seed, end=self.end_token)
        if self.demonstrations:
            material.zero = self.data.demonstrated(self.demonstrations)
        return material

    def first_params(self, key: jax.Array) -> Any:
        return reward.init(self.decoder, key)

    def adopted(self, fresh: Any, source: Source) -> Any:
        return source.params if source.scalar else fresh | {"model": source.params}

    def objective(self) -> "Ranking":
        return Ranking(self.decoder, self.loss)

    def flops_per_token(self) -> float:
        return self.decoder.flops_per_token(self.length, scored=0.0)

    def abstract_rows(self) -> RankingBatch:
        return abstract_rankings(self.batch, self.length)

    def prepared(self, state: Any, material: Any, mesh: jax.sharding.Mesh) -> Any:
        """The gain and bias that `normalise` asks for, from the first comparisons."""
        if not self.normalise:
            return state
        some = first_answers(material.rows(0, min(material.count, self.normalise)), self.normalise)
        mean, deviation = moments(self.decoder, state.params, some, mesh, self.batch)
        if not deviation > 1e-6 * max(1.0, abs(mean)):
            raise DataError(f"normalise: the first answers all score {mean}; set normalise=0")
        gain, bias = jnp.float32(1 / deviation), jnp.float32(-mean / deviation)
        return state.replace(params=jax.jit(reward.rescaled)(state.params, gain, bias))

    def completed(self, params: Any, material: Any, mesh: jax.sharding.Mesh) -> Any:
        """The bias that gives demonstrations a mean of 0 (section 3.5)."""
        by, _ = moments(self.decoder, params, material.zero_rows(), mesh, self.batch)
        return jax.jit(reward.shifted)(params, jnp.float32(by))

    def evaluation(
        self, material: Any, form: Form, mesh: jax.sharding.Mesh, session: Session
    ) -> "Accuracy":
        del form, session
        return Accuracy(self.objective(), material, mesh, self.batch // self.microbatches)


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


class ComparisonMaterial:
    """Rankings to learn from, and parts of them held out."""

    def __init__(
        self, config: ComparisonsConfig, form: Form, length: int, seed: int, *, end: bool = True
    ):
        parts = config.parts()
        self.form, self.length, self.end = form, length, end
        self.parts: dict[str, Ranked] = {
            name: encode_rankings(some, form, length, end=end) for name, some in parts.items()
        }
        self.learned = self.shuffled(seed)
        self.zero: list[Demonstration] | list[Comparison] = parts["train"]
        self.count = self.learned.count
        self.width = int(np.prod(self.parts["train"].rows.tokens.shape[1:]))
        self.digest = config.fingerprint

    def __str__(self) -> str:
        return "; ".join(f"{name}: {ranked}" for name, ranked in self.parts.items())

    def rows(self, step: int, batch: int) -> RankingBatch:
        return self.learned(step * batch, batch)

    def shuffled(self, seed: int) -> TaskRows:
        """What is learned, as rows of a run."""
        train = self.parts["train"]
        return TaskRows(train.rows, seed, [item.where for item in train.items])

    def origins(self, step: int, batch: int) -> list[dict[str, Any]]:
        return self.learned.origins(step * batch, batch)

    def zero_rows(self) -> RankingBatch:
        """The answers that score 0 on average in the end."""
        return self.preferred().rows

    def preferred(self) -> Ranked:
        """Demonstrations as answers of their own; where there are none, the preferred answers."""
        items = []
        for item in self.zero:
            answer, ends = "", True
            if isinstance(item, Demonstration):
                answer = item.answer
            else:
                best = item.ranks.index(min(item.ranks))
                answer, ends = item.answers[best], item.ends(best)
            items.append(Comparison(item.prompt, (answer,), (0,), "", "", (ends,)))
        return encode_rankings(items, self.form, self.length, end=self.end)


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


def first_answers(rows: Any, count: int) -> RankingBatch:
    """Of rows of rankings the first, with so many answers between them."""
    many = np.cumsum(rows.mask.reshape(-1)).reshape(rows.mask.shape) <= count
    kept = int(np.sum(np.any(rows.mask & many, axis=1)))
    first: RankingBatch = take(rows.replace(mask=rows.mask & many), np.arange(kept))
    return first


def moments(
    model: GptConfig, params: Any, whole: RankingBatch, mesh: jax.sharding.Mesh, rows: int
) -> tuple[float, float]:
    """Mean and standard deviation of the rewards of all answers that are there."""

    def sums(params: Any, batch: Any, about: float = 0.0, power: int = 1) -> Any:
        said = (scored(model, params, batch) - about) ** power
        return masked_sum(said, batch.mask), jnp.sum(batch.mask)

    total, count = summed(jax.jit(sums), params, whole, mesh, rows)
    mean = total / count
    squares, _ = summed(jax.jit(partial(sums, about=mean, power=2)), params, whole, mesh, rows)
    return mean, float((squares / count) ** 0.5)
