"""Checkpoints that are whole or absent, and verified array by array when they are read.

Orbax commits a step atomically and reshards it on restore, but stores no digest: a flipped bit
comes back as a wrong number. So each step carries a manifest with a digest of every array
(lm/train/manifest.py).
"""

import dataclasses
import logging
import math
import re
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from lm.core.errors import CheckpointError, StorageError
from lm.core.paths import is_remote, remove_tree
from lm.core.tree import size_bytes
from lm.train.manifest import (
    STEP,
    Damaged,
    compare_trees,
    make_manifest,
    passing,
    read_manifest,
    sound,
    steps_in,
    verify,
)
from lm.train.process import agreed, of_first

Result = TypeVar("Result")


@dataclasses.dataclass
class Checkpoints:
    """The checkpoints of one run, newest last."""

    folder: Path
    keep: int = 3
    read_only: bool = False  # of a run that another process may be writing
    failures: int = 0  # saves that failed, one after the other
    under_way: bool = False  # a save has begun, and nobody has waited for it yet

    def __post_init__(self) -> None:
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax tells all at length, we a line
        logging.getLogger("asyncio").addFilter(unless_never_retrieved)
        sys.unraisablehook = unless_loop_is_closed
        self.folder = self.folder if is_remote(self.folder) else self.folder.absolute()
        if not self.read_only:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CheckpointError(f"cannot write to {self.folder}: {error.strerror}") from None
        if self.folder.is_dir():
            self.open()

    def open(self) -> None:
        self.clean()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self.keep,
            cleanup_tmp_directories=False,  # it does so in a thread, and a save fails of a race
            enable_async_checkpointing=True,
            create=False,
            single_host_load_and_broadcast=True,  # as `shared_steps`
            read_only=self.read_only,
        )
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "manifest": ocp.JsonCheckpointHandler(filename="manifest.json"),
        }
        make = partial(ocp.CheckpointManager, self.folder, item_handlers=handlers, options=options)
        problem = None
        try:
            self.manager = make()
        except Exception as error:  # it reads a record of each step, and one is damaged
            problem = error
        if not agreed(problem is None):
            broken = [step for step in self.steps() if not sound(self.folder / str(step))]
            broken = of_first(broken)
            passes = agreed(problem is None or passing(problem) is not None) and not broken
            if self.read_only or not broken:
                what = ", ".join(str(self.folder / str(step)) for step in broken) or self.folder
                why = first_line(problem) if problem else "another process could not"
                raise (StorageError if passes else CheckpointError)(f"{what} cannot be read: {why}")
            for step in broken:
                print(f"warning: {self.folder / str(step)} is damaged; set aside", file=sys.stderr)
                self.move_aside(step, "corrupt")
            self.manager = make()

    def steps(self) -> list[int]:
        """Steps that have a folder, whole or not, oldest first, as this process sees them."""
        return steps_in(self.folder)

    def shared_steps(self) -> list[int]:
        """The same as process 0 sees them; all must ask. Another's listing may be an old one."""
        return of_first(self.steps())

    def save(self, step: int, state: Any, facts: dict[str, Any]) -> bool:
        """Starts writing a step; False, and a line on stderr, if it cannot be.

        The arrays are copied before this returns, so the state may be donated.

        Args:
          facts: what the manifest says beside the arrays. A later run compares the digests of
            tokenizer and data before it restores; mesh, versions and commit are for people.
        """
        self.settle()
        why, there, ready = "another process could not write it", [], False
        needed = 2 * size_bytes(state)  # all processes write to one disk
        try:
            there = self.steps()
            free = math.inf if is_remote(self.folder) else shutil.disk_usage(self.folder).free
            ready = free >= needed
            if not ready:
                why = f"{free / 1e6:.0f} MB free on its disk, {needed / 1e6:.0f} MB needed"
        except OSError as error:  # a disk that does not answer just now
            why = first_line(error)
        if step in of_first(there):
            return True
        if not agreed(ready):
            return self.failed(step, why)
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            manifest=ocp.args.JsonSave(make_manifest(step, state, facts)),
        )
        try:
            started = self.manager.save(step, args=items, force=True)
            why = why if started else "the checkpoint manager declined"
        except Exception as error:  # Orbax raises many kinds for one fault
            started, why = False, first_line(error)
        self.under_way = agreed(started)
        return self.under_way or self.failed(step, why)

    def settle(self) -> bool:
        """Waits for the save under way; False, and a line on stderr, if it failed anywhere."""
        problem = self.wait()
        if agreed(problem is None):
            self.failures = 0 if self.under_way else self.failures
            self.under_way = False
            return True
        self.under_way = False
        self.failed(-1, problem or "another process could not write it")
        self.reopen()
        return False

    def wait(self) -> str | None:
        """Waits for what this process is writing; what went wrong."""
        try:
            self.manager.wait_until_finished()
            self.manager.check_for_errors()
        except Exception as error:  # as above; a full disk shows only here
            return first_line(error)
        return None

    def reopen(self) -> None:
        """A fresh manager after a failed save, without what that save left on the disk."""
        try:
            self.manager.close()
        except Exception:  # the failure that is already reported
            pass
        self.open()

    def clean(self) -> None:
        """Removes what a save that was cut off has left; none is under way."""
        if jax.process_index() == 0 and not self.read_only:
            for path in self.folder.glob("*orbax-checkpoint-tmp*"):
                remove_tree(path)

    def failed(self, step: int, why: str) -> bool:
        self.failures += 1
        which = f"step {step}" if step >= 0 else "the last step"
        print(
            f"warning: {which} was not saved: {why}; older checkpoints are intact", file=sys.stderr
        )
        return False

    def close(self) -> bool:
        """Waits for what is being written; False, and a line on stderr, if it failed.

        It asks no other process, since a run that ends by an error of one of them comes here too.
        """
        problem = self.wait()
        self.manager.close()
        if problem is None:
            return True
        self.clean()
        return self.failed(-1, problem)

    def restore(
        self, abstract: Any, step: int | None = None, *, fallback: bool = True, every: int = 1
    ) -> tuple[Any, dict[str, Any]] | None:
        """The newest step that is whole and verified, and its manifest; None if there is no step.

        A damaged step is kept aside as `<step>.corrupt`; one that this process cannot read for want
        of memory, or of a disk that answers, is left where it is.

        Args:
          abstract: shapes, dtypes and shardings to restore to, on any mesh.
          step: this one only.
          fallback: try the next older where one is damaged.
          every: of the multiples of this alone, where there are any.

        Raises:
          CheckpointError: other shapes than asked for, or no step that can be used.
          StorageError: a fault that passes.
        """
        steps = self.shared_steps()
        steps = [each for each in steps if each % every == 0] or steps
        if step is not None:
            if step not in steps:
                raise CheckpointError(f"{self.folder}: no step {step}; there are {steps}")
            steps, fallback = [step], False
        if not steps:
            return None
        for candidate in reversed(steps):
            try:
                return on_all(partial(self.restore_step, candidate, abstract))
            except Damaged as error:
                problem = f"{self.folder / str(candidate)}: {error}"
            if not fallback:
                another = "step" if self.read_only else "--restore_step"
                way_out = f"choose another {another}" if step else "--restore_fallback"
                raise CheckpointError(f"{problem}; {way_out}")
            print(f"warning: {problem}; trying an older step", file=sys.stderr)
            if not self.read_only:
                self.set_aside(candidate, "corrupt")
        raise CheckpointError(f"{self.folder}: none of the steps {steps} can be restored")

    def abandon_after(self, step: int) -> None:
        """Sets newer steps aside as `<step>.abandoned`: the run goes on from this one."""
        for newer in [other for other in self.shared_steps() if other > step]:
            self.set_aside(newer, "abandoned")

    def refuse_all_aside(self) -> None:
        """Raises CheckpointError where every step was set aside as damaged: a run that began anew
        would write over what else is left of it. All processes must ask."""
        corrupt = [path.stem for path in self.folder.glob("*.corrupt")]
        aside = of_first(sorted(int(name) for name in corrupt if STEP.fullmatch(name)))
        if not self.shared_steps() and aside:
            newest = self.folder / str(aside[-1])
            raise CheckpointError(
                f"{newest}.corrupt, and no step that is whole: rename it to {newest.name} to try "
                "it again, or choose another --workdir"
            )

    def set_aside(self, step: int, why: str) -> None:
        self.manager.close()
        self.move_aside(step, why)
        self.open()

    def move_aside(self, step: int, why: str) -> None:
        agreed(True)  # all have listed the steps
        if jax.process_index() == 0:
            aside = self.folder / f"{step}.{why}"
            remove_tree(aside)
            (self.folder / str(step)).rename(aside)
        agreed(True)

    def restore_step(self, step: int, abstract: Any) -> tuple[Any, dict[str, Any]]:
        folder = self.folder / str(step)

        def fitting() -> dict[str, Any]:
            manifest = read_manifest(folder)
            compare_trees(manifest["tree"], abstract, folder)
            return manifest

        def arrays() -> Any:
            args = ocp.args.StandardRestore(abstract)
            try:  # the manager would wait at its end for the others, of which one may fail
                return ocp.StandardCheckpointHandler().restore(folder / "state", args=args)
            except Exception as error:  # four types for one fault, by its place
                if cause := passing(error):
                    raise StorageError(
                        f"{folder} cannot be read now: {first_line(cause)}; mend that and run again"
                    ) from None
                raise Damaged(first_line(error)) from None

        manifest = on_all(fitting)
        state = on_all(arrays)
        verify(manifest, state)
        return state, manifest


def on_all(act: Callable[[], Result]) -> Result:
    """What `act` returns once it has on every process: what they do next, they do together.

    Raises:
      Damaged, CheckpointError: `act` did, here, or else on another process.
      StorageError: what is damaged here may be whole on another process.
    """
    problem: Exception = Damaged("another process cannot read it")
    done: list[Result] = []
    try:
        done.append(act())
    except (Damaged, CheckpointError) as error:
        problem = error
    if agreed(bool(done)):
        return done[0]
    damaged = isinstance(problem, Damaged)
    if not agreed(damaged) and damaged:  # elsewhere it may be whole: nobody sets it aside
        raise StorageError(str(problem))
    raise problem


def unless_loop_is_closed(told: Any) -> None:
    """A hook that drops what TensorStore prints, many times, of writes that a failure cut off."""
    if str(told.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(told)


def unless_never_retrieved(record: logging.LogRecord) -> bool:
    """A filter that drops what asyncio logs of the other writes of a save that failed.

    The first failure is the one we report; the rest are told whenever they are collected.
    """
    return "exception was never retrieved" not in record.getMessage()


def first_line(error: BaseException) -> str:
    """What happened: of TensorStore's text the reason, which is last of what stands before its
    facts in brackets, whose order varies; else the first line."""
    text = str(error).strip() or type(error).__name__
    if told := re.match(r"(.*?) \[\w+='", text, re.DOTALL):
        text = told[1].rpartition(": ")[2]
    return text.splitlines()[0][:200]
