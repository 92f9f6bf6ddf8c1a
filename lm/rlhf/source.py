"""What a stage of alignment goes on from: the model and tokenizer of an earlier run."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from lm.core.paths import run_path
from lm.data.prompts import RowsConfig
from lm.data.tokens import TextConfig
from lm.models.gpt import GptConfig
from lm.text.tokenizer import Tokenizer
from lm.text.tokenizer import load as load_tokenizer
from lm.train.finetune import Finetune
from lm.train.manifest import read_manifest, steps_in
from lm.train.pretrain import Pretrain
from lm.train.saved import Saved, read_config, read_init, refuse_other, require_tokenizer


@dataclasses.dataclass(frozen=True)
class Source:
    """A decoder that another run has trained."""

    model: GptConfig
    tokenizer: Tokenizer
    text: TextConfig | None  # what it was pre-trained on, where that is known
    params: Any  # of a language model; of a reward model {"model": ..., "head": ...} alone
    identity: str  # of the parameters, to be told from those of another checkpoint

    @property
    def scalar(self) -> bool:
        """Whether it is a reward model."""
        return "head" in self.params

    def language_model(self) -> Any:
        """Parameters without a scalar head."""
        return self.params["model"] if self.scalar else self.params


def read_source(init: str | None, mesh: jax.sharding.Mesh, step: int | None = None) -> Source:
    """The run `init`, at its newest checkpoint or at that of a step.

    Raises:
      ConfigError: none is named.
      CheckpointError: no run, no decoder, or one without a tokenizer.
    """
    saved = read_init(init, mesh, step)
    model = saved.config.model
    if not isinstance(model, GptConfig) or isinstance(saved.config, Finetune):
        raise saved.refused(init, "a decoder, or of a reward model")
    tokenizer = require_tokenizer(saved.tokenizer, init)
    params = saved.params
    if saved.headed:  # the head of metadata is its run's own
        params = {name: params[name] for name in ("model", "head")}
    known = identity(run_path(str(init)), saved.step)
    return Source(model, tokenizer, text_of(saved), params, known)


def knowing(source: Source, data: RowsConfig) -> Source:
    """The source with every special that the form of these rows needs: a vocabulary that was
    published without them grows, and so does the model's table, by rows near the mean of the rest.
    """
    tokenizer, model = data.form(source.tokenizer).tokenizer, source.model
    more = tokenizer.vocab_size - model.vocab
    source = dataclasses.replace(source, tokenizer=tokenizer)
    if more <= 0:
        return source
    known = source.language_model()
    table = known["tokens"]["table"]
    drawn = model.token_std * jax.random.normal(jax.random.key(0), (more, model.width), table.dtype)
    drawn += jnp.mean(table, axis=0)
    grown = known | {"tokens": known["tokens"] | {"table": jnp.concatenate([table, drawn])}}
    return dataclasses.replace(
        source,
        model=dataclasses.replace(model, vocab=tokenizer.vocab_size),
        params=source.params | {"model": grown} if source.scalar else grown,
    )


def text_of(saved: Saved) -> TextConfig | None:
    """The text that the model of a run was pre-trained on; None where it is not known."""
    if not isinstance(saved.config, Pretrain):
        return saved.config.text
    return saved.config.data if saved.step else None  # weights of another's have seen none of it


def identity(run: Path, step: int, parts: tuple[str, ...] | None = None) -> str:
    """A digest of a checkpoint's arrays, or of some parts of the parameters, from its manifest."""
    tree = read_manifest(run / "checkpoints" / str(step))["tree"]
    if parts is not None:
        wanted = tuple(f"params/{part}/" for part in parts)
        tree = {name: entry for name, entry in tree.items() if name.startswith(wanted)}
    arrays = json.dumps(tree, sort_keys=True)
    return hashlib.sha256(arrays.encode()).hexdigest()[:16]


def started(workdir: Path, kind: type) -> tuple[Any, Tokenizer] | None:
    """The config and tokenizer of a run of this kind that has a checkpoint; None for a new one.

    Raises:
      ConfigError: the directory holds a run of another kind.
    """
    if not steps_in(workdir / "checkpoints"):
        return None
    refuse_other(workdir, kind)
    return read_config(workdir), load_tokenizer(workdir / "tokenizer")
