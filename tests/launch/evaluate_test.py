"""What launch.evaluate measures of a text without a task."""

import json
import math
import subprocess
import sys

import pytest

import lm
from tests.launched import ROOT, environment, one_line
from tests.rlhf.runs import pretrained


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return pretrained(tmp_path_factory.mktemp("runs") / "toy")


def evaluate(run, *flags):
    words = [sys.executable, "-m", "launch.evaluate", f"--workdir={run}", *flags]
    return subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)


def test_a_file_without_a_task_is_text_that_a_decoder_is_measured_on(run, tmp_path):
    text = "Tea is brewed from leaves. " * 20 + "Ärgerlich."
    (tmp_path / "mine.txt").write_text(text)
    done = evaluate(run, f"--file={tmp_path}/mine.txt")
    assert done.returncode == 0, done.stderr
    found = json.loads((run / "evaluations" / "text-file-mine.json").read_text())
    scorer = lm.load(run).scorer()
    ids = scorer.tokenizer.encode(text)
    assert len(ids) > 2 * scorer.length
    nats = scorer.rolling(ids).sum()
    assert found["loss"] == pytest.approx(nats / len(ids), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(nats / len(ids)), rel=1e-4)
    bits = nats / math.log(2) / len(text.encode())
    assert found["bits_per_byte"] == pytest.approx(bits, rel=1e-5)
    sizes = {"texts": 1, "tokens": len(ids), "bytes": len(text.encode())}
    assert found.items() >= (sizes | {"step": 1, "file": f"{tmp_path}/mine.txt"}).items()
    assert f"loss {found['loss']:.4f}\n" in done.stdout
    assert set(found["standard_errors"].values()) == {None}  # of one text


def test_the_figures_of_several_texts_have_their_standard_errors(run, tmp_path):
    for n in range(3):
        (tmp_path / f"{n}.txt").write_text(f"Tea {n} is brewed from leaves. " * (n + 2))
    done = evaluate(run, f"--file={tmp_path}")
    assert done.returncode == 0, done.stderr
    (path,) = (run / "evaluations").glob(f"text-file-{tmp_path.name}*.json")
    found = json.loads(path.read_text())
    sure = found["standard_errors"]
    assert list(sure) == ["loss", "perplexity", "bits_per_byte"] and found["texts"] == 3
    assert sure["perplexity"] == pytest.approx(found["perplexity"] * sure["loss"])
    assert f"loss {found['loss']:.4f} ± {sure['loss']:.4f}\n" in done.stdout


def test_a_text_leaves_what_another_of_its_name_and_another_step_gave(run, tmp_path):
    folder = run / "evaluations"
    files = [tmp_path / name / "notes.txt" for name in "ab"]
    for file in files:
        file.parent.mkdir()
        file.write_text(f"This is {file.parent.name}. " * 20)
        assert evaluate(run, f"--file={file}").returncode == 0
    first = json.loads((folder / "text-file-notes.json").read_text())
    (path,) = folder.glob("text-file-notes-*.json")
    assert [first["file"], json.loads(path.read_text())["file"]] == [str(file) for file in files]
    done = evaluate(run, f"--file={files[0]}", "--step=1")
    assert done.stdout.endswith(f"figures in {folder}/text-file-notes-step1.json\n"), done.stderr
    assert len(list(folder.glob("text-file-notes*"))) == 3


def test_a_text_that_is_not_utf_8_is_measured_with_the_flag_that_its_error_names(run, tmp_path):
    (tmp_path / "latin.txt").write_bytes("Ärgerlich. ".encode("latin-1") * 20)
    stopped = evaluate(run, f"--file={tmp_path}/latin.txt")
    one_line(stopped, 2, "convert it, or replace what is not with --errors=replace")
    done = evaluate(run, f"--file={tmp_path}/latin.txt", "--errors=replace")
    assert done.returncode == 0 and "bits_per_byte" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        ((), 1, "--task is empty, and"),
        (
            ("--file=mine.txt", "--batch=4"),
            1,
            "--batch is of a task, and without one --file is text",
        ),
        (("--file=none.txt",), 2, "no text in 'none.txt'"),
        (("--task=cola", "--errors=replace"), 1, "--errors=replace is of a text, and a task's"),
    ],
)
def test_what_a_text_cannot_be_measured_with_is_one_line(run, flags, code, said):
    one_line(evaluate(run, *flags), code, said)
