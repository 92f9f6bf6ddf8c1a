"""A pre-trained run of bytes to start from, made in no time, and files of rows."""

import json
from pathlib import Path

import jax
import numpy as np
from flax import linen as nn

from lm.core.config import dump
from lm.data.tokens import TextConfig
from lm.models import gpt
from lm.models.gpt import GptConfig
from lm.text.byte import ByteTokenizer
from lm.text.tokenizer import TokenizerConfig
from lm.train.checkpoint import Checkpoints
from lm.train.guard import GuardConfig, GuardState
from lm.train.optimizer import AdamWConfig
from lm.train.pretrain import Pretrain
from lm.train.state import TrainState

VOCAB = ByteTokenizer().vocab_size
MODEL = GptConfig(layers=1, width=32, heads=2, vocab=VOCAB, length=48)
OPTIM = AdamWConfig(peak_lr=5e-3, weight_decay=0.0)


def pretrained(folder: Path, model: GptConfig = MODEL, seed: int = 7) -> Path:
    """A run of random weights, as a pre-training on a little text would have left it."""
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "text.txt"
    text.write_text("once upon a time there was a text that nobody had to read twice. " * 100)
    config = Pretrain(
        model=model, optim=OPTIM, steps=1, batch=4, data=TextConfig(train=str(text)),
        tokenizer=TokenizerConfig(kind="bytes"),
    )  # fmt: skip
    params = nn.unbox(jax.jit(gpt.init, static_argnums=0)(model, jax.random.key(seed)))
    guard = jax.device_get(GuardState.empty(GuardConfig()))
    moments = jax.jit(config.optim.direction().init)(params)
    state = jax.device_put(TrainState(np.ones((), np.int32), params, moments, guard))
    return written(folder, config, state)


def written(folder, config, state) -> Path:
    """The directory of a run over bytes, with one checkpoint."""
    checkpoints = Checkpoints(folder / "checkpoints")
    assert checkpoints.save(int(state.step), state, {"tokenizer": ByteTokenizer().digest})
    assert checkpoints.close()
    ByteTokenizer().save(folder / "tokenizer")
    (folder / "config.gin").write_text(dump(config))
    return folder


def write_rows(path: Path, rows: list[dict]) -> str:
    """The path of a JSONL file of rows; one that has them already keeps its time."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return str(path)
