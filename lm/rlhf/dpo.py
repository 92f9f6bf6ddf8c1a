"""Direct preference optimisation (Rafailov et al. 2023): the same comparisons, no reward model.

The implicit reward of an answer, beta (log pi - log pi_ref), is learned by the loss of a reward
model. The reference never changes, so its log-probabilities are made once, before the first step.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm.core.config import require_positive
from lm.data.comparisons import ComparisonsConfig
from lm.data.rankings import RankingBatch
from lm.evals.tasks import of_batches
from lm.losses.preference import best_and_worst
from lm.models import gpt
from lm.models.gpt import GptConfig
from lm.nn.dropout import DropoutKeys
from lm.rlhf.ranking import Accuracy, Ranking, abstract_rankings
from lm.rlhf.reward import ComparisonMaterial
from lm.rlhf.rollout import answer_logp
from lm.rlhf.source import Source
from lm.rlhf.stage import Stage
from lm.text.interface import Form
from lm.train.session import Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dpo(Stage):
    """Learns to prefer what people preferred, near to where it began."""

    data: ComparisonsConfig = ComparisonsConfig()
    beta: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "beta")

    def needs_source(self, before: Any) -> bool:
        del before
        return True  # the run to start from is the reference

    def facts(self, source: Source | None) -> dict[str, Any]:
        assert source is not None
        return {"init": source.identity}

    def material(self, form: Form, source: Source | None, mesh: Any) -> ComparisonMaterial:
        assert source is not None
        material = ComparisonMaterial(
            self.data, form, self.length, self.seed, prompt_length=self.prompt_length
        )
        for name, ranked in material.parts.items():
            rows = self.batch // self.microbatches
            known = reference_logp(source, ranked.rows, mesh, rows)
            material.parts[name] = dataclasses.replace(
                ranked,
                rows=ranked.rows.replace(reference=known),  # type: ignore[attr-defined]
            )
        material.learned = material.shuffled(self.seed)
        return material

    def first_params(self, key: jax.Array) -> Any:
        return gpt.init(self.decoder, key)

    def adopted(self, fresh: Any, source: Source) -> Any:
        del fresh
        return source.language_model()

    def objective(self) -> "Preference":
        return Preference(self.decoder, beta=self.beta)

    def abstract_rows(self) -> RankingBatch:
        return abstract_rankings(self.batch, self.length, answers=2)

    def evaluation(
        self, material: Any, form: Form, mesh: jax.sharding.Mesh, session: Session
    ) -> Accuracy:
        del form, session
        return Accuracy(self.objective(), material, mesh, self.batch // self.microbatches)


@dataclasses.dataclass(frozen=True)
class Preference(Ranking):
    """The loss of a reward model, of implicit rewards."""

    beta: float = 0.1

    def scores(
        self, params: Any, batch: RankingBatch, keys: DropoutKeys | None = None
    ) -> jax.Array:
        """[B C]"""
        return self.beta * (summed_logp(self.model, params, batch) - jnp.asarray(batch.reference))

    def beside(self, scores: jax.Array, batch: RankingBatch) -> dict[str, jax.Array]:
        """The implicit rewards of the best and of the worst answer, and their margin, named as in
        TRL: the margin may grow while both fall, and what was chosen is less likely too."""
        chosen, rejected = best_and_worst(
            scores, *(jnp.asarray(x) for x in (batch.ranks, batch.mask, batch.faults))
        )
        return {
            "rewards/chosen": chosen, "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
        }  # fmt: skip


def summed_logp(config: GptConfig, params: Any, batch: RankingBatch) -> jax.Array:
    """Log-probability of each answer with its end token. [B C]"""
    rows, answers, length = batch.tokens.shape
    tokens = jnp.reshape(batch.tokens, (-1, length))
    start, read = jnp.reshape(batch.start, -1), jnp.reshape(batch.read, -1)
    logp = answer_logp(config, params, tokens, start, length)
    of_answer = jnp.arange(length) <= (read - start)[:, None]
    return jnp.sum(jnp.where(of_answer, logp, 0.0), axis=1).reshape(rows, answers)


def reference_logp(
    source: Source, whole: RankingBatch, mesh: jax.sharding.Mesh, rows: int
) -> np.ndarray:
    """Log-probabilities of all answers under the reference. [N C], 0 where there is none"""
    of = jax.jit(partial(summed_logp, source.model))
    with jax.set_mesh(mesh):
        found = of_batches(of, source.language_model(), whole, mesh, rows)
    return np.where(whole.mask, np.concatenate(found)[: len(whole.mask)], 0.0).astype(np.float32)
