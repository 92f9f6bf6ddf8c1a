"""One run, one process: signals, and the watchdog of a hung step."""

import dataclasses
import faulthandler
import hashlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np

from lm.core.errors import ConfigError
from lm.core.paths import write_whole

SAVED, INTERRUPTED = 75, 130  # exit codes: run me again; Ctrl-C
ONE_WISH = 1.0  # seconds in which several signals are one


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process:
    """What concerns the process and not what is computed: the command's flags."""

    restore_step: int | None = None
    restore_fallback: bool = True
    allow_data_change: bool = False
    steal_lock: bool = False
    step_timeout: float = 0.0  # seconds; 0: none
    profile_steps: tuple[int, int] | None = None
    # signals that came when a run of this command had no step left: its next run leaves by them
    left: list[int] = dataclasses.field(default_factory=list, compare=False, repr=False)


class Stop:
    """Set by SIGINT and SIGTERM: the loop saves and leaves at the next step all hosts agree on.

    One that comes after the last step of a run stays with the command's `Process`, and is of the
    run that the same command begins next.
    """

    steps = 0  # of the runs before: jax agrees on a number, which has to grow from run to run

    def __init__(self, process: Process | None = None) -> None:
        self.left = [] if process is None else process.left
        self.signal: int | None = None
        self.since = 0.0  # when the first signal came
        self.step = 0  # the last that was asked about
        self.old: dict[int, Any] = {}
        self.distributed = jax.process_count() > 1

    def __enter__(self) -> "Stop":
        self.signal = self.left.pop() if self.left else None
        if threading.current_thread() is threading.main_thread():
            # once jax.distributed runs, SIGTERM belongs to its notifier, which tells every host
            for number in (signal.SIGINT,) if self.distributed else (signal.SIGINT, signal.SIGTERM):
                self.old[number] = signal.signal(number, self.handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)
        Stop.steps += self.step
        # an error ends the command, and where several hosts run, jax keeps the wish on all of them
        if kind is None and self.signal is not None and not self.distributed:
            self.left.append(self.signal)

    def handle(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            if time.monotonic() - self.since < ONE_WISH:
                return  # sent to a group, it comes once more from launch/again.sh, as SIGTERM
            shout("\nstopped at once; the last checkpoint stands\n")
            os._exit(128 + number)
        self.signal, self.since = number, time.monotonic()
        shout("\nfinishing the step and saving; again after a second to stop at once\n")
        if self.distributed:
            os.kill(os.getpid(), signal.SIGTERM)

    def requested(self, step: int) -> bool:
        """Whether to save and leave after this step; the same answer on every host."""
        if self.distributed:
            from jax.experimental import multihost_utils

            self.step = step
            if multihost_utils.reached_preemption_sync_point(Stop.steps + step):
                self.signal = self.signal or signal.SIGTERM  # true at one step only: keep it
                return True
            return False
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        return INTERRUPTED if self.signal == signal.SIGINT else SAVED


def shout(text: str) -> None:
    """To the standard error, at once and without a lock; on a full disk it is left out."""
    with suppress(OSError):
        os.write(2, text.encode())


def agreed(done: bool) -> bool:
    """Whether every process of the run says yes. All must ask, and each waits for the others: what
    one of them alone cannot do, none may go on with."""
    if jax.process_count() == 1:
        return done
    from jax.experimental import multihost_utils

    return bool(np.all(multihost_utils.process_allgather(np.asarray(done))))


def of_first(numbers: Sequence[int]) -> list[int]:
    """The numbers that process 0 has, on every process; all must ask.

    What each reads for itself may differ, as the names in a folder of a shared file system do.
    """
    if jax.process_count() == 1:
        return list(numbers)
    from jax.experimental import multihost_utils

    count = int(multihost_utils.broadcast_one_to_all(np.int32(len(numbers))))
    mine = np.resize(np.asarray(numbers, np.int64), count)
    words = multihost_utils.broadcast_one_to_all(mine.view(np.int32))  # jax has no 64 bits here
    return np.asarray(words).view(np.int64).tolist()


def check_same(mine: Mapping[str, str | None], way_out: str) -> None:
    """Raises ConfigError, on every process, where one has another value than process 0: several
    would train one model by different settings or texts. All must ask.

    Args:
      mine: what this process has, by name; None where it does not know.
    """
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    text = json.dumps(mine).encode()
    digest = np.frombuffer(hashlib.sha256(text).digest(), np.int32)
    heads = multihost_utils.process_allgather(np.array([len(text), *digest], np.int32))
    if np.all(heads == heads[0]):
        return
    padded = np.frombuffer(text.ljust(int(heads[:, 0].max())), np.uint8)
    rows = multihost_utils.process_allgather(padded)
    first, *others = [json.loads(np.asarray(row).tobytes()) for row in rows]
    for number, other in enumerate(others, start=1):
        for name in first | other:
            here, there = first.get(name, "not set"), other.get(name, "not set")
            if here != there and None not in (here, there):
                raise ConfigError(
                    f"{name}: {there} in process {number}, {here} in process 0; {way_out}"
                )


def write_for_all(path: Path, text: str) -> None:
    """Writes a file whole, by the first process: from here on each of them can read it. All must
    ask, as of `agreed`."""
    if jax.process_index() == 0:
        write_whole(path, text)
    agreed(True)


class Watchdog:
    """Ends a process whose step hangs: a collective cannot be interrupted by a signal.

    It counts inside `with watchdog:` only: what is no step may take its time.
    """

    def __init__(self, timeout: float):
        self.timeout = timeout
        self.since: float | None = None  # when the step under way began
        self.done = threading.Event()
        if timeout > 0:
            threading.Thread(target=self.watch, daemon=True).start()

    def __enter__(self) -> None:
        self.since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.since = None

    def watch(self) -> None:
        while not self.done.wait(min(1.0, self.timeout / 4)):
            since = self.since
            if since is not None and time.monotonic() - since > self.timeout:
                faulthandler.dump_traceback(file=sys.stderr)
                shout(f"error: no step in {self.timeout:.0f} s (--step_timeout); run me again\n")
                os._exit(SAVED)

    def close(self) -> None:
        self.done.set()


def check_finite_flag(name: str, value: float) -> None:
    """Raises ConfigError unless `value` is a finite number and not negative."""
    if not 0 <= value < float("inf"):
        raise ConfigError(f"--{name} must be finite and not negative, got {value}")
