"""How well a model knows what it knows: multiple choice by letters, as in the GPT-4 report's
figure 8, where RLHF spoils it (ECE 0.007 before and 0.074 after, on MMLU).

The choices are listed with letters and the model is asked for the letter, behind five examples, or
as many as fit, as MMLU is; MMLU itself is not at hand. A choice's probability is that of its letter
among those of the question.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lm.core.errors import DataError
from lm.core.paths import write_whole, writing
from lm.evals.calibration import (
    BINS,
    Question,
    changes,
    errors,
    of_answers,
    of_choices,
    pooled,
    reliability,
)
from lm.evals.fewshot.evaluation import Summary
from lm.evals.fewshot.evaluation import evaluate as evaluate_task
from lm.evals.fewshot.ledger import Ledger
from lm.evals.fewshot.table import Line
from lm.evals.fewshot.task import Task, TaskItems, Values, first_of
from lm.evals.fewshot.tasks import TASKS as GPT3
from lm.evals.incontext import Item
from lm.evals.protocols import Choose
from lm.evals.published import figures
from lm.evals.suites import Model, Options, earlier, settings_of, write_json
from lm.evals.suites.gpt3 import chosen, worth
from lm.report.panels import Band, Panel, draw_panels

SHOTS = 5
LETTERS = "ABCDE"
CHOICES = (
    "arc_easy", "arc_challenge", "openbookqa", "hellaswag", "piqa", "race_middle", "race_high",
)  # fmt: skip
HEAD = f"{'task':15}{'used':>6}{'items':>7}  {'accuracy':18}{'ECE, choices':18}ECE, answers"
Result = dict[str, Any]
Asked = dict[str, Question]  # by task and number


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
    """Asks the tasks, and tells accuracy and calibration of each and of all together, those that
    an earlier call asked with the same settings among them, then what the figures are worth.

    Outcomes of items go to `OUT/calibration-step<step>.jsonl`, the curves to
    `OUT/calibration-step<step>.json`, a result for each settings that were asked, and the figure
    to `.svg`.

    Raises:
      ConfigError: an unknown task.
      DataError: no data of a task that was named, malformed rows, or no item that fits.
    """
    reads = [task.read(options.root) for task in chosen(options, say, TASKS)]
    out, settings = options.out / f"calibration-step{model.step}.json", settings_of(model, options)
    with Ledger(out.with_suffix(".jsonl")) as ledger:
        say(HEAD)
        new: Result = {}
        lines = []
        for read in reads:
            summary = evaluate_task(
                read, SHOTS, scorer=model.scorer, model=model.digest, seed=options.seed,
                limit=options.limit, ledger=ledger,
            )  # fmt: skip
            lines.append(Line(read, str(SHOTS), summary, None, None))
            asked = questions(read, settings, ledger)
            if asked:
                new[read.task.name] = {"data": read.digest} | prompts(summary)
                new[read.task.name] |= curves(list(asked.values()))
                say(line(read.task.name, new[read.task.name]))
        if not new:
            raise DataError(f"no item fits the model's context of {model.scorer.length} tokens")
        named = [read.task.name for read in reads]
        others = earlier(out)
        same: Result = next((it["tasks"] for it in others if it.get("settings") == settings), {})
        kept = {name: told for name, told in same.items() if name not in named}
        for name, told in kept.items():
            say(line(name, told))
        result: Result = {
            "model": model.name, "step": model.step, "shots": SHOTS, "settings": settings,
            "tasks": kept | new, "all": together([*kept.values(), *new.values()]),
        }  # fmt: skip
        asked = all_questions(result, ledger)
        if len(asked) == result["all"]["items"]:
            result["all"]["errors"] = errors(list(asked.values()))
    say(line("all", result["all"]))
    worth(model, lines, say)
    for name in kept:
        say(f"{name}: asked by an earlier call")
    published = [row for row in figures() if row["task"] == "calibration"]
    values = ", ".join(f"{row['value']:.3f} {row['setting']}" for row in published)
    say(f"ECE of {BINS} bins of equal width; {published[0]['source']}: {values}")
    write_json(out, [told for told in others if told.get("settings") != settings] + [result])
    say(f"curves in {out}")
    if options.figure:
        say(f"figure in {draw({model.name: result}, out.with_suffix('.svg'))}")
    return result


def questions(read: TaskItems, settings: Mapping[str, Any], ledger: Ledger) -> Asked:
    """Of the questions of a task that were asked with these settings, what was answered."""
    name, of = read.task.name, f"{settings['checkpoint']}:{read.digest}"
    found = Asked()
    for number in read.chosen(settings["limit"]):
        row = ledger.row(name, SHOTS, settings["seed"], of, number)
        if row is not None and "refused" not in row:
            item = read.items[number]
            group = f"{name}:{item.group}" if item.group else ""
            found[f"{name}:{number}"] = Question(row["probabilities"], item.gold, group)
    return found


def all_questions(result: Result, ledger: Ledger) -> Asked:
    """Of all the tasks of a result; without those whose files are no longer what was asked."""
    settings, found = result["settings"], Asked()
    for task in TASKS:
        path = first_of(Path(settings["root"]), task.files)
        if task.name in result["tasks"] and path is not None:
            read = task.read(Path(settings["root"]))
            if read.digest == result["tasks"][task.name].get("data"):
                found |= questions(read, settings, ledger)
    return found


def prompts(summary: Summary) -> Result:
    """How many examples a prompt had on average, and of how many items it was not as asked for."""
    return {
        "used": summary.used, "shortened": summary.shortened, "refused": summary.refused,
        "cut": summary.cut,
    }  # fmt: skip


def curves(asked: Sequence[Question]) -> Result:
    rows, golds = [one.probabilities for one in asked], [one.gold for one in asked]
    _, right = of_answers(rows, golds)
    return {
        "items": len(golds),
        "accuracy": float(np.mean(right)),
        "choices": reliability(*of_choices(rows, golds)).figures(),
        "answers": reliability(*of_answers(rows, golds)).figures(),
        "errors": errors(asked),
    }


def together(tasks: Sequence[Result]) -> Result:
    """The figures of all the items of several tasks."""

    def of(name: str) -> list[Any]:
        return [told[name] for told in tasks]

    means = {
        name: float(np.average(of(name), weights=of("items"))) for name in ("used", "accuracy")
    }
    sums = {name: sum(of(name)) for name in ("items", "shortened", "refused", "cut")}
    return means | sums | {name: pooled(of(name)).figures() for name in ("choices", "answers")}


def line(name: str, told: Result) -> str:
    values = (told["accuracy"], told["choices"]["ece"], told["answers"]["ece"])
    sure = told.get("errors") or dict.fromkeys(("accuracy", "choices", "answers"))
    cells = [with_error(*pair) for pair in zip(values, sure.values(), strict=True)]
    head = f"{name.removesuffix('_letters'):15}{told['used']:6.1f}{told['items']:7}  "
    return (head + "".join(f"{cell:18}" for cell in cells)).rstrip()


def with_error(value: float, error: float | None, sign: str = "") -> str:
    return f"{value:{sign}.4f}" + ("" if error is None else f" ± {error:.4f}")


def compared(results: Sequence[Result], folders: Sequence[Path]) -> str:
    """By how much the second of two runs is above the first on the questions that both were asked,
    with standard errors of the differences; "" where there is no such question."""
    asked = []
    for result, folder in zip(results, folders, strict=True):
        with Ledger(folder / f"calibration-step{result['step']}.jsonl") as ledger:
            asked.append(all_questions(result, ledger))
    before, after = asked
    shared = [name for name in before if name in after]
    if not shared:
        return ""
    found = changes([before[name] for name in shared], [after[name] for name in shared])
    cells = [
        f"{'ECE, ' * (name != 'accuracy')}{name} {with_error(*change, '+')}"
        for name, change in found.items()
    ]
    return f"on {len(shared)} questions that both were asked: {', '.join(cells)}"


def unlike(results: Mapping[str, Result]) -> list[str]:
    """In what the items of several runs are not the same, a line a task."""
    said = []
    for name in dict.fromkeys(name for result in results.values() for name in result["tasks"]):
        found = [result["tasks"].get(name, {"items": 0})["items"] for result in results.values()]
        if len(set(found)) > 1:
            each = ", ".join(f"{count} of {run}" for run, count in zip(results, found, strict=True))
            left = "" if all(found) else "; left out of the figure"
            said.append(f"{name}: not the same items are asked, {each}{left}")
    return said


def draw(results: Mapping[str, Result], out: Path) -> Path:
    """The curves of one or several runs, such as before and after RLHF, over the diagonal, of the
    tasks that each was asked.

    Raises:
      DataError: there is no such task.
    """
    shared = set.intersection(*(set(result["tasks"]) for result in results.values()))
    if not shared:
        raise DataError(f"no task has items that fit each of {', '.join(results)}; name others")
    drawn = {
        name: together([told for task, told in result["tasks"].items() if task in shared])
        for name, result in results.items()
    }
    panels = []
    for reading, title in (("choices", "every choice"), ("answers", "the likeliest choice")):
        bands = [Band("as it says", [0.0, 1.0], [0.0, 1.0], colour=7, dash=":")]
        for number, (name, told) in enumerate(drawn.items()):
            curve = told[reading]
            label = f"{name}: ECE {curve['ece']:.3f}"
            bands.append(Band(label, curve["confidence"], curve["right"], colour=number))
        panels.append(Panel(title, "probability", "share that is right", bands))
    with writing(out):
        write_whole(out, draw_panels("Calibration", panels))
    return out
