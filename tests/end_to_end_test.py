"""A run as a user runs it: started, interrupted, continued, refused, sampled."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from lm.report.time_spent import processes, totals
from lm.train import lock
from tests.launched import (
    ROOT,
    await_step,
    command,
    environment,
    final_digests,
    losses,
    one_line,
    run,
    start,
    write_text,
)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "text.txt")


@pytest.fixture(scope="module")
def straight(text, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("straight") / "run"
    done = run(text, workdir)
    assert done.returncode == 0, done.stderr
    return workdir


def started(text, workdir, until_step):
    """A process that has logged this step."""
    process = start(text, workdir)
    await_step(workdir, until_step, [process])
    return process


def test_a_run_leaves_all_that_a_run_leaves(straight):
    names = {path.name for path in straight.iterdir()}
    assert {
        "config.gin",
        "tokenizer",
        "metrics.jsonl",
        "checkpoints",
        "report.html",
        "summary.json",
    } <= names
    assert "lock" not in names
    summary = json.loads((straight / "summary.json").read_text())
    assert summary["valid_loss"] < 3.5  # of ln 269 = 5.6 at the start
    assert list(losses(straight)) == list(range(1, 41))


def test_the_last_point_of_the_validation_curve_is_an_estimate_as_the_others_are(straight):
    summary = json.loads((straight / "summary.json").read_text())
    rows = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    *before, last = [row for row in rows if "valid_loss" in row]
    assert last["step"] == 40 and last["valid_loss"] == summary["valid_loss_estimate"]
    assert last["whole_valid_loss"] == summary["valid_loss"] != last["valid_loss"]
    assert last["whole_valid_bits_per_byte"] == summary["valid_bits_per_byte"]
    assert before and not any("whole_valid_loss" in row for row in before)


@pytest.mark.slow
def test_machine_code_as_a_user_has_it_learns_the_same(text, straight, tmp_path):
    """The other commands of the tests are translated without optimization."""
    words = command(text, tmp_path / "run")
    own = environment() | {"XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    done = subprocess.run(words, cwd=ROOT, env=own, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    ours, theirs = (
        [float.fromhex(loss) for loss in losses(folder).values()]
        for folder in (straight, tmp_path / "run")
    )
    assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.slow
def test_a_terminated_run_saves_and_goes_on_bit_for_bit(text, straight, tmp_path):
    process = started(text, tmp_path / "run", until_step=15)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75, process.stderr.read()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "tokenizer").iterdir()}
    again = run(text, tmp_path / "run")
    assert kept == {path: path.stat().st_mtime_ns for path in kept}  # a kill cannot cut it short
    assert again.returncode == 0, again.stderr
    assert "resumed from step" in again.stdout
    assert losses(tmp_path / "run") == losses(straight)
    assert final_digests(tmp_path / "run") == final_digests(straight)
    first, second = processes(tmp_path / "run" / "goodput.json")
    assert 15 <= first["last"] == second["first"] and second["last"] == 40
    spent = totals([first, second])
    assert spent["lost"] == 0 and 0 < spent["goodput"] < 1


@pytest.mark.slow
def test_ctrl_c_saves_and_says_so(text, tmp_path):
    process = started(text, tmp_path / "run", until_step=12)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from it" in out


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(5))
def test_a_run_killed_at_a_random_step_ends_with_the_same_parameters(
    text, straight, tmp_path, attempt
):
    workdir = tmp_path / "run"
    process = started(text, workdir, until_step=random.Random(attempt).randrange(2, 38))
    process.kill()
    process.wait()
    again = run(text, workdir)
    assert again.returncode == 0, again.stderr
    assert losses(workdir) == losses(straight)
    assert final_digests(workdir) == final_digests(straight)


REFUSED = [
    ({"model.width": 64}, 1, ["model.width: checkpoint 32, now 64"]),
    ({"seed": 3}, 1, ["seed: checkpoint 0, now 3", "--allow_data_change"]),
    ({"mesh.fsdp": 3}, 1, ["fsdp 3", "but 1 were found"]),
    ({"model.vocab": 100}, 1, ["the tokenizer has 269 tokens, the model 100"]),
    ({"microbatches": 3}, 1, ["batch 4 is not divisible by 3", "nearest: 3 or 6"]),
]


@pytest.mark.parametrize(
    ("bindings", "code", "parts"),
    [REFUSED[0], *(pytest.param(*one, marks=pytest.mark.slow) for one in REFUSED[1:])],
)
def test_a_changed_run_is_refused_in_one_line_and_nothing_is_lost(
    text, straight, bindings, code, parts
):
    before = final_digests(straight)
    one_line(run(text, straight, **bindings), code, *parts)
    assert final_digests(straight) == before
    assert not (straight / "lock").exists()


def damaged(straight, tmp_path, damage):
    workdir = tmp_path / "run"
    shutil.copytree(straight, workdir)
    damage(workdir / "checkpoints" / "40")
    return workdir


def flip_a_bit(folder):
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)


def cut_the_manifest(folder):
    path = folder / "manifest" / "manifest.json"
    path.write_text(path.read_text()[:50])


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip_a_bit, cut_the_manifest, empty])
def test_a_damaged_checkpoint_is_set_aside_and_an_older_one_used(text, straight, tmp_path, damage):
    workdir = damaged(straight, tmp_path, damage)
    done = run(text, workdir)
    assert done.returncode == 0, done.stderr
    assert "trying an older step" in done.stderr and "resumed from step 30" in done.stdout
    assert (workdir / "checkpoints" / "40.corrupt").exists()
    assert final_digests(workdir) == final_digests(straight)


@pytest.mark.slow
def test_a_step_asked_for_by_number_is_not_replaced_by_another(text, straight, tmp_path):
    workdir = damaged(straight, tmp_path, cut_the_manifest)
    one_line(run(text, workdir, "--restore_step=40"), 2, "the manifest cannot be read")


@pytest.mark.slow
def test_a_directory_in_use_is_refused_and_a_dead_owner_is_not_in_the_way(text, straight, tmp_path):
    workdir = damaged(straight, tmp_path, lambda folder: None)
    owner = {
        "host": os.uname().nodename, "pid": os.getpid(), "time": time.time(),
        "space": lock.space(), "ticks": lock.ticks(os.getpid()),
    }  # fmt: skip
    (workdir / "lock").write_text(json.dumps(owner))
    one_line(run(text, workdir), 1, "is in use by process", "--steal_lock")
    (workdir / "lock").write_text(json.dumps(owner | {"pid": 2**22 + 1}))
    assert run(text, workdir).returncode == 0


@pytest.mark.slow
def test_a_finished_run_samples(straight):
    words = [
        sys.executable,
        "-m",
        "launch.sample",
        f"--workdir={straight}",
        "--prompt=the ",
        "--max_tokens=20",
    ]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("the ") and len(done.stdout) > 10


@pytest.mark.slow
def test_what_cannot_be_sampled_is_refused_before_anything_is_printed(straight):
    def sampled(*flags):
        words = [sys.executable, "-m", "launch.sample", f"--workdir={straight}", *flags]
        return subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)

    one_line(sampled("--beams=2", "--top_k=3"), 1, "--top_k=3 is for drawing")
    long = sampled("--prompt=" + "the " * 100)
    one_line(long, 2, "prompt 0 has", "the model's context is 32")
    assert long.stdout == ""


@pytest.mark.slow
def test_a_beam_search_writes_as_much_as_the_context_holds(straight):
    words = [sys.executable, "-m", "launch.sample", f"--workdir={straight}", "--prompt=the ",
             "--beams=2"]  # fmt: skip
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr  # of 200 tokens, in a context of 32
    assert done.stdout.startswith("the ") and "[score " in done.stdout
