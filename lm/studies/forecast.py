"""A large run foretold from small ones, as GPT-4's was (report, section 3), and then trained.

The small runs differ in size and tokens, and so in compute. From them two laws are fitted, of the
loss and of the pass rate of programs, and what they say of the large run is written to
`forecast.json`, once: before the large run starts, never again. Every run is an ordinary directory:

    <workdir>/<size>                   with `trials.json`, how many of its programs were right
    <workdir>/forecast.json            the date, the fits, their predictions with intervals
    <workdir>/report.md, figure.svg    what came out

The command that writes `forecast.json` ends with it, so that it can be kept where its date cannot
be doubted, in version control, before the large run starts; the same command then goes on with
that. What is done is not done again.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from lm.core.config import read, require, require_positive
from lm.core.errors import DataError
from lm.core.mesh import make_mesh
from lm.data.programs import ProgramText, problems
from lm.evals.programs.trial import Trial, ask
from lm.evals.scorer import Scorer
from lm.models.gpt import GptConfig
from lm.report.record import is_number
from lm.studies.forecast_report import Measured, foretell, write_report
from lm.studies.several import alone, begin, check_distinct, fixed, run_member
from lm.studies.transfer import bound
from lm.train.pretrain import Pretrain
from lm.train.process import Process, agreed, write_for_all
from lm.train.saved import read_run

TRIALS = "trials.json"
FORECAST = "forecast.json"
MADE_WITH = {
    "*/config.gin": ["base.seed"],
    "*/summary.json": ["base.", "sizes"],
    f"*/{TRIALS}": ["problems", "samples", "temperature"],
    FORECAST: ["large", "rated", "confidence"],
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecast:
    """The runs, and what the models are asked to write."""

    title: str
    base: Pretrain  # on prose and programs
    sizes: tuple[tuple[str, str], ...]  # name, and bindings of the base, by rising compute
    large: tuple[str, str]
    rated: str  # the smallest size that the law of the pass rate is fitted to
    problems: int = 60
    samples: int = 64  # programs a problem
    temperature: float = 1.0
    confidence: float = 0.95  # of the intervals

    def __post_init__(self) -> None:
        require_positive(self, "problems", "samples", "temperature")
        require(0 < self.confidence < 1, f"confidence {self.confidence} must be between 0 and 1")
        names = [name for name, _ in self.sizes]
        check_distinct(sizes=names)
        require(self.rated in names, f"rated {self.rated!r} is not one of {names}")
        require(self.large[0] not in names, f"large {self.large[0]!r} is one of the small {names}")
        require(len(names) > 3, f"{len(names)} small runs: a law with three unknowns needs 4")
        require(
            isinstance(self.base.data, ProgramText) and isinstance(self.base.model, GptConfig),
            "base must be a GPT that reads programs (lm.data.programs.ProgramText)",
        )
        computes = [self.compute(one) for one in self.members().values()]
        require(
            computes == sorted(set(computes)),
            f"computes {', '.join(f'{one:.3g}' for one in computes)} FLOPs of sizes and large must "
            "rise",
        )

    def members(self, workdir: Path | None = None) -> dict[str, Pretrain]:
        """Every run by its name, the large one last; each of a seed of its own, since errors that
        all runs share are no errors of a law. One that has begun in `workdir` keeps its seed,
        where a size comes to stand before it too."""
        runs = dict((*self.sizes, self.large))
        paths = {name: workdir / name / "config.gin" for name in runs} if workdir else {}
        begun = {name: read(path).seed for name, path in paths.items() if path.exists()}
        free = (one for one in itertools.count(self.base.seed) if one not in begun.values())
        return {
            name: replace(
                bound(self.base, bindings), seed=begun[name] if name in begun else next(free)
            )
            for name, bindings in runs.items()
        }

    @staticmethod
    def compute(experiment: Pretrain) -> float:
        """FLOPs of the products of a run's training."""
        model = experiment.model
        return (
            model.flops_per_token(model.length) * experiment.steps * experiment.batch * model.length
        )

    # ------------------------------------------------------------------- run

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Small runs and the forecast; called again, the large run and the report."""
        process = process or Process()
        with alone(workdir, process):
            begin(workdir, self, fixed(workdir, MADE_WITH, pooled=True))
            *few, large = self.members()
            small = [self.measured(workdir, name, process) for name in few]
            forecast = self.register(workdir, small)
            if forecast is None:
                return
            found = self.measured(workdir, large, process)
            if jax.process_index() == 0:
                write_report(workdir, self.title, forecast, small, found)

    def measured(self, workdir: Path, name: str, process: Process) -> Measured:
        """A run, trained and asked where it is not."""
        experiment, folder = self.members(workdir)[name], workdir / name
        told = f"{name}: {self.compute(experiment):.3g} FLOPs"
        run_member(experiment, folder, process, told)
        if not (folder / TRIALS).exists():
            self.ask(folder)
        summary = json.loads((folder / "summary.json").read_text())
        return Measured(
            name=name,
            parameters=int(summary["parameters"]),
            tokens=int(summary["tokens"]),
            compute=self.compute(experiment),
            loss=float(summary["valid_loss"]),
            trials=[Trial(**row) for row in json.loads((folder / TRIALS).read_text())],
        )

    def ask(self, folder: Path) -> None:
        """Lets a run write programs, and keeps how many of them were right."""
        mesh = make_mesh(self.base.mesh)
        saved = read_run(folder, mesh)
        assert saved.tokenizer is not None  # pre-training keeps it
        scorer = Scorer(saved.config.model, saved.params, saved.tokenizer, mesh)
        asked = problems(self.problems)
        trials = ask(scorer, asked, self.samples, temperature=self.temperature)
        rows = ",\n".join(json.dumps(dataclasses.asdict(trial)) for trial in trials)
        write_for_all(folder / TRIALS, f"[\n{rows}\n]\n")

    def register(self, workdir: Path, small: list[Measured]) -> Mapping[str, Any] | None:
        """Reads the forecast; where there is none yet, writes it and returns None.

        Raises:
          DataError: the large run was started without one, it was made of other small runs, or it
            says something else than they do.
        """
        path, (name, bindings) = workdir / FORECAST, self.large
        large = self.members()[name]
        tokens = large.steps * large.batch * large.model.length
        about = {"name": name, "bindings": bindings, "compute": self.compute(large)}
        rated = [one.name for one in small]
        rated = rated[rated.index(self.rated) :]
        told = foretell(small, about | {"tokens": tokens}, rated, self.confidence)
        new = not path.exists()
        if not agreed(not (new and (workdir / name).exists())):  # none goes on before all looked
            raise DataError(
                f"{workdir / name} was started before there was a {FORECAST}: remove it, or choose "
                "another workdir"
            )
        if new:
            write_for_all(path, json.dumps(told, indent=1) + "\n")
            loss = told["loss"]
            if jax.process_index() == 0:
                print(
                    f"forecast in {path}: loss {loss['value']:.4f} ({loss['low']:.4f} to "
                    f"{loss['high']:.4f}); commit it, then {name} is trained by the same command",
                    flush=True,
                )
            return None
        registered: dict[str, Any] = json.loads(path.read_text())
        if any(registered[part] != told[part] for part in ("small", "large", "rated")):
            raise DataError(
                f"{path} was made of other runs than those in {workdir}: a forecast is not "
                "made again; choose another workdir"
            )
        if not all(alike(registered.get(part), told[part]) for part in ("loss", "rates")):
            raise DataError(
                f"{path} does not say what its own small runs foretell: it was changed by hand; "
                "take back the one that was committed"
            )
        return registered


def alike(one: Any, other: Any) -> bool:
    """Whether two forecasts say the same, but for what another machine's arithmetic changes."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if is_number(one) and is_number(other):
        return math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-9)
    return bool(one == other)
