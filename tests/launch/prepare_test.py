import json
import subprocess
import sys

from tests.launched import ROOT, one_line


def python(*words):
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_folder_is_prepared_and_told_by_step(tmp_path):
    texts = ["One page of some words.", "one page, of some words", "Another page with its words."]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "raw.jsonl").write_text(lines)
    flags = [f"--input={tmp_path}/raw.jsonl", f"--output={tmp_path}/out"]
    done = python("-m", "launch.prepare", *flags)
    assert done.returncode == 0, done.stderr
    assert "copies:   1 documents (33.3%, 31.1% of the characters) removed" in done.stdout
    assert json.loads((tmp_path / "out" / "report.json").read_text())["kept"]["documents"] == 2
    one_line(python("-m", "launch.prepare", *flags), 2, "exists")


def test_preparing_text_needs_no_jax():
    done = python("-c", "import sys, lm.data.cleaning; print('jax' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr
