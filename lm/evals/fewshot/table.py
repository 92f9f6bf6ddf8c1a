"""The table of an evaluation, and whether its figures may stand beside the paper's."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lm.evals.fewshot.contamination import Overlap
from lm.evals.fewshot.evaluation import Summary
from lm.evals.fewshot.task import TaskItems
from lm.evals.protocols import Choose, Write
from lm.evals.published import gap, nearest

TOKENS = 300_000_000_000  # that every GPT-3 was trained on (section 2.1)
CLOSE = 1.25  # sizes that are called the same
HEAD = (
    f"{'task':26}{'shots':>7}{'used':>7}{'items':>7}  {'score':17}{'chance':>7}{'paper':>7}"
    f"{'gap':>8}  {'of':14}{'overlap':>8}"
)


@dataclasses.dataclass(frozen=True)
class Line:
    """A task with one number of examples."""

    read: TaskItems
    label: str  # the number of examples as it was asked for
    summary: Summary
    published: dict[str, Any] | None
    overlap: Overlap | None

    @classmethod
    def of(
        cls, read: TaskItems, label: str, summary: Summary, parameters: int,
        overlap: Overlap | None,
    ) -> "Line":  # fmt: skip
        setting = {"0": "zero", "1": "one", "few": "few"}.get(label, label)
        row = nearest("gpt3", read.task.name, summary.metric, setting, parameters)
        return cls(read, label, summary, row, overlap)

    @property
    def means(self) -> dict[str, tuple[float, float | None]]:
        """Of every metric of the task, where there is an item, with its standard error."""
        found = {name: self.summary.mean(metric=name) for name in self.summary.rights}
        return {name: mean for name, mean in found.items() if mean is not None}

    @property
    def scores(self) -> dict[str, float]:
        return {name: score for name, (score, _) in self.means.items()}

    @property
    def chance(self) -> float | None:
        """Of guessing among the answers; of whether a noun is named, that of naming none, which is
        right where none is meant."""
        protocol = self.read.task.protocol
        items = [self.read.items[number] for number in self.summary.numbers]
        if items and isinstance(protocol, Write) and protocol.compare == "noun":
            return sum(item.answers[1] == ("false",) for item in items) / len(items)
        if not items or not isinstance(protocol, Choose) or self.summary.metric != "accuracy":
            return None
        ways = [max(len(item.contexts), len(item.completions)) for item in items]
        return sum(1 / way for way in ways) / len(ways)

    @property
    def gap(self) -> float | None:
        """By how much the score is above the published one."""
        found = self.summary.mean()
        return gap(found[0] if found else None, self.published)

    def __str__(self) -> str:
        task, found = self.read.task, self.summary.mean()
        shots = f"few={task.shots}" if self.label == "few" else self.label
        score = "no item fits" if found is None else f"{found[0]:.3f}"
        if found and found[1] is not None:
            score += f" ± {found[1]:.3f}"
        share = self.overlap.share if self.overlap else None
        row = self.published
        return (
            f"{task.name:26}{shots:>7}{self.summary.used:7.1f}{len(self.summary.numbers):7}  "
            f"{score:17}{number(self.chance):>7}{number(row['value'] if row else None):>7}"
            f"{number(self.gap, '+'):>8}  {row['system'] if row else '-':14}"
            f"{'-' if share is None else f'{share:.1%}':>8}"
        ).rstrip()

    def figures(self) -> dict[str, Any]:
        """The same for a program."""
        found = self.summary.mean()
        told: dict[str, Any] = {
            "task": self.read.task.name,
            "data": self.read.digest,
            "asked": self.label,
            "shots": self.summary.shots,
            "used": self.summary.used,
            "items": len(self.summary.numbers),
            "refused": self.summary.refused,
            "failed": self.summary.failed,
            "shortened": self.summary.shortened,
            "cut": self.summary.cut,
            "metric": self.summary.metric,
            "score": found[0] if found else None,
            "standard_error": found[1] if found else None,
            "scores": self.scores,
            "standard_errors": {name: error for name, (_, error) in self.means.items()},
            "chance": self.chance,
            "published": self.published,
            "gap": self.gap,
        }
        if self.overlap is not None:
            told["overlap"] = self.overlap.share
            for name, chosen in (("clean", ~self.overlap.found), ("dirty", self.overlap.found)):
                some = self.summary.mean(chosen)
                told[f"{name}_score"] = some[0] if some else None
                told[f"{name}_items"] = int(chosen.sum())
        return told


def gaps(line: Line, values: Mapping[str, float]) -> dict[str, float]:
    """By how much a score is above each of several systems'; none where no item fits."""
    found = line.summary.mean()
    return {} if found is None else {name: found[0] - value for name, value in values.items()}


def number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"


def size(value: float) -> str:
    """1234567 as 1.23M."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.0f}"


def differences(parameters: int, tokens: int | None, published: dict[str, Any]) -> list[str]:
    """In what the model is not the one of the paper, in words."""
    told, ratio = [], parameters / published["parameters"]
    if not 1 / CLOSE < ratio < CLOSE:
        told.append(f"{size(parameters)} parameters against {size(published['parameters'])}")
    if tokens is None:
        told.append(f"how many tokens is not known, against {size(TOKENS)}")
    elif tokens < TOKENS / CLOSE:
        told.append(f"{size(tokens)} tokens of training against {size(TOKENS)}")
    return told


def remarks(lines: list[Line]) -> list[str]:
    """In what the items and prompts of a task are not those of the paper, in words."""
    read, told = lines[0].read, []
    task = read.task
    if read.generated:
        told.append(f"{len(read.items):,} items made here, the released file is not there")
    elif task.whole and len(read.items) < task.whole:
        told.append(f"{len(read.items):,} rows of the published {task.whole:,}")
    asked = max(len(line.summary.numbers) + line.summary.refused for line in lines)
    if asked < len(read.items):
        told.append(f"{asked:,} of them asked")
    if task.examples and not read.pool and any(line.summary.shots for line in lines):
        told.append("examples are other items of the same file")
    if task.remark:
        told.append(task.remark)
    for line in lines:
        found = line.summary
        if found.shortened:
            told.append(f"{line.label}: {found.shortened} prompts lost examples to fit")
        if found.refused:
            told.append(f"{line.label}: {found.refused} items refused, longer than the context")
        if found.failed:
            told.append(
                f"{line.label}: {found.failed} items longer than the context, taken as wrong"
            )
        if found.cut:
            told.append(f"{line.label}: {found.cut} contexts cut from the left")
    dirty = [line for line in lines if line.overlap is not None and line.overlap.found.any()]
    for line in dirty:
        own = line.figures()
        told.append(
            f"{line.label}: {number(own['clean_score'])} of the {own['clean_items']} without "
            f"the overlapping, {number(own['dirty_score'])} of those {own['dirty_items']}"
        )
    return told
