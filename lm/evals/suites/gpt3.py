"""GPT-3's tasks with no, one and a few examples in the context (Brown et al. 2020, section 3).

Its Penn Treebank, which has no items, is of the suite gpt2, as whose report table 3.1 measures it.
"""

import re
from collections.abc import Callable, Sequence

from lm.core.errors import ConfigError, DataError
from lm.evals.fewshot.contamination import Overlap, overlaps
from lm.evals.fewshot.evaluation import evaluate as evaluate_task
from lm.evals.fewshot.ledger import Ledger
from lm.evals.fewshot.table import HEAD, Line, differences, remarks
from lm.evals.fewshot.task import Task, TaskItems, first_of
from lm.evals.fewshot.tasks import TASKS
from lm.evals.suites import Model, Options, write_table


def evaluate(model: Model, options: Options, say: Callable[[str], None]) -> list[Line]:
    """Asks the tasks, and tells a line for each as it comes, then what the figures are worth.

    Outcomes of items go to `OUT/gpt3-step<step>.jsonl`, from which an interrupted evaluation goes
    on; the table goes to `OUT/gpt3-step<step>.json`.

    Raises:
      ConfigError: an unknown task.
      DataError: no data of a task that was named, or malformed rows.
    """
    reads = [task.read(options.root) for task in chosen(options, say, TASKS)]
    with Ledger(options.out / f"gpt3-step{model.step}.jsonl") as ledger:
        found = contamination(model, options, reads, say)
        say(HEAD)
        lines: list[Line] = []
        for read in reads:
            for label in options.shots:
                shots = read.task.shots if label == "few" else int(label)
                summary = evaluate_task(
                    read, shots, scorer=model.scorer, model=model.digest, seed=options.seed,
                    limit=options.limit, ledger=ledger,
                )  # fmt: skip
                overlap = found.get(read.task.name)
                if overlap is not None:
                    overlap = overlap.of(read.chosen(options.limit), summary.numbers)
                lines.append(Line.of(read, label, summary, model.parameters, overlap))
                say(str(lines[-1]))
    worth(model, lines, say)
    table = options.out / f"gpt3-step{model.step}.json"
    write_table(table, [line.figures() for line in lines], model, options)
    say(f"items in {ledger.path}, table in {table}")
    return lines


def chosen(options: Options, say: Callable[[str], None], tasks: Sequence[Task]) -> list[Task]:
    """The tasks that are asked for; of all, those that have data."""
    if named := options.named({task.name: task for task in tasks}):
        for task in named:
            if task.needs:
                task.needs()
        return named
    there = [task for task in tasks if task.made or first_of(options.root, task.files)]
    absent = [task.name for task in tasks if task not in there]
    if len(absent) == sum(task.made is None for task in tasks):
        raise DataError(f"no task data in {options.root}; name the folder with --root")
    if absent:
        say(f"left out, no file in {options.root}: {', '.join(absent)}")
    return [task for task in there if runs(task, say)]


def runs(task: Task, say: Callable[[str], None]) -> bool:
    """Whether the packages that a task needs are there; it is said where they are not."""
    try:
        if task.needs:
            task.needs()
    except ConfigError as error:
        say(f"left out: {task.name}: {error}")
        return False
    return True


def contamination(
    model: Model, options: Options, reads: list[TaskItems], say: Callable[[str], None]
) -> dict[str, Overlap]:
    """Which of the items that will be asked are in the training text; {} where it is not looked at
    or cannot be read, which is said."""
    if not options.overlap:
        say("overlap with the training text: not looked for")
        return {}
    texts = {
        read.task.name: [bare(read.items[number].example) for number in read.chosen(options.limit)]
        for read in reads
    }
    try:
        return overlaps(texts, model.training())
    except DataError as error:
        say(f"overlap with the training text: not known, {error}")
        return {}


def bare(example: str) -> str:
    """A question and its answer without the marks of our own, which no other text would have."""
    return re.sub(r"^(Q|Question|Passage):|\n+(A|[Aa]nswer|[Qq]uestion):", "\n", example)


def worth(model: Model, lines: list[Line], say: Callable[[str], None]) -> None:
    """Why the figures may or may not be compared with those beside them."""
    systems = {line.published["system"]: line.published for line in lines if line.published}
    for name, row in systems.items():
        told = differences(model.parameters, model.tokens, row)
        verdict = f"not comparable: {'; '.join(told)}" if told else "comparable in size and tokens"
        say(f"with {name}: {verdict}")
    for name in dict.fromkeys(line.read.task.name for line in lines):
        if told := remarks([line for line in lines if line.read.task.name == name]):
            say(f"{name}: {'; '.join(told)}")
