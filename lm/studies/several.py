"""A study is several runs in one directory: where it begins, and goes on."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lm.core.config import CLASS, bindings, differences, dump, read, require
from lm.core.errors import ConfigError, DataError
from lm.core.paths import read_summary, write_whole
from lm.nn.config import HOW
from lm.rlhf.reward import RewardTraining
from lm.rlhf.scores import RewardConfig
from lm.rlhf.sft import Sft
from lm.rlhf.truncation import TruncationConfig
from lm.train.lock import locked
from lm.train.metrics import read_metrics
from lm.train.process import Process
from lm.train.resume import same_place

FREE = (".loop.", ".mesh.", ".microbatches")  # bindings of how a step is made, not of what it is

SUMMARY, CHECKPOINTS = "summary.json", "checkpoints/*"  # of a run that has ended, or has begun

TOY = "lm.rlhf.gold:concise"  # the judge that the pipelines come with

NAMED = ("sizes", "patterns", "cases", "variants", "tasks")  # lists of things that a name begins


@contextmanager
def alone(workdir: Path, process: Process) -> Iterator[None]:
    """Holds a study's directory from before `begin` to the end of its run: of two jobs, the second
    would write its config over the results of the first.

    Raises:
      ConfigError: the directory is held by another job, or cannot be written.
    """
    first = jax.process_index() == 0
    with locked(workdir, steal=process.steal_lock) if first else nullcontext():
        yield


def begin(workdir: Path, config: Any, done: Iterable[str] = ()) -> None:
    """Writes the study's config into its directory.

    Args:
      done: how the names of the bindings begin of which there are results that are gone on from,
        such as "sft.": they may no longer change, but for lists of named things, which may grow,
        and for how a step is made, unless that is named in full.

    Raises:
      ConfigError: the directory holds something else, or results of other settings, or cannot be
        written.
    """
    path, done = workdir / "config.gin", tuple(done)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot use --workdir {workdir}: {error}") from None
    if path.exists():
        changed = differences(read(path), config)
        if CLASS in changed:
            old, new = changed[CLASS]
            raise ConfigError(f"{workdir} holds a {old}, not {new}; choose another --workdir")
        wrong = [
            f"{name} was {old!r}, now {new!r}" for name, (old, new) in changed.items()
            if name.startswith(done) and name.rpartition(".")[2] not in HOW
            and (name in done or not any(part in f".{name}" for part in FREE))
            and not (name in NAMED and kept(old, new))
            and not same_place(old, new)  # --workdir and init may be spelled otherwise
        ]  # fmt: skip
        if wrong:
            raise ConfigError(
                f"{workdir} has results of other settings: {', '.join(wrong)}; choose another "
                "--workdir or set them as they were"
            )
    if jax.process_index() == 0:
        try:
            write_whole(path, dump(config))
        except OSError as error:
            raise ConfigError(f"cannot use --workdir {workdir}: {error}") from None


def run_member(member: Any, folder: Path, process: Process, told: object) -> None:
    """Runs a member of a study, and says what is told of it, unless it is done."""
    if read_summary(folder / SUMMARY) is None:
        print(f"--- {told}", flush=True)
        member.run(folder, process)


def kept(old: Iterable[Any], new: Iterable[Any]) -> bool:
    """Whether all named things of a list are in another, and the same there."""
    after = {one[0]: one for one in new}
    return all(after.get(one[0]) == one for one in old)


def check_distinct(**lists: Sequence[Any]) -> None:
    """Raises ConfigError for a list, by its name, that is empty or holds one thing twice: of two
    runs of one name, or of one seed, the second would be the first."""
    for name, values in lists.items():
        require(len(values) > 0, f"{name} is empty: give one or more")
        twice = [one for number, one in enumerate(values) if one in values[:number]]
        require(not twice, f"{name} has {twice[:1]} twice among {values}: give each once")


def fixed(
    workdir: Path, results: Mapping[str, Iterable[str]], *, pooled: bool = False
) -> list[str]:
    """How the bindings begin that results were made with, which files of a pattern hold.

    Args:
      pooled: runs are told as one, so that none goes on from its checkpoints under settings that
        the others do not have, as the step of a pipeline may: they are results too.
    """

    def held(pattern: str) -> bool:
        begun = pattern.replace(SUMMARY, CHECKPOINTS)
        return any(workdir.glob(pattern)) or (pooled and any(workdir.glob(begun)))

    return [name for pattern, names in results.items() if held(pattern) for name in names]


def evaluated(
    runs: Sequence[Path], names: Iterable[str]
) -> tuple[list[int], dict[str, np.ndarray]]:
    """The updates at which the PPO runs of all seeds were measured, and `valid_NAME` of each there.
    [points], each [runs points]

    Raises:
      DataError: a run was measured at other updates than the first one.
    """
    rows = [
        [row for row in read_metrics(run / "metrics.jsonl") if "valid_gold" in row] for run in runs
    ]
    first, *others = ([int(row["step"]) for row in some] for some in rows)
    for run, steps in zip(runs[1:], others, strict=True):
        if steps != first:
            raise DataError(
                f"{run} was measured at other updates than {runs[0]}, such as "
                f"{sorted(set(steps) ^ set(first))[:3]}: remove it, and summary.json and "
                "measured.json above it, to train it again as the others"
            )
    found = {name: np.array([[row[f"valid_{name}"] for row in some] for some in rows])
             for name in names}  # fmt: skip
    return first, found


def selected(run: Path, reward: RewardConfig) -> int | None:
    """The step of a fine-tuning that its reward model chose; None, the newest, where it had none,
    or has not ended."""
    summary = read_summary(run / SUMMARY) if reward.given else None
    return (summary or {}).get("selected_step")


def gold_of(judge: RewardConfig, shown: TruncationConfig, *, people: bool) -> RewardConfig:
    """What policies are measured by beside their reward: a pipeline's judge, of as much of an
    answer as it was shown when it ranked. Where people have ranked it is not the one that pipelines
    come with, which is no truth behind their rankings."""
    if people:
        return RewardConfig() if judge.function == TOY else judge
    return replace(judge, truncation=shown)


def check_used(plan: Any, members: Mapping[str, Any]) -> None:
    """Raises ConfigError for a setting of a pipeline's step that the pipeline makes another: it
    would do nothing.

    Args:
      members: the steps as they run, whose names end as the plan's fields are called.
    """
    for member, made in members.items():
        step = member.rpartition("/")[2]
        given, used = getattr(plan, step), bindings(made)
        for name, value in bindings(given).items():
            *path, field = name.split(".")
            if field == CLASS or value in (used.get(name), default(given, path, field)):
                continue
            raise ConfigError(
                f"{step}.{name}={value!r} would do nothing: the pipeline sets it to "
                f"{used.get(name)!r}; leave it as it was"
            )


def default(config: Any, path: Sequence[str], field: str) -> Any:
    """What a field of a config below another is where nothing is said of it."""
    for name in path:
        config = getattr(config, name)
    return next(one.default for one in fields(config) if one.name == field)


def begun(reward: RewardTraining, sft: Sft, run: Path) -> RewardTraining:
    """The reward model's stage, which begins with the run of the fine-tuning, or with one of its
    own where that is set: the paper's is of 6B for a policy of any size."""
    if reward.init is not None:
        return reward
    return replace(reward, init=str(run), init_step=selected(run, sft.reward))


def check_begun(reward: RewardTraining, sft: Sft) -> None:
    """Raises ConfigError, before anything is trained, for a reward model that cannot begin with the
    run of the fine-tuning."""
    ours, theirs = reward.model, sft.model
    if reward.init is None and ours is not None and theirs is not None:
        require(
            ours.parameters() == theirs.parameters(),
            f"reward.model has {ours.parameters():,} parameters and sft.model "
            f"{theirs.parameters():,}: --set reward.init=RUN names a run of the reward model's "
            "size to begin with",
        )
