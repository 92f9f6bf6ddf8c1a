"""Runs programs one after the other, each in a process of its own that may do little.

`sandbox.py` starts this file as a script, with nothing but the standard library: programs come as
JSON on standard input, verdicts leave as a line of JSON each. A program is done when its code ends;
it fails when it raises, exits, dies or takes too long. It is refused

    time, memory, size of a file     by limits of the kernel; the time also by the clock
    processes, sockets, signals      by an audit hook of Python
    changes outside of its folder    by the same hook; its folder is new, and removed after it
    many changes in its folder       by the same hook; so the disk takes a file's size times these

A hook is no wall: it stops what a model writes by accident and the usual tricks, not everything.

A program passes where a key is written behind it. The key comes after the fork and only C holds it:
no name or closure has it, and tracing, the collector and the memory in /proc are refused. What can
still reach it is bytecode made by hand (`marshal`), which reads any frame. Tests run in the
program's process all the same: an answer that says that it equals everything passes them, as
wherever they are run so.
"""

import errno
import json
import operator
import os
import resource
import secrets
import select
import shutil
import signal
import stat
import sys
import tempfile
import time
import types
from itertools import repeat, starmap

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NEVER = (
    "socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system",
    "os.startfile", "os.kill", "pty.", "ctypes.", "resource.", "signal.", "sqlite3.", "syslog.",
    "os.setxattr", "os.removexattr", "os.add_dll_directory", "shutil.chown",
    "os.symlink",  # without links a path is where its words say
    "gc.", "sys.settrace", "sys.setprofile", "sys.monitoring.", "sys._current_", "code.__new__",
)  # fmt: skip
MODULES = (
    "_posixsubprocess", "ctypes", "_ctypes", "cffi", "_cffi_backend", "multiprocessing",
    "_xxsubinterpreters", "_interpreters", "_testcapi", "_testinternalcapi",
)  # fmt: skip
PLACES = {  # events: how many of their arguments are paths, and from where on folders to start at
    "os.remove": (1, 1), "os.rmdir": (1, 1), "os.mkdir": (1, 2), "os.truncate": (1, 9),
    "os.chmod": (1, 2), "os.chown": (1, 3), "os.utime": (1, 3), "os.chflags": (1, 2),
    "os.rename": (2, 2), "os.link": (2, 2),
}  # fmt: skip
UNHEARD = ("mkfifo", "mknod", "chroot", "setns", "unshare")  # of which the hook is told nothing
SAID = 200  # characters of a reason
KEY = 32  # characters of a key


def refuse(folder, changes):
    """An audit hook for a program that lives in `folder` and may change it so many times."""
    # all that it uses is bound here, and in C: a program may put other things under the names of
    # a module, also under those that a function of it uses
    inside, current, status, is_folder = folder + "/", os.getcwd, os.stat, stat.S_ISDIR
    processes = os.stat("/proc").st_dev if os.path.isdir("/proc") else None
    writing, never, modules, places = WRITES, NEVER, frozenset(MODULES), dict(PLACES)
    exact, number, text, bytestring = type, int, str, bytes
    refusal, denied = PermissionError, errno.EACCES  # with a number: rmtree adds a path to its text
    absent = (OSError, ValueError)
    left, take = repeat(True, changes), next

    def outside(path):
        if exact(path) is number:
            return False  # it was opened, and asked about, before
        if exact(path) is bytestring:
            path = bytestring.decode(path, "latin-1")
        if exact(path) is not text:
            return True  # of a class of its own, which may say another thing when asked again
        if not text.startswith(path, "/"):
            path = current() + "/" + path
        return ".." in text.split(path, "/") or not text.startswith(path + "/", inside)

    def closed(path):
        """A folder, which is a place to start at that no event tells, or what /proc has: memory."""
        try:
            found = status(path)
        except absent:
            return False
        return is_folder(found.st_mode) or found.st_dev == processes

    def hook(event, arguments):
        if event == "open":
            path, mode, flags = arguments
            writes = flags & writing
            if exact(mode) is text:
                for letter in mode:
                    writes = writes or letter in "wax+"
            if exact(path) is number:
                refused = False  # it was opened, and asked about, before
            else:  # an object may name another path when it is asked again
                refused = exact(path) not in (text, bytestring) or closed(path)
                if writes:
                    refused = refused or outside(path) or not take(left, False)
        elif event in places:
            paths, starts = places[event]
            refused = False
            for path in arguments[:paths]:
                refused = refused or outside(path)
            for start in arguments[starts:]:
                refused = refused or (exact(start) is number and start != -1)
            refused = refused or not take(left, False)
        elif event == "import":
            refused = text.partition(arguments[0], ".")[0] in modules
        else:
            refused = text.startswith(event, never)
        if refused:
            raise refusal(denied, f"{event} is refused here")

    return hook


def limit(seconds, memory, file_size):
    """Limits of this process, which it cannot raise again."""
    whole = int(seconds) + 1
    for name, value in (
        ("RLIMIT_CPU", whole), ("RLIMIT_AS", memory), ("RLIMIT_DATA", memory),
        ("RLIMIT_FSIZE", file_size), ("RLIMIT_CORE", 0), ("RLIMIT_NOFILE", 64),
        ("RLIMIT_NPROC", 0),
    ):  # fmt: skip
        if hasattr(resource, name):
            try:
                resource.setrlimit(getattr(resource, name), (value, value))
            except (OSError, ValueError):  # macOS has no limit of the address space
                pass


def play(source, folder, settings, verdict, keys):
    """The child: does not return."""
    os.setsid()
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os.environ.clear()
    limit(settings["seconds"], settings["memory"], settings["file_size"])
    write, leave = os.write, os._exit
    main = sys.modules["__main__"] = types.ModuleType("__main__")  # not this file's own names
    for module in (os, sys.modules[os.name]):
        for name in UNHEARD:
            if hasattr(module, name):
                delattr(module, name)
    sys.addaudithook(refuse(folder, settings["changes"]))
    try:
        # in C from the program to the key behind it: a frame that knew it could be read and written
        list(starmap(operator.call, (
            (exec, compile(source, "<program>", "exec"), vars(main)),
            (write, verdict, os.read(keys, KEY + 1)),
        )))  # fmt: skip
    except BaseException as error:
        told = f"{type(error).__name__}: {error}"[:SAID]
        write(verdict, json.dumps(told).encode() + b"\n")
    leave(0)


def judge(source, settings):
    """Runs one program. "" where it passed, else the reason."""
    folder = os.path.realpath(tempfile.mkdtemp(prefix="program-", dir=settings["folder"]))
    end, verdict = os.pipe()
    keys, lock = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(end)
            os.close(lock)
            play(source, folder, settings, verdict, keys)
        finally:
            os._exit(1)
    # after the fork: no frame of the child has it
    key = secrets.token_hex(KEY // 2).encode() + b"\n"
    os.write(lock, key)
    for number in (verdict, keys, lock):
        os.close(number)
    limit_at = time.monotonic() + settings["seconds"]
    told, late = b"", False
    while b"\n" not in told and len(told) < 8 * SAID:
        ready, _, _ = select.select([end], [], [], max(0.0, limit_at - time.monotonic()))
        late = not ready
        some = b"" if late else os.read(end, 4096)
        if not some:
            break
        told += some
    os.close(end)
    end_all(child)
    shutil.rmtree(folder, ignore_errors=True)
    if late:
        return f"took more than {settings['seconds']} seconds"
    if told == key:
        return ""
    try:
        reason = json.loads(told)
    except ValueError:
        return "ended before its last line"
    return str(reason)[:SAID] if reason else "wrote a verdict of its own"


def end_all(child):
    """Ends a program and what it started."""
    for kill, target in ((os.killpg, child), (os.kill, child)):
        try:
            kill(target, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    if os.getpid() == 1:  # in a namespace of its own: nothing else is there
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass
    os.waitpid(child, 0)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main():
    settings = json.load(sys.stdin)
    for source in settings["programs"]:
        print(json.dumps(judge(source, settings)), flush=True)


if __name__ == "__main__":
    main()
