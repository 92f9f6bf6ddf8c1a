"""What a task gains from pre-training, and from which: the comparisons of BERT, GPT-1 and GPT-2.

A few models are pre-trained on one corpus, each is fine-tuned on some tasks under several seeds,
and the means and deviations over the seeds are told. Every member is an ordinary run directory:

    <workdir>/pretrained/<name>              the models, trained once
    <workdir>/<task>/<case>/<seed>           the tasks
    <workdir>/table.md, figure.svg, summary.json

A member that has its summary is done; the same command goes on with the others.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from lm.core.config import assignment, bind, require
from lm.core.paths import read_summary, write_whole
from lm.data.tasks import read
from lm.evals.published import gap, of_case
from lm.metrics.spread import by_chance, clear, over_seeds
from lm.report.bars import Bar, draw_bars
from lm.report.markdown import table, with_deviation
from lm.studies.several import alone, begin, check_distinct, fixed, run_member
from lm.train.finetune import Finetune
from lm.train.masked import MaskedPretrain
from lm.train.pretrain import Pretrain
from lm.train.process import Process

APART = (  # why a gap is no measure of the method
    "\nA published figure is of that paper's sizes, texts and split; each model here is of the "
    "study's size and text, and read on the items that it holds out.\n"
)

DIFFERENCE = ("case", "less case", "seed by seed", "mean ± deviation", "apart by over twice it")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transfer:
    """Pre-trained models, and cases of fine-tuning them."""

    title: str
    bert: MaskedPretrain
    gpt1: Pretrain
    lstm: Pretrain
    bert_tuning: Finetune
    gpt1_tuning: Finetune  # of the LSTM as well
    corpus: str = "novels"  # that all of them read; also `data.train` of their configs
    root: str = "data"  # the folder of task data
    # name, which of the three it is, and what is bound otherwise: ("words", "bert", "a=1 b=2")
    variants: tuple[tuple[str, str, str], ...] = ()
    # label, which model (one of the three, or a variant), and bindings of its fine-tuning
    cases: tuple[tuple[str, str, str], ...]
    tasks: tuple[tuple[str, str], ...]  # name, and bindings of its fine-tuning
    seeds: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        names = ["bert", "gpt1", "lstm", *(name for name, _, _ in self.variants)]
        for label, model, _ in self.cases:
            require(model in names, f"case {label!r}: no model {model!r}; there are {names}")
        for name, of, _ in self.variants:
            require(of in names[:3], f"variant {name!r}: {of!r} is not one of {names[:3]}")
        check_distinct(
            variants=names, cases=[slug(label) for label, _, _ in self.cases],
            tasks=[name for name, _ in self.tasks], seeds=self.seeds,
        )  # fmt: skip

    # --------------------------------------------------------------- members

    def pretrainings(self) -> dict[str, MaskedPretrain | Pretrain]:
        """The models that the cases need, by name."""
        bases = {"bert": self.bert, "gpt1": self.gpt1, "lstm": self.lstm}
        made = {name: (name, "") for name in bases} | {
            name: (of, bindings) for name, of, bindings in self.variants
        }
        needed = dict.fromkeys(model for _, model, _ in self.cases)
        return {
            name: bound(bases[made[name][0]], made[name][1], {"data.train": self.corpus})
            for name in needed
        }

    def tunings(self, workdir: Path) -> dict[tuple[str, str, int], Finetune]:
        """Every fine-tuning, by task, case and seed."""
        models = self.pretrainings()
        found = {}
        for task, task_bindings in self.tasks:
            for label, model, bindings in self.cases:
                masked = isinstance(models[model], MaskedPretrain)
                base = self.bert_tuning if masked else self.gpt1_tuning
                data = {"data.name": task, "data.root": self.root}
                tuning = bound(base, task_bindings, data)
                tuning = replace(bound(tuning, bindings), init=str(workdir / "pretrained" / model))
                for seed in self.seeds:
                    found[task, label, seed] = replace(tuning, seed=seed)
        return found

    # ------------------------------------------------------------------- run

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Runs the members that are not done, and tells what came out.

        Raises:
          ConfigError, DataError: before any member runs, no such task or no files of it.
        """
        process = process or Process()
        with alone(workdir, process):
            begin(workdir, self, self.done(workdir))
            members: dict[Path, Any] = {
                workdir / "pretrained" / name: experiment
                for name, experiment in self.pretrainings().items()
            }
            tunings = self.tunings(workdir)
            left = [
                tuning for key, tuning in tunings.items()
                if read_summary(place(workdir, *key) / "summary.json") is None
            ]  # fmt: skip
            for data in dict.fromkeys(tuning.data for tuning in left):
                read(data)
            members |= {place(workdir, *key): tuning for key, tuning in tunings.items()}
            for number, (folder, experiment) in enumerate(members.items(), start=1):
                told = f"{number} of {len(members)}: {folder.relative_to(workdir)}"
                run_member(experiment, folder, process, told)
            if jax.process_index() == 0:
                self.tell(workdir)

    def done(self, workdir: Path) -> list[str]:
        """How the bindings begin of which there are results."""
        kinds = {name: name for name in ("bert", "gpt1", "lstm")}
        kinds |= {name: of for name, of, _ in self.variants}
        made: dict[str, list[str]] = {
            f"pretrained/{name}/summary.json": [f"{of}.", "corpus", "variants"]
            for name, of in kinds.items()
        }
        tuned = ["bert_tuning.", "gpt1_tuning.", "root", "cases", "tasks"]
        return fixed(workdir, made | {"*/*/*/summary.json": tuned}, pooled=True)

    def tell(self, workdir: Path) -> None:
        """Gathers the members' figures into a table, a figure and a summary."""
        rows, bars, summary = [], [], {}
        above: list[Sequence[str]] = []
        for task, _ in self.tasks:
            scores: dict[str, list[float]] = {}
            for label, _, _ in self.cases:
                files = [place(workdir, task, label, seed) / "summary.json" for seed in self.seeds]
                summaries = [json.loads(file.read_text()) for file in files]
                metric = summaries[0]["metric"]
                values = scores[label] = [one[metric] for one in summaries]
                mean, deviation = over_seeds(values)
                published = [
                    {name: row[name] for name in ("system", "value", "source")}
                    | {"gap": gap(mean, row)}
                    for row in of_case(task, metric, label)
                ]
                summary[f"{task}/{label}"] = {
                    "metric": metric, "mean": mean, "deviation": deviation, "values": values,
                    "published": published,
                }  # fmt: skip
                each = " ".join(f"{v:.3f}" for v in values)
                beside = "; ".join(
                    f"{row['value']:.3f}, gap {row['gap']:+.3f} ({row['system']}, {row['source']})"
                    for row in published
                )
                cells = (task, metric, label, with_deviation(mean, deviation), each, beside or "-")
                rows.append(cells)
                bars.append(Bar(f"{task} ({metric})", label, mean, deviation or 0.0))
            above += [(task, *cells) for cells in differences(scores)]
        header = ("task", "metric", "case", f"mean ± deviation, {len(self.seeds)} seeds", "each")
        told = "\n".join(table((*header, "published"), rows)) + "\n" + APART
        if above:
            told += "\n" + "\n".join(table(("task", *DIFFERENCE), above)) + "\n"
            told += (
                f"\nOf differences that are nothing but noise {by_chance(len(self.seeds)):.1%} are "
                f"so far apart with {len(self.seeds)} seeds; {len(above)} are compared here.\n"
            )
        write_whole(workdir / "table.md", told)
        write_whole(workdir / "figure.svg", draw_bars(self.title, bars))
        write_whole(workdir / "summary.json", json.dumps(summary, indent=1) + "\n")
        print(f"{told}{workdir}/table.md, {workdir}/figure.svg")


def differences(scores: Mapping[str, Sequence[float]]) -> list[tuple[str, ...]]:
    """Rows of what one case scores above another in the same seeds: each above itself from scratch
    where that was run, and the first above every other. None of one seed. case -> [seeds]"""
    first = next(iter(scores))
    rows: list[tuple[str, ...]] = []
    for label, values in scores.items():
        plain = label.removesuffix(" from scratch")
        over = plain if plain in scores and plain != label else first
        if label == over or len(values) < 2:
            continue
        gains = [ours - theirs for ours, theirs in zip(scores[over], values, strict=True)]
        mean, deviation = over_seeds(gains)
        each = " ".join(f"{gain:+.3f}" for gain in gains)
        apart = "yes" if clear(abs(mean), deviation) else "no"
        rows.append((over, label, each, with_deviation(mean, deviation), apart))
    return rows


def bound(experiment: Any, bindings: str, values: Mapping[str, Any] | None = None) -> Any:
    """An experiment with `name=value` bindings, separated by blanks, and before them with values
    that may have blanks."""
    given = dict(assignment(binding) for binding in bindings.split())
    return bind(experiment, {**(values or {}), **given})


def place(workdir: Path, task: str, label: str, seed: int) -> Path:
    return workdir / task / slug(label) / str(seed)


def slug(label: str) -> str:
    """A label as the name of a folder."""
    return re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-").lower()
