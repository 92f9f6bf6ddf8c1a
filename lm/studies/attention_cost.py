"""What a pattern of attention costs as the sequence grows: pairs, FLOPs, memory and time.

The stride follows the square root of the length, as in Child et al. 2019 (section 4.1); the band
and the summary columns stay. One row, one head; forward, and with the gradient in `seconds`.
"""

import statistics
import time
from collections.abc import Iterator
from typing import Any, get_args

import jax
import numpy as np

from lm.nn.config import BlockConfig, Pattern
from lm.nn.kernels import attention
from lm.nn.sparse import pairs

LENGTHS = (1024, 4096, 16_384, 65_536)
BAND, SUMMARY, HEAD = 256, 8, 64
DENSE_LIMIT = 16_384  # beyond it a dense layer's scores do not fit beside other work


def attention_figures(repeats: int, lengths: tuple[int, ...] = LENGTHS) -> Iterator[dict[str, Any]]:
    """A figure for each pattern and length, then the fitted exponents of each pattern."""
    for pattern in get_args(Pattern):
        found = []
        for length in lengths:
            if pattern == "dense" and length > DENSE_LIMIT:
                continue
            found.append(measured(pattern, length, repeats))
            yield found[-1]
        fits = {
            name: exponent([one["length"] for one in found], [one[name] for one in found])
            for name in ("pairs", "flops", "temporary_bytes", "seconds")
        }
        yield {"name": "exponent", "pattern": pattern, **fits}


def measured(pattern: str, length: int, repeats: int) -> dict[str, Any]:
    """Costs of one layer's attention, without its projections."""
    config = BlockConfig(
        layers=1, width=HEAD, heads=1, band=BAND, stride=2 ** round(np.log2(length) / 2),
        summary=SUMMARY,
    )  # fmt: skip
    arrays = jax.random.normal(jax.random.key(0), (3, 1, 1, length, HEAD))

    def forward(x: jax.Array) -> jax.Array:
        return attention(x[0], x[1], x[2], config, pattern)

    def total(x: jax.Array) -> jax.Array:
        return forward(x).sum()

    compiled = jax.jit(forward).lower(arrays).compile()
    memory: Any = compiled.memory_analysis()
    cost: Any = compiled.cost_analysis()
    step = jax.jit(jax.grad(total))
    jax.block_until_ready(step(arrays))
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(step(arrays))
        seconds.append(time.perf_counter() - began)
    return {
        "name": "attention", "pattern": pattern, "length": length, "stride": config.stride,
        "pairs": pairs(length, pattern, config), "flops": int(cost["flops"]),
        "temporary_bytes": int(memory.temp_size_in_bytes),
        "seconds": round(statistics.median(seconds), 5),
    }  # fmt: skip


def exponent(lengths: list[int], values: list[float]) -> float:
    """Slope of the logarithms by least squares."""
    slope = np.polyfit(np.log(lengths), np.log(values), 1)[0]
    return round(float(slope), 3)
