"""How fast rows are made and placed on the device, beside the training that reads them.

`share_of_matmul` is that of a training at the rate of the rows: above 1, no step of the model waits
for its rows even where it does nothing but products. `times_training` is how many times faster they
are than the measured step, where there is one.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lm.core.mesh import one_device
from lm.data.batches import Windows
from lm.data.pairs import InstancesConfig, measure
from lm.data.sentences import SentencesConfig, prepare_sentences
from lm.data.sources import Document
from lm.data.token_file import TokenFile
from lm.data.token_writer import write_tokens
from lm.data.tokens import TextConfig
from lm.studies.speed import Dtype, Size, bert_pretraining, pretraining, share_of_matmul, timed
from lm.text.byte import ByteTokenizer


def data_figure(
    name: str, size: Size, dtype: Dtype, repeats: int, training: float | None = None
) -> dict[str, Any]:
    """Rows cut from a token file and placed on the device, a step's worth at a time.

    Args:
      training: tokens a second of the step of that size.
    """
    mesh = one_device()
    experiment = pretraining(size, dtype)
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
    speed, flops = size.batch * size.length / median, experiment.flops_per_token()
    return {
        "name": "data", "model": name, "batch": size.batch, "length": size.length, "dtype": dtype,
        "tokens_per_second": round(speed), "ms": round(1e3 * median, 3),
        **share_of_matmul(speed * flops, dtype), **beside(speed, training),
    }  # fmt: skip


def pairs_figure(
    dtype: Dtype, training: float | None = None, text: TextConfig | None = None
) -> dict[str, Any]:
    """One pass of BERT's data builder over a text, Python's own library where None, once it is
    tokenised; the model is BERT Base.

    Args:
      training: tokens a second of its step.
    """
    base = bert_pretraining(dtype)
    ((length, _),) = base.stages
    with tempfile.TemporaryDirectory() as folder:
        text, tokenizer = text or TextConfig(cache=folder), ByteTokenizer()
        sentences = prepare_sentences(text, SentencesConfig(), tokenizer, "train", lambda _: None)
        tokens, seconds = measure(sentences, length, InstancesConfig())
    speed = tokens / seconds
    return {
        "name": "pairs", "model": "bert", "batch": base.batch, "length": length, "dtype": dtype,
        "tokens_per_second": round(speed), "ms": round(1e3 * seconds, 1),
        **share_of_matmul(speed * base.flops_per_token(), dtype), **beside(speed, training),
    }  # fmt: skip


def beside(speed: float, training: float | None) -> dict[str, float]:
    return {} if training is None else {"times_training": round(speed / training, 1)}
