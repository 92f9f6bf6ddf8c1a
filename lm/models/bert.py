"""The encoder of BERT (Devlin et al. 2019), with its two pre-training heads.

The heads are where the released code has them: masked positions are gathered before the output
layer, which transforms, normalises, multiplies by the word table and adds a free bias; the sentence
head reads [CLS] through the pooler. `causal=True` is the left-to-right model of table 5.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.core import axes
from lm.core.config import require, require_fraction, require_positive
from lm.core.mesh import constrain
from lm.nn.blocks import residual
from lm.nn.config import BlockConfig
from lm.nn.dropout import DropoutKeys, dropout
from lm.nn.embed import Table
from lm.nn.initializers import named, truncated_normal
from lm.nn.mlp import ACTIVATIONS, Dense
from lm.nn.norms import LayerNorm
from lm.nn.passes import LEARNED, Passes
from lm.nn.patterns import mean_pairs
from lm.nn.stack import Stack, layers_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertConfig(BlockConfig):
    """An encoder. The defaults are the released code's (modeling.py) without its sizes."""

    vocab: int
    length: int = 512
    segments: int = 2
    causal: bool = False
    norm: Literal["pre", "post"] = "post"
    epsilon: float = 1e-12
    activation: Literal["gelu_tanh", "gelu_erf", "gelu_quick", "relu"] = "gelu_erf"
    init: Literal["hf", "report", "openai", "gpt1", "bert"] = "bert"
    attention_dropout: float = 0.1
    residual_dropout: float = 0.1
    embedding_dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "vocab", "length", "segments")
        require(
            self.norm == "post", f"norm={self.norm!r}, and an encoder ends with no norm: 'post'"
        )
        require_fraction(self, "embedding_dropout")

    def parameters(self) -> int:
        """Number of parameters with the pooler and both heads."""
        width = self.width
        embedding = (self.vocab + self.length + self.segments) * width + 2 * width
        pooler, transform = width * width + width, width * width + 3 * width
        heads = transform + self.vocab + 2 * width + 2
        return embedding + self.layers * self.block_parameters + pooler + heads

    def module(self) -> "Bert":
        return Bert(self)

    def flops_per_token(
        self, length: int, scored: float = 0.15, *, blocks: Passes = LEARNED
    ) -> float:
        """Floating-point operations of training on a token of a sequence: 6 for each weight of a
        product, 12 L N H for each pair of attention, of which a dense layer has T to both sides and
        (T + 1) / 2 where it is causal, the output layer for the share `scored`; `blocks` is what is
        computed of them."""
        head = scored * (self.vocab * self.width + self.width**2)
        products = blocks.weight * self.layers * self.block_weights + LEARNED.weight * head
        seen = mean_pairs(length, self) / length
        if not self.causal:
            seen = 2 * seen - 1  # as many to the other side; itself is counted once
        return products + blocks.pair * self.layers * self.heads * self.head_width * seen


class Bert(nn.Module):
    """Encoder with pooler, masked-word head and next-sentence head."""

    config: BertConfig

    def setup(self) -> None:
        config = self.config
        width, std = config.width, config.std
        self.tokens = Table(config.vocab, width, axes.VOCABULARY, std, truncated=True)
        self.positions = Table(config.length, width, axes.POSITIONS, std, truncated=True)
        self.segments = Table(config.segments, width, axes.POSITIONS, std, truncated=True)
        self.norm = LayerNorm(config.epsilon)
        self.stack = Stack(config)
        square, drawn = (axes.WIDTH, axes.HIDDEN), truncated_normal(std)
        self.pooler = Dense((width, width), square, drawn)
        self.transform = Dense((width, width), square, drawn)
        self.transform_norm = LayerNorm(config.epsilon)
        self.output_bias = Bias(config.vocab, axes.VOCABULARY)
        self.next = Dense((width, 2), (axes.WIDTH, axes.CLASSES), drawn)

    def __call__(
        self,
        tokens: jax.Array,  # [B T] int
        segments: jax.Array | None = None,  # [B T] int; all of the first where None
        valid: jax.Array | None = None,  # [B T] bool: real tokens
        keys: DropoutKeys | None = None,
        positions: jax.Array | None = None,  # [B P] int: where words are predicted; all where None
    ) -> tuple[jax.Array, jax.Array]:
        """Float32 scores of words [B P V], and of "is next" against "is random" [B 2]."""
        hidden = self.hidden(tokens, segments, valid, keys)
        return self.words(hidden, positions), self.is_next(self.pooled(hidden, valid))

    def hidden(
        self,
        tokens: jax.Array,
        segments: jax.Array | None = None,
        valid: jax.Array | None = None,
        keys: DropoutKeys | None = None,
    ) -> jax.Array:
        """Hidden states [B T D] after the last block."""
        embedding_keys, block_keys = (None, None) if keys is None else (keys.fold(0), keys.fold(1))
        x = self.embedded(tokens, segments, embedding_keys)
        return self.stack(x, valid, block_keys)[0]

    def features(
        self, tokens: jax.Array, segments: jax.Array, valid: jax.Array, layers: int
    ) -> jax.Array:
        """What the last `layers` blocks put out, side by side, as constants. [B T layers*D]"""
        stream = self.stream(tokens, segments, valid)
        return jax.lax.stop_gradient(jnp.concatenate(stream[-layers:], axis=-1))

    def stream(
        self, tokens: jax.Array, segments: jax.Array | None = None, valid: jax.Array | None = None
    ) -> list[jax.Array]:
        """What enters the first block, and what each puts out, without dropout. L+1 x [B T D]"""
        x = self.embedded(tokens, segments, None)
        if self.is_initializing():
            self.stack(x)
        blocks = nn.unbox(self.stack.variables["params"]["blocks"])  # boxed while initialising
        return [x, *(out for out, _ in layers_of(self.config, blocks, x, valid))]

    def embedded(
        self, tokens: jax.Array, segments: jax.Array | None, keys: DropoutKeys | None
    ) -> jax.Array:
        """What enters the first block. [B T D]"""
        config = self.config
        dtype, length = config.dtype, tokens.shape[1]
        kinds = jnp.zeros_like(tokens) if segments is None else segments
        x = self.tokens(tokens, dtype) + self.positions(jnp.arange(length)[None], dtype)
        x = self.norm(x + self.segments(kinds, dtype))
        x = dropout(x, config.embedding_dropout, keys)
        return residual(x, config)

    def pooled(self, hidden: jax.Array, valid: jax.Array | None = None) -> jax.Array:
        """What stands for the whole sequence, through a dense layer and tanh. [B D]

        It is [CLS]; of a causal model, whose [CLS] sees nothing, the last real token.
        """
        state = hidden[:, 0]
        if self.config.causal:
            state = hidden[:, -1]
            if valid is not None:
                last = valid.sum(axis=1)[:, None, None] - 1
                state = jnp.take_along_axis(hidden, last, axis=1)[:, 0]
        return jnp.tanh(self.pooler(state))

    def words(self, hidden: jax.Array, positions: jax.Array | None = None) -> jax.Array:
        """Float32 scores of the words at `positions` [B P] of hidden states [B T D]. [B P V]"""
        if positions is not None:
            hidden = jnp.take_along_axis(hidden, positions[..., None], axis=1)
        hidden = ACTIVATIONS[self.config.activation](self.transform(hidden))
        # left to itself on a mesh of data, fsdp and tensor, XLA's partitioner splits the width as
        # the kernel is split, and the gradients of all that comes before are wrong
        hidden = constrain(hidden, axes.BATCH, axes.LENGTH, axes.WIDTH)
        scores = self.output_bias(self.tokens.logits(self.transform_norm(hidden)))
        return constrain(scores, axes.BATCH, axes.LENGTH, axes.VOCABULARY)

    def is_next(self, pooled: jax.Array) -> jax.Array:
        """Float32 scores: 0, the second text follows the first; 1, it is a random one. [B 2]"""
        return self.next(pooled.astype(jnp.float32))  # they have the dtype of what it reads


class Bias(nn.Module):
    """A number added to each score."""

    size: int
    axis: str

    @nn.compact
    def __call__(self, scores: jax.Array) -> jax.Array:  # [... V]
        return scores + self.param("bias", named(nn.initializers.zeros, (self.axis,)), (self.size,))


HEADS = ("transform", "transform_norm", "output_bias", "next")  # what fine-tuning leaves behind


def init(config: BertConfig, key: jax.Array) -> Any:
    """Initial parameters, boxed with the names of their axes."""
    return config.module().init(key, jnp.zeros((1, 1), jnp.int32))["params"]
