"""Many experiments on many pods, a row at a time."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from lm.core.errors import ConfigError
from lm.core.mesh import make_mesh
from lm.core.paths import writing
from lm.plan.memory import shard_bytes
from lm.plan.page import GIB, HEADER, mesh_text, no_row, row
from lm.plan.plan import plan
from lm.plan.search import meshes
from lm.plan.topology import Topology

HOPELESS = 1.25  # times the memory that a step needs at the least: no compiler is asked


def least_memory(experiment: Any, mesh: jax.sharding.Mesh) -> float:
    """Bytes that every step needs on a device: the state, and all gradients in two bytes each,
    whose norm is taken before the first of them is used."""
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        state = experiment.abstract(mesh)
    return shard_bytes(state) + shard_bytes(state.params) / 2


def placed(experiment: Any, devices: int) -> Any:
    """An experiment on the first mesh that divides its batch; on one that takes as many more rows
    as give each device the same, where there is none."""
    whole = replace(experiment, microbatches=1)
    if not meshes(whole, devices):
        whole = replace(whole, batch=-(-whole.batch // devices) * devices)
    return replace(whole, mesh=meshes(whole, devices)[0])


def cell(name: str, experiment: Any, topology: Topology, devices: list[Any]) -> str:
    """The row of one experiment on one pod, as it is without bindings but for `placed`."""
    chosen = placed(experiment, len(devices))
    if chosen.batch != experiment.batch:
        name = f"{name}, batch {chosen.batch}"
    mesh = make_mesh(chosen.mesh, devices)
    least = least_memory(chosen, mesh)
    if least > HOPELESS * topology.chip.memory:
        shape = {axis: n for axis, n in mesh.shape.items() if n > 1}
        text = f"needs over {least / GIB:.0f} of {topology.chip.memory / GIB:.1f}"
        return (
            f"| {name} | {topology.name} | {mesh_text(shape)} | | {text} | | | "
            "refused by arithmetic, not compiled | |"
        )
    try:
        return row(name, plan(chosen, topology, devices))
    except (jax.errors.JaxRuntimeError, ConfigError) as error:  # the other rows are worth having
        return no_row(name, topology.name, error)


def rows(
    names: tuple[str, ...], resolve: Callable[[str], Any], pods: tuple[str, ...], out: Path | None
) -> Iterator[str]:
    """The table's new rows, small models first; each is added to `out`, and none is made again.

    Raises:
      ConfigError: `out` cannot be read or written.
    """
    kept = lines_of(out) if out is not None else []
    cells = [[part.strip() for part in line.split("|")] for line in kept]
    known = {(re.sub(r", batch \d+$", "", one[1]), one[2]) for one in cells if len(one) > 2}
    if out is not None and HEADER.splitlines()[0] not in kept:
        add(HEADER, out)
    for name in sorted(names, key=lambda name: int(resolve(name).model.parameters())):
        for pod in pods:
            if (name, pod) in known:
                continue
            topology = Topology(pod)
            line = cell(name, resolve(name), topology, topology.devices())
            if out is not None:
                add(line, out)
            yield line


def lines_of(path: Path) -> list[str]:
    """Of a file that may not be there. Raises ConfigError where it is no text that can be read."""
    try:
        return path.read_text().splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; name a Markdown file") from None


def add(line: str, path: Path) -> None:
    with writing(path), path.open("a") as file:
        file.write(line + "\n")
