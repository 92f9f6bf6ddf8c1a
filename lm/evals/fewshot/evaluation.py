"""A model's answers to the items of a task, and how right they are."""

import dataclasses
from typing import Any

import numpy as np

from lm.evals.fewshot.ledger import Ledger
from lm.evals.fewshot.task import TaskItems
from lm.evals.incontext import Prompt
from lm.evals.protocols import Program, Write
from lm.evals.scorer import Scorer
from lm.metrics.pooled import POOLED, pooled
from lm.metrics.spread import by_group, ratio_error

CHUNK = 64  # items asked between two writes to the ledger


@dataclasses.dataclass(frozen=True)
class Summary:
    """What came of a task with one number of examples. Items longer than the context are wrong
    where the answer is to be written (as in human-eval), and count nowhere where it is chosen."""

    shots: int  # asked for
    numbers: tuple[int, ...]  # of the items that count
    rights: dict[str, tuple[float, ...]]  # by metric, one an item
    used: float  # examples in a prompt, on average
    shortened: int  # prompts that lost examples
    cut: int  # prompts of which the model could not read the first tokens
    refused: int  # items longer than the context, which do not count
    failed: int = 0  # items longer than the context, which count as wrong
    counts: tuple[tuple[int, ...], ...] = ()  # one an item, of a metric of the whole set
    groups: tuple[str, ...] = ()  # one an item; (): each stands alone

    @property
    def metric(self) -> str:
        return next(iter(self.rights))

    def mean(
        self, chosen: np.ndarray | None = None, metric: str | None = None
    ) -> tuple[float, float | None] | None:
        """Mean of a metric, the first where None, and its standard error, over the chosen items [N]
        bool, or all; of a metric of the whole set its value there.

        Items of one group are one part of a sample, which is drawn by groups. None where there is
        no item, no error where there is one part."""
        metric = metric or self.metric
        whole = metric in POOLED
        values = np.array(self.counts if whole else self.rights[metric], np.float64)
        groups = np.array(self.groups or [""] * len(values))
        if chosen is not None:
            values, groups = values[chosen], groups[chosen]
        if not len(values):
            return None
        sums = by_group(values, groups.tolist())
        if whole:
            return pooled(metric, sums)
        sizes = by_group(np.ones(len(values)), groups.tolist())
        return float(values.mean()), ratio_error(sums, sizes) if len(sums) > 1 else None


def evaluate(
    read: TaskItems, shots: int, *, scorer: Scorer, model: str, seed: int, limit: int | None,
    ledger: Ledger,
) -> Summary:  # fmt: skip
    """Asks every item that the ledger has no outcome of, some at a time, and sums up all.

    Args:
      model: a digest of what the scorer has, which with that of the items is a part of the key.
      seed: of the draw of examples, and of what the model draws.
    """
    numbers = read.chosen(limit)

    def key(number: int) -> tuple[Any, ...]:
        return read.task.name, shots, seed, f"{model}:{read.digest}", number

    missing = [number for number in numbers if ledger.row(*key(number)) is None]
    for first in range(0, len(missing), CHUNK):
        some = missing[first : first + CHUNK]
        prompts = [
            read.prompt(number, shots, seed, scorer.tokenizer, scorer.length) for number in some
        ]
        kept = [prompt for prompt in prompts if prompt is not None]
        outcomes = iter(read.task.protocol.ask(scorer, kept, seed) if kept else ())
        rows = []
        for number, prompt in zip(some, prompts, strict=True):
            row = dict(zip(("task", "shots", "seed", "of", "number"), key(number), strict=True))
            row["id"] = read.items[number].id
            rows.append(row | ({"refused": True} if prompt is None else told(prompt, outcomes)))
        ledger.add(rows)
    found = [ledger.row(*key(number)) for number in numbers]
    return summary(read, shots, [row for row in found if row is not None])


def told(prompt: Prompt, outcomes: Any) -> dict[str, Any]:
    outcome = next(outcomes)
    row = {
        "used": prompt.shots,
        "dropped": prompt.dropped,
        "cut": outcome.cut,
        "answer": outcome.answer,
        "figures": outcome.figures,
    }
    more = {"probabilities": outcome.probabilities, "counts": outcome.counts}
    return row | {name: values for name, values in more.items() if values}


def summary(read: TaskItems, shots: int, rows: list[dict[str, Any]]) -> Summary:
    protocol, asked = read.task.protocol, [row for row in rows if "refused" not in row]
    counted = asked
    if asked and isinstance(protocol, Program | Write):
        counted = [row if "refused" not in row else failure(read, row) for row in rows]
    return Summary(
        shots=shots,
        numbers=tuple(row["number"] for row in counted),
        rights={name: tuple(row["figures"][name] for row in counted) for name in protocol.metrics},
        used=float(np.mean([row["used"] for row in asked])) if asked else 0.0,
        shortened=sum(row["dropped"] > 0 for row in asked),
        cut=sum(row["cut"] > 0 for row in asked),
        refused=len(rows) - len(counted),
        failed=len(counted) - len(asked),
        counts=tuple(tuple(row["counts"]) for row in counted if row.get("counts")),
        groups=tuple(read.items[row["number"]].group for row in counted),
    )


def failure(read: TaskItems, row: dict[str, Any]) -> dict[str, Any]:
    """The row of a refused item, as if nothing had been written and that was wrong."""
    protocol = read.task.protocol
    more: dict[str, Any] = {"figures": dict.fromkeys(protocol.metrics, 0.0)}
    if isinstance(protocol, Write):
        more["counts"] = protocol.outcome("", Prompt(read.items[row["number"]], "", 0)).counts
    return row | more
