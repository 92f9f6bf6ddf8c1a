"""What a program may do in the sandbox, and what ends it."""

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lm.evals.programs import sandbox
from lm.evals.programs.sandbox import Limits, guarded, isolation, run_programs
from tests.launched import ROOT

DATA = ROOT.parent / "shared" / "data"
SHORT = Limits(seconds=0.5)


def reason(source, limits=SHORT):
    (verdict,) = run_programs([source], limits)
    assert verdict.passed == (verdict.reason == "")
    return verdict.reason


def test_a_program_passes_where_it_ends_without_an_error():
    assert reason("x = [n**2 for n in range(9)]; assert x[-1] == 64") == ""
    assert reason("def f(): pass\nf()\n") == ""
    # the controls
    assert reason("assert 1 == 2").startswith("AssertionError")
    assert reason("x = (").startswith("SyntaxError")
    assert reason("raise KeyboardInterrupt").startswith("KeyboardInterrupt")


def test_a_program_that_leaves_before_its_end_has_not_passed():
    assert reason("import sys; sys.exit(0)") == "SystemExit: 0"
    assert reason("import os; os._exit(0)") == "ended before its last line"
    assert reason("import os; os.abort()") == "ended before its last line"


@pytest.mark.parametrize(
    "source",
    ["while True: pass", "import time; time.sleep(60)",
     "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass",
     "try:\n    while True: pass\nexcept BaseException: pass\nwhile True: pass"],
)  # fmt: skip
def test_what_does_not_end_is_ended(source):
    began = time.monotonic()
    assert reason(source) == "took more than 0.5 seconds"
    assert time.monotonic() - began < 10


def test_the_others_of_a_batch_go_on_after_one_that_was_ended():
    found = run_programs(["x = 1", "while True: pass", "assert 0", "y = 2"], SHORT)
    assert [verdict.passed for verdict in found] == [True, False, False, True]


@pytest.mark.parametrize(
    "source",
    ["import os\nwhile True: os.fork()", "import subprocess; subprocess.run(['true'])",
     "import os; os.system('true')", "import os; os.posix_spawn('/bin/true', ['true'], {})",
     "import os; os.execv('/bin/true', ['true'])", "import multiprocessing",
     "import _posixsubprocess", "import ctypes", "import os; os.kill(os.getppid(), 9)",
     "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))"],
)  # fmt: skip
def test_no_process_is_started_or_ended(source):
    assert "is refused here" in reason(source)


def test_memory_and_threads_are_limited():
    small = Limits(seconds=5, memory=128 << 20)
    assert reason("x = []\nwhile True: x.append(bytearray(1 << 22))", small) == "MemoryError: "
    assert reason("bytearray(1 << 34)", small) == "MemoryError: "
    many = "import threading, time\nfor n in range(4000):\n"
    many += "    threading.Thread(target=time.sleep, args=(60,)).start()"
    assert reason(many, small).startswith("RuntimeError: can't start new thread")
    assert reason("bytearray(1 << 22)", small) == ""  # the control


def test_no_network_is_reached():
    with __import__("socket").socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        source = f"import socket\nsocket.create_connection(('127.0.0.1', {port}))"
        assert "is refused here" in reason(source, Limits())
        # the control: outside of the sandbox this connects
        done = subprocess.run([sys.executable, "-c", source], timeout=60, check=False)
        assert done.returncode == 0


@pytest.mark.skipif(not isolation(), reason="this machine gives no namespaces")
def test_where_there_are_namespaces_a_connection_fails_also_without_the_hook():
    with __import__("socket").socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        source = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 5)"
        command = [*isolation(), sys.executable, "-c", source]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1 and "unreachable" in done.stderr


def test_nothing_outside_of_the_folder_is_changed(tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("as it was")
    for source in (
        f"open({str(kept)!r}, 'w')", f"open({str(kept)!r}, 'a')", f"open({str(kept)!r}, 'r+')",
        f"import os; os.open({str(kept)!r}, os.O_WRONLY | os.O_TRUNC)",
        f"import os; os.remove({str(kept)!r})", f"import os; os.rename({str(kept)!r}, 'mine')",
        f"import os; os.mkdir({str(tmp_path / 'new')!r})",
        f"import os; os.symlink({str(kept)!r}, 'a'); open('a', 'w')",
        f"import os; os.chmod({str(kept)!r}, 0)",
        f"import shutil; shutil.rmtree({str(tmp_path)!r})",
        f"import os; d = os.open({str(tmp_path)!r}, os.O_RDONLY); os.remove('kept', dir_fd=d)",
        f"import os; d = os.open({str(tmp_path)!r}, os.O_RDONLY); "
        "os.open('kept', os.O_WRONLY | os.O_TRUNC, dir_fd=d)",
        f"import os; os.symlink({str(tmp_path)!r}, 'a'); open('a/new', 'w')",
        f"from pathlib import Path; Path({str(tmp_path / 'new')!r}).write_text('x')",
        f"from pathlib import Path; Path({str(kept)!r}).unlink()",
        f"open({str(kept).encode()!r}, 'w')",
        "open('../beside', 'w')", "import os; os.mkdir('a'); open('a/../../beside', 'w')",
        "import os; os.chdir('..'); open('beside', 'w')",
    ):  # fmt: skip
        assert "is refused here" in reason(source), source
    assert reason(f"import os; os.mkfifo({str(tmp_path / 'new')!r})").startswith("AttributeError")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert kept.read_text() == "as it was"


def test_a_program_has_a_folder_of_its_own_that_is_gone_after_it():
    assert reason("open('a', 'w').write('x'); assert open('a').read() == 'x'") == ""
    assert reason("import os; assert os.listdir() == [] and not os.environ") == ""
    assert reason("import os; open('a', 'w').write('xyz'); os.truncate('a', 1)") == ""
    source = "import os\nfrom pathlib import Path\nhere = Path.cwd() / 'a'\nhere.mkdir()\n"
    source += "(here / 'b').write_text('x')\nos.rename(here / 'b', b'c')\nos.chdir(here)\n"
    source += "open(b'b', 'wb').close()\nPath('b').unlink()\nassert Path('../c').exists()"
    assert reason(source, Limits()) == ""
    assert reason("open('a', 'wb').write(bytes(1 << 22))").startswith("OSError: [Errno 27]")


@pytest.mark.parametrize(
    "change",
    ["open(f'{n}', 'wb').write(bytes(9))", "os.mkdir(f'{n}')",
     "os.close(os.open(f'{n}', os.O_CREAT | os.O_WRONLY))"],
)  # fmt: skip
def test_a_program_changes_its_folder_only_so_many_times(change):
    few = Limits(changes=10)
    assert reason(f"import os\nfor n in range(10): {change}", few) == ""
    assert "is refused here" in reason(f"import os\nfor n in range(11): {change}", few)
    assert reason("for n in range(99): open('/dev/null').read()", few) == ""  # the control


def test_what_a_program_prints_or_reads_is_nothing():
    assert reason("print('x' * 10**7)") == ""
    assert reason("input()").startswith("EOFError")


def test_no_process_is_left_behind(monkeypatch):
    ours = f"/of-{os.getpid()}"  # tests beside this one have guards of their own
    monkeypatch.setattr(os, "defpath", f"{os.defpath}:{ours}")
    with subprocess.Popen(["sleep", "9"], env={"PATH": os.defpath}) as control:
        run_programs(["while True: pass", "import time; time.sleep(60)"], SHORT)
        if Path("/proc").is_dir():
            left = [pid for pid in os.listdir("/proc") if ours in environment_of(pid)]
            assert left == [str(control.pid)]
        control.kill()


def environment_of(pid):
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


def test_equal_programs_are_run_once_and_a_guard_that_dies_takes_one_with_it(monkeypatch):
    asked = []

    def dying(programs, limits):
        asked.append(list(programs))
        return ["" for _ in range(2)] if len(asked) == 1 else ["no"] * len(programs)

    monkeypatch.setattr(sandbox, "guarded", dying)
    found = run_programs(["a", "b", "a", "c", "d"])
    assert asked == [["a", "b", "c", "d"], ["d"]]
    assert [verdict.reason for verdict in found] == [
        "", "", "", "the sandbox ended with it", "no",
    ]  # fmt: skip


def test_several_threads_may_ask_at_once():
    found = {}

    def ask(n):
        found[n] = guarded([f"assert {n} % 2"], SHORT)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [bool(found[n][0]) for n in range(4)] == [True, False, True, False]


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "humaneval").is_dir(), reason="the data are not there")
def test_the_right_programs_of_humaneval_pass_and_broken_ones_do_not():
    with gzip.open(DATA / "humaneval" / "HumanEval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]

    def source(row, body):
        return f"{row['prompt']}{body}\n{row['test']}\ncheck({row['entry_point']})\n"

    limits = Limits(seconds=20)
    right = run_programs([source(row, row["canonical_solution"]) for row in rows], limits)
    assert [row["task_id"] for row, one in zip(rows, right, strict=True) if not one.passed] == []
    broken = run_programs([source(row, "    return None\n") for row in rows], limits)
    assert [row["task_id"] for row, one in zip(rows, broken, strict=True) if one.passed] == []


def test_the_usual_ways_around_the_hook_are_closed(tmp_path):
    target = tmp_path / "x"
    inside = "import os, posixpath\nhere = os.getcwd() + '/x'\n"
    write = f"\nopen({str(target)!r}, 'w').write('x')"
    tricks = [
        f"{inside}posixpath._joinrealpath = lambda *_: (here, True){write}",
        f"{inside}posixpath.abspath = lambda _: here{write}",
        f"{inside}os.readlink = lambda *_: here\nimport stat\nstat.S_ISLNK = lambda _: True{write}",
        f"import os\nos.fsdecode = lambda p: os.getcwd()\nopen({str(target)!r}, 'w').write('x')",
        "import __main__\n__main__.NEVER = __main__.MODULES = ()\nimport socket\nsocket.socket()",
        f"class P(str): pass\nopen(P({str(target)!r}), 'w')",
        "import builtins\nbuiltins.isinstance = lambda *_: False\nimport os\nos.fork()",
    ]
    assert all("is refused here" in reason(trick, Limits()) for trick in tricks)
    assert not target.exists()
    forged = "import os\nfor n in range(3, 30):\n    try: os.write(n, b'\"\"\\n')\n"
    forged += "    except OSError: pass\nos._exit(0)"
    assert reason(forged, Limits()) in ("ended before its last line", "wrote a verdict of its own")
    assert reason("import __main__\nx = 3\nassert __main__.x == 3") == ""  # the control


FORGE = """
import gc, json, os, re, sys, time
def forge(known):  # writes what looks like a key of whatever reaches it, as a verdict
    for key in re.findall(r"'([0-9a-f]{32})(?:.n)?'", repr(known)):
        for line in (json.dumps([key, ""]), key):
            for n in range(3, 20):
                try: os.write(n, line.encode() + b"\\n")
                except OSError: pass
            time.sleep(0.1)  # one line is read before the next is there
    os._exit(0)
def above(frame):
    while frame:
        yield frame.f_locals
        frame = frame.f_back
"""
FORGERIES = {
    "frames": "forge([*above(sys._getframe())])",
    "a traceback": "try: 1 / 0\nexcept Exception as e: known = [*above(e.__traceback__.tb_frame)]\n"
    "forge(known)",
    "a generator": "def g(): forge([*above(me.gi_frame)]); yield\nme = g(); next(me)",
    "the collector": "forge([x for x in gc.get_objects() if isinstance(x, (dict, tuple))])",
    "the names of json": "plain = json._default_encoder.encode\n"
    "json._default_encoder.encode = lambda told: plain([told[0], ''])\nassert 0",
    "a line that is skipped": "def skip(frame, event, _):\n"
    "    if event == 'line' and frame.f_lineno == wrong: frame.f_lineno += 1\n"
    "    return skip\n"
    "def check(right):\n    assert right\n    return\n"
    "wrong = check.__code__.co_firstlineno + 1\n"
    "sys.settrace(skip); check(False); sys.settrace(None)",
}


@pytest.mark.parametrize("way", FORGERIES)
def test_a_program_cannot_write_that_it_has_passed(way):
    assert reason(FORGE + FORGERIES[way], Limits()) != ""


def test_what_a_program_reads_of_memory_is_refused_also_where_names_are_replaced():
    for source in (
        "import genericpath, os, posixpath\n"
        "posixpath._joinrealpath = lambda *_: (os.getcwd() + '/x', True)\n"
        "genericpath.os = None\nopen('/proc/self/mem', 'rb')",
        "import os\nos.chdir('/proc/self')\nopen('mem', 'rb')",
        "import io\nclass P:\n    def __fspath__(self): return paths.pop()\n"
        "paths = ['/proc/self/mem', 'x', 'x']\nio.FileIO(P())",
    ):
        assert "is refused here" in reason(source, Limits()), source
    assert reason("open('a', 'w').close(); open('a').read(); open(0).read()") == ""  # the control
