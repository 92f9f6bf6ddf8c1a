"""The trace that a run writes of some of its steps, for TensorBoard or Perfetto."""

from collections.abc import Callable
from pathlib import Path

import jax


class Trace:
    """A trace of the steps from `wanted[0]` up to `wanted[1]`, as far as a process makes them."""

    def __init__(
        self, wanted: tuple[int, int] | None, folder: Path, say: Callable[[str], None],
        settle: Callable[[], None],
    ):  # fmt: skip
        """
        Args:
          settle: waits for the steps that were dispatched: they belong to one side of a bound.
        """
        self.wanted = range(*wanted or (0, 0))
        self.folder, self.say, self.settle = folder, say, settle
        self.first: int | None = None  # of the steps that are being traced
        self.last = 0

    def expect(self, first: int, total: int) -> None:
        """Says so where none of the steps that are left, `first` up to `total`, is to be traced."""
        wanted = self.wanted
        if wanted and not range(max(wanted.start, first), min(wanted.stop, total)):
            self.say(
                f"warning: no trace: of steps {wanted.start}:{wanted.stop} none is left of "
                f"{first}:{total}"
            )

    def before(self, step: int) -> None:
        """Begins with the first of the steps."""
        if step in self.wanted:
            if self.first is None:
                self.settle()
                jax.profiler.start_trace(str(self.folder))
                self.first = step
            self.last = step

    def after(self, step: int) -> None:
        """Ends with the last of the steps."""
        if self.first is not None and step + 1 == self.wanted.stop:
            self.settle()
            self.end()

    def end(self) -> None:
        """Writes the trace, if one has begun: of a process that leaves before its last step too."""
        if self.first is not None:
            jax.profiler.stop_trace()
            self.say(f"trace of steps {self.first}:{self.last + 1} in {self.folder}")
            self.first = None
