"""What surrounds the steps of a run of any kind: its directory, resume, metrics, saves, signals.

An experiment's own loop reads

    with Session(workdir, config, process, ...) as session:
        state = session.start(abstract, create)
        for step in session.steps():
            state, metrics = train_step(state, batch(step), rate(step))
            state = session.after(step, state, metrics, ...)

The next step is dispatched before the last one's metrics are read.
"""

import collections
import dataclasses
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint

from lm.core.config import CLASS, differences, dump, load, require_positive
from lm.core.errors import CheckpointError, ConfigError, GuardStop, UserError
from lm.train.checkpoint import Checkpoints
from lm.train.guard import GuardConfig
from lm.train.metrics import Console, MetricsFile, duration, rate
from lm.train.process import Process, Stop, Watchdog, locked
from lm.train.step import StepMetrics

BEHIND = 2  # steps dispatched before a step's metrics are read
FAILED_SAVES = 3  # in a row, after which a run stops
HOW = ("model.remat", "model.attention", "model.unroll", "model.dtype", "data.cache")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How often a run tells, evaluates and saves, in steps."""

    log_every: int = 10
    evaluate_every: int = 250
    save_every: int = 500
    keep: int = 3  # checkpoints
    layer_norms: bool = False  # log the gradient norm of every array and layer
    activation_norms: bool = False  # log the root mean square of every block's output
    sample_tokens: int = 0  # length of the samples drawn at each evaluation
    sample_prompts: tuple[str, ...] = ("\n",)
    guard: GuardConfig = GuardConfig()

    def __post_init__(self) -> None:
        require_positive(self, "log_every", "evaluate_every", "save_every", "keep")


class Finished(Exception):
    """Ends a run whose process is to leave with this exit code, its state saved."""

    def __init__(self, code: int):
        self.code = code


class Session:
    """One run of an experiment in one directory."""

    def __init__(
        self,
        workdir: Path,
        config: Any,
        process: Process,
        *,
        run: RunConfig,
        steps: int,
        facts: dict[str, Any],
        flops_per_token: float,
        peak: float,
    ):
        """
        Args:
          config: the experiment; `config.gin` is made of it.
          facts: digests of what the run reads, kept in every checkpoint and compared on resume.
          flops_per_token, peak: of the training step and of all devices, for MFU.
        """
        self.workdir, self.config, self.process, self.run = workdir, config, process, run
        self.total, self.facts = steps, facts
        self.flops_per_token, self.peak = flops_per_token, peak
        self.main = jax.process_index() == 0
        self.console = Console()
        self.pending: collections.deque[tuple[int, int, StepMetrics]] = collections.deque()
        self.skipped = self.rollbacks = 0
        self.first = self.next_step = 0
        self.summary: dict[str, Any] = {}

    def __enter__(self) -> "Session":
        with ExitStack() as stack:
            if self.main:
                stack.enter_context(locked(self.workdir, steal=self.process.steal_lock))
            self.checkpoints = Checkpoints(self.workdir / "checkpoints", keep=self.run.keep)
            stack.callback(self.checkpoints.close)
            self.changed = self.check_config()
            self.stop = stack.enter_context(Stop())
            self.watchdog = Watchdog(self.process.step_timeout)
            stack.callback(self.watchdog.close)
            self.resources = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self.resources.close()

    # ------------------------------------------------------------------ start

    def check_config(self) -> dict[str, tuple[Any, Any]]:
        """The bindings that differ from those of the run that is resumed, if it is the same run.

        Raises:
          ConfigError: the directory holds another run, or one of another model or data.
        """
        path = self.workdir / "config.gin"
        if not self.checkpoints.steps():
            return {}
        if not path.exists():
            raise ConfigError(f"{self.workdir} has checkpoints but no config.gin; choose another")
        changed = differences(load(path.read_text(), str(path)), self.config)
        changed = {name: pair for name, pair in changed.items() if name not in HOW}
        if CLASS in changed:
            old, new = changed[CLASS]
            raise ConfigError(f"{self.workdir} holds a run of {old}, not {new}; choose another")
        model = {n: pair for n, pair in changed.items() if n.startswith(("model.", "tokenizer."))}
        if model:
            raise ConfigError(f"{told(model)}; choose another --workdir or set them as they were")
        data = {n: pair for n, pair in changed.items() if n.startswith(("data.", "seed", "batch", "ramp"))}
        if data and not self.process.allow_data_change:
            raise ConfigError(f"{told(data)}: other data or order; --allow_data_change to go on so")
        return changed

    def start(self, abstract: Any, create: Callable[[], Any]) -> Any:
        """The state to go on from: the newest usable checkpoint, or a new one. Call it once."""
        process = self.process
        restored = self.checkpoints.restore(
            abstract, process.restore_step, fallback=process.restore_fallback
        )
        if restored is None:
            state = create()
        else:
            state, manifest = restored
            self.check_facts(manifest)
            self.first = int(manifest["step"])
            self.rollbacks = int(manifest.get("rollbacks", 0))
            if self.main:
                self.console.say(f"resumed from step {self.first} of {self.workdir}")
                if self.changed:
                    print(f"changed since: {told(self.changed)}")
        self.abstract, self.next_step = abstract, self.first
        if self.main:
            (self.workdir / "config.gin").write_text(dump(self.config) + environment())
            self.metrics = MetricsFile(self.workdir / "metrics.jsonl", self.first if restored else None)
            self.resources.callback(self.metrics.close)
            self.before = self.metrics.seconds
        self.started = self.told = time.perf_counter()
        self.told_tokens = 0
        return state

    def check_facts(self, manifest: dict[str, Any]) -> None:
        """Raises CheckpointError where the tokenizer or the data are not those of the checkpoint."""
        for name, now in self.facts.items():
            then = manifest.get(name)
            if then == now or (name.startswith("data") and self.process.allow_data_change):
                continue
            way_out = "; --allow_data_change to go on" if name.startswith("data") else ""
            raise CheckpointError(f"{name}: checkpoint {then}, now {now}{way_out}")

    # ------------------------------------------------------------------ steps

    def steps(self) -> Iterator[int]:
        """The steps that are left. Profiles those asked for."""
        profile = self.process.profile_steps
        while self.next_step < self.total:
            step = self.next_step
            if profile and step == profile[0]:
                jax.profiler.start_trace(str(self.workdir / "profile"))
            self.next_step = step + 1
            yield step
            if profile and step + 1 == profile[1]:
                jax.profiler.stop_trace()
                self.console.say(f"trace of steps {profile[0]}:{profile[1]} in {self.workdir}/profile")

    def after(self, step: int, state: Any, metrics: StepMetrics, tokens: int, lr: float) -> Any:
        """Reads older metrics, saves when it is time, leaves when a signal asks for it.

        Args:
          tokens: of the run so far, this step included.

        Returns:
          The state to go on with: another one after a roll back.

        Raises:
          GuardStop: the policy says to stop. Finished: a signal came, the state is saved.
        """
        self.pending.append((step, tokens, metrics.replace(lr=lr)))
        if len(self.pending) > BEHIND:
            self.read(self.pending.popleft())
        if self.rollback_wanted:
            state = self.roll_back(state)
        done = step + 1
        asked = self.stop.requested(done)
        if asked or done % self.run.save_every == 0 or done == self.total:
            self.save(done, state)
        if asked:
            self.drain()
            self.checkpoints.settle()
            if self.main:
                self.console.say(f"saved step {done} in {self.workdir}; the same command goes on from it")
            raise Finished(self.stop.exit_code)
        return state
