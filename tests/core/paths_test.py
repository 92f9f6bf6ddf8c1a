"""Run directories in an object store: a stand-in that keeps its objects in a local folder."""

import json
import os
from pathlib import Path

import pytest
from etils.epath import backend, gpath

from lm.core import paths
from lm.core.errors import ConfigError
from lm.core.paths import is_remote, read_summary, remove_tree, run_path, write_whole
from lm.report.page import write_report
from lm.text.byte import ByteTokenizer
from lm.text.tokenizer import load
from lm.train.goodput import Goodput
from lm.train.journal import Journal
from lm.train.lock import locked
from lm.train.manifest import steps_in
from lm.train.metrics import MetricsFile, read_metrics


class Store(type(backend.os_backend)):
    """Objects under `root`; like a store, it has no append and no exclusive creation."""

    def __init__(self, root):
        self.root = str(root)
        self.modes = []

    def place(self, path):
        return str(path).replace("gs://", self.root + "/", 1)

    def open(self, path, mode):
        assert mode[0] in "rw", f"an object store cannot open with mode {mode!r}"
        self.modes.append(mode)
        return super().open(self.place(path), mode)

    def glob(self, path):
        return [
            found.replace(self.root + "/", "gs://", 1) for found in super().glob(self.place(path))
        ]

    def rename(self, path, dst):
        super().rename(self.place(path), self.place(dst))

    def replace(self, path, dst):
        super().replace(self.place(path), self.place(dst))


def translated(name):
    method = getattr(type(backend.os_backend), name)
    return lambda self, path, *rest, **named: method(self, self.place(path), *rest, **named)


for name in ("exists", "isdir", "listdir", "makedirs", "mkdir", "rmtree", "remove", "stat"):
    setattr(Store, name, translated(name))


@pytest.fixture
def store(tmp_path, monkeypatch):
    found = Store(tmp_path / "objects")
    (tmp_path / "objects" / "bucket").mkdir(parents=True)
    monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "gs", found)
    monkeypatch.setitem(paths.CLIENTS, "gs", ("json", ""))
    return found


def test_a_name_is_a_local_path_or_one_of_a_store(store):
    assert run_path("runs/demo") == Path("runs/demo") and not is_remote(run_path("runs/demo"))
    run = run_path("gs://bucket/run")
    assert is_remote(run) and str(run / "config.gin") == "gs://bucket/run/config.gin"
    assert run_path(run) is run


def test_a_home_is_found_where_a_shell_has_left_it_as_it_was(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert run_path("~/runs/demo") == Path("/home/me/runs/demo")
    assert run_path("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")


def test_stores_that_cannot_be_reached_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="ftp://x: no such store"):
        run_path("ftp://x")
    monkeypatch.setitem(paths.CLIENTS, "gs", ("no_such_module", "pip install it"))
    with pytest.raises(ConfigError, match="no_such_module is not installed; pip install it"):
        run_path("gs://bucket/run")


def test_one_job_holds_a_directory_of_a_store(store):
    run = run_path("gs://bucket/run")
    with locked(run, steal=False):
        assert (run / "lock").exists()
        with pytest.raises(ConfigError, match="is in use by process"), locked(run, steal=False):
            pass
    assert not (run / "lock").exists()


def test_metrics_are_written_whole_and_go_on_after_the_step_resumed_from(store, monkeypatch):
    path = run_path("gs://bucket/run") / "metrics.jsonl"
    path.parent.mkdir(parents=True)
    file = MetricsFile(path, None)
    for step in range(1, 6):
        file.write({"step": step, "seconds": float(step)})
    assert read_metrics(path) == []  # not yet: it is written now and then
    file.close()
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3, 4, 5]
    again = MetricsFile(path, 3)
    again.write({"step": 4})
    again.close()
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3, 4]


def test_all_that_a_run_writes_beside_its_checkpoints_is_found_in_the_store(store):
    run = run_path("gs://bucket/run")
    run.mkdir(parents=True)
    (run / "config.gin").write_text("steps = 3\n")
    ByteTokenizer().save(run / "tokenizer")
    assert load(run / "tokenizer").digest == ByteTokenizer().digest
    journal = Journal(run, Goodput(None), 3, lambda step: 1.0, 1.0)
    journal.open(None)
    for step in range(1, 4):
        journal.evaluation({"step": step, "tokens": step, "loss": 2.0 - step / 10}, "")
    journal.sample(3, "what it wrote")
    journal.summary({"valid_loss": 1.7})
    journal.close()
    page = write_report(run)
    assert "what it wrote" in page.read_text()
    names = {path.name for path in run.iterdir()}
    assert {"tokenizer", "metrics.jsonl", "samples", "summary.json", "report.html"} <= names
    assert json.loads((run / "summary.json").read_text())["valid_loss"] == 1.7


def test_steps_are_listed_set_aside_and_removed_in_a_store(store):
    run = run_path("gs://bucket/run")
    for step in ("10", "2", "notes"):
        (run / "checkpoints" / step / "state").mkdir(parents=True)
    assert steps_in(run / "checkpoints") == [2, 10]
    (run / "checkpoints" / "10").rename(run / "checkpoints" / "10.corrupt")
    remove_tree(run / "checkpoints" / "2")
    remove_tree(run / "checkpoints" / "absent")
    assert steps_in(run / "checkpoints") == []
    assert os.path.isdir(store.place(run / "checkpoints" / "10.corrupt" / "state"))


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path, synced = tmp_path / "summary.json", []

    def sync(number):
        synced.append((os.fstat(number).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", sync)
    write_whole(path, '{"steps": 1}')
    assert synced == [(12, False)] and read_summary(path) == {"steps": 1}


@pytest.mark.parametrize(
    "text", [None, b"", b"{", bytes(64), b"[1]", b"\xff", b"[" * 100_000], ids=range(7)
)
def test_a_run_whose_summary_is_missing_or_damaged_has_not_ended(tmp_path, text):
    path = tmp_path / "summary.json"
    if text is not None:
        path.write_bytes(text)
    assert read_summary(path) is None


def test_a_file_is_the_old_one_where_the_new_one_could_not_be_written(tmp_path):
    path = tmp_path / "config.gin"
    write_whole(path, "old")
    (tmp_path / "config.gin.part").mkdir()  # nothing can be written there
    with pytest.raises(OSError, match="directory"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    (tmp_path / "config.gin.part").rmdir()
    write_whole(path, "new")
    assert path.read_text() == "new" and [each.name for each in tmp_path.iterdir()] == [path.name]
