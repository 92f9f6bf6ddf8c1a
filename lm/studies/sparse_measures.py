"""What a model with sparse attention does with far tokens: loss by position, recall by distance."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from lm.core.mesh import make_mesh
from lm.data.batches import Windows
from lm.data.recall import HELD_OUT, RecallRows
from lm.data.tokens import prepare_part
from lm.losses.language import token_losses
from lm.models.gpt import GptConfig, forward
from lm.nn.patterns import layer_mask
from lm.train.pretrain import Pretrain
from lm.train.recall import Recall
from lm.train.saved import Saved, read_config, read_run


def reach(model: GptConfig) -> int:
    """How many tokens back the layers of a banded model see together."""
    return model.layers * (model.band - 1)


def joined(model: GptConfig) -> np.ndarray:
    """Which earlier tokens [T] some path through the layers of a model brings to each [T].
    [T T] bool"""
    slots = jnp.arange(model.length)
    paths = np.eye(model.length, dtype=np.float32)  # counts of at most T, which it holds exactly
    for layer in range(model.layers):
        pattern = model.pattern[layer % len(model.pattern)]
        seen = np.asarray(layer_mask(slots, slots, pattern, model, model.heads)).any(0)
        paths = (seen.astype(np.float32) @ paths > 0).astype(np.float32)
    return paths > 0


def spanned(model: GptConfig) -> np.ndarray:
    """Which distances some path through the layers of a model spans: the rest it cannot recall,
    however well it learns. [T] bool"""
    paths = joined(model)
    return np.array([paths.diagonal(-distance).any() for distance in range(model.length)])


def measured(run: Path, rows: int) -> dict[str, Any]:
    """What a trained member does on held-out rows."""
    mesh = make_mesh(read_config(run).mesh)
    saved = read_run(run, mesh)
    with jax.set_mesh(mesh):
        if isinstance(saved.config, Recall):
            return measured_recall(saved.config, saved.params, rows)
        return measured_novels(saved, rows)


def measured_recall(config: Recall, params: Any, rows: int) -> dict[str, Any]:
    """Questions and right answers by distance, and the share that is right of near and far ones.

    Every question counts here, where training counts fewer of the far ones.
    """
    model = config.model
    made = RecallRows(config.data, model.length, HELD_OUT)
    asked, right = (np.zeros(model.length, np.int64) for _ in range(2))
    for first in range(0, rows, config.batch):
        batch, distances = made.with_distances(first, config.batch)
        logits = logits_of(model, params, batch.tokens)
        hit = (np.asarray(logits).argmax(-1) == batch.targets) & (distances > 0)
        asked += np.bincount(distances[distances > 0], minlength=model.length)
        right += np.bincount(distances[hit], minlength=model.length)
    spans = {
        "right": slice(None),
        "right_near": slice(model.band),
        "right_within": slice(reach(model) + 1),
        "right_beyond": slice(reach(model) + 1, None),
    }
    shares = {n: float(right[s].sum() / max(1, asked[s].sum())) for n, s in spans.items()}
    return shares | {"asked_at": asked.tolist(), "right_at": right.tolist()}


def measured_novels(saved: Saved, rows: int) -> dict[str, Any]:
    """Loss by position, and what the last tokens of a row gain from those beyond the reach.

    The gain is what their loss loses when the tokens that no banded model can see from there are
    those of another row: exactly nothing for a banded model.
    """
    config, tokenizer = saved.config, saved.tokenizer
    assert isinstance(config, Pretrain) and tokenizer is not None
    model = config.model
    assert isinstance(model, GptConfig)
    file = prepare_part(config.data, tokenizer, "valid", print)
    windows = Windows(file, model.length, HELD_OUT)
    last, far = model.length - model.band, model.length - model.band - reach(model)
    kept: list[np.ndarray] = []
    swapped: list[np.ndarray] = []
    for first in range(0, rows, config.batch):
        batch = windows(first, config.batch)
        other = batch.tokens.copy()
        other[:, :far] = np.roll(batch.tokens[:, :far], 1, axis=0)
        for tokens, into in ((batch.tokens, kept), (other, swapped)):
            losses = token_losses(logits_of(model, saved.params, tokens), batch.targets)
            into.append(np.asarray(losses))
    loss, elsewhere = (np.concatenate(each).astype(np.float64).mean(0) for each in (kept, swapped))
    return {
        "loss": float(loss.mean()),
        "loss_within": float(loss[: reach(model) + 1].mean()),
        "loss_beyond": float(loss[reach(model) + 1 :].mean()),
        "far_gain": float((elsewhere - loss)[last:].mean()),
        "loss_at": loss.tolist(),
    }


@jax.jit(static_argnums=0, out_shardings=PartitionSpec())
def logits_of(model: GptConfig, params: Any, tokens: jax.Array) -> jax.Array:
    """Logits [B T V] of tokens [B T], whole on every process, within a mesh."""
    return forward(model, params, tokens)[0]
