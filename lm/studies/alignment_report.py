"""One page of the three steps: what the reward model knows, what PPO gained, and what it cost."""

import json
from pathlib import Path
from typing import Any

from lm.core.paths import write_whole
from lm.evals.published import figures
from lm.report.curves import Curve, Level, draw
from lm.report.markdown import with_deviation
from lm.report.page import section, write_page
from lm.report.record import Record, read_run
from lm.report.text import escape, number, table

ACCURACIES = ("valid_accuracy", "valid_accuracy_error", "labelers_accuracy",
              "labelers_accuracy_error")  # fmt: skip
POLICIES = {"ppo": "PPO", "ppo_ptx": "PPO-ptx"}


def write_alignment(workdir: Path) -> Path:
    """Writes `report.html` and `summary.json` of a pipeline whose steps are done."""
    steps = {name: read_run(workdir / name) for name in ("sft", "reward", *POLICIES)}
    summary = gathered(workdir, steps)
    policies = {POLICIES[name]: steps[name] for name in POLICIES}
    sections = [
        section("What came out", table(["figure", "value"], told(summary))),
        section("Over updates", over_updates(policies), wide=True),
        section("Reward against KL", frontier(policies), wide=True),
        section("Answers to the same prompts", answers(steps)),
        section("In trouble", troubles(policies)),
        section("What was published, of people's labels and larger models", published()),
    ]
    page = write_page(workdir / "report.html", workdir.name, sections)
    write_whole(workdir / "summary.json", json.dumps(summary, indent=1) + "\n")  # it is done
    return page


def gathered(workdir: Path, steps: dict[str, Record]) -> dict[str, Any]:
    """The figures of all steps; those of step 3 before it began stand for the SFT model."""
    reward = steps["reward"].summary
    found: dict[str, Any] = {f"reward model: {name}": reward[name] for name in ACCURACIES
                             if name in reward}  # fmt: skip
    labeling = workdir / "labeling.json"
    if labeling.exists():
        found["reward model: bayes_accuracy"] = json.loads(labeling.read_text())["bayes_accuracy"]
    measured = ("valid_reward", "valid_gold", "valid_kl", "pretraining_loss")
    first = next(row for row in steps["ppo"].rows if "valid_reward" in row)
    found |= {f"SFT: {name}": first[name] for name in measured if name in first}
    for key, title in POLICIES.items():
        summary = steps[key].summary
        found |= {f"{title}: {name}": summary[name] for name in measured if name in summary}
        for name in ("win_rate", "gold_win_rate"):
            if name in summary:
                found[f"{title}: {name} against SFT"] = summary[name]
    found["best of n"] = steps["ppo"].summary["best_of_n"]
    return found


def told(summary: dict[str, Any]) -> list[list[str]]:
    heard = any(name.endswith("labelers_accuracy") for name in summary)
    rows = [] if heard else [["reward model: labelers held out", "none"]]
    for name, value in summary.items():
        if name == "best of n":
            continue
        if isinstance(value, list):
            rate, low, high = value
            rows.append([name, f"{rate:.3f} (95%: {low:.3f} to {high:.3f})"])
        else:
            rows.append([name, number(value)])
    return rows


def over_updates(
    policies: dict[str, Record], reward: str = "Reward of the policy's answers",
    began: str = "the SFT model",
) -> str:  # fmt: skip
    """Reward, gold score, KL from where a policy began, and loss on pre-training text."""
    figures = ""
    for title, metric in (
        (reward, "reward"),
        ("Gold score of held-out answers", "valid_gold"),
        (f"KL from {began}, nats an answer", "kl"),
        ("Loss on pre-training text: the tax", "pretraining_loss"),
    ):
        curves = [
            Curve(name, *record.curve(metric)) for name, record in policies.items()
            if metric in record.metrics()
        ]  # fmt: skip
        if curves:
            levels = []
            if metric == "pretraining_loss":
                levels = [Level("SFT", curves[0].y[0])]
            figures += figure(title, draw(title, curves, xlabel="updates", ylabel="",
                                          levels=levels))  # fmt: skip
    return figures


def frontier(policies: dict[str, Record], of: str = "") -> str:
    """What is gained at which distance; the proxy that is optimised, and the truth behind it. All
    policies have one reward, and began where the first did, whose best of n stand beside them."""
    figures = ""
    for title, metric, key in (
        (f"{of}Reward against KL (nats)", "valid_reward", "reward"),
        (f"{of}Gold score against KL (nats)", "valid_gold", "gold"),
    ):
        curves = []
        for name, record in policies.items():
            points = sorted((row["valid_kl"], row[metric]) for row in record.rows if metric in row)
            if points:
                curves.append(Curve(name, *zip(*points, strict=True)))
        best = next(iter(policies.values())).summary["best_of_n"]
        if all(key in point for point in best):
            curves.append(Curve("best of n", [p["kl"] for p in best], [p[key] for p in best]))
        if curves:
            figures += figure(title, draw(title, curves, xlabel="KL", ylabel=key))
    return figures


def figure(title: str, svg: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>"


def answers(steps: dict[str, Record]) -> str:
    """Before PPO and after it, from the same prompts and draws."""
    found = {"SFT": steps["ppo"].samples[0]}
    for name, title in POLICIES.items():
        found[title] = steps[name].samples[max(steps[name].samples)]
    articles = "".join(
        f"<article><h3>{escape(title)}</h3><pre>{escape(text)}</pre></article>"
        for title, text in found.items()
    )
    return f'<div class="pair">{articles}</div>'


def is_tax(row: dict[str, Any]) -> bool:
    """Whether a published figure is of the task that shows what learning from a reward costs."""
    task, system = (row["family"], row["task"], row.get("setting")), row.get("system", "")
    return task == ("instructgpt_tasks", "squad2", "zero") and system.endswith(" 175B")


def published() -> str:
    """The paper's figures, of which none was measured on the data or the sizes of a run here."""
    return table(
        ["figure", "value", "of"],
        [
            (f"{row['task']}: {row['metric']}", with_deviation(row["value"], row.get("error")),
             f"{row['system']}, {row['source']}")
            for row in figures()
            if row["family"] == "instructgpt" or is_tax(row)
        ],
    )  # fmt: skip


def troubles(policies: dict[str, Record]) -> str:
    lines = [f"{name}: {what}" for name, record in policies.items()
             for what in record.summary.get("troubles", [])]  # fmt: skip
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""
