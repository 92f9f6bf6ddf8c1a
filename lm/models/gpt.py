"""The decoder of GPT-1 to GPT-4; what an image says to it comes in as `Inserted` vectors."""

import dataclasses
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.core import axes
from lm.core.config import require, require_fraction, require_positive
from lm.core.mesh import constrain, platform
from lm.core.tree import name_of
from lm.losses.vocabulary import vocabulary_losses
from lm.nn.blocks import residual
from lm.nn.cache import LayerCache
from lm.nn.config import BlockConfig
from lm.nn.dropout import DropoutKeys, dropout
from lm.nn.embed import Table
from lm.nn.mlp import transpose_kernels
from lm.nn.norms import LayerNorm
from lm.nn.passes import LEARNED, THROUGH, Passes
from lm.nn.patterns import mean_pairs
from lm.nn.stack import Stack, unstack


@dataclasses.dataclass(frozen=True, kw_only=True)
class GptConfig(BlockConfig):
    """A decoder. The defaults are GPT-2's (Radford et al. 2019) without its sizes.

    First values have three readings (lm/nn/initializers.py), and the default is "hf", that of
    Hugging Face and nanoGPT: positions too are drawn at 0.02, where OpenAI's code has 0.01.
    """

    vocab: int
    length: int  # tokens of context
    final_norm: bool = True
    token_std: float = 0.02
    position_std: float = 0.02  # of OpenAI's code: 0.01
    positions: Literal["drawn", "sinusoid"] = "drawn"  # first values; they are learned in any case
    embedding_dropout: float = 0.0
    dropped: Literal["sum", "table"] = "sum"  # what embedding dropout falls on; GPT-1: the table

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "vocab", "length", "token_std", "position_std")
        require(self.causal, "causal=False, and a decoder would see what it predicts: set it True")
        require_fraction(self, "embedding_dropout")

    def parameters(self) -> int:
        """Number of parameters: 12 D^2 + 13 D a block, where F = 4 D and all biases are there."""
        tables = (self.vocab + self.length) * self.width
        return tables + self.layers * self.block_parameters + 2 * self.width * self.final_norm

    def module(self) -> "Gpt":
        return Gpt(self)

    def flops_per_token(
        self, length: int, scored: float = 1.0, *,
        blocks: Passes = LEARNED, output: Passes = LEARNED, rank: int = 0,
    ) -> float:  # fmt: skip
        """Floating-point operations of training on a token: 6 for each weight of a product, and 12
        N H for each pair that a layer attends to, which are (T + 1) / 2 a token where it is dense
        (Chowdhery et al. 2022, appendix B, halved).

        Args:
          scored: share of the tokens for which the output layer is computed.
          blocks, output: what is computed of the blocks, and of the output layer.
          rank: of adapters, beside which both are frozen.
        """
        if rank:
            blocks = output = THROUGH
        products = blocks.weight * self.layers * self.block_weights
        products += LEARNED.weight * self.layers * self.adapter_weights(rank)
        products += output.weight * scored * self.vocab * self.width
        seen = mean_pairs(length, self) / length
        return products + blocks.pair * self.layers * self.heads * self.head_width * seen


@flax.struct.dataclass
class Cache:
    """What decoding keeps of the tokens it has seen. Prompts end, and so stand, at the right."""

    layers: tuple[LayerCache, ...]
    valid: jax.Array | None  # [B S] bool: slots with a real token; None: all of them
    slot: jax.Array  # scalar: where the next token goes; [B]: where that of each row goes
    padding: jax.Array  # [B] empty slots before each prompt
    # several tokens at once go behind those that are there, at `slot`, and not to the first slot
    behind: bool = flax.struct.field(pytree_node=False, default=False)

    @classmethod
    def empty(cls, config: GptConfig, padding: jax.Array, slots: int) -> "Cache":
        """A cache of `slots` for rows that begin with `padding` [B] empty ones."""
        rounds = config.layers // len(config.pattern)
        layers = tuple(
            LayerCache.empty(config, pattern, padding.shape[0], slots)
            for pattern in config.pattern * rounds
        )
        valid = jnp.arange(slots) >= padding[:, None]
        return cls(layers=layers, valid=valid, slot=jnp.zeros((), jnp.int32), padding=padding)

    def rows(self, config: GptConfig, index: jax.Array) -> "Cache":
        """The cache of these rows, in this order; a row may come more than once."""
        return Cache(
            layers=tuple(layer.rows(config.heads, index) for layer in self.layers),
            valid=None if self.valid is None else self.valid[index],
            slot=self.slot,
            padding=self.padding[index],
        )


@flax.struct.dataclass
class Inserted:
    """Vectors that stand at some places instead of the tokens' own: an image's, for one."""

    vectors: jax.Array  # [B S D], in the order of their places
    places: jax.Array  # [B T] bool; of a row no more than S

    def over(self, x: jax.Array) -> jax.Array:
        """`x` [B T D] with the vectors at their places."""
        order = jnp.maximum(jnp.cumsum(self.places, axis=1) - 1, 0)
        there = jnp.take_along_axis(self.vectors, order[:, :, None], axis=1, mode="clip")
        return jnp.where(self.places[:, :, None], there.astype(x.dtype), x)


class Gpt(nn.Module):
    """Decoder-only transformer with learned positions and a tied output layer."""

    config: GptConfig

    def setup(self) -> None:
        config = self.config
        dropped = config.embedding_dropout if config.dropped == "table" else 0.0
        self.tokens = Table(
            config.vocab, config.width, axes.VOCABULARY, config.token_std, dropout=dropped
        )
        self.positions = Table(
            config.length, config.width, axes.POSITIONS, config.position_std, dropout=dropped,
            waves=config.positions == "sinusoid",
        )  # fmt: skip
        self.stack = Stack(config)
        if config.final_norm:
            self.norm = LayerNorm(config.epsilon)

    def __call__(
        self,
        tokens: jax.Array,  # [B T] int
        valid: jax.Array | None = None,  # [B T] bool: real tokens
        keys: DropoutKeys | None = None,
        cache: Cache | None = None,
        inserted: Inserted | None = None,
        prefix: jax.Array | None = None,  # [B T] bool: tokens that all see, earlier ones too
    ) -> tuple[jax.Array, Cache | None]:
        """Float32 logits [B T V] of the token after each, and the cache, advanced."""
        hidden, cache = self.hidden(tokens, valid, keys, cache, inserted, prefix)
        return self.logits(hidden, keys), cache

    def hidden(
        self,
        tokens: jax.Array,
        valid: jax.Array | None = None,
        keys: DropoutKeys | None = None,
        cache: Cache | None = None,
        inserted: Inserted | None = None,
        prefix: jax.Array | None = None,
    ) -> tuple[jax.Array, Cache | None]:
        """Hidden states [B T D] after the last block and norm, and the cache, advanced."""
        config = self.config
        length = tokens.shape[1]
        embedding_keys, position_keys, block_keys = fold_keys(keys)
        start: int | jax.Array = 0
        if cache is None:
            positions = jnp.arange(length)[None]
            if valid is not None:  # positions count real tokens
                positions = jnp.maximum(jnp.cumsum(valid, axis=1) - 1, 0)
        else:
            start = cache.slot if length == 1 or cache.behind else 0
            valid = cache.valid
            slots = jnp.reshape(start, (-1, 1)) + jnp.arange(length)
            positions = jnp.maximum(slots - cache.padding[:, None], 0)

        x = self.embedded(tokens, positions, embedding_keys, position_keys, inserted)
        if config.dropped == "sum":
            x = dropout(x, config.embedding_dropout, embedding_keys)
        x = residual(x, config)
        layers = cache.layers if cache else None
        x, layers = self.stack(x, valid, block_keys, layers, start, prefix)
        if config.final_norm:
            x = self.norm(x)
        if cache is not None and layers is not None:
            cache = dataclasses.replace(cache, layers=layers, slot=cache.slot + length)
        return x, cache

    def embedded(
        self,
        tokens: jax.Array,  # [B T]
        positions: jax.Array,  # [B|1 T]
        keys: DropoutKeys | None = None,
        position_keys: DropoutKeys | None = None,
        inserted: Inserted | None = None,
    ) -> jax.Array:
        """What enters the first block, but for dropout of the sum. [B T D]"""
        x = self.tokens(tokens, self.config.dtype, keys)
        if inserted is not None:
            x = inserted.over(x)
        return x + self.positions(positions, self.config.dtype, position_keys)

    def logits(self, hidden: jax.Array, keys: DropoutKeys | None = None) -> jax.Array:
        """Float32 scores [B T V] of the next token from hidden states [B T D]: of tokens alone,
        also where GPT-1's released code has positions among the columns of its softmax."""
        scores = self.tokens.logits(hidden, fold_keys(keys)[0])
        return constrain(scores, axes.BATCH, axes.LENGTH, axes.VOCABULARY)

    def losses(
        self,
        tokens: jax.Array,  # [B T] int
        targets: jax.Array,  # [B T] int
        keys: DropoutKeys | None = None,
        parts: int = 1,
    ) -> jax.Array:
        """Cross-entropy of each target, the vocabulary taken in so many parts. [B T]"""
        hidden, _ = self.hidden(tokens, keys=keys)
        table = self.tokens.dropped(fold_keys(keys)[0])
        return vocabulary_losses(hidden, table, targets, parts=parts)


def fold_keys(
    keys: DropoutKeys | None,
) -> tuple[DropoutKeys | None, DropoutKeys | None, DropoutKeys | None]:
    """Keys of the tokens (or their sum with the positions), of the positions, of the blocks."""
    return (None, None, None) if keys is None else (keys.fold(0), keys.fold(2), keys.fold(1))


def abstract_params(config: GptConfig) -> Any:
    """Shapes, dtypes and axis names of the parameters; nothing is computed."""
    return jax.eval_shape(lambda key: init(config, key), jax.random.key(0))


def init(config: GptConfig, key: jax.Array) -> Any:
    """Initial parameters, boxed with the names of their axes."""
    return config.module().init(key, jnp.zeros((1, 1), jnp.int32))["params"]


def forward(
    config: GptConfig,
    params: Any,
    tokens: jax.Array,
    *,
    valid: jax.Array | None = None,
    keys: DropoutKeys | None = None,
    cache: Cache | None = None,
) -> tuple[jax.Array, Any]:
    """Logits [B T V] and the cache, as `Gpt` computes them."""
    out: Any = Gpt(config).apply({"params": params}, tokens, valid, keys, cache)
    return out


def forward_hidden(
    config: GptConfig, params: Any, tokens: jax.Array, cache: Cache | None = None,
    inserted: Inserted | None = None, prefix: jax.Array | None = None,
) -> tuple[jax.Array, Any]:  # fmt: skip
    """Hidden states [B T D] after the last block and norm, and the cache."""
    out: Any = Gpt(config).apply(
        {"params": params}, tokens, cache=cache, inserted=inserted, prefix=prefix, method="hidden"
    )
    return out


def head(config: GptConfig, params: Any, hidden: jax.Array) -> jax.Array:
    """Logits [B T V] of hidden states."""
    out: Any = Gpt(config).apply({"params": params}, hidden, method="logits")
    return out


def decoding_params(config: GptConfig, params: Any) -> Any:
    """Parameters as decoding wants them: one tree a layer, kernels and tables in the dtype of the
    activations. Norms and biases stay as they are, as they do in training."""

    def multiplied(path: Any, leaf: jax.Array) -> jax.Array:
        return leaf.astype(config.dtype) if name_of(path[-1:]) in ("kernel", "table") else leaf

    cast = jax.tree_util.tree_map_with_path(multiplied, params)
    blocks = unstack(cast["stack"]["blocks"])
    if platform() == "cpu" and jax.sharding.get_abstract_mesh().size <= 1:
        blocks = tuple(transpose_kernels(block) for block in blocks)
    return cast | {"stack": {"blocks": blocks}}
