"""Answers a task's items with a fine-tuned run: writes the answers and the metrics.

python -m launch.evaluate --workdir=runs/bert-mnli --task=mnli_mismatched --root=data
python -m launch.evaluate --workdir=runs/bert-sst2 --part=test --file=mine.tsv

Writes WORKDIR/evaluations/TASK-PART.jsonl, one answer a line, and the metrics beside it as .json.
"""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from absl import flags

from launch import command
from lm.core.errors import ConfigError
from lm.core.paths import run_path

if TYPE_CHECKING:
    from lm.data.tasks.task import Part

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of a fine-tuned run.")
TASK = flags.DEFINE_string("task", None, "Task of the run's kind; the run's own by default.")
ROOT = flags.DEFINE_string("root", None, "Folder of task data; the run's by default.")
PART = flags.DEFINE_enum("part", "valid", ["train", "valid", "test"], "Which items.")
FILE = flags.DEFINE_string("file", None, "File with the items, instead of the task's own.")
STEP = flags.DEFINE_integer("step", None, "Checkpoint to use; the newest by default.")
BATCH = flags.DEFINE_integer("batch", 32, "Rows at a time.", lower_bound=1)


def main() -> None:
    if not WORKDIR.value:
        raise ConfigError("--workdir is empty; name the directory of a fine-tuned run")
    import jax

    from lm.core.config import bind
    from lm.core.mesh import MeshConfig, make_mesh
    from lm.data.tasks import read
    from lm.evals.tasks import answer_task
    from lm.train.finetune import Finetune
    from lm.train.saved import read_run

    run, part = run_path(WORKDIR.value), cast("Part", PART.value)
    mesh = make_mesh(MeshConfig(data=1), jax.local_devices()[:1])
    saved = read_run(run, mesh, STEP.value)
    config = saved.config
    if not isinstance(config, Finetune) or saved.tokenizer is None:
        raise ConfigError(f"{run} holds a {type(config).__name__}: name a fine-tuned run")
    data = replace(config.data, limit=None, valid_limit=None)
    if TASK.value is not None:
        data = replace(data, name=TASK.value)
    if ROOT.value is not None:
        data = replace(data, root=ROOT.value)
    if FILE.value is not None:
        data = bind(data, {part: FILE.value})
    task = read(data)
    if task.kind != config.data.form().kind or (len(task.labels) or 1) != config.classes:
        raise ConfigError(
            f"{data.name} is a {task.kind} task of {len(task.labels)} labels; {run} was made for "
            f"{config.data.name}, a {config.data.form().kind} task of {config.classes}"
        )
    encoded = config.encode(task, part, saved.tokenizer)
    print(f"{data.name}, {part}: {encoded.counts}", flush=True)
    with jax.set_mesh(mesh):
        scores = jax.jit(config.objective().scores)
        answers = answer_task(
            scores, saved.params, encoded, task, part, saved.tokenizer, mesh, BATCH.value
        )
    out = run / "evaluations" / f"{data.name}-{part}.jsonl"
    answers.write(out, task, part)
    figures = {"step": saved.step, "items": len(answers.ids), **answers.figures}
    out.with_suffix(".json").write_text(json.dumps(figures) + "\n")
    for name, value in answers.figures.items():
        print(f"{name} {value:.4f}")
    print(f"step {saved.step}; answers in {out}")


if __name__ == "__main__":
    command.run(main)
