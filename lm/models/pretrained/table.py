"""What an architecture of Hugging Face is to us: its config, and whose array is which.

A row of the table is one array of ours. It is made of one array of theirs a layer, or of several
that we fuse, and both directions follow from its row.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

ACTIVATIONS = {  # theirs -> ours; the first of several is written
    "gelu": "gelu_erf",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "gelu_quick",
    "relu": "relu",
}


def activation(value: Any, field: str, known: Mapping[str, str] = ACTIVATIONS) -> Any:
    """Our name of an activation; ValueError on one that is not known, with the config's field."""
    if value not in known:
        raise ValueError(f"{field} is {value!r}; what can be read: {', '.join(known)}")
    return known[value]


def activation_name(ours: str, known: Mapping[str, str] = ACTIVATIONS) -> str:
    return next(theirs for theirs, each in known.items() if each == ours)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One of our arrays, a layer of it where the names have a `{}` for the layer."""

    path: tuple[str, ...]  # ours
    names: tuple[str, ...]  # theirs, in the order of `axis`
    shape: tuple[int, ...]  # of each of theirs, as it is stored
    ours: tuple[int, ...]  # of each, before several become one
    transposed: bool = False  # theirs is (out, in)
    axis: int = 0  # of ours, that tells several of theirs apart
    scales: tuple[float, ...] = ()  # times which each of theirs is ours, where they differ

    @property
    def layered(self) -> bool:
        return "{}" in self.names[0]

    def join(self, parts: list[np.ndarray]) -> np.ndarray:
        """One array of ours from theirs."""
        parts = [(part.T if self.transposed else part).reshape(self.ours) for part in parts]
        if self.scales:
            parts = [part * np.float32(s) for part, s in zip(parts, self.scales, strict=True)]
        return parts[0] if len(parts) == 1 else np.stack(parts, self.axis)

    def part(self, array: np.ndarray) -> list[np.ndarray]:
        """Theirs from one array of ours, contiguous: safetensors writes others wrongly."""
        count = len(self.names)
        parts = [array] if count == 1 else [np.take(array, i, self.axis) for i in range(count)]
        if self.scales:
            parts = [part / np.float32(s) for part, s in zip(parts, self.scales, strict=True)]
        stored = [
            part.reshape(self.shape[::-1]).T if self.transposed else part.reshape(self.shape)
            for part in parts
        ]
        return [np.ascontiguousarray(part) for part in stored]


def norm(path: tuple[str, ...], name: str, width: int) -> list[Row]:
    """Scale and bias of a layer norm."""
    shape = (width,)
    return [
        Row(path=(*path, "scale"), names=(f"{name}.weight",), shape=shape, ours=shape),
        Row(path=(*path, "bias"), names=(f"{name}.bias",), shape=shape, ours=shape),
    ]


def dense(
    path: tuple[str, ...],
    names: tuple[str, ...],
    inner: tuple[int, ...],
    outer: tuple[int, ...],
    axes: tuple[int, int] = (0, 0),
) -> list[Row]:
    """Kernel and bias; `axes` of ours tell several of theirs apart."""
    rows, columns = int(np.prod(inner)), int(np.prod(outer))
    kernels, biases = (tuple(f"{name}.{kind}" for name in names) for kind in ("weight", "bias"))
    return [
        Row(path=(*path, "kernel"), names=kernels, shape=(columns, rows), ours=inner + outer,
            transposed=True, axis=axes[0]),
        Row(path=(*path, "bias"), names=biases, shape=(columns,), ours=outer, axis=axes[1]),
    ]  # fmt: skip


def vectors(path: str, name: str, count: int, width: int) -> Row:
    """A table of embeddings."""
    return Row(path=(path, "table"), names=(name,), shape=(count, width), ours=(count, width))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """One `model_type` of theirs."""

    model_type: str
    class_name: str
    config: Callable[[Mapping[str, Any]], Any]  # ours from theirs; ValueError: not expressible
    raw: Callable[[Any], dict[str, Any]]  # theirs from ours
    refused: Callable[[Any], dict[str, bool]]  # what they do not have -> whether ours has it
    table: Callable[[Any], list[Row]]
    names: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]  # as in the table
    # what a folder may be without, a head -> our parameters of it
    heads: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


def from_theirs(rows: list[Row], layers: int, found: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Our float32 parameters. ValueError that lists all missing, extra and misshapen arrays, and
    those that are no weights: whole numbers, or not all finite."""
    wrong, expected = [], set()
    for row in rows:
        for layer in range(layers if row.layered else 1):
            for pattern in row.names:
                name = pattern.format(layer)
                expected.add(name)
                if name not in found:
                    wrong.append(f"missing {name}")
                elif found[name].shape != row.shape:
                    wrong.append(f"{name} is {found[name].shape}, not {row.shape}")
                elif not jnp.issubdtype(found[name].dtype, jnp.floating):
                    wrong.append(f"{name} is {found[name].dtype}, not floating")
                elif not is_finite(found[name]):
                    wrong.append(f"{name} is not all finite")
    wrong += [f"unexpected {name}" for name in sorted(found.keys() - expected)]
    if wrong:
        raise ValueError("; ".join(wrong))
    params: dict[str, Any] = {}
    for row in rows:
        joined = [
            row.join([found[name.format(layer)] for name in row.names])
            for layer in range(layers if row.layered else 1)
        ]
        node = params
        for step in row.path[:-1]:
            node = node.setdefault(step, {})
        array = np.stack(joined) if row.layered else joined[0]
        node[row.path[-1]] = np.ascontiguousarray(array, np.float32)
    return params


def is_finite(array: np.ndarray) -> bool:
    """Whether every number is, as float32."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.asarray(array, np.float32)).all())


def to_theirs(rows: list[Row], layers: int, params: Any) -> dict[str, np.ndarray]:
    """Their float32 arrays by name."""
    arrays: dict[str, np.ndarray] = {}
    for row in rows:
        node = params
        for step in row.path:
            node = node[step]
        whole = np.asarray(node, np.float32)
        for layer in range(layers if row.layered else 1):
            parts = row.part(whole[layer] if row.layered else whole)
            arrays |= {
                name.format(layer): part for name, part in zip(row.names, parts, strict=True)
            }
    return arrays


def untied(found: dict[str, np.ndarray], copy: str, original: str) -> dict[str, np.ndarray]:
    """The arrays without `copy`, which has to be the same as `original`. ValueError otherwise."""
    if copy in found and not np.array_equal(found[copy], found.get(original, ())):
        raise ValueError(f"{copy} is not {original}; only tied ones load")
    return {name: array for name, array in found.items() if name != copy}
