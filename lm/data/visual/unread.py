"""Rows whose images cannot be read: they are left out and counted, while they are few."""

from collections.abc import Collection

from lm.core.errors import DataError
from lm.data.prompts import FAULTY

ENOUGH = 1_000  # rows before the share of images that cannot be read says something
TOLD = 3  # that are named


class Unread:
    """How many of the rows that were read had an image that could not be."""

    def __init__(self) -> None:
        self.count = self.shown = 0

    def __str__(self) -> str:
        """What follows an account of the rows."""
        told = f"; {self.count} of {self.shown} rows drawn had images that cannot be read"
        return told if self.count else ""

    def add(self, wrong: Collection[str], rows: int) -> list[str]:
        """Of so many rows what is wrong with some; gives back the lines to say: the first three.

        Raises:
          DataError: more than a few of all rows.
        """
        problems = list(wrong)
        lines = [f"warning: left out: {what}" for what in problems[: max(0, TOLD - self.count)]]
        self.count, self.shown = self.count + len(problems), self.shown + rows
        if self.count > FAULTY * max(self.shown, ENOUGH):
            raise DataError(
                f"{self.count} of {self.shown} rows have an image that cannot be read, more than "
                f"{FAULTY:.0%}: {problems[-1]}; correct the files"
            )
        return lines
