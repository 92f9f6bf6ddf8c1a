"""What a run writes down and says: `metrics.jsonl`, samples, debug bundles, the summary, progress.

One process does so; on the others every call does nothing.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint

from lm.core.errors import CheckpointError, ConfigError
from lm.core.paths import write_whole
from lm.train.goodput import Goodput
from lm.train.metrics import Console, MetricsFile, duration, rate
from lm.train.step import StepMetrics

TOLD = ("reward", "kl")  # figures of a step that stand in the line of progress


class Journal:
    """The record of one run in its directory."""

    def __init__(
        self, workdir: Path, goodput: Goodput, steps: int,
        flops_per_token: Callable[[int], float], peak: float,
        events: bool = False, total_tokens: int | None = None,
    ):  # fmt: skip
        """
        Args:
          goodput: which counts the seconds of the run.
          flops_per_token: of training on a token of this step, for MFU.
          peak: FLOP/s of all devices.
          events: write them for TensorBoard too.
          total_tokens: of the whole run, where its steps have not all as many.
        """
        self.events, self.total_tokens = events, total_tokens
        self.workdir, self.goodput, self.steps = workdir, goodput, steps
        self.flops_per_token, self.peak = flops_per_token, peak
        self.main = jax.process_index() == 0
        self.console = Console()
        self.file: MetricsFile | None = None
        self.told = time.perf_counter()
        self.told_tokens = 0
        self.earlier = 0  # tokens that were counted before, and that today's settings do not count
        self.speed = 0.0  # tokens a second, of what was told last; 0: not known yet

    def reopen(self) -> None:
        """Takes back that the run has ended: it has steps to make, and others go by its summary,
        and by the gallery of its last step."""
        for name in ("summary.json", "gallery.jsonl") if self.main else ():
            (self.workdir / name).unlink(missing_ok=True)

    def open(self, resumed_step: int | None) -> None:
        """Starts, or goes on after this step: rows and samples that come later are dropped. Raises
        ConfigError where nothing can be written."""
        if self.main:
            for path in (self.workdir / "samples").glob("*.txt"):
                if path.stem.isdecimal() and int(path.stem) > (resumed_step or 0):
                    path.unlink()
            path = self.workdir / "metrics.jsonl"
            try:
                self.file = MetricsFile(path, resumed_step, events=self.events)
            except OSError as error:
                raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None
        self.told = time.perf_counter()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def say(self, text: str) -> None:
        """Something that stays on the terminal."""
        if self.main:
            self.console.say(text)

    def step(self, done: int, tokens: int, values: StepMetrics, reached: int) -> None:
        """A row of metrics after `done` steps and `tokens` tokens, and the line of progress.

        Args:
          tokens: under the current config.
          reached: tokens of all steps that have ended by now, these among them.
        """
        if self.file is None:
            return
        now = time.perf_counter()
        if reached > self.told_tokens:  # or else this step was told of with the one before
            passed = max(now - self.told, 1e-9)
            self.speed = (reached - self.told_tokens) / passed
            self.told, self.told_tokens = now, reached
        row: dict[str, Any] = {
            "step": done,
            "tokens": tokens + self.earlier,
            "seconds": self.goodput.whole(),
            "loss": float(values.loss),
            "grad_norm": float(values.grad_norm),
            "lr": float(values.lr),
        }
        left = (self.total_tokens or self.steps * tokens / done) - tokens
        pace = "-  MFU -  ETA -"
        if speed := self.speed:
            mfu = speed * self.flops_per_token(done - 1) / self.peak
            row |= {"tokens_per_second": speed, "mfu": mfu}
            pace = f"{rate(speed)}  MFU {mfu:.0%}  ETA {duration(left / speed)}"
        parts = {name: float(part) for name, part in (values.parts or {}).items()}
        if np.isfinite(values.loss):  # then what is no number is a mean over nothing
            parts = {name: part for name, part in parts.items() if not np.isnan(part)}
        row |= {f"loss/{name}": part for name, part in parts.items()}
        figures = {name: float(value) for name, value in (values.figures or {}).items()}
        row |= figures
        for name, norms in (values.norms or {}).items():
            row[f"norm/{name}"] = np.asarray(norms, float).tolist()
        self.file.write(row)
        told = "".join(f"{name} {figures[name]:.3f}  " for name in TOLD if name in figures)
        self.console.progress(
            f"step {done:>{len(str(self.steps))}}/{self.steps}  loss {row['loss']:.4f}  "
            f"{told}{pace}",
            force=done == self.steps,
        )

    def evaluation(self, row: dict[str, Any], text: str) -> None:
        """A row of figures after all steps that were begun, and `text`; the time that they took to
        find is left out of the next speed."""
        if self.file is not None:
            self.file.write(self.counted(row))
            self.say(text)
        self.restart(int(row["tokens"]))

    def restart(self, tokens: int) -> None:
        """The next speed is of what comes after so many tokens; till then none is known."""
        self.told, self.told_tokens, self.speed = time.perf_counter(), tokens, 0.0

    def counted(self, figures: dict[str, Any]) -> dict[str, Any]:
        """The same, whose tokens are those of the whole run, under whatever settings."""
        if not self.earlier:
            return figures
        return figures | {"tokens": figures["tokens"] + self.earlier}

    def sample(self, step: int, text: str) -> None:
        """Keeps what the model wrote at this step; the time that it took is left out as well."""
        self.write(f"samples/{step:08}.txt", text)
        self.told = time.perf_counter()

    def bad_step(self, step: int, values: StepMetrics, rows: list[dict[str, Any]]) -> None:
        """Keeps what is known of a step that was not finite, and of each row that it read."""
        figures = {
            name: repr(float(getattr(values, name)))  # NaN and Inf are no JSON
            for name in ("loss", "grad_norm", "tokens", "lr")
        }
        norms = {
            name: np.asarray(norm, float).astype(str).tolist()
            for name, norm in (values.norms or {}).items()
        }
        told = {"step": step, **figures} | ({"norms": norms} if norms else {}) | {"rows": rows}
        self.write(f"debug/{step:08}.json", json.dumps(told) + "\n")

    def flush(self) -> None:
        """Puts all rows where a reader of the run's directory finds them."""
        if self.file is not None:
            self.file.flush()

    def summary(self, figures: dict[str, Any]) -> None:
        """Says that the run has ended, and with what. Raises CheckpointError where it cannot."""
        text = json.dumps({"seconds": self.goodput.whole(), **self.counted(figures)}, indent=1)
        if self.main:
            try:
                write_whole(self.workdir / "summary.json", text + "\n")
            except OSError as error:
                raise CheckpointError(
                    f"cannot write {self.workdir / 'summary.json'}: {error.strerror or error}; "
                    "free some space, and the same command ends the run"
                ) from None

    def write(self, name: str, text: str) -> None:
        """Keeps what a run can do without: a disk that is full is told, and the run goes on."""
        if self.main:
            path = self.workdir / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            except OSError as error:
                self.say(f"warning: {path} was not written: {error.strerror or error}")


def environment() -> str:
    """Versions, commit and devices, as comments below the bindings."""
    devices = jax.devices()
    lines = [
        f"python {sys.version.split()[0]}, jax {jax.__version__}, "
        f"orbax-checkpoint {orbax.checkpoint.__version__}, numpy {np.__version__}",
        f"commit {commit()}",
        f"{len(devices)} x {devices[0].device_kind}, {jax.process_count()} processes",
    ]
    return "".join(f"# {line}\n" for line in lines)


def commit() -> str:
    """The git commit that has this code, and whether it was changed since; or a dash: an installed
    package may lie in a folder of another repository, whose commit says nothing of it."""
    here = Path(__file__)
    found = git(here.parent, "rev-parse", "HEAD", f"HEAD:./{here.name}")
    if found is None:
        return "-"
    changes = git(here.parents[2], "status", "--porcelain", "--", "lm", "experiments", "launch")
    return found[:9] + (" with changes" if changes else "")


def git(folder: Path, *words: str) -> str | None:
    """What git prints there; None where it fails, is not installed or takes long."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
