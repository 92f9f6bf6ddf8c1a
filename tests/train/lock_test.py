"""Whose a run's directory is: of a living process alone, also after a kill."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from lm.core.errors import ConfigError
from lm.train import lock
from lm.train.lock import locked
from tests.train.process_test import child


def write_lock(folder, host="another", pid=1, age=0.0, **more):
    folder.mkdir(exist_ok=True)
    text = json.dumps({"host": host, "pid": pid, "time": time.time() - age} | more)
    (folder / "lock").write_text(text)


def write_lock_here(folder, pid, ticks, age=0.0):
    """One of a process whose number is seen from here."""
    write_lock(folder, socket.gethostname(), pid, age, space=lock.space(), ticks=ticks)


def is_taken(folder):
    """Whether a process of now can have the directory."""
    with locked(folder, steal=False):
        held = json.loads((folder / "lock").read_text())
    return (held["host"], held["pid"]) == (socket.gethostname(), os.getpid())


@pytest.mark.skipif(sys.platform != "linux", reason="when a process began is read from /proc")
def test_a_lock_that_nobody_has_renewed_for_long_is_taken_over_where_its_holder_is_not_seen(
    tmp_path, monkeypatch
):
    write_lock(tmp_path, age=lock.STALE + 60)
    assert is_taken(tmp_path)
    monkeypatch.setattr(lock, "STALE", 0.1)
    parent = os.getppid()
    write_lock_here(tmp_path, parent, lock.ticks(parent), age=1)  # it has a full disk perhaps
    with pytest.raises(ConfigError, match="is in use by"):
        is_taken(tmp_path)
    monkeypatch.setattr(lock, "ticks", lambda pid: None)  # no Linux: who knows whose number it is
    assert is_taken(tmp_path)


def test_a_fresh_lock_of_another_host_is_taken_over_if_it_is_not_renewed(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "STALE", 2.0)  # waits 0.4 s
    write_lock(tmp_path)
    assert is_taken(tmp_path)

    write_lock(tmp_path)
    renewed = threading.Timer(0.1, write_lock, [tmp_path])
    renewed.start()
    with pytest.raises(ConfigError, match="is in use by process 1 on another"):
        is_taken(tmp_path)
    renewed.join()


@pytest.mark.skipif(sys.platform != "linux", reason="when a process began is read from /proc")
def test_a_lock_is_of_the_process_that_began_when_it_says_whatever_the_clock_says(tmp_path):
    sleeping = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        for pid in (sleeping.pid, os.getpid()):
            began = lock.ticks(pid)
            write_lock_here(tmp_path, pid, began - 1)  # its number was another's before
            assert is_taken(tmp_path)
            for step in (-3600, 0, 3600):  # of the clock, since it was written
                write_lock_here(tmp_path, pid, began, age=step)
                with pytest.raises(ConfigError, match=f"is in use by process {pid} on"):
                    is_taken(tmp_path)
    finally:
        sleeping.kill()
        sleeping.wait()
    write_lock_here(tmp_path, sleeping.pid, began)
    assert is_taken(tmp_path)  # it has gone


@pytest.mark.skipif(sys.platform != "linux", reason="containers are Linux's")
@pytest.mark.parametrize("part", [1, 2])
def test_a_process_of_another_container_or_start_of_this_host_is_judged_by_whether_it_renews(
    tmp_path, monkeypatch, part
):
    """Its number is nobody's here, or this process's own, as 1 is in every container."""
    monkeypatch.setattr(lock, "STALE", 2.0)  # waits 0.4 s
    elsewhere = lock.space()
    elsewhere[part] += "0"
    here = socket.gethostname()
    for pid in (2**22 + 1, os.getpid()):
        same = {"host": here, "pid": pid, "space": elsewhere, "ticks": lock.ticks(os.getpid())}
        write_lock(tmp_path, **same)
        renewed = threading.Timer(0.1, write_lock, [tmp_path], same)
        renewed.start()
        with pytest.raises(ConfigError, match=f"is in use by process {pid} on {here}"):
            is_taken(tmp_path)
        renewed.join()
        write_lock(tmp_path, **same)  # the control: nobody renews it
        assert is_taken(tmp_path)


def test_a_lock_of_the_same_host_and_number_is_another_s_all_the_same(tmp_path):
    with locked(tmp_path, steal=False) as held:
        mine = json.loads((tmp_path / "lock").read_text())
        assert held()
        (tmp_path / "lock").write_text(json.dumps(mine | {"id": "another"}))
        assert not held()
    assert (tmp_path / "lock").exists()


def test_a_lock_is_there_once_it_is_whole_and_not_while_it_is_written(tmp_path):
    """One that is empty counts as nobody's."""
    with pytest.raises(UnicodeEncodeError):  # as a disk does that is full
        lock.write_new(tmp_path / "lock", "no text: \ud800")
    assert list(tmp_path.iterdir()) == []
    lock.write_new(tmp_path / "lock", "first")
    with pytest.raises(FileExistsError):
        lock.write_new(tmp_path / "lock", "second")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["first"]


def test_a_file_system_without_hard_links_has_locks_too(tmp_path, monkeypatch):
    def none(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    with locked(tmp_path, steal=False):
        with pytest.raises(ConfigError, match=f"is in use by process {os.getpid()}"):
            is_taken(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert is_taken(tmp_path)


def test_a_lock_that_others_take_again_and_again_is_not_had(tmp_path, monkeypatch):
    def late(path, text):
        path.write_text("")  # of one that goes before it is read
        raise FileExistsError

    monkeypatch.setattr(lock, "write_new", late)
    with pytest.raises(ConfigError, match="is being taken by other processes"):
        is_taken(tmp_path)


def test_of_two_that_find_one_stale_lock_one_has_the_directory(tmp_path, monkeypatch):
    write_lock(tmp_path, age=lock.STALE + 60)
    found, both, outcomes = lock.holder, threading.Barrier(2), []

    def slow(path):
        held = found(path)
        with suppress(threading.BrokenBarrierError):  # at which nobody waits for the other
            both.wait(timeout=0.3)
        return held

    def begin():
        try:
            with locked(tmp_path, steal=False):
                outcomes.append("had it")
                ended.wait(timeout=2)
        except ConfigError as error:
            outcomes.append(str(error))
            ended.set()

    monkeypatch.setattr(lock, "holder", slow)
    ended = threading.Event()
    threads = [threading.Thread(target=begin) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("had it") == 1
    assert sum("is in use by" in outcome for outcome in outcomes) == 1


def test_a_lock_that_another_has_taken_is_not_removed(tmp_path):
    with locked(tmp_path, steal=False):
        write_lock(tmp_path, age=1e6)
    assert (tmp_path / "lock").exists()


LOCKED = """
    import json, pathlib, sys, time
    from lm.train import lock
    lock.STALE = 0.5
    path = pathlib.Path(sys.argv[1]) / "run" / "lock"
    with lock.locked(path.parent, steal=False):
        first = json.loads(path.read_text())["time"]
        while json.loads(path.read_text())["time"] == first:
            time.sleep(0.01)
        print("renewed", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("lost", ["taken", "moved", "made anew"])
def test_a_lock_is_renewed_and_a_process_whose_lock_was_taken_or_is_gone_ends(tmp_path, lost):
    run = tmp_path / "run"
    process = child(LOCKED, str(tmp_path))
    assert process.stdout.readline() == "renewed\n"
    process.send_signal(signal.SIGSTOP)  # asleep, so that the lock is not being renewed just now
    if lost == "taken":
        write_lock(run)
    else:
        run.rename(tmp_path / "elsewhere")
    if lost == "made anew":
        run.mkdir()
    process.send_signal(signal.SIGCONT)
    told = process.communicate(timeout=30)[1]
    assert f"another process has taken {run}, or it was moved" in told
    assert process.returncode == 1
    if lost == "taken":
        assert json.loads((run / "lock").read_text())["host"] == "another"
    else:
        assert not (run / "lock").exists()


def test_a_lock_that_cannot_be_read_just_now_is_still_held(tmp_path, monkeypatch):
    with locked(tmp_path, steal=False) as held:
        with monkeypatch.context() as disk:

            def fails(path):
                raise OSError(errno.EIO, "Input/output error")

            disk.setattr(type(tmp_path), "read_text", fails)
            assert held()
        (tmp_path / "lock").unlink()
        assert not held()
