"""The lock on the directory of a run: no second job writes there."""

import fcntl
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from lm.core.errors import ConfigError
from lm.core.paths import is_remote

STALE = 600.0  # seconds after which a lock that nobody has renewed is that of a host that is lost


@contextmanager
def locked(folder: Path, *, steal: bool) -> Iterator[Callable[[], bool]]:
    """Holds `folder/lock`, so that no second job writes there.

    A lock of a process that is gone is taken over where its number would be seen from here, and
    that of another host or container that nobody renews, after a while of waiting: it may be lost.

    Yields:
      Whether the folder is still the one that was locked, and nobody else's.

    Raises:
      ConfigError: the folder is held by another job, or cannot be written.
    """
    path = folder / "lock"
    mine = {
        "id": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid(),
        "space": space(), "ticks": ticks(os.getpid()), "time": time.time(),
    }  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        take(path, mine, steal=steal)
    except OSError as error:
        raise ConfigError(f"cannot write to --workdir {folder}: {error.strerror}") from None
    done = threading.Event()
    renewing = threading.Thread(target=renew, args=(path, mine, done), daemon=True)
    renewing.start()
    try:
        yield partial(ours, path, mine)
    finally:
        done.set()
        renewing.join()
        if ours(path, mine):
            path.unlink(missing_ok=True)


def take(path: Path, mine: dict[str, Any], *, steal: bool) -> None:
    """Writes a lock where there is none that somebody holds. Raises ConfigError if there is."""
    if steal:
        path.unlink(missing_ok=True)
    for _ in range(2):
        try:
            return write_new(path, json.dumps(mine))
        except FileExistsError:
            judged = content(path)
            held = holder(path)
            if held is not None and in_use(path):
                raise ConfigError(
                    f"{path.parent} is in use by {held}; --steal_lock if it is not"
                ) from None
            remove(path, judged)
    raise ConfigError(f"{path.parent} is being taken by other processes; start again alone")


def content(path: Path) -> bytes | None:
    """What is in a file; None if it is not there, or cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def remove(path: Path, judged: bytes | None) -> None:
    """Removes a lock that was found to be nobody's, unless another process of this host has done so
    and written its own: one at a time looks again and removes."""
    folder = None if is_remote(path) else os.open(path.parent, os.O_RDONLY)
    try:
        if folder is not None:
            with suppress(OSError):  # a file system that has no such locks
                fcntl.flock(folder, fcntl.LOCK_EX)
        if content(path) == judged:
            path.unlink(missing_ok=True)
    finally:
        if folder is not None:
            os.close(folder)


def renew(path: Path, mine: dict[str, Any], done: threading.Event) -> None:
    """Writes the time into a lock again and again. A process whose lock another has taken, since it
    slept for so long or was thought dead, ends at once: two would write there. So does one whose
    lock is gone, and its folder most likely with it."""
    while not done.wait(STALE / 10):
        try:
            if not ours(path, mine):
                os.write(2, f"error: {lost(path.parent)}\n".encode())
                os._exit(1)
            fresh = path.with_name(f"lock.{mine['id']}")
            fresh.write_text(json.dumps(mine | {"time": time.time()}))
            fresh.replace(path)
        except OSError:
            continue  # a disk that is full, or a store that does not answer just now


def lost(folder: Path) -> str:
    """What is said as a process ends whose folder is no longer its own."""
    return (
        f"another process has taken {folder}, or it was moved, removed or unmounted; stopped: the "
        "same command goes on from the last checkpoint where it is there again"
    )


def ours(path: Path, mine: dict[str, Any]) -> bool:
    """Whether a lock is the one that we wrote; one that cannot be read may be."""
    try:
        return bool(json.loads(path.read_text()).get("id") == mine["id"])
    except FileNotFoundError:
        return is_remote(path)  # a store has no folders that are moved
    except (OSError, ValueError, AttributeError):
        return True


def write_new(path: Path, text: str) -> None:
    """Writes a file that was not there, whole from its first moment where the file system has hard
    links. Raises FileExistsError if it is there."""
    if is_remote(path):  # a store cannot say so itself: two that start together may both go on
        if path.exists():
            raise FileExistsError
        path.write_text(text)
        return
    fresh = path.with_name(f"lock.{uuid.uuid4().hex}")
    try:
        fresh.write_text(text)
        try:
            os.link(fresh, path)
        except FileExistsError:
            raise
        except OSError:  # no hard links there
            with path.open("x") as file:
                file.write(text)
    finally:
        fresh.unlink(missing_ok=True)


def in_use(path: Path) -> bool:
    """Whether a lock that somebody may hold is held: one whose process cannot be seen from here is
    renewed, or is left."""
    try:
        before = json.loads(path.read_text())
        if before.get("space") == space():
            return True
        print(f"waiting up to {STALE / 5:.0f} s to see whether process {before['pid']} on "
              f"{before['host']}, which holds {path}, is still there", file=sys.stderr)  # fmt: skip
        limit = time.monotonic() + STALE / 5  # two renewals
        while time.monotonic() < limit:
            time.sleep(STALE / 600)
            if json.loads(path.read_text())["time"] != before["time"]:
                return True
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return path.exists()  # it has gone, or is just being written
    return False


def space() -> list[str]:
    """Where the number of a process means that process: a host since it was started, and of its
    containers, which may have one name, the one."""
    found = [socket.gethostname()]
    with suppress(OSError):  # no Linux
        found.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        found.append(os.readlink("/proc/self/ns/pid"))
    return found


def ticks(pid: int) -> int | None:
    """When a process that is seen from here began, in ticks since the host did; None: no Linux."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def holder(path: Path) -> str | None:
    """Who holds a lock, in words; None if nobody can.

    Its number may be another process's by now, or this one's: that began at another time.
    """
    try:
        held = json.loads(path.read_text())
        host, pid = held["host"], int(held["pid"])
        gone = time.time() - held["time"] > STALE
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(held["time"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if held.get("space") == space():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        if (began := ticks(pid)) is not None:  # or else who does not renew it is taken for lost
            gone = began != held.get("ticks")
    return None if gone else f"process {pid} on {host}, which wrote so at {since}"
