"""Suites of tasks, a module each with `evaluate(model, options)`: what they are given."""

import dataclasses
import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lm.core.config import require
from lm.core.errors import ConfigError
from lm.core.paths import write_whole, writing
from lm.decode.images import ImageGenerator
from lm.evals.scorer import Scorer

Kind = TypeVar("Kind")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """What is evaluated, and how it came about."""

    name: str
    scorer: Scorer
    step: int
    digest: str  # of the checkpoint: outcomes of another are not taken for its own
    tokens: int | None  # that it was trained on; None: not known
    training: Callable[[], Iterable[str]]  # the text of it
    seer: ImageGenerator | None = None  # the whole model, where it reads images

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
    samples: int = 1  # programs that are drawn for a problem; 1: the greedy one
    k: int = 1  # of pass@k, at most `samples`

    def __post_init__(self) -> None:
        require(len(self.shots) > 0, "--shots is empty: name numbers, as in --shots=0,1,few")
        for shots in self.shots:
            require(
                shots == "few" or shots.isdecimal(),
                f"shots {shots!r} must be a number or few, as in --shots=0,1,few",
            )
        require(self.limit is None or self.limit > 0, f"limit {self.limit} must be at least 1")
        require(
            1 <= self.k <= self.samples,
            f"k {self.k} of pass@k must be from 1 to samples {self.samples}: set --samples",
        )
        require(0 <= self.seed < 2**32, f"seed must be from 0 to 2**32 - 1, got {self.seed}")

    def named(self, known: Mapping[str, Kind]) -> list[Kind]:
        """The tasks that are asked for by name, each once; none where all are meant.

        Raises:
          ConfigError: a name that is not known.
        """
        for name in self.tasks:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise ConfigError(f"unknown task {name!r}; {hint}known: {', '.join(known)}")
        return [known[name] for name in dict.fromkeys(self.tasks)]


def write_table(path: Path, told: Any) -> None:
    """Writes a suite's figures as JSON.

    Raises:
      ConfigError: the path cannot be written.
    """
    with writing(path):
        write_whole(path, json.dumps(told, indent=1) + "\n")
