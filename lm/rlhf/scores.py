"""Rewards of answers: a trained reward model, or any function of (prompts, answers).

A prompt is a text, or a conversation that ends with the user where the policy converses.

    def brevity(prompts: list[str], answers: list[str]) -> list[float]: ...

is `--set reward.function=mine:brevity` (a module on the path, or `folder/mine.py:brevity`), and
`--set reward.run=runs/reward` the reward model of a run, or a classifier of two classes.
"""

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lm.core.config import require
from lm.core.errors import ConfigError, DataError
from lm.core.mesh import local_rows, place
from lm.core.paths import run_path
from lm.models.gpt import GptConfig
from lm.models.reward import answer_scores
from lm.rlhf.classifier import classifier_scorer
from lm.rlhf.rollout import Rollout
from lm.rlhf.source import Source, read_source
from lm.text.interface import Form
from lm.text.tokenizer import Tokenizer
from lm.train.finetune import Finetune
from lm.train.saved import read_config, read_run

Scorer = Callable[[Sequence[Any], Sequence[str]], np.ndarray]  # -> [B] float32

ROWS = 32  # texts that a reward model reads at once
MULTIPLE = 64  # of the width of these


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Where rewards come from: one of the two."""

    run: str | None = None
    function: str | None = None

    def __post_init__(self) -> None:
        require(
            self.run is None or self.function is None,
            f"reward.run {self.run!r} and reward.function {self.function!r}: set one of them",
        )

    @property
    def given(self) -> bool:
        return self.run is not None or self.function is not None


def text_scorer(config: RewardConfig, form: Form, mesh: jax.sharding.Mesh) -> Scorer:
    """A scorer of texts.

    Raises:
      ConfigError: neither is named, or the function cannot be imported.
      CheckpointError: the run is no reward model's.
    """
    if config.function is not None:
        return checked(config.function, named(config.function))
    if config.run is None:
        raise ConfigError(
            "no reward: --set reward.run=RUN (instructgpt:reward makes one) or "
            "--set reward.function=module:name"
        )
    if is_classifier(config.run):
        return classifier_scorer(read_run(run_path(config.run), mesh), mesh)
    source = reward_source(config.run, form.tokenizer, mesh)
    model, params = source.model, source.params
    score = jax.jit(answer_scores, static_argnums=0)

    def scores(prompts: Sequence[Any], answers: Sequence[str]) -> np.ndarray:
        ids = [
            (form.cut(prompt, model.length - len(answer) - 1) or prompt) + answer + [form.end]
            for prompt, answer in zip(
                form.encode_prompts(prompts), form.tokenizer.encode_batch(answers), strict=True
            )
        ]
        found = np.empty(len(ids), np.float32)
        for first in range(0, len(ids), ROWS):
            some = [row[-model.length :] for row in ids[first : first + ROWS]]
            width = min(model.length, -(-max(map(len, some)) // MULTIPLE) * MULTIPLE)
            tokens, read = np.zeros((ROWS, 1, width), np.int32), np.zeros((ROWS, 1), np.int32)
            for number, row in enumerate(some):
                tokens[number, 0, : len(row)], read[number] = row, len(row) - 1
            said = np.asarray(score(model, params, tokens, read))
            found[first : first + len(some)] = said[: len(some), 0]
        return found

    return scores


def is_classifier(run: str) -> bool:
    return isinstance(read_config(run_path(run)), Finetune)


def reward_source(run: str, tokenizer: Tokenizer, mesh: jax.sharding.Mesh) -> Source:
    """A run of `instructgpt:reward`.

    Raises:
      ConfigError: it is no reward model, or reads other tokens.
    """
    source = read_source(run, mesh)
    if not source.scalar:
        raise ConfigError(f"reward.run={run} is no reward model: instructgpt:reward makes one")
    if source.tokenizer.digest != tokenizer.digest:
        raise ConfigError(
            f"reward.run={run} reads other tokens (digest {source.tokenizer.digest[:12]}) than the "
            f"policy ({tokenizer.digest[:12]}): start both from one run"
        )
    return source


def named(name: str) -> Callable[[list[Any], list[str]], Any]:
    """The function `module:name`, or `path/to/file.py:name`.

    Raises:
      ConfigError: there is none.
    """
    module_name, colon, function = name.rpartition(":")
    if not colon or not module_name:
        raise ConfigError(f"reward.function={name}: write module:name, or path/to/file.py:name")
    try:
        if module_name.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(module_name).stem, module_name)
            if spec is None or spec.loader is None:
                raise ImportError("no such file")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(module_name)
        found = getattr(module, function)
    except (ImportError, OSError, AttributeError, SyntaxError) as error:
        raise ConfigError(f"reward.function={name} cannot be imported: {error}") from None
    if not callable(found):
        raise ConfigError(f"reward.function={name} is a {type(found).__name__}, not a function")
    return found


def checked(name: str, function: Callable[[list[Any], list[str]], Any]) -> Scorer:
    """The function, its errors told in one line and its answer as [B] float32."""

    def scores(prompts: Sequence[Any], answers: Sequence[str]) -> np.ndarray:
        try:
            said = np.asarray(function(list(prompts), list(answers)), np.float32)
        except Exception as error:  # it is the user's: it may raise anything
            raise DataError(
                f"reward.function={name} raised {type(error).__name__}: "
                f"{' '.join(str(error).split())}"
            ) from None
        if said.shape != (len(answers),):
            raise DataError(
                f"reward.function={name} gave an array of shape {said.shape} for {len(answers)} "
                f"answers: return one number each"
            )
        return said

    return scores


class RolloutScorer:
    """Scores of rollouts, on the devices: a reward model reads tokens, a function reads text."""

    def __init__(self, config: RewardConfig, form: Form, mesh: jax.sharding.Mesh):
        """Raises as `text_scorer`."""
        self.form, self.mesh = form, mesh
        self.model: GptConfig | None = None
        self.params: Any = None
        self.function: Scorer | None = None
        if config.run is not None and not is_classifier(config.run):
            source = reward_source(config.run, form.tokenizer, mesh)
            self.model, self.params, self.identity = source.model, source.params, source.identity
        else:
            self.function = text_scorer(config, form, mesh)
            self.identity = str(config.function or config.run)

    def __call__(self, rollout: Rollout) -> jax.Array:
        """[B] float32"""
        if self.function is None:
            return score_rollout(self.model, self.params, rollout)
        rows = len(rollout.start)
        mine = local_rows(self.mesh, rows)
        pairs = texts(rollout, self.form)[mine]
        said = self.function([prompt for prompt, _ in pairs], [answer for _, answer in pairs])
        return place(said, self.mesh, mine, rows)


@partial(jax.jit, static_argnums=0)
def score_rollout(model: GptConfig, params: Any, rollout: Rollout) -> jax.Array:
    """The reward model's number at the last token of each answer. [B]"""
    return answer_scores(model, params, rollout.tokens[:, None], rollout.last[:, None])[:, 0]


def texts(rollout: Rollout, form: Form) -> list[tuple[Any, str]]:
    """Prompts and answers of a rollout, without the end token."""
    host = jax.tree.map(gathered, rollout)
    lengths = host.mask.sum(axis=1) - host.ended
    found = []
    for row, start, n in zip(host.tokens, host.start, lengths, strict=True):
        said = form.tokenizer.decode(row[start : start + n].tolist())
        found.append((form.decode_prompt(row[:start].tolist()), said))
    return found


def gathered(x: jax.Array) -> np.ndarray:
    """The whole of an array, on every process."""
    if jax.process_count() == 1:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))
