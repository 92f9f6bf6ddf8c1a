"""Which rows the steps of a run read."""

from typing import Any

import pytest

from lm.train.supervised import Supervised


def rows_read(patch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Filled with the first and the last row of each step, by their numbers in the run."""
    read: list[tuple[int, int]] = []
    split = Supervised.split

    def recorded(self: Supervised, host: Any, *rest: Any) -> Any:
        read.append((int(host.rows[0]), int(host.rows[-1])))
        return split(self, host, *rest)

    patch.setattr(Supervised, "split", recorded)
    return read
