"""How fast random numbers are where they are many: a mask of dropout, and a token of each row."""

import statistics
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from lm.decode.sampling import SamplingConfig, sample
from lm.nn.dropout import DropoutKeys, dropout
from lm.studies.speed import spread, timed

VOCAB = 50_257
WAYS = {
    "greedy": SamplingConfig(temperature=0.0),
    "drawn": SamplingConfig(),
    "top-k 40": SamplingConfig(top_k=40),
    "top-p 0.9": SamplingConfig(top_p=0.9),
}


def draw_figures(repeats: int) -> Iterator[dict[str, Any]]:
    """Attention weights of 32 rows, 4 heads and 128 tokens dropped out; tokens of 8 rows drawn."""
    rows = jnp.arange(32)
    weights = jnp.ones((len(rows), 4, 128, 128))
    keys = DropoutKeys(jax.random.key(0), rows)
    dropped = jax.jit(lambda x, keys: dropout(x, 0.1, keys))
    seconds = list(timed(lambda _: jax.block_until_ready(dropped(weights, keys)), repeats))
    yield figure("dropout", "attention weights", weights.size, seconds)
    logits = 3 * jax.random.normal(jax.random.key(1), (8, VOCAB))
    each = jax.random.split(jax.random.key(2), len(logits))
    drawn = jax.jit(sample, static_argnums=2)
    for way, config in WAYS.items():

        def one(_: int, config: SamplingConfig = config) -> None:
            jax.block_until_ready(drawn(each, logits, config))

        yield figure("draw", f"{VOCAB}, {way}", logits.size, list(timed(one, repeats)))


def figure(name: str, model: str, elements: int, seconds: list[float]) -> dict[str, Any]:
    median = statistics.median(seconds)
    return {
        "name": name, "model": model, "ms": round(1e3 * median, 3), "spread_ms": spread(seconds),
        "ns_an_element": round(1e9 * median / elements, 2),
    }  # fmt: skip
