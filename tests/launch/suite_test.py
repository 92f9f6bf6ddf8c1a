"""A suite as a user launches it, killed and launched again."""

import json
import random
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from launch import suite
from lm.evals.suites import calibration
from tests.launched import ROOT, environment, one_line, run, write_text

pytestmark = pytest.mark.slow
ITEMS = 400


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run, and a folder of task data that its text has an item of."""
    folder = tmp_path_factory.mktemp("suite")
    chosen = random.Random(0)
    rows = []
    for n in range(ITEMS):
        words = " ".join(
            chosen.choice(["the", "cat", "sat", "ran", "mat"]) for _ in range(3 + n % 9)
        )
        rows.append({"query": f"{n} {words}, so", "choices": [f"it {n}.", "they."], "gold": n % 2})
    known = "a cat that sat on the mat and then ran to the other mat"
    rows[7]["query"] = known
    (folder / "copa").mkdir()
    (folder / "copa" / "copa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = write_text(folder / "text.txt")
    text.write_text(f"{text.read_text()} {known} it 7. " + text.read_text())
    done = run(text, folder / "run", steps=2, **{"model.length": 64})
    assert done.returncode == 0, done.stderr
    return folder


def command(folder, *flags):
    words = [f"--workdir={folder}/run", "--suite=gpt3", f"--root={folder}", "--tasks=copa", *flags]
    return [sys.executable, "-m", "launch.evaluate", *words]


def launch(folder, *flags):
    return subprocess.run(
        command(folder, *flags), cwd=ROOT, env=environment(), capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


def test_a_killed_evaluation_goes_on_and_its_table_is_that_of_one_that_was_not(trained):
    out = trained / "run" / "evaluations"
    ledger, table = out / "gpt3-step2.jsonl", out / "gpt3-step2.json"
    process = subprocess.Popen(
        command(trained, "--shots=0,few"), cwd=ROOT, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    limit = time.monotonic() + 200
    while not (ledger.exists() and ledger.read_bytes().count(b"\n") >= 64):
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = ledger.read_bytes()
    assert before.count(b"\n") < 2 * ITEMS and not table.exists()
    again = launch(trained, "--shots=0,few")
    assert again.returncode == 0, again.stderr
    after = ledger.read_bytes()
    assert after.startswith(before[: before.rfind(b"\n") + 1])  # nothing is asked twice
    assert after.count(b"\n") == 2 * ITEMS
    told = json.loads(table.read_text())

    ledger.unlink()
    whole = launch(trained, "--shots=0,few")
    assert json.loads(table.read_text()) == told
    assert [line.split()[0] for line in whole.stdout.splitlines() if "GPT-3 Small" in line][:2] == [
        "copa", "copa",
    ]  # fmt: skip
    zero, few = told
    assert (zero["items"], zero["used"]) == (ITEMS, 0)
    assert few["shots"] == 32 and 0 < few["used"] < 5 and few["shortened"] == ITEMS
    assert 0 < zero["overlap"] < 0.01  # the one that stands in the training text
    assert "not comparable" in whole.stdout and "overlap" in whole.stdout


def test_what_cannot_be_asked_is_one_line(trained):
    one_line(launch(trained, "--shots=some"), 1, "shots 'some' must be a number or few")
    one_line(launch(trained, "--tasks=piqa"), 2, "no file of piqa in")
    broken = trained / "wic"
    broken.mkdir()
    (broken / "val.jsonl").write_text('{"word": "a"}\n')
    one_line(launch(trained, "--tasks=wic"), 2, "val.jsonl:1: not a row of wic")


def test_calibration_puts_two_runs_into_one_figure(trained):
    rows = [{"query": f"{n}?", "choices": ["a", "b"], "gold": n % 2} for n in range(20)]
    (trained / "arc_easy").mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (trained / "arc_easy" / "arc_easy.jsonl").write_text(text)
    shutil.copytree(trained / "run", trained / "before")
    words = ["--suite=calibration", "--tasks=arc_easy_letters", f"--against={trained}/before"]
    done = launch(trained, *words)
    assert done.returncode == 0, done.stderr
    assert "on 20 questions that both were asked: accuracy +0.0000 ± 0.0000" in done.stdout
    figure = (trained / "run" / "evaluations" / "calibration.svg").read_text()
    assert f"{trained}/before: ECE" in figure and f"{trained}/run: ECE" in figure
    other = trained / "before" / "evaluations"
    assert (other / "calibration-step2.json").exists()
    (other / "calibration-step2.svg").write_text("its own")
    table = json.loads((other / "calibration-step2.json").read_text())
    assert launch(trained, *words, "--limit=10").returncode == 0
    assert (other / "calibration-step2.svg").read_text() == "its own"
    assert json.loads((other / "calibration-step2.json").read_text())[:-1] == table
    one_line(launch(trained, "--against=x"), 1, "--against=x is for --suite=calibration")


def test_two_checkpoints_of_one_run_are_two_curves(monkeypatch, tmp_path):
    asked, drawn = [], {}

    def ask(_, path, root, step):
        asked.append(step)
        return {"model": str(path), "step": step or 9, "tasks": {}}

    monkeypatch.setattr(suite, "SUITE", SimpleNamespace(value="calibration"))
    monkeypatch.setattr(suite, "AGAINST", SimpleNamespace(value=str(tmp_path)))
    monkeypatch.setattr(suite, "ask", ask)
    monkeypatch.setattr(calibration, "compared", lambda results, folders: "")
    monkeypatch.setattr(calibration, "draw", lambda results, out: drawn.update(results))
    suite.evaluate(tmp_path, tmp_path, 4)
    assert asked == [None, 4]
    assert list(drawn) == [f"{tmp_path}, step 9", f"{tmp_path}, step 4"]
