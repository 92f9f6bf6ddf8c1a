"""What sparse attention costs in quality: loss by position, recall by distance (Child et al. 2019
and GPT-3 leave it unmeasured).

The same model is trained with each pattern, on as many tokens: on novels, on associative recall,
and as the control on rows of recall that the reach of the band covers. A banded layer of width w
looks w - 1 tokens back, so L of them reach L (w - 1) and not one more.

    <workdir>/<task>/<pattern>/<seed>    the members, ordinary runs, each with its measured.json
    <workdir>/table.md, figure.svg, summary.json

A member that has its summary is done; the same command goes on with the others.
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from lm.core.config import require
from lm.core.paths import write_whole
from lm.metrics.spread import over_seeds
from lm.models.gpt import GptConfig
from lm.nn.config import LayerPattern
from lm.report.markdown import table, with_deviation
from lm.report.panels import Band, Panel, draw_panels
from lm.studies.several import alone, begin, check_distinct, fixed, run_member
from lm.studies.sparse_measures import measured, reach, spanned
from lm.studies.sparse_verdict import Verdict
from lm.studies.transfer import slug
from lm.train.pretrain import Pretrain
from lm.train.process import Process, write_for_all
from lm.train.recall import Recall

NOVELS, RECALL, CONTROL = "novels", "recall", "control"
MEASURED = "measured.json"
MADE_WITH = {
    "*/*/*/summary.json": ["novels.", "recall.", "corpus", "patterns"],
    f"*/*/*/{MEASURED}": ["held_out"],
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseCritique:
    """One model, and the patterns that its layers take in turn."""

    novels: Pretrain
    recall: Recall
    corpus: str = "novels"
    patterns: tuple[tuple[str, tuple[LayerPattern, ...]], ...]  # label, patterns of the layers
    controlled: tuple[str, ...] = ("dense", "banded")  # labels that are trained on the control
    seeds: tuple[int, ...] = (0, 1, 2)
    bins: int = 16  # of positions and distances, in the table and the figure
    held_out: int = 256  # rows that a member is measured on

    def __post_init__(self) -> None:
        labels = [label for label, _ in self.patterns]
        check_distinct(patterns=[slug(label) for label in labels], seeds=self.seeds)
        unknown = sorted(set(self.controlled) - set(labels))
        require(not unknown, f"controlled {unknown} are no labels of {labels}")
        for task, model in ((NOVELS, self.novels.model), (RECALL, self.recall.model)):
            if isinstance(model, GptConfig):
                require(
                    reach(model) + max(self.bins, model.band) < model.length,
                    f"{task}: {model.layers} layers of band {model.band} reach {reach(model)} "
                    f"tokens back, which leaves too few of {model.length} beyond it for a band and "
                    f"{self.bins} bins",
                )
        require(
            self.novels.batch > 1,
            f"novels.batch {self.novels.batch} must be 2 or more: the far tokens of a row are "
            "exchanged for those of another",
        )

    # --------------------------------------------------------------- members

    def members(self) -> dict[tuple[str, str, int], Pretrain | Recall]:
        """Every run, by task, label and seed; the seeds outermost, so that a part is a study."""
        within = replace(self.recall.model, length=reach(self.recall.model))
        tasks: dict[str, Pretrain | Recall] = {
            RECALL: self.recall,
            NOVELS: replace(self.novels, data=replace(self.novels.data, train=self.corpus)),
            CONTROL: replace(self.recall, model=within),
        }
        found: dict[tuple[str, str, int], Pretrain | Recall] = {}
        for seed in self.seeds:
            for task, base in tasks.items():
                for label, pattern in self.patterns:
                    if task != CONTROL or label in self.controlled:
                        assert isinstance(base.model, GptConfig)
                        model = replace(base.model, pattern=pattern)
                        found[task, label, seed] = replace(base, model=model, seed=seed)
        return found

    # ------------------------------------------------------------------- run

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Runs the members that are not done, measures each, and tells what came out."""
        process = process or Process()
        with alone(workdir, process):
            begin(workdir, self, fixed(workdir, MADE_WITH, pooled=True))
            members = self.members()
            for number, (key, member) in enumerate(members.items(), start=1):
                folder = place(workdir, *key)
                told = f"{number} of {len(members)}: {folder.relative_to(workdir)}"
                run_member(member, folder, process, told)
                if not (folder / MEASURED).exists():
                    found = measured(folder, self.held_out)
                    write_for_all(folder / MEASURED, json.dumps(found) + "\n")
            if jax.process_index() == 0:
                self.tell(workdir)

    def tell(self, workdir: Path) -> None:
        """Gathers what the members measured into a table, a figure and a summary."""
        found = {
            key: json.loads((place(workdir, *key) / MEASURED).read_text()) for key in self.members()
        }
        labels = [label for label, _ in self.patterns]

        def over(task: str, label: str, name: str) -> np.ndarray:
            """One figure of every seed; `above:NAME` less that of the first pattern. [seeds ...]"""
            if name.startswith("above:"):
                name = name.removeprefix("above:")
                return over(task, label, name) - over(task, labels[0], name)
            return np.array([found[task, label, seed][name] for seed in self.seeds], np.float64)

        for label, pattern in self.patterns:
            unspanned = ~spanned(replace(self.recall.model, pattern=pattern))
            for seed in self.seeds:
                one = found[RECALL, label, seed]
                asked, right = (np.array(one[name])[unspanned] for name in ("asked_at", "right_at"))
                one["right_unspanned"] = right.sum() / asked.sum() if asked.sum() else np.nan
        columns = [(task, *column) for task, some in COLUMNS.items() for column in some]
        rows, summary = [], {}
        for label in labels:
            cells = []
            for task, name, _ in columns:
                if task == CONTROL and label not in self.controlled:
                    cells.append("")
                    continue
                values = over(task, label, name)
                if np.isnan(values).any():  # nothing of the kind was asked
                    cells.append("")
                    continue
                mean, deviation = over_seeds(values)
                summary[f"{task}/{label}/{name}"] = {
                    "mean": mean, "deviation": deviation, "values": values.tolist(),
                }  # fmt: skip
                cells.append(with_deviation(mean, deviation))
            rows.append((label, *cells))
        header = ("pattern", *(f"{task}: {title}" for task, _, title in columns))
        verdict = self.verdict(over)
        said = "nothing is said of what was not trained" if verdict is None else verdict.line()
        told = "\n".join([said, "", *table(header, rows)]) + "\n"
        write_whole(workdir / "table.md", told)
        write_whole(workdir / "figure.svg", draw_panels(TITLE, self.panels(over)))
        write_whole(workdir / "summary.json", json.dumps(summary, indent=1) + "\n")
        print(f"{told}{workdir}/table.md, {workdir}/figure.svg")

    def verdict(self, over: Callable[[str, str, str], np.ndarray]) -> Verdict | None:
        """The rule over recall and its control; None where one of the patterns that it is about,
        dense, banded and both in turn, is not among the study's."""
        labels = {pattern: label for label, pattern in self.patterns}
        dense, banded = (labels.get((pattern,)) for pattern in ("dense", "banded"))
        both = labels.get(("dense", "banded"), labels.get(("banded", "dense")))
        if dense is None or banded is None or both is None:
            return None
        if not {dense, banded} <= set(self.controlled):
            return None

        def of(task: str, label: str, name: str) -> list[float]:
            return over(task, label, name).tolist()

        return Verdict(
            chance=1 / self.recall.data.values,
            dense=of(RECALL, dense, "right_beyond"), banded=of(RECALL, banded, "right_beyond"),
            alternating=of(RECALL, both, "right_beyond"),
            dense_within=of(RECALL, dense, "right_within"),
            banded_within=of(RECALL, banded, "right_within"),
            dense_control=of(CONTROL, dense, "right"),
            banded_control=of(CONTROL, banded, "right"),
        )  # fmt: skip

    def panels(self, over: Callable[[str, str, str], np.ndarray]) -> list[Panel]:
        """Loss by position above the first pattern's, seed by seed, and recall by distance."""
        novels, recall = self.novels.model, self.recall.model
        assert isinstance(novels, GptConfig)
        first = over(NOVELS, self.patterns[0][0], "loss_at")
        losses, recalls = [], []
        for colour, (label, _) in enumerate(self.patterns):
            above = binned(over(NOVELS, label, "loss_at") - first, self.bins)
            losses.append(band(label, novels, above, self.bins, colour))
            right, asked = (over(RECALL, label, name) for name in ("right_at", "asked_at"))
            shares = binned(right, self.bins) / np.maximum(binned(asked, self.bins), 1e-9)
            recalls.append(band(label, recall, shares, self.bins, colour))
        axis = f"nats a byte above {self.patterns[0][0]}"

        def panel(title: str, x: str, y: str, bands: list[Band], model: GptConfig) -> Panel:
            return Panel(title, x, y, bands, marks=[(float(reach(model)), "reach of the band")])

        return [
            panel("Novels", "position in the window (bytes)", axis, losses, novels),
            panel("Recall", "distance of the fact (tokens)", "share right", recalls, recall),
        ]


# What the table shows of each task: name of the figure, and its title.
COLUMNS = {
    RECALL: (
        ("right_near", "in the band"),
        ("right_within", "within reach"),
        ("right_beyond", "beyond reach"),
        ("right_unspanned", "where no path leads"),
    ),
    CONTROL: (("right", "all within reach"),),
    NOVELS: (
        ("loss", "nats a byte"),
        ("above:loss_within", "above the first, within reach"),
        ("above:loss_beyond", "above the first, beyond reach"),
        ("far_gain", "gain of what is beyond"),
    ),
}
TITLE = "What sparse attention costs in quality"


def binned(values: np.ndarray, bins: int) -> np.ndarray:
    """Means over consecutive parts of the last axis, of equal length but for the last one."""
    edges = np.arange(bins) * -(-values.shape[-1] // bins)
    edges = edges[edges < values.shape[-1]]
    sizes = np.diff(edges, append=values.shape[-1])
    return np.add.reduceat(values, edges, axis=-1) / sizes


def band(label: str, model: GptConfig, values: np.ndarray, bins: int, colour: int) -> Band:
    """Mean and deviation over the seeds of values [seeds bins], each at the middle of its bin."""
    x = (np.arange(values.shape[-1]) + 0.5) * -(-model.length // bins)
    spread = values.std(0, ddof=1).tolist() if len(values) > 1 else ()
    return Band(label, x.tolist(), values.mean(0).tolist(), spread, colour)


def place(workdir: Path, task: str, label: str, seed: int) -> Path:
    return workdir / task / slug(label) / str(seed)
