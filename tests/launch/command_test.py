import errno
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.experiment import functions, generations, module_of

ROOT = Path(__file__).parents[2]


SEARCH = ["--search", "--topology=v5e:2x2", "--experiment=gpt2:tiny"]


def launch(*flags, options=(), module="launch.train"):
    words = [sys.executable, *options, "-m", module, *flags]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_misspelt_flag_is_answered_before_jax_is_imported():
    done = launch("--workdri=x", options=["-X", "importtime"])
    assert done.returncode == 1
    assert "Did you mean: workdir" in done.stderr
    assert "launch.command" in done.stderr
    assert not any(line.rstrip().endswith("| jax") for line in done.stderr.splitlines())


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["workdir=x"], 1, "unexpected argument 'workdir=x'; did you mean --workdir=x?"),
        (["--experiment=gpt2:tiny", "--workdir="], 1, "--workdir is empty"),
        ([], 1, "name one of --experiment"),
        (["--experiment=gpt2:tiny", "--set", "optim.peak_lr=nan"], 1, "expected a finite float"),
        (["--experiment=gpt2:tiny", "--set", "optim.peak_lr=-1"], 1, "peak_lr must be positive"),
        (["--gin_file=absent.gin"], 1, "--gin_file=absent.gin: no such file"),
    ],
)
def test_wrong_flags_are_one_line_and_an_exit_code(flags, code, said):
    done = launch(*flags)
    assert done.returncode == code
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert said in done.stderr and done.stdout == ""


FAILING = """
from pathlib import Path
from launch.command import run
from lm.core.paths import write_whole

def fail(number):
    raise OSError(number, "as of a disk", "runs/a")

run({main}, ["test"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is a disk that is full")
def test_a_full_disk_is_one_line_that_names_the_file_and_the_exit_code_of_data(tmp_path):
    path = tmp_path / "table.md"
    path.with_name("table.md.part").symlink_to("/dev/full")
    words = [sys.executable, "-c", FAILING.format(main=f"lambda: write_whole(Path('{path}'), 'x')")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    said = f"{path}"[:100] + ": No space left on device; free some space, and run the command again"
    assert (done.returncode, done.stderr) == (2, f"error: {said}\n")


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EDQUOT, 2), (errno.EROFS, 2), (errno.EACCES, 2), (errno.EIO, 70)]
)
def test_a_disk_that_cannot_be_used_is_one_line_and_an_exit_code(number, code):
    words = [sys.executable, "-c", FAILING.format(main=f"lambda: fail({number})")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == code and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: runs/a: {os.strerror(number)}; ")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--suite=gpt3", "--task=copa"], "--task is not for --suite=gpt3: its tasks are named"),
        (["--suite=gpt2", "--part=test"], "--part is not for --suite=gpt2: leave it out"),
        (["--task=cola", "--limit=5"], "--limit is for a suite: add --suite=..., or leave it out"),
        (
            ["--suite=gpt2", "--shots=0,7"],
            "--shots=0,7 is for --suite=gpt3 or instructgpt, and gpt2",
        ),
        (["--file=x.tsv", "--part=test"], "--part=test is not for --file, all of which is answ"),
        (["--suite=gpt2", "--file=x", "--part=test"], "--part is not for --suite=gpt2: leave it"),
        (["--suite=calibration", "--overlap=false"], "--nooverlap is for --suite=gpt2 or gpt3 or "),
        (["--suite=gpt4", "--against=x"], "--against=x is for --suite=calibration, and gpt4 does"),
    ],
)
def test_flags_of_a_suite_and_of_a_task_are_not_mixed(flags, said):
    done = launch("--workdir=x", *flags, module="launch.evaluate")
    assert done.returncode == 1 and done.stderr.startswith(f"error: {said}")


@pytest.mark.parametrize("flags", [["--suite=gpt4"], ["--task=cola"]])
def test_a_folder_of_results_that_cannot_be_made_is_one_line_before_a_run_is_read(flags, tmp_path):
    (tmp_path / "evaluations").write_text("a file")
    done = launch(f"--workdir={tmp_path}", *flags, module="launch.evaluate")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"error: cannot write {tmp_path}/evaluations: File exists\n"


def test_a_repeated_flag_is_told_with_both_values():
    for flags in (["--workdir=a", "--workdir=b"], ["--workdir", "a", "--workdir", "b"]):
        done = launch(*flags)
        assert "warning: --workdir is given as 'a' and 'b'; using 'b'" in done.stderr


def test_files_of_the_users_that_cannot_be_read_are_one_line(tmp_path):
    (tmp_path / "mine.py").write_text("def small(:\n")
    (tmp_path / "mine.gin").write_bytes(b"\xff\xfe")
    for flag, said in (
        (f"--flagfile={tmp_path}/mine.gin", "--flagfile cannot be read: 'utf-8' codec can't"),
        (f"--experiment={tmp_path}/mine.py:small", "cannot be imported: SyntaxError"),
        (f"--gin_file={tmp_path}/mine.gin", "mine.gin cannot be read"),
    ):
        done = launch(flag)
        assert done.returncode == 1 and said in done.stderr
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("place", ["loop/x", "x" * 300])
def test_a_path_that_no_file_can_have_is_one_line(tmp_path, place):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "a.txt").write_text("text")
    for module, flags in (
        ("launch.tokenize", [f"--text={tmp_path}/a.txt", f"--out={tmp_path}/{place}"]),
        ("launch.serve", [f"--workdir={tmp_path}/{place}", "--port=0"]),
    ):
        done = launch(*flags, module=module)
        assert done.returncode in (1, 2) and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("error: ") and str(tmp_path) in done.stderr


@pytest.mark.parametrize(
    ("module", "flags", "said"),
    [
        ("launch.plan", ["--all", "--search"], "--all takes neither --set nor --search"),
        ("launch.plan", ["--all", "--gin_file=runs/x/config.gin"], "--all takes neither --set nor"),
        ("launch.plan", ["--all", "--experiment=instructgpt:pipeline"], "trains several models"),
        ("launch.plan", ["--all", "--experiment=bert:finetune"], "has begun: name --gin_file"),
        (
            "launch.plan",
            ["--topology=v5e:2x2", "--experiment=instructgpt:sft", "--set=init=runs/x"],
            "instructgpt:sft has no model before it has begun: name one by its size, such as "
            "'instructgpt:sft(size=\"6b\")', or --gin_file",
        ),
        (
            "launch.plan",
            ["--topology=v5e:2x2", "--experiment=gpt4:ppo"],
            "such as 'gpt4:ppo(size=\"base\")', or --gin_file",
        ),
        ("launch.plan", ["--slices=0"], "--slices=0"),
        ("launch.plan", ["--out=x.md"], "--out=x.md is for --all"),
        ("launch.plan", [*SEARCH, "--json"], "--search prints a table and no --json"),
        ("launch.plan", [*SEARCH, "--set=mesh.data=2"], "itself: leave --set mesh.data=2 out"),
        ("launch.plan", [*SEARCH, "--set=model.remat=qkv"], "leave --set model.remat=qkv out"),
        ("launch.sample", ["--workdir=x", "--seed=99999999999999999999"], "--seed"),
        ("launch.sample", ["--workdir=x", "--length_penalty=nan"], "--length_penalty must be"),
        (
            "launch.train",
            ["--experiment=gpt2:tiny", "--workdir=x", "--profile_steps=1\u00b2:2\u00b2"],
            "write FIRST:LAST",
        ),
    ],
)
def test_flags_that_cannot_be_are_refused(module, flags, said):
    done = launch(*flags, module=module)
    assert done.returncode == 1 and done.stderr.startswith("error: ")
    assert said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("does", "code", "said"),
    [
        ("for _ in range(9999): print('a line of what is printed')", 141, ""),
        ("print('less than a buffer')", 141, ""),
        ("print('less than a buffer'); return 75", 75, ""),
        ("return 0", 0, ""),
        ("print(); raise DataError('no')", 2, "error: no\n"),
    ],
)
def test_a_reader_that_goes_away_is_no_error(does, code, said):
    done = deserted("-c", run_of(does))
    assert (done.returncode, done.stderr) == (code, said)


def test_help_that_is_not_read_to_its_end_is_no_error():
    done = deserted("-m", "launch.train", "--help")
    assert (done.returncode, done.stderr) == (141, "")


def test_another_pipe_than_that_of_what_is_printed_is_an_error_of_ours():
    does = "import socket; a, b = socket.socketpair(); b.close(); a.send(b'x')"
    words = [sys.executable, "-c", run_of(does)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 70 and "BrokenPipeError" in done.stderr


def run_of(does):
    return (
        "from launch.command import run\nfrom lm.core.errors import DataError\n"
        f"def main():\n    {does}\nrun(main)"
    )


def deserted(*words):
    """A command of which nobody reads the output."""
    read, write = os.pipe()
    os.close(read)
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    try:
        return subprocess.run(
            [sys.executable, *words], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True,
            env=buffered, timeout=60,
        )  # fmt: skip
    finally:
        os.close(write)


def test_help_is_the_commands_own_text_and_flags():
    done = launch("--help")
    assert done.returncode == 0 and done.stderr == ""
    assert "python -m launch.train --experiment" in done.stdout
    for flag in ("workdir", "experiment", "[no]traceback"):
        assert done.stdout.count(f"  --{flag}:") == 1


def test_an_experiments_line_in_the_list_is_whole():
    for generation in generations():
        for name, function in functions(module_of(generation)).items():
            first, *rest = inspect.getdoc(function).split("\n")
            assert first.endswith((".", ":")) and not "".join(rest[:1]), (generation, name)


def test_the_list_has_every_experiment():
    done = launch("--list")
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.splitlines() if ":" in line.split(" ")[0]]
    assert listed == [f"{g}:{name}" for g in generations() for name in functions(module_of(g))]
