"""launch.chat under a terminal, and launch.serve from its start to SIGTERM."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from launch.served import labels_folder, run_name, served_run
from lm.core import paths
from lm.core.errors import ConfigError
from lm.data.dialogues import dialogues
from lm.data.tasks.rows import jsonl
from lm.data.visual.turns import turns_of
from lm.models.gpt import GptConfig
from lm.serve.server import Server, authority, cannot_bind
from lm.serve.terminal import harmless
from lm.serve.turns import given
from lm.text.byte import ByteTokenizer
from lm.text.dialogue import Chat
from tests.launched import ROOT, environment, one_line
from tests.rlhf.runs import VOCAB, pretrained
from tests.serve.seeing import model, picture, seeing_run
from tests.serve.served import client, wait_until

MODEL = GptConfig(layers=1, width=32, heads=2, vocab=VOCAB, length=512)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return pretrained(tmp_path_factory.mktemp("runs") / "toy", MODEL)


def test_a_run_with_more_rows_than_tokens_is_served_with_its_tokens_alone(tmp_path):
    model = replace(MODEL, length=16, vocab=VOCAB + 40)
    served = served_run(str(pretrained(tmp_path / "toy", model)), None, slots=1)
    assert served.engine.config.vocab == VOCAB + 40
    assert served.vocab == served.engine.vocab == served.tokenizer.vocab_size == VOCAB


# Takes the terminal as its own, so that Ctrl-C reaches it, and becomes the command. Lines are long
# enough for any path; and where the tests run in the background they may ignore SIGINT.
BECOME = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "termios.tcsetwinsize(0, (40, 1000)); signal.signal(signal.SIGINT, signal.SIG_DFL); "
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
    assert "[it has not learned conversations" in terminal.until("> ")  # it was pre-trained alone
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
def test_answers_are_ranked_in_a_terminal(run, tmp_path):
    terminal = Terminal(
        "launch.chat", f"--workdir={run}", "--max_tokens=6", "--temperature=0",
        f"--labels={tmp_path}", "--labeler=ann",
    )  # fmt: skip

    def say(typed):
        terminal.type(typed + "\n")
        terminal.until(typed + "\r\n")
        return terminal.until("> ")

    terminal.until("> ")
    say("hello")
    say("/regenerate")
    assert "no two answers" in say("/rank 1")  # greedy: the same again
    say("/temperature 1.5")
    for _ in range(9):
        say("/regenerate")
        if "2: " in (listed := say("/rank")):
            break
    assert "each number from 1 to 2" in say("/rank 1") and not list(tmp_path.iterdir())
    assert "goes on with 2" in say("/rank 2 1")
    (record,) = map(json.loads, (tmp_path / "labels.jsonl").read_text().splitlines())
    assert record["ranks"] == [2, 1] and record["labeler"] == "ann"
    assert record["messages"] == [{"role": "user", "content": "hello"}]
    assert listed.startswith("1: ") and record["sources"] == ["toy", "toy"]
    assert [type(ended) for ended in record["ended"]] == [bool, bool]
    say(f"/save {tmp_path}/said.json")
    said = json.loads((tmp_path / "said.json").read_text())["messages"]
    assert said[-1]["content"] == record["answers"][1]
    say("/system Be brief.")
    assert "no two answers" in say("/rank 2 1")  # those were answers to something else
    terminal.type("/quit\n")
    assert terminal.close() == 0


@pytest.mark.slow
def test_an_image_is_shown_in_a_terminal(tmp_path):
    folder = seeing_run(tmp_path / "seeing", model())
    file, text = tmp_path / "a.png", tmp_path / "a.txt"
    file.write_bytes(picture(1))
    text.write_text("no image")
    common = ["--max_tokens=12", "--temperature=0", f"--workdir={folder}"]
    sampled = subprocess.run(
        [sys.executable, "-m", "launch.sample", f"--image={file}", "--prompt=what?", *common],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    terminal = Terminal("launch.chat", *common)
    assert "not learned" not in terminal.until("> ")
    for name, told in (
        (text, "neither PNG nor JPEG"),
        (tmp_path, "directory"),
        ("~nobody-of-this-name/a.png", "No such file"),
        (file, "goes with"),
    ):
        terminal.type(f"/image {name}\n")
        terminal.until(f"/image {name}\r\n")
        assert told in terminal.until("> "), name
    terminal.type("what?\n")
    terminal.until("what?\r\n")
    answer = terminal.until("\r\n> ")
    expected = sampled.stdout.removeprefix("what?\n").removesuffix("\n")
    assert answer == harmless(expected)
    terminal.type(f"/save {tmp_path}/said.json\n")
    terminal.until("[saved in")
    turn = json.loads((tmp_path / "said.json").read_text())["messages"][0]
    assert turns_of([turn], given)[0].parts[0].content == picture(1)
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
    for _ in range(10):  # one between the prompt and where readline waits is heard with a key only
        terminal.type("\x03")
        with contextlib.suppress(AssertionError):
            terminal.until("Ctrl-D ends", seconds=5)
            break
    else:
        pytest.fail(f"Ctrl-C is not answered: {terminal.seen!r}")
    terminal.until("> ")  # before its prompt, readline takes no end of file
    terminal.type("\x04")
    assert terminal.close() == 0


def serve(*flags):
    flags = flags if any(flag.startswith("--port") for flag in flags) else ("--port=0", *flags)
    return subprocess.Popen(
        [sys.executable, "-m", "launch.serve", *flags], cwd=ROOT, env=environment(),
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
        assert api.get("/v1/models").json()["data"][0]["chat"] is False  # learned no turns
        assert b"<title>" in api.get("/label").content
        asking.start()
        wait_until(lambda: api.get("/health").json()["models"]["toy"]["busy"])
    process.send_signal(signal.SIGTERM)
    asking.join(60)
    assert found["answer"].json()["usage"]["completion_tokens"] > 0
    assert found["answer"].json()["choices"][0]["finish_reason"] in ("length", "stop")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "stopped" in out


def test_a_signal_cuts_off_no_answer_however_long_it_takes():
    assert Server(lambda: None).config.timeout_graceful_shutdown is None  # in seconds


@pytest.mark.parametrize(
    "host, told",
    [("::1", "[::1]:80"), ("[::1]", "[::1]:80"), ("127.0.0.1", "127.0.0.1:80"), ("me", "me:80")],
)
def test_an_address_is_told_as_a_url_has_it(host, told):
    assert authority(host, 80) == told
    assert f"cannot bind to {told} (taken)" in str(cannot_bind(host, 80, OSError(98, "taken")))


@pytest.mark.slow
def test_a_second_signal_ends_at_once(run):
    process = serve(f"--workdir={run}", "--slots=2")
    port = int(address_of(process).rsplit(":", 1)[1])
    head = f"POST /tokenize HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 9\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as held:
        held.sendall(head.encode() + b"{")  # a request that does not end: the server waits for it
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 128 + signal.SIGTERM
    process.communicate()


# What is kept of a talk whose answers come, or do not: how each line is answered, then the line.
TALKING = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from absl import flags
from launch import chat
from lm.decode.sampling import SamplingConfig
from lm.serve.alternatives import Alternatives
from lm.serve.model import Served
from lm.serve.request import Busy, Drawn, Ended
from lm.text.byte import ByteTokenizer

flags.FLAGS(["chat"])
tokenizer, drawn = ByteTokenizer(), iter(range(9))

def submit(asked):
    if how == "interrupted":
        raise KeyboardInterrupt
    if how == "busy":
        raise Busy("the engine has failed")
    speaks = how in ("well", "stopped", "length")
    for token in tokenizer.encode(f"fine {next(drawn)}") if speaks else ():
        asked.tell(Drawn(token, None))
    asked.tell(Ended({"well": "stop", "length": "length"}.get(how, "error")))

def write(text, real=chat.write):
    real(text)
    if how == "stopped":
        raise KeyboardInterrupt

chat.write = write
labels = Path(sys.argv[2]) if sys.argv[2:] else None
vocab, reader = tokenizer.vocab_size, SimpleNamespace(sight=None)
engine = SimpleNamespace(length=100, vocab=vocab, submit=submit, reader=reader)
served = Served("it", engine, tokenizer)
talk = chat.Talk(served, SamplingConfig(), "", Alternatives(labels, "ann", "it"))
for how, line in json.loads(sys.argv[1]):
    if line == "/image":
        talk.shown.append(b"an image")
        continue
    if how == "nothing came":
        talk.answer = lambda turns: []
    talk.say(line)
said = [turn.content for turn in talk.turns]
print(json.dumps([said, list(talk.alternatives.answers), len(talk.shown)]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "lines, kept, told",
    [
        ([("interrupted", "b")], [["a", "fine 0", "b"], [], 0], "stopped"),
        ([("error", "b"), ("well", "c")], [["a", "fine 0", "c", "fine 1"], ["fine 1"], 0],
         "the engine failed"),
        ([("busy", "b")], [["a", "fine 0", "b"], [], 0], "the engine has failed"),
        ([("error", "b"), ("well", "/regenerate")],
         [["a", "fine 0", "b", "fine 1"], ["fine 1"], 0], "the engine failed"),
        ([("interrupted", "/regenerate")], [["a", "fine 0"], ["fine 0"], 0], "stopped"),
        ([("well", "/regenerate")], [["a", "fine 1"], ["fine 0", "fine 1"], 0], ""),
        ([("well", "/system " + "x" * 90), ("well", "/regenerate")], [["a", "fine 0"], [], 0],
         "shorten"),
        ([("well", "x" * 90)], [["a", "fine 0"], ["fine 0"], 0], "shorten"),
        ([("well", "/image"), ("well", "b")], [["a", "fine 0"], ["fine 0"], 1], "sees no images"),
        ([("well", "/image"), ("nothing came", "b")], [["a", "fine 0", "b"], [], 1], ""),
    ],
)  # fmt: skip
def test_what_is_not_answered_is_told_and_takes_nothing_that_was_said(lines, kept, told):
    found = talked([("well", "a"), *lines])
    assert json.loads(found[-1]) == kept and told in "\n".join(found)


def talked(lines, *more):
    """What is told by a talk of these lines."""
    done = subprocess.run(
        [sys.executable, "-c", TALKING, json.dumps(lines), *more], cwd=ROOT, env=environment(),
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_of_a_saved_talk_whole_answers_are_learned_and_none_that_was_cut_off(tmp_path):
    said, ranked = str(tmp_path / "said.jsonl"), str(tmp_path / "ranked.jsonl")
    lines = [
        ("well", "a"), ("stopped", "b"), ("length", "c"), ("well", "d"), ("", f"/save {said}"),
        ("length", "/regenerate"), ("", "/rank 2 1"), ("", f"/save {ranked}"),
    ]  # fmt: skip
    talked(lines, str(tmp_path / "labels"))
    assert learned_of(said) == (["fine 0", "f", "fine 2", "fine 3"], ["fine 0", "fine 3"])
    assert learned_of(ranked) == (["fine 0", "f", "fine 2", "fine 4"], ["fine 0"])


def learned_of(path):
    """The answers of the one conversation of a file, and those of which anything is learned."""
    (row,), chat = jsonl(Path(path)), Chat(ByteTokenizer())
    (one,) = dialogues()(row)
    found = chat.encode(one.turns)
    ids = found.tokens[found.learned].tolist()
    ends = [place + 1 for place, one in enumerate(ids) if one == chat.end]
    learned = [chat.decode(ids[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
    assert ids[ends[-1] :] == []
    return [turn.content for turn in one.turns if turn.role == "assistant"], learned


@pytest.mark.slow
def test_a_talk_is_saved_over_itself_and_over_no_other_file(tmp_path):
    other, own = tmp_path / "rows.jsonl", tmp_path / "said.jsonl"
    other.write_text("three rows")
    lines = [("well", "a"), ("", f"/save {other}"), ("", f"/save {own}"), ("well", "b"),
             ("", f"/save {own}")]  # fmt: skip
    found = talked(lines)
    assert f"[not saved: {other} is there already; name another file]" in found
    assert other.read_text() == "three rows" and found.count(f"[saved in {own}]") == 2
    assert learned_of(own)[0] == ["fine 0", "fine 1"]


# What launch.serve makes of the flags of labels, for a run that was never trained.
LABELLING = """
from launch import command, serve
from tests.serve.served import served

def main():
    prompts = serve.prompts_to_label()
    routes, stop = serve.labelling({"toy": served(start=False)}, prompts)
    stop()
    print("labels:", bool(routes))

command.run(main)
"""


def labelling(*flags, folder=ROOT):
    return subprocess.run(
        [sys.executable, "-c", LABELLING, *flags], cwd=folder,
        env=environment() | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    "temperature, parts",
    [
        ("nan", ("temperature must be finite", "nan")),
        pytest.param("0.5", (), marks=pytest.mark.slow),
    ],
)
def test_a_temperature_of_labels_that_is_none_is_told_before_they_are_sampled(
    tmp_path, temperature, parts
):
    asked = tmp_path / "asked.txt"
    asked.write_text("Sing?")
    done = labelling(
        f"--workdir={tmp_path}/toy", f"--label_prompts={asked}",
        f"--label_temperature={temperature}",
    )  # fmt: skip
    if parts:
        one_line(done, 1, *parts)
    else:  # the control
        assert done.returncode == 0 and "labels: True" in done.stdout, done.stderr


@pytest.mark.slow
def test_labels_that_cannot_be_kept_are_one_line_where_they_were_asked_for(tmp_path):
    file = tmp_path / "README.md"
    file.write_text("a file")
    asked = tmp_path / "asked.txt"
    asked.write_text("Sing?")
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "labels").write_text("a file, too")
    run = f"--workdir={tmp_path}/toy"
    one_line(labelling(run, f"--labels={file}"), 1, f"--labels={file}: ", "written to")
    one_line(labelling(run, f"--label_prompts={asked}"), 1, f"--labels={tmp_path}/toy/labels")
    done = labelling(run)  # to talk alone nothing need be kept
    assert done.returncode == 0 and "labels: False" in done.stdout, done.stderr
    assert f"{tmp_path}/toy/labels: " in done.stdout and "without labels" in done.stdout


@pytest.mark.slow
def test_the_folder_that_one_is_in_keeps_labels(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    asked = tmp_path / "asked.txt"
    asked.write_text("Sing?")
    done = labelling("--workdir=toy", "--labels=.", f"--label_prompts={asked}", folder=folder)
    assert done.returncode == 0 and "labels: True" in done.stdout, done.stderr
    assert (tmp_path / "here.items.jsonl").exists() and not list(folder.iterdir())


def test_a_port_that_is_taken_is_told_before_the_run_is_looked_at():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = serve("--workdir=nowhere", f"--port={port}")
        out, err = process.communicate(timeout=60)
    done = subprocess.CompletedProcess([], process.returncode, out, err)
    one_line(done, 2, f"cannot bind to 127.0.0.1:{port}", "--port")


def test_labels_of_a_run_in_a_store_want_a_folder_of_this_machine(monkeypatch):
    monkeypatch.setitem(paths.CLIENTS, "gs", ("json", ""))  # as if its client were installed
    run = "gs://bucket/runs/chat"
    assert run_name(run) == run_name("runs/chat/") == "chat"
    with pytest.raises(ConfigError, match=f"{run}/labels cannot be .* give --labels=FOLDER"):
        labels_folder(None, run, wanted=True)
    assert labels_folder(None, run, wanted=False) is None
    assert labels_folder("here", run, wanted=True) == Path("here")
    assert labels_folder("~/here", run, wanted=True) == Path.home() / "here"
    assert labels_folder(None, "runs/chat", wanted=True) == Path("runs/chat/labels")
    with pytest.raises(ConfigError, match="--labels is empty; name a folder"):
        labels_folder("", "runs/chat", wanted=False)


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


def test_prompts_and_a_folder_of_labels_that_cannot_be_are_told_before_the_run_is_looked_at(
    tmp_path,
):
    asked = tmp_path / "asked.jsonl"
    asked.write_text("{")
    for flags, code, said in (
        ([f"--label_prompts={tmp_path}/nothing.txt"], 2, "nothing.txt: no such file"),
        ([f"--label_prompts={asked}"], 2, f"{asked}:1: no JSON"),
        ([f"--labels={asked}/labels"], 1, f"--labels={asked}/labels: Not a directory; name a"),
    ):
        process = serve("--workdir=nowhere", *flags)
        out, err = process.communicate(timeout=60)
        one_line(subprocess.CompletedProcess([], process.returncode, out, err), code, said)
