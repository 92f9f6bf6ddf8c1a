"""What an asynchronous save costs the steps that it runs beside."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from lm.core.mesh import one_device
from lm.core.tree import size_bytes
from lm.studies.speed import random_rows
from lm.train.checkpoint import Checkpoints
from lm.train.pretrain import Pretrain
from lm.train.state import create

BESIDE = 4  # steps timed while a save is under way


def saving_figure(experiment: Pretrain, repeats: int) -> dict[str, Any]:
    """Milliseconds that a save holds a step up, and of steps alone and while it is written.

    Each round times `BESIDE` steps alone, the call that starts a save, and as many steps after it.
    The disk is that of temporary files.
    """
    model: Any = experiment.model
    mesh = one_device()
    with tempfile.TemporaryDirectory() as folder, jax.set_mesh(mesh):
        abstract = experiment.abstract(mesh)
        state = create(experiment.initial(), abstract, 0)
        step = experiment.step(mesh, abstract)
        host = random_rows(experiment.abstract_rows(), model.vocab)
        batch = experiment.split(host, mesh, slice(0, experiment.batch), experiment.batch)
        checkpoints = Checkpoints(Path(folder), keep=1)
        size = size_bytes(state)

        def timed() -> float:
            nonlocal state
            start = time.perf_counter()
            state, metrics = step(state, batch, jnp.float32(1e-4))
            jax.block_until_ready(metrics)
            return time.perf_counter() - start

        timed()
        checkpoints.save(0, state, {})  # what is compiled for the digest is compiled here
        checkpoints.settle()
        alone, held, beside, written = list[float](), list[float](), list[float](), list[float]()
        for number in range(1, repeats + 1):
            alone += [timed() for _ in range(BESIDE)]
            start = time.perf_counter()
            checkpoints.save(number, state, {})
            held.append(time.perf_counter() - start)
            beside += [timed() for _ in range(BESIDE)]
            checkpoints.settle()
            written.append(time.perf_counter() - start)
        checkpoints.close()
    middle = {
        "step_ms": alone, "save_ms": held, "step_beside_ms": beside, "written_ms": written,
    }  # fmt: skip
    medians = {name: statistics.median(values) for name, values in middle.items()}
    return {
        "name": "save",
        "state_mb": round(size / 1e6),
        **{name: round(1e3 * value, 1) for name, value in medians.items()},
        "save_of_a_step": round(medians["save_ms"] / medians["step_ms"], 3),
    }
