"""GPT-4's text side: the tasks of the report's table 2 that are at hand (OpenAI 2023)."""

from collections.abc import Callable
from dataclasses import replace

from lm.evals.fewshot.evaluation import evaluate as evaluate_task
from lm.evals.fewshot.gpt4 import TASKS
from lm.evals.fewshot.ledger import Ledger
from lm.evals.fewshot.table import Line, gaps, number, remarks, size
from lm.evals.fewshot.task import Task
from lm.evals.protocols import NO_MODULE, Program
from lm.evals.published import figures
from lm.evals.suites import Model, Options, write_table
from lm.evals.suites.gpt3 import chosen, contamination

COLD, WARM = 0.2, 0.8  # temperatures of programs for pass@1, and for pass@k
SYSTEMS = ("GPT-4", "GPT-3.5")
HEAD = (
    f"{'task':15}{'metric':13}{'shots':>6}{'used':>6}{'items':>7}  {'score':17}{'chance':>7}"
    f"{SYSTEMS[0]:>8}{SYSTEMS[1]:>8}{'overlap':>9}"
)


def evaluate(model: Model, options: Options, say: Callable[[str], None]) -> list[Line]:
    """Asks the tasks with the report's numbers of examples (`options.shots` is not of this suite),
    and tells a line for each as it comes.

    Outcomes of items go to `OUT/gpt4_text-step<step>.jsonl`, from which an interrupted evaluation
    goes on; the table goes to `OUT/gpt4_text-step<step>.json`.

    Raises:
      ConfigError: an unknown task.
      DataError: no data of a task that was named, or malformed rows.
    """
    tasks = tuple(drawn(task, options) for task in TASKS)
    reads = [task.read(options.root) for task in chosen(options, say, tasks)]
    with Ledger(options.out / f"gpt4_text-step{model.step}.jsonl") as ledger:
        found = contamination(model, options, reads, say)
        say(HEAD)
        lines = []
        for read in reads:
            summary = evaluate_task(
                read, read.task.shots, scorer=model.scorer, model=model.digest, seed=options.seed,
                limit=options.limit, ledger=ledger,
            )  # fmt: skip
            overlap = found.get(read.task.name)
            if overlap is not None:
                overlap = overlap.of(read.chosen(options.limit), summary.numbers)
            lines.append(Line(read, "few", summary, None, overlap))
            say(row(lines[-1]))
    say(
        f"GPT-4's size, data and compute are not published: its figures are for reference; this "
        f"model has {size(model.parameters)} parameters"
    )
    for line in lines:
        if told := remarks([line]) + modules(line):
            say(f"{line.read.task.name}: {'; '.join(told)}")
    table = options.out / f"gpt4_text-step{model.step}.json"
    rows = [
        line.figures() | {"published": beside, "gap": gaps(line, beside)}
        for line in lines
        for beside in [published(line)]
    ]
    write_table(table, rows, model, options)
    say(f"items in {ledger.path}, table in {table}")
    return lines


def drawn(task: Task, options: Options) -> Task:
    """A task of programs with so many of them a problem, drawn as Chen et al. (2021) found best;
    any other as it is."""
    if not isinstance(task.protocol, Program) or options.samples == 1:
        return task
    temperature = COLD if options.k == 1 else WARM
    return replace(
        task, remark=f"{options.samples} programs a problem, drawn at temperature {temperature}; "
        "the report does not say how it drew",
        protocol=replace(
            task.protocol, samples=options.samples, k=options.k, temperature=temperature
        ),
        version=3,  # drawn by the seed and the item's number
    )  # fmt: skip


def modules(line: Line) -> list[str]:
    """How many programs failed for what another harness may have, in words."""
    share = line.scores.get(NO_MODULE)
    if share is None:
        return []
    return [
        "programs import what Python itself has, in human-eval's harness also what its caller has "
        f"installed: {share:.1%} failed for a module that is not there"
    ]


def row(line: Line) -> str:
    summary, found, beside = line.summary, line.summary.mean(), published(line)
    score = "no item fits" if found is None else f"{found[0]:.3f}"
    if found and found[1] is not None:
        score += f" ± {found[1]:.3f}"
    share = line.overlap.share if line.overlap else None
    return (
        f"{line.read.task.name:15}{summary.metric:13}{summary.shots:6}{summary.used:6.1f}"
        f"{len(summary.numbers):7}  {score:17}{number(line.chance):>7}"
        + "".join(f"{number(beside.get(name)):>8}" for name in SYSTEMS)
        + f"{'-' if share is None else f'{share:.1%}':>9}"
    )


def published(line: Line) -> dict[str, float]:
    """What the report prints, by system."""
    wanted = ("gpt4", line.read.task.name, line.summary.metric)
    return {
        row["system"]: row["value"]
        for row in figures()
        if (row["family"], row["task"], row["metric"]) == wanted
    }
