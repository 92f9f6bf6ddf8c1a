"""What a ladder of models shows: the verdict first, then curves, controls and every cell.

Shown means, over the mean of all tasks: at the largest size few is above one and one above zero,
few at the smallest size and few after another task's examples are below it, each by more than twice
the spread over the seeds, shuffled labels and another task's examples each remove at least half of
few minus zero, and zero rises with size: its mean from each size to the next, and over all of them
by more than twice the spread. Nothing is said of what was not run.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lm.core.paths import write_whole
from lm.data.puzzles import PUZZLES
from lm.evals.published import figures, h1, loss_law
from lm.metrics.spread import over_seeds
from lm.report.markdown import table, with_deviation
from lm.report.panels import Band, Panel, draw_panels
from lm.studies.scaling import PF_DAY, Law, fit


@dataclasses.dataclass(frozen=True)
class Measured:
    """One member: its size, what it cost, its held-out loss and its answers."""

    parameters: int
    tokens: int
    compute: float  # FLOPs of the training
    loss: float  # nats a token
    answers: Sequence[
        Mapping[str, Any]
    ]  # rows of puzzle, condition, shots, mean_shots, items, right

    def accuracy(self, condition: str, shots: int, puzzles: Sequence[str] | None = None) -> float:
        """The mean of the accuracies of some puzzles; of all where None."""
        rows = [
            row["right"] / row["items"]
            for row in self.answers
            if (row["condition"], row["shots"]) == (condition, shots)
            and (puzzles is None or row["puzzle"] in puzzles)
        ]
        return float(np.mean(rows))


Study = Mapping[tuple[str, int], Measured]  # by size and seed, sizes from small to large


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The rule applied to one size. Accuracies a seed."""

    zero: Sequence[float]
    one: Sequence[float]
    few: Sequence[float]
    shuffled: Sequence[float]  # after as many examples whose labels are shuffled
    another: Sequence[float]  # after as many examples of another task
    smallest: Sequence[float]  # few at the smallest size
    zeros: Sequence[Sequence[float]]  # zero at every size, from small to large

    @property
    def gain(self) -> float:
        """Few minus zero."""
        return float(np.mean(self.few) - np.mean(self.zero))

    @property
    def spread(self) -> float | None:
        """Standard deviation of the gain over the seeds; None of one seed."""
        return over_seeds(np.subtract(self.few, self.zero))[1]

    def removed(self, control: Sequence[float]) -> float:
        """The share of the gain that wrong examples take away."""
        return float(np.mean(self.few) - np.mean(control)) / self.gain if self.gain else 0.0

    @property
    def failed(self) -> str | None:
        """The first condition that does not hold, in words; None where all do."""
        for name, above, below in (
            ("few minus zero", self.few, self.zero),
            ("one minus zero", self.one, self.zero),
            ("few minus one", self.few, self.one),
            ("few minus few at the smallest size", self.few, self.smallest),
            ("few minus few of another task", self.few, self.another),
            ("zero minus zero at the smallest size", self.zeros[-1], self.zeros[0]),
        ):
            rise, spread = over_seeds(np.subtract(above, below))
            if spread is None:
                return "a spread needs two seeds"
            if not rise > 2 * spread:
                return f"{name} is {rise:.3f}, not more than twice its spread {spread:.3f}"
        for name, control in (
            ("shuffled labels remove", self.shuffled),
            ("another task's examples remove", self.another),
        ):
            if self.removed(control) < 0.5:
                return f"{name} {self.removed(control):.0%}, needed 50%"
        means = [float(np.mean(seeds)) for seeds in self.zeros]
        for small, large in pairwise(means):
            if not large > small:
                return f"zero does not rise with size: {small:.3f}, then {large:.3f}"
        return None

    @property
    def shown(self) -> bool:
        return self.failed is None

    def line(self, size: str) -> str:
        spread = "unknown, one seed" if self.spread is None else f"{self.spread:.3f}"
        return (
            f"{'shown' if self.shown else 'not shown'}: at {size}, few minus zero is "
            f"{self.gain:.3f} (spread over {len(self.few)} seeds {spread}, needed more than twice "
            f"that), shuffled labels remove {self.removed(self.shuffled):.0%} of it and another "
            f"task's examples {self.removed(self.another):.0%} (needed 50%)"
            + (f"; what fails: {self.failed}" if self.failed else "")
        )


def write_report(workdir: Path, title: str, study: Study, shots: Sequence[int]) -> None:
    """Writes `report.md`, `figure.svg` and `summary.json`, and prints the first."""
    sizes = list(dict.fromkeys(size for size, _ in study))
    few = shots[-1]
    verdict = judge(study, sizes[-1], few)
    report = "\n".join(
        [
            verdict.line(sizes[-1]), "",
            means_table(study, sizes, few), "",
            shots_table(study, sizes, shots), "",
            cells_table(study, sizes, few), "",
            scaling(study, sizes), "",
        ]
    )  # fmt: skip
    write_whole(workdir / "report.md", report)
    write_whole(workdir / "figure.svg", draw_panels(title, panels(study, sizes, shots)))
    summary = {
        "shown": verdict.shown, "size": sizes[-1], "gain": verdict.gain, "spread": verdict.spread,
        "removed": verdict.removed(verdict.shuffled),
        "removed_by_another": verdict.removed(verdict.another), "failed": verdict.failed,
        "members": {
            f"{size}/{seed}": {
                "parameters": one.parameters, "tokens": one.tokens, "compute": one.compute,
                "valid_loss": one.loss, "zero": one.accuracy("true", 0),
                "one": one.accuracy("true", 1), "few": one.accuracy("true", few),
                "shuffled": one.accuracy("shuffled", few),
                "another": one.accuracy("another", few),
            }
            for (size, seed), one in study.items()
        },
    }  # fmt: skip
    write_whole(workdir / "summary.json", json.dumps(summary, indent=1) + "\n")
    print(f"{report}\n{workdir}/report.md, {workdir}/figure.svg")


def judge(study: Study, size: str, few: int) -> Verdict:
    """The verdict over the mean of all tasks at one size, against the first one."""
    smallest = next(iter(study))[0]

    def of(condition: str, shots: int, size: str = size) -> list[float]:
        return [one.accuracy(condition, shots) for one in of_size(study, size)]

    return Verdict(
        zero=of("true", 0), one=of("true", 1), few=of("true", few), shuffled=of("shuffled", few),
        another=of("another", few), smallest=of("true", few, smallest),
        zeros=[of("true", 0, one) for one in dict.fromkeys(name for name, _ in study)],
    )  # fmt: skip


def of_size(study: Study, size: str) -> list[Measured]:
    return [one for (name, _), one in study.items() if name == size]


# ------------------------------------------------------------------------ tables


def told(values: Sequence[float]) -> str:
    """A mean and its deviation over seeds."""
    return with_deviation(*over_seeds(values))


def means_table(study: Study, sizes: Sequence[str], few: int) -> str:
    """The mean of all tasks at every size, with the controls."""
    rows = []
    for size in sizes:
        seeds = of_size(study, size)
        cases = [("true", 0), ("true", 1), ("true", few), ("shuffled", few), ("another", few)]
        rows.append(
            [
                size, f"{seeds[0].parameters:,}", f"{seeds[0].tokens:,}",
                told([one.loss for one in seeds]),
                *(told([one.accuracy(*case) for one in seeds]) for case in cases),
                f"{judge(study, size, few).gain:.3f}",
            ]
        )  # fmt: skip
    header = [
        "size", "parameters", "tokens", "held-out loss", "zero", "one", f"few ({few})",
        "labels shuffled", "another task", "few - zero",
    ]  # fmt: skip
    count = len(of_size(study, sizes[0]))
    return (
        f"Mean accuracy of the {len(PUZZLES)} tasks, mean ± deviation over {count} seeds:\n\n"
        + "\n".join(table(header, rows))
    )


def shots_table(study: Study, sizes: Sequence[str], shots: Sequence[int]) -> str:
    """Accuracy by the number of examples, for each family of tasks."""
    families: dict[str, list[str]] = {}
    for puzzle in PUZZLES:
        families.setdefault(puzzle.family, []).append(puzzle.name)
    rows = [
        [family, size]
        + [told([one.accuracy("true", k, names) for one in of_size(study, size)]) for k in shots]
        for family, names in families.items()
        for size in sizes
    ]
    return (
        "Accuracy by examples in the context. A mapping can be known from them alone, an operation "
        "and a word task be told from them; arithmetic needs none:\n\n"
        + "\n".join(table(["family", "size", *map(str, shots)], rows))
    )


def cells_table(study: Study, sizes: Sequence[str], few: int) -> str:
    """Zero, one and few of every task and size, and how many cells are in the paper's order."""
    rows, strict, above = [], 0, 0
    for puzzle in PUZZLES:
        used = [
            row["mean_shots"]
            for one in study.values()
            for row in one.answers
            if (row["puzzle"], row["condition"], row["shots"]) == (puzzle.name, "true", few)
        ]
        row = [puzzle.name, puzzle.family, f"{np.mean(used):.1f}"]
        for size in sizes:
            zero, one, many = (
                float(np.mean([m.accuracy("true", k, [puzzle.name]) for m in of_size(study, size)]))
                for k in (0, 1, few)
            )
            strict += many > one > zero
            above += many > zero
            mark = "few > one > zero" if many > one > zero else "few > zero" if many > zero else "-"
            row.append(f"{zero:.2f} {one:.2f} {many:.2f} {mark}")
        rows.append(row)
    cells = len(PUZZLES) * len(sizes)
    return (
        f"Cell by cell (zero, one, few; means over the seeds): strictly few > one > zero in "
        f"{strict} of {cells}, few > zero in {above}. In GPT-3's table H.1: {paper_cells()}.\n\n"
        + "\n".join(table(["task", "family", "examples that fit", *sizes], rows))
    )


def paper_cells() -> str:
    """The same two counts in GPT-3's table H.1, and of how many cells."""
    zero, one, few = (np.array(list(h1()[setting].values())) for setting in ("zero", "one", "few"))
    strict = (few > one) & (one > zero)
    return f"{strict.sum()} and {(few > zero).sum()} of {zero.size}"


def paper_means() -> list[Band]:
    """Means over the 21 tasks of GPT-3's table H.1, by its sizes."""
    sizes = {
        row["system"]: row["value"]
        for row in figures()
        if (row["family"], row["task"]) == ("gpt3", "size")
    }
    return [
        Band(
            setting, [sizes[system] for system in values],
            [float(np.mean(tasks)) for tasks in values.values()], colour=number, dash="--",
        )
        for number, (setting, values) in enumerate(h1().items())
    ]  # fmt: skip


def law_of(study: Study, sizes: Sequence[str]) -> Law | None:
    """Held-out loss against compute in PF-days, one point a size; None of fewer than three."""
    compute = [of_size(study, size)[0].compute / PF_DAY for size in sizes]
    losses = [float(np.mean([one.loss for one in of_size(study, size)])) for size in sizes]
    return fit(compute, losses) if len(set(compute)) > 2 else None


def scaling(study: Study, sizes: Sequence[str]) -> str:
    law = law_of(study, sizes)
    if law is None:
        return "Loss against compute: no law is fitted to fewer than three sizes."
    factor, exponent = loss_law()
    return (
        f"Loss against compute (PF-days, one point a size, means over the seeds): {law}. GPT-3: "
        f"{factor} C^-{exponent} (figure 3.1), of another text and of runs long enough for "
        "their size; here all sizes read as many tokens."
    )


# ------------------------------------------------------------------------ figure


def panels(study: Study, sizes: Sequence[str], shots: Sequence[int]) -> list[Panel]:
    """Zero, one and few over size before the paper's; over K; loss against compute."""
    few = shots[-1]
    x = [of_size(study, size)[0].parameters for size in sizes]

    def band(label: str, condition: str, k: int, colour: int, dash: str) -> Band:
        found = [over_seeds([m.accuracy(condition, k) for m in of_size(study, s)]) for s in sizes]
        return Band(label, x, [m for m, _ in found], [d or 0.0 for _, d in found], colour, dash)

    over_size = [
        band("zero", "true", 0, 0, "-"), band("one", "true", 1, 1, "-"),
        band(f"few ({few})", "true", few, 2, "-"),
        band("few, labels shuffled", "shuffled", few, 3, ":"),
        band("few, of another task", "another", few, 7, ":"),
    ]  # fmt: skip
    over_shots = []
    for number, size in enumerate(sizes):
        found = [over_seeds([m.accuracy("true", k) for m in of_size(study, size)]) for k in shots]
        over_shots.append(
            Band(size, shots, [m for m, _ in found], [d or 0.0 for _, d in found], number)
        )
    compute = [of_size(study, size)[0].compute for size in sizes]
    losses = [over_seeds([m.loss for m in of_size(study, size)]) for size in sizes]
    loss = [Band("ladder", compute, [m for m, _ in losses], [d or 0.0 for _, d in losses])]
    if law := law_of(study, sizes):
        fitted = law(np.array(compute) / PF_DAY).tolist()
        loss.append(Band(f"C^{-law.exponent:.3f}", compute, fitted, colour=7, dash=":"))
    return [
        Panel(
            "mean of all tasks", "parameters", "accuracy", over_size, paper_means(),
            "GPT-3, mean of 21 tasks of table H.1 (dashed): parameters", (True, False),
        ),
        Panel("mean of all tasks", "examples in the context", "accuracy", over_shots),
        Panel("held-out loss", "training FLOPs", "nats a token", loss, log=(True, True)),
    ]  # fmt: skip
