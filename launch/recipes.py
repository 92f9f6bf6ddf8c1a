"""The same training command on every host of a TPU slice, a Kubernetes cluster or SLURM.

A recipe is a list of commands, or a file that a scheduler reads. Each worker runs launch/again.sh,
which starts the command again while its exit code says so. Every word that comes from a user is
quoted for the shell that reads it.
"""

import dataclasses
import json
import math
import re
import shlex
from collections.abc import Sequence

from launch.commit import CODE
from lm.core.errors import ConfigError

NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
CHIPS = 4  # of a GKE worker
PERMANENT = (1, 2, 3)  # exit codes after which launch/again.sh does not start the command again
ACTIONS = ("start", "logs", "stop", "status")
INSTALL = (
    "python3 -m venv .venv && .venv/bin/pip install -q --require-hashes -r requirements/tpu.lock "
    "&& .venv/bin/pip install -q --no-deps --no-build-isolation -e ."
)


@dataclasses.dataclass(frozen=True)
class Job:
    """What to run and where.

    Raises:
      ConfigError: a name that Google Cloud, Kubernetes or a file name would not take.
    """

    name: str
    train: Sequence[str]  # flags of launch.train
    zone: str | None = None
    project: str | None = None
    topology: str = "2x2"  # of a GKE node pool
    accelerator: str = "tpu-v5-lite-podslice"  # as GKE calls it
    hosts: int = 1
    image: str = "python:3.12"
    source: str | None = None  # git address that a GKE worker fetches from
    commit: str = "HEAD"  # which it fetches there

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigError(
                f"--name={self.name}: use small letters, digits and dashes, a letter first, 40 "
                "characters at most"
            )
        for flag, value in (("zone", self.zone), ("project", self.project)):
            if value is not None and not re.fullmatch(r"[a-z][-a-z0-9:.]*", value):
                raise ConfigError(f"--{flag}={value}: no such name can be")
        if self.hosts < 1:
            raise ConfigError(f"--hosts={self.hosts}: at least one")

    def command(self, python: str = ".venv/bin/python") -> str:
        """One worker's command, quoted for a POSIX shell."""
        return shlex.join(["sh", "launch/again.sh", python, "-m", "launch.train", *self.train])


def tpu_vm(job: Job, action: str) -> list[list[str]]:
    """Commands for an existing TPU slice, whose workers are reached by ssh."""
    where = [f"--zone={job.zone}"] if job.zone else []
    where += [f"--project={job.project}"] if job.project else []
    folder = f"lm-{job.name}"

    def on(workers: str, script: str) -> list[str]:
        return [
            "gcloud", "compute", "tpus", "tpu-vm", "ssh", job.name, *where,
            f"--worker={workers}", f"--command={script}",
        ]  # fmt: skip

    archive = f"{folder}.tar.gz"
    running = f"kill -0 $(cat {folder}/run.pid 2>/dev/null) 2>/dev/null"
    said = f"{folder} is running: --action=stop ends it (if it is not, remove {folder}/run.pid)"
    fresh = f"rm -rf {' '.join(CODE)}"  # a file that was removed since is none of the commit's
    begin = f"nohup {job.command()} > run.log 2>&1 < /dev/null & echo $! > run.pid"
    return {
        "start": [
            on("all", f"! {running} || {{ echo {shlex.quote(said)} >&2; exit 1; }}"),
            ["git", "archive", "--format=tar.gz", f"--output={archive}", "HEAD"],
            ["gcloud", "compute", "tpus", "tpu-vm", "scp", archive, f"{job.name}:", *where,
             "--worker=all"],
            on("all", f"mkdir -p {folder} && cd {folder} && {fresh} && tar -xzf ../{archive}"),
            on("all", f"cd {folder} && {INSTALL}"),
            on("all", f"cd {folder} && {{ {begin}; }}"),
        ],
        "logs": [on("0", f"tail -n 100 -F {folder}/run.log")],
        "stop": [on("all", f"kill -TERM $(cat {folder}/run.pid)")],
        "status": [
            on("all", f"{running} && echo running || echo ended"),
        ],
    }[action]  # fmt: skip


def gke(job: Job, action: str) -> list[list[str]]:
    """Commands for Kubernetes with JobSet; `start` applies the manifest that `manifest` writes."""
    return {
        "start": [["kubectl", "apply", "-f", f"{job.name}.json"]],
        "logs": [["kubectl", "logs", "-f", f"job/{job.name}-worker-0"]],
        "stop": [["kubectl", "delete", "jobset", job.name]],
        "status": [["kubectl", "get", "pods", "-l", f"jobset.sigs.k8s.io/jobset-name={job.name}"]],
    }[action]


def manifest(job: Job) -> str:
    """The JobSet of a run, as JSON, which YAML includes.

    Raises:
      ConfigError: nothing says where a worker gets the code, or the chips of the topology are not
        those of the hosts.
    """
    if not job.source:
        raise ConfigError("--source is empty: name the git address that workers fetch from")
    if not re.fullmatch(r"\d+(x\d+){1,2}", job.topology):
        raise ConfigError(f"--topology={job.topology}: write AxB or AxBxC, such as 2x4")
    chips = math.prod(int(n) for n in job.topology.split("x"))
    if chips != job.hosts * CHIPS:
        raise ConfigError(
            f"--topology={job.topology} has {chips} chips, and --hosts={job.hosts} of {CHIPS} have "
            f"{job.hosts * CHIPS}: set one of them"
        )
    fetch = shlex.join(["git", "fetch", "-q", "--depth=1", job.source, job.commit])
    begin = f"git init -q lm && cd lm && {fetch} && git checkout -q FETCH_HEAD && {INSTALL}"
    # what a network does is not the command's own exit code, and is tried again
    script = f"{{ {begin}; }} || exit 75; exec {job.command()}"
    container = {
        "name": "train",
        "image": job.image,
        "command": ["sh", "-c", script],
        "resources": {"limits": {"google.com/tpu": CHIPS}},
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 300,
        "nodeSelector": {
            "cloud.google.com/gke-tpu-accelerator": job.accelerator,
            "cloud.google.com/gke-tpu-topology": job.topology,
        },
        "containers": [container],
    }
    work = {
        "parallelism": job.hosts, "completions": job.hosts, "backoffLimit": 0,
        "completionMode": "Indexed", "template": {"spec": pod},
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": container["name"], "operator": "In",
                        "values": list(PERMANENT),
                    },
                },
            ],
        },
    }  # fmt: skip
    permanent = {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    return json.dumps(
        {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {"name": job.name},
            "spec": {
                "failurePolicy": {"maxRestarts": 100, "rules": [permanent]},
                "replicatedJobs": [
                    {"name": "worker", "replicas": 1, "template": {"spec": work}},
                ],
            },
        },
        indent=2,
    )  # fmt: skip


def slurm(job: Job, action: str) -> list[list[str]]:
    """Commands for SLURM; `start` submits the script that `sbatch_script` writes."""
    return {
        "start": [["sbatch", f"{job.name}.sbatch"]],
        "logs": [["tail", "-n", "100", "-F", f"{job.name}.log"]],
        # the tasks alone: with --full the batch script and its srun have it too and kill them
        "stop": [["scancel", "--signal=TERM", f"--name={job.name}"]],
        "status": [["squeue", f"--name={job.name}"]],
    }[action]


def sbatch_script(job: Job) -> str:
    """A batch script of one task a node. Five minutes before its time is up the tasks have SIGTERM,
    and once they have saved the job is queued again, which one that is stopped is not."""
    permanent = " | ".join(map(str, (0, *PERMANENT)))
    return f"""#!/bin/sh
#SBATCH --job-name={job.name}
#SBATCH --nodes={job.hosts}
#SBATCH --ntasks-per-node=1
#SBATCH --output={job.name}.log
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
expired=
trap 'expired=1; scancel --signal=TERM "$SLURM_JOB_ID"' USR1
srun --kill-on-bad-exit=1 {job.command()} &
wait $!
code=$?
while kill -0 $! 2>/dev/null; do  # the signal ended the wait, not srun
    wait $!
    code=$?
done
[ -z "$expired" ] && exit $code
case $code in
    {permanent}) ;;
    *) scontrol requeue "$SLURM_JOB_ID" ;;
esac
exit $code
"""
