"""Measures the real parts, one JSON line a figure, each beside its ceiling.

python -m launch.benchmark --only=train,decode,data
python -m launch.benchmark --only=train --sizes=4x4x128,6x6x384 --dtype=bfloat16 --repeats=20
python -m launch.benchmark --only=train --sizes=gpt2_xl --batch=8 --dtype=bfloat16

train    the step of launch.train, for GPT-2's block at each of --sizes
bert     the pre-training step of BERT Base
ppo      an update of PPO, from prompts to new parameters: 32 answers of 64 tokens, four epochs
reward   the step of a reward model on 32 pairs of 128 tokens
decode   GPT-2 small, prompts of 128 and 128 new tokens, greedy, 1 and 8 rows
draws    a mask of dropout, and a token for each of 8 rows of 50,257: greedy, drawn, top-k, top-p
data     rows of a step from a token file onto the device; BERT's pairs from sentences; with train
         and bert in the same command, how many times faster than these
memory   what a training step holds at its peak under full remat, beside what it must
save     what an asynchronous save of a training state costs the steps beside it
startup  seconds from the command to the first step of GPT-2 small: on a new machine, and again
serve    32 clients that stream at once from GPT-2 small's shapes, beside one alone
stall    how long a stream stands still for a prompt of 1,900 tokens, read in pieces and at once
images   how much faster questions about images are read than gpt4's tiny models learn them
attention  pairs, FLOPs, memory and time of each pattern from 1k to 64k tokens, and a figure
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from absl import flags

from launch import command
from lm.core import heap
from lm.core.errors import ConfigError
from lm.core.paths import at_home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lm.studies.speed import Dtype

KINDS = (
    "train", "bert", "decode", "data", "memory", "save", "startup", "attention", "serve", "stall",
    "ppo", "reward", "images", "draws",
)  # fmt: skip
ONLY = flags.DEFINE_list("only", ["train", "decode", "data"], f"Some of {', '.join(KINDS)}.")
SIZES = flags.DEFINE_list(
    "sizes", ["4x4x128", "6x6x384", "gpt2"],
    "Models of train, data, memory and save; on an accelerator also gpt2_small, gpt2_xl.",
)  # fmt: skip
BATCH = flags.DEFINE_integer("batch", None, "Rows of a step of --sizes; each has its own.", 1)
LENGTH = flags.DEFINE_integer("length", None, "Tokens of such a row; the same.", 1)
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of activations.")
FIGURE = flags.DEFINE_string(
    "figure", "attention.svg", "Where --only=attention draws; '': nowhere."
)
TOKENS = flags.DEFINE_integer("tokens", 48, "That each client of serve asks for.", 1, 64)
ROOT = flags.DEFINE_string("root", "data", "Folder of the data that images reads.")
REPEATS = flags.DEFINE_integer("repeats", 10, "Timed steps; the median is told.", lower_bound=1)

CLIENTS = 32


def main() -> None:
    heap.share_one_heap()
    unknown = [kind for kind in ONLY.value if kind not in KINDS]
    if unknown:
        raise ConfigError(f"--only={unknown[0]}: choose among {', '.join(KINDS)}")
    if "attention" in ONLY.value and FIGURE.value:
        check_writable(at_home(FIGURE.value))
    from lm.studies import speed

    for name in SIZES.value:
        if name not in speed.SIZES:
            raise ConfigError(f"--sizes={name}: choose among {', '.join(speed.SIZES)}")
    dtype, repeats = cast("Dtype", DTYPE.value), REPEATS.value
    given = {"batch": BATCH.value, "length": LENGTH.value}
    changed = {name: value for name, value in given.items() if value is not None}
    sizes = {name: replace(speed.SIZES[name], **changed) for name in SIZES.value}
    trained: dict[str, float] = {}  # tokens a second
    if "train" in ONLY.value:
        for name, size in sizes.items():
            experiment = speed.pretraining(size, dtype)
            flops = experiment.model.flops_per_token(size.length)
            figure = speed.train_figure(name, experiment, flops, repeats)
            trained[name] = figure["tokens_per_second"]
            tell(figure)
    if "bert" in ONLY.value:
        base = speed.bert_pretraining(dtype)
        figure = speed.train_figure("bert", base, base.flops_per_token(), repeats)
        trained["bert"] = figure["tokens_per_second"]
        tell(figure)
    if "ppo" in ONLY.value or "reward" in ONLY.value:
        from lm.studies import speed_rlhf

        if "ppo" in ONLY.value:
            tell(speed_rlhf.ppo_figure(dtype, repeats))
        if "reward" in ONLY.value:
            tell(speed_rlhf.reward_figure(dtype, repeats))
    if "decode" in ONLY.value:
        for batch in (1, 8):
            tell(speed.decode_figure(batch, dtype, max(1, repeats // 3)))
    if "draws" in ONLY.value:
        from lm.studies.speed_draws import draw_figures

        for figure in draw_figures(repeats):
            tell(figure)
    if "data" in ONLY.value:
        from lm.studies import speed_data

        for name, size in sizes.items():
            tell(speed_data.data_figure(name, size, dtype, repeats, trained.get(name)))
        tell(speed_data.pairs_figure(dtype, trained.get("bert")))
    if "memory" in ONLY.value:
        for name, size in sizes.items():
            held = speed.step_memory(speed.pretraining(size, dtype, remat="full"))
            ratio = round(held["peak"] / held["floor"], 3)
            tell({"name": "memory", "model": name, "dtype": dtype, **held, "ratio": ratio})
    if "save" in ONLY.value:
        from lm.studies.saving import saving_figure

        for name, size in sizes.items():
            figure = saving_figure(speed.pretraining(size, dtype), repeats)
            tell(figure | {"model": name, "dtype": dtype})
    if "attention" in ONLY.value:
        from lm.studies.attention_cost import attention_figures, draw_costs

        told = []
        for figure in attention_figures(max(1, repeats // 3)):
            tell(figure)
            told.append(figure)
        if FIGURE.value:
            at_home(FIGURE.value).write_text(draw_costs(told))
    if "images" in ONLY.value:
        images(repeats)
    if "startup" in ONLY.value:
        tell(startup())
    if "serve" in ONLY.value:
        tell(serving(dtype))
    if "stall" in ONLY.value:
        for figure in stalling(dtype):
            tell(figure)


def check_writable(figure: Path) -> None:
    """Raises ConfigError where a figure cannot be written, before minutes of measuring for it."""
    there = figure if figure.exists() else figure.parent
    if figure.is_dir() or not figure.parent.is_dir() or not os.access(there, os.W_OK):
        raise ConfigError(
            f"--figure={figure} cannot be written: name a file in a folder that is there, or ''"
        )


def serving(dtype: "Dtype") -> dict[str, Any]:
    """A server under load; end tokens do not end its streams."""
    from lm.models.gpt import GptConfig
    from lm.serve.engine import Engine
    from lm.serve.load import load_figure
    from lm.serve.model import Served
    from lm.studies.speed import random_params
    from lm.text.byte import ByteTokenizer

    config = GptConfig(layers=12, width=768, heads=12, length=1024, vocab=50_257, dtype=dtype)
    engine = Engine(config, random_params(config), slots=CLIENTS, length=128)
    served = Served("gpt2", engine.start(), ByteTokenizer())
    figure = load_figure(served, clients=CLIENTS, tokens=TOKENS.value, longest=64)
    engine.close()
    load = [round(one, 1) for one in os.getloadavg()]
    return {"name": "serve", "model": "gpt2", "dtype": dtype, **figure, "load_average": load}


def stalling(dtype: "Dtype") -> "Iterator[dict[str, Any]]":
    """In pieces and at once by turns, in one process."""
    from lm.models.gpt import GptConfig
    from lm.serve.engine import Engine
    from lm.serve.load import stall_figure
    from lm.studies.speed import random_params

    config = GptConfig(layers=6, width=384, heads=6, length=2048, vocab=269, dtype=dtype)
    params = random_params(config)
    engines = {
        name: Engine(config, params, slots=2, piece=piece).start()
        for name, piece in (("pieces", 256), ("at once", 2048))
    }
    for _ in range(3):
        for name, engine in engines.items():
            yield {"name": "stall", "read": name, **stall_figure(engine, 1900)}
    for engine in engines.values():
        engine.close()


def images(repeats: int) -> None:
    """One figure for each of the three abilities, and for the larger images of one."""
    from launch.experiment import resolve
    from lm.studies.speed_images import image_figure

    for name in ("gpt4:tiny", "gpt4:strings", "gpt4:screens", "gpt4:charts"):
        made = resolve(name)
        data = replace(made.data, root=ROOT.value)
        tell(image_figure(name, replace(made, data=data), repeats))


def startup() -> dict[str, Any]:
    """Of two commands, the second of which finds what the first one compiled."""
    import subprocess
    import sys
    import tempfile
    import time

    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        kept = os.environ | {"LM_CACHE": folder, "JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled"}
        text = Path(folder) / "text.txt"
        text.write_text("all work and no play makes a dull boy\n" * 4000)
        for attempt in range(2):
            words = [
                sys.executable, "-m", "launch.train", "--experiment=gpt2:small", "--set=steps=2",
                "--set=batch=1", "--set=tokenizer.kind=bytes", "--set=tokenizer.path=None",
                "--set=model.length=128", f"--set=model.dtype={DTYPE.value}",
                f"--set=data.train={text}", "--set=evaluate_batches=1",
                f"--set=data.cache={folder}/cache", f"--workdir={folder}/run{attempt}",
            ]  # fmt: skip
            began = time.perf_counter()
            process = subprocess.Popen(words, env=kept, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("step 1/"):
                    break
            else:
                raise ConfigError("startup: the run ended before its first step, see above")
            seconds.append(round(time.perf_counter() - began, 2))
            process.kill()
            process.wait()
    first, again = seconds
    return {
        "name": "startup", "model": "gpt2", "seconds_to_first_step": again,
        "seconds_on_a_new_machine": first,
    }  # fmt: skip


def tell(figure: dict[str, Any]) -> None:
    print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    command.run(main)
