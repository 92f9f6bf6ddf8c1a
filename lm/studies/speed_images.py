"""How much faster images are read than a model that sees learns from them."""

import statistics
import time
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm.core.mesh import one_device
from lm.data.visual.rows import image_id
from lm.text.tokenizer import build
from lm.train.state import create
from lm.train.visual import VisualTuning
from lm.train.visual_material import Material


def image_figure(name: str, experiment: VisualTuning, repeats: int) -> dict[str, Any]:
    """Rows of a step, read or drawn in one thread for the first time and again (as in every epoch
    but the first), and the step that learns from them, by turns; of each the median of its CPU
    seconds, which other work on the machine moves least."""
    tokenizer = build(experiment.tokenizer, experiment.texts)
    model = replace(experiment.model, image_id=image_id(tokenizer))
    config = replace(experiment, model=model)
    mesh = one_device()
    material = Material(config, tokenizer, mesh)
    first, again, learned = list[float](), list[float](), list[float]()
    with jax.set_mesh(mesh):
        abstract = config.abstract(mesh)
        state, step = create(config.initial(), abstract, 0), config.step(mesh, abstract)
        for number in range(repeats + 1):
            times = [time.process_time()]
            for _ in range(2):
                host, _ = material.batch(number)
                times.append(time.process_time())
            batch = config.split(host, mesh, material.mine, config.batch)
            state, metrics = step(state, batch, jnp.float32(1e-4))
            jax.block_until_ready(metrics)
            times.append(time.process_time())
            if number:  # the first step is compiled
                for spent, seconds in zip((first, again, learned), np.diff(times), strict=True):
                    spent.append(seconds)
    new, known, training = (statistics.median(spent) for spent in (first, again, learned))
    return {
        "name": "images", "model": name, "sets": ",".join(config.data.sets), "batch": config.batch,
        "read_per_second": round(config.batch / new, 1),
        "again_per_second": round(config.batch / known, 1),
        "learned_per_second": round(config.batch / training, 1),
        "ratio": round(training / new, 1), "ratio_again": round(training / known, 1),
    }  # fmt: skip
