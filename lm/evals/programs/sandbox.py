"""Programs that a model wrote, run where they can do little harm (Chen et al. 2021, section 2.3).

Each program has a process, a folder and limits of its own (`guard.py`); where the kernel lets a
user have namespaces, as Linux mostly does, it also has no network and sees no other process. It
imports what Python itself has, where human-eval's harness also has what its caller has installed.
It still reads what this user reads, and Python is no wall against a program that means harm: run
models that you do not trust in a container or a virtual machine besides.
"""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lm.core.config import require_positive

GUARD = Path(__file__).with_name("guard.py")
NAMESPACES = (
    "unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--",
)  # fmt: skip
BATCH = 256  # programs that one guard runs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one program."""

    seconds: float = 3.0  # of the clock, as in openai/human-eval
    memory: int = 512 << 20  # bytes of address space
    file_size: int = 1 << 20  # bytes of a file that it writes
    changes: int = 64  # files opened to write, and what is made, moved or removed beside

    def __post_init__(self) -> None:
        require_positive(self, "seconds", "memory", "file_size", "changes")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came of a program: it passed where there is no reason against it."""

    reason: str

    @property
    def passed(self) -> bool:
        return not self.reason

    @property
    def no_module(self) -> bool:
        """Whether it failed for a module that is not there."""
        return self.reason.startswith("ModuleNotFoundError")


def run_programs(programs: Sequence[str], limits: Limits | None = None) -> list[Verdict]:
    """Runs each program's source to its end. It passed if it raised nothing and did not exit.

    What equals another program is run once.
    """
    limits = limits or Limits()
    distinct = list(dict.fromkeys(programs))
    found: list[str] = []
    while len(found) < len(distinct):
        some = distinct[len(found) : len(found) + BATCH]
        told = guarded(some, limits)
        # the guard itself died: of the program that it was at
        found += told if len(told) == len(some) else [*told, "the sandbox ended with it"]
    by_source = dict(zip(distinct, found, strict=True))
    return [Verdict(by_source[source]) for source in programs]


def guarded(programs: Sequence[str], limits: Limits) -> list[str]:
    """One guard's reasons, fewer than there are programs where it died."""
    with tempfile.TemporaryDirectory(prefix="lm-programs-") as folder:
        settings = {"programs": list(programs), "folder": folder} | dataclasses.asdict(limits)
        with subprocess.Popen(
            [*isolation(), sys.executable, "-I", "-S", str(GUARD)], cwd=folder,
            env={"PATH": os.defpath, "LANG": "C.UTF-8"}, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            try:
                time = len(programs) * (limits.seconds + 1) + 10
                out, _ = process.communicate(json.dumps(settings).encode(), time)
            except subprocess.TimeoutExpired:
                out = b""
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
    return [json.loads(line) for line in out.splitlines(keepends=True) if line.endswith(b"\n")]


@functools.cache
def isolation() -> tuple[str, ...]:
    """How a command is started without network and other processes; () where that is not to be."""
    try:
        done = subprocess.run([*NAMESPACES, "true"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return NAMESPACES if done.returncode == 0 else ()
