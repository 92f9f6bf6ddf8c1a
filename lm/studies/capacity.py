"""Zero, one and few examples over the size of the model: figure 1.2 of GPT-3 on one machine.

Models that differ only in size read one corpus of small tasks and prose, under a few seeds. Each is
then asked questions after 0, 1, ... examples in the context, and after examples that must not
help. Every member is an ordinary run directory:

    <workdir>/<size>/<seed>                   the models, and `answers.json`, what they answered
    <workdir>/report.md, figure.svg, summary.json

A member that has its answers is done; the same command goes on with the others.
"""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from lm.core.config import require, require_positive
from lm.core.mesh import make_mesh
from lm.data.puzzle_text import PuzzleText
from lm.data.puzzles import PUZZLES
from lm.evals.puzzles import CONDITIONS, Condition, ask, right
from lm.models.gpt import GptConfig
from lm.studies.capacity_report import Measured, write_report
from lm.studies.several import alone, begin, check_distinct, fixed, run_member
from lm.studies.transfer import bound
from lm.train.pretrain import Pretrain
from lm.train.process import Process, write_for_all
from lm.train.saved import read_run

ANSWERS = "answers.json"
MADE_WITH = {"*/*/summary.json": ["base.", "sizes"], f"*/*/{ANSWERS}": ["shots", "items"]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Capacity:
    """A ladder of models, and what they are asked."""

    title: str
    base: Pretrain  # on a corpus of tasks
    sizes: tuple[tuple[str, str], ...]  # name, and bindings of the base, from small to large
    largest: str  # of them to be run
    seeds: tuple[int, ...] = (0, 1, 2)  # of initial values and of the order of the corpus
    shots: tuple[int, ...] = (0, 1, 2, 4, 8)  # examples; "few" is the last, or what fits
    items: int = 64  # a task and number of examples

    def __post_init__(self) -> None:
        require_positive(self, "items")
        names = [name for name, _ in self.sizes]
        check_distinct(sizes=names, seeds=self.seeds)
        require(self.largest in names, f"largest {self.largest!r} is not one of {names}")
        require(
            self.shots[:2] == (0, 1)
            and len(self.shots) > 2
            and self.shots == tuple(sorted(set(self.shots))),
            f"shots {self.shots} must be 0, 1 and more, in ascending order",
        )
        require(
            isinstance(self.base.data, PuzzleText) and isinstance(self.base.model, GptConfig),
            "base must be a GPT that reads a corpus of tasks (lm.data.puzzle_text.PuzzleText)",
        )

    # --------------------------------------------------------------- members

    def members(self) -> dict[tuple[str, int], Pretrain]:
        """Every model, by size and seed: all sizes of the first seed come first."""
        names = [name for name, _ in self.sizes]
        some = self.sizes[: names.index(self.largest) + 1]
        models = {name: bound(self.base, bindings) for name, bindings in some}
        return {
            (name, seed): replace(model, seed=seed)
            for seed in self.seeds
            for name, model in models.items()
        }

    # ------------------------------------------------------------------- run

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Trains and asks the members that are not done, and tells what came out."""
        process = process or Process()
        with alone(workdir, process):
            begin(workdir, self, fixed(workdir, MADE_WITH, pooled=True))
            members = self.members()
            for number, ((size, seed), experiment) in enumerate(members.items(), start=1):
                folder = workdir / size / str(seed)
                told = f"{number} of {len(members)}: {size}/{seed}"
                run_member(experiment, folder, process, told)
                if not (folder / ANSWERS).exists():
                    self.ask(folder)
            self.tell(workdir)

    def ask(self, folder: Path) -> None:
        """Asks one model everything, and keeps how much of it was right."""
        mesh = make_mesh(self.base.mesh)
        saved = read_run(folder, mesh)
        assert saved.tokenizer is not None  # pre-training keeps it
        stock = saved.config.data.stock("valid")
        room = saved.config.model.length - 1  # the end token stands before the context
        cases: list[tuple[str, Condition, int]] = [
            (puzzle.name, condition, shots)
            for puzzle in PUZZLES
            for condition in CONDITIONS
            for shots in (self.shots if condition == "true" else self.shots[-1:])
        ]
        kinds = {puzzle.name: puzzle for puzzle in PUZZLES}
        asked = [
            ask(kinds[name], stock, item, shots, condition, room=room)
            for name, condition, shots in cases
            for item in range(self.items)
        ]
        with jax.set_mesh(mesh):
            found = right(saved.config.model, saved.params, saved.tokenizer, mesh, asked)
        rows = [
            {
                "puzzle": name, "condition": condition, "shots": shots, "items": self.items,
                "mean_shots": float(np.mean([question.shots for question in asked[first:last]])),
                "right": int(found[first:last].sum()),
            }
            for (name, condition, shots), first, last in (
                (case, number * self.items, (number + 1) * self.items)
                for number, case in enumerate(cases)
            )
        ]  # fmt: skip
        write_for_all(folder / ANSWERS, "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")

    def tell(self, workdir: Path) -> None:
        """Gathers the members' figures into a report, a figure and a summary."""
        measured = {}
        for (size, seed), experiment in self.members().items():
            folder = workdir / size / str(seed)
            summary = json.loads((folder / "summary.json").read_text())
            tokens = int(summary["tokens"])
            measured[size, seed] = Measured(
                parameters=int(summary["parameters"]),
                tokens=tokens,
                compute=experiment.model.flops_per_token(experiment.model.length) * tokens,
                loss=float(summary["valid_loss"]),
                answers=json.loads((folder / ANSWERS).read_text()),
            )
        if jax.process_index() == 0:
            write_report(workdir, self.title, measured, self.shots)
