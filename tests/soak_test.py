"""The long forms of the fault tests, and fuzzing in both forms: `make soak`, `make slow`."""

import random
import time

import pytest

from tests.fuzz import fuzz, readers
from tests.launched import await_step, final_digests, losses, run, start, write_text

SHORT, LONG = 5, 100  # seconds for each of six kinds: half a minute, ten minutes
KINDS = ("tokens", "config", "weights", "checkpoints", "records", "tokenizer")
REFUSED = {"tokens": 0.3, "weights": 0.2, "tokenizer": 0.5, "config": 0.3, "records": 0.1}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return readers(tmp_path_factory.mktemp("readers"))


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(SHORT, marks=pytest.mark.slow, id="short"),
        pytest.param(LONG, marks=pytest.mark.soak, id="long"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_happens_to_a_file_its_reader_gives_the_old_content_or_one_error(
    written, tmp_path, kind, seconds
):
    seed = 0 if seconds == SHORT else time.time_ns() % 10**9
    refused, tried = fuzz(written[kind], tmp_path, seconds, seed)
    assert tried >= 2 * seconds
    assert refused >= REFUSED.get(kind, 0.0) * tried  # the mutations do reach the reader


SPARSE = {"loop.evaluate_every": 10_000, "loop.save_every": 5}


def kill_once(text, workdir, chosen, steps):
    """Starts the run, kills it at a random step or in the middle of a save. False if it ended."""
    process = start(text, workdir, steps=steps, **SPARSE)
    before = max(losses(workdir), default=0) if (workdir / "metrics.jsonl").exists() else 0
    if chosen.random() < 0.5:
        await_step(workdir, before + chosen.randrange(1, 20), [process])
    else:
        folder, limit, saves = workdir / "checkpoints", time.monotonic() + 120, set()
        wanted = chosen.randrange(1, 4)
        while process.poll() is None and time.monotonic() < limit and len(saves) < wanted:
            saves |= {path.name for path in folder.glob("*tmp*")}
            time.sleep(0.001)
    process.kill()
    process.communicate()
    return process.returncode < 0


@pytest.mark.soak
def test_a_run_killed_fifty_times_ends_with_the_parameters_of_one_that_was_not(text, tmp_path):
    chosen, steps = random.Random(0), 1500
    straight, workdir = tmp_path / "straight" / "run", tmp_path / "killed" / "run"
    assert run(text, straight, steps=steps, **SPARSE).returncode == 0
    kills = sum(kill_once(text, workdir, chosen, steps) for _ in range(50))
    assert kills == 50
    done = run(text, workdir, steps=steps, **SPARSE)
    assert done.returncode == 0 and "resumed from step" in done.stdout, done.stderr
    assert losses(workdir) == losses(straight)
    assert final_digests(workdir, steps) == final_digests(straight, steps)
    assert not [path for path in (workdir / "checkpoints").iterdir() if "tmp" in path.name]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "text.txt")
