"""The control of GPT-1's study: a language model of one LSTM layer (Radford et al. 2018, section 5;
Hochreiter and Schmidhuber 1997), under the same training and fine-tuning code as the transformer.

The paper says "a single layer 2048 unit LSTM" and nothing else. Word table, tied output and width
are the transformer's; a projection takes the units back to that width. These are our choice.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.core import axes
from lm.core.config import require_fraction, require_positive
from lm.core.dot import dot
from lm.core.mesh import constrain
from lm.nn.dropout import DropoutKeys, dropout
from lm.nn.embed import Table
from lm.nn.initializers import named
from lm.nn.mlp import Dense
from lm.nn.passes import LEARNED


@dataclasses.dataclass(frozen=True, kw_only=True)
class LstmConfig:
    """A recurrent language model."""

    vocab: int
    length: int  # tokens of a training window
    width: int
    units: int
    layers: int = 1
    dropout: float = 0.1  # of embeddings, and of what each layer puts out
    std: float = 0.02
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        require_positive(self, "vocab", "length", "width", "units", "layers", "std")
        require_fraction(self, "dropout")

    def parameters(self) -> int:
        """Number of parameters: four gates a layer, the word table and the projection."""
        first = (self.width + self.units) * 4 * self.units + 4 * self.units
        others = (2 * self.units) * 4 * self.units + 4 * self.units
        projection = self.units * self.width + self.width
        return self.vocab * self.width + first + (self.layers - 1) * others + projection

    def module(self) -> "Lstm":
        return Lstm(self)

    def flops_per_token(self, length: int, scored: float = 1.0) -> float:
        """Floating-point operations of training on a token: 6 for each weight of a product, the
        output layer for the share `scored`."""
        del length
        first, others = self.width + self.units, 2 * self.units
        gates = 4 * self.units * (first + (self.layers - 1) * others)
        output = scored * self.vocab * self.width
        return LEARNED.weight * (gates + self.units * self.width + output)


class Recurrence(nn.Module):
    """One LSTM layer over [B T D]; the forget gate starts open (Jozefowicz et al. 2015).

    The cell adds up over the whole row: it is float32, and so are the gates.
    """

    units: int
    std: float  # of the input's kernel

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # [B T D] -> [B T U]
        units, drawn = self.units, nn.initializers.normal(self.std)
        inputs = Dense((x.shape[-1], 4 * units), (axes.WIDTH, axes.HIDDEN), drawn, name="input")(x)
        recurrent = self.param(
            "kernel", named(nn.initializers.orthogonal(), (axes.WIDTH, axes.HIDDEN)),
            (units, 4 * units),
        )  # fmt: skip

        def step(carry: Any, gates: jax.Array) -> Any:
            h, c = carry
            gates = gates.astype(jnp.float32) + dot(h, recurrent)
            i, f, g, o = jnp.split(gates, 4, axis=-1)
            c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = (jax.nn.sigmoid(o) * jnp.tanh(c)).astype(x.dtype)
            return (h, c), h

        nothing = jnp.zeros((x.shape[0], units), jnp.float32)
        first = nothing.astype(x.dtype), nothing
        _, out = jax.lax.scan(step, first, jnp.swapaxes(inputs, 0, 1))
        return jnp.swapaxes(out, 0, 1)


class BiLstm(nn.Module):
    """Layers of two recurrences each, one from either end of the row (BERT, section 5.3)."""

    units: int  # of one direction
    layers: int
    std: float = 0.02

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array) -> jax.Array:
        """[B T D] and [B T] bool -> [B T 2U]; padding stands at the right."""
        place, length = jnp.arange(x.shape[1]), jnp.sum(valid, axis=1, keepdims=True)
        mirrored = jnp.where(place < length, length - 1 - place, place)[..., None]
        for layer in range(self.layers):
            forth, back = (
                Recurrence(self.units, self.std, name=f"{way}_{layer}") for way in ("forth", "back")
            )
            read = back(jnp.take_along_axis(x, mirrored, axis=1))
            x = jnp.concatenate([forth(x), jnp.take_along_axis(read, mirrored, axis=1)], axis=-1)
        return x


def tagger_flops(read: int, units: int, layers: int) -> float:
    """Operations of training a `BiLstm` on a token that comes in as `read` constants: nothing goes
    back to them, which leaves 4 for each weight that they are multiplied with."""
    others = units + (layers - 1) * 3 * units
    return 2 * 4 * units * (4.0 * read + LEARNED.weight * others)


class Lstm(nn.Module):
    """Recurrent language model with a tied output layer; read as `lm.models.gpt.Gpt` is."""

    config: LstmConfig

    def setup(self) -> None:
        config = self.config
        self.tokens = Table(config.vocab, config.width, axes.VOCABULARY, config.std)
        self.recurrences = [Recurrence(config.units, config.std) for _ in range(config.layers)]
        drawn = nn.initializers.normal(config.std)
        self.projection = Dense((config.units, config.width), (axes.HIDDEN, axes.WIDTH), drawn)

    def __call__(
        self, tokens: jax.Array, valid: jax.Array | None = None, keys: DropoutKeys | None = None
    ) -> tuple[jax.Array, None]:
        """Float32 logits [B T V] of the token after each, and no cache."""
        hidden, _ = self.hidden(tokens, valid, keys)
        return self.logits(hidden, keys), None

    def hidden(
        self, tokens: jax.Array, valid: jax.Array | None = None, keys: DropoutKeys | None = None
    ) -> tuple[jax.Array, None]:
        """Hidden states [B T D]. Padding stands at the right, so it is never read."""
        del valid
        x = self.tokens(tokens, self.config.dtype)
        for layer, recurrence in enumerate(self.recurrences):
            x = recurrence(dropout(x, self.config.dropout, keys.fold(layer) if keys else None))
        last = keys.fold(self.config.layers) if keys else None
        return self.projection(dropout(x, self.config.dropout, last)), None

    def logits(self, hidden: jax.Array, keys: DropoutKeys | None = None) -> jax.Array:
        """Float32 scores [B T V] of the next token from hidden states [B T D]."""
        del keys
        return constrain(self.tokens.logits(hidden), axes.BATCH, axes.LENGTH, axes.VOCABULARY)
