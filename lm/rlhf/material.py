"""What PPO reads: prompts to answer, and pre-training text beside them."""

from typing import Any

import jax
import numpy as np

from lm.core.errors import ConfigError, DataError
from lm.core.mesh import local_rows, place
from lm.data.batches import TokenBatch
from lm.data.features import TaskRows
from lm.data.held_out import in_turn
from lm.data.mixture import Mixture
from lm.data.prompts import PARTS, RowsConfig
from lm.data.tokens import TextConfig, TokenFile, prepare
from lm.rlhf.rollout import Prompts, encode_prompts
from lm.text.interface import Form


class PpoMaterial:
    """Rows of an update, as a pure function of its number."""

    def __init__(
        self, config: RowsConfig, form: Form, *, batch: int, prompt_length: int,
        width: int, text: TextConfig | None, text_rows: int, seed: int,
    ):  # fmt: skip
        """
        Args:
          batch: prompts of an update.
          width: tokens of a row of text.
          text_rows: of each prompt; 0: none is learned from, its loss is measured alone.
        """
        self.batch, self.form = batch, form
        train, valid = (config.prompt_ids(part, form, prompt_length, seed) for part in PARTS)
        learned, self.long = encode_prompts(train, prompt_length)
        self.valid, self.valid_long = encode_prompts(in_turn(valid), prompt_length)
        self.rows = TaskRows(learned, seed)
        self.digest = config.fingerprint + config.drawn(seed)
        self.read(text, text_rows, width, seed)

    def read(self, text: TextConfig | None, rows: int, width: int, seed: int) -> None:
        """Pre-training text: to learn from, `rows` of each prompt, and what is held out of it."""
        self.text: Mixture | None = None
        self.held_out: TokenFile | None = None
        self.text_each, self.note = rows, ""
        if rows and text is None:
            raise ConfigError(
                "update.gamma: init knows no pre-training text; name some: "
                "'instructgpt:ppo_ptx(text=\"FOLDER\")' or 'gpt4:ppo(text=\"FOLDER\")'"
            )
        if text is not None:
            try:
                sources, self.held_out = prepare(text, self.form.tokenizer)
            except DataError as error:
                if rows:
                    raise
                self.note = f"; the loss on pre-training text is not measured: {error}"
        if rows:
            self.text = Mixture(sources, width, seed)
            self.digest += self.text.digest[:16]

    def __str__(self) -> str:
        learned, held_out = (
            f", {long} longer than prompt_length left out" if long else ""
            for long in (self.long, self.valid_long)
        )
        held_out = f"{len(self.valid.mask)} held out{held_out}"
        return f"{self.rows.count} prompts{learned}; {held_out}{self.note}"

    def prompts(self, step: int, mesh: jax.sharding.Mesh) -> Prompts:
        """The prompts of an update, on the devices.

        They are numbered as if all updates had been of this batch: of a run that goes on with
        another, prompts are passed over, or read again.
        """
        mine = local_rows(mesh, self.batch)
        host = self.rows(step * self.batch + mine.start, mine.stop - mine.start)
        return place(host, mesh, mine, self.batch)

    def origins(self, step: int) -> list[dict[str, Any]]:
        """What an update reads: its prompts, by their numbers among those kept, and its text."""
        found = self.rows.origins(step * self.batch, self.batch)
        if self.text is None:
            return found
        each = self.batch * self.text_each
        return found + self.text.origins(step * each, each)

    def text_rows(self, step: int, mesh: jax.sharding.Mesh) -> TokenBatch | None:
        """Pre-training rows of an update [B text_rows T], on the devices; None for plain PPO."""
        if self.text is None:
            return None
        each, mine = self.text_each, local_rows(mesh, self.batch)
        first = (step * self.batch + mine.start) * each
        host = self.text(first, (mine.stop - mine.start) * each)
        host = jax.tree.map(lambda leaf: np.reshape(leaf, (-1, each, *leaf.shape[1:])), host)
        return place(host, mesh, mine, self.batch)
