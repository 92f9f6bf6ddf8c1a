"""Whether a directory holds the run that is to go on there, or another."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lm.core.config import CLASS, differences, read
from lm.core.errors import CheckpointError, ConfigError
from lm.core.paths import write_whole
from lm.nn.config import HOW
from lm.train.metrics import read_metrics

LATER = ("data_stages", "reward_file")  # facts that old checkpoints lack
TOLD = {  # facts that may be others, and what is said then
    "reward_file": "the file of reward.function was edited since the checkpoint of step {step}: "
    "rewards from here on may be others than before it",
}
NO_ROWS = ("data.beside", "data.metrics")  # what the first leaves out of the rows is in the facts
ROWS = (  # how bindings begin of what the rows are, and in which order
    "data.", "text.", "sentences.", "instances.", "seed", "batch", "ramp", "stages", "length",
    "question", "stride", "documents", "prompt_length", "answer_length", "text_rows",
    "update.text_rows", "pretraining_share",
)  # fmt: skip


def changed_bindings(
    workdir: Path, steps: Sequence[int], config: Any, *, allow_data: bool
) -> dict[str, tuple[Any, Any]]:
    """The bindings that differ from those of the run that is resumed, if it is the same run.

    Args:
      steps: of which there are checkpoints.
      allow_data: go on with other data, or in another order.

    Raises:
      ConfigError: the directory holds another run, or one of another model or data.
    """
    path = workdir / "config.gin"
    results = bool(steps) or (workdir / "summary.json").exists()
    if not path.exists():
        if steps:
            raise ConfigError(f"{workdir} has checkpoints but no config.gin; choose another")
        return {}
    try:
        changed = differences(read(path), config)
    except ConfigError:
        if results:
            raise
        return {}  # cut off as it was written
    changed = {name: pair for name, pair in changed.items() if not name.endswith(".cache")}
    if CLASS in changed:
        old, new = changed[CLASS]
        raise ConfigError(f"{workdir} holds a run of {old}, not {new}; choose another")
    if not results:
        return {}
    changed = {name: pair for name, pair in changed.items() if not same_place(*pair)}
    what = {name: pair for name, pair in changed.items() if name.rpartition(".")[2] not in HOW}
    model = {n: pair for n, pair in what.items() if n.startswith(("model.", "tokenizer."))}
    if model:
        raise ConfigError(f"{told(model)}; choose another --workdir or set them as they were")
    data = {n: pair for n, pair in what.items() if n.startswith(ROWS) and not n.startswith(NO_ROWS)}
    if data and not allow_data:
        raise ConfigError(f"{told(data)}: other data or order; --allow_data_change to go on so")
    return changed


def same_place(old: Any, new: Any) -> bool:
    """Whether two values of a binding name the same folders and files, as spelled from here."""
    return bool(spelled(old) == spelled(new))


def spelled(value: Any) -> Any:
    """A value with its texts, parts of tuples too, as absolute paths: those of what are no paths
    are the same only where the texts are."""
    if isinstance(value, tuple):
        return tuple(map(spelled, value))
    if isinstance(value, str):
        return [str(Path(name).absolute()) for name in value.split(",")]
    return value


def check_facts(manifest: Mapping[str, Any], facts: Mapping[str, Any], *, allow_data: bool) -> None:
    """Raises CheckpointError where tokenizer or data are not those of the checkpoint; warns of what
    may be edited."""
    for name, now in facts.items():
        then, is_data = manifest.get(name), name.startswith("data")
        if then == now or (is_data and allow_data) or (name in LATER and name not in manifest):
            continue
        if name in TOLD:
            print(f"warning: {TOLD[name].format(step=manifest['step'])}", file=sys.stderr)
            continue
        way_out = "--allow_data_change to go on" if is_data else "choose another --workdir"
        raise CheckpointError(f"{name}: checkpoint {then}, now {now}; {way_out}")


def note_changes(workdir: Path, step: int, changed: Mapping[str, tuple[Any, Any]]) -> None:
    """Keeps in `changes.jsonl` the bindings that are other ones from `step` on: `config.gin` has
    the newest alone. What was changed later is taken back: those steps are made again.

    Args:
      changed: name -> what `config.gin` has, and what is set now.

    Raises:
      OSError: nothing can be written.
    """
    path = workdir / "changes.jsonl"
    rows = read_metrics(path) if path.exists() else []
    kept = [row for row in rows if 0 < row["step"] <= step]
    since = {name: [repr(old), repr(new)] for name, (old, new) in changed.items()}
    for row in reversed([row for row in rows if row["step"] > step]):
        for name, (old, new) in row["changed"].items():
            since[name] = [old, since.get(name, (old, new))[1]]
    since = {name: pair for name, pair in since.items() if pair[0] != pair[1]}
    told_already = kept and kept[-1] == {"step": step, "changed": since}  # and then was killed
    if step > 0 and since and not told_already:
        kept.append({"step": step, "changed": since})
    if kept != rows:
        write_whole(path, "".join(json.dumps(row) + "\n" for row in kept))


def told(changed: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(
        f"{name}: checkpoint {old!r}, now {new!r}" for name, (old, new) in changed.items()
    )
