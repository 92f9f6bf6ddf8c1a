"""What launch.pod gives to Kubernetes and to SLURM, really run by stand-ins for both."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.launched import ROOT, TINY, await_step, clone, environment, free_port, write_text

# Both read the file that launch.pod wrote as the real ones do, and run it as two local workers.
WORKERS = """
def workers(words, homes):
    for i, home in enumerate(homes):
        os.makedirs(home, exist_ok=True)
        one = os.environ | {{
            "JAX_COORDINATOR_ADDRESS": os.environ["STAND_IN_ADDRESS"],
            "JAX_PROCESS_COUNT": str(len(homes)), "JAX_PROCESS_ID": str(i),
        }}
        log = open(os.path.join(here, f"worker{{i}}.log"), "w")
        yield subprocess.Popen(
            words, cwd=home, env=one, stdout=log, stderr=log, start_new_session=True
        )
"""
KUBECTL = """\
#!{python}
import json, os, signal, subprocess, sys
here = os.environ["STAND_IN"]
{workers}
pids = os.path.join(here, "pids")
if sys.argv[1] == "apply":
    job = json.load(open(sys.argv[3]))
    (replicated,) = job["spec"]["replicatedJobs"]
    work = replicated["template"]["spec"]
    (container,) = work["template"]["spec"]["containers"]
    homes = [os.path.join(here, f"pod{{i}}") for i in range(work["completions"])]
    with open(pids, "w") as file:
        file.write(" ".join(str(one.pid) for one in workers(container["command"], homes)))
elif sys.argv[1] == "delete":
    for pid in open(pids).read().split():
        os.kill(int(pid), signal.SIGTERM)
"""
SBATCH = """\
#!{python}
import os, subprocess, sys
here = os.environ["STAND_IN"]
text = open(sys.argv[1]).read()
options = dict(
    line[len("#SBATCH --"):].split("=", 1) for line in text.splitlines()
    if line.startswith("#SBATCH --") and "=" in line
)
job = subprocess.Popen(
    ["sh", sys.argv[1]], start_new_session=True, env=os.environ | {{"NODES": options["nodes"]}},
    stdout=open(options["output"], "a"), stderr=subprocess.STDOUT,
)
open(os.path.join(here, "pids"), "w").write(str(job.pid))
"""
SRUN = """\
#!{python}
import os, signal, subprocess, sys
here = os.environ["STAND_IN"]
{workers}
words = [word for word in sys.argv[1:] if word != "--kill-on-bad-exit=1"]
mine = list(workers(words, [os.getcwd()] * int(os.environ["NODES"])))
open(os.path.join(here, "tasks"), "w").write(" ".join(str(one.pid) for one in mine))
def kill(*_):  # SIGTERM ends the job by force
    for one in mine:
        os.killpg(one.pid, signal.SIGKILL)
signal.signal(signal.SIGTERM, kill)
sys.exit(max(one.wait() for one in mine))
"""
SCANCEL = """\
#!{python}
import os, signal, sys
named = ["tasks", "pids"] if "--full" in sys.argv else ["tasks"]
for name in named:
    for pid in open(os.path.join(os.environ["STAND_IN"], name)).read().split():
        os.kill(int(pid), signal.SIGTERM)
"""
PROGRAMS = {"kubectl": KUBECTL, "sbatch": SBATCH, "srun": SRUN, "scancel": SCANCEL}
VENV = """\
#!/bin/sh
# python3 -m venv .venv: an environment whose pip installs nothing
mkdir -p .venv/bin
printf '#!/bin/sh\\nexec {python} "$@"\\n' > .venv/bin/python
printf '#!/bin/sh\\nexit 0\\n' > .venv/bin/pip
chmod +x .venv/bin/python .venv/bin/pip
"""


@pytest.fixture
def cluster(tmp_path):
    """A folder of stand-ins, and the environment in which they are found first."""
    programs = tmp_path / "bin"
    programs.mkdir()
    texts = PROGRAMS | {"python3": VENV}
    for name, text in texts.items():
        (programs / name).write_text(text.format(python=sys.executable, workers=WORKERS.format()))
        (programs / name).chmod(0o755)
    here = tmp_path / "submitted"  # where SLURM's shared file system has the code
    here.mkdir()
    for folder in ("launch", "experiments", "lm"):
        (here / folder).symlink_to(ROOT / folder)
    subprocess.run([programs / "python3"], cwd=here, check=True)
    clone(tmp_path / "clone")
    return environment(devices=4) | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "STAND_IN": str(tmp_path),
        "STAND_IN_ADDRESS": f"localhost:{free_port()}", "AGAIN_SECONDS": "0",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip


def pod(cluster, on, *flags):
    words = [sys.executable, "-P", "-m", "launch.pod", f"--on={on}", "--name=mine", *flags]
    where = "submitted" if on == "slurm" else "clone"
    done = subprocess.run(
        words, cwd=f"{cluster['STAND_IN']}/{where}", env=cluster, capture_output=True, text=True,
        timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("on", ["gke", "slurm"])
def test_two_workers_train_one_run_save_when_stopped_and_log(cluster, tmp_path, on):
    text, workdir = write_text(tmp_path / "text.txt"), tmp_path / "shared" / "run"
    sets = {"data.train": text, "data.cache": tmp_path / "cache"} | TINY
    sets |= {"batch": 8, "steps": 100_000}
    bindings = [f"--set={name}={value}" for name, value in sets.items()]
    source = [f"--source=file://{ROOT}", "--topology=2x4"] if on == "gke" else []
    pod(
        cluster, on, "--hosts=2", *source, "--experiment=gpt2:shakespeare_char_cpu",
        f"--workdir={workdir}", *bindings,
    )  # fmt: skip
    try:
        await_step(workdir, 10, [])
        pod(cluster, on, "--action=stop")
        limit = time.monotonic() + 60
        while not ended(workdir) and time.monotonic() < limit:
            time.sleep(0.2)
    finally:
        for pid in map(int, (tmp_path / "pids").read_text().split()):
            try:
                os.killpg(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    saved = [int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()]
    assert len(rows) >= 10 and max(saved) == rows[-1]["step"]  # saved when told to stop
    logs = [(tmp_path / f"worker{i}.log").read_text() for i in range(2)]
    assert "8 x" in logs[0] and all("Traceback" not in log for log in logs)


def ended(workdir):
    """Whether nobody holds the run."""
    return workdir.exists() and not (workdir / "lock").exists()
