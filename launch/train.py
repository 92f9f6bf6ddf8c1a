"""Runs an experiment, or goes on with it: the same command again continues.

python -m launch.train --experiment=gpt2:tiny --workdir=runs/tiny
python -m launch.train --experiment=gpt2:small --set mesh.fsdp=8 --workdir=runs/small
python -m launch.train --gin_file=runs/small/config.gin --set steps=20000 --workdir=runs/longer
python -m launch.train --list
"""

from absl import flags

from launch import cluster, command, experiment, log
from lm.core import heap
from lm.core.config import dump
from lm.core.errors import ConfigError
from lm.core.paths import run_path

WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run: checkpoints, metrics, report."
)
LIST = flags.DEFINE_bool("list", False, "List every experiment and leave.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the resolved bindings and leave.")
RESTORE_STEP = flags.DEFINE_integer("restore_step", None, "Go on from this step, and no other.")
RESTORE_FALLBACK = flags.DEFINE_bool(
    "restore_fallback", True, "Where a step is damaged, take an older one."
)
ALLOW_DATA_CHANGE = flags.DEFINE_bool(
    "allow_data_change", False, "Resume on other data, order or batch."
)
STEAL_LOCK = flags.DEFINE_bool("steal_lock", False, "Take the directory from another process.")
STEP_TIMEOUT = flags.DEFINE_float(
    "step_timeout", 0.0, "Seconds a step may take before the process ends; 0: any."
)
PROFILE_STEPS = flags.DEFINE_string("profile_steps", None, "Write a trace of steps FIRST:LAST.")


def main() -> int | None:
    heap.share_one_heap()
    if LIST.value:
        print(experiment.listing())
        return None
    config = experiment.configured()
    bindings = dump(config)  # what no run could be read back with is refused before all else
    if DRY_RUN.value:
        print(bindings, end="")
        return None
    if not WORKDIR.value:
        raise ConfigError("--workdir is empty; name the directory of the run")
    from lm.train.process import Process, check_finite_flag
    from lm.train.saved import refuse_other
    from lm.train.session import Finished
    from lm.train.texts import refuse_among_texts

    check_finite_flag("step_timeout", STEP_TIMEOUT.value)
    process = Process(
        restore_step=RESTORE_STEP.value,
        restore_fallback=RESTORE_FALLBACK.value,
        allow_data_change=ALLOW_DATA_CHANGE.value,
        steal_lock=STEAL_LOCK.value,
        step_timeout=STEP_TIMEOUT.value,
        profile_steps=span(PROFILE_STEPS.value),
    )
    log.forgive()
    cluster.join()
    workdir = run_path(WORKDIR.value)
    cluster.check_same_command(config, workdir, process)
    refuse_other(workdir, type(config))
    refuse_among_texts(workdir, config)
    try:
        config.run(workdir, process)
    except Finished as finished:
        return finished.code
    return None


def span(text: str | None) -> tuple[int, int] | None:
    """`"10:15"` -> (10, 15)."""
    if text is None:
        return None
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise ConfigError(f"--profile_steps={text}: write FIRST:LAST, such as 10:15")
    return int(first), int(last)


if __name__ == "__main__":
    command.run(main)
