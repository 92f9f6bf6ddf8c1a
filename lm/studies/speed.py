"""How fast the real parts are: the training step, and decoding.

Every figure stands beside its ceiling, measured in the same process: products of large matrices,
and for decoding reading memory as well.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lm.core import heap, tree
from lm.core.chips import published_peak
from lm.core.mesh import one_device
from lm.decode.generate import Generator
from lm.decode.sampling import SamplingConfig
from lm.models.bert import BertConfig
from lm.models.gpt import GptConfig
from lm.nn.blocks import Block
from lm.nn.passes import READ
from lm.train.masked import MaskedPretrain
from lm.train.optimizer import AdamWConfig, BertAdamConfig
from lm.train.pretrain import Pretrain
from lm.train.state import create
from lm.train.supervised import Supervised

Dtype = Literal["float32", "bfloat16"]
Remat = Literal["none", "full"]


@dataclasses.dataclass(frozen=True)
class Size:
    """A model and the rows of a step."""

    layers: int
    heads: int
    width: int
    vocab: int
    batch: int
    length: int


SIZES = {
    "4x4x128": Size(4, 4, 128, 65, 12, 64),  # nanoGPT's Shakespeare on a CPU
    "6x6x384": Size(6, 6, 384, 65, 16, 256),  # nanoGPT's Shakespeare
    "gpt2": Size(12, 12, 768, 50_257, 4, 512),
    # of an accelerator, whole contexts
    "gpt2_small": Size(12, 12, 768, 50_257, 16, 1024),
    "gpt2_xl": Size(48, 25, 1600, 50_257, 4, 1024),
}


def pretraining(size: Size, dtype: Dtype, *, remat: Remat = "none") -> Pretrain:
    """GPT-2's block and nanoGPT's optimizer at a size; layers are unrolled where all is kept."""
    model = GptConfig(
        layers=size.layers, width=size.width, heads=size.heads, length=size.length,
        vocab=size.vocab, dtype=dtype, unroll=size.layers if remat == "none" else 1, remat=remat,
    )  # fmt: skip
    return Pretrain(model=model, optim=AdamWConfig(peak_lr=1e-3), steps=1, batch=size.batch)


def bert_pretraining(dtype: Dtype) -> MaskedPretrain:
    """BERT Base, 8 rows of 128."""
    return MaskedPretrain(
        model=BertConfig(layers=12, width=768, heads=12, vocab=30_522, dtype=dtype, unroll=12),
        optim=BertAdamConfig(peak_lr=1e-4), steps=1, batch=8, stages=((128, 1.0),),
    )  # fmt: skip


# ---------------------------------------------------------------- training


def train_figure(
    name: str, experiment: Supervised, flops_per_token: float, repeats: int
) -> dict[str, Any]:
    """Median seconds of the step that `launch.train` runs, state donated from step to step; `mfu`
    where the device's peak is published."""
    model: Any = experiment.model  # type: ignore[attr-defined]
    mesh = one_device()
    with jax.set_mesh(mesh):
        began = time.perf_counter()
        abstract = experiment.abstract(mesh)
        state = create(experiment.initial(), abstract, 0)
        step = experiment.step(mesh, abstract)
        host = random_rows(experiment.abstract_rows(), model.vocab)
        batch = experiment.split(host, mesh, slice(0, experiment.batch), experiment.batch)
        rate = jnp.float32(1e-4)
        state, metrics = step(state, batch, rate)
        jax.block_until_ready(metrics)
        compiled = time.perf_counter() - began
        seconds = []
        for _ in range(repeats):
            heap.map_where_memory_is_short()
            start = time.perf_counter()
            state, metrics = step(state, batch, rate)
            jax.block_until_ready(metrics)
            seconds.append(time.perf_counter() - start)
    tokens = int(np.prod(host.tokens.shape))
    median = statistics.median(seconds)
    peak = published_peak(mesh.devices.flat[0].device_kind)
    used = {"mfu": round(tokens * flops_per_token / median / peak, 4)} if peak else {}
    return {
        "name": "train", "model": name, "batch": experiment.batch, "length": host.tokens.shape[-1],
        "dtype": model.dtype, "tokens_per_second": round(tokens / median, 1),
        "ms": round(1e3 * median, 2), "spread_ms": spread(seconds),
        **share_of_matmul(tokens * flops_per_token / median, model.dtype), **used,
        "first_step_seconds": round(compiled, 1),
    }  # fmt: skip


def random_rows(abstract: Any, vocab: int) -> Any:
    """Rows of the shapes of `abstract`: random ids, and masks that are true."""
    numbers = np.random.default_rng(0)

    def made(path: Any, leaf: Any) -> np.ndarray:
        name = tree.name_of(path)
        if leaf.dtype == bool:
            return np.ones(leaf.shape, bool)
        if name in ("tokens", "targets"):
            return numbers.integers(0, vocab, leaf.shape).astype(leaf.dtype)
        limit = {"positions": abstract.tokens.shape[-1], "segments": 2, "next": 2}.get(name)
        if limit is not None:
            return numbers.integers(0, limit, leaf.shape).astype(leaf.dtype)
        return np.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape)

    return jax.tree_util.tree_map_with_path(made, abstract)


def step_memory(experiment: Pretrain) -> dict[str, int]:
    """Bytes of a compiled step: what it holds at its peak, and what it cannot do without.

    The floor is parameters, moments, gradients, each block's input, what one block's backward pass
    needs of its forward pass, and logits with their gradient.
    """
    mesh = one_device()
    analysis: Any = experiment.lowered(mesh).compile().memory_analysis()
    peak = (
        analysis.argument_size_in_bytes + analysis.output_size_in_bytes
        - analysis.alias_size_in_bytes + analysis.temp_size_in_bytes
    )  # fmt: skip
    model, rows = experiment.model, experiment.batch // experiment.microbatches
    assert isinstance(model, GptConfig)
    with jax.set_mesh(mesh):
        state = experiment.abstract(mesh)
    tokens = rows * model.length
    block, x = Block(model), jax.ShapeDtypeStruct((rows, model.length, model.width), model.dtype)
    kept = jax.eval_shape(
        lambda key, x: nn.unbox(block.init(key, x)["params"]), jax.random.key(0), x
    )
    layer = jax.eval_shape(
        lambda p, x: jax.vjp(lambda p, x: block.apply({"params": p}, x)[0], p, x)[1], kept, x
    )
    floor = (
        2 * tree.size_bytes(state.params) + tree.size_bytes(state.moments)
        + model.layers * tree.size_bytes(x)
        + tree.size_bytes(layer) - tree.size_bytes(kept)
        + 2 * tokens * model.vocab * 4
    )  # fmt: skip
    return {"peak": int(peak), "floor": int(floor)}


# ---------------------------------------------------------------- decoding


def decode_figure(batch: int, dtype: Dtype, repeats: int, tokens: int = 128) -> dict[str, Any]:
    """GPT-2 small from prompts of 128 tokens, greedily; prompts are read anew each time."""
    config = GptConfig(layers=12, width=768, heads=12, length=1024, vocab=50_257, dtype=dtype)
    return generation_figure("gpt2", config, batch, repeats, tokens)


def generation_figure(
    name: str, config: GptConfig, batch: int, repeats: int, tokens: int, prompt: int = 128
) -> dict[str, Any]:
    """Median seconds of `tokens` new ones behind each of `batch` prompts."""
    params = random_params(config)
    generator = Generator(config, params, end=None)
    numbers = np.random.default_rng(0)
    prompts = numbers.integers(0, config.vocab, (batch, prompt)).tolist()
    greedy = SamplingConfig(temperature=0.0)
    generator(prompts, tokens, greedy)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        generator(prompts, tokens, greedy)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    weights = tree.size_bytes(generator.params)
    bandwidth, length = read_bandwidth(), prompt + tokens
    each = config.flops_per_token(length, scored=tokens / length, blocks=READ, output=READ)
    return {
        "name": "decode", "model": name, "batch": batch, "length": length, "dtype": config.dtype,
        "tokens_per_second": round(batch * tokens / median, 1),
        "ms_a_token": round(1e3 * median / tokens, 2), "spread_ms": spread(seconds),
        "share_of_bandwidth": round(weights * tokens / median / bandwidth, 3),
        "bandwidth_gb": round(bandwidth / 1e9, 1),
        **share_of_matmul(batch * length * each / median, config.dtype),
    }  # fmt: skip


def random_params(config: GptConfig) -> Any:
    """Parameters of the right shapes, without the time that a real initialisation takes."""
    from lm.models.gpt import abstract_params

    numbers = np.random.default_rng(0)
    shapes = nn.unbox(abstract_params(config))
    return jax.tree.map(lambda leaf: 0.02 * numbers.standard_normal(leaf.shape, np.float32), shapes)


# ---------------------------------------------------------------- ceilings


def timed(one: Callable[[int], None], repeats: int) -> Iterator[float]:
    one(0)
    for number in range(1, repeats + 1):
        start = time.perf_counter()
        one(number)
        yield time.perf_counter() - start


def share_of_matmul(flops_per_second: float, dtype: str) -> dict[str, float]:
    """What part of the rate of large products that is, and that rate."""
    ceiling = matmul_flops(dtype)
    return {
        "share_of_matmul": round(flops_per_second / ceiling, 4),
        "matmul_gflops": round(ceiling / 1e9, 1),
    }


def matmul_flops(dtype: str, size: int | None = None, repeats: int = 5) -> float:
    """FLOP/s of the best of a few products with float32 results; of 2048 x 2048 matrices on a CPU,
    and of larger ones where these would be over before the next is asked for."""
    size = size or (2048 if jax.default_backend() == "cpu" else 8192)
    a = jnp.ones((size, size), dtype)
    product = jax.jit(lambda x: jnp.dot(x, x, preferred_element_type=jnp.float32))
    return 2 * size**3 / min(timed(lambda _: jax.block_until_ready(product(a)), repeats))


def read_bandwidth(megabytes: int = 512, repeats: int = 5) -> float:
    """Bytes a second of the best of a few sums over an array that no cache holds."""
    a = jnp.ones((megabytes * 2**18,), jnp.float32)
    total = jax.jit(jnp.sum)
    return a.nbytes / min(timed(lambda _: jax.block_until_ready(total(a)), repeats))


def spread(seconds: list[float]) -> list[float]:
    """Least and most, in milliseconds."""
    return [round(1e3 * min(seconds), 2), round(1e3 * max(seconds), 2)]
