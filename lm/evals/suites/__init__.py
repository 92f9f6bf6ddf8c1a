"""Suites of tasks, a module each with `evaluate(model, options)`: what they are given."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

from lm.core.config import require
from lm.evals.scorer import Scorer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """What is evaluated, and how it came about."""

    name: str
    scorer: Scorer
    step: int
    tokens: int | None  # that it was trained on; None: not known
    training: Callable[[], Iterable[str]]  # the text of it

    @property
    def parameters(self) -> int:
        return self.scorer.config.parameters()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked."""

    root: Path  # folder of task data
    out: Path  # folder of results
    tasks: tuple[str, ...] = ()  # (): all
    shots: tuple[str, ...] = ("0", "1", "few")  # numbers of examples; "few" is the paper's
    limit: int | None = None  # items of a task at most
    seed: int = 0  # of the draw of examples
    overlap: bool = True  # look for the items in the training text

    def __post_init__(self) -> None:
        for shots in self.shots:
            require(
                shots == "few" or shots.isdecimal(),
                f"shots {shots!r} must be a number or few, as in --shots=0,1,few",
            )
        require(self.limit is None or self.limit > 0, f"limit {self.limit} must be at least 1")
        require(self.seed >= 0, f"seed must not be negative, got {self.seed}")
