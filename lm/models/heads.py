"""A model and the one linear layer that a task adds to it (BERT, section 4; GPT-1, section 3.2)."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.core import axes
from lm.models.bert import BertConfig
from lm.models.gpt import GptConfig
from lm.models.lstm import BiLstm, LstmConfig, tagger_flops
from lm.nn.dropout import DropoutKeys, dropout
from lm.nn.initializers import truncated_normal
from lm.nn.mlp import Dense
from lm.nn.passes import READ

BackboneConfig = BertConfig | GptConfig | LstmConfig

# What the head makes: scores of classes, one number a candidate, scores of classes at each token.
Output = Literal["classes", "candidates", "tokens"]

TAGGER_LAYERS = 2


class TaskModel(nn.Module):
    """Scores of a task's classes, candidates or tokens; and the language model's beside them.

    BERT's head reads the pooled [CLS] or every token; the others' reads the hidden state at `read`.
    With `features`, BERT is left as it is: a BiLSTM of two layers reads what its last ones put out
    at each token (BERT, section 5.3: the last four; 768 units, which we take to be the width and of
    each direction).
    Two orders of one pair are two candidates whose states are added before the head (GPT-1).
    """

    backbone: BackboneConfig
    outputs: int  # K
    output: Output
    head_dropout: float = 0.1
    features: int = 0  # last layers of a BERT that is not fine-tuned; 0: it is

    def setup(self) -> None:
        width = self.backbone.width
        drawn = truncated_normal(0.02)
        if not isinstance(self.backbone, BertConfig):
            drawn = nn.initializers.normal(0.02)
        self.model: Any = self.backbone.module()
        if self.features:
            self.tagger = BiLstm(units=width, layers=TAGGER_LAYERS)
        read = 2 * width if self.features else width
        self.head = Dense((read, self.outputs), (axes.WIDTH, axes.CLASSES), drawn)

    def __call__(
        self, batch: Any, keys: DropoutKeys | None = None, language: bool = False
    ) -> tuple[jax.Array, jax.Array | None]:
        """
        Args:
          batch: a `TaskBatch` [B C T].
          language: also give the logits of the language model.

        Returns:
          Float32 scores [B K] of classes, [B C] of candidates or [B T K] of tokens; and the
          logits [B C T V] of the token after each, or None.
        """
        rows, candidates, length = batch.tokens.shape
        tokens = jnp.reshape(batch.tokens, (rows * candidates, length))
        model_keys = head_keys = None
        if keys is not None:
            model_keys, head_keys = keys.fold(0).spread(candidates), keys.fold(1)
        hidden: Any
        if isinstance(self.backbone, BertConfig):
            segments, valid = (x.reshape(tokens.shape) for x in (batch.segments, batch.valid))
            logits = None
            if self.features:
                known = self.model.features(tokens, segments, valid, self.features)
                hidden = self.tagger(known, valid)
            else:
                hidden = self.model.hidden(tokens, segments, valid, model_keys)
        else:  # padding stands at the right, where no token looks
            hidden, _ = self.model.hidden(tokens, keys=model_keys)
            logits = self.model.logits(hidden, model_keys) if language else None
        if self.output == "tokens":
            states = dropout(hidden, self.head_dropout, head_keys)
        else:
            states = self.read(hidden, batch, head_keys)
        if self.output == "classes":
            states = states.sum(axis=1)
        scores = self.head(states.astype(jnp.float32))  # they have the dtype of what it reads
        if logits is not None:
            logits = logits.reshape(rows, candidates, length, -1)
        return (scores[..., 0] if self.output == "candidates" else scores), logits

    def read(self, hidden: jax.Array, batch: Any, keys: DropoutKeys | None) -> jax.Array:
        """What stands for each candidate [B C D]; one dropout mask for all of a row's."""
        rows, candidates = batch.read.shape
        if isinstance(self.backbone, BertConfig):
            states = self.model.pooled(hidden, batch.valid.reshape(hidden.shape[:2]))
        else:
            index = jnp.reshape(batch.read, (-1, 1, 1))
            states = jnp.take_along_axis(hidden, index, axis=1)[:, 0]
        states = states.reshape(rows, candidates, -1)
        kept = dropout(jnp.ones((rows, 1, states.shape[-1])), self.head_dropout, keys)
        return states * kept.astype(states.dtype)


def flops_per_token(model: TaskModel, length: int, language: bool) -> float:
    """Operations of training a model of a task on a token of a sequence, its head left out; the
    output layer over the vocabulary is computed with the language model's loss alone."""
    backbone = model.backbone
    if not model.features:
        return backbone.flops_per_token(length, scored=float(language))
    assert isinstance(backbone, BertConfig)
    known = backbone.flops_per_token(length, scored=0.0, blocks=READ)
    return known + tagger_flops(model.features * backbone.width, backbone.width, TAGGER_LAYERS)
