"""Rewards of answers: a trained reward model, or any function of (prompts, answers).

A prompt is a text, or a conversation that ends with the user where the policy converses.

    def brevity(prompts: list[str], answers: list[str]) -> list[float]: ...

is `--set reward.function=mine:brevity` (a module on the path, or `folder/mine.py:brevity`), and
`--set reward.run=runs/reward` the reward model of a run, or a classifier of two classes.

A function is not given the other columns of a prompt's row, as the answer that is right: it reads
the same file as its module is imported, and finds them by the prompt (`RIGHT[prompt.strip()]`).
"""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm.core.config import require, require_at_least_zero
from lm.core.errors import ConfigError, DataError, FunctionError
from lm.core.mesh import everywhere, fetch, local_rows, place
from lm.core.paths import read_summary, run_path
from lm.models.gpt import GptConfig
from lm.models.reward import answer_scores, rescaled, token_values
from lm.rlhf.classifier import classifier_scorer
from lm.rlhf.function import Scorer, checked, file_digest, named
from lm.rlhf.parts import in_parts
from lm.rlhf.rollout import Rollout, seen
from lm.rlhf.seeing_reward import SeeingReward
from lm.rlhf.source import Source, identity, read_source
from lm.rlhf.truncation import TruncationConfig, truncated
from lm.text.interface import Form
from lm.train.finetune import Finetune
from lm.train.saved import read_config, read_run

ROWS = 32  # texts that a reward model reads at once
MULTIPLE = 64  # of the width of these


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Where rewards come from: one of the two."""

    run: str | None = None
    function: str | None = None
    truncation: TruncationConfig = TruncationConfig()
    # answers of the reference that get mean 0 and deviation 1; 0: scores stay as they are
    # (lm-human-preferences: 256)
    normalise: int = 0

    def __post_init__(self) -> None:
        require(
            self.run is None or self.function is None,
            f"reward.run {self.run!r} and reward.function {self.function!r}: set one of them",
        )
        require_at_least_zero(self, "normalise")

    @property
    def given(self) -> bool:
        return self.run is not None or self.function is not None

    def check(self) -> None:
        """Raises ConfigError where the function cannot be imported."""
        if self.function is not None:
            named(self.function)

    def check_unread(self, name: str, *fields: str) -> None:
        """Raises ConfigError where one of these fields, which nobody reads of the scorer that a
        config calls `name`, is set."""
        for field in fields:
            value = getattr(self, field)
            require(
                value == getattr(RewardConfig(), field),
                f"{name}.{field}={value!r} would do nothing: {name} is not read so; leave it as "
                "it was",
            )


def text_scorer(
    config: RewardConfig, form: Form, mesh: jax.sharding.Mesh, worked: bool = False
) -> Scorer:
    """A scorer of texts; `worked` as of `checked`.

    Raises:
      ConfigError: neither is named, or the function cannot be imported.
      CheckpointError: the run is no reward model's.
    """
    if config.function is not None:
        return checked(config.function, named(config.function), worked)
    if config.run is None:
        raise ConfigError(
            "no reward: --set reward.run=RUN (instructgpt:reward makes one) or "
            "--set reward.function=module:name"
        )
    if is_classifier(config.run):
        return read_classifier(config.run, mesh)[0]
    if form.eyes is not None:
        raise ConfigError(f"reward.run={config.run}: texts alone are scored here, without images")
    source = reward_source(config.run, form, mesh)
    return model_scorer(source.model, source.params, form)


def model_scorer(model: GptConfig, params: Any, form: Form) -> Scorer:
    """A reward model as a scorer of texts; it reads an answer's end where the answer has ended."""
    score = jax.jit(answer_scores, static_argnums=0)

    def scores(
        prompts: Sequence[Any], answers: Sequence[str], ended: Sequence[bool] | None = None
    ) -> np.ndarray:
        said = form.tokenizer.encode_batch(answers)
        ends = [True] * len(said) if ended is None else ended
        said = [[*one, form.end] if end else one for one, end in zip(said, ends, strict=True)]
        ids = [
            (form.cut(prompt, model.length - len(one)) or prompt) + one
            for prompt, one in zip(form.encode_prompts(prompts), said, strict=True)
        ]
        found = np.empty(len(ids), np.float32)
        for first in range(0, len(ids), ROWS):
            some = [row[-model.length :] for row in ids[first : first + ROWS]]
            width = min(model.length, -(-max(map(len, some)) // MULTIPLE) * MULTIPLE)
            tokens, read = np.zeros((ROWS, 1, width), np.int32), np.zeros((ROWS, 1), np.int32)
            for number, row in enumerate(some):
                tokens[number, 0, : len(row)], read[number] = row, len(row) - 1
            worth = fetch(score(model, params, tokens, read))
            found[first : first + len(some)] = worth[: len(some), 0]
        return found

    return scores


def is_classifier(run: str) -> bool:
    return isinstance(read_config(run_path(run)), Finetune)


def read_classifier(run: str, mesh: jax.sharding.Mesh) -> tuple[Scorer, str]:
    """A classifier's run as a scorer of texts, and the identity of its parameters."""
    path = run_path(run)
    saved = read_run(path, mesh)
    return classifier_scorer(saved, mesh), identity(path, saved.step)


def reward_source(run: str, form: Form, mesh: jax.sharding.Mesh) -> Source:
    """A reward model's run.

    Raises:
      ConfigError: it is no reward model, reads other tokens, or sees by other eyes.
    """
    source = read_source(run, mesh)
    if not source.scalar:
        raise ConfigError(f"reward.run={run} is no reward model: instructgpt:reward makes one")
    if read_summary(run_path(run) / "summary.json") is None:
        raise ConfigError(
            f"reward.run={run} has not ended, and its scores are shifted at its end: run its "
            "command again"
        )
    if source.tokenizer.digest != form.tokenizer.digest:
        raise ConfigError(
            f"reward.run={run} reads other tokens (digest {source.tokenizer.digest[:12]}) than the "
            f"policy ({form.tokenizer.digest[:12]}): start both from one run"
        )
    config = read_config(run_path(run))
    eyes = config.eyes if isinstance(config, SeeingReward) else None
    if eyes != form.eyes:
        raise ConfigError(
            f"reward.run={run} has the eyes {eyes} and the policy {form.eyes}: start both from one "
            "run that sees (gpt4:reward), or both from one that does not"
        )
    return source


class RolloutScorer:
    """Scores of rollouts, on the devices: a reward model reads tokens, a function reads text."""

    def __init__(
        self, config: RewardConfig, form: Form, mesh: jax.sharding.Mesh, width: int = 0,
        at_once: int | None = None, worked: bool = False,
    ):  # fmt: skip
        """
        Args:
          width: tokens of a prompt and its answer at most.
          at_once: rows that a reward model reads at a time, a part of every rollout; None: all.
          worked: whether a function has before, in the run that goes on.

        Raises:
          ConfigError: as `text_scorer`; or a reward model's context is shorter than `width`.
        """
        self.form, self.mesh, self.config, self.at_once = form, mesh, config, at_once
        self.marks = config.truncation.ids(form.tokenizer)
        self.gain, self.bias = 1.0, 0.0
        self.file = ""  # a digest of the one that a function is in
        self.model: GptConfig | None = None
        self.params: Any = None
        self.function: Scorer | None = None
        if config.run is None:
            self.function = text_scorer(config, form, mesh, worked)
            self.identity, self.file = str(config.function), file_digest(str(config.function))
        elif is_classifier(config.run):
            self.function, self.identity = read_classifier(config.run, mesh)
        else:
            source = reward_source(config.run, form, mesh)
            self.model, self.params, self.identity = source.model, source.params, source.identity
            require(
                width <= self.model.length,
                f"prompt_length + answer_length is {width}, more than the model.length "
                f"{self.model.length} of reward.run={config.run}: set one of them lower",
            )

    def __call__(self, rollout: Rollout) -> jax.Array:
        """[B] float32"""
        cut = self.config.truncation
        read = truncated(rollout, self.marks, cut.after) if self.marks else None
        scores = self.raw(read.rollout if read else rollout)
        return settled(scores, self.gain, self.bias, read and read.marked, cut.missing)

    def raw(self, rollout: Rollout) -> jax.Array:
        """The scores of answers that are read to their end. [B] float32"""
        rows = len(rollout.start)
        if self.function is None:
            parts = rows // (self.at_once or rows)
            return score_rollout(self.model, self.params, rollout, parts=parts)
        mine = local_rows(self.mesh, rows)
        pairs = texts(rollout, self.form)
        if self.config.function:  # the user's; a classifier reads all on the devices of all
            pairs = pairs[mine]
            return place(self.by_function(pairs), self.mesh, mine, rows)
        said = self.function([prompt for prompt, _ in pairs], [answer for _, answer in pairs])
        return place(said[mine], self.mesh, mine, rows)

    def by_function(self, pairs: Sequence[tuple[Any, str]]) -> np.ndarray:
        """The scores of this process's pairs, where the function gives them on every process.

        Raises:
          DataError, FunctionError: it fails on any; the same of them on all.
        """
        assert self.function is not None
        failed: DataError | None = None
        try:
            said = self.function([prompt for prompt, _ in pairs], [answer for _, answer in pairs])
        except DataError as error:
            failed = error
        passes = failed is None or isinstance(failed, FunctionError)
        fine, passes = everywhere(np.array([failed is None, passes])).tolist()
        if not fine:
            why = failed or f"reward.function={self.config.function} fails in another process"
            raise (FunctionError if passes else DataError)(str(why))
        return said

    def normalise(self, rollouts: Iterable[Rollout]) -> tuple[float, float]:
        """Gain and bias by which the answers of these rollouts have mean 0 and deviation 1 from now
        on; answers without a mark are scored like the others here.

        Raises:
          DataError: they all have one score.
        """
        scores = np.concatenate([
            fetch(self.raw(truncated(one, self.marks, self.config.truncation.after).rollout
                              if self.marks else one))
            for one in rollouts
        ])  # fmt: skip
        deviation = float(np.std(scores))
        if not deviation > 0:
            raise DataError(
                f"reward.normalise: {len(scores)} answers of the reference all score {scores[0]}"
            )
        self.gain, self.bias = 1 / deviation, -float(np.mean(scores)) / deviation
        return self.gain, self.bias

    def value(self) -> Any:
        """Parameters of a value function that says these scores; None where no model does."""
        if self.params is None:
            return None
        return rescaled(self.params, self.gain, jnp.float32(self.bias))


@jax.jit
def settled(
    scores: jax.Array, gain: float, bias: float, marked: jax.Array | None, missing: float
) -> jax.Array:
    """Scores as the policy gets them: normalised, and a fixed one where a mark is missing. [B]"""
    scores = gain * scores + bias
    return scores if marked is None else jnp.where(marked, scores, missing)


@partial(jax.jit, static_argnums=0, static_argnames="parts")
def score_rollout(model: GptConfig, params: Any, rollout: Rollout, parts: int = 1) -> jax.Array:
    """The reward model's number at the last token of each answer, of which it reads so many parts
    one after the other. [B]"""

    def read(part: Rollout) -> jax.Array:
        inserted, prefix = seen(part.sight, part.start, part.tokens.shape[1])
        values = token_values(model, params, part.tokens, None, inserted, prefix)
        return jnp.take_along_axis(values, part.last[:, None], axis=1)[:, 0]

    return in_parts(read, rollout, parts)


def texts(rollout: Rollout, form: Form) -> list[tuple[Any, str]]:
    """Prompts and answers of a rollout, without the end token."""
    host = jax.tree.map(fetch, rollout)
    lengths = host.mask.sum(axis=1) - host.ended
    found = []
    for number, (row, start, n) in enumerate(zip(host.tokens, host.start, lengths, strict=True)):
        said = form.tokenizer.decode(row[start : start + n].tolist())
        # of a prompt with images its ids tell too little
        key = row[:start].tolist() if host.sight is None else [host.sight.example[number]]
        found.append((form.decode_prompt(key), said))
    return found
