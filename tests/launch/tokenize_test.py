import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lm.core.config import assignment
from tests.launched import one_line

ROOT = Path(__file__).parents[2]


def tokenize(*flags, **options):
    words = [sys.executable, "-m", "launch.tokenize", *map(str, flags)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, **options)


def test_a_folder_is_made_told_and_checked_and_a_damaged_block_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("some text to learn from\n" * 50)
    out = tmp_path / "out"
    made = tokenize(f"--text={tmp_path}/a.txt", f"--out={out}")
    assert made.returncode == 0, made.stderr
    for word in ("documents", "bytes", "tokens", "bytes a token", " s"):
        assert word in made.stdout
    assert made.stdout.endswith(" --set tokenizer.kind=bytes --set model.vocab=269\n")
    assert sorted(path.name for path in out.iterdir()) == ["tokenizer", "train", "valid"]
    assert tokenize(f"--verify={out}").returncode == 0

    path = out / "valid" / "tokens.bin"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    found = tokenize(f"--verify={out}")
    assert found.returncode == 2 and "block 0" in found.stderr and str(path) in found.stderr


def test_what_a_run_is_given_to_use_can_be_pasted_into_a_shell(tmp_path):
    pytest.importorskip("sentencepiece")
    (tmp_path / "a.txt").write_text("some text to learn from\n" * 50)
    out = tmp_path / "a folder's"
    made = tokenize(
        f"--text={tmp_path}/a.txt", f"--out={out}", "--kind=sentencepiece", "--vocab=290"
    )
    assert made.returncode == 0, made.stderr
    told = made.stdout.splitlines()[-1]
    sets = dict(map(assignment, shlex.split(told.removeprefix("use: "))[1::2]))
    assert sets["data.train"] == str(out) and sets["tokenizer.path"] == str(out / "tokenizer")
    assert sets["tokenizer.kind"] == "sentencepiece" and sets["model.vocab"] == "290"


def test_text_that_is_not_utf8_stops_it_and_leaves_nothing(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"some text \xff" * 20)
    out = tmp_path / "out"
    done = tokenize(f"--text={tmp_path}/a.txt", f"--out={out}")
    assert done.returncode == 2 and "not UTF-8 at byte 10" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert tokenize(f"--text={tmp_path}/a.txt", f"--out={out}", "--errors=replace").returncode == 0


def test_a_folder_to_make_among_the_texts_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("some text to learn from\n" * 50)
    done = tokenize(f"--text={tmp_path}", f"--out={tmp_path}/out", "--kind=wordpiece")
    one_line(done, 2, f"{tmp_path}/out is in {tmp_path}", "choose another folder")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_home_that_is_nobody_s_is_a_folder_of_that_name(tmp_path):
    (tmp_path / "a.txt").write_text("some text to learn from\n" * 50)
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [f"--text={tmp_path}/a.txt", "--out=~nobody-of-this-name/out", "--kind=bytes"]
    done = subprocess.run(
        [sys.executable, "-m", "launch.tokenize", *words], cwd=tmp_path, env=path,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "~nobody-of-this-name" / "out").iterdir())


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("some text to learn from\n" * 50)
    for size in (100, 1500):  # bytes of a file: not the tokenizer's, and those of the tokens not

        def limit(size=size):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        done = tokenize(
            f"--text={tmp_path}/a.txt", f"--out={tmp_path}/out", preexec_fn=limit,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},  # it would be cut off too
        )  # fmt: skip
        one_line(done, 2, f"cannot write {tmp_path}/out", "make room there")
        assert f"{tmp_path}/out." not in done.stderr  # where it is made until it is whole
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--kind=wordpiece", "--vocab=-3"], "--kind='wordpiece' with --vocab=-3: train at least"),
        (["--kind=sentencepiece", "--vocab=3"], "error: --vocab=3 is too small for"),
        (["--kind=gpt2"], "--kind='gpt2' with --path=None: set the path"),
    ],
)
def test_a_wrong_flag_of_the_tokenizer_is_told_by_its_name_here(tmp_path, flags, said):
    pytest.importorskip("sentencepiece")
    (tmp_path / "a.txt").write_text("some text to learn from\n" * 50)
    done = tokenize(f"--text={tmp_path}/a.txt", f"--out={tmp_path}/out", *flags)
    one_line(done, 1, said)
    assert "tokenizer." not in done.stderr


def test_help_and_missing_flags_leave_at_once():
    assert tokenize("--help").returncode == 0
    done = tokenize("--text=x")
    assert done.returncode == 1 and "--out" in done.stderr
