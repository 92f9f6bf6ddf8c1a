"""What a run directory holds, read back: for fine-tuning, for evaluation, for a notebook."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

import jax

from lm.core.config import read
from lm.core.errors import CheckpointError, ConfigError
from lm.core.paths import run_path
from lm.models.adapters import ADAPTERS, BASE, merged
from lm.text.tokenizer import Tokenizer
from lm.text.tokenizer import load as load_tokenizer
from lm.train.checkpoint import Checkpoints
from lm.train.manifest import steps_in
from lm.train.state import shardings
from lm.train.supervised import Supervised

Known = TypeVar("Known")


@dataclasses.dataclass(frozen=True)
class Saved:
    """One checkpoint of a run."""

    config: Any  # the experiment, a `Supervised`
    params: Any
    tokenizer: Tokenizer | None
    step: int
    digest: str  # of all arrays of the checkpoint
    tokens: int | None = None  # that were counted up to it; older checkpoints have not

    @property
    def headed(self) -> bool:
        """Whether its model stands below a head: that of a classifier, or of a reward model."""
        return "head" in self.params

    def refused(self, init: str | None, wanted: str) -> CheckpointError:
        """That the run `init`, which is this one, is none of those to go on from."""
        kind = type(self.config).__name__
        return CheckpointError(f"init={init} holds a {kind}: name a run of {wanted}")


def read_config(run: Path) -> Any:
    """The experiment of a run directory.

    Raises:
      CheckpointError: there is none, or it is no run of one model.
      ConfigError: it cannot be read.
    """
    path = run / "config.gin"
    if not path.is_file():
        raise CheckpointError(f"{run} is not a run directory: it has no config.gin")
    config = read(path)
    if not isinstance(config, Supervised):
        raise CheckpointError(f"{run} holds a {type(config).__name__}, which is not one model")
    return config


def refuse_other(workdir: Path, kind: type) -> None:
    """Raises ConfigError where a directory has checkpoints of a run of another kind."""
    if not steps_in(workdir / "checkpoints") or not (workdir / "config.gin").exists():
        return
    found = read_config(workdir)
    if not isinstance(found, kind):
        raise ConfigError(
            f"{workdir} holds a {type(found).__name__}, not a {kind.__name__}; choose another "
            "--workdir"
        )


def read_run(run: Path, mesh: jax.sharding.Mesh, step: int | None = None) -> Saved:
    """The newest usable checkpoint of a run, or that of a step, on a mesh.

    Raises:
      CheckpointError: no run, no checkpoint, none that is whole, or another tokenizer beside it.
    """
    config = read_config(run)
    if not steps_in(run / "checkpoints"):
        raise CheckpointError(f"{run} has no checkpoint yet; train it first")
    with jax.set_mesh(mesh):
        checkpoints = Checkpoints(run / "checkpoints", read_only=True)
        restored = checkpoints.restore(config.abstract(mesh), step)
        checkpoints.close()
    if restored is None:
        raise CheckpointError(f"{run} has no checkpoint yet; train it first")
    tokenizer = load_tokenizer(run / "tokenizer") if (run / "tokenizer").is_dir() else None
    if tokenizer and tokenizer.digest != restored[1].get("tokenizer", tokenizer.digest):
        raise CheckpointError(
            f"{run}/tokenizer (vocabulary {tokenizer.vocab_size}, digest {tokenizer.digest[:12]}) "
            f"is not the one of the checkpoint (digest {restored[1]['tokenizer'][:12]})"
        )
    state, manifest = restored
    step, told = int(manifest["step"]), digest(manifest["tree"])
    return Saved(config, state.params, tokenizer, step, told, manifest.get("tokens"))


def read_init(init: str | None, mesh: jax.sharding.Mesh, step: int | None = None) -> Saved:
    """The run that another goes on from, as `read_run`, its adapters merged with their model.

    Raises:
      ConfigError: none is named.
      CheckpointError: as `read_run`.
    """
    saved = read_run(run_path(require_init(init)), mesh, step)
    if ADAPTERS not in saved.params:
        return saved
    placed = shardings(saved.params[BASE])  # as the base: what reads either is compiled once
    params = jax.jit(merged, out_shardings=placed)(saved.params)
    return dataclasses.replace(saved, params=params)


def require_init(found: Known | None, run: str = "the run to start from") -> Known:
    """What is known by the setting `init`. Raises ConfigError where it is None."""
    if found is None:
        raise ConfigError(f"init is not set: --set init=RUN names {run}")
    return found


def require_tokenizer(tokenizer: Tokenizer | None, run: object) -> Tokenizer:
    """The tokenizer of `run`. Raises CheckpointError where it has none."""
    if tokenizer is None:
        raise CheckpointError(f"{run} has no tokenizer: convert it with its files")
    return tokenizer


def digest(tree: dict[str, Any]) -> str:
    """Of the arrays that a checkpoint's manifest names: another checkpoint has another."""
    told = json.dumps({name: entry["digest"] for name, entry in tree.items()}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:12]
