"""launch.chat under a terminal, and launch.serve from its start to SIGTERM."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time

import pytest

from lm.models.gpt import GptConfig
from tests.launched import ROOT, environment, one_line
from tests.rlhf.runs import VOCAB, pretrained
from tests.serve.served import client, wait_until

MODEL = GptConfig(layers=1, width=32, heads=2, vocab=VOCAB, length=512)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return pretrained(tmp_path_factory.mktemp("runs") / "toy", MODEL)


# Takes the terminal as its own, so that Ctrl-C reaches it, and becomes the command.
BECOME = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, '-m', *sys.argv[1:]])"
)


class Terminal:
    """A command with a terminal of its own."""

    def __init__(self, *words):
        self.file, inner = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", BECOME, *words], cwd=ROOT, start_new_session=True, stdin=inner,
            stdout=inner, stderr=inner, env=environment() | {"TERM": "dumb", "NO_COLOR": "1"},
        )  # fmt: skip
        os.close(inner)
        self.seen = ""

    def until(self, text, seconds=120):
        """What comes up to and with the text."""
        limit = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < limit, f"{text!r} did not come; there is {self.seen!r}"
            if select.select([self.file], [], [], 0.2)[0]:
                self.seen += os.read(self.file, 65536).decode(errors="replace")
        found, _, self.seen = self.seen.partition(text)
        return found

    def type(self, text):
        os.write(self.file, text.encode())

    def close(self):
        code = self.process.wait(60)
        os.close(self.file)
        return code


@pytest.mark.slow
def test_a_conversation_in_a_terminal(run, tmp_path):
    terminal = Terminal("launch.chat", f"--workdir={run}", "--max_tokens=6", "--temperature=0")
    terminal.until("/help lists the commands")
    terminal.until("> ")
    terminal.type("hello\n")
    terminal.until("hello\r\n")
    first = terminal.until("> ")
    terminal.type("/regenerate\n")
    terminal.until("/regenerate\r\n")
    assert terminal.until("> ") == first  # greedy: the same again
    for typed, told in (
        ("/help", "/temperature"), ("/temperature 1.5", "[temperature 1.5]"),
        ("/temperature hot", "could not convert"), ("/temperature -1", "at least 0"),
        ("/nothing", "no command /nothing"), ("/system Be brief.", "told: Be brief."),
    ):  # fmt: skip
        terminal.type(typed + "\n")
        terminal.until(typed + "\r\n")
        assert told in terminal.until("> "), typed
    terminal.type(f"/save {tmp_path}/said.json\n")
    terminal.until("[saved in")
    said = json.loads((tmp_path / "said.json").read_text())["messages"]
    assert [turn["role"] for turn in said] == ["system", "user", "assistant"]
    assert said[0]["content"] == "Be brief." and said[1]["content"] == "hello"
    terminal.type("/quit\n")
    assert terminal.close() == 0


@pytest.mark.slow
def test_ctrl_c_stops_an_answer_and_not_the_program(run):
    terminal = Terminal("launch.chat", f"--workdir={run}", "--max_tokens=480")
    terminal.until("> ")
    terminal.type("hi\n")
    terminal.until("hi\r\n")
    while len(terminal.seen) < 3:  # it is writing
        terminal.seen += os.read(terminal.file, 1024).decode(errors="replace")
    terminal.type("\x03")
    terminal.until("[stopped]")
    terminal.until("> ")
    terminal.type("\x03")
    terminal.until("Ctrl-D ends")
    terminal.type("\x04")
    assert terminal.close() == 0


def serve(*flags):
    return subprocess.Popen(
        [sys.executable, "-m", "launch.serve", "--port=0", *flags], cwd=ROOT, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def address_of(process):
    for line in process.stdout:
        if found := re.search(r"http://127.0.0.1:(\d+)", line):
            return found[0]
    raise AssertionError(process.stderr.read())


@pytest.mark.slow
def test_sigterm_finishes_what_is_being_answered_and_then_ends(run):
    process = serve(f"--workdir={run}", "--slots=2")
    address = address_of(process)
    found = {}

    def ask():
        with client(address) as api:
            body = {"prompt": "x", "max_tokens": 400, "temperature": 0}
            found["answer"] = api.post("/v1/completions", json=body)

    asking = threading.Thread(target=ask)
    with client(address) as api:
        assert api.get("/v1/models").json()["data"][0]["chat"]
        assert b"<title>" in api.get("/label").content
        asking.start()
        wait_until(lambda: api.get("/health").json()["models"]["toy"]["busy"])
    process.send_signal(signal.SIGTERM)
    asking.join(60)
    assert found["answer"].json()["usage"]["completion_tokens"] > 0
    assert found["answer"].json()["choices"][0]["finish_reason"] in ("length", "stop")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "stopped" in out


@pytest.mark.parametrize(
    "flags, parts",
    [
        (["--host=0.0.0.0", "--workdir=x"], ("--host=0.0.0.0", "--token")),
        ([], ("--workdir is empty",)),
        pytest.param(["--workdir=nowhere"], ("nowhere",), marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_served_is_one_line(flags, parts):
    process = serve(*flags)
    out, err = process.communicate(timeout=120)
    done = subprocess.CompletedProcess([], process.returncode, out, err)
    one_line(done, 2 if flags == ["--workdir=nowhere"] else 1, *parts)
