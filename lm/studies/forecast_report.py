"""A forecast as a file, and what came of it: a report and a figure."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from lm.core.paths import write_whole
from lm.evals.programs.pass_rate import pass_at_k
from lm.evals.programs.trial import Trial
from lm.report.markdown import table
from lm.report.panels import Band, Panel, draw_panels
from lm.studies.forecast_fit import (
    WIDEST,
    Prediction,
    buckets,
    minus_log_rates,
    predict_loss,
    predict_rate,
    solved_by_all,
)
from lm.studies.scaling import fit

BUCKETS = ("easy", "middle", "hard")
FEWEST = 3  # problems in a bucket, and sizes, that a law of the pass rate is fitted to


@dataclasses.dataclass(frozen=True)
class Measured:
    """A run that has ended."""

    name: str
    parameters: int
    tokens: int
    compute: float  # FLOPs of the training
    loss: float  # nats a token
    trials: Sequence[Trial]

    @property
    def passed(self) -> np.ndarray:
        """Right programs of each problem. [P]"""
        return np.array([trial.passed for trial in self.trials])

    @property
    def samples(self) -> np.ndarray:
        return np.array([trial.samples for trial in self.trials])


def foretell(
    small: Sequence[Measured], large: Mapping[str, Any], rated: Sequence[str], confidence: float
) -> dict[str, Any]:
    """What is written down before the large run.

    Args:
      small: the runs that the laws are fitted to.
      large: what is known of the large run, among it its `compute`.
      rated: names of the small runs that the law of the pass rate is fitted to.
    """
    relative = [one.compute / large["compute"] for one in small]
    loss = predict_loss(relative, [one.loss for one in small], confidence=confidence)
    chosen = [one for one in small if one.name in rated]
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "large": dict(large),
        "confidence": confidence,
        "small": [
            {
                "name": one.name, "parameters": one.parameters, "tokens": one.tokens,
                "compute": x, "loss": one.loss, "passed": one.passed.tolist(),
            }
            for one, x in zip(small, relative, strict=True)
        ],
        "loss": told(loss),
        "rated": [one.name for one in chosen],
        "rates": foretold_rates(chosen, large["compute"], confidence),
    }  # fmt: skip


def foretold_rates(
    chosen: Sequence[Measured], compute: float, confidence: float
) -> dict[str, dict[str, Any]]:
    """By bucket, of the problems that all chosen runs solve at least once; {} where that is too
    few of them."""
    if len(chosen) < FEWEST:
        return {}
    kept = solved_by_all([one.passed for one in chosen])
    rates = np.array([pass_at_k(one.samples, one.passed, 1) for one in chosen])
    parts = {"all": np.flatnonzero(kept)}
    parts |= dict(zip(BUCKETS, buckets(rates, kept, len(BUCKETS)), strict=True))
    relative = [one.compute / compute for one in chosen]
    found = {}
    for name, numbers in parts.items():
        if len(numbers) < FEWEST:
            continue
        values = [
            float(minus_log_rates(one.passed[numbers], one.samples[numbers]).mean())
            for one in chosen
        ]
        if min(values) > 0:
            prediction = predict_rate(relative, values, confidence=confidence)
            found[name] = told(prediction) | {"problems": numbers.tolist(), "small": values}
    return found


def told(prediction: Prediction) -> dict[str, Any]:
    return {
        "law": dataclasses.asdict(prediction.law), "says": str(prediction.law),
        "value": prediction.value, "low": prediction.low, "high": prediction.high,
    }  # fmt: skip


# ----------------------------------------------------------------------- report


def outcomes(forecast: Mapping[str, Any], large: Measured) -> list[dict[str, Any]]:
    """Each thing foretold beside what came out, and beside what simpler rules would have said."""
    x = [one["compute"] for one in forecast["small"]]
    losses = [one["loss"] for one in forecast["small"]]
    rows = [
        {
            "what": "loss, nats a token", "out": large.loss, **bounds(forecast["loss"]),
            "plain": float(fit(x, losses)(1.0)), "last": losses[-1], "unsolved": 0,
        }
    ]  # fmt: skip
    for name, one in forecast["rates"].items():
        numbers = np.array(one["problems"])
        passed, samples = large.passed[numbers], large.samples[numbers]
        # over the problems that it was foretold of: one never solved counts half a success
        values = np.log(samples / np.maximum(passed, 0.5))
        rows.append(
            {
                "what": f"-log pass@1, {name} ({len(numbers)} problems)",
                "out": float(values.mean()), **bounds(one), "plain": None,
                "last": one["small"][-1], "unsolved": int((passed == 0).sum()),
            }
        )  # fmt: skip
    return rows


def bounds(one: Mapping[str, Any]) -> dict[str, float]:
    return {name: one[name] for name in ("value", "low", "high")}


def interval(row: Mapping[str, Any]) -> str:
    """Both ends, or that the small runs bind one of them to nothing."""
    loose = row["low"] * WIDEST < row["value"] * 1.01 or row["high"] > row["value"] * WIDEST * 0.99
    return "not bound by so few points" if loose else f"{row['low']:.4g} to {row['high']:.4g}"


def came_out(row: Mapping[str, Any]) -> str:
    """What was measured; of problems never solved it is known that it is no less."""
    return f"{'at least ' if row['unsolved'] else ''}{row['out']:.4g}"


def error(row: Mapping[str, Any]) -> str:
    """Of what was foretold, relative to what was measured; none of zero, or of a bound."""
    known = row["out"] and not row["unsolved"]
    return f"{row['value'] / row['out'] - 1:+.1%}" if known else "-"


def verdict(row: Mapping[str, Any]) -> str:
    if row["unsolved"] and row["out"] <= row["high"]:
        judged = f"no verdict: {row['unsolved']} never solved"
    else:
        inside = row["low"] <= row["out"] <= row["high"]
        judged = f"{'inside' if inside else 'outside of'} the interval"
    return (
        f"{row['what']}: foretold {row['value']:.4g} ({interval(row)}), came "
        f"out {came_out(row)}, error {error(row)}, {judged}"
    )


def write_report(
    workdir: Path, title: str, forecast: Mapping[str, Any], small: Sequence[Measured],
    large: Measured,
) -> None:  # fmt: skip
    """Writes `report.md`, `figure.svg` and `outcome.json`, and prints the first."""
    rows = outcomes(forecast, large)
    lines = [verdict(row) + "." for row in rows[:2]]
    lines += ["", f"Foretold on {forecast['written']}, from {len(small)} runs of "
              f"{forecast['small'][0]['compute']:.2g} to {forecast['small'][-1]['compute']:.2g} of "
              f"the large run's compute, {large.compute:.3g} FLOPs.", ""]  # fmt: skip
    lines += [f"Law of the loss: {forecast['loss']['says']}.", ""]
    lines += table(
        ["", "foretold", f"{100 * forecast['confidence']:g}% interval", "came out", "error",
         "power law without c", "largest small run", "never solved"],
        [
            [row["what"], f"{row['value']:.4g}", interval(row),
             came_out(row), error(row),
             "-" if row["plain"] is None else f"{row['plain']:.4g}", f"{row['last']:.4g}",
             str(row["unsolved"])]
            for row in rows
        ],
    )  # fmt: skip
    lines += ["", *runs_table([*small, large], forecast["rated"])]
    report = "\n".join(lines) + "\n"
    write_whole(workdir / "report.md", report)
    write_whole(workdir / "figure.svg", draw_panels(title, panels(forecast, rows)))
    write_whole(workdir / "outcome.json", json.dumps(rows, indent=1) + "\n")
    print(f"{report}\n{workdir}/report.md, {workdir}/figure.svg")


def runs_table(runs: Sequence[Measured], rated: Sequence[str]) -> list[str]:
    """Every run, with its share of right programs by the number of operations."""
    depths = sorted({trial.depth for trial in runs[0].trials})
    rows = []
    for one in runs:
        shares = [
            np.mean([trial.passed / trial.samples for trial in one.trials if trial.depth == depth])
            for depth in depths
        ]
        rows.append(
            [
                one.name, f"{one.parameters:,}", f"{one.tokens:,}", f"{one.compute:.3g}",
                f"{one.loss:.4f}", *(f"{share:.3f}" for share in shares),
                f"{(one.passed > 0).sum()} of {len(one.trials)}",
                "yes" if one.name in rated else "no",
            ]
        )  # fmt: skip
    head = ["run", "parameters", "tokens", "FLOPs", "held-out loss"]
    head += [f"pass@1, {depth} operation{'s' * (depth > 1)}" for depth in depths]
    return table([*head, "solved at least once", "in the law of the pass rate"], rows)


# ----------------------------------------------------------------------- figure


def panels(forecast: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """Loss and pass rate over compute: small runs, laws, what was foretold and what came out."""
    x = [one["compute"] for one in forecast["small"]]
    line = np.geomspace(x[0], 1.0, 40)

    def law(one: Mapping[str, Any]) -> list[float]:
        given = one["law"]
        return (given["scale"] * line ** -given["exponent"] + given["irreducible"]).tolist()

    loss, row = forecast["loss"], rows[0]
    drawn = [
        Panel(
            "held-out loss", "compute (large run = 1)", "nats a token",
            [
                Band("small runs", x, [one["loss"] for one in forecast["small"]], dash=""),
                Band("a C^b + c", line.tolist(), law(loss), colour=7, dash=":"),
                Band("foretold", [1.0, 1.0], [row["low"], row["high"]], colour=1),
                Band("came out", [1.0], [row["out"]], colour=3, dash=""),
            ],
            log=(True, False),
        )
    ]  # fmt: skip
    bands = []
    out = {row["what"].split(", ")[1].split(" ")[0]: row for row in rows[1:]}
    rated = [one["compute"] for one in forecast["small"] if one["name"] in forecast["rated"]]
    for number, (name, one) in enumerate(forecast["rates"].items()):
        bands.append(Band(name, rated, one["small"], colour=number, dash=""))
        bands.append(Band("", line.tolist(), law(one), colour=number, dash=":"))
        if out[name]["out"] > 0:  # the axis is of logarithms
            bands.append(Band("", [1.0], [out[name]["out"]], colour=number, dash=""))
    if bands:
        drawn.append(
            Panel(
                "programs", "compute (large run = 1)", "mean of -log pass@1", bands,
                log=(True, True), marks=[(1.0, "large run")],
            )
        )  # fmt: skip
    return drawn
