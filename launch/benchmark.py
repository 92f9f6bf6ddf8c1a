"""Measures what the project does on this machine: one JSON line a figure.

python -m launch.benchmark --only=train,decode,data,start
python -m launch.benchmark --only=train --model=4x4x128,bert --dtype=bfloat16 --repeats=3

`share_of_matmul` is the model's floating-point operations over a square product of the same dtype,
timed just before and after the figure in the same process. Quartiles are those of the repeats.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from absl import flags

from launch import command
from lm.core.errors import ConfigError

if TYPE_CHECKING:
    from lm.train.supervised import Supervised

GROUPS = ("train", "decode", "data", "start")
SIZES = {  # layers, width, heads, length, vocabulary, batch
    "4x4x128": (4, 128, 4, 64, 269, 12),
    "6x6x384": (6, 384, 6, 256, 269, 16),
    "124M": (12, 768, 12, 512, 50_257, 4),
}
BERT = "bert"

ONLY = flags.DEFINE_list("only", list(GROUPS), f"What to measure, of {','.join(GROUPS)}.")
MODEL = flags.DEFINE_list("model", [*SIZES, BERT], f"To train, of {','.join([*SIZES, BERT])}.")
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of activations.")
REPEATS = flags.DEFINE_integer("repeats", 5, "Timings of each figure.", lower_bound=1)
CHILD = flags.DEFINE_bool("first_step", False, "Make one step and leave: what `start` times.")


def main() -> None:
    check("only", ONLY.value, GROUPS)
    check("model", MODEL.value, (*SIZES, BERT))
    if CHILD.value:
        trained(pretrain("124M"), "124M", 0)
        return
    groups: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "train": train, "decode": decode, "data": data, "start": start,
    }  # fmt: skip
    for group in ONLY.value:
        for figure in groups[group]():
            print(json.dumps(figure), flush=True)


def check(flag: str, given: list[str], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"--{flag}={name}: choose of {','.join(known)}")


# ------------------------------------------------------------------------- train


def train() -> Iterator[dict[str, Any]]:
    """The step that launch.train runs, on rows that lie on the device."""
    for name in MODEL.value:
        yield trained(bert() if name == BERT else pretrain(name), name, REPEATS.value)


def pretrain(name: str) -> "Supervised":
    from lm.core.config import bind
    from lm.models.gpt import GptConfig
    from lm.train.optimizer import AdamWConfig
    from lm.train.pretrain import Pretrain

    layers, width, heads, length, vocab, batch = SIZES[name]
    model = GptConfig(
        layers=layers, width=width, heads=heads, length=length, vocab=vocab, unroll=layers,
    )  # fmt: skip
    model = bind(model, {"dtype": DTYPE.value})
    return Pretrain(model=model, optim=AdamWConfig(peak_lr=1e-3), steps=100, batch=batch)


def bert() -> "Supervised":
    """BERT-base, its first stage, with its dropout."""
    from dataclasses import replace

    from experiments.bert import base
    from lm.core.config import bind

    config = base()
    model = bind(config.model, {"unroll": config.model.layers, "dtype": DTYPE.value})
    return replace(config, model=model, batch=8, stages=((128, 1.0),))


def trained(config: Any, name: str, repeats: int) -> dict[str, Any]:
    """The figure of a training step; with no repeats, one step alone."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from lm.core.mesh import MeshConfig, make_mesh
    from lm.train.state import create

    rng = np.random.default_rng(0)
    struct = config.abstract_rows()

    def values(leaf: Any) -> Any:
        """Small ids, so that they are valid as tokens, segments and positions alike."""
        if leaf.dtype == jnp.bool_:
            return np.ones(leaf.shape, bool)
        return rng.integers(0, 2, leaf.shape).astype(leaf.dtype)

    host = jax.tree.map(values, struct)
    vocab = config.model.vocab
    host = host.replace(
        tokens=rng.integers(0, vocab, host.tokens.shape).astype(np.int32),
        targets=rng.integers(0, vocab, host.targets.shape).astype(np.int32),
        rows=np.arange(config.batch, dtype=np.uint32),
    )
    mesh = make_mesh(MeshConfig(data=1), jax.local_devices()[:1])
    with jax.set_mesh(mesh):
        abstract = config.abstract(mesh)
        state = create(config.initial(), abstract, config.seed)
        batch = config.split(host, mesh, slice(0, config.batch), config.batch)
        step, rate = config.step(mesh, abstract), jnp.float32(1e-4)
        state, metrics = step(state, batch, rate)
        float(metrics.loss)
        if not repeats:
            return {}
        holder = [state]

        def once() -> None:
            holder[0], told = step(holder[0], batch, rate)
            float(told.loss)
            jax.block_until_ready(holder[0].params)

        once()
        ceiling = matmul_flops()
        seconds = timings(once, repeats)
        ceiling = max(ceiling, matmul_flops())
    rows, length = host.tokens.shape
    flops = rows * length * config.model.flops_per_token(length)
    return {
        **figure(f"train {name}", name, rows, length, rows * length, seconds),
        "ms_a_step": round(1e3 * float(np.median(seconds)), 3),
        "share_of_matmul": round(flops / float(np.median(seconds)) / ceiling, 4),
    }


# ------------------------------------------------------------------------ decode


def decode() -> Iterator[dict[str, Any]]:
    """GPT-2 124M, 128 tokens greedily after 128, through `Generator`."""
    import jax
    import numpy as np
    from flax import linen as nn

    from lm.decode.generate import Generator
    from lm.decode.sampling import SamplingConfig

    config: Any = pretrain("124M")
    params = nn.unbox(jax.jit(config.first_params)(jax.random.key(0)))
    generator = Generator(config.model, params, None)
    prompt, made = 128, 128
    for rows in (1, 8):
        ids = np.random.default_rng(0).integers(0, config.model.vocab, (rows, prompt)).tolist()

        def once(ids: list[list[int]] = ids) -> None:
            generator(ids, made, SamplingConfig(temperature=0.0))

        once()
        ceiling = matmul_flops()
        seconds = timings(once, REPEATS.value)
        median = float(np.median(seconds))
        flops = rows * (prompt + made) * config.model.flops_per_token(prompt + made) / 3
        yield {
            **figure(f"decode b{rows}", "124M", rows, prompt + made, rows * made, seconds),
            "ms_a_step": round(1e3 * median / made, 3),
            "share_of_matmul": round(flops / median / ceiling, 4),
        }


# -------------------------------------------------------------------------- data


def data() -> Iterator[dict[str, Any]]:
    """Rows from a token file to the device, and BERT's data builder, on Python's own library."""
    import jax

    from lm.core.mesh import MeshConfig, make_mesh
    from lm.data.batches import Windows
    from lm.data.pairs import InstancesConfig, measure
    from lm.data.sentences import SentencesConfig, prepare_sentences
    from lm.data.tokens import TextConfig, prepare
    from lm.text.tokenizer import TokenizerConfig, build

    text = TextConfig()
    tokenizer = build(TokenizerConfig(), lambda: iter(()))
    file, _ = prepare(text, tokenizer, lambda _: None)
    mesh = make_mesh(MeshConfig(data=1), jax.local_devices()[:1])
    for name in SIZES:
        config: Any = pretrain(name)
        rows, length = config.batch, config.model.length
        windows = Windows(file, length, 0)

        def once(config: Any = config, rows: int = rows, windows: Windows = windows) -> None:
            for call in range(50):
                host = windows(call * rows, rows)
                jax.block_until_ready(config.split(host, mesh, slice(0, rows), rows))

        once()
        seconds = [each / 50 for each in timings(once, REPEATS.value)]
        yield figure(f"input {name}", name, rows, length, rows * length, seconds)
    sentences = prepare_sentences(
        text, SentencesConfig(paragraphs=50), tokenizer, "train", lambda _: None
    )
    built = [measure(sentences, 128, InstancesConfig()) for _ in range(REPEATS.value)]
    tokens = built[0][0]
    yield figure("build pairs", BERT, 1, 128, tokens, [seconds for _, seconds in built])


# ------------------------------------------------------------------------- start


def start() -> Iterator[dict[str, Any]]:
    """Seconds from a command to the end of its first step, the compile cache being warm."""
    import subprocess
    import sys

    words = [sys.executable, "-m", "launch.benchmark", "--first_step", f"--dtype={DTYPE.value}"]
    seconds = timings(lambda: subprocess.run(words, check=True), REPEATS.value + 1)[1:]
    _, _, _, length, _, batch = SIZES["124M"]
    yield figure("start", "124M", batch, length, batch * length, seconds)


# ----------------------------------------------------------------------- timings


def timings(work: Callable[[], object], repeats: int) -> list[float]:
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


def matmul_flops(size: int = 2048) -> float:
    """FLOP/s of the best of three square products of the flag's dtype, float32 out."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((size, size), DTYPE.value)
    product = jax.jit(lambda a: jnp.matmul(a, a, preferred_element_type=jnp.float32))
    product(a).block_until_ready()
    return 2 * size**3 / min(timings(lambda: product(a).block_until_ready(), 3))


def figure(
    name: str, model: str, batch: int, length: int, tokens: int, seconds: list[float]
) -> dict[str, Any]:
    import numpy as np

    low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    return {
        "name": name, "model": model, "batch": batch, "length": length, "dtype": DTYPE.value,
        "tokens_per_second": round(tokens / median, 1),
        "seconds": [round(float(each), 6) for each in (low, median, high)],
    }  # fmt: skip


if __name__ == "__main__":
    command.run(main)
