"""InstructGPT's automatic tasks, beside the figures of its four models (Ouyang et al. 2022, table
14): what reinforcement learning costs on public tasks, and what pre-training text in it gives back.
"""

import math
from collections.abc import Callable

from lm.core.errors import ConfigError
from lm.evals.fewshot.evaluation import evaluate as evaluate_task
from lm.evals.fewshot.instructgpt import TASKS
from lm.evals.fewshot.ledger import Ledger
from lm.evals.fewshot.table import Line, gaps, number, remarks, size
from lm.evals.published import figures
from lm.evals.suites import Model, Options, write_table
from lm.evals.suites.gpt3 import chosen, contamination

SETTINGS = {"0": "zero", "few": "few"}  # of the paper; it has no figure of one example
MODELS = ("GPT", "SFT", "PPO", "PPO-ptx")
SIZES = {"1.3B": 1.3e9, "6B": 6e9, "175B": 175e9}
HEAD = (
    f"{'task':16}{'metric':11}{'shots':>7}{'used':>6}{'items':>7}  {'score':17}{'chance':>7}"
    + "".join(f"{name:>9}" for name in MODELS)
    + f"{'overlap':>9}"
)


def evaluate(model: Model, options: Options, say: Callable[[str], None]) -> list[Line]:
    """Asks the tasks with no and with the paper's number of examples (those of `options.shots`
    that the paper has), and tells a line for each as it comes.

    Outcomes of items go to `OUT/instructgpt-step<step>.jsonl`, from which an interrupted evaluation
    goes on; the table goes to `OUT/instructgpt-step<step>.json`.

    Raises:
      ConfigError: an unknown task, or numbers of examples of which the paper has none.
      DataError: no data of a task that was named, or malformed rows.
    """
    labels = [label for label in options.shots if label in SETTINGS]
    if not labels:
        raise ConfigError(f"shots {','.join(options.shots)}: this suite has 0 and few")
    reads = [task.read(options.root) for task in chosen(options, say, TASKS)]
    with Ledger(options.out / f"instructgpt-step{model.step}.jsonl") as ledger:
        found = contamination(model, options, reads, say)
        near = nearest_size(model.parameters)
        say(HEAD)
        lines: list[Line] = []
        for read in reads:
            for label in labels:
                summary = evaluate_task(
                    read, read.task.shots if label == "few" else 0, scorer=model.scorer,
                    model=model.digest, seed=options.seed, limit=options.limit, ledger=ledger,
                )  # fmt: skip
                overlap = found.get(read.task.name)
                if overlap is not None:
                    overlap = overlap.of(read.chosen(options.limit), summary.numbers)
                lines.append(Line(read, label, summary, None, overlap))
                say(row(lines[-1], near))
    say(
        f"the paper's are its models of {near}, the nearest size; this one has "
        f"{size(model.parameters)} parameters"
    )
    for read in reads:
        if told := remarks([line for line in lines if line.read is read]):
            say(f"{read.task.name}: {'; '.join(told)}")
    table = options.out / f"instructgpt-step{model.step}.json"
    rows = [
        line.figures() | {"published": beside, "gap": gaps(line, beside)}
        for line in lines
        for beside in [published(line, near)]
    ]
    write_table(table, rows, model, options)
    say(f"items in {ledger.path}, table in {table}")
    return lines


def nearest_size(parameters: int) -> str:
    """Of the paper's, in logarithm."""
    return min(SIZES, key=lambda name: abs(math.log(SIZES[name] / parameters)))


def published(line: Line, near: str) -> dict[str, float]:
    """What the paper prints of its models of a size."""
    wanted = (line.read.task.name, line.summary.metric, SETTINGS[line.label])
    rows = {
        row["system"]: row["value"]
        for row in figures()
        if row["family"] == "instructgpt_tasks"
        and (row["task"], row["metric"], row["setting"]) == wanted
    }
    systems = {name: f"{name} {near}" for name in MODELS}
    return {name: rows[system] for name, system in systems.items() if system in rows}


def row(line: Line, near: str) -> str:
    task, summary, found = line.read.task, line.summary, line.summary.mean()
    score = "no item fits" if found is None else f"{found[0]:.3f}"
    if found and found[1] is not None:
        score += f" ± {found[1]:.3f}"
    shots = f"few={task.shots}" if line.label == "few" else "0"
    beside, share = published(line, near), line.overlap.share if line.overlap else None
    return (
        f"{task.name:16}{summary.metric:11}{shots:>7}{summary.used:6.1f}"
        f"{len(summary.numbers):7}  {score:17}{number(line.chance):>7}"
        + "".join(f"{number(beside.get(name)):>9}" for name in MODELS)
        + f"{'-' if share is None else f'{share:.1%}':>9}"
    )
