"""Answers a task's items with a run, or a suite of tasks, or measures a text: writes the answers
and the metrics.

python -m launch.evaluate --workdir=runs/bert-mnli --task=mnli_mismatched --root=data
python -m launch.evaluate --workdir=runs/bert-sst2 --file=mine.tsv
python -m launch.evaluate --workdir=runs/bert-sst2 --file=mine.csv --columns=text=review
python -m launch.evaluate --workdir=runs/gpt1 --task=cola --root=data
python -m launch.evaluate --workdir=runs/gpt2 --file=mine.txt
python -m launch.evaluate --workdir=runs/small --suite=gpt2 --root=data
python -m launch.evaluate --workdir=runs/small --suite=gpt3 --shots=0,1,few --root=data
python -m launch.evaluate --workdir=runs/ppo --suite=instructgpt --shots=0 --root=data

A fine-tuned run answers with its head, a pre-trained decoder by GPT-1's zero-shot heuristics. What
has a label is measured; what a decoder's context cannot hold is refused, and counted. To a decoder
a file without a task is text (or a folder, a glob, a .jsonl of texts), which it predicts, each
token once. A .jsonl of questions about images is one of the --tasks of --suite=gpt4.
Writes WORKDIR/evaluations/TASK-PART.jsonl, one answer a line, and the metrics beside it as .json;
of a file, every row of which is answered, TASK-file-STEM.jsonl; of a text, text-file-STEM.json; of
a suite, SUITE-stepN.jsonl and the table beside it. With --step the names of the others have -stepN
too; where the result of another file of the same name stands, digits of the path follow. A suite
that was interrupted goes on; a call replaces the rows of its own tasks and settings in the table
(checkpoint, --root, --limit, --seed, --samples, --k), and keeps those of other calls.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

from absl import flags

from launch import command, items, suite
from lm.core.errors import ConfigError
from lm.core.paths import at_home, run_path, writing

if TYPE_CHECKING:
    import jax

    from lm.data.sources import OnError
    from lm.data.tasks import Task
    from lm.data.tasks.task import Part
    from lm.evals.tasks import Answers
    from lm.train.saved import Saved

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of a run.")
TASK = flags.DEFINE_string(
    "task", None, "Task, of the kind the run was tuned for; its own by default."
)
ROOT = flags.DEFINE_string("root", None, "Folder of task data; the run's by default.")
PART = flags.DEFINE_enum("part", "valid", ["train", "valid", "test"], "Which items; not of --file.")
FILE = flags.DEFINE_string(
    "file", None, "File with the items, all of them, labelled or not; for a decoder, text."
)
COLUMNS = flags.DEFINE_list("columns", [], "What columns are called: text=review,label=stars.")
ON_BAD = flags.DEFINE_enum("on_bad", None, ["stop", "drop"], "What to do about malformed rows.")
ERRORS = flags.DEFINE_enum(
    "errors", "stop", ["stop", "replace"], "What to do about bytes of a text that are not UTF-8."
)
STEP = flags.DEFINE_integer("step", None, "Checkpoint to use; the newest by default.")
BATCH = flags.DEFINE_integer("batch", 32, "Rows at a time.", lower_bound=1)

OF_TASK = ("task", "part", "file", "columns", "on_bad", "errors", "batch")
OF_SUITE = (  # of some suite
    "shots", "tasks", "limit", "seed", "against", "overlap", "samples", "k"
)  # fmt: skip


def main() -> None:
    if not WORKDIR.value:
        raise ConfigError("--workdir is empty; name the directory of a run")
    check_flags()
    if suite.SUITE.value is not None:
        suite.evaluate(run_path(WORKDIR.value), at_home(ROOT.value or "."), STEP.value)
        return

    with command.told_by_flags(items.TOLD):
        answer(run_path(WORKDIR.value))


def answer(run: Path) -> None:
    """Writes what a run answers to a part of a task, or to a file."""
    part = cast("Part", PART.value if FILE.value is None else "test")  # which is never divided
    folder = suite.results_folder(run)

    from lm.core.mesh import one_device
    from lm.data.tasks import TaskConfig
    from lm.evals.tasks import told
    from lm.train.finetune import Finetune
    from lm.train.saved import read_config, read_run

    if FILE.value is not None and TASK.value is None:
        if not isinstance(read_config(run), Finetune):
            measure(run, FILE.value, folder)
            return
    if flags.FLAGS["errors"].present:
        raise ConfigError(
            f"--errors={ERRORS.value} is of a text, and a task's rows are asked for: leave it out, "
            "or leave malformed rows out with --on_bad=drop"
        )
    mesh = one_device()
    saved = read_run(run, mesh, STEP.value)
    tuned = isinstance(saved.config, Finetune)
    if not tuned and TASK.value is None:
        raise ConfigError(
            f"--task is empty, and {run} is fine-tuned for none: name one, or a text to measure "
            "it on, --file=FILE"
        )
    if not tuned and flags.FLAGS["batch"].present:
        raise ConfigError(
            f"--batch={BATCH.value} is for a fine-tuned run, and {run} answers by likelihood: "
            "leave it out"
        )
    task = items.found(
        saved.config.data if tuned else TaskConfig(), part, task=TASK.value, root=ROOT.value,
        file=FILE.value, columns=COLUMNS.value, on_bad=ON_BAD.value,
    )  # fmt: skip
    answers = (by_head if tuned else by_likelihood)(saved, task, part, mesh)
    of, figured = {}, folder / f"{task.name}-{part}{of_step()}.json"
    if FILE.value is not None:
        of = {"file": ",".join(map(str, task.files["test"]))}
        name = f"{task.name}-file-{items.stems(task.files['test'])}{of_step()}.json"
        figured = items.own_path(folder / name, of["file"])
    out = figured.with_suffix(".jsonl")
    answers.write(out, task, part)
    counts = answers.counts(task, part)
    figures = {"step": saved.step, **of, **counts, **answers.figures}
    with writing(figured):
        figured.write_text(json.dumps(figures) + "\n")
    print(told(counts))
    for metric, value in answers.figures.items():
        print(f"{metric} {value:.4f}")
    print(f"step {saved.step}; answers in {out}")


def measure(run: Path, spec: str, folder: Path) -> None:
    """Writes how well a decoder predicts a text of its user's.

    Raises:
      ConfigError: a flag that is of a task, or the run is no decoder.
    """
    from lm.data.sources import HUB, STDLIB, documents, parts
    from lm.evals.zeroshot.corpora import text_figures
    from lm.studies.loaded import load_run

    for name in ("root", "columns", "on_bad", "batch"):
        if flags.FLAGS[name].present:
            raise ConfigError(
                f"--{name} is of a task, and without one --file is text: leave it out, or add "
                "--task=NAME"
            )
    texts = [document.text for document in documents(spec, on_error=cast("OnError", ERRORS.value))]
    loaded = load_run(run, STEP.value)
    sizes, figures = text_figures(loaded.scorer(), texts)
    file = ",".join(
        part if part.startswith((HUB, STDLIB)) else str(at_home(part).absolute())
        for part in parts(spec)
    )
    name = f"text-file-{items.stems([Path(part) for part in parts(spec)])}{of_step()}.json"
    out = items.own_path(folder / name, file)
    values = {figure.metric: figure.value for figure in figures}
    sure = {"standard_errors": {figure.metric: figure.error for figure in figures}}  # over texts
    told = {"step": loaded.step, "file": file, **sizes, **values, **sure}
    with writing(out):
        out.write_text(json.dumps(told) + "\n")
    print(f"{spec}: {', '.join(f'{name} {count:,}' for name, count in sizes.items())}")
    for figure in figures:
        error = "" if figure.error is None else f" ± {figure.error:.4f}"
        print(f"{figure.metric} {figure.value:.4f}{error}")
    print(f"step {loaded.step}; figures in {out}")


def of_step() -> str:
    """What a result's name says of the checkpoint: nothing of the newest."""
    return "" if STEP.value is None else f"-step{STEP.value}"


def check_flags() -> None:
    """Raises ConfigError for a flag that would say nothing: a suite has flags of its own, and a
    file no parts."""
    chosen = suite.SUITE.value
    others = OF_SUITE if chosen is None else OF_TASK
    given = [name for name in others if flags.FLAGS[name].present]
    if given and chosen is None:
        raise ConfigError(f"--{given[0]} is for a suite: add --suite=..., or leave it out")
    if given:
        hint = "its tasks are named by --tasks" if given[0] == "task" else "leave it out"
        raise ConfigError(f"--{given[0]} is not for --suite={chosen}: {hint}")
    for name in OF_SUITE if chosen is not None else ():
        flag, known = flags.FLAGS[name], [each for each, its in suite.SUITES.items() if name in its]
        if flag.present and chosen not in known:
            raise ConfigError(
                f"{flag.serialize()} is for --suite={' or '.join(known)}, and {chosen} does not "
                "read it: leave it out"
            )
    if FILE.value is not None and flags.FLAGS["part"].present:
        raise ConfigError(
            f"--part={PART.value} is not for --file, all of which is answered: leave it out"
        )


def by_head(saved: "Saved", task: "Task", part: "Part", mesh: "jax.sharding.Mesh") -> "Answers":
    """What a fine-tuned run says."""
    import jax

    from lm.evals.tasks import answer_task, null_threshold
    from lm.train.saved import require_tokenizer

    config, own = saved.config, saved.config.data
    tokenizer = require_tokenizer(saved.tokenizer, WORKDIR.value)
    if task.kind != own.form().kind or (len(task.labels) or 1) != config.classes:
        raise ConfigError(
            f"{task.name} is a {task.kind} task of {len(task.labels)} labels; {WORKDIR.value} was "
            f"made for {own.name}, a {own.form().kind} task of {config.classes}"
        )
    encoded = config.encode(task, part, tokenizer)
    which = FILE.value or f"{task.name}, {part}"
    print(f"{which}: {encoded.counts}", flush=True)
    held_out = part == "valid" and TASK.value is None
    threshold = None if held_out else null_threshold(run_path(str(WORKDIR.value)))
    with jax.set_mesh(mesh):
        scores = jax.jit(config.objective().scores)
        return answer_task(
            scores, saved.params, encoded, task, part, tokenizer, mesh, BATCH.value, threshold
        )


def by_likelihood(
    saved: "Saved", task: "Task", part: "Part", mesh: "jax.sharding.Mesh"
) -> "Answers":
    """What a decoder says that is fine-tuned for nothing."""
    from lm.evals.heuristics import answer_untrained
    from lm.evals.scorer import Scorer
    from lm.models.gpt import GptConfig
    from lm.train.pretrain import Pretrain

    model = saved.config.model if isinstance(saved.config, Pretrain) else None
    if not isinstance(model, GptConfig) or saved.tokenizer is None:
        raise ConfigError(
            f"{WORKDIR.value} holds a {type(saved.config).__name__}: name a fine-tuned run, or a "
            "pre-trained decoder"
        )
    return answer_untrained(Scorer(model, saved.params, saved.tokenizer, mesh), task, part)


if __name__ == "__main__":
    command.run(main)
