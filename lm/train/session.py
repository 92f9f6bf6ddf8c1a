"""What surrounds the steps of a run of any kind: its directory, resume, metrics, saves, signals.

An experiment's own loop reads

    with Session(workdir, config, process, ...) as session:
        state = session.start(abstract, create)
        for step in session.steps():
            state, metrics = train_step(state, batch(step), rate(step))
            state = session.after(step, state, metrics, evaluate)

The next step is dispatched before the last one's metrics are read. The file is long because it is
one class: what is done between two steps, and in which order, is read in one place.
"""

import collections
import dataclasses
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from lm.core import heap
from lm.core.config import dump, require_at_least_zero, require_positive
from lm.core.errors import CheckpointError, ConfigError, GuardStop
from lm.core.paths import write_whole, writing
from lm.text.tokenizer import Tokenizer
from lm.train.checkpoint import Checkpoints
from lm.train.goodput import Goodput
from lm.train.guard import GuardConfig
from lm.train.journal import Journal, environment
from lm.train.lock import locked, lost
from lm.train.metrics import read_metrics
from lm.train.process import Process, Stop, Watchdog, agreed, check_same
from lm.train.reaction import Origins, Reaction
from lm.train.resume import changed_bindings, check_facts, note_changes, told
from lm.train.step import StepMetrics
from lm.train.texts import refuse_among_texts
from lm.train.trace import Trace

BEHIND = 2  # steps dispatched before a step's metrics are read; none where it may be rolled back
FAILED_SAVES = 3  # in a row, after which a run stops


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How often a run tells, evaluates and saves, in steps."""

    log_every: int = 10
    evaluate_every: int = 250
    save_every: int = 500
    keep: int = 3  # checkpoints
    tensorboard: bool = False  # the figures in `events.*` too (lm[tracking])
    # each layer's gradient norms; of text and tasks the residual stream's too
    log_norms: bool = dataclasses.field(default=False, metadata={"was": ("layer_norms",)})
    sample_tokens: int = 0  # length of the samples drawn at each evaluation
    sample_prompts: tuple[str, ...] = ("\n",)

    def __post_init__(self) -> None:
        require_positive(self, "log_every", "evaluate_every", "save_every", "keep")
        require_at_least_zero(self, "sample_tokens")


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
        flops_per_token: Callable[[int], float],
        peak: float,
        tokens_before: Callable[[int], int],
    ):
        """
        Args:
          config: the experiment; `config.gin` is made of it.
          facts: digests of what the run reads, kept in every checkpoint and compared on resume.
          flops_per_token: of training on a token of this step, for MFU.
          peak: FLOP/s of all devices.
          tokens_before: tokens of all the steps before one, as these settings count them: a run
            that goes on with another batch counts on from what its checkpoint has (`counted`).
        """
        if loop.tensorboard and importlib.util.find_spec("tensorboardX") is None:
            raise ConfigError("loop.tensorboard needs tensorboardX: pip install 'lm[tracking]'")
        self.workdir, self.config, self.process = workdir, config, process
        self.loop = loop
        self.total, self.facts = steps, facts
        self.tokens_before = tokens_before
        self.main = jax.process_index() == 0
        self.goodput = Goodput(workdir / "goodput.json" if self.main else None)
        self.journal = Journal(
            workdir, self.goodput, steps, flops_per_token, peak, loop.tensorboard,
            tokens_before(steps),
        )  # fmt: skip
        self.pending: collections.deque[tuple[int, int, StepMetrics]] = collections.deque()
        self.reaction = Reaction(guard, self.journal)
        # where a run goes back from is not to depend on when a signal came
        self.behind = 0 if guard.nonfinite == "rollback" else BEHIND
        folder = workdir / "profile"
        self.trace = Trace(process.profile_steps, folder, self.journal.say, self.drain)
        self.first = self.next_step = 0
        self.compiled = 0.0  # seconds, as the step under way began
        self.unevaluated = True  # the parameters to go on from are still to be measured
        self.unsaved = False  # the last save that was due could not begin
        self.measured: Any = None  # the state that is evaluated between two steps
        self.held: Callable[[], bool] = lambda: True  # whether the directory is still this run's

    def __enter__(self) -> "Session":
        refuse_among_texts(self.workdir, self.config)  # as a step of a pipeline alone knows them
        digests = {name: repr(value) for name, value in self.facts.items()}
        check_same(digests, "give every process the same files")  # the manifest has the first's
        with ExitStack() as stack:
            if self.main:
                lock = locked(self.workdir, steal=self.process.steal_lock)
                self.held = stack.enter_context(lock)
            self.checkpoints = Checkpoints(self.workdir / "checkpoints", keep=self.loop.keep)
            stack.callback(self.checkpoints.close)
            self.checkpoints.refuse_all_aside()
            self.changed = changed_bindings(
                self.workdir, self.checkpoints.steps(), self.config,
                allow_data=self.process.allow_data_change,
            )  # fmt: skip
            self.stop = stack.enter_context(Stop(self.process))
            if self.stop.signal is not None:
                self.leave(0)
            self.watchdog = Watchdog(self.process.step_timeout)
            stack.callback(self.watchdog.close)
            stack.enter_context(self.goodput.hearing())
            stack.callback(self.goodput.write)
            stack.callback(self.journal.close)
            stack.callback(self.trace.end)
            self.resources = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self.resources.__exit__(*error)

    # ------------------------------------------------------------------ start

    def keep(self, tokenizer: Tokenizer) -> None:
        """Writes the tokenizer of a run that has no checkpoint; one that goes on reads it there.

        Raises:
          ConfigError: it cannot be written.
        """
        if self.main and not self.checkpoints.steps():
            folder = self.workdir / "tokenizer"
            with writing(folder):
                tokenizer.save(folder)

    def start(self, abstract: Any, create: Callable[[], Any]) -> Any:
        """The state to go on from: the newest usable checkpoint, or a new one. Call it once."""
        process = self.process
        with self.goodput.spent("restore"):
            restored = self.checkpoints.restore(
                abstract, process.restore_step, fallback=process.restore_fallback
            )
        if restored is None:
            state = create()
        else:
            state, manifest = restored
            check_facts(manifest, self.facts, allow_data=process.allow_data_change)
            self.first = int(manifest["step"])
            if self.first > self.total:
                raise ConfigError(
                    f"{self.workdir} is at step {self.first}, and steps is {self.total}: set steps "
                    "to what it has, or more, or go back by --restore_step"
                )
            self.reaction.rollbacks = int(manifest.get("rollbacks", 0))
            self.reaction.skipped = int(manifest.get("skipped", 0))  # not in older checkpoints
            if "tokens" in manifest:  # which older checkpoints have not
                self.journal.earlier = manifest["tokens"] - self.tokens_before(self.first)
            self.checkpoints.abandon_after(self.first)
            self.journal.say(f"resumed from step {self.first} of {self.workdir}")
            if self.changed:
                self.journal.say(f"changed since: {told(self.changed)}")
        self.abstract, self.next_step = abstract, self.first
        self.goodput.first = self.goodput.last = self.first
        comments = environment()
        mesh = {name: int(size) for name, size in jax.sharding.get_abstract_mesh().shape.items()}
        self.origin = {"mesh": mesh, "environment": comments.replace("# ", "").splitlines()}
        if self.main:
            try:
                note_changes(self.workdir, self.first, self.changed)
                write_whole(self.workdir / "config.gin", dump(self.config) + comments)
            except OSError as error:
                raise ConfigError(
                    f"cannot write to --workdir {self.workdir}: {error.strerror or error}"
                ) from None
        if self.first < self.total:
            self.journal.reopen()
        self.journal.open(self.first if restored else None)
        self.unevaluated = not agreed(not self.main or self.is_evaluated())
        self.goodput.switch("evaluate")
        return state

    def counted(self, step: int) -> int:
        """Tokens of all the steps before one, each under the settings that it was made with."""
        return self.tokens_before(step) + self.journal.earlier

    def is_evaluated(self) -> bool:
        """Whether nothing is to be measured before the next step: it was, or it is not the time.

        A process that is stopped or killed between a save and the evaluation at the same step
        leaves that to the next one.
        """
        if self.first == 0 or self.first == self.total or self.first % self.loop.evaluate_every:
            return self.first > 0
        rows = read_metrics(self.workdir / "metrics.jsonl")
        return any(row["step"] == self.first and "lr" not in row for row in rows)

    # ------------------------------------------------------------------ steps

    def steps(self, origins: Origins | None = None) -> Iterator[int]:
        """The steps that are left. Traces those asked for."""
        self.reaction.origins = origins
        self.trace.expect(self.first, self.total)
        while self.next_step < self.total:
            step = self.next_step
            self.trace.before(step)
            self.next_step = step + 1
            self.goodput.switch("compile" if step == self.first else "step")
            self.compiled = self.goodput.seconds["compile"]
            yield step
            self.goodput.switch("evaluate")
            self.trace.after(step)
        self.trace.end()

    def after(
        self, step: int, state: Any, metrics: StepMetrics,
        evaluate: Callable[[int, Any], Any] = lambda step, params: None,
        complete: Callable[[Any], Any] = lambda state: state,
    ) -> Any:  # fmt: skip
        """Reads older metrics, saves and measures when it is time, leaves when a signal asks.

        Args:
          evaluate: of (steps made, parameters), when it is time; the end is left to the caller.
          complete: what is done to the state that is left after the last step, before its save; its
            time is of no step.

        Returns:
          The state to go on with: another one after a roll back, or once it is complete.

        Raises:
          GuardStop: the policy says to stop. Finished: a signal came, the state is saved.
        """
        compiled = step == self.first or self.goodput.seconds["compile"] > self.compiled
        if compiled:
            with self.watchdog:
                jax.block_until_ready(metrics)  # what a step holds is seen before the next begins
            self.journal.restart(self.tokens_before(step + 1))  # compiling is no speed
        heap.map_where_memory_is_short()
        done = step + 1
        self.pending.append((step, self.tokens_before(done), metrics))
        asked = self.stop.requested(done)
        due = asked or done % self.loop.save_every == 0 or done == self.total
        if due or compiled or done % self.loop.evaluate_every == 0:
            # nothing is saved or measured of steps that are to be rolled back, and no step is told
            # of with the time of the evaluation after it, or of what ran as another was compiled
            self.drain()
        elif len(self.pending) > self.behind:
            self.read(self.pending.popleft())
        if self.reaction.rollback_wanted:
            state = self.roll_back()
        if done == self.total:
            with self.goodput.spent("evaluate"):
                state = complete(state)
        if due:
            self.save(done, state)
        if asked:
            self.leave(done)
        self.goodput.reached(done)
        self.goodput.switch("evaluate")
        if done % self.loop.evaluate_every == 0 and done < self.total:
            self.measured = state
            evaluate(done, state.params)
            self.measured = None
        return state

    def asking(self, measure: Callable[..., Any]) -> Callable[..., Any]:
        """`measure`, of a batch of an evaluation, which asks before each whether to leave."""
        last: Any = None

        def asked(*args: Any) -> Any:
            nonlocal last
            jax.block_until_ready(last)  # or else all of them are dispatched before a signal comes
            self.ask()
            last = measure(*args)
            return last

        return asked

    def ask(self) -> None:
        """Leaves within an evaluation once a signal has come: the next process evaluates anew.
        Several processes can agree on that only after a step.

        Raises:
          Finished: a signal came, the state is saved.
        """
        if self.stop.signal is not None and not self.stop.distributed:
            if self.measured is not None:
                self.save(self.next_step, self.measured)
            self.leave(self.next_step)

    def leave(self, done: int) -> NoReturn:
        """Ends the run as a signal asks, once what was made is on the disk."""
        told = f"stopped before a step of {self.workdir}; the same command goes on with it"
        if done > 0:
            with self.goodput.spent("save"):
                saved = self.checkpoints.settle() and not self.unsaved
            if not saved:
                raise CheckpointError(
                    f"stopped, and step {done} could not be saved in {self.workdir}; free some "
                    "space, and the same command goes on from an older step"
                )
            self.goodput.last = done
            told = f"saved step {done} in {self.workdir}; the same command goes on from it"
        self.journal.say(told)
        raise Finished(self.stop.exit_code)

    def watched(self, step: int) -> AbstractContextManager[None]:
        """Around what a step itself waits for, before `after`: the watchdog counts it, but not of
        the first step, which compiles."""
        return nullcontext() if step == self.first else self.watchdog

    def read(self, entry: tuple[int, int, StepMetrics], reached: int = 0) -> None:
        """Waits for one step, acts on what its guard found, tells its metrics.

        Args:
          reached: tokens of all steps that have ended by now, where that is known.
        """
        step, tokens, metrics = entry
        with self.watchdog:
            values = jax.device_get(metrics)
        self.reaction.to(step, values)
        done = step + 1
        if done % self.loop.log_every == 0 or done == self.total or done == self.first + 1:
            self.journal.step(done, tokens, values, max(tokens, reached))

    def roll_back(self) -> Any:
        """The newest checkpoint's parameters at the present step: the bad batches are left out."""
        self.reaction.roll_back()
        self.pending.clear()
        self.checkpoints.settle()
        # nor is where it goes back to: not to the step that a signal had saved
        restored = self.checkpoints.restore(self.abstract, every=self.loop.save_every)
        if restored is None:
            raise GuardStop("a roll back was asked for before the first checkpoint")
        old = int(restored[1]["step"])
        self.journal.say(
            f"rolled back to the parameters of step {old}; going on at {self.next_step}"
        )
        step = jax.device_put(np.int32(self.next_step), self.abstract.step.sharding)
        return restored[0].replace(step=step)

    def save(self, step: int, state: Any) -> None:
        """Begins to save, or notes that it cannot; raises CheckpointError after some failures.

        Raises ConfigError where the directory is another's by now, or gone: Orbax would make it.
        """
        if not agreed(self.held()):
            raise ConfigError(lost(self.workdir))
        with self.goodput.spent("save"):
            facts = self.facts | self.origin | {"tokens": self.counted(step)}
            facts |= {"rollbacks": self.reaction.rollbacks, "skipped": self.reaction.skipped}
            self.unsaved = not self.checkpoints.save(step, state, facts)
        if self.checkpoints.failures >= FAILED_SAVES:
            raise CheckpointError(
                f"{self.checkpoints.failures} saves failed in a row; free some space"
            )

    def drain(self) -> None:
        """Reads all steps that were dispatched, which took their time together."""
        if self.pending:
            for _, _, metrics in self.pending:
                with self.watchdog:
                    jax.block_until_ready(metrics)
            reached = self.pending[-1][1]
            while self.pending:
                self.read(self.pending.popleft(), reached)

    def tell(self, step: int, figures: dict[str, Any], text: str = "") -> None:
        """Writes what was measured after so many steps, and says `text`; each figure without it."""
        text = text or ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        row = {"step": step, "tokens": self.tokens_before(step), **figures}
        self.journal.evaluation(row, f"step {step}  {text}")

    def settle(self) -> None:
        """Waits on every process for the last save: then the checkpoints that are there are all.

        Raises:
          CheckpointError: it failed, or could not begin.
        """
        self.drain()
        with self.goodput.spent("save"):
            settled = self.checkpoints.settle()
        if self.unsaved or not settled:
            raise CheckpointError(
                f"the last checkpoint could not be written to {self.workdir}; free some space, and "
                "the same command goes on from an older step"
            )

    def finish(self, summary: dict[str, Any]) -> None:
        """Waits for the last save, as `settle` does, and writes `summary.json`, the run's steps and
        tokens before the rest."""
        self.settle()
        made = {"steps": self.total, "tokens": self.tokens_before(self.total)}
        self.journal.summary(made | summary)
        agreed(True)  # what is started next may read the summary on any process
