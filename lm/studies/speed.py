"""How fast the real parts are: the training step, decoding, the input pipeline.

Every figure stands beside its ceiling, measured in the same process: products of 2048 x 2048
matrices for training, reading memory for decoding.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lm.core import heap, tree
from lm.core.mesh import one_device
from lm.data.batches import TokenBatch, Windows
from lm.data.masking import MaskedBatch
from lm.data.pairs import InstancesConfig, measure
from lm.data.sentences import SentencesConfig, prepare_sentences
from lm.data.sources import Document
from lm.data.token_file import TokenFile
from lm.data.token_writer import write_tokens
from lm.data.tokens import TextConfig
from lm.decode.generate import Generator
from lm.decode.sampling import SamplingConfig
from lm.models.bert import BertConfig
from lm.models.gpt import GptConfig
from lm.nn.blocks import Block
from lm.text.byte import ByteTokenizer
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
    """Median seconds of the step that `launch.train` runs, state donated from step to step."""
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
    ceiling = matmul_flops(model.dtype)
    return {
        "name": "train", "model": name, "batch": experiment.batch, "length": host.tokens.shape[-1],
        "dtype": model.dtype, "tokens_per_second": round(tokens / median, 1),
        "ms": round(1e3 * median, 2), "spread_ms": spread(seconds),
        "share_of_matmul": round(tokens * flops_per_token / median / ceiling, 3),
        "matmul_gflops": round(ceiling / 1e9, 1), "first_step_seconds": round(compiled, 1),
    }  # fmt: skip


def random_rows(abstract: Any, vocab: int) -> Any:
    """Rows of the shapes of `abstract`: random ids, and masks that are true."""
    numbers = np.random.default_rng(0)

    def made(name: str, leaf: Any) -> np.ndarray:
        if leaf.dtype == bool:
            return np.ones(leaf.shape, bool)
        if name in ("tokens", "targets"):
            return numbers.integers(0, vocab, leaf.shape).astype(leaf.dtype)
        limit = {"positions": abstract.tokens.shape[-1], "segments": 2, "next": 2}.get(name)
        if limit is not None:
            return numbers.integers(0, limit, leaf.shape).astype(leaf.dtype)
        return np.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape)

    kind: Any = MaskedBatch if isinstance(abstract, MaskedBatch) else TokenBatch
    fields = dataclasses.fields(kind)
    return kind(**{f.name: made(f.name, getattr(abstract, f.name)) for f in fields})


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
    params = random_params(config)
    generator = Generator(config, params, end=None)
    numbers = np.random.default_rng(0)
    prompts = numbers.integers(0, config.vocab, (batch, 128)).tolist()
    greedy = SamplingConfig(temperature=0.0)
    generator(prompts, tokens, greedy)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        generator(prompts, tokens, greedy)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    weights = tree.size_bytes(generator.params)
    bandwidth = read_bandwidth()
    return {
        "name": "decode", "model": "gpt2", "batch": batch, "length": 128 + tokens, "dtype": dtype,
        "tokens_per_second": round(batch * tokens / median, 1),
        "ms_a_token": round(1e3 * median / tokens, 2), "spread_ms": spread(seconds),
        "share_of_bandwidth": round(weights * tokens / median / bandwidth, 3),
        "bandwidth_gb": round(bandwidth / 1e9, 1),
    }  # fmt: skip


def random_params(config: GptConfig) -> Any:
    """Parameters of the right shapes, without the time that a real initialisation takes."""
    from lm.models.gpt import abstract_params

    numbers = np.random.default_rng(0)
    shapes = nn.unbox(abstract_params(config))
    return jax.tree.map(lambda leaf: 0.02 * numbers.standard_normal(leaf.shape, np.float32), shapes)


# -------------------------------------------------------------------- data


def data_figure(size: Size, repeats: int) -> dict[str, Any]:
    """Rows cut from a token file and placed on the device, a step's worth at a time."""
    mesh = one_device()
    experiment = pretraining(size, "float32")
    with tempfile.TemporaryDirectory() as folder, jax.set_mesh(mesh):
        text = np.random.default_rng(0).integers(32, 127, 4_000_000).astype(np.uint8).tobytes()
        document = Document("random", text.decode("ascii"))
        path = Path(folder) / "tokens"
        write_tokens([document], ByteTokenizer(), path, report=lambda line: None)
        file = TokenFile.open(path, vocab_size=None, tokenizer_digest=None)
        windows, rows = Windows(file, size.length, 0), slice(0, size.batch)

        def one(step: int) -> None:
            host = windows(step * size.batch, size.batch)
            jax.block_until_ready(experiment.split(host, mesh, rows, size.batch))

        seconds = list(timed(one, 20 * repeats))
    median = statistics.median(seconds)
    return {
        "name": "data", "model": f"{size.batch}x{size.length}", "batch": size.batch,
        "length": size.length, "tokens_per_second": round(size.batch * size.length / median),
        "ms": round(1e3 * median, 3),
    }  # fmt: skip


def pairs_figure(length: int = 128) -> dict[str, Any]:
    """One pass of BERT's data builder over Python's own library, once it is tokenised."""
    with tempfile.TemporaryDirectory() as folder:
        text = TextConfig(cache=folder)
        config, tokenizer = SentencesConfig(), ByteTokenizer()
        sentences = prepare_sentences(text, config, tokenizer, "train", lambda line: None)
        tokens, seconds = measure(sentences, length, InstancesConfig())
    return {
        "name": "pairs", "model": "bert", "batch": None, "length": length,
        "tokens_per_second": round(tokens / seconds), "ms": round(1e3 * seconds, 1),
    }  # fmt: skip


def timed(one: Callable[[int], None], repeats: int) -> Iterator[float]:
    one(0)
    for number in range(1, repeats + 1):
        start = time.perf_counter()
        one(number)
        yield time.perf_counter() - start


# ---------------------------------------------------------------- ceilings


def matmul_flops(dtype: str, size: int = 2048, repeats: int = 5) -> float:
    """FLOP/s of the best of a few products with float32 results."""
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
