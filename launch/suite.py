"""A suite of tasks for a language model: what `launch.evaluate --suite=...` runs."""

import importlib
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from absl import flags

from lm.core.errors import ConfigError
from lm.core.paths import is_remote, run_path, writing

# modules of lm.evals.suites, and the flags that each reads
SUITES = {
    "gpt2": ("tasks", "limit", "seed", "overlap"),
    "gpt3": ("shots", "tasks", "limit", "seed", "overlap"),
    "gpt4": ("tasks", "limit", "seed", "overlap", "samples", "k"),  # from seed on in its text tasks
    "gpt4_text": ("tasks", "limit", "seed", "overlap", "samples", "k"),
    "instructgpt": ("shots", "tasks", "limit", "seed", "overlap"),
    "calibration": ("tasks", "limit", "seed", "against"),
}

SUITE = flags.DEFINE_enum("suite", None, list(SUITES), "Suite of tasks to ask a language model.")
SHOTS = flags.DEFINE_list("shots", ["0", "1", "few"], "Examples in the context; few: the paper's.")
TASKS = flags.DEFINE_list(
    "tasks", [], "Those of the suite to ask; all by default. Of gpt4 a .jsonl too."
)
LIMIT = flags.DEFINE_integer("limit", None, "Items of a suite's task at most.")
SEED = flags.DEFINE_integer("seed", 0, "Of the draws of examples, and of programs (--samples).")
SAMPLES = flags.DEFINE_integer(
    "samples", 1, "Programs drawn for a problem of HumanEval; 1: the greedy one."
)
K = flags.DEFINE_integer("k", 1, "Of pass@k, which is told from --samples programs.")
AGAINST = flags.DEFINE_string(
    "against",
    None,
    "Another run beside --workdir in --suite=calibration: the one before RLHF, say.",
)
OVERLAP = flags.DEFINE_bool("overlap", True, "Look for the suite's items in the training text.")


def evaluate(path: Path, root: Path, step: int | None) -> None:
    """Asks the suite of the flags, of a checkpoint of a run (None: the newest), with the rows of a
    batch over all devices of this machine."""
    out = results_folder(path)
    suite = importlib.import_module(f"lm.evals.suites.{SUITE.value}")
    if AGAINST.value:
        other = run_path(AGAINST.value)
        both = [ask(suite, other, root, None), ask(suite, path, root, step)]
        names = [str(other), str(path)]
        if other == path:  # two checkpoints of one run
            names = [f"{one['model']}, step {one['step']}" for one in both]
        results = dict(zip(names, both, strict=True))
        for line in suite.unlike(results):
            print(line)
        if told := suite.compared(both, [results_folder(other), out]):
            print(f"{names[1]} against {names[0]}, {told}")
        figure = suite.draw(results, out / "calibration.svg")
        print(f"both in {figure}")
        return
    ask(suite, path, root, step)


def results_folder(run: Path) -> Path:
    """Where what is said of a run goes; made and tried, so that nothing is asked for nothing. A run
    that is not there is told by who reads it.

    Raises:
      ConfigError: it cannot be written.
    """
    folder = run / "evaluations"
    if not is_remote(run) and run.is_dir():
        with writing(folder):
            folder.mkdir(exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
    return folder


def ask(suite: Any, path: Path, root: Path, step: int | None) -> Any:
    if is_remote(path):
        raise ConfigError(f"{path}: outcomes are appended, which a store cannot; copy the run here")
    import jax

    from lm.core.mesh import MeshConfig, make_mesh
    from lm.evals.suites import Model, Options
    from lm.studies.loaded import load_run

    options = Options(
        root=root, out=results_folder(path), tasks=tuple(TASKS.value), shots=tuple(SHOTS.value),
        limit=LIMIT.value, seed=SEED.value, overlap=OVERLAP.value, samples=SAMPLES.value, k=K.value,
        figure=not AGAINST.value,  # that of both is drawn, and the other run's stays as it is
    )  # fmt: skip
    run = load_run(path, step, make_mesh(MeshConfig(), jax.local_devices()))
    model = Model(
        name=str(path), scorer=run.scorer(), step=run.step, digest=run.digest, tokens=run.tokens,
        training=run.texts, seer=run.image_generator() if run.sees else None,
    )  # fmt: skip
    return suite.evaluate(model, options, partial(print, flush=True))
