"""Whether recall ends where the band does: the rule, over what the members answered.

Shown means: beyond the reach of the band a dense model is above a banded one by more than twice the
spread over the seeds; of what dense has there above chance, banded keeps at most a twentieth, and
layers that alternate at least nineteen; and of what dense has within reach, in the same rows and in
the control, whose rows are no longer, banded keeps at least half.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from lm.metrics.spread import clear, over_seeds

AT_CHANCE, NEAR, NOT_AT_CHANCE = 0.05, 0.95, 0.5  # of what dense has above chance


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """The rule applied to one study. Shares of right answers a seed; dense beside banded."""

    chance: float
    dense: Sequence[float]  # beyond reach
    banded: Sequence[float]
    alternating: Sequence[float]
    dense_within: Sequence[float]
    banded_within: Sequence[float]
    dense_control: Sequence[float]
    banded_control: Sequence[float]

    def kept(self, some: Sequence[float], dense: Sequence[float]) -> float:
        """Of what dense has above chance; NaN where it has nothing."""
        above = float(np.mean(dense)) - self.chance
        return (float(np.mean(some)) - self.chance) / above if above > 0 else np.nan

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """What banded and alternating keep beyond reach, banded within it and in the control."""
        return (
            self.kept(self.banded, self.dense),
            self.kept(self.alternating, self.dense),
            self.kept(self.banded_within, self.dense_within),
            self.kept(self.banded_control, self.dense_control),
        )

    @property
    def failed(self) -> str | None:
        """The first condition that does not hold, in words; None where all do."""
        rise, spread = over_seeds(np.subtract(self.dense, self.banded))
        if spread is None:
            return "a spread needs two seeds"
        if not clear(rise, spread):
            return (
                f"dense minus banded beyond reach is {rise:.3f}, not more than twice its spread "
                f"{spread:.3f}"
            )
        banded, alternating, within, control = self.shares
        if not banded <= AT_CHANCE:
            return f"banded keeps {banded:.1%} beyond reach, needed at most {AT_CHANCE:.0%}"
        if not alternating >= NEAR:
            return f"alternating keeps {alternating:.1%} beyond reach, needed {NEAR:.0%}"
        if not within >= NOT_AT_CHANCE:
            return f"banded keeps {within:.1%} within reach, needed {NOT_AT_CHANCE:.0%}"
        if not control >= NOT_AT_CHANCE:
            return f"banded keeps {control:.1%} of the control, needed {NOT_AT_CHANCE:.0%}"
        return None

    @property
    def shown(self) -> bool:
        return self.failed is None

    def line(self) -> str:
        banded, alternating, within, control = self.shares
        return (
            f"{'shown' if self.shown else 'not shown'}: of what dense recalls above chance, beyond "
            f"reach banded keeps {banded:.1%} (needed at most {AT_CHANCE:.0%}) and alternating "
            f"{alternating:.1%} (needed {NEAR:.0%}); within reach banded keeps {within:.1%}, and "
            f"of the control {control:.1%} (needed {NOT_AT_CHANCE:.0%})"
            + (f"; what fails: {self.failed}" if self.failed else "")
        )
