"""Starts, follows and stops a run on every host of a pod.

python -m launch.pod --on=tpu-vm --name=my-slice --zone=us-east5-a --experiment=gpt3:6.7b \\
    --set 'data.mixture=()' --set data.train=/mnt/text --set tokenizer.path=/mnt/vocab_gpt2 \\
    --set mesh.data=1 --set mesh.fsdp=-1 --workdir=gs://bucket/run
python -m launch.pod --on=tpu-vm --name=my-slice --zone=us-east5-a --action=logs
python -m launch.pod --on=slurm --name=ladder --hosts=4 --experiment=gpt2:xl --workdir=runs/xl

It prints each command before it runs it; --dry_run prints only. The slice, the cluster or the
partition is yours already: nothing is bought or deleted here.
"""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags

from launch import command
from launch.commit import check_code, check_committed, pushed_commit
from launch.experiment import EXPERIMENT, GIN_FILE, SET, configured
from launch.recipes import ACTIONS, Job, gke, manifest, sbatch_script, slurm, tpu_vm
from lm.core.errors import ConfigError

ON = flags.DEFINE_enum("on", None, ["tpu-vm", "gke", "slurm"], "What runs the workers.")
ACTION = flags.DEFINE_enum("action", "start", ACTIONS, "What to do.")
NAME = flags.DEFINE_string("name", None, "Of the TPU slice, the JobSet or the SLURM job.")
ZONE = flags.DEFINE_string("zone", None, "Google Cloud zone of a TPU slice.")
PROJECT = flags.DEFINE_string("project", None, "Google Cloud project; gcloud's own by default.")
HOSTS = flags.DEFINE_integer("hosts", 1, "Workers of a GKE or SLURM run.")
TOPOLOGY = flags.DEFINE_string("topology", "2x2", "Of the GKE node pool.")
ACCELERATOR = flags.DEFINE_string("accelerator", "tpu-v5-lite-podslice", "Of the GKE node pool.")
IMAGE = flags.DEFINE_string("image", "python:3.12", "Container of a GKE worker, with git.")
SOURCE = flags.DEFINE_string("source", None, "Git address that a GKE worker fetches from.")
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run, that all hosts see.")
TRAIN_FLAG = flags.DEFINE_multi_string(
    "train_flag", [], "Another flag of launch.train, such as --train_flag=--step_timeout=600."
)
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the commands and run none.")

READ = {  # by which recipes
    "zone": ("tpu-vm",), "project": ("tpu-vm",), "hosts": ("gke", "slurm"), "topology": ("gke",),
    "accelerator": ("gke",), "image": ("gke",), "source": ("gke",),
}  # fmt: skip

RECIPES: dict[str, Callable[[Job, str], list[list[str]]]] = {
    "tpu-vm": tpu_vm,
    "gke": gke,
    "slurm": slurm,
}


def main() -> int:
    if ON.value is None or NAME.value is None:
        raise ConfigError("--on and --name are needed: --on=tpu-vm --name=my-slice")
    check_recipe()
    starts = ACTION.value == "start"
    train = train_flags() if starts else []
    job = Job(
        name=NAME.value, train=train, zone=ZONE.value,
        project=PROJECT.value, topology=TOPOLOGY.value, accelerator=ACCELERATOR.value,
        hosts=HOSTS.value, image=IMAGE.value, source=SOURCE.value,
        commit=pushed_commit() if starts and ON.value == "gke" else "HEAD",
    )  # fmt: skip
    if starts and ON.value != "tpu-vm":
        write(job)
    for words in RECIPES[ON.value](job, ACTION.value):
        print(f"$ {shlex.join(words)}", flush=True)
        if not DRY_RUN.value and (code := run(words)):
            print(f"{words[0]} ended with {code}", flush=True)
            return 1
    return 0


def check_recipe() -> None:
    """Raises ConfigError for a flag that the recipe would not read."""
    for name, recipes in READ.items():
        if flags.FLAGS[name].present and ON.value not in recipes:
            raise ConfigError(
                f"{flags.FLAGS[name].serialize()} is for --on={' or '.join(recipes)}, and "
                f"{ON.value} does not read it: leave it out"
            )


def train_flags() -> list[str]:
    """The flags of launch.train that were given here; the experiment is resolved first, since a
    misspelt binding should fail on this machine and not on every worker.

    Raises:
      ConfigError: no such experiment, binding or flag, one in a file that workers have not, code
        that is not committed, or no workdir that all hosts see.
    """
    if not WORKDIR.value:
        raise ConfigError("--workdir is empty; name a directory that all hosts see, such as gs://")
    configured()
    if ON.value != "slurm":  # whose workers run in this folder
        if "://" not in WORKDIR.value and WORKDIR.value[0] not in "/~":
            raise ConfigError(
                f"--workdir={WORKDIR.value} is in a folder that each worker has for itself: name a "
                "directory that all hosts see, such as gs://"
            )
        module = (EXPERIMENT.value or "").partition("(")[0].rpartition(":")[0]
        if module.endswith(".py"):
            check_committed("experiment", module)
        if GIN_FILE.value:
            check_committed("gin_file", GIN_FILE.value)
        check_code()
    words = [f"--experiment={EXPERIMENT.value}"] if EXPERIMENT.value else []
    words += [f"--gin_file={GIN_FILE.value}"] if GIN_FILE.value else []
    words += [f"--set={binding}" for binding in SET.value]
    words += [f"--workdir={WORKDIR.value}", *TRAIN_FLAG.value]
    if TRAIN_FLAG.value:
        tried = [sys.executable, "-m", "launch.train", *words, "--dry_run"]
        done = subprocess.run(tried, capture_output=True, text=True)
        if done.returncode:
            raise ConfigError(f"--train_flag: {done.stderr.strip().removeprefix('error: ')}")
    return words


def write(job: Job) -> None:
    """Writes and shows the file that the scheduler reads."""
    of_slurm = ON.value == "slurm"
    path = Path(f"{job.name}.sbatch" if of_slurm else f"{job.name}.json")
    text = sbatch_script(job) if of_slurm else manifest(job)
    print(f"# {path}\n{text}", flush=True)
    if not DRY_RUN.value:
        path.write_text(text)


def run(words: list[str]) -> int:
    try:
        return subprocess.run(words, check=False).returncode
    except FileNotFoundError:
        raise ConfigError(f"{words[0]} is not installed here") from None


if __name__ == "__main__":
    command.run(main)
