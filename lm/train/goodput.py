"""Where the time of a run goes, over all the processes that it took.

`goodput.json` has one entry a process, the last of them rewritten every few seconds, so that a kill
loses little:

    {"processes": [{"began": "2026-01-31T12:00:00", "first": 0, "last": 740,
                    "seconds": {"init": 3.1, "compile": 8.2, "step": 512.0, ...}}, ...]}

Steps that a process made and its successor makes again are lost: their time is no goodput.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from lm.core.paths import write_whole
from lm.report.time_spent import KINDS, processes

EVERY = 5.0  # seconds between two writes
COMPILED = "/jax/core/compile/backend_compile_duration"  # told of what a cache has, too
BEGAN = time.time()  # of this process, as near as what is imported early can tell


class Goodput:
    """Counts seconds by what they are for. Time is always spent on exactly one thing."""

    told = BEGAN  # until when this process's time stands in an account: of several runs, one each

    def __init__(self, path: Path | None):
        """`path`: of the file; none is kept where None, as on processes other than the first."""
        self.path = path
        self.now, self.since = "init", time.perf_counter()
        self.seconds = dict.fromkeys(KINDS, 0.0)
        self.began = Goodput.told
        self.seconds["init"] = max(0.0, time.time() - self.began)
        self.before = processes(path) if path is not None else []
        # one that is refused before it begins has made nothing, and loses nothing of the others
        self.first = self.last = self.before[-1]["last"] if self.before else 0
        self.written = 0.0

    def switch(self, kind: str) -> None:
        """What time is spent on from now on."""
        now = time.perf_counter()
        self.seconds[self.now] += now - self.since
        self.now, self.since = kind, now

    @contextmanager
    def spent(self, kind: str) -> Iterator[None]:
        """Time inside is of this kind; what was under way goes on after it."""
        outside = self.now
        self.switch(kind)
        try:
            yield
        finally:
            self.switch(outside)

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Inside, the seconds that a step compiles, as of a new shape, are no time of the step."""
        jax.monitoring.register_event_duration_secs_listener(self.heard)
        try:
            yield
        finally:
            jax.monitoring.unregister_event_duration_listener(self.heard)

    def heard(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event == COMPILED and self.now == "step":
            self.seconds["compile"] += duration_secs
            self.seconds["step"] -= duration_secs  # which `switch` is to add

    def whole(self) -> float:
        """Seconds of all processes of the run, up to now and whatever they were for."""
        earlier = (entry["seconds"].get(kind, 0.0) for entry in self.before for kind in KINDS)
        now = time.perf_counter() - self.since
        return sum(earlier) + sum(self.seconds.values()) + now

    def reached(self, step: int) -> None:
        """So many steps were made; writes the file when it is time."""
        self.last = step
        if time.perf_counter() - self.written > EVERY:
            self.write()

    def write(self) -> None:
        if self.path is None:
            return
        self.switch(self.now)
        Goodput.told, self.written = time.time(), time.perf_counter()
        began = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(self.began))
        seconds = {kind: round(spent, 3) for kind, spent in self.seconds.items()}
        mine = {"began": began, "first": self.first, "last": self.last, "seconds": seconds}
        told = json.dumps({"processes": [*self.before, mine]}, indent=1)
        try:
            write_whole(self.path, told + "\n", lasting=False)  # between two steps
        except OSError:
            return  # a full disk stops a run by its checkpoints, not by this
