"""Compiles an experiment's step for a TPU pod that is not here, and says whether it fits.

python -m launch.plan --experiment=gpt3:175b --topology=v5p:8x8x16 --set mesh.fsdp=128 \\
    --set mesh.tensor=8
python -m launch.plan --experiment=gpt3:6.7b --topology=v5e:16x16 --search
python -m launch.plan --all --experiment=gpt2:xl --out=plans.md  # or without: every size

Ends with 1 where the step does not fit. It needs the TPU compiler (pip install 'lm[tpu]', x86-64
Linux) and no TPU.
"""

import os
from typing import TYPE_CHECKING, Any

from absl import flags

from launch import command
from launch.experiment import EXPERIMENT, GIN_FILE, SET, configured, resolve
from lm.core.config import assignment
from lm.core.errors import ConfigError
from lm.core.paths import at_home

if TYPE_CHECKING:
    from lm.plan.topology import Topology

TOPOLOGY = flags.DEFINE_string("topology", None, "Pod: v5p:8x8x16, v6e:16x16, tpu7x:4x4x4 ...")
SLICES = flags.DEFINE_integer("slices", 1, "Slices of that shape; mesh.data goes across them.", 1)
SEARCH = flags.DEFINE_bool(
    "search",
    False,
    "Try mesh shapes, remat policies and model.stream=width or length (sequence parallelism, "
    "Korthikanti et al. 2022); best first.",
)
ALL = flags.DEFINE_bool(
    "all", False, "Every published size, or --experiment, on every slice sold, or --topology."
)
JSON = flags.DEFINE_bool("json", False, "One JSON line a plan instead of words.")
OUT = flags.DEFINE_string(
    "out", None, "File that --all adds its rows to as they are made; those it has are kept."
)

PUBLISHED = (
    "bert:base", "bert:large", "gpt1:base", "gpt2:small", "gpt2:medium", "gpt2:large", "gpt2:xl",
    "gpt3:small", "gpt3:medium", "gpt3:large", "gpt3:xl", "gpt3:2.7b", "gpt3:6.7b", "gpt3:13b",
    "gpt3:175b", "gpt4:base", "gpt4:large",
)  # fmt: skip


def main() -> int:
    os.environ["JAX_PLATFORMS"] = "cpu"  # or jax looks for the TPU that is not here
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # it cannot give back what is for a TPU
    if ALL.value:
        if SET.value or GIN_FILE.value or SEARCH.value or JSON.value or SLICES.value > 1:
            raise ConfigError(
                "--all takes neither --set nor --search, --json, --slices or --gin_file"
            )
        return table()
    if OUT.value is not None:
        raise ConfigError(f"--out={OUT.value} is for --all: add it, or leave --out out")
    if not TOPOLOGY.value:
        raise ConfigError("--topology is empty; name a pod such as v5p:8x8x16")
    from lm.plan.topology import Topology

    experiment = configured()
    check_model(experiment, EXPERIMENT.value or GIN_FILE.value)
    topology = Topology(TOPOLOGY.value, SLICES.value)
    if SEARCH.value:
        check_search()
    return search(experiment, topology) if SEARCH.value else one(experiment, topology)


def check_model(experiment: Any, name: str | None) -> None:
    """Raises ConfigError unless it trains one model, whose sizes are known before it begins."""
    if not hasattr(experiment, "abstract_rows"):
        raise ConfigError(f"{name} trains several models: plan one of its members")
    if experiment.model is None:
        raise ConfigError(
            f"{name} has no model before it has begun: name {by_size(str(name))}"
            "--gin_file=RUN/config.gin once it has"
        )


def check_search() -> None:
    """Raises ConfigError where flags ask for what a search chooses itself, or does not print."""
    from lm.plan.search import CHANGED

    if JSON.value:
        raise ConfigError("--search prints a table and no --json: leave one of them out")
    for name, value in map(assignment, SET.value):
        if CHANGED.fullmatch(name):
            raise ConfigError(
                f"--search tries meshes, remat and stream itself: leave --set {name}={value} out"
            )


def by_size(name: str) -> str:
    """The words for an experiment by a size that has a model; none where no size has one."""
    for size in ("base", "6b"):
        sized = f'{name.partition("(")[0]}(size="{size}")'
        try:
            if resolve(sized).model is not None:
                return f"one by its size, such as '{sized}', or "
        except ConfigError:  # it takes no size, or not this one
            continue
    return ""


def one(experiment: Any, topology: "Topology") -> int:
    from lm.plan.page import page
    from lm.plan.plan import plan, total_tokens

    devices = topology.devices()
    made = plan(experiment, topology, devices)
    print(made.json() if JSON.value else page(made, total_tokens(experiment, made)))
    return 0 if made.fits else 1


def search(experiment: Any, topology: "Topology") -> int:
    from lm.plan.page import HEADER
    from lm.plan.search import rank, rows

    devices, found = topology.devices(), []
    for line, made in rows(experiment, topology, devices):
        print(line, flush=True)
        found.append((line, made))
    if not found:
        raise ConfigError(
            f"no mesh of {len(devices)} devices divides batch {experiment.batch} in "
            f"{experiment.microbatches} microbatches, and the model"
        )
    found.sort(key=lambda pair: rank(pair[1]))
    print("\nbest first:\n" + "\n".join([HEADER, *(line for line, _ in found)]))
    best = found[0][1]
    return 0 if best is not None and best.fits else 1


def table() -> int:
    from lm.plan.table import rows
    from lm.plan.topology import TABLE

    names = (EXPERIMENT.value,) if EXPERIMENT.value else PUBLISHED
    for name in names:
        check_model(resolve(name), name)
    pods = (TOPOLOGY.value,) if TOPOLOGY.value else TABLE
    for line in rows(names, resolve, pods, at_home(OUT.value) if OUT.value else None):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    command.run(main)
