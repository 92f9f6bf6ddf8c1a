"""Mesh shapes, remat policies and ways to split the stream, worth compiling for a pod."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any, cast

from lm.core.errors import ConfigError
from lm.core.mesh import MeshConfig
from lm.models.gpt_vision import GptVisionConfig
from lm.nn.config import BlockConfig

TENSOR = (1, 2, 4, 8, 16)
SEQUENCE = (1, 2, 4)
REMAT = ("full", "qkv", "products")
STREAM = ("width", "length")


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
    """Meshes that divide a batch, computed at once, and its model; the least to send first.

    Parameters are split over as many devices of a slice as divide the width, the batch over all of
    them but those of a tensor axis, and over the slices. Sequences are split only where nothing
    else divides.
    """
    model, rows = decoder(experiment), experiment.batch
    found = list[MeshConfig]()
    for sequence, tensor in product(SEQUENCE, TENSOR):
        left = devices // (sequence * tensor)
        whole = left * sequence * tensor == devices and left % slices == 0
        if sequence > 1 and found:
            break
        if whole and rows % left == 0 and model.heads % tensor == 0:
            fsdp = math.gcd(left // slices, model.width)
            found.append(MeshConfig(data=left // fsdp, fsdp=fsdp, tensor=tensor, sequence=sequence))
    return found


def candidates(experiment: Any, devices: int, slices: int = 1) -> Iterator[tuple[str, Any]]:
    """Variants of an experiment that trains a decoder, by what is changed."""
    model, blocks = experiment.model, cast(Any, decoder(experiment))
    for mesh in meshes(experiment, devices, slices):
        for remat in REMAT:
            for stream in STREAM if mesh.tensor > 1 else STREAM[:1]:
                changed = replace(blocks, remat=remat, stream=stream)
                if isinstance(model, GptVisionConfig):
                    changed = replace(model, text=changed)
                named = f"remat {remat}" + (f", stream by {stream}" if mesh.tensor > 1 else "")
                yield named, replace(experiment, mesh=mesh, microbatches=1, model=changed)
