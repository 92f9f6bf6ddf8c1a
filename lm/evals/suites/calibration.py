"""How well a model knows what it knows: multiple choice by letters, as in the GPT-4 report's
figure 8, where RLHF spoils it (ECE 0.007 before and 0.074 after, on MMLU).

The choices are listed with letters and the model is asked for the letter, behind five examples, as
MMLU is; MMLU itself is not at hand. A choice's probability is that of its letter among those of the
question.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lm.core.errors import DataError
from lm.core.paths import write_whole, writing
from lm.evals.calibration import BINS, of_answers, of_choices, reliability
from lm.evals.fewshot.evaluation import evaluate as evaluate_task
from lm.evals.fewshot.ledger import Ledger
from lm.evals.fewshot.task import Task, TaskItems, Values
from lm.evals.fewshot.tasks import TASKS as GPT3
from lm.evals.incontext import Item
from lm.evals.protocols import Choose
from lm.evals.published import figures
from lm.evals.suites import Model, Options, write_json
from lm.evals.suites.gpt3 import chosen
from lm.report.panels import Band, Panel, draw_panels

SHOTS = 5
LETTERS = "ABCDE"
CHOICES = (
    "arc_easy",
    "arc_challenge",
    "openbookqa",
    "hellaswag",
    "piqa",
    "race_middle",
    "race_high",
)
HEAD = f"{'task':15}{'items':>7}{'accuracy':>10}{'ECE, choices':>14}{'ECE, answers':>14}"
Result = dict[str, Any]


def lettered(task: Task) -> Task:
    """The task with its choices in the text, to be answered by a letter."""

    def item(row: Values) -> Item:
        plain = task.item(row)
        (context,) = plain.contexts
        head = context.removesuffix("Answer:").removesuffix("A:").rstrip()
        if len(plain.completions) > len(LETTERS):
            raise ValueError(f"{len(plain.completions)} choices, {len(LETTERS)} letters")
        lines = [f"{a}.{text}" for a, text in zip(LETTERS, plain.completions, strict=False)]
        return replace(
            plain,
            contexts=("\n".join([head, *lines, "Answer:"]),),
            completions=tuple(f" {letter}" for letter, _ in zip(LETTERS, lines, strict=False)),
        )

    return replace(task, name=f"{task.name}_letters", item=item, protocol=Choose(rule="sum"))


TASKS = tuple(lettered(task) for task in GPT3 if task.name in CHOICES)


def evaluate(model: Model, options: Options, say: Callable[[str], None]) -> Result:
    """Asks the tasks, and tells accuracy and calibration of each and of all together.

    Outcomes of items go to `OUT/calibration-step<step>.jsonl`, the curves to
    `OUT/calibration-step<step>.json` and the figure to `.svg`.

    Raises:
      ConfigError: an unknown task.
      DataError: no data of a task that was named, malformed rows, or no item that fits.
    """
    reads = [task.read(options.root) for task in chosen(options, say, TASKS)]
    with Ledger(options.out / f"calibration-step{model.step}.jsonl") as ledger:
        say(HEAD)
        result: Result = {"model": model.name, "step": model.step, "shots": SHOTS, "tasks": {}}
        every: list[tuple[list[float], int]] = []
        for read in reads:
            evaluate_task(
                read, SHOTS, scorer=model.scorer, model=model.digest, seed=options.seed,
                limit=options.limit, ledger=ledger,
            )  # fmt: skip
            asked = probabilities(read, model, options, ledger)
            every += asked
            if asked:
                result["tasks"][read.task.name] = curves(asked)
                say(line(read.task.name, result["tasks"][read.task.name]))
    if not every:
        raise DataError(f"no item fits the model's context of {model.scorer.length} tokens")
    result["all"] = curves(every)
    say(line("all", result["all"]))
    published = [row for row in figures() if row["task"] == "calibration"]
    told = ", ".join(f"{row['value']:.3f} {row['setting']}" for row in published)
    say(f"ECE of {BINS} bins of equal width; {published[0]['source']}: {told}")
    out = options.out / f"calibration-step{model.step}.json"
    write_json(out, result)
    say(f"curves in {out}, figure in {draw({model.name: result}, out.with_suffix('.svg'))}")
    return result


def probabilities(
    read: TaskItems, model: Model, options: Options, ledger: Ledger
) -> list[tuple[list[float], int]]:
    """Of the choices of each item that was asked, and which is right."""
    of = f"{model.digest}:{read.digest}"
    rows = (
        (number, ledger.row(read.task.name, SHOTS, options.seed, of, number))
        for number in read.chosen(options.limit)
    )
    return [
        (row["probabilities"], read.items[number].gold)
        for number, row in rows
        if row is not None and "refused" not in row
    ]


def curves(asked: list[tuple[list[float], int]]) -> Result:
    rows, golds = zip(*asked, strict=True)
    _, right = of_answers(rows, golds)
    return {
        "items": len(golds),
        "accuracy": float(np.mean(right)),
        "choices": reliability(*of_choices(rows, golds)).figures(),
        "answers": reliability(*of_answers(rows, golds)).figures(),
    }


def line(name: str, told: Result) -> str:
    return (
        f"{name.removesuffix('_letters'):15}{told['items']:7}{told['accuracy']:10.3f}"
        f"{told['choices']['ece']:14.4f}{told['answers']['ece']:14.4f}"
    )


def draw(results: Mapping[str, Result], out: Path) -> Path:
    """The curves of one or several runs, such as before and after RLHF, over the diagonal."""
    panels = []
    for reading, title in (("choices", "every choice"), ("answers", "the likeliest choice")):
        bands = [Band("as it says", [0.0, 1.0], [0.0, 1.0], colour=7, dash=":")]
        for number, (name, result) in enumerate(results.items()):
            curve = result["all"][reading]
            label = f"{name}: ECE {curve['ece']:.3f}"
            bands.append(Band(label, curve["confidence"], curve["right"], colour=number))
        panels.append(Panel(title, "probability", "share that is right", bands))
    with writing(out):
        write_whole(out, draw_panels("Calibration", panels))
    return out
