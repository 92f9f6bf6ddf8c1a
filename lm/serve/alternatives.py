"""What a model answered to the last message in a terminal, and which answer is better."""

import dataclasses
import re
from pathlib import Path
from typing import Any

from lm.core.errors import UserError
from lm.data.comparisons import MOST
from lm.data.labels import FILE
from lm.serve.body import Fields, Refused
from lm.serve.labels import Labels
from lm.serve.rankings import Judgement, checked_name, ranking, talked


@dataclasses.dataclass
class Alternatives:
    """Whole answers to one message, each once, in the order in which they were drawn."""

    folder: Path | None  # of the labels
    labeler: str
    source: str  # the run that answers
    answers: dict[str, bool] = dataclasses.field(default_factory=dict)  # whether each ended

    def add(self, answer: str, ended: bool) -> None:
        """Of more than a ranking holds the oldest are forgotten, but not the first, by which an
        item is known."""
        if answer and answer not in self.answers:
            first, *more = *self.answers.items(), (answer, ended)
            self.answers = dict([first, *more[1 - MOST :]])

    def rank(self, messages: list[dict[str, Any]], text: str) -> tuple[str, Path]:
        """Keeps an order of the answers to a conversation; returns the best, and where it is kept.

        Raises:
          UserError: no such order, or nothing that can be ranked, or no folder to keep it in.
        """
        answers, ended = list(self.answers), list(self.answers.values())
        ranks = read_order(text, len(answers))
        if self.folder is None:
            raise UserError("the labels of this run cannot be appended to: give --labels=FOLDER")
        try:
            judgement = Judgement.read(Fields({"ranks": ranks}), len(ranks))
            item = talked(messages, answers, [self.source] * len(ranks), ended)
            record = ranking(item, checked_name(self.labeler), judgement)
        except Refused as error:
            raise UserError(str(error)) from None
        Labels(self.folder).keep(record)
        return answers[ranks.index(1)], self.folder / FILE


def read_order(text: str, count: int) -> list[int]:
    """The rank of each of `count` answers, from their numbers, the best first: 2 1=3.

    Raises:
      UserError: it does not name each of them once.
    """
    groups = [part.split("=") for part in re.sub(r"\s*=\s*", "=", text).split()]
    names = [name for group in groups for name in group]
    if sorted(names) != sorted(map(str, range(1, count + 1))):
        raise UserError(f"{text!r} is not each number from 1 to {count} once, the best first")
    ranks, rank = [0] * count, 1
    for group in groups:
        for name in group:
            ranks[int(name) - 1] = rank
        rank += len(group)
    return ranks
