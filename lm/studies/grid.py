"""A grid of runs of one experiment: every combination of some values, under every seed.

What is looked for is the best of them by one figure of their summaries, and how it changes with
each value. Every member is an ordinary run directory:

    <workdir>/<name=value-name=value>/<seed>
    <workdir>/table.md, figure.svg, summary.json

A member that has its summary is done; the same command goes on with the others, and `over` and
`seeds` may grow. The figure of the best one is a little too good, as it was picked by it.
"""

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import jax

from lm.core.config import bind, bindings, require
from lm.core.errors import ConfigError, DataError, GuardStop
from lm.core.paths import write_whole
from lm.metrics.spread import over_seeds
from lm.report.bars import Bar, draw_bars
from lm.report.markdown import table, with_deviation
from lm.report.panels import Band, Panel, draw_panels
from lm.report.record import is_number
from lm.studies.several import SUMMARY, alone, begin, check_distinct, fixed, run_member
from lm.train.process import Process

HELD_OUT = ("valid", "valid_fraction", "valid_limit", "name")  # what is measured
SPLIT = ("train", "mixture", "root")  # of which a part is held out where no other text is given
SPAN = 4.0  # times the smallest value is the largest of a scale that is no longer linear


@runtime_checkable
class Experiment(Protocol):
    """A config that can be run in a directory."""

    def run(self, workdir: Path, process: Process | None = None) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Grid:
    """An experiment, and the values that are tried."""

    base: Experiment
    over: tuple[tuple[str, tuple[Any, ...]], ...]  # dotted names of `base`, and their values
    seeds: tuple[int, ...] = (0,)
    # of summary.json; None: the one that it names itself, of which more is better, or the loss
    metric: str | None = None
    best: Literal["lowest", "highest"] | None = None  # set where metric is

    def __post_init__(self) -> None:
        names = [name for name, _ in self.over]
        check_distinct(over=names, seeds=self.seeds, **{f"over {n}": some for n, some in self.over})
        check_distinct(over=[named(point) for point in self.points()])
        require("seed" not in names, "over has seed: give seeds")
        require(
            (self.metric is None) == (self.best is None),
            f"metric={self.metric} and best={self.best}: set both, or none of them",
        )
        self.members()  # a name or a value that cannot be is told before anything is trained

    def points(self) -> list[dict[str, Any]]:
        """Every combination of the values."""
        values = itertools.product(*(values for _, values in self.over))
        names = [name for name, _ in self.over]
        return [dict(zip(names, some, strict=True)) for some in values]

    def members(self) -> dict[str, Any]:
        """Every run, by its folder. A seed is that of the experiment; where it has none of its own,
        the one seed of a study, or that of all steps.

        Raises:
          ConfigError: a name that the experiment has not, or a value that it does not take.
        """
        found, known = {}, bindings(self.base)
        for point in self.points():
            for seed in self.seeds:
                place = f"{named(point)}/{seed}"
                sown: dict[str, Any] = {name: seed for name in known if name.endswith(".seed")}
                if "seed" in known or not sown:
                    sown = {"seed": seed}
                elif "seeds" in known:
                    sown = {"seeds": (seed,)}
                try:
                    found[place] = bind(self.base, point | sown)
                except ConfigError as error:
                    raise ConfigError(f"{place}: {error}") from None
        return found

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Runs the members that are not done, and tells which is the best. One that its guard
        stops, or that cannot be run, is told as such: values that go too far are among what is
        looked for.

        Raises:
          GuardStop: every member was stopped.
          ConfigError: members could not be run; what the others gave was told before.
        """
        process, members, stopped = process or Process(), self.members(), {}
        failed: list[str] = []
        with alone(workdir, process):
            begin(workdir, self, fixed(workdir, {f"*/*/{SUMMARY}": ["base."]}, pooled=True))
            for number, (place, member) in enumerate(members.items(), start=1):
                told = f"{number} of {len(members)}: {place}"
                try:
                    run_member(member, workdir / place, process, told)
                except (GuardStop, ConfigError, DataError, jax.errors.JaxRuntimeError) as stop:
                    stopped[place] = str(stop).partition("\n")[0]
                    if not isinstance(stop, GuardStop):
                        if jax.process_count() > 1:
                            raise  # the other processes may wait within that member
                        failed.append(f"{place}: {stopped[place]}")
                    print(f"stopped: {stopped[place]}", flush=True)
            if len(stopped) == len(members) and not failed:
                raise GuardStop(f"every member was stopped, the last by: {stopped[place]}")
            if jax.process_index() == 0 and len(stopped) < len(members):
                self.tell(workdir, stopped)
            if failed:
                raise ConfigError(
                    f"{len(failed)} of {len(members)} members could not be run, first {failed[0]}"
                )

    def unlike(self) -> str | None:
        """An axis under which members are measured on other held-out text, so that their losses
        cannot be compared."""
        fixed_set = getattr(getattr(self.base, "data", None), "valid", None) is not None
        for name, _ in self.over:
            *path, last = name.split(".")
            if path[-1:] != ["data"]:
                continue
            if last in HELD_OUT or (last in SPLIT and not fixed_set):
                return name
        return None

    def tell(self, workdir: Path, stopped: Mapping[str, str]) -> None:
        """Writes the table, best first, the figure, and a summary that names the best folder: none
        where no combination has a finite figure under every seed, or these cannot be compared.

        Raises:
          DataError: a summary has not the figure.
        """
        summaries = {
            place: json.loads((workdir / place / SUMMARY).read_text())
            for place in self.members() if place not in stopped
        }  # fmt: skip
        own = next(iter(summaries.values())).get("metric")
        # a loss is of tokens, and they are others under another tokenizer
        tokens = any("tokenizer" in name.split(".") for name, _ in self.over)
        by_byte = tokens and all("valid_bits_per_byte" in one for one in summaries.values())
        metric = self.metric or own or ("valid_bits_per_byte" if by_byte else "valid_loss")
        unlike = None if self.metric else self.unlike()
        if metric == "valid_loss" and tokens and not self.metric:
            unlike = unlike or "tokenizer"
        highest = self.best == "highest" if self.best else own is not None
        for place, summary in summaries.items():
            if not is_number(summary.get(metric)):
                known = [name for name, value in summary.items() if is_number(value)]
                raise DataError(
                    f"{workdir / place}/{SUMMARY} has no figure {metric}; set metric and best, of "
                    f"{', '.join(known)}"
                )
        measured = [
            Measured(
                point,
                [summaries[place][metric] for place in self.places(point) if place in summaries],
                [stopped[place] for place in self.places(point) if place in stopped],
            )
            for point in self.points()
        ]
        ranked = sorted(measured, key=lambda one: one.rank(highest))
        best = ranked[0] if ranked[0].whole and not unlike else None
        names = [name for name, _ in self.over]
        header = (*names, f"{metric}, mean ± deviation", "each seed", "")
        rows = [
            (
                *(str(value) for value in one.point.values()),
                *one.cells(),
                one.note(one is best),
            )
            for one in ranked
        ]
        told = "\n".join(table(header, rows)) + "\n"
        write_whole(workdir / "table.md", told)
        write_whole(workdir / "figure.svg", self.figure(measured, metric))
        each = {
            named(one.point): {
                "values": [value if math.isfinite(value) else None for value in one.values],
                "stopped": one.stopped,
            }
            for one in ranked
        }
        folder = named(best.point) if best else None
        summary = {"metric": metric, "best": folder, "members": each}
        write_whole(workdir / SUMMARY, json.dumps(summary, indent=1, allow_nan=False) + "\n")
        none = f"none is the best: no combination has a finite {metric} under every seed"
        if unlike:
            none = (
                f"none is called the best: under another {unlike} other text may be measured; "
                "set metric and best to compare them all the same"
            )
        print(f"{told}{f'the best is {workdir / folder}' if folder else none}")

    def places(self, point: Mapping[str, Any]) -> list[str]:
        return [f"{named(point)}/{seed}" for seed in self.seeds]

    def figure(self, measured: "Sequence[Measured]", metric: str) -> str:
        """The figure over the last axis, a line for each combination of the others; bars where its
        values are no numbers. What was stopped is left out."""
        (*others, (last, values)) = self.over
        lines: dict[str, list[Measured]] = {}
        for one in measured:
            label = ", ".join(f"{name}={one.point[name]}" for name, _ in others) or metric
            if one.whole:
                lines.setdefault(label, []).append(one)
        title = f"{metric} over {last}"
        if not all(is_number(value) for value in values):
            return draw_bars(title, [
                Bar(str(one.point[last]), label, one.mean, one.deviation or 0.0)
                for label, some in lines.items() for one in some
            ])  # fmt: skip
        bands = []
        for colour, (label, some) in enumerate(lines.items()):
            some = sorted(some, key=lambda one: one.point[last])
            deviations = [one.deviation for one in some if one.deviation is not None]
            x, mean = [one.point[last] for one in some], [one.mean for one in some]
            bands.append(Band(label, x, mean, deviations, colour))
        log = min(values) > 0 and max(values) > SPAN * min(values)
        return draw_panels(title, [Panel("", last, metric, bands, log=(log, False))])


@dataclass(frozen=True)
class Measured:
    """One combination: its figure under each seed, and why it was stopped under others."""

    point: dict[str, Any]
    values: list[float]
    stopped: list[str]

    @property
    def whole(self) -> bool:
        """Whether every seed has a figure that is a finite number."""
        return not self.stopped and all(map(math.isfinite, self.values))

    @property
    def mean(self) -> float:
        return over_seeds(self.values)[0]

    @property
    def deviation(self) -> float | None:
        return over_seeds(self.values)[1]

    def rank(self, highest: bool) -> tuple[bool, float]:
        """By what it is sorted, the best first and what is not whole last."""
        return not self.whole, (-self.mean if highest else self.mean) if self.whole else 0.0

    def cells(self) -> tuple[str, str]:
        """Mean and deviation, and the figure of each seed."""
        mean = with_deviation(self.mean, self.deviation, digits=4) if self.whole else "-"
        return mean, " ".join(f"{value:.4f}" for value in self.values)

    def note(self, best: bool) -> str:
        return f"stopped under {len(self.stopped)} of the seeds" if self.stopped else "best" * best


def named(point: Mapping[str, Any]) -> str:
    """A combination as the name of a folder."""
    values = {name: re.sub(r"[^\w.+-]+", "_", str(value)) for name, value in point.items()}
    return "-".join(f"{name}={value}" for name, value in values.items())
