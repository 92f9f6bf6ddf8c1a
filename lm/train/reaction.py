"""What a run does about steps that its guard found something in."""

from collections.abc import Callable
from typing import Any

from lm.core.errors import GuardStop
from lm.train.guard import GuardConfig
from lm.train.journal import Journal
from lm.train.step import StepMetrics

Origins = Callable[[int], list[dict[str, Any]]]  # of a step, where each row of its batch is from


class Reaction:
    """Warns, skips, asks for a roll back or stops, by the policy of a `GuardConfig`."""

    def __init__(self, guard: GuardConfig, journal: Journal):
        self.guard, self.journal = guard, journal
        self.skipped = 0  # steps in a row
        self.rollbacks = 0  # of the run
        self.rollback_wanted = False
        self.origins: Origins | None = None  # for the bundle of a step that is not finite

    def to(self, step: int, values: StepMetrics) -> None:
        """Acts on what the guard found in a step, or leaves it at that.

        Raises:
          GuardStop: the policy says so, or too many updates in a row were not made.
        """
        what = f"step {step}: loss {float(values.loss)}, gradient norm {float(values.grad_norm)}"
        spike = f"spike at {what}, robust z {float(values.spike):.1f}"
        if values.finite and values.applied:
            self.skipped = 0
            if values.spike > self.guard.threshold:
                self.journal.say(f"warning: {spike}; applied")
            return
        self.skipped += 1
        made = float(values.applied)
        if values.finite:
            what = spike
        else:
            if made:
                what += f" of the {made:.0%} of its minibatches that were finite"
            rows = self.origins(step) if self.journal.main and self.origins else []
            self.journal.bad_step(step, values, rows)
            if self.guard.nonfinite == "stop":
                raise GuardStop(
                    f"{what}; nothing of it was saved. Resume with --set guard.nonfinite=skip, "
                    "or a lower optim.peak_lr"
                )
            self.rollback_wanted = self.guard.nonfinite == "rollback"
        if self.skipped > self.guard.limit:
            raise GuardStop(
                f"{what}; {self.skipped} steps in a row were skipped or in part so (guard.limit)"
            )
        self.journal.say(f"warning: {what}; {'the others were ' if made else ''}skipped")

    def roll_back(self) -> None:
        """Counts a roll back; raises GuardStop where there were too many."""
        self.rollback_wanted = False
        self.rollbacks += 1
        if self.rollbacks > self.guard.limit:
            raise GuardStop(f"rolled back {self.rollbacks} times (guard.limit)")
