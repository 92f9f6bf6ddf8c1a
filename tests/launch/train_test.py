"""Real runs under faults: losses that are not finite, a disk that is full, a kill during a save."""

import json
import resource
import subprocess
import time

import numpy as np
import pytest

from tests.launched import (
    ROOT,
    command,
    environment,
    final_digests,
    losses,
    one_line,
    run,
    start,
    write_text,
)

# A user's own experiment. A row of the data that has the byte 1 in it makes the loss NaN.
MINE = '''
"""Mine."""

import jax.numpy as jnp

from experiments import gpt2
from lm.models import gpt
from lm.train.pretrain import Pretrain

losses = gpt.vocabulary_losses


def poisoned(hidden, table, targets, **options):
    found = losses(hidden, table, targets, **options)
    return found * jnp.where((targets == 1).any(), jnp.nan, 1.0)


gpt.vocabulary_losses = poisoned


def small(layers: int = 2) -> Pretrain:
    """A model of my own."""
    return gpt2.shakespeare_char_cpu()
'''


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "text.txt")


@pytest.fixture(scope="module")
def mine(text, tmp_path_factory):
    """A poisoned text, and the experiment in a file that minds it."""
    folder = tmp_path_factory.mktemp("mine")
    whole = text.read_text()
    for position in range(1000, 12_000, 3000):
        whole = whole[:position] + "\x01" + whole[position + 1 :]
    (folder / "text.txt").write_text(whole)
    (folder / "mine.py").write_text(MINE)
    return folder


def run_mine(mine, workdir, **bindings):
    return run(mine / "text.txt", workdir, experiment=f"{mine}/mine.py:small", **bindings)


def applied(workdir):
    """Step -> whether its loss was a number."""
    return {step: float.fromhex(value) for step, value in losses(workdir).items()}


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_stops_the_run_and_nothing_of_it_is_saved(mine, tmp_path):
    workdir = tmp_path / "run"
    one_line(run_mine(mine, workdir), 3, "loss nan", "guard.nonfinite=skip")
    (bundle,) = (workdir / "debug").iterdir()
    told = json.loads(bundle.read_text())
    step = told["step"]
    read = [
        np.fromfile(f"{row['file']}/tokens.bin", np.uint16)[slice(*row["tokens"])]
        for row in told["rows"]
    ]
    assert any((tokens == 1).any() for tokens in read)  # the row that did it is among those told
    saved = [int(path.name) for path in (workdir / "checkpoints").iterdir()]
    assert all(number <= step for number in saved) and not (workdir / "lock").exists()
    # the way out that the line names
    again = run_mine(mine, workdir, **{"guard.nonfinite": "skip"})
    assert again.returncode == 0, again.stderr
    assert f"step {step}: loss nan" in again.stdout and "skipped" in again.stdout


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_the_run_goes_on_past_it_where_the_policy_says_so(mine, tmp_path, policy):
    workdir = tmp_path / "run"
    done = run_mine(mine, workdir, **{"guard.nonfinite": policy, "loop.save_every": 2})
    assert done.returncode == 0, done.stderr
    assert ("rolled back to the parameters of step" in done.stdout) == (policy == "rollback")
    assert done.stdout.count("skipped") >= 1
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["valid_loss"] < 5.0  # of ln 269 = 5.6: it has learned, and is finite


def test_a_directory_among_the_texts_is_refused_before_anything_is_written_there(tmp_path):
    text = write_text(tmp_path / "text.txt")
    one_line(run(tmp_path, tmp_path / "run"), 1, f"is in {tmp_path}, of which data.train reads")
    assert tree(tmp_path) == [text.name]


def tree(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_a_run_whose_log_lies_on_a_full_disk_goes_on_to_its_end(text, tmp_path):
    workdir = tmp_path / "run"
    words = command(text, workdir, steps=10)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            words, cwd=ROOT, env=environment(), stdout=full, stderr=full, timeout=300
        )
    assert done.returncode == 0 and (workdir / "report.html").exists()
    assert max(losses(workdir)) == 10


@pytest.mark.slow
def test_a_disk_that_is_full_keeps_older_steps_and_stops_after_three_failures(text, tmp_path):
    workdir = tmp_path / "run"
    assert run(text, workdir, steps=10).returncode == 0  # and everything is in the caches

    def no_large_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    done = subprocess.run(
        command(text, workdir, steps=100), cwd=ROOT, env=environment(), preexec_fn=no_large_files,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    one_line(done, 2, "3 saves failed in a row", "free some space")
    assert done.stderr.count("was not saved: File too large; older checkpoints are intact") >= 3
    assert tree(workdir / "checkpoints") == ["10"]  # nothing half written beside it
    again = run(text, workdir, steps=20)
    assert again.returncode == 0 and "resumed from step 10" in again.stdout, again.stderr


def killed_while_saving(text, workdir, attempt):
    """Starts a run that saves at every step, and kills it when it writes its `attempt`-th."""
    process = start(text, workdir, **{"loop.save_every": 1})
    seen, limit = set(), time.monotonic() + 120
    while process.poll() is None and time.monotonic() < limit and len(seen) <= attempt:
        seen |= {path.name for path in (workdir / "checkpoints").glob("*tmp*")}
    process.kill()
    process.communicate()
    return any("tmp" in name for name in tree(workdir / "checkpoints"))


@pytest.mark.slow
def test_a_kill_during_a_save_leaves_the_step_before_and_no_rubbish(text, tmp_path):
    straight = tmp_path / "straight" / "run"
    assert run(text, straight).returncode == 0
    workdir = tmp_path / "killed" / "run"
    left = [killed_while_saving(text, workdir, attempt) for attempt in (1, 4, 3)]
    assert any(left)  # at least one was in the middle of it
    again = run(text, workdir, **{"loop.save_every": 1})
    assert again.returncode == 0 and "resumed from step" in again.stdout, again.stderr
    assert not any("tmp" in name for name in tree(workdir / "checkpoints"))
    assert losses(workdir) == losses(straight)
    assert final_digests(workdir) == final_digests(straight)


@pytest.mark.slow
def test_a_trace_and_the_norms_of_every_layer_are_written_on_request(text, tmp_path):
    workdir = tmp_path / "run"
    done = run(
        text, workdir, "--profile_steps=3:5", steps=8,
        **{"loop.log_norms": True, "loop.save_every": 100},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    traces = list((workdir / "profile").rglob("*.xplane.pb"))
    assert traces and traces[0].stat().st_size > 1000
    row = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-2])
    assert len(row["norm/stack/blocks/mlp/hidden/kernel"]) == 2  # gradients, by layer
    assert len(row["norm/stream"]) == 3 and min(row["norm/stream"]) > 0  # activations
