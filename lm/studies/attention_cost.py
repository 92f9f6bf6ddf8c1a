"""What a pattern of attention costs as the sequence grows: pairs, FLOPs, memory and time.

The stride follows the square root of the length, as in Child et al. 2019 (section 4.1); the band
and the summary columns stay. One row, one head; forward, and with the gradient in `seconds`.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from lm.nn.config import BlockConfig, Pattern
from lm.nn.kernels import attention
from lm.nn.patterns import pairs
from lm.report.panels import Band, Panel, draw_panels

PATTERNS: tuple[Pattern, ...] = ("dense", "banded", "strided", "fixed", "powers")
ALTERNATING = "dense, banded"  # GPT-3's layers in turn: half of the work each, never both in memory
COSTS = ("pairs", "flops", "temporary_bytes", "seconds")
LENGTHS = tuple(1024 * 2**power for power in range(7))
BAND, SUMMARY, HEAD = 256, 8, 64
DENSE_LIMIT = 16_384  # beyond it a dense layer's scores do not fit beside other work


def attention_figures(repeats: int, lengths: tuple[int, ...] = LENGTHS) -> Iterator[dict[str, Any]]:
    """A figure for each pattern and length, then the fitted exponents of each pattern."""
    found: dict[str, list[dict[str, Any]]] = {}
    for pattern in PATTERNS:
        found[pattern] = []
        for length in lengths:
            if pattern == "dense" and length > DENSE_LIMIT:
                continue
            found[pattern].append(measured(pattern, length, repeats))
            yield found[pattern][-1]
    both = zip(found["dense"], found["banded"], strict=False)  # up to dense's last length
    found[ALTERNATING] = [in_turns(*layers) for layers in both]
    yield from found[ALTERNATING]
    for name, mine in found.items():
        at = [one["length"] for one in mine]
        fits = {cost: exponent(at, [one[cost] for one in mine]) for cost in COSTS}
        yield {"name": "exponent", "pattern": name, **fits}


def in_turns(dense: dict[str, Any], banded: dict[str, Any]) -> dict[str, Any]:
    """What a layer costs where the two take turns; of memory what the larger one takes."""
    costs = {cost: (dense[cost] + banded[cost]) / 2 for cost in COSTS}
    costs["temporary_bytes"] = max(dense["temporary_bytes"], banded["temporary_bytes"])
    return dense | costs | {"pattern": ALTERNATING}


def measured(pattern: Pattern, length: int, repeats: int) -> dict[str, Any]:
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


def draw_costs(figures: Sequence[dict[str, Any]]) -> str:
    """An SVG document of FLOPs, temporary bytes and seconds against the length, by pattern.

    `figures` are those of `attention_figures`; the legend tells the fitted exponents.
    """
    found = [figure for figure in figures if figure["name"] == "attention"]
    fits = {figure["pattern"]: figure for figure in figures if figure["name"] == "exponent"}
    panels = []
    for name, title in (
        ("flops", "FLOPs, forward (compiled)"),
        ("temporary_bytes", "temporary bytes, forward (compiled)"),
        ("seconds", "seconds, forward and gradient"),
    ):
        lines = []
        for colour, (pattern, fit) in enumerate(fits.items()):
            mine = [figure for figure in found if figure["pattern"] == pattern]
            label = f"{pattern}: n^{fit['flops']:.2f} FLOPs"
            x, y = ([figure[of] for figure in mine] for of in ("length", name))
            lines.append(Band(label, x, y, colour=colour))
        panels.append(Panel(title, "tokens", "", lines, log=(True, True)))
    return draw_panels("One head of attention against the length of the sequence", panels)
