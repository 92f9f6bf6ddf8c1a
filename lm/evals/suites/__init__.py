"""Suites of tasks, a module each with `evaluate(model, options)`: what they are given."""

import dataclasses
import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    seed: int = 0  # of the draw of examples, and of programs where there are several samples
    overlap: bool = True  # look for the items in the training text
    samples: int = 1  # programs that are drawn for a problem; 1: the greedy one
    k: int = 1  # of pass@k, at most `samples`
    figure: bool = True  # draw one of this run alone

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


def write_table(
    path: Path, told: Sequence[Mapping[str, Any]], model: Model, options: Options
) -> None:
    """Writes rows of figures as JSON, each with its settings. They replace those of the same task,
    number of examples and settings; all others that earlier calls wrote stay.

    Raises:
      ConfigError: the path cannot be written.
    """
    settings = settings_of(model, options)
    rows = [{**row, "settings": settings} for row in told]
    new = [named(row) for row in rows]
    write_json(path, [row for row in earlier(path) if named(row) not in new] + rows)


def settings_of(model: Model, options: Options) -> dict[str, Any]:
    """What figures must have in common to be compared."""
    return {
        "checkpoint": model.digest, "root": str(options.root.resolve()), "limit": options.limit,
        "seed": options.seed, "samples": options.samples, "k": options.k,
    }  # fmt: skip


def named(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a row of a table is of: the task or the set, the number of examples asked for, and the
    settings."""
    return tuple(row.get(name) for name in ("task", "set", "asked", "settings"))


def earlier(path: Path) -> list[dict[str, Any]]:
    """The rows of a table that is there; none where it cannot be read as one."""
    rows = read_json(path)
    rows = [rows] if isinstance(rows, dict) else rows  # calibration, when it had one of them
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def read_json(path: Path) -> Any:
    """What an earlier call wrote; None where nothing is there that can be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def write_json(path: Path, told: Any) -> None:
    """Writes a suite's figures as JSON.

    Raises:
      ConfigError: the path cannot be written.
    """
    with writing(path):
        write_whole(path, json.dumps(told, indent=1) + "\n")
