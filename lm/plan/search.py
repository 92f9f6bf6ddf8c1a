"""Mesh shapes, remat policies and ways to split the stream, worth compiling for a pod."""

import math
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import product
from typing import Any, cast

import jax

from lm.core.errors import ConfigError
from lm.core.mesh import MeshConfig
from lm.models.gpt_vision import GptVisionConfig
from lm.nn.config import BlockConfig
from lm.plan.page import mesh_text, no_row, row
from lm.plan.plan import Plan, plan
from lm.plan.topology import Topology

TENSOR = (1, 2, 4, 8, 16)
SEQUENCE = (1, 2, 4)
REMAT = ("full", "qkv", "products")
STREAM = ("width", "length")  # by length: sequence parallelism
CHANGED = re.compile(r"mesh(\..*)?|model(\.text)?\.(remat|stream)")  # bindings that a search makes


def decoder(experiment: Any) -> BlockConfig:
    """The model's blocks that are most of it: of one with eyes, those that write.

    Raises:
      ConfigError: it has no blocks, or no model before it has begun.
    """
    model = experiment.model
    found = model.text if isinstance(model, GptVisionConfig) else model
    if not isinstance(found, BlockConfig):
        raise ConfigError(
            f"a {type(experiment).__name__} whose model is {model} has no blocks to search a mesh "
            "for: name one by its size, such as 'instructgpt:sft(size=\"6b\")'"
        )
    return found


def meshes(experiment: Any, devices: int, slices: int = 1) -> list[MeshConfig]:
    """Meshes that divide a batch, in its microbatches, and its model; the least to send first.

    Parameters are split over as many devices of a slice as divide the width, the rows of each
    microbatch over all of them but those of a tensor axis, and over the slices. Sequences are split
    only where nothing else divides.
    """
    model, rows, parts = decoder(experiment), experiment.batch, experiment.microbatches
    found = list[MeshConfig]()
    for sequence, tensor in product(SEQUENCE, TENSOR):
        left = devices // (sequence * tensor)
        whole = left * sequence * tensor == devices and left % slices == 0
        if sequence > 1 and found:
            break
        if whole and rows % (parts * left) == 0 and model.heads % tensor == 0:
            fsdp = math.gcd(left // slices, model.width)
            found.append(MeshConfig(data=left // fsdp, fsdp=fsdp, tensor=tensor, sequence=sequence))
    return found


def candidates(experiment: Any, devices: int, slices: int = 1) -> Iterator[tuple[str, Any]]:
    """Variants of an experiment that trains a decoder, by what is changed: `CHANGED`."""
    model, blocks = experiment.model, cast(Any, decoder(experiment))
    for mesh in meshes(experiment, devices, slices):
        for remat in REMAT:
            for stream in STREAM if mesh.tensor > 1 else STREAM[:1]:
                changed = replace(blocks, remat=remat, stream=stream)
                if isinstance(model, GptVisionConfig):
                    changed = replace(model, text=changed)
                named = f"remat {remat}" + (f", stream by {stream}" if mesh.tensor > 1 else "")
                yield named, replace(experiment, mesh=mesh, model=changed)


def rows(
    experiment: Any, topology: Topology, devices: list[Any]
) -> Iterator[tuple[str, Plan | None]]:
    """Each candidate's row of a table and its plan; none where no program could be made of it,
    and the row says why."""
    for name, variant in candidates(experiment, len(devices), topology.slices):
        try:
            made = plan(variant, topology, devices)
        except (jax.errors.JaxRuntimeError, ConfigError) as error:  # others are worth having
            mesh = {axis: n for axis, n in asdict(variant.mesh).items() if n > 1}
            yield no_row(f"{name}, mesh {mesh_text(mesh)}", topology.name, error), None
            continue
        yield row(name, made), made


def rank(plan: Plan | None) -> tuple[int, float]:
    """What sorts plans, the best first: those that fit by utilisation, an unknown one after them,
    then those that do not fit, then none at all."""
    if plan is None:
        return 2, 0.0
    mfu = plan.mfu("compiled")
    return int(not plan.fits), math.inf if math.isnan(mfu) else -mfu
