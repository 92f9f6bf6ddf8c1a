"""Recipes of pods: what they would run, to the letter, and nothing that a shell could misread."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from launch.recipes import (
    INSTALL,
    Job,
    manifest,
    sbatch_script,
    slurm,
    tpu_vm,
)
from lm.core import errors
from lm.core.errors import ConfigError
from tests.launched import ROOT, environment

TRAIN = ("--experiment=gpt2:tiny", "--workdir=gs://bucket/run")
WORKER = (
    "sh launch/again.sh .venv/bin/python -m launch.train --experiment=gpt2:tiny "
    "--workdir=gs://bucket/run"
)
SSH = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "mine", "--zone=us-east5-a"]
NASTY = "--set=data.train=a b'c\"d$(touch hacked);`touch hacked`\\n*"


def test_a_slice_gets_the_code_the_locked_packages_and_the_command():
    job = Job(name="mine", train=TRAIN, zone="us-east5-a")
    refuse, archive, copy, unpack, install, begin = tpu_vm(job, "start")
    assert archive == ["git", "archive", "--format=tar.gz", "--output=lm-mine.tar.gz", "HEAD"]
    assert copy == [
        "gcloud", "compute", "tpus", "tpu-vm", "scp", "lm-mine.tar.gz", "mine:",
        "--zone=us-east5-a", "--worker=all",
    ]  # fmt: skip
    every = [*SSH, "--worker=all"]
    assert refuse == [
        *every,
        "--command=! kill -0 $(cat lm-mine/run.pid 2>/dev/null) 2>/dev/null || { echo 'lm-mine is "
        "running: --action=stop ends it (if it is not, remove lm-mine/run.pid)' >&2; exit 1; }",
    ]
    assert unpack == [
        *every,
        "--command=mkdir -p lm-mine && cd lm-mine && rm -rf lm experiments launch requirements "
        "pyproject.toml setup.py && tar -xzf ../lm-mine.tar.gz",
    ]
    assert install == [*every, f"--command=cd lm-mine && {INSTALL}"]
    assert begin == [
        *every,
        f"--command=cd lm-mine && {{ nohup {WORKER} > run.log 2>&1 < /dev/null & "
        "echo $! > run.pid; }",
    ]
    assert tpu_vm(job, "logs") == [[*SSH, "--worker=0", "--command=tail -n 100 -F lm-mine/run.log"]]
    assert tpu_vm(job, "stop") == [[*every, "--command=kill -TERM $(cat lm-mine/run.pid)"]]


def test_a_worker_that_runs_is_left_alone_and_one_that_does_not_gets_the_commit_alone(tmp_path):
    refuse, archive, copy, unpack, *_ = tpu_vm(Job(name="mine", train=TRAIN), "start")

    def worker(command):
        script = command[-1].removeprefix("--command=")
        return subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)

    first = worker(refuse)  # when there is no folder
    assert (first.returncode, first.stderr) == (0, "")
    folder = tmp_path / "lm-mine"
    for name in ("lm/gone.py", "runs/mine/config.gin"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("of before")
    (folder / "run.pid").write_text(f"{os.getpid()}\n")
    done = worker(refuse)
    assert done.returncode == 1 and "lm-mine is running: --action=stop" in done.stderr
    (folder / "run.pid").write_text("\n")
    assert worker(refuse).returncode == 0
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "new.py").write_text("")
    subprocess.run(["tar", "-czf", "lm-mine.tar.gz", "lm"], cwd=tmp_path, check=True)
    assert worker(unpack).returncode == 0
    assert [path.name for path in (folder / "lm").iterdir()] == ["new.py"]
    assert (folder / "runs" / "mine" / "config.gin").exists() and (tmp_path / "lm").exists()


def test_slurm_gets_a_task_a_node_and_a_warning_before_the_time_is_up():
    job = Job(name="ladder", train=TRAIN, hosts=4)
    lines = sbatch_script(job).splitlines()
    assert lines[1:8] == [
        "#SBATCH --job-name=ladder",
        "#SBATCH --nodes=4",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --output=ladder.log",
        "#SBATCH --open-mode=append",
        "#SBATCH --signal=B:USR1@300",
        "#SBATCH --requeue",
    ]
    assert f"srun --kill-on-bad-exit=1 {WORKER} &" in lines
    assert slurm(job, "start") == [["sbatch", "ladder.sbatch"]]
    assert slurm(job, "stop") == [["scancel", "--signal=TERM", "--name=ladder"]]


SLURM = {  # a task that takes a while to save, and what it is told by
    "srun": 'sh -c \'trap "sleep 0.2; exit $CODE" TERM; echo $$ > task; '
    "while :; do sleep 0.02; done'",
    "scancel": 'echo scancel "$@" >> told; kill -TERM $(cat task)',
    "scontrol": 'echo scontrol "$@" >> told',
}


@pytest.mark.parametrize(
    ("code", "expires", "told"),
    [
        (75, True, "scancel --signal=TERM 7\nscontrol requeue 7\n"),
        (2, True, "scancel --signal=TERM 7\n"),
        (75, False, "scancel --signal=TERM --name=mine\n"),
    ],
)
def test_a_slurm_job_whose_time_is_up_saves_and_is_queued_again_and_a_stopped_one_is_not(
    code, expires, told, tmp_path
):
    job = Job(name="mine", train=TRAIN)
    for name, text in SLURM.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "mine.sbatch").write_text(sbatch_script(job))
    path = f"{tmp_path}:/usr/bin:/bin"
    process = subprocess.Popen(
        ["sh", "mine.sbatch"], cwd=tmp_path, start_new_session=True,
        env={"PATH": path, "SLURM_JOB_ID": "7", "CODE": str(code)},
    )  # fmt: skip
    try:
        limit = time.monotonic() + 30
        while not (task := tmp_path / "task").exists() or not task.read_text():
            assert time.monotonic() < limit
            time.sleep(0.02)
        if expires:
            process.send_signal(signal.SIGUSR1)
        else:
            (stop,) = slurm(job, "stop")
            subprocess.run([tmp_path / stop[0], *stop[1:]], cwd=tmp_path, check=True)
        assert process.wait(30) == code
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert (tmp_path / "told").read_text() == told


def test_a_jobset_has_a_pod_a_host():
    job = Job(name="big", train=TRAIN, hosts=16, topology="8x8", source="https://git.example/lm")
    spec = json.loads(manifest(job))["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert spec["parallelism"] == spec["completions"] == 16
    pod = spec["template"]["spec"]
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "8x8"
    (container,) = pod["containers"]
    assert container["command"][:2] == ["sh", "-c"]
    assert container["command"][2].endswith(f"exec {WORKER}")
    with pytest.raises(ConfigError, match="--source is empty"):
        manifest(Job(name="big", train=TRAIN))


def test_a_jobset_is_not_started_again_after_an_error_that_would_come_again():
    spec = json.loads(manifest(Job(name="one", train=TRAIN, source="x", commit="abc")))["spec"]
    work = spec["replicatedJobs"][0]["template"]["spec"]
    (rule,), (container,) = (
        work["podFailurePolicy"]["rules"],
        work["template"]["spec"]["containers"],
    )
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["operator"] == "In"
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert spec["failurePolicy"]["rules"] == [
        {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    ]
    permanent = rule["onExitCodes"]["values"]
    found = {one.exit_code for one in vars(errors).values() if isinstance(one, type)}
    assert permanent == sorted(found - {70, 134})  # which launch/again.sh starts again
    # what fails before the command itself is not one of them
    script = container["command"][2].replace("git init -q lm", "exit_with_1")
    done = subprocess.run(["sh", "-c", script], capture_output=True)
    assert done.returncode == 75 and "git fetch -q --depth=1 x abc" in script


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"hosts": 2}, "--topology=2x2 has 4 chips, and --hosts=2 of 4 have 8: set one of them"),
        ({"hosts": 2, "topology": "2x2x4"}, "--topology=2x2x4 has 16 chips, and --hosts=2"),
        ({"topology": "v5e:2x2"}, "--topology=v5e:2x2: write AxB or AxBxC, such as 2x4"),
    ],
)
def test_a_topology_that_is_not_of_these_hosts_is_refused(changes, problem):
    with pytest.raises(ConfigError, match=problem):
        manifest(Job(**{"name": "big", "train": TRAIN, "source": "x"} | changes))


def test_no_value_of_a_flag_reaches_a_shell(tmp_path):
    """The worker's command, through as many shells as it passes, gives back the same words."""
    job = Job(name="mine", train=(NASTY,), source="https://git.example/lm'; touch hacked")
    shown = f"{shlex.quote(sys.executable)} -c 'import sys; print(sys.argv[-1])'"
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch" / "again.sh").write_text((ROOT / "launch" / "again.sh").read_text())
    script = job.command(python="PYTHON").replace("PYTHON -m launch.train", shown)
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == NASTY + "\n" and not (tmp_path / "hacked").exists()
    clone = json.loads(manifest(job))["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    script = clone["spec"]["containers"][0]["command"][2]
    assert "https://git.example/lm'; touch hacked" in shlex.split(script)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "My_Slice"}, "small letters"),
        ({"name": "a; rm -rf /"}, "small letters"),
        ({"name": "x", "zone": "us east"}, "--zone=us east"),
        ({"name": "x", "project": "$(id)"}, "--project"),
        ({"name": "x", "hosts": 0}, "at least one"),
    ],
)
def test_a_name_that_cannot_be_is_refused(changes, problem):
    with pytest.raises(ConfigError, match=problem):
        Job(**{"train": TRAIN} | changes)


def again(script, tmp_path, **options):
    """Runs a worker script under launch/again.sh, and how often it started."""
    text = f"echo >> started\nn=$(wc -l < started)\n{script}"
    return subprocess.run(
        ["sh", ROOT / "launch" / "again.sh", "sh", "-c", text], cwd=tmp_path,
        env={"AGAIN_SECONDS": "0", "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        timeout=60, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("script", "code", "starts"),
    [
        ("exit 0", 0, 1),
        ("exit 1", 1, 1),
        ("exit 3", 3, 1),
        ("[ $n -gt 5 ] && exit 0; exit 75", 0, 6),
        ("[ $n -gt 5 ] && exit 2; exit 134", 2, 6),
        ("exit 70", 70, 4),
        ("exit 137", 137, 4),
    ],
)
def test_a_command_runs_again_as_its_exit_code_says(script, code, starts, tmp_path):
    done = again(script, tmp_path)
    assert done.returncode == code
    assert len((tmp_path / "started").read_text().splitlines()) == starts


@pytest.mark.parametrize("code", [134, 75])
def test_what_an_abort_means_is_told_in_one_line_before_the_next_start_and_of_no_other_code(
    code, tmp_path
):
    done = again(f"[ $n -gt 1 ] && exit 0; exit {code}", tmp_path)
    *meaning, last = done.stderr.splitlines()
    assert last == f"again: exit code {code}, starting the command again"
    assert len(meaning) == (code == 134) and all(
        "another process was lost" in line for line in meaning
    )


def test_a_stop_reaches_the_command_which_is_not_started_again(tmp_path):
    script = (
        "trap 'echo saved > state; exit 75' TERM; kill -TERM $PPID; while :; do sleep 0.05; done"
    )
    done = again(script, tmp_path)
    assert done.returncode == 75 and (tmp_path / "state").read_text() == "saved\n"
    assert len((tmp_path / "started").read_text().splitlines()) == 1


def test_a_stop_in_the_pause_between_two_starts_ends_it_at_once(tmp_path):
    began = time.monotonic()
    process = subprocess.Popen(
        ["sh", ROOT / "launch" / "again.sh", "sh", "-c", "echo >> started; exit 75"], cwd=tmp_path,
        env={"AGAIN_SECONDS": "10", "PATH": "/usr/bin:/bin"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert "starting the command again" in process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == 75 and time.monotonic() - began < 5
    assert (tmp_path / "started").read_text() == "\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_shell_and_command_at_once_and_the_command_still_saves(tmp_path, number):
    """As a terminal sends Ctrl-C, and a service manager SIGTERM: to the whole group."""
    code = (
        "import pathlib, time\nfrom lm.train.process import Stop\n"
        "with Stop() as stop:\n"
        "    pathlib.Path('started').touch()\n"
        "    while not stop.requested(1): time.sleep(0.01)\n"
        "    time.sleep(0.5)\n"  # a save
        "    pathlib.Path('saved').touch()\n"
        "    raise SystemExit(stop.exit_code)\n"
    )
    process = subprocess.Popen(
        ["sh", ROOT / "launch" / "again.sh", sys.executable, "-c", code], cwd=tmp_path,
        env=environment() | {"PYTHONPATH": str(ROOT)}, start_new_session=True,
    )  # fmt: skip
    limit = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < limit:
        time.sleep(0.02)
    os.killpg(process.pid, number)
    assert process.wait(30) in (75, 130)  # the one or the other signal may come first
    assert (tmp_path / "saved").exists()
