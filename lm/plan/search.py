"""Mesh shapes, remat policies and batches worth compiling for a pod."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lm.core.mesh import MeshConfig

TENSOR = (1, 2, 4, 8, 16)
REMAT = ("full", "context", "qkv")


def meshes(devices: int, heads: int, width: int) -> list[MeshConfig]:
    """Two-dimensional meshes, fsdp x tensor, that divide the model, fewest tensor ways first."""
    return [
        MeshConfig(data=1, fsdp=devices // tensor, tensor=tensor)
        for tensor in TENSOR
        if devices % tensor == 0 and heads % tensor == 0 and width % (devices // tensor) == 0
    ]


def candidates(experiment: Any, devices: int) -> Iterator[tuple[str, Any]]:
    """Variants of an experiment, by what is changed; a batch that does not divide is left out."""
    model = experiment.model
    for mesh in meshes(devices, model.heads, model.width):
        if (experiment.batch // experiment.microbatches) % mesh.fsdp:
            continue
        for remat in REMAT:
            changed = replace(experiment, mesh=mesh, model=replace(model, remat=remat))
            yield f"fsdp {mesh.fsdp} x tensor {mesh.tensor}, remat {remat}", changed
