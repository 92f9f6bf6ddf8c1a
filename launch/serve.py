"""Serves runs: a page to chat, a page to label answers, and OpenAI's API.

python -m launch.serve --workdir=runs/chat
python -m launch.serve --workdir=runs/chat --label_prompts=asked.jsonl --label_runs=runs/chat,runs/a
python -m launch.serve --workdir=runs/chat --host=0.0.0.0 --token=SECRET --slots=32

SIGTERM and Ctrl-C finish what is being answered, however long, and end; a second one ends at once.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from launch import command
from launch.served import labels_folder, run_name, served_run
from lm.core.errors import ConfigError
from lm.core.paths import at_home

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from lm.serve.items import Wanted
    from lm.serve.model import Served

WORKDIR = flags.DEFINE_list("workdir", [], "Directories of the runs to serve, the default first.")
HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to bind to; another one needs --token.")
PORT = flags.DEFINE_integer("port", 8000, "Port; 0 takes a free one.", 0, 65535)
TOKEN = flags.DEFINE_string("token", None, "What a client has to show.")
SLOTS = flags.DEFINE_integer("slots", 8, "Requests that are answered at once.", lower_bound=1)
QUEUE = flags.DEFINE_integer("queue", 64, "Requests that may wait; further ones get 429.", 1)
LENGTH = flags.DEFINE_integer("length", None, "Tokens of a prompt with its answer.", 2)
STEP = flags.DEFINE_integer("step", None, "Checkpoint to use; the newest by default.")
LABEL_PROMPTS = flags.DEFINE_string("label_prompts", None, "File of prompts to label answers to.")
LABEL_RUNS = flags.DEFINE_list("label_runs", [], "Runs whose answers are labelled; --workdir's.")
LABELS = flags.DEFINE_string("labels", None, "Folder of the labels; WORKDIR/labels by default.")
LABEL_ANSWERS = flags.DEFINE_integer("label_answers", 4, "Answers to rank to a prompt.", 2, 9)
LABEL_SEED = flags.DEFINE_integer("label_seed", 0, "Draws which answer of a conversation it is.")
LABEL_TOKENS = flags.DEFINE_integer("label_tokens", 128, "Tokens of an answer at most.", 1)
LABEL_TEMPERATURE = flags.DEFINE_float("label_temperature", 1.0, "Of those answers.", 0, 2)
LABELERS = flags.DEFINE_integer("labelers", 2, "Labelers who see the same item.", lower_bound=1)


def main() -> None:
    if not WORKDIR.value or not all(WORKDIR.value):
        raise ConfigError("--workdir is empty; name the directory of a run")
    try:
        from lm.serve.guard import is_loopback
        from lm.serve.server import Server, authority, bound
    except ImportError:
        raise ConfigError("serving needs starlette and uvicorn: pip install 'lm[serve]'") from None

    loopback = is_loopback(HOST.value)
    if not loopback and not TOKEN.value:
        raise ConfigError(
            f"--host={HOST.value} is reached from other machines: give a --token, or leave --host"
        )
    if not HOST.value.isascii() or (TOKEN.value and not TOKEN.value.isascii()):
        raise ConfigError("--host and --token must be ASCII")
    listener = bound(HOST.value, PORT.value)  # a port that is taken is told before the long wait
    prompts = prompts_to_label()  # so are they
    from lm.serve.api import application

    models = serve_runs([*WORKDIR.value, *LABEL_RUNS.value])
    extra, stop = labelling(models, prompts)

    def announce() -> None:
        port = listener.getsockname()[1]
        print(f"listening on http://{authority(HOST.value, port)}", flush=True)

    app = application(models, token=TOKEN.value, loopback=loopback, extra=extra)
    try:
        Server(app, announce).serve_on(listener)
    finally:
        stop()
        for served in models.values():
            served.engine.close(drain=False)
    print("stopped", flush=True)


def serve_runs(folders: list[str]) -> "dict[str, Served]":
    """The runs by the names of their folders, their programs compiled."""
    models: dict[str, Served] = {}
    for folder in dict.fromkeys(each.rstrip("/") for each in folders):
        name = run_name(folder)
        if name in models:
            raise ConfigError(f"two runs are named {name}: rename the folder of one")
        models[name] = served_run(
            folder, STEP.value, slots=SLOTS.value, queue=QUEUE.value, length=LENGTH.value
        )
        print(f"{name}: compiling ...", flush=True)
        models[name].engine.start()
    return models


def prompts_to_label() -> "list[Wanted]":
    """What answers are to be labelled to.

    Raises:
      ConfigError: labels are asked for, and can be kept nowhere.
    """
    from lm.serve.items import read_prompts

    named = LABEL_PROMPTS.value
    folder = labels_folder(LABELS.value, WORKDIR.value[0], wanted=bool(named))
    prompts = read_prompts(at_home(named), LABEL_SEED.value) if named else []
    if folder and (prompts or LABELS.value):
        there = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))
        if not (there.is_dir() and os.access(there, os.W_OK)):
            raise unwritten(folder, os.strerror(errno.EACCES if there.is_dir() else errno.ENOTDIR))
    return prompts


def unwritten(folder: Path, why: str | None) -> ConfigError:
    return ConfigError(f"--labels={folder}: {why}; name a folder that can be written to")


def labelling(
    models: "dict[str, Served]", prompts: "list[Wanted]"
) -> "tuple[list[BaseRoute], Callable[[], None]]":
    """The routes of the labelling page, and what ends its sampling; none where no labels can be
    kept and nobody asked for them."""
    from lm.decode.sampling import SamplingConfig
    from lm.serve.items import Pool, SamplingPlan
    from lm.serve.labelling import Labelling
    from lm.serve.labels import Labels

    folder = labels_folder(LABELS.value, WORKDIR.value[0], wanted=bool(prompts))
    if folder is None:
        return [], lambda: None
    names = [run_name(each) for each in LABEL_RUNS.value or WORKDIR.value]
    plan = SamplingPlan(
        answers=LABEL_ANSWERS.value, max_tokens=LABEL_TOKENS.value,
        sampling=SamplingConfig(temperature=LABEL_TEMPERATURE.value),
    )  # fmt: skip
    try:
        labels = Labels(folder)
        pool = Pool(folder, prompts, [models[name] for name in names], plan)
        if prompts:
            pool.start()
    except OSError as error:
        if LABELS.value is None and not prompts:
            print(f"{folder}: {error.strerror}; it is served without labels", flush=True)
            return [], lambda: None
        raise unwritten(folder, error.strerror) from None
    if labels.damaged:
        print(f"{folder}: {labels.damaged} lines that are no label are left out", flush=True)
    if prompts and pool.otherwise:
        print(
            f"{folder}: {pool.otherwise} items that are kept were sampled from other runs or by "
            "other --label_ flags and stay as they are; another --labels folder makes new ones",
            flush=True,
        )
    return Labelling(labels, pool, LABELERS.value).routes(), pool.stop


if __name__ == "__main__":
    command.run(main)
