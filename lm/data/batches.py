"""Which tokens stand in row `r` of step `s`: a pure function of (seed, step, row).

Rows are numbered through the run. Row `i` of an epoch is window `permute(i)` of the token file: a
permutation without replacement, computed in place of stored, so that nothing has to be remembered
but the step, on any number of processes, and the tokens that were read, after another batch. Each
epoch cuts its windows at another offset.
"""

import bisect
import dataclasses
from typing import Any

import flax.struct
import jax
import numpy as np

from lm.core.config import require, require_positive
from lm.core.errors import DataError
from lm.data.permutation import mix, permute
from lm.data.token_file import TokenFile


@flax.struct.dataclass
class TokenBatch:
    """Rows of a language model's input."""

    tokens: np.ndarray  # [B T] int32
    targets: np.ndarray  # [B T] int32: the token after each
    mask: np.ndarray  # [B T] bool: targets that count
    rows: np.ndarray  # [B] uint32: the row's number in the run
    text: Any = None  # [B] bool: rows of pre-training text, beside others of another kind

    def counting(self, rows: int) -> "TokenBatch":
        """The same, of which only the first so many rows count."""
        counts = np.arange(len(self.mask)) < rows
        return dataclasses.replace(self, mask=self.mask & counts[:, None])

    @classmethod
    def abstract(cls, rows: int, length: int) -> "TokenBatch":
        """Shapes and types alone, of so many rows: what a step is compiled for."""
        struct: Any = jax.ShapeDtypeStruct
        shape = (rows, length)
        return cls(
            struct(shape, np.int32), struct(shape, np.int32), struct(shape, np.bool_),
            struct(shape[:1], np.uint32),
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchRamp:
    """A batch that grows (GPT-3, appendix B: linear in tokens), in at most eight sizes.

    All but the full one are multiples of the first: which rows a step reads, and how many, is
    then the same on every mesh.
    """

    start: int  # rows of the first steps
    tokens: int  # after which the batch is full
    sizes: int = 8

    def __post_init__(self) -> None:
        require_positive(self, "start", "tokens", "sizes")
        require(self.sizes <= 8, f"sizes must be at most 8 (each is compiled), got {self.sizes}")


class BatchSizes:
    """The global batch at each step, and the rows that came before it."""

    def __init__(self, full: int, length: int, ramp: BatchRamp | None = None):
        """Raises ConfigError if the ramp does not grow."""
        self.length = length
        self.stages: list[tuple[int, int, int]] = []  # first step, first row, rows a step
        step = row = 0
        if ramp:
            require(ramp.start < full, f"ramp.start {ramp.start} must be below batch {full}")
            stages = min(ramp.sizes - 1, max(1, full // ramp.start - 1))
            for stage in range(stages):
                size = ramp.start + (full - ramp.start) * stage // stages
                size -= size % ramp.start
                until = ramp.tokens * (stage + 1) // stages
                steps = max(0, -(-(until - row * length) // (size * length)))
                self.stages.append((step, row, size))
                step, row = step + steps, row + steps * size
        self.stages.append((step, row, full))

    def stage(self, step: int) -> tuple[int, int, int]:
        starts = [first for first, _, _ in self.stages]
        return self.stages[bisect.bisect_right(starts, step) - 1]

    def rows(self, step: int) -> int:
        """Rows of the global batch at this step."""
        return self.stage(step)[2]

    def rows_before(self, step: int) -> int:
        """Rows of all the steps before this one."""
        first, row, size = self.stage(step)
        return row + (step - first) * size

    def tokens_before(self, step: int) -> int:
        return self.rows_before(step) * self.length

    def steps_to(self, tokens: int) -> int:
        """The fewest steps that have seen this many tokens."""
        rows = -(-tokens // self.length)
        first, row, size = max(stage for stage in self.stages if stage[1] <= rows)
        return first + -(-(rows - row) // size)


def check_divisible(name: str, size: int, multiple: int) -> None:
    """Raises ConfigError, with the nearest sizes that divide, unless `multiple` divides `size`."""
    below = size - size % multiple
    near = f"{below} or {below + multiple}" if below else f"{multiple}"
    require(
        size % multiple == 0,
        f"{name} {size} is not divisible by {multiple} (data axes x microbatches); nearest: {near}",
    )


class Windows:
    """Training rows of `length` tokens, cut from one token file."""

    def __init__(self, file: TokenFile, length: int, seed: int, *, held_out: bool = False):
        """
        Args:
          held_out: the file is measured on, which an error says.

        Raises:
          DataError: the file has not one window at every offset.
        """
        self.file, self.length, self.seed = file, length, seed
        self.count = (len(file.tokens) - length) // length  # windows an epoch, at any offset
        if self.count < 1:
            part, more = "to train on", "give more text"
            if held_out:
                part, more = "held out", "hold out more by data.valid or data.valid_fraction"
            raise DataError(
                f"{file.named}: {len(file.tokens)} tokens {part} are too few for one row of "
                f"{length} at every offset, of which each epoch has another; need at least "
                f"{2 * length}: {more}, or set a smaller model.length"
            )

    def __call__(self, first: int, count: int) -> TokenBatch:
        """Rows `first`, ..., `first + count - 1` of the run."""
        return batch_of(self.cut(np.arange(first, first + count, dtype=np.uint64)), first)

    def cut(self, rows: np.ndarray) -> np.ndarray:
        """The tokens of some rows (uint64), and the one after them. [B T+1] int32"""
        return gather(self.file.tokens, self.starts(rows), self.length + 1)

    def starts(self, rows: np.ndarray) -> np.ndarray:
        """Where some rows (uint64) begin in the file. [B] int64"""
        epochs, index = rows // np.uint64(self.count), rows % np.uint64(self.count)
        starts = np.empty(len(rows), np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            windows = permute(index[here], self.count, self.seed, int(epoch))
            offset = int(mix(np.array([epoch], np.uint64), self.seed)[0] % np.uint64(self.length))
            starts[here] = windows.astype(np.int64) * self.length + offset
        return starts


def batch_of(cut: np.ndarray, first: int) -> TokenBatch:
    """Rows of whole windows [B T+1], the first one the run's row `first`."""
    return TokenBatch(
        tokens=cut[:, :-1],
        targets=cut[:, 1:],
        mask=np.ones((len(cut), cut.shape[1] - 1), bool),
        rows=np.arange(first, first + len(cut)).astype(np.uint32),
    )


def gather(tokens: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """`tokens[s : s + length]` for each start. [B length] int32"""
    out = np.empty((len(starts), length), np.int32)
    for row, start in enumerate(starts):
        out[row] = tokens[start : start + length]
    return out
