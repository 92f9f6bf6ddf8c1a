"""One page of the rounds of labels, reward model and policy."""

import json
from pathlib import Path
from typing import Any

from lm.core.paths import write_whole
from lm.report.page import section, write_page
from lm.report.record import Record, read_run
from lm.report.text import escape, table
from lm.studies.alignment_report import ACCURACIES, frontier, over_updates, told, troubles

EACH = ("Reward of the policy's answers, by the reward model of its round",
        "where the round began")  # fmt: skip
MEASURED = ("valid_reward", "valid_gold", "valid_kl", "valid_length")


def write_conversing(workdir: Path, rounds: int) -> Path:
    """Writes `report.html` and `summary.json` of a pipeline whose steps are done."""
    numbers = range(1, rounds + 1)
    policies = {f"round {n}": read_run(workdir / f"{n}/ppo") for n in numbers}
    summary = gathered(workdir, policies)
    samples = {f"{name}: after it": record.samples[max(record.samples)]
               for name, record in policies.items()}  # fmt: skip
    samples = {"before": policies["round 1"].samples[0]} | samples
    articles = "".join(
        f"<article><h3>{escape(title)}</h3><pre>{escape(text)}</pre></article>"
        for title, text in samples.items()
    )
    sections = [
        section("What came out", table(["figure", "value"], told(summary))),
        section("Over updates", over_updates(policies, *EACH), wide=True),
        section("Against KL from where the round began", frontiers(policies), wide=True),
        section("Answers to the same conversations", f'<div class="pair">{articles}</div>'),
        section("In trouble", troubles(policies)),
    ]
    page = write_page(workdir / "report.html", workdir.name, sections)
    write_whole(workdir / "summary.json", json.dumps(summary, indent=1) + "\n")  # it is done
    return page


def gathered(workdir: Path, policies: dict[str, Record]) -> dict[str, Any]:
    """The figures of all steps; those of the first policy before it began are the SFT model's."""
    sft = read_run(workdir / "sft").summary
    found: dict[str, Any] = {"SFT: rows": sft["rows"]}
    found |= {f"SFT: {name}": sft[name] for name in ("valid_loss", "ended") if name in sft}
    first = next(row for row in policies["round 1"].rows if "valid_reward" in row)
    found |= {f"SFT: {name}": first[name] for name in MEASURED if name in first}
    for number, (name, record) in enumerate(policies.items(), start=1):
        labeling = workdir / str(number) / "labeling.json"
        if labeling.exists():
            made = json.loads(labeling.read_text())
            found |= {f"{name}: labels, {key}": value for key, value in made.items()}
        reward = read_run(workdir / f"{number}/reward").summary
        found |= {f"{name}: reward model, {key}": reward[key] for key in
                  ACCURACIES if key in reward}  # fmt: skip
        summary = record.summary
        found |= {f"{name}: {key}": summary[key] for key in MEASURED if key in summary}
        for key in ("win_rate", "gold_win_rate"):
            if key in summary:
                found[f"{name}: {key} against where it began"] = summary[key]
    return found


def frontiers(policies: dict[str, Record]) -> str:
    """Those of each round, which has its own reward model and its own beginning."""
    return "".join(frontier({name: one}, f"{name}: ") for name, one in policies.items())
