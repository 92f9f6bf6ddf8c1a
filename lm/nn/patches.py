"""Images as sequences of patches (Dosovitskiy et al. 2021, section 3.1), and where each stands."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lm.core import axes
from lm.nn.initializers import named
from lm.nn.mlp import Dense

Positions = Literal["learned", "sincos"]


def patches(images: jax.Array, side: int) -> jax.Array:
    """The patches of images [B R R 3], row by row, each its pixels row by row. [B M side*side*3]"""
    batch, height, width, channels = images.shape
    grid = images.reshape(batch, height // side, side, width // side, side, channels)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, side * side * channels)


class Convolutions(nn.Module):
    """What stands for a patch after convolutions of 3 x 3 that halve the side again and again, the
    last as wide as `width` (Xiao et al. 2021, "Early Convolutions Help Transformers See Better"; no
    norms here). They overlap, so that an edge looks alike wherever it crosses a patch."""

    side: int  # pixels of a patch's side, a power of two
    width: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:  # [B R R 3] -> [B M C]
        x = images
        for number, wide in enumerate(widths(self.side, self.width)):
            init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
            names = (axes.PIXELS, axes.PIXELS, axes.PIXELS, axes.PIXELS)
            shape = (3, 3, x.shape[-1], wide)
            kernel = self.param(f"kernel{number}", named(init, names), shape)
            x = jax.nn.gelu(
                jax.lax.conv_general_dilated(
                    x,
                    jnp.asarray(kernel).astype(x.dtype),
                    (2, 2),
                    "SAME",
                    dimension_numbers=("NHWC", "HWIO", "NHWC"),
                )  # fmt: skip
            )
        return x.reshape(x.shape[0], -1, x.shape[-1])


def widths(side: int, width: int) -> list[int]:
    """Channels after each of the convolutions that make patches of this side."""
    count = side.bit_length() - 1
    return [width >> (count - 1 - number) for number in range(count)]


def sincos(grid: int, width: int) -> np.ndarray:
    """Fixed positions of a square of patches, a quarter of the width each for sine and cosine of
    the column and of the row (Chen et al. 2021, "MoCo v3", section 4). [grid*grid width]"""
    rows, columns = np.mgrid[:grid, :grid].reshape(2, -1, 1)
    rates = 10_000.0 ** -(np.arange(width // 4) / (width // 4))
    angles = (columns * rates, rows * rates)
    return np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)], axis=1)


def resized(table: jax.Array, old: int, new: int) -> jax.Array:
    """Learned positions of `old` x `old` patches, interpolated to `new` x `new` (Dosovitskiy et al.
    2021, section 3.2); a row before them, of a class token, stays. [old*old (+1) D]"""
    first, square = jnp.split(table, [table.shape[0] - old * old])
    width = table.shape[1]
    grown = jax.image.resize(square.reshape(old, old, width), (new, new, width), "bilinear")
    return jnp.concatenate([first, grown.reshape(new * new, width)])


class PatchEmbedding(nn.Module):
    """Patches times a kernel, a class token before them where it is asked for, plus positions."""

    grid: int  # patches of a side
    width: int
    positions: Positions
    class_token: bool
    std: float  # of the learned positions' initial values

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # [B M P]
        pixels, count = x.shape[-1], self.grid**2
        # fan-in: a patch holds far fewer values than the 0.02 of the other kernels is meant for
        init = nn.initializers.normal(pixels**-0.5)
        names = (axes.PIXELS, axes.WIDTH)
        x = Dense((pixels, self.width), names, init, name="pixels")(x)
        if self.class_token:
            zeros = named(nn.initializers.zeros, (axes.POSITIONS, axes.WIDTH))
            token = self.param("class_token", zeros, (1, self.width)).astype(x.dtype)
            token = jnp.broadcast_to(token, (x.shape[0], 1, self.width))
            x = jnp.concatenate([token, x], axis=1)
        if self.positions == "sincos":
            return x.at[:, -count:].add(sincos(self.grid, self.width).astype(x.dtype))
        drawn = named(nn.initializers.normal(self.std), (axes.POSITIONS, axes.WIDTH))
        table = self.param("positions", drawn, (count + self.class_token, self.width))
        return x + table.astype(x.dtype)
