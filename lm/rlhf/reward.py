"""The reward model: trained on rankings (Ouyang et al. 2022, section 3.5 and appendix C.2)."""

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lm.core.config import require, require_at_least_zero, require_positive
from lm.core.errors import DataError
from lm.data.comparisons import Comparison, ComparisonsConfig
from lm.data.demonstrations import Demonstration
from lm.data.features import TaskRows, take
from lm.data.rankings import Ranked, RankingBatch, check_asked, encode_rankings
from lm.losses.language import masked_sum
from lm.models import reward
from lm.models.gpt import GptConfig
from lm.rlhf.ranking import Accuracy, Ranking, abstract_rankings, scored
from lm.rlhf.source import Source
from lm.rlhf.stage import Stage, summed
from lm.text.interface import Form
from lm.train.session import Session

LEAVING = 2  # of the rules by which faulty pairs are left out: a run goes on by those it began with


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
    # yes/no questions of the metadata, each learned by a logistic head on the state that the score
    # is read from. The paper asked them to evaluate (table 3) and trained nothing on the answers:
    # the weight is our choice. Those about comparisons without a preference are not learned.
    metadata: tuple[str, ...] = ()
    metadata_weight: float = 1.0  # of the mean loss of what was answered, beside the order's
    residual_dropout: float = 0.0  # of this stage, whatever the model's own is

    completes = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_zero(self, "normalise")
        require_positive(self, "metadata_weight")
        require(
            len(set(self.metadata)) == len(self.metadata),
            f"metadata {self.metadata} names a question twice",
        )

    @property
    def decoder(self) -> GptConfig:
        return replace(super().decoder, residual_dropout=self.residual_dropout)

    def resolved(self, source: Any) -> Any:
        before = source.metadata if isinstance(source, RewardTraining) else self.metadata
        require(
            self.metadata == before,
            f"metadata {self.metadata} is not the {before} that the run began with: choose another "
            "--workdir",
        )
        return super().resolved(source)

    def material(self, form: Form, source: Source | None, mesh: Any) -> "ComparisonMaterial":
        material = ComparisonMaterial(
            self.data, form, self.length, self.seed, end=self.end_token, questions=self.metadata,
            prompt_length=self.prompt_length,
        )  # fmt: skip
        if self.demonstrations:
            material.zero = self.data.demonstrated(self.demonstrations)
        return material

    def first_params(self, key: jax.Array) -> Any:
        return reward.init(self.decoder, key, len(self.metadata))

    def adopted(self, fresh: Any, source: Source) -> Any:
        """Questions have a fresh head, also over a reward model that had one."""
        return fresh | (source.params if source.scalar else {"model": source.params})

    def objective(self) -> Ranking:
        if not self.metadata:
            return Ranking(self.decoder, self.loss)
        weights = {"prompts": 1.0, "metadata": self.metadata_weight}
        return Ranking(self.decoder, self.loss, weights)

    def flops_per_token(self) -> float:
        return self.decoder.flops_per_token(self.length, scored=0.0, rank=self.lora_rank)

    def abstract_rows(self) -> RankingBatch:
        return abstract_rankings(self.batch, self.length, questions=len(self.metadata))

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
        rows = self.batch // self.microbatches
        return Accuracy(self.objective(), material, mesh, rows, self.metadata)


class ComparisonMaterial:
    """Rankings to learn from, and parts of them held out."""

    def __init__(
        self, config: ComparisonsConfig, form: Form, length: int, seed: int, *, end: bool = True,
        questions: Sequence[str] = (), prompt_length: int | None = None,
    ):  # fmt: skip
        parts = config.parts()
        self.encode = partial(
            encode_rankings, form=form, length=length, end=end, prompt_length=prompt_length
        )
        self.parts: dict[str, Ranked] = {
            name: self.encode(some, questions=questions) for name, some in parts.items()
        }
        check_asked(questions, self.parts["train"].items, config.told)
        self.learned = self.shuffled(seed)
        self.zero: list[Demonstration] | list[Comparison] = parts["train"]
        self.count = self.learned.count
        self.width = int(np.prod(self.parts["train"].rows.tokens.shape[1:]))
        faulty = any(one.faults for some in parts.values() for one in some)
        self.digest = config.fingerprint + (f";{LEAVING}" if faulty else "")

    def __str__(self) -> str:
        return "; ".join(f"{name}: {ranked}" for name, ranked in self.parts.items())

    def rows(self, first: int, count: int) -> RankingBatch:
        return self.learned(first, count)

    def shuffled(self, seed: int) -> TaskRows:
        """What is learned, as rows of a run."""
        train = self.parts["train"]
        return TaskRows(train.rows, seed, [item.where for item in train.items])

    def origins(self, first: int, count: int) -> list[dict[str, Any]]:
        return self.learned.origins(first, count)

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
                said = [place for place, one in enumerate(item.answers) if one.strip()]
                best = min(said, key=item.ranks.__getitem__)
                answer, ends = item.answers[best], item.ends(best)
            items.append(Comparison(item.prompt, (answer,), (0,), "", "", (ends,)))
        return self.encode(items)


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
