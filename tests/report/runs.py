"""Run directories written by hand, as the trainer leaves them."""

import json
import math
from pathlib import Path
from typing import Any

CONFIG = """class = 'lm.train.pretrain.Pretrain'
model.layers = 4
optim.peak_lr = {lr}
# jax 0.10.2, Python 3.11.7
# devices: 8 x TPU v5p
"""
SUMMARY = {
    "step": 100,
    "tokens": 6400,
    "valid_loss": 1.5,
    "valid_bits_per_byte": 0.75,
    "trigram_bits_per_byte": 2.5,
    "parameters": 824_064,
    "seconds": 125.0,
    "mfu": 0.412,
    "reference": [
        {"name": "valid_loss", "value": 1.47, "source": "table 3 of the paper"},
        {"name": "perplexity", "value": 29.41, "source": "table 4"},
    ],
}


def training_row(step: int, **more: Any) -> dict[str, Any]:
    return {
        "step": step,
        "tokens": step * 64,
        "seconds": step * 0.5,
        "loss": 1 + 4 * math.exp(-step / 30),
        "grad_norm": 1.0,
        "lr": 3e-4,
        "tokens_per_second": 1e4,
        "mfu": 0.4,
    } | more


def valid_row(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "tokens": step * 64,
        "valid_loss": 2.0,
        "valid_bits_per_byte": 0.9,
    }


def write_run(run: Path, *, lr: float = 3e-4, steps: int = 100) -> Path:
    """A run that has ended, with two samples."""
    (run / "samples").mkdir(parents=True)
    rows = [training_row(step) for step in range(1, steps + 1)]
    rows += [valid_row(steps)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "config.gin").write_text(CONFIG.format(lr=lr))
    (run / "summary.json").write_text(json.dumps(SUMMARY))
    (run / "samples" / "00000000.txt").write_text("noise before training")
    (run / "samples" / f"{steps:08}.txt").write_text("words after training")
    return run
