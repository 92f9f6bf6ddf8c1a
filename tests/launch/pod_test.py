"""The commands of launch.pod, run against stand-ins for what a cloud has."""

import json
import os
import subprocess
import sys
import time

import pytest

from experiments import gpt2
from lm.core.config import dump
from tests.launched import ROOT, TINY, await_step, clone, environment, free_port, write_text

GCLOUD = """\
#!{python}
import json, os, shutil, subprocess, sys
here = os.environ["STAND_IN"]
with open(os.path.join(here, "calls.jsonl"), "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
verb, rest = sys.argv[4], sys.argv[5:]
flags = dict(word[2:].split("=", 1) for word in rest if word.startswith("--"))
homes = [os.path.join(here, f"worker{{i}}") for i in range(2)]
for i, home in enumerate(homes):
    if flags["worker"] not in ("all", str(i)):
        continue
    if verb == "scp":
        shutil.copy(rest[0], home)
        continue
    one = os.environ | {{
        "JAX_COORDINATOR_ADDRESS": os.environ["STAND_IN_ADDRESS"], "JAX_PROCESS_COUNT": "2",
        "JAX_PROCESS_ID": str(i),
    }}
    code = subprocess.run(["bash", "-c", flags["command"]], cwd=home, env=one).returncode
    if code:
        sys.exit(code)
"""
PYTHON3 = """\
#!/bin/sh
# python3 -m venv .venv: an environment whose pip installs nothing
mkdir -p .venv/bin
ln -sf {python} .venv/bin/python3
printf '#!/bin/sh\\nexec {python} "$@"\\n' > .venv/bin/python
printf '#!/bin/sh\\nexit 0\\n' > .venv/bin/pip
chmod +x .venv/bin/python .venv/bin/pip
"""


@pytest.fixture
def cloud(tmp_path):
    """A folder of stand-ins, and the environment in which they are found first."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("gcloud", GCLOUD), ("python3", PYTHON3)):
        (programs / name).write_text(text.format(python=sys.executable))
        (programs / name).chmod(0o755)
    for i in range(2):
        (tmp_path / f"worker{i}").mkdir()
    return environment(devices=4) | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "STAND_IN": str(tmp_path),
        "STAND_IN_ADDRESS": f"localhost:{free_port()}", "AGAIN_SECONDS": "0",
        "CLONE": str(clone(tmp_path / "clone")),
    }  # fmt: skip


def pod(cloud, *flags, **options):
    words = [sys.executable, "-P", "-m", "launch.pod", "--on=tpu-vm", "--name=mine", *flags]
    return subprocess.run(
        words, env=cloud | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=200,
        **{"cwd": cloud["CLONE"]} | options,
    )  # fmt: skip


def test_a_dry_run_shows_the_commands_and_runs_none(cloud, tmp_path):
    more = "--train_flag=--step_timeout=600"
    done = pod(cloud, "--experiment=gpt2:tiny", "--workdir=/shared/run", more, "--dry_run")
    assert done.returncode == 0, done.stderr
    assert more.removeprefix("--train_flag=") in done.stdout
    assert done.stdout.count("$ ") >= 5 and "launch/again.sh" in done.stdout
    assert not (tmp_path / "calls.jsonl").exists()


def test_a_misspelt_binding_fails_here_and_not_on_every_worker(cloud, tmp_path):
    done = pod(cloud, "--experiment=gpt2:tiny", "--workdir=/shared/run", "--set=batchs=3")
    assert done.returncode == 1 and "batch" in done.stderr
    assert not (tmp_path / "calls.jsonl").exists()


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--train_flag=--step_timout=600", "--train_flag: Unknown command line flag 'step_timout'"),
        ("--train_flag=step_timeout=600", "unexpected argument 'step_timeout=600'"),
        ("--hosts=4", "--hosts=4 is for --on=gke or slurm, and tpu-vm does not read it"),
        ("--workdir=runs/mine", "--workdir=runs/mine is in a folder that each worker has"),
    ],
)
def test_a_flag_that_workers_would_refuse_or_nobody_reads_fails_here(cloud, tmp_path, flag, said):
    done = pod(cloud, "--experiment=gpt2:tiny", "--workdir=/shared/run", flag)
    assert done.returncode == 1 and said in done.stderr, done.stderr
    assert not (tmp_path / "calls.jsonl").exists()


@pytest.mark.parametrize(
    "flag", [pytest.param("--gin_file=c.gin", marks=pytest.mark.slow), "--experiment=mine.py:small"]
)
def test_a_config_that_is_not_committed_is_refused_where_workers_have_only_what_is(
    cloud, tmp_path, flag
):
    (tmp_path / "mine.py").write_text(
        "from experiments import gpt2\nfrom lm.train.pretrain import Pretrain\n"
        "def small() -> Pretrain:\n    return gpt2.small()\n"
    )
    (tmp_path / "c.gin").write_text(dump(gpt2.tiny()))
    words = [flag, "--workdir=/shared/run", "--dry_run"]
    done = pod(cloud, *words, cwd=tmp_path)
    assert done.returncode == 1, done.stdout
    assert f"{flag.removesuffix(':small')}: workers have what is committed here" in done.stderr


def test_code_that_is_not_committed_is_refused_where_workers_have_only_what_is(cloud, tmp_path):
    (tmp_path / "clone" / "experiments" / "mine.py").write_text("")
    done = pod(cloud, "--experiment=gpt2:tiny", "--workdir=/shared/run", "--dry_run")
    assert done.returncode == 1 and "experiments/mine.py: workers have what is" in done.stderr


@pytest.mark.slow
def test_two_workers_train_one_run_and_stop_together(cloud, tmp_path):
    text, workdir = write_text(tmp_path / "text.txt"), tmp_path / "shared" / "run"
    sets = {"data.train": text, "data.cache": tmp_path / "cache"} | TINY
    sets |= {"batch": 8, "steps": 100_000}
    bindings = [f"--set={name}={value}" for name, value in sets.items()]
    started = pod(
        cloud, "--experiment=gpt2:shakespeare_char_cpu", f"--workdir={workdir}", *bindings
    )
    assert started.returncode == 0, started.stdout + started.stderr
    await_step(workdir, 10, [])
    assert "running" in pod(cloud, "--action=status").stdout
    assert pod(cloud, "--action=stop").returncode == 0
    limit = time.monotonic() + 60
    while "running" in pod(cloud, "--action=status").stdout and time.monotonic() < limit:
        time.sleep(0.5)
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    saved = [int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()]
    assert len(rows) >= 10 and max(saved) == rows[-1]["step"]  # saved when told to stop
    logs = [(tmp_path / f"worker{i}" / "lm-mine" / "run.log").read_text() for i in range(2)]
    assert "8 x" in logs[0] and all("Traceback" not in log for log in logs)
