import json
import os
import random
import resource
import subprocess
import sys

from tests.launched import ROOT, one_line


def python(*words, **options):
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, **options)


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


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "raw.jsonl").write_text('{"text": "One page."}\n')
    for out in (f"{tmp_path}/raw.jsonl/out", "/proc/nope/out"):
        done = python("-m", "launch.prepare", f"--input={tmp_path}/raw.jsonl", f"--output={out}")
        one_line(done, 2, f"cannot write {out}: ", "choose another folder")


def test_a_full_disk_is_one_line_and_what_was_begun_stays(tmp_path):
    numbers = random.Random(0)
    texts = [" ".join(f"{numbers.random()}" for _ in range(400)) for _ in range(20)]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "raw.jsonl").write_text(lines)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # bytes of a file

    done = python(
        "-m", "launch.prepare", f"--input={tmp_path}/raw.jsonl", f"--output={tmp_path}/out",
        preexec_fn=limit, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    one_line(done, 2, f"cannot write {tmp_path}/out: ", "make room there")
    assert (tmp_path / "out.part" / "settings.json").is_file()


def test_preparing_text_needs_no_jax():
    done = python("-c", "import sys, lm.data.cleaning; print('jax' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr
