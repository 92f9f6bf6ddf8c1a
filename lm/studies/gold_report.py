"""What the study with a programmed labeler shows: the verdict first, then what it rests on.

Shown means, by both scorers: prompted < SFT < PPO, and the gain of each step is above twice its
spread over the seeds. The tax is the loss on pre-training text that PPO adds to that of the SFT
model, where that is above twice its spread; PPO-ptx repairs half of it where it adds less than
half as much, and does not where it adds more, each by as clear a difference.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lm.core.paths import write_whole
from lm.metrics.spread import clear, over_seeds
from lm.report.markdown import table, with_deviation
from lm.report.panels import Band, Panel, draw_panels

POLICIES = ("prompted", "sft", "ppo", "ppo_ptx")
ORDER = (("prompted", "sft"), ("sft", "ppo"))
SCORERS = ("gold", "second")
TITLES = {"prompted": "prompted", "sft": "SFT", "ppo": "PPO", "ppo_ptx": "PPO-ptx"}
Measures = Sequence[Mapping[str, Any]]  # measured.json of each seed


def gain(measures: Measures, scorer: str, before: str, after: str) -> tuple[float, float | None]:
    """What a step adds to the mean score, and its spread over the seeds."""
    return over_seeds([one[after][scorer] - one[before][scorer] for one in measures])


def shown(measures: Measures) -> bool:
    return all(clear(*gain(measures, scorer, *step)) for scorer in SCORERS for step in ORDER)


def write_gold(workdir: Path, title: str, seeds: Sequence[int]) -> None:
    """Writes `report.md`, `figure.svg` and `summary.json`, and prints the first."""
    folders = [workdir / str(seed) for seed in seeds]
    measures = [json.loads((one / "measured.json").read_text()) for one in folders]
    pipelines = [json.loads((one / "pipeline" / "summary.json").read_text()) for one in folders]
    tax = {
        name: [one[f"{name}: pretraining_loss"] - one["SFT: pretraining_loss"] for one in pipelines]
        for name in ("PPO", "PPO-ptx")
        if all(f"{name}: pretraining_loss" in one for one in pipelines)
    }
    report = "\n".join(
        [verdict(measures), "", *scores(measures), "", *gains(measures), "", *taxes(tax), "",
         *accuracies(pipelines), "", *examples(measures[0])]
    )  # fmt: skip
    write_whole(workdir / "report.md", report + "\n")
    write_whole(workdir / "figure.svg", draw_panels(title, panels(measures, pipelines)))
    summary = {
        "shown": shown(measures), "seeds": list(seeds), "tax": tax,
        "scores": {p: {s: [one[p][s] for one in measures] for s in SCORERS} for p in POLICIES},
    }  # fmt: skip
    write_whole(workdir / "summary.json", json.dumps(summary, indent=1) + "\n")
    print(f"{report}\n{workdir}/report.md, {workdir}/figure.svg")


def verdict(measures: Measures) -> str:
    said = "shown" if shown(measures) else "not shown"
    return (
        f"{said}: prompted < SFT < PPO by the gold scorer and by the second one, each step above "
        f"twice its spread over {len(measures)} seeds"
    )


def scores(measures: Measures) -> list[str]:
    rows = []
    for policy in POLICIES:
        found = [over_seeds([one[policy][scorer] for one in measures]) for scorer in SCORERS]
        rows.append([TITLES[policy], *(with_deviation(*pair) for pair in found)])
    return table(["policy", "gold scorer", "second scorer"], rows)


def gains(measures: Measures) -> list[str]:
    rows = [
        [f"{TITLES[before]} to {TITLES[after]}",
         *(with_deviation(*gain(measures, scorer, before, after)) for scorer in SCORERS)]
        for before, after in (*ORDER, ("sft", "ppo_ptx"))
    ]  # fmt: skip
    return table(["step", "gain, gold", "gain, second"], rows)


def taxes(tax: Mapping[str, Sequence[float]]) -> list[str]:
    if set(tax) != {"PPO", "PPO-ptx"}:
        return ["The tax is unknown: the base's pre-training text is."]
    rows = [[name, with_deviation(*over_seeds(values))] for name, values in tax.items()]
    below = np.array(tax["PPO"]) / 2 - np.array(tax["PPO-ptx"])
    if not clear(*over_seeds(tax["PPO"])):
        line = "No tax is shown: what PPO adds is not above twice its spread over the seeds."
    elif clear(*over_seeds(below)):
        line = "PPO-ptx repairs at least half of the tax."
    elif clear(*over_seeds(-below)):
        line = "PPO-ptx does not repair half of the tax."
    else:
        line = (
            "Whether PPO-ptx repairs half of the tax is not shown: its distance from that half "
            "is not above twice its spread over the seeds."
        )
    return [*table(["policy", "added loss on pre-training text, nats a token"], rows), "", line]


def accuracies(pipelines: Measures) -> list[str]:
    names = ("valid_accuracy", "bayes_accuracy", "labelers_accuracy")
    known = [name for name in names if all(f"reward model: {name}" in one for one in pipelines)]
    rows = [
        [name.replace("_", " "),
         with_deviation(*over_seeds([one[f"reward model: {name}"] for one in pipelines]))]
        for name in known
    ]  # fmt: skip
    if "labelers_accuracy" not in known:
        rows.append(["labelers held out", "none"])
    return table(["reward model", "pairs in the right order"], rows)


def examples(measured: Mapping[str, Any]) -> list[str]:
    lines = ["Answers to one held-out prompt, first seed:"]
    for policy in POLICIES:
        lines += ["", f"{TITLES[policy]}:", "", "```", measured[policy]["example"], "```"]
    return lines


def panels(measures: Measures, pipelines: Measures) -> list[Panel]:
    """Scores by policy, and what the best of n and PPO gain at their distance."""
    places = list(range(len(POLICIES)))
    bands = []
    for colour, scorer in enumerate(SCORERS):
        found = [over_seeds([one[policy][scorer] for one in measures]) for policy in POLICIES]
        bands.append(Band(
            f"{scorer} scorer", places, [mean for mean, _ in found],
            [spread or 0.0 for _, spread in found], colour,
        ))  # fmt: skip
    marks = [(float(place), TITLES[policy]) for place, policy in enumerate(POLICIES)]
    best = [one["best of n"] for one in pipelines]
    frontier = []
    for colour, (key, label) in enumerate((("gold", "gold"), ("reward", "reward model"))):
        of = [over_seeds([one[n][key] for one in best]) for n in range(len(best[0]))]
        frontier.append(Band(
            f"best of n, {label}", [point["kl"] for point in best[0]], [mean for mean, _ in of],
            [spread or 0.0 for _, spread in of], colour,
        ))  # fmt: skip
    return [
        Panel("Held-out prompts", "policy", "mean score", bands, marks=marks),
        Panel("Best of n", "KL, nats an answer", "mean score", frontier),
    ]
