"""What fine-tuning descends: a task's loss, and for GPT-1 the language model's beside it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lm.data.features import TaskBatch
from lm.data.tasks.forms import Kind
from lm.losses.language import masked_sum, token_losses
from lm.losses.tasks import (
    auxiliary_losses,
    choice_losses,
    span_losses,
    square_losses,
    tag_losses,
)
from lm.models.bert import BertConfig
from lm.models.heads import BackboneConfig, Output, TaskModel
from lm.nn.dropout import DropoutKeys


@dataclasses.dataclass(frozen=True)
class TaskObjective:
    """Mean loss over the rows that count, or over tags where words are tagged; plus `lm_weight`
    times the mean over the rows' candidates of the language model's mean loss (GPT-1, 3.2)."""

    backbone: BackboneConfig
    kind: Kind
    classes: int  # of a classification, or tags
    lm_weight: float = 0.0
    head_dropout: float = 0.1
    features: int = 0  # see `TaskModel`

    @property
    def model(self) -> TaskModel:
        """The model with the head that this kind of task needs."""
        outputs = {"span": 2, "regression": 1, "choice": 1}.get(self.kind, self.classes)
        if self.kind in ("span", "tagging"):
            dropout = self.head_dropout if self.kind == "tagging" else 0.0  # run_squad.py has none
            return TaskModel(self.backbone, outputs, "tokens", dropout, self.features)
        output: Output = "candidates" if self.kind == "choice" else "classes"
        return TaskModel(self.backbone, outputs, output, self.head_dropout)

    @property
    def language(self) -> bool:
        return self.lm_weight > 0 and not isinstance(self.backbone, BertConfig)

    @property
    def weights(self) -> Mapping[str, float]:
        return {"task": 1.0, "lm": self.lm_weight} if self.language else {"task": 1.0}

    def counts(self, batch: TaskBatch) -> dict[str, jax.Array]:
        mask = jnp.asarray(batch.mask)
        counted = mask[..., None] & (batch.label >= 0) if self.kind == "tagging" else mask
        counts = {"task": counted, "lm": mask[..., None] & batch.candidates}
        return {name: jnp.sum(counts[name], dtype=jnp.float32) for name in self.weights}

    def sums(
        self, params: Any, batch: TaskBatch, keys: DropoutKeys | None = None
    ) -> dict[str, jax.Array]:
        out: Any = self.model.apply({"params": params}, batch, keys, self.language)
        scores, logits = out
        sums = {"task": masked_sum(self.losses(scores, batch), batch.mask)}
        if self.language:
            losses = auxiliary_losses(logits, jnp.asarray(batch.tokens), jnp.asarray(batch.lm_mask))
            sums["lm"] = masked_sum(losses, batch.mask[:, None] & batch.candidates)
        return sums

    def losses(self, scores: jax.Array, batch: TaskBatch) -> jax.Array:
        """The loss of each row. [B]"""
        label = jnp.asarray(batch.label)
        if self.kind == "span":
            return span_losses(scores, jnp.asarray(batch.valid)[:, 0], label)
        if self.kind == "tagging":
            return tag_losses(scores, label)
        if self.kind == "choice":
            return choice_losses(scores, jnp.asarray(batch.candidates), label)
        if self.kind == "regression":
            return square_losses(scores[:, 0], label)
        return token_losses(scores, label)

    def scores(self, params: Any, batch: TaskBatch) -> jax.Array:
        """What the head says of each row, without dropout: see `TaskModel`."""
        out: Any = self.model.apply({"params": params}, batch)
        return out[0]
