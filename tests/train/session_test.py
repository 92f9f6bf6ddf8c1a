"""What a session does about bad steps, old steps and other processes' directories."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from tensorboardX.proto import event_pb2

import lm.train.journal
import lm.train.session
from experiments import bert, gpt1, gpt4
from lm.core.config import bind
from lm.core.errors import CheckpointError, ConfigError, GuardStop
from lm.core.mesh import MeshConfig, make_mesh
from lm.text.byte import ByteTokenizer
from lm.train.checkpoint import Checkpoints
from lm.train.goodput import Goodput
from lm.train.guard import GuardConfig, GuardState
from lm.train.journal import Journal, commit
from lm.train.metrics import MetricsFile, read_metrics
from lm.train.process import Process, Stop
from lm.train.resume import check_facts
from lm.train.session import Finished, LoopConfig, Session
from lm.train.state import TrainState
from lm.train.step import StepMetrics
from tests.train.step_test import EXPERIMENT

LOOP = LoopConfig(log_every=1, save_every=2, evaluate_every=100, keep=10)


def state_at(step, value):
    scalar = jnp.asarray(value, jnp.float32)
    guard = GuardState.empty(GuardConfig())
    return TrainState(jnp.asarray(step, jnp.int32), {"w": scalar}, {"m": scalar}, guard)


def run(
    workdir, guard, bad=(), steps=8, process=None, experiment: Any = EXPERIMENT, pause=0.0,
    loop=LOOP, evaluated=lambda session, done: None, complete=lambda state: state,
    each=1, compiling=lambda session, step: None, measured=lambda session, done: None,
):  # fmt: skip
    """Steps of `each` tokens that add one to a number; those in `bad` are not finite and change
    nothing. The guard's window has the numbers of the steps."""
    visited = []
    settings = {"flops_per_token": lambda step: 1.0, "peak": 1.0, "facts": {"data": "same"}}
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    with (
        jax.set_mesh(mesh),
        Session(
            workdir,
            experiment,
            process or Process(),
            loop=loop,
            guard=guard,
            steps=steps,
            tokens_before=lambda step: step * each,
            **settings,
        ) as s,
    ):
        first = state_at(0, 0.0)
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), first
        )
        state = s.start(abstract, lambda: first)
        if s.unevaluated:
            evaluated(s, s.first)
        for step in s.steps(lambda step: [{"row": 10 * step}]):
            assert int(state.step) == step
            time.sleep(pause)
            compiling(s, step)
            good = step not in bad
            visited.append(step)
            losses = jnp.append(state.guard.losses[1:], float(step))
            window = state.guard.replace(losses=losses)
            state = state_at(step + 1, float(state.params["w"]) + good).replace(guard=window)
            one = jnp.ones(())
            loss = one if good else one * jnp.nan
            flag = jnp.asarray(good)
            metrics = StepMetrics(loss, one, one, flag, flag, jnp.zeros(()), one)
            state = s.after(step, state, metrics, lambda done, params: measured(s, done), complete)
            evaluated(s, step + 1)
        s.finish({})
    return visited, float(state.params["w"])


def test_a_run_whose_processes_read_other_data_writes_nothing(monkeypatch, tmp_path):
    def refuse(facts, way_out):
        raise ConfigError(f"{facts}; {way_out}")

    monkeypatch.setattr(lm.train.session, "check_same", refuse)
    with pytest.raises(ConfigError, match=r"'data': .*'same'.*; give every process the same files"):
        run(tmp_path / "run", GuardConfig())
    assert not (tmp_path / "run").exists()


def test_lines_of_the_metrics_that_are_damaged_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    deep = b'{"step": 1, "loss": ' + b"[" * 100_000 + b"\n"
    path.write_bytes(deep + b'{"step": 1}\n5\n{"loss": 1}\n\xff\xfe\n{"step": 2}\n{"step": ')
    for where in (path, epath.Path(path)):  # as of a run in a store
        assert [row["step"] for row in read_metrics(where)] == [1, 2]


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is a disk that is full")
def test_rows_that_a_full_disk_has_no_room_for_are_written_once_it_has(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path, None)
    with open("/dev/full", "wb", buffering=0) as full:
        usual, file.file = file.file, full
        for step in (1, 2):
            file.write({"step": step})
    file.file = usual
    assert capsys.readouterr().err.count("No space left on device; its rows are written once") == 1
    assert read_metrics(path) == []  # the control: it did not have them
    file.write({"step": 3})
    file.close()
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3]


def test_what_a_run_can_do_without_does_not_stop_it_and_its_summary_does(tmp_path, capsys):
    journal = Journal(tmp_path, Goodput(None), 10, lambda step: 1.0, 1.0)
    (tmp_path / "samples").write_text("")  # a file in the place of a folder
    journal.sample(1, "text")
    assert "00000001.txt was not written: " in capsys.readouterr().out
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(CheckpointError, match=r"cannot write .*summary.json: .* ends the run"):
        journal.summary({})
    (tmp_path / "metrics.jsonl.part").mkdir()
    with pytest.raises(ConfigError, match=r"cannot write .*metrics.jsonl: Is a directory"):
        journal.open(None)


def test_the_commit_is_told_with_changes_and_none_of_another_repository(tmp_path, monkeypatch):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=b"]
        done = subprocess.run(
            ["git", "-C", tmp_path, *who, *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    code = tmp_path / "venv" / "lm" / "train" / "journal.py"
    code.parent.mkdir(parents=True)
    code.write_text("")
    monkeypatch.setattr(lm.train.journal, "__file__", str(code))
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "theirs")
    assert commit() == "-"
    git("add", ".")
    git("commit", "-q", "-m", "ours")
    assert git("rev-parse", "HEAD").startswith(commit()) and len(commit()) == 9
    (tmp_path / "notes").write_text("")  # no code
    assert len(commit()) == 9
    code.write_text("changed")
    assert commit() == f"{git('rev-parse', 'HEAD')[:9]} with changes"
    git("checkout", "-q", "--", ".")
    (tmp_path / "venv" / "experiments").mkdir()
    (tmp_path / "venv" / "experiments" / "mine.py").write_text("")  # of no commit as yet
    assert commit().endswith(" with changes")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() == "-"


def test_what_was_measured_of_the_last_step_is_told_once_however_often_the_command_is_run(tmp_path):
    path, found = tmp_path / "metrics.jsonl", {"step": 4, "valid_loss": 0.1}
    for resumed, row in ((None, found), (4, found), (4, found | {"valid_loss": 0.2})):
        file = MetricsFile(path, resumed)
        file.write(row)
        file.close()
    assert [row["valid_loss"] for row in read_metrics(path)] == [0.1, 0.2]  # the second is another


def test_the_figures_are_written_for_tensorboard_too_where_that_is_asked_for(tmp_path):
    run(tmp_path / "plain", GuardConfig())
    assert not list((tmp_path / "plain").glob("events.*"))
    run(tmp_path / "a", GuardConfig(), loop=replace(LOOP, tensorboard=True))
    (path,) = (tmp_path / "a").glob("events.*")
    found = {
        (v.tag, event.step): v.simple_value for event in events(path) for v in event.summary.value
    }
    rows = read_metrics(tmp_path / "a" / "metrics.jsonl")
    losses = {("loss", row["step"]): pytest.approx(row["loss"]) for row in rows}
    assert losses and losses.items() <= found.items()


@pytest.mark.parametrize(("resumed", "hidden"), [(None, 0), (4, 5)])
def test_what_a_start_before_told_tensorboard_of_steps_to_come_is_hidden(tmp_path, resumed, hidden):
    MetricsFile(tmp_path / "metrics.jsonl", resumed, events=True).close()
    (path,) = tmp_path.glob("events.*")
    starts = [event.step for event in events(path) if event.HasField("session_log")]
    assert starts == [hidden]  # from where on TensorBoard drops what files before this one have


def events(path):
    data, found = path.read_bytes(), []
    while data:  # length, its checksum, an event, its checksum
        length = int.from_bytes(data[:8], "little")
        found.append(event_pb2.Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


def test_figures_for_tensorboard_need_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'lm\[tracking\]'"):
        run(tmp_path, GuardConfig(), loop=replace(LOOP, tensorboard=True))


@pytest.mark.parametrize("save_every", [2, 3])  # steps in flight: fewer than those read late, more
def test_no_step_is_told_to_be_faster_than_steps_are(tmp_path, save_every):
    run(tmp_path, GuardConfig(), pause=0.05, loop=replace(LOOP, save_every=save_every))
    rows = read_metrics(tmp_path / "metrics.jsonl")
    speeds = [row["tokens_per_second"] for row in rows if "tokens_per_second" in row]
    assert "tokens_per_second" not in rows[0]  # compiling is no speed
    # the last steps are read together, in no time
    assert len(speeds) == 7 and 0 < min(speeds) and max(speeds) < 1.5 / 0.05


def test_the_time_that_is_left_is_of_the_tokens_that_are_left(tmp_path, capsys):
    # steps of 10 tokens so far, and 980 tokens to come
    journal = Journal(tmp_path, Goodput(None), 10, lambda step: 1.0, 1.0, total_tokens=1000)
    journal.console.every = 0.0
    journal.open(None)
    values = StepMetrics(*[jnp.ones(())] * 7)
    journal.step(1, 10, values, 10)
    journal.told -= 1.0
    journal.step(2, 20, values, 20)
    journal.close()
    minutes, seconds = capsys.readouterr().out.split()[-1].split(":")
    assert 90 <= 60 * int(minutes) + int(seconds) <= 120  # 10 tokens a second, or a little fewer


def test_utilisation_is_of_the_operations_of_each_step(tmp_path):
    journal = Journal(tmp_path, Goodput(None), 3, lambda step: 10.0 + step, 5.0)
    journal.open(None)
    for done in (1, 2, 3):
        journal.step(done, 10 * done, StepMetrics(*[np.ones(())] * 7), 10 * done)
    journal.close()
    rows = read_metrics(tmp_path / "metrics.jsonl")
    of_a_token = [5.0 * row["mfu"] / row["tokens_per_second"] for row in rows]
    assert of_a_token == pytest.approx([10, 11, 12])


def test_a_row_has_only_the_parts_of_the_loss_that_its_step_had(tmp_path):
    journal = Journal(tmp_path, Goodput(None), 10, lambda step: 1.0, 1.0)
    journal.open(None)
    for step, loss in ((1, 0.5), (2, np.nan)):
        parts = {"answers": np.float32(0.5), "text": np.float32(np.nan)}
        journal.step(step, 10, StepMetrics(loss, *[np.ones(())] * 6, parts=parts), 10)
    journal.close()
    first, second = read_metrics(tmp_path / "metrics.jsonl")
    assert first["loss/answers"] == 0.5 and "loss/text" not in first
    assert np.isnan(second["loss/text"])  # the control: of a step that went wrong


def test_the_time_of_a_run_is_of_all_that_its_processes_did(tmp_path):
    """Of what came after the last row of an earlier one, and before the first of this one, too."""

    def evaluated(session, done):
        time.sleep(0.5 * (done == session.total))

    for steps in (4, 8):
        run(tmp_path, GuardConfig(), steps=steps, evaluated=evaluated)
    kept = json.loads((tmp_path / "goodput.json").read_text())["processes"]
    first, second = (sum(entry["seconds"].values()) for entry in kept)
    last = read_metrics(tmp_path / "metrics.jsonl")[-1]["seconds"]
    whole = json.loads((tmp_path / "summary.json").read_text())["seconds"]
    assert kept[0]["seconds"]["evaluate"] > 0.5
    assert first < last < last + 0.4 < whole < first + second + 0.1


def test_an_evaluation_before_the_first_step_is_none_of_the_time_to_start(tmp_path):
    def evaluated(session, done):
        time.sleep(0.5 * (done == 0))

    run(tmp_path, GuardConfig(), evaluated=evaluated)
    (spent,) = json.loads((tmp_path / "goodput.json").read_text())["processes"]
    assert spent["seconds"]["evaluate"] > 0.5


def test_a_step_is_not_told_to_be_as_slow_as_the_evaluation_after_it_or_the_samples(tmp_path):
    def evaluated(session, done):
        if done == 4:
            time.sleep(1)
            session.journal.evaluation({"step": done, "tokens": done}, "")
            time.sleep(1)
            session.journal.sample(done, "written")

    loop = replace(LOOP, evaluate_every=4, save_every=100)
    run(tmp_path, GuardConfig(), pause=0.05, evaluated=evaluated, loop=loop)
    speeds = {
        row["step"]: row.get("tokens_per_second", 0.0)
        for row in read_metrics(tmp_path / "metrics.jsonl")
        if "loss" in row
    }
    assert all(speeds[step] > 1 for step in (2, 3, 4, 5))  # with a second in it, one is below


@pytest.mark.parametrize("log_every", [1, 4])
def test_a_step_is_not_told_to_be_as_slow_as_what_it_compiles(tmp_path, log_every):
    def compiling(session, step):
        if step == 4:
            jax.jit(lambda x: (time.sleep(1), x + 1)[1])(np.zeros(4))  # is long at it
            left.append(len(session.pending))

    left = []
    run(
        tmp_path, GuardConfig(), pause=0.05, steps=12, compiling=compiling,
        loop=replace(LOOP, log_every=log_every, save_every=100),
    )  # fmt: skip
    rows = {row["step"]: row for row in read_metrics(tmp_path / "metrics.jsonl")}
    speeds = {step: row["tokens_per_second"] for step, row in rows.items() if "mfu" in row}
    assert left == [2]  # steps were under way, and may have ended while it compiled
    unknown = {1, 3, 4, 5} if log_every == 1 else {1, 4}
    assert speeds.keys() == rows.keys() - unknown
    # the last steps are read together, in no time
    assert all(1 < speed < 1.5 / 0.05 for step, speed in speeds.items() if step < 10)


def test_what_is_done_after_the_last_step_is_not_of_its_speed(tmp_path):
    def complete(state):
        time.sleep(1)
        return state

    run(tmp_path, GuardConfig(), pause=0.05, complete=complete)
    assert 1 < read_metrics(tmp_path / "metrics.jsonl")[-1]["tokens_per_second"] < 1.5 / 0.05
    (process,) = json.loads((tmp_path / "goodput.json").read_text())["processes"]
    assert process["seconds"]["step"] < 1 <= process["seconds"]["evaluate"]


def test_stop_ends_the_run_saves_nothing_of_the_bad_step_and_leaves_a_bundle(tmp_path):
    with pytest.raises(GuardStop, match="step 5: loss nan"):
        run(tmp_path, GuardConfig(nonfinite="stop"), bad=(5,))
    assert Checkpoints(tmp_path / "checkpoints", read_only=True).steps() == [2, 4]
    (bundle,) = (tmp_path / "debug").iterdir()
    told = json.loads(bundle.read_text())
    assert bundle.name == "00000005.json" and told["loss"] == "nan"
    assert told["rows"] == [{"row": 50}]  # what that step read, and none that came after it
    assert not (tmp_path / "lock").exists()


def test_skip_goes_on_until_too_many_in_a_row(tmp_path):
    assert run(tmp_path / "a", GuardConfig(nonfinite="skip", limit=2), bad=(3, 4)) == (
        [*range(8)],
        6,
    )
    with pytest.raises(GuardStop, match="3 steps in a row"):
        run(tmp_path / "b", GuardConfig(nonfinite="skip", limit=2), bad=(3, 4, 5))


def test_steps_skipped_in_a_row_are_counted_on_after_a_restart(tmp_path, monkeypatch):
    guard = GuardConfig(nonfinite="skip", limit=2)
    with monkeypatch.context() as patch, pytest.raises(Finished):
        patch.setattr(Stop, "requested", lambda stop, step: step == 5)
        run(tmp_path, guard, bad=(3, 4, 5))
    with pytest.raises(GuardStop, match="3 steps in a row"):
        run(tmp_path, guard, bad=(3, 4, 5))


def test_a_run_that_goes_on_judges_its_steps_by_those_before_it(tmp_path, monkeypatch):
    windows = []

    def complete(state):
        windows.append(state.guard)
        return state

    run(tmp_path / "a", GuardConfig(), complete=complete)
    with monkeypatch.context() as patch, pytest.raises(Finished):
        patch.setattr(Stop, "requested", lambda stop, step: step == 5)
        run(tmp_path / "b", GuardConfig())
    run(tmp_path / "b", GuardConfig(), complete=complete)
    assert windows[0].losses[-8:].tolist() == [*range(8)]
    jax.tree.map(np.testing.assert_array_equal, *windows)


def test_roll_back_takes_older_parameters_and_leaves_the_bad_batches_behind(tmp_path, capsys):
    visited, value = run(tmp_path, GuardConfig(nonfinite="rollback"), bad=(4,))
    assert visited == [*range(8)]  # no batch is seen twice
    # found before the step after it: 4 before, 3 after
    manifest = json.loads(
        (tmp_path / "checkpoints" / "8" / "manifest" / "manifest.json").read_text()
    )
    assert manifest["rollbacks"] == 1
    assert "rolled back to the parameters of step 4" in capsys.readouterr().out
    assert value == 7


@pytest.mark.parametrize("stopped", [5, 6, 7])
def test_a_roll_back_leaves_the_same_whenever_the_run_was_stopped_and_gone_on_with(
    tmp_path, monkeypatch, stopped
):
    loop, guard = replace(LOOP, save_every=4), GuardConfig(nonfinite="rollback")
    straight = run(tmp_path / "a", guard, bad=(5,), loop=loop)[1]
    with monkeypatch.context() as patch, pytest.raises(Finished):
        patch.setattr(Stop, "requested", lambda stop, step: step == stopped)
        run(tmp_path / "b", guard, bad=(5,), loop=loop)
    assert run(tmp_path / "b", guard, bad=(5,), loop=loop)[1] == straight == 6


@pytest.mark.parametrize("bad", [(), (6,), (7,)])
def test_what_is_done_after_the_last_step_is_done_to_what_a_roll_back_leaves(tmp_path, bad):
    def complete(state):
        return state.replace(params={"w": state.params["w"] + 100})

    _, value = run(tmp_path, GuardConfig(nonfinite="rollback"), bad, complete=complete)
    assert value == 100 + {(): 8, (6,): 7, (7,): 6}[bad]
    # what is kept is what is gone on with
    again, kept = run(tmp_path, GuardConfig(nonfinite="rollback"), complete=complete)
    assert again == [] and kept == value


def test_a_signal_in_the_last_evaluation_of_a_run_ends_a_study_before_its_next_run(
    tmp_path, capsys
):
    def evaluated(session, done):
        if done == session.total:
            session.stop.handle(signal.SIGTERM, None)

    command = Process()
    assert run(tmp_path / "a", GuardConfig(), process=command, evaluated=evaluated)[1] == 8
    with pytest.raises(Finished) as finished:
        run(tmp_path / "b", GuardConfig(), process=command)
    assert finished.value.code == 75 and not list((tmp_path / "b" / "checkpoints").iterdir())
    assert "stopped before a step of" in capsys.readouterr().out
    assert run(tmp_path / "b", GuardConfig(), process=command)[1] == 8  # it was served


@pytest.mark.parametrize("at", [0, 3, 6, 8])  # before a step, unsaved, saved, the end
def test_a_signal_in_an_evaluation_ends_it_and_it_is_made_anew(tmp_path, capsys, at):
    seen = []

    def batches(session, done):
        for number in range(4):
            session.ask()
            seen.append((done, number))
            if (done, number) == (at, 1) and not stopped:
                stopped.append(session.stop.handle(signal.SIGTERM, None))

    def ends(session, done):
        if done in (session.first, 8):
            batches(session, done)

    stopped = []
    asked = {
        "loop": replace(LOOP, evaluate_every=3), "evaluated": ends, "measured": batches,
    }  # fmt: skip
    with pytest.raises(Finished) as finished:
        run(tmp_path, GuardConfig(), **asked)
    assert finished.value.code == 75 and seen[-2:] == [(at, 0), (at, 1)]
    told = f"saved step {at} in" if at else "stopped before a step of"
    assert told in capsys.readouterr().out
    seen.clear()
    assert run(tmp_path, GuardConfig(), **asked)[0] == list(range(at, 8))
    if at < 8:  # after the last step it is the experiment that evaluates
        assert seen[:4] == [(at, number) for number in range(4)]


def test_several_processes_do_not_leave_an_evaluation_of_which_they_have_not_agreed(tmp_path):
    def batches(session, done):
        session.stop.signal, session.stop.distributed = signal.SIGTERM, True
        assert session.asking(lambda number: number + 1)(done) == done + 1
        session.stop.signal, session.stop.distributed = None, False

    assert run(tmp_path, GuardConfig(), evaluated=batches)[1] == 8


def test_a_stop_that_cannot_be_saved_says_so_and_does_not_ask_to_be_run_again(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(Stop, "requested", lambda stop, step: step == 3)
    with pytest.raises(Finished):
        run(tmp_path / "a", GuardConfig())
    full = SimpleNamespace(free=0)
    monkeypatch.setattr("lm.train.checkpoint.shutil.disk_usage", lambda folder: full)
    with pytest.raises(CheckpointError, match="stopped, and step 3 could not be saved"):
        run(tmp_path / "b", GuardConfig())


def test_a_run_whose_last_step_could_not_be_saved_has_not_ended_and_goes_on_once_there_is_room(
    tmp_path, monkeypatch
):
    rooms = iter([1e12, 1e12, 0.0, 0.0])  # bytes free at the saves of steps 2, 4, 6, 8
    monkeypatch.setattr(
        "lm.train.checkpoint.shutil.disk_usage", lambda folder: SimpleNamespace(free=next(rooms))
    )
    with pytest.raises(CheckpointError, match="the last checkpoint could not be written"):
        run(tmp_path, GuardConfig())
    assert not (tmp_path / "summary.json").exists()
    rooms = iter([0.0, 1e12])  # one that fails on the way is made good by the last
    assert run(tmp_path, GuardConfig()) == ([4, 5, 6, 7], 8)
    assert (tmp_path / "summary.json").exists()


@pytest.mark.parametrize("lost", ["moved", "removed", "made anew", "taken"])
def test_a_run_whose_directory_is_gone_stops_at_its_next_save_and_makes_no_other(tmp_path, lost):
    workdir, away = tmp_path / "run", tmp_path / "away"

    def lose(session, done):
        if done != 5:
            return
        session.checkpoints.settle()
        if lost == "removed":
            shutil.rmtree(workdir)
        elif lost != "taken":
            workdir.rename(away)
        if lost == "made anew":
            workdir.mkdir()
        if lost == "taken":
            (workdir / "lock").write_text(json.dumps({"id": "another"}))

    with pytest.raises(ConfigError, match="or it was moved, removed or unmounted; stopped"):
        run(workdir, GuardConfig(), evaluated=lose)
    assert workdir.exists() == (lost in ("made anew", "taken"))
    if lost == "made anew":
        assert not (workdir / "checkpoints").exists()
        shutil.rmtree(workdir)
    if lost in ("moved", "made anew"):
        away.rename(workdir)
        (workdir / "lock").unlink()  # of a process that is gone, but for this test
        assert run(workdir, GuardConfig()) == ([4, 5, 6, 7], 8)


def test_a_directory_whose_checkpoints_are_gone_is_still_another_runs(tmp_path):
    run(tmp_path, GuardConfig())
    shutil.rmtree(tmp_path / "checkpoints")
    other = replace(EXPERIMENT, seed=EXPERIMENT.seed + 1)
    with pytest.raises(ConfigError, match="seed: checkpoint 0, now 1"):
        run(tmp_path, GuardConfig(), experiment=other)
    (tmp_path / "summary.json").unlink()  # it had no results: what was wrong may be set right
    assert run(tmp_path, GuardConfig(), experiment=other)[1] == 8


def test_going_on_from_an_older_step_sets_newer_ones_aside(tmp_path):
    run(tmp_path, GuardConfig())
    visited, _ = run(tmp_path, GuardConfig(), process=Process(restore_step=4))
    assert visited == [4, 5, 6, 7]
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert {"6.abandoned", "8.abandoned", "6", "8"} <= names


def test_more_steps_are_no_other_run_and_another_seed_is(tmp_path):
    run(tmp_path, GuardConfig())
    longer = replace(EXPERIMENT, steps=12)
    assert run(tmp_path, GuardConfig(), steps=12, experiment=longer)[0] == [8, 9, 10, 11]


@pytest.mark.parametrize(
    ("asked", "stop_at", "told"),
    [
        ((2, 4), None, "trace of steps 2:4 in"),
        ((6, 12), None, "trace of steps 6:8 in"),
        ((2, 6), 4, "trace of steps 2:4 in"),
        ((9, 12), None, "warning: no trace: of steps 9:12 none is left of 0:8"),
    ],
)
def test_a_trace_is_written_of_the_steps_that_are_made_and_else_it_is_said_that_none_is(
    tmp_path, monkeypatch, capsys, asked, stop_at, told
):
    calls = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: calls.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
    monkeypatch.setattr(Stop, "requested", lambda stop, step: step == stop_at)
    with pytest.raises(Finished) if stop_at else nullcontext():
        run(tmp_path, GuardConfig(), process=Process(profile_steps=asked))
    assert calls == ([] if "warning" in told else ["start", "stop"])
    assert told in capsys.readouterr().out


def test_a_trace_holds_the_device_s_work_of_its_steps_and_of_no_others(tmp_path, monkeypatch):
    """Steps run behind their dispatch: none is still to be read where a trace begins or ends."""
    sessions, left = [], []
    for name in ("start_trace", "stop_trace"):
        monkeypatch.setattr(
            jax.profiler, name, lambda *_: left.append([step for step, *_ in sessions[0].pending])
        )
    run(
        tmp_path, GuardConfig(), process=Process(profile_steps=(4, 6)),
        loop=replace(LOOP, save_every=100), evaluated=lambda s, done: sessions.append(s),
    )  # fmt: skip
    assert left == [[], []]


def test_fewer_steps_than_were_made_are_refused_and_the_summary_stays(tmp_path):
    run(tmp_path, GuardConfig())
    before = (tmp_path / "summary.json").read_text()
    shorter = replace(EXPERIMENT, steps=4)
    with pytest.raises(ConfigError, match="is at step 8, and steps is 4"):
        run(tmp_path, GuardConfig(), steps=4, experiment=shorter)
    assert (tmp_path / "summary.json").read_text() == before
    back = Process(restore_step=4)
    assert run(tmp_path, GuardConfig(), steps=4, experiment=shorter, process=back) == ([], 4)


@pytest.mark.parametrize("last", [4, 5])
def test_an_evaluation_that_a_stop_came_before_is_made_by_the_next_process(
    tmp_path, monkeypatch, last
):
    def evaluated(session, done):
        if done % 4 == 0:
            session.journal.evaluation({"step": done, "tokens": done, "valid_loss": 1.0}, "")

    monkeypatch.setattr(Stop, "requested", lambda stop, step: step == last)
    loop = replace(LOOP, evaluate_every=4)
    with pytest.raises(Finished):
        run(tmp_path, GuardConfig(), evaluated=evaluated, loop=loop)
    run(tmp_path, GuardConfig(), evaluated=evaluated, loop=loop)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if "valid_loss" in row] == [0, 4, 8]
    assert [row["step"] for row in rows if "loss" in row] == [*range(1, 9)]
    found = {row["step"]: row for row in rows if "loss" in row}
    assert "mfu" in found[last + 3] and "mfu" not in found[last + 1]  # it compiles


def test_a_run_that_goes_on_has_not_ended_and_shows_nothing_of_steps_to_come(tmp_path):
    def evaluated(session, done):
        session.journal.sample(done, "written")

    run(tmp_path, GuardConfig(), evaluated=evaluated)
    assert (tmp_path / "summary.json").exists()
    (tmp_path / "gallery.jsonl").write_text("{}\n")  # of the last step
    with pytest.raises(GuardStop):
        run(tmp_path, GuardConfig(), bad=(5,), process=Process(restore_step=4))
    assert not (tmp_path / "summary.json").exists() and not (tmp_path / "gallery.jsonl").exists()
    assert max(int(path.stem) for path in (tmp_path / "samples").iterdir()) == 4


@pytest.mark.parametrize(
    ("first", "then", "name"),
    [
        (bert.tiny(), {"stages": "((64, 1.0),)"}, "stages"),
        (bert.tiny(), {"instances.mask_fraction": "0.3"}, "instances.mask_fraction"),
        (gpt1.finetune(), {"length": "32"}, "length"),
    ],
)
def test_other_rows_are_not_gone_on_with_unless_that_is_said(tmp_path, first, then, name):
    run(tmp_path, GuardConfig(), experiment=first)
    changed = bind(first, then)
    with pytest.raises(ConfigError, match=f"{name}: checkpoint .*: other data or order"):
        run(tmp_path, GuardConfig(), steps=12, experiment=changed)
    allowed = Process(allow_data_change=True)
    assert run(tmp_path, GuardConfig(), steps=12, experiment=changed, process=allowed)[0] == [
        *range(8, 12)
    ]


def test_a_task_may_be_measured_otherwise_after_a_resume(tmp_path):
    run(tmp_path, GuardConfig(), experiment=gpt1.finetune())
    other = bind(gpt1.finetune(), {"data.metrics": "matthews"})
    assert run(tmp_path, GuardConfig(), steps=9, experiment=other)[0] == [8]


def test_after_another_batch_tokens_are_counted_on_from_those_of_the_checkpoint(tmp_path):
    def evaluated(session, done):
        if done == 3:
            session.tell(done, {"valid_loss": 1.0})

    told = {"evaluated": evaluated, "each": 8}
    run(tmp_path, GuardConfig(), steps=2, each=16)
    run(tmp_path, GuardConfig(), steps=4, **told)
    # whose checkpoint has what both counted
    run(tmp_path, GuardConfig(), steps=5, **told)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    counted = [(row["step"], row["tokens"]) for row in rows]
    assert counted == [(1, 16), (2, 32), (3, 40), (3, 40), (4, 48), (5, 56)]
    assert json.loads((tmp_path / "summary.json").read_text())["tokens"] == 56
    run(tmp_path, GuardConfig(), steps=5, each=4)  # and takes no step
    assert json.loads((tmp_path / "summary.json").read_text())["tokens"] == 56


MESH = {"model.stream": "length", "model.narrow_products": "True", "mesh.tensor": "2"}


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (gpt1.tiny(), {"model.dtype": "bfloat16", "model.remat": "full"}),
        (gpt1.tiny(), {"model.dtype": "bfloat16"} | MESH),
        (gpt4.tiny(), {"model.text.dtype": "bfloat16", "model.text.remat": "full"}),
    ],
)
def test_a_model_is_computed_otherwise_after_a_resume_and_it_is_told(tmp_path, capsys, first, then):
    run(tmp_path, GuardConfig(), experiment=first)
    run(tmp_path, GuardConfig(), steps=9, experiment=bind(first, then))
    (row,) = read_metrics(tmp_path / "changes.jsonl")
    assert row["step"] == 8 and set(row["changed"]) == set(then)
    assert f"{next(iter(then))}: checkpoint 'float32', now 'bfloat16'" in capsys.readouterr().out
    other = bind(first, {next(iter(then)).replace("dtype", "heads"): "1"})
    with pytest.raises(ConfigError, match="heads: checkpoint .*, now 1; choose another --workdir"):
        run(tmp_path, GuardConfig(), steps=10, experiment=other)  # the control


def test_a_fact_that_older_checkpoints_have_not_is_compared_in_newer_ones_alone():
    now = {"data_stages": [[0, 128], [1800, 512]]}
    check_facts({}, now, allow_data=False)
    check_facts(then := {"data_stages": [[0, 128], [900, 512]]}, now, allow_data=True)
    with pytest.raises(CheckpointError, match="data_stages: checkpoint .*900.*; --allow_data_chan"):
        check_facts(then, now, allow_data=False)
    with pytest.raises(CheckpointError, match="data_ramp: checkpoint None"):
        check_facts({}, {"data_ramp": []}, allow_data=False)


def test_a_reward_function_that_was_edited_is_told_and_no_other_run(capsys):
    then = {"step": 2, "reward": "mine:one", "reward_file": "a"}
    now = {"reward": "mine:one", "reward_file": "b"}
    check_facts(then, now, allow_data=False)
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(
        "warning: the file of reward.function was edited since the checkpoint of"
    )
    check_facts({"step": 2, "reward": "mine:one"}, now, allow_data=False)  # of an older version
    check_facts(now | {"step": 2}, now, allow_data=False)
    assert not capsys.readouterr().err
    with pytest.raises(CheckpointError, match="reward: checkpoint mine:one, now mine:two"):
        check_facts(then, now | {"reward": "mine:two"}, allow_data=False)


def test_what_was_set_otherwise_on_the_way_is_kept_with_its_step(tmp_path):
    def told():
        path = tmp_path / "changes.jsonl"
        return (
            [(row["step"], row["changed"]) for row in read_metrics(path)] if path.exists() else []
        )

    def go(steps, restore=None, **bound):
        experiment = bind(EXPERIMENT, {f"optim.{name}": value for name, value in bound.items()})
        process = Process(restore_step=restore)
        run(tmp_path, GuardConfig(), steps=steps, experiment=experiment, process=process)

    go(4, peak_lr=1e-2)
    go(6, peak_lr=1e-2)
    assert told() == []
    go(8, peak_lr=1e-3)
    once = (6, {"optim.peak_lr": ["0.01", "0.001"]})
    assert told() == [once]
    go(10, peak_lr=1e-4)
    assert told() == [once, (8, {"optim.peak_lr": ["0.001", "0.0001"]})]
    go(10, peak_lr=1e-4, restore=6)  # as it was when step 8 was made first: at 6 it is 0.0001 now
    assert told() == [once, (6, {"optim.peak_lr": ["0.001", "0.0001"]})]
    go(10, peak_lr=1e-2, restore=4)  # where nothing had been changed
    assert told() == []


def test_a_tokenizer_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "tokenizer").write_text("")  # a file in the place of a folder
    settings = {
        "flops_per_token": lambda step: 1.0,
        "peak": 1.0,
        "tokens_before": lambda step: step,
    }
    with (
        pytest.raises(ConfigError, match=r"^cannot write .*/tokenizer: File exists$"),
        Session(
            tmp_path, EXPERIMENT, Process(), loop=LOOP, guard=GuardConfig(), steps=8, facts={},
            **settings,
        ) as session,
    ):  # fmt: skip
        session.keep(ByteTokenizer())


def test_a_run_whose_steps_were_all_set_aside_does_not_begin_anew_over_what_is_left(tmp_path):
    run(tmp_path, GuardConfig())
    checkpoints, rows = tmp_path / "checkpoints", (tmp_path / "metrics.jsonl").read_text()
    for step in (2, 4, 6, 8):
        (checkpoints / str(step)).rename(checkpoints / f"{step}.corrupt")
    with pytest.raises(CheckpointError, match=r"8.corrupt, and no step .*: rename it to 8 "):
        run(tmp_path, GuardConfig())
    assert (tmp_path / "metrics.jsonl").read_text() == rows
    (checkpoints / "8.corrupt").rename(checkpoints / "8")
    assert run(tmp_path, GuardConfig(), steps=9)[0] == [8]


def test_reading_a_run_leaves_a_save_under_way_alone(tmp_path):
    run(tmp_path, GuardConfig())
    under_way = tmp_path / "checkpoints" / "9.orbax-checkpoint-tmp"
    under_way.mkdir()
    before = sorted(os.listdir(tmp_path / "checkpoints"))
    reader = Checkpoints(tmp_path / "checkpoints", read_only=True)
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state_at(0, 0.0)
    )
    restored, manifest = reader.restore(abstract)
    reader.close()
    assert manifest["step"] == 8
    np.testing.assert_array_equal(restored.params["w"], 8)
    assert sorted(os.listdir(tmp_path / "checkpoints")) == before
