"""Runs whose models read and do not write, for a program or a notebook: BERT, a reward model, and a
classifier of texts.

bert = lm.load("runs/bert")
bert.guesses("the cat sat on the [MASK].")       # [[("mat", 0.4), ...]]
bert.follows("it rained", "they got wet")        # 0.8
reward = lm.load("runs/reward")
reward.scores(["Name a fruit."], ["An apple."])  # [1]
tuned = lm.load("runs/sst2")
tuned.predict(["a joy to watch"])                # ["positive"]
"""

import dataclasses
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm.core.errors import CheckpointError, DataError
from lm.core.mesh import one_device
from lm.data.records import Classification, Regression
from lm.data.tasks import read
from lm.data.tasks.config import resolved
from lm.evals.tasks import of_batches
from lm.models.adapters import ADAPTERS, merged
from lm.rlhf.reward import RewardTraining
from lm.rlhf.scores import model_scorer
from lm.rlhf.seeing_reward import SeeingReward
from lm.studies.loaded import Loaded, checked, load_run, shown
from lm.text.tokenizer import Tokenizer
from lm.train.finetune import Finetune
from lm.train.masked import MaskedPretrain
from lm.train.saved import Saved, read_config, read_run, require_tokenizer

TEXTS = ("classification", "regression")  # the kinds of tasks whose items are texts
ROWS = 32  # that a classifier reads at a time
MASK = "[MASK]"  # as a person writes it, whatever the vocabulary calls it


@dataclasses.dataclass(frozen=True, repr=False)
class Reader:
    """A run, and where it is read from."""

    config: Any
    params: Any
    tokenizer: Tokenizer
    step: int
    digest: str  # of the checkpoint

    def __repr__(self) -> str:
        return shown(self)


@dataclasses.dataclass(frozen=True, repr=False)
class Encoder(Reader):
    """A run of BERT, with the heads it was pre-trained with."""

    config: MaskedPretrain

    def ids(self, first: str, second: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Ids and segments of [CLS] first [SEP], or of [CLS] first [SEP] second [SEP]; `[MASK]` in
        either is a word to guess. [T] int32 each"""
        specials = self.tokenizer.specials
        ids = [specials["cls"], *self.masked(first), specials["sep"]]
        segments = [0] * len(ids)
        if second is not None:
            ids += [*self.masked(second), specials["sep"]]
            segments += [1] * (len(ids) - len(segments))
        return np.array(ids, np.int32), np.array(segments, np.int32)

    def masked(self, text: str) -> list[int]:
        first, *rest = self.tokenizer.encode_batch(text.split(MASK))
        return first + [i for part in rest for i in (self.tokenizer.specials["mask"], *part)]

    def logits(self, ids: Any, segments: Any = None) -> np.ndarray:
        """Float32 scores of the word at each place. [T V] from [T] ids, or [B T V] from [B T]

        Texts of several lengths are filled up with `tokenizer.pad`, which no other place sees.
        """
        return self.applied("logits", ids, segments)

    def hidden(self, ids: Any, segments: Any = None) -> np.ndarray:
        """Hidden states after the last block; those of a text stand for its words, and the first
        for all of it. [T D] or [B T D] of ids as for `logits`"""
        return self.applied("hidden", ids, segments)

    def follows(self, first: str, second: str) -> float:
        """The probability that the second text comes after the first (the pre-training task; of a
        run without that loss it is that of a head that has learned nothing)."""
        ids, segments = self.ids(first, second)
        return float(jax.nn.softmax(jnp.asarray(self.applied("next", ids, segments)))[0])

    def guesses(
        self, text: str, second: str | None = None, count: int = 5
    ) -> list[list[tuple[str, float]]]:
        """For each `[MASK]`, from left to right, its likeliest words with their probabilities.

        Raises:
          DataError: there is no `[MASK]`, or the text is longer than the model's context.
        """
        ids, segments = self.ids(text, second)
        places = np.flatnonzero(ids == self.tokenizer.specials["mask"])
        if not len(places):
            raise DataError(f"no {MASK} in {text!r}: write it where a word is to be guessed")
        scores = self.logits(ids, segments)[places, : self.tokenizer.vocab_size]
        chances = np.asarray(jax.nn.softmax(jnp.asarray(scores), axis=-1))
        return [
            [(self.tokenizer.decode([int(i)]), float(row[i])) for i in np.argsort(-row)[:count]]
            for row in chances
        ]

    def applied(self, what: str, ids: Any, segments: Any) -> np.ndarray:
        tokens = checked(self.config.model, ids)
        kinds = np.zeros_like(tokens) if segments is None else np.asarray(segments, np.int32)
        if kinds.shape != tokens.shape or not 0 <= kinds.min() <= kinds.max() < 2:
            raise DataError(f"segments must be 0 or 1, one for each id: {kinds.shape}")
        rows = [jnp.atleast_2d(each) for each in (tokens, kinds, tokens != self.tokenizer.pad)]
        out = encoded(self.config.model, what, self.params, *rows)
        return np.asarray(out if tokens.ndim == 2 else out[0])


@partial(jax.jit, static_argnums=(0, 1))
def encoded(
    model: Any, what: str, params: Any, tokens: jax.Array, segments: jax.Array, valid: jax.Array
) -> jax.Array:
    module, variables = model.module(), {"params": params}
    if what == "hidden":
        out: Any = module.apply(variables, tokens, segments, valid, method="hidden")
        return out.astype(jnp.float32)
    words, follows = module.apply(variables, tokens, segments, valid)
    return words if what == "logits" else follows


@dataclasses.dataclass(frozen=True)
class Judge:
    """A run of a reward model."""

    config: RewardTraining
    params: Any  # {"model": ..., "head": ...}, and the head of the questions that it learned
    tokenizer: Tokenizer
    step: int
    digest: str  # of the checkpoint

    def __repr__(self) -> str:
        return shown(self)

    def scores(self, prompts: Sequence[Any], answers: Sequence[str]) -> np.ndarray:
        """The reward of each answer, read as in training: [B] float32. Only those to one prompt are
        to be compared. A prompt is a text, or a conversation where the run learned from dialogues.

        Raises:
          DataError: not as many prompts as answers.
        """
        if len(prompts) != len(answers):
            raise DataError(f"{len(prompts)} prompts and {len(answers)} answers: give one for each")
        form = self.config.data.form(self.tokenizer)
        score = model_scorer(self.config.decoder, self.params, form)
        return score(prompts, answers, [self.config.end_token] * len(answers))


@dataclasses.dataclass(frozen=True, repr=False)
class Tuned(Reader):
    """A run that was fine-tuned to name the class of a text or of two, or to give it a number."""

    config: Finetune

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The classes by their index; () where it gives a number. Raises DataError where they are
        those of its training rows, and these are not there."""
        form = resolved(self.config.data)
        return read(self.config.data).labels if form.learned_labels else form.labels

    def predict(self, texts: Sequence[str | tuple[str, str]]) -> list[Any]:
        """The class of each text, or of each pair of texts, or its number."""
        scores = self.scores(texts)
        if self.config.data.form().kind == "regression":
            return scores.tolist()
        return [self.labels[index] for index in scores.argmax(-1)]

    def scores(self, texts: Sequence[str | tuple[str, str]]) -> np.ndarray:
        """What the head says of each: float32 scores of the classes [N C], or numbers [N].

        Raises:
          DataError: one text in place of several, or none.
        """
        if isinstance(texts, str) or not len(texts):
            raise DataError(f"texts must be one or more in a list, got {texts!r}")
        pairs = [(one, None) if isinstance(one, str) else one for one in texts]
        form = self.config.data.form()
        kind: Any = Regression if form.kind == "regression" else Classification
        records = [kind(id=str(n), text=a, pair=b) for n, (a, b) in enumerate(pairs)]
        encoded = self.config.encoded(records, form.symmetric, self.tokenizer)
        mesh = one_device()
        with jax.set_mesh(mesh):
            said = np.concatenate(of_batches(self.head, self.params, encoded.rows, mesh, ROWS))
        return said[: len(texts), 0] if form.kind == "regression" else said[: len(texts)]

    @cached_property
    def head(self) -> Any:
        return jax.jit(self.config.objective().scores)


READERS = {MaskedPretrain: Encoder, RewardTraining: Judge, Finetune: Tuned}


def load_any(run: Path, step: int | None = None) -> Loaded | Encoder | Judge | Tuned:
    """The newest usable checkpoint of a run, or that of a step, on one device.

    Raises:
      CheckpointError: no run, no checkpoint, none that is whole, or a model of another kind.
    """
    config = read_config(run)
    kind = type(config)
    if issubclass(kind, SeeingReward):
        raise CheckpointError(f"{run} judges answers about images: lm.load reads judges of text")
    if issubclass(kind, Finetune) and config.data.form().kind not in TEXTS:
        raise CheckpointError(
            f"{run} answers a {config.data.form().kind} task: ask it by python -m launch.evaluate "
            f"--workdir={run} --file=FILE"
        )
    if not issubclass(kind, tuple(READERS)):
        return load_run(run, step)
    saved: Saved = read_run(run, one_device(), step)
    tokenizer = require_tokenizer(saved.tokenizer, run)
    params = jax.jit(merged)(saved.params) if ADAPTERS in saved.params else saved.params
    made: Any = next(made for known, made in READERS.items() if issubclass(kind, known))
    loaded: Encoder | Judge | Tuned = made(
        saved.config, params, tokenizer, saved.step, saved.digest
    )
    return loaded
