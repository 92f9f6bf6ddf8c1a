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
from lm.core.errors import CheckpointError, ConfigError, GuardStop
from lm.train.checkpoint import Checkpoints
from lm.train.guard import GuardConfig
from lm.train.metrics import Console, MetricsFile, duration, rate
from lm.train.process import Process, Stop, Watchdog, locked
from lm.train.step import StepMetrics

BEHIND = 2  # steps dispatched before a step's metrics are read
FAILED_SAVES = 3  # in a row, after which a run stops
HOW = ("model.remat", "model.attention", "model.unroll", "model.dtype", "data.cache")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How often a run tells, evaluates and saves, in steps."""

    log_every: int = 10
    evaluate_every: int = 250
    save_every: int = 500
    keep: int = 3  # checkpoints
    layer_norms: bool = False  # log the gradient norm of every array and layer
    sample_tokens: int = 0  # length of the samples drawn at each evaluation
    sample_prompts: tuple[str, ...] = ("\n",)

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
        loop: LoopConfig,
        guard: GuardConfig,
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
        self.workdir, self.config, self.process = workdir, config, process
        self.loop, self.guard = loop, guard
        self.total, self.facts = steps, facts
        self.flops_per_token, self.peak = flops_per_token, peak
        self.main = jax.process_index() == 0
        self.console = Console()
        self.pending: collections.deque[tuple[int, int, StepMetrics]] = collections.deque()
        self.skipped = self.rollbacks = 0
        self.rollback_wanted = False
        self.first = self.next_step = 0

    def __enter__(self) -> "Session":
        with ExitStack() as stack:
            if self.main:
                stack.enter_context(locked(self.workdir, steal=self.process.steal_lock))
            self.checkpoints = Checkpoints(self.workdir / "checkpoints", keep=self.loop.keep)
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
        data = {
            n: pair
            for n, pair in changed.items()
            if n.startswith(("data.", "seed", "batch", "ramp"))
        }
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
            self.metrics = MetricsFile(
                self.workdir / "metrics.jsonl", self.first if restored else None
            )
            self.resources.callback(self.metrics.close)
            self.before = self.metrics.seconds
        self.started = self.told = time.perf_counter()
        self.told_tokens = 0
        return state

    def check_facts(self, manifest: dict[str, Any]) -> None:
        """Raises CheckpointError where tokenizer or data are not those of the checkpoint."""
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
                self.console.say(
                    f"trace of steps {profile[0]}:{profile[1]} in {self.workdir}/profile"
                )

    def after(self, step: int, state: Any, metrics: StepMetrics, tokens: int) -> Any:
        """Reads older metrics, saves when it is time, leaves when a signal asks for it.

        Args:
          tokens: of the run so far, this step included.

        Returns:
          The state to go on with: another one after a roll back.

        Raises:
          GuardStop: the policy says to stop. Finished: a signal came, the state is saved.
        """
        self.pending.append((step, tokens, metrics))
        if len(self.pending) > BEHIND:
            self.read(self.pending.popleft())
        if self.rollback_wanted:
            state = self.roll_back(state)
        done = step + 1
        asked = self.stop.requested(done)
        if asked or done % self.loop.save_every == 0 or done == self.total:
            self.save(done, state)
        if asked:
            self.drain()
            self.checkpoints.settle()
            if self.main:
                self.console.say(
                    f"saved step {done} in {self.workdir}; the same command goes on from it"
                )
            raise Finished(self.stop.exit_code)
        return state

    def read(self, entry: tuple[int, int, StepMetrics]) -> None:
        """Waits for one step, acts on what its guard found, tells its metrics."""
        step, tokens, metrics = entry
        values = jax.device_get(metrics)
        self.watchdog.step_done()
        if not values.finite or not values.applied:
            self.bad_step(step, values)
        else:
            self.skipped = 0
            if values.spike > self.guard.threshold:
                self.tell_spike(step, values, "applied")
        done = step + 1
        if done % self.loop.log_every == 0 or done == self.total or done == self.first + 1:
            self.log(done, tokens, values)

    def bad_step(self, step: int, values: StepMetrics) -> None:
        guard = self.guard
        if values.finite:
            self.tell_spike(step, values, "skipped")
        elif self.main:
            bundle = {
                "step": step,
                "loss": repr(float(values.loss)),
                "grad_norm": repr(float(values.grad_norm)),
                "tokens": float(values.tokens),
                "lr": float(values.lr),
            }
            folder = self.workdir / "debug"
            folder.mkdir(exist_ok=True)
            (folder / f"{step:08}.json").write_text(json.dumps(bundle) + "\n")
        what = f"step {step}: loss {float(values.loss)}, gradient norm {float(values.grad_norm)}"
        self.skipped += 1
        if not values.finite and guard.nonfinite == "stop":
            raise GuardStop(
                f"{what}; nothing of it was saved. Resume with --set guard.nonfinite=skip, "
                "or a lower optim.peak_lr"
            )
        if self.skipped > guard.limit:
            raise GuardStop(f"{what}; {self.skipped} steps in a row were skipped (guard.limit)")
        if not values.finite and guard.nonfinite == "rollback":
            self.rollback_wanted = True
        if self.main:
            self.console.say(f"warning: {what}; skipped")

    def tell_spike(self, step: int, values: StepMetrics, done: str) -> None:
        if self.main:
            self.console.say(
                f"warning: spike at step {step}: loss {float(values.loss):.4f}, gradient norm "
                f"{float(values.grad_norm):.3f}, robust z {float(values.spike):.1f}; {done}"
            )

    def roll_back(self, state: Any) -> Any:
        """The newest checkpoint's parameters at the present step: the bad batches are left out."""
        self.rollback_wanted = False
        self.rollbacks += 1
        if self.rollbacks > self.guard.limit:
            raise GuardStop(f"rolled back {self.rollbacks} times (guard.limit)")
        self.pending.clear()
        self.checkpoints.settle()
        restored = self.checkpoints.restore(self.abstract)
        if restored is None:
            raise GuardStop("a roll back was asked for before the first checkpoint")
        old = int(restored[1]["step"])
        self.console.say(
            f"rolled back to the parameters of step {old}; going on at {self.next_step}"
        )
        step = jax.device_put(np.int32(self.next_step), self.abstract.step.sharding)
        del state
        return restored[0].replace(step=step)

    def save(self, step: int, state: Any) -> None:
        """Saves unless a step that is not finite is under way; stops after some failures."""
        self.drain()
        if self.checkpoints.save(step, state, self.facts | {"rollbacks": self.rollbacks}):
            self.checkpoints.failures = 0
        elif self.checkpoints.failures >= FAILED_SAVES:
            raise CheckpointError(
                f"{self.checkpoints.failures} saves failed in a row; free some space"
            )

    def drain(self) -> None:
        while self.pending:
            self.read(self.pending.popleft())

    # ---------------------------------------------------------------- telling

    def log(self, done: int, tokens: int, values: StepMetrics) -> None:
        if not self.main:
            return
        now = time.perf_counter()
        seconds = now - self.told
        speed = (tokens - self.told_tokens) / max(seconds, 1e-9) if self.told_tokens else 0.0
        self.told, self.told_tokens = now, tokens
        mfu = speed * self.flops_per_token / self.peak
        row = {
            "step": done,
            "tokens": tokens,
            "seconds": self.before + now - self.started,
            "loss": float(values.loss),
            "grad_norm": float(values.grad_norm),
            "lr": float(values.lr),
            "tokens_per_second": speed,
            "mfu": mfu,
        }
        for name, norms in (values.layer_norms or {}).items():
            row[f"norm/{name}"] = np.asarray(norms, float).tolist()
        self.metrics.write(row)
        left = (self.total - done) * tokens / done / speed if speed else 0.0
        self.console.progress(
            f"step {done:>{len(str(self.total))}}/{self.total}  loss {row['loss']:.4f}  "
            f"{rate(speed) if speed else '-'}  MFU {mfu:.0%}  "
            f"ETA {duration(left) if speed else '-'}",
            force=done == self.total,
        )

    def describe(self, parameters: int, train: Any, valid: Any) -> None:
        """Says what is about to be trained on what."""
        if self.main:
            devices = jax.devices()
            print(
                f"{parameters:,} parameters on {len(devices)} x {devices[0].device_kind}; "
                f"{len(train.tokens):,} tokens to train on, {len(valid.tokens):,} held out; "
                f"run in {self.workdir}",
                flush=True,
            )

    def record(self, row: dict[str, Any], text: str = "") -> None:
        """Writes a row of evaluation figures, and says `text`; the speed leaves the time out."""
        self.drain()
        if self.main:
            self.metrics.write(row)
            if text:
                self.console.say(text)
            self.told, self.told_tokens = time.perf_counter(), 0

    def sample(self, step: int, text: str) -> None:
        """Keeps what the model wrote at this step."""
        if self.main:
            folder = self.workdir / "samples"
            folder.mkdir(exist_ok=True)
            (folder / f"{step:08}.txt").write_text(text)

    def finish(self, summary: dict[str, Any]) -> None:
        """Waits for the last save and writes `summary.json`.

        Raises:
          CheckpointError: the last save failed.
        """
        self.drain()
        if not self.checkpoints.settle():
            raise CheckpointError(f"the last checkpoint could not be written to {self.workdir}")
        if self.main:
            summary = {"seconds": self.before + time.perf_counter() - self.started, **summary}
            (self.workdir / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")


def told(changed: dict[str, tuple[Any, Any]]) -> str:
    return ", ".join(
        f"{name}: checkpoint {old!r}, now {new!r}" for name, (old, new) in changed.items()
    )


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
    """The git commit of this code, or a dash."""
    here = Path(__file__).parent
    try:
        command = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "-"
    return done.stdout.strip() or "-"
