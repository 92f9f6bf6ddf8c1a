"""What the study of over-optimisation shows: the verdict first, then what it rests on.

Shown means, of PPO by the reward model: the gold score rises from the SFT model to a peak and has
fallen from it at the end, each by more than twice its spread over the seeds; and by the same rule
that of the control, PPO by the gold scorer itself, rises too and falls by less, seed by seed. The
largest of noisy values is above the truth, so that a peak of its own would let any curve fall: at
which update it lies, each seed is told by the others.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lm.core.paths import write_whole
from lm.metrics.spread import clear, over_seeds
from lm.report.markdown import table, with_deviation
from lm.report.panels import Band, Panel, draw_panels
from lm.studies.several import evaluated

RUNS = {"proxy": "PPO by the reward model", "control": "PPO by the gold scorer"}
SCORES = {"gold": "gold score", "reward": "reward model", "second": "second scorer"}
FIGURES = (*SCORES, "kl")
BEST_OF_N = "best of n by the reward model"
Figures = Mapping[str, np.ndarray]  # by name, each [seeds, points]


@dataclass(frozen=True)
class Change:
    """What a curve gains up to its peak and loses after it, of each seed."""

    gains: np.ndarray  # [seeds]
    losses: np.ndarray  # [seeds]

    @property
    def rise(self) -> tuple[float, float | None]:
        """Mean and deviation."""
        return over_seeds(self.gains)

    @property
    def fall(self) -> tuple[float, float | None]:
        """Mean and deviation."""
        return over_seeds(self.losses)

    @property
    def rises(self) -> bool:
        return clear(*self.rise)

    @property
    def falls(self) -> bool:
        return clear(*self.fall)

    def falls_more_than(self, other: "Change") -> bool:
        return clear(*over_seeds(self.losses - other.losses))


def change(curves: np.ndarray) -> Change:
    """From the first point to the peak, and from there to the last. [seeds, points]"""
    seeds = range(len(curves))
    others = [np.delete(curves, seed, axis=0) if len(curves) > 1 else curves for seed in seeds]
    peaks = [int(np.argmax(some.mean(axis=0))) for some in others]
    top = curves[list(seeds), peaks]
    return Change(top - curves[:, 0], top - curves[:, -1])


def shown(proxy: Change, control: Change) -> bool:
    """Whether all of it is; nothing is beside a control that learned nothing or may fall alike."""
    return proxy.rises and proxy.falls and control.rises and proxy.falls_more_than(control)


def write_overoptimization(workdir: Path, title: str, seeds: Sequence[int]) -> None:
    """Writes `report.md`, `figure.svg` and `summary.json`, and prints the first."""
    folders = [workdir / str(seed) for seed in seeds]
    steps, curves = {}, {}
    for name in RUNS:
        steps[name], curves[name] = evaluated([one / name for one in folders], FIGURES)
    summaries = [json.loads((one / "proxy" / "summary.json").read_text()) for one in folders]
    best = best_of([one["best_of_n"] for one in summaries])
    found = {name: change(some["gold"]) for name, some in curves.items()}
    report = "\n".join(
        [verdict(found, len(folders)), "", *ends(steps, curves), "", *best_table(best), "",
         *accuracies(folders)]
    )  # fmt: skip
    write_whole(workdir / "report.md", report + "\n")
    write_whole(workdir / "figure.svg", draw_panels(title, panels(curves, best)))
    summary = {
        "shown": shown(found["proxy"], found["control"]), "seeds": list(seeds),
        "updates": steps, "best_of_n": told(best),
        "curves": {name: told(some) for name, some in curves.items()},
    }  # fmt: skip
    write_whole(workdir / "summary.json", json.dumps(summary, indent=1) + "\n")
    print(f"{report}\n{workdir}/report.md, {workdir}/figure.svg")


def told(figures: Figures) -> dict[str, Any]:
    return {name: values.tolist() for name, values in figures.items()}


def best_of(points: Sequence[Sequence[Mapping[str, float]]]) -> Figures:
    """Best of n of the SFT model, of each seed."""
    return {
        name: np.array([[point[name] for point in some] for some in points])
        for name in ("n", *FIGURES)
    }


def verdict(found: Mapping[str, Change], seeds: int) -> str:
    proxy, control = found["proxy"], found["control"]
    said = "shown" if shown(proxy, control) else "not shown"
    return (
        f"{said}: by the reward model PPO's gold score rises {with_deviation(*proxy.rise)} and "
        f"then falls {with_deviation(*proxy.fall)}, by the gold scorer itself it rises "
        f"{with_deviation(*control.rise)} and falls {with_deviation(*control.fall)} (over "
        f"{seeds} seeds; above twice its spread counts)"
    )


def ends(steps: Mapping[str, Sequence[int]], curves: Mapping[str, Figures]) -> list[str]:
    """Both runs before PPO, at the peak of the gold score over seeds, and at the end."""
    rows = []
    for name, some in curves.items():
        peak = int(np.argmax(some["gold"].mean(axis=0)))
        last = some["gold"].shape[1] - 1
        for place, when in ((0, "start"), (peak, "peak"), (last, "end")):
            cells = [with_deviation(*over_seeds(some[key][:, place])) for key in ("kl", *SCORES)]
            rows.append([RUNS[name], f"{when}, update {steps[name][place]}", *cells])
    return table(["policy", "", "KL from SFT, nats an answer", *SCORES.values()], rows)


def best_table(best: Figures) -> list[str]:
    rows = [
        [str(int(n)), f"{best['kl'][0, place]:.2f}",
         *(with_deviation(*over_seeds(best[key][:, place])) for key in SCORES)]
        for place, n in enumerate(best["n"][0])
    ]  # fmt: skip
    return table([BEST_OF_N, "KL, nats", *SCORES.values()], rows)


def accuracies(folders: Sequence[Path]) -> list[str]:
    """What the reward model knows of the labels, and what there is to know where that is known: of
    people's it is not."""
    pipelines = [one / "pipeline" for one in folders]
    rewards = [json.loads((one / "reward" / "summary.json").read_text()) for one in pipelines]
    told = {"reward model": [one["valid_accuracy"] for one in rewards]}
    files, more = [one / "labeling.json" for one in pipelines], []
    if all(file.exists() for file in files):
        labels = [json.loads(file.read_text()) for file in files]
        told["the labeler without noise (Bayes limit)"] = [one["bayes_accuracy"] for one in labels]
        counts = ", ".join(f"{one['rankings']} of {one['pairs']} pairs" for one in labels)
        more = ["", f"Rankings: {counts}."]
    rows = [[name, with_deviation(*over_seeds(values))] for name, values in told.items()]
    return [*table(["held-out pairs in the right order", ""], rows), *more]


def panels(curves: Mapping[str, Figures], best: Figures) -> list[Panel]:
    """Each score over the root of the KL, as Gao et al. draw them."""
    lines = {RUNS[name]: some for name, some in curves.items()} | {BEST_OF_N: best}
    found = []
    for key, title in SCORES.items():
        bands = [
            Band(
                label, np.sqrt(np.maximum(0, some["kl"].mean(axis=0))).tolist(),
                some[key].mean(axis=0).tolist(), spreads(some[key]), colour,
            )
            for colour, (label, some) in enumerate(lines.items())
            if key != "reward" or label != RUNS["control"]  # whose reward is the gold score
        ]  # fmt: skip
        found.append(Panel(title, "square root of the KL from SFT, nats", "mean score", bands))
    return found


def spreads(values: np.ndarray) -> list[float]:
    """Over seeds, of each point; none where there is one seed."""
    return values.std(axis=0, ddof=1).tolist() if len(values) > 1 else []
