"""Supervised fine-tuning on demonstrations (Ouyang et al. 2022, section 3.5 and appendix C.1)."""

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm.core.config import require, require_fraction, require_positive
from lm.core.errors import ConfigError
from lm.data.batches import TokenBatch
from lm.data.demonstrations import (
    Demonstrated,
    check_answers,
    demonstrations,
    encode_demonstrations,
)
from lm.data.features import TaskRows
from lm.data.mixture import Mixture
from lm.data.tokens import Source as TextSource
from lm.data.tokens import TokenFile, prepare
from lm.losses.language import masked_sum
from lm.models import gpt
from lm.models.adapters import attached
from lm.models.gpt import GptConfig
from lm.nn.dropout import DropoutKeys
from lm.rlhf.scores import RewardConfig
from lm.rlhf.sft_evaluation import SftEvaluation
from lm.rlhf.source import Source
from lm.rlhf.stage import Stage
from lm.text.interface import Form
from lm.train.pretrain import NextToken
from lm.train.session import Session

MIXING = 2  # of the rules by which text is mixed in: a run goes on by those it began with


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sft(Stage):
    """Learns to answer as the demonstrations do."""

    epochs: float = 16.0
    whole_text: bool = False  # the loss counts the prompt's tokens as well
    residual_dropout: float = 0.2  # of this stage, whatever the model's own is
    # share of the rows, and of what is descended, that is pre-training text: 0.1 in the model that
    # PPO starts from
    pretraining_share: float = 0.0
    reward: RewardConfig = RewardConfig()  # chooses the checkpoint, where it is set
    reward_prompts: int = 64  # held-out prompts that are answered for it

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "reward_prompts")
        self.reward.check_unread("reward", "truncation", "normalise")
        share = self.pretraining_share
        require_fraction(self, "pretraining_share")
        require(
            share * self.batch <= self.batch - 1,
            f"pretraining_share {share} of batch {self.batch} leaves less than a row of each step: "
            "set another share or batch",
        )
        require(
            not share or share * self.batch >= 0.5,
            f"pretraining_share {share} of batch {self.batch} leaves more than half of all steps "
            "without text, and those that have some are taken for spikes of the loss: set another "
            "share or batch",
        )
        require(
            not self.reward.given or self.loop.evaluate_every % self.loop.save_every == 0,
            f"loop.evaluate_every {self.loop.evaluate_every} must be a multiple of loop.save_every "
            f"{self.loop.save_every}: the chosen step must have been saved",
        )
        require(
            not self.reward.given or self.loop.sample_tokens > 0,
            f"reward scores answers, and loop.sample_tokens {self.loop.sample_tokens} leaves them "
            "empty: set it to the tokens of an answer",
        )

    def text_before(self, row: int) -> int:
        """Rows of pre-training text among all the rows before one."""
        return round(row * self.pretraining_share)

    @property
    def decoder(self) -> GptConfig:
        return replace(super().decoder, residual_dropout=self.residual_dropout)

    def material(self, form: Form, source: Source | None, mesh: Any) -> "SftMaterial":
        material = self.demonstrated(form)
        if self.pretraining_share:
            if self.text is None:
                raise ConfigError(
                    "pretraining_share: init knows no pre-training text; name some: "
                    "'instructgpt:sft(text=\"FOLDER\")'"
                )
            material.mix(*prepare(self.text, form.tokenizer))
        return material

    def demonstrated(self, form: Form) -> "SftMaterial":
        """What is learned and what is held out, but for pre-training text."""
        reader = demonstrations(self.data.between)
        train, valid = (self.data.read(reader, part) for part in ("train", "valid"))
        check_answers(train + valid, self.data.train)
        encode = partial(encode_demonstrations, prompt_length=self.prompt_length)
        encoded = encode(train, form.tokenizer, self.length, whole=self.whole_text)
        held_out = encode(valid, form.tokenizer, self.length)
        return SftMaterial(
            self, encoded, held_out, TaskRows(encoded.rows, self.seed, encoded.names),
            [item.prompt for item in valid],
        )  # fmt: skip

    def first_params(self, key: jax.Array) -> Any:
        return gpt.init(self.decoder, key)

    def adopted(self, fresh: Any, source: Source) -> Any:
        del fresh
        return source.language_model()

    def objective(self) -> "NextAnswer":
        share = self.pretraining_share
        if not share:
            return NextAnswer(self.decoder)
        having = min(1.0, share * self.batch)  # of the steps: text of theirs counts for the others
        return NextAnswer(self.decoder, {"answers": 1 - share, "text": share / having})

    def abstract_rows(self) -> TokenBatch:
        rows = TokenBatch.abstract(self.batch, self.length)
        if not self.pretraining_share:
            return rows
        return replace(rows, text=jax.ShapeDtypeStruct((self.batch,), np.bool_))

    def evaluation(
        self, material: Any, form: Form, mesh: jax.sharding.Mesh, session: Session
    ) -> SftEvaluation:
        return SftEvaluation(self, material, form, mesh, session)


@dataclasses.dataclass(frozen=True)
class NextAnswer(NextToken):
    """Cross-entropy of each token that counts, under a model that may have adapters; that of text
    apart from that of answers, which have far fewer tokens, where a batch has both."""

    def masks(self, batch: TokenBatch) -> dict[str, jax.Array]:
        mask = jnp.asarray(batch.mask)
        if batch.text is None:
            return {"tokens": mask}
        text = jnp.asarray(batch.text)[..., None]
        return {"answers": mask & ~text, "text": mask & text}

    def counts(self, batch: TokenBatch) -> dict[str, jax.Array]:
        masks = self.masks(batch)
        return {name: jnp.sum(mask, dtype=jnp.float32) for name, mask in masks.items()}

    def sums(
        self, params: Any, batch: TokenBatch, keys: DropoutKeys | None = None
    ) -> dict[str, jax.Array]:
        losses = self.losses(attached(params), batch, keys)
        return {name: masked_sum(losses, mask) for name, mask in self.masks(batch).items()}


class SftMaterial:
    """Rows of demonstrations, and with them rows of pre-training text."""

    def __init__(
        self, config: Sft, train: Any, held_out: Demonstrated, demonstrated: Any,
        prompts: Sequence[Any],
    ):  # fmt: skip
        """
        Args:
          train: what is learned, which says of itself what it is.
          demonstrated: the same as rows of a run, with the `count` of an epoch.
          prompts: to answer, of what is held out.
        """
        self.config, self.train, self.held_out, self.prompts = config, train, held_out, prompts
        self.demonstrated = demonstrated
        self.width = demonstrated(0, 1).tokens.shape[1]
        self.count = demonstrated.count
        self.digest = config.data.fingerprint
        self.text: Mixture | None = None
        self.held_out_text: TokenFile | None = None

    def mix(self, sources: Sequence[TextSource], held_out: TokenFile) -> None:
        """Gives a share of each step to pre-training text; an epoch is one of demonstrations."""
        self.text = Mixture(sources, self.width, self.config.seed)
        self.held_out_text = held_out
        self.count = round(self.count / (1 - self.config.pretraining_share))
        self.digest += f";{MIXING};{self.text.digest[:16]}"

    def __str__(self) -> str:
        share = self.config.pretraining_share
        mixed = f"; {share:.3g} of all rows are pre-training text" if self.text else ""
        return f"{self.train}; held out: {self.held_out}{mixed}"

    def texts(self, first: int, count: int) -> tuple[int, int]:
        """The first row of text among so many rows of the run, and how many there are."""
        before = self.config.text_before(first)
        return before, self.config.text_before(first + count) - before

    def rows(self, first: int, count: int) -> Any:
        before, mixed = self.texts(first, count)
        own = count - mixed
        found: Any = self.demonstrated(first - before, own)
        if self.text is not None:
            text = self.text(before, mixed)
            found = jax.tree.map(lambda *parts: np.concatenate(parts), found, text)
            found = found.replace(text=np.arange(count) >= own)
        return found.replace(rows=np.arange(first, first + count, dtype=np.uint32))

    def origins(self, first: int, count: int) -> list[dict[str, Any]]:
        before, mixed = self.texts(first, count)
        text = self.text.origins(before, mixed) if self.text else []
        found: list[dict[str, Any]] = self.demonstrated.origins(first - before, count - mixed)
        return found + text
