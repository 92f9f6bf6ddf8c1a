"""GPT-2's zero-shot tasks (Radford et al. 2019, section 3), each by its own protocol."""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lm.core.errors import ConfigError, DataError
from lm.data.overlap import GramIndex
from lm.evals.fewshot.ledger import Ledger
from lm.evals.fewshot.table import CLOSE, size
from lm.evals.published import gap, nearest
from lm.evals.suites import Model, Options, write_table
from lm.evals.zeroshot.corpora import CORPORA, corpus_text, first_lines
from lm.evals.zeroshot.figure import Figure
from lm.evals.zeroshot.prompts import NothingFits
from lm.evals.zeroshot.tasks import TASKS, ZeroShot

GRAM = 8  # words (section 4)
TOLD = 100_000_000  # characters of the training text, after which it is said how many were read
BRACKET, CLITIC = re.compile(r"-[lr][rsc]b-"), re.compile(r"n ?['’]t\b")
HEAD = f"{'task':19}{'metric':19}{'items':>7}  {'value':19}{'paper':>8} {'gap':>9}  of"


@dataclasses.dataclass(frozen=True)
class Line:
    """A figure of a task beside the one that was published of the nearest size."""

    task: str
    data: str  # a digest of its files
    figure: Figure
    published: dict[str, Any] | None
    overlap: float | None = None  # share of a corpus's grams that the training text has

    @property
    def gap(self) -> float | None:
        """By how much the value is above the published one."""
        return gap(self.figure.value, self.published)

    def __str__(self) -> str:
        figure, row = self.figure, self.published
        value = f"{figure.value:.4g}"
        if figure.error is not None:
            value += f" ± {figure.error:.2g}"
        told = f"{row['value']:.4g}" if row else "-"
        return (
            f"{self.task:19}{figure.metric:19}{figure.items:7}  {value:19}{told:>8} "
            f"{'-' if self.gap is None else f'{self.gap:+.3g}':>9}  {row['system'] if row else '-'}"
        )

    def figures(self) -> dict[str, Any]:
        """The same for a program."""
        own = dataclasses.asdict(self.figure)
        told = {"published": self.published, "gap": self.gap, "overlap": self.overlap}
        return {"task": self.task, "data": self.data, **own, **told}


def evaluate(model: Model, options: Options, say: Callable[[str], None] = print) -> list[Line]:
    """Runs the tasks, and tells a line for each figure as it comes, then what it is worth.

    Figures of whole tasks go to `OUT/gpt2-step<step>.jsonl`, from which an interrupted evaluation
    goes on; the table goes to `OUT/gpt2-step<step>.json`. The number of examples is not of this
    suite.

    Raises:
      ConfigError: an unknown task, or one that needs a package that is missing.
      DataError: no data of a task that was named, none of its items fits, or malformed rows.
    """
    tasks = chosen(model, options, say)
    with Ledger(options.out / f"gpt2-step{model.step}.jsonl") as ledger:
        overlap = contamination(model, options, tasks, ledger, say)
        say(HEAD)
        lines = []
        for task in tasks:
            data = digest(task.paths(options.root))
            try:
                found = figures(task, data, model, options, ledger)
            except NothingFits as error:
                if options.tasks:
                    raise
                say(f"left out: {task.name}: {error}")
                continue
            for figure in found:
                row = nearest("gpt2", task.name, figure.metric, "zero", model.parameters)
                lines.append(Line(task.name, data, figure, row, overlap.get(task.name)))
                say(str(lines[-1]))
    if not lines:
        raise DataError(f"no item of any task fits the model's context of {model.scorer.length}")
    there = {line.task for line in lines}
    for line in worth(model, options, [task for task in tasks if task.name in there], lines):
        say(line)
    table = options.out / f"gpt2-step{model.step}.json"
    write_table(table, [line.figures() for line in lines], model, options)
    say(f"table in {table}")
    return lines


def chosen(model: Model, options: Options, say: Callable[[str], None]) -> list[ZeroShot]:
    """The tasks that are asked for; of all, those that can be run: with data, with the packages
    that they need, and on a model that reads as many tokens as they take, spelled as they are."""
    asked = options.named({task.name: task for task in TASKS})
    kept = []
    for task in asked or TASKS:
        try:
            task.paths(options.root)
            if task.needs:
                task.needs()
            if model.scorer.length < task.context:
                raise DataError(
                    f"{task.name} takes a context of {task.context} tokens, and the model's is "
                    f"{model.scorer.length}"
                )
            if task.spelled and not model.scorer.tokenizer.lossless:
                raise DataError(
                    f"{task.name} is of the text as it is spelled, and the run's "
                    f"{model.scorer.tokenizer.kind} vocabulary does not give a text back as it was"
                )
        except (ConfigError, DataError) as error:
            if asked:
                raise
            say(f"left out: {error}")
            continue
        kept.append(task)
    if not kept:
        raise DataError(f"no task data in {options.root}; name the folder with --root")
    return kept


def contamination(
    model: Model, options: Options, tasks: Sequence[ZeroShot], ledger: Ledger,
    say: Callable[[str], None],
) -> dict[str, float | None]:  # fmt: skip
    """Of each corpus that is one text, the share of its different runs of 8 words that stand in the
    training text (section 4), from the ledger where it has it; without those that are not looked
    for or where that text cannot be read, which is said."""
    corpora = [task for task in tasks if task.name in CORPORA and not CORPORA[task.name].apart]
    rows: dict[str, dict[str, Any]] = {}
    for task in corpora:
        asked = f"{model.digest}:{digest(task.paths(options.root))}:{options.limit}"
        key = {"task": f"{task.name}_overlap", "shots": 0, "seed": 0, "of": asked, "number": 0}
        rows[task.name] = ledger.row(*key.values()) or key
    absent = [task for task in corpora if "share" not in rows[task.name]]
    if absent and not options.overlap:
        say("overlap with the training text: not looked for")
    elif absent:
        index = GramIndex((text_of(task, options) for task in absent), GRAM)
        try:
            index.scan(normalised(model.training(), say))
        except DataError as error:
            say(f"overlap with the training text: not known, {error}")
        else:
            for task, share in zip(absent, index.shares(), strict=True):
                rows[task.name]["share"] = share
            ledger.add(rows[task.name] for task in absent)
    return {name: row["share"] for name, row in rows.items() if "share" in row}


def text_of(task: ZeroShot, options: Options) -> str:
    """What is asked of a corpus's test part, in words of the report's form."""
    corpus = CORPORA[task.name]
    text = corpus_text(corpus, task.paths(options.root)[0])
    return words("".join(first_lines(text, options.limit)[0]))


def normalised(documents: Iterable[str], say: Callable[[str], None]) -> Iterator[str]:
    """Documents in words of the report's form; now and then it is said how much was read."""
    read = 0
    for text in documents:
        if (read + len(text)) // TOLD > read // TOLD:
            say(f"overlap: {size(read + len(text))} characters of the training text were read")
        read += len(text)
        yield words(text)


def words(text: str) -> str:
    """Lower-cased alphanumeric words with blanks between (section 4): of a text as people write it
    and of its word-by-word form the same, whose `@-@`, `-lrb-` and `do n't` are marks or cuts."""
    text = CLITIC.sub(" n t", BRACKET.sub(" ", text.lower()))
    return re.sub(r"[\W_]+", " ", text)


def figures(
    task: ZeroShot, data: str, model: Model, options: Options, ledger: Ledger
) -> list[Figure]:
    """The figures of a task on files of this digest, from the ledger where it has them."""
    asked = f"{model.digest}:{data}:{options.limit}"
    if task.version > 1:
        asked += f":{task.version}"
    row = ledger.row(task.name, 0, options.seed, asked, 0)
    if row is None:
        found = task.run(model.scorer, task.paths(options.root), options.limit, options.seed)
        row = {"task": task.name, "shots": 0, "seed": options.seed, "of": asked, "number": 0}
        row["figures"] = [dataclasses.asdict(figure) for figure in found]
        ledger.add([row])
    return [Figure(**values) for values in row["figures"]]


def digest(paths: Sequence[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:12]


def worth(
    model: Model, options: Options, tasks: Sequence[ZeroShot], lines: Sequence[Line]
) -> list[str]:
    """Why the figures may or may not be compared with those beside them, in words."""
    told = []
    systems = {line.published["system"]: line.published for line in lines if line.published}
    for name, row in systems.items():
        ratio = model.parameters / row["parameters"]
        if not 1 / CLOSE < ratio < CLOSE:
            sizes = f"{size(model.parameters)} parameters against {size(row['parameters'])}"
            told.append(f"with {name}: not comparable: {sizes}")
        else:
            told.append(f"with {name}: comparable in size")
    tokens = "nobody knows how many" if model.tokens is None else size(model.tokens)
    told.append(f"trained on {tokens} tokens; the report does not say how many WebText was read as")
    for task in tasks:
        path = task.paths(options.root)[0]
        about = [f"read from {path.relative_to(options.root)}"]
        found = [line.figure for line in lines if line.task == task.name]
        count = max(figure.items for figure in found)
        share = next(line.overlap for line in lines if line.task == task.name)
        if share is not None:
            about.append(f"{share:.1%} of its runs of {GRAM} words stand in the training text")
        if task.whole and count < task.whole:
            about.append(f"{count:,} items of the report's {task.whole:,}")
        if task.remark:
            about.append(task.remark)
        if cut := max(figure.cut for figure in found):
            about.append(f"{cut:,} contexts cut to fit the model's {model.scorer.length}")
        if refused := max(figure.refused for figure in found):
            about.append(f"{refused:,} prompts refused, longer than the context")
        about += dict.fromkeys(figure.remark for figure in found if figure.remark)
        told.append(f"{task.name}: {'; '.join(about)}")
    return told
