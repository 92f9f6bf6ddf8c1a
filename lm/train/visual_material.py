"""What a decoder that sees learns from: questions about images, and text beside them."""

import dataclasses
from typing import Any

import jax
import numpy as np

from lm.core.errors import ConfigError
from lm.core.mesh import local_rows
from lm.data.batches import TokenBatch
from lm.data.mixture import Mixture
from lm.data.sources import tell_same
from lm.data.tokens import prepare
from lm.data.visual.example import Said, Stored, opened, unfolded
from lm.data.visual.rows import VisionBatch, VisualRows, shifted
from lm.text.tokenizer import Tokenizer


class Material:
    """Examples to learn from and to measure on, and text beside them."""

    def __init__(self, config: Any, tokenizer: Tokenizer, mesh: jax.sharding.Mesh):
        model = config.model
        self.batch_size, self.mine = config.batch, local_rows(mesh, config.batch)
        self.own = config.batch - config.text_rows
        self.shift, self.seed = config.data.shift, config.seed

        def rows_of(examples: Any, *, every: bool = False) -> VisualRows:
            return VisualRows(
                examples, tokenizer, image_id=model.image_id, slots=model.slots,
                side=model.vision.image, length=config.length, seed=config.seed, every=every,
            )  # fmt: skip

        examples, every = config.data.examples("train"), model.mask == "causal"
        if not every:  # a prompt that sees itself sees the answers in it: each has a row of its own
            examples = [turn for one in examples for turn in unfolded(one)]
        if not model.dialogue and any(isinstance(p, Said) for one in examples for p in one.parts):
            raise ConfigError("conversations are learned: set model.dialogue=True")
        valid = config.data.examples("valid")
        for name in config.data.sets:
            tell_same(name, config.data.valid)
        pictures = [picture for one in (*examples, *valid) for picture in one.pictures]
        for where in {picture.where for picture in pictures if isinstance(picture, Stored)}:
            opened(where)  # an archive that is not there, or damaged, is no row's fault
        self.rows = rows_of(examples, every=every)
        self.held_out, self.valid = rows_of(valid), valid
        self.digest = self.rows.digest
        self.text: Mixture | None = None
        self.held_out_text: Any = None
        if config.text_rows and config.text is None:
            raise ConfigError(
                "text_rows: no text is known: --experiment='gpt4:tune(text=\"FOLDER\")' names some"
            )
        if config.text is not None:
            sources, self.held_out_text = prepare(config.text, tokenizer)
            if config.text_rows:
                self.text = Mixture(sources, self.rows.width, config.seed)
                self.digest += self.text.digest[:16]

    def __str__(self) -> str:
        left = f", {self.rows.long} too long and left out" if self.rows.long else ""
        mixed = f"; {self.batch_size - self.own} rows of a step are text" if self.text else ""
        return f"{self.rows.count} examples{left}; held out: {len(self.valid)}{mixed}"

    @property
    def images(self) -> float:
        """Images of a row of a step, on average: rows of text have none."""
        return float(self.rows.images.mean()) * self.own / self.batch_size

    def batch(self, step: int) -> tuple[VisionBatch, list[str]]:
        """This process's rows of a step, text last; and what is wrong with images left out.

        They are numbered as if all steps had been of this batch: of a run that goes on with
        another, rows are passed over, or read again.
        """
        mine, own = self.mine, self.own
        seen = slice(min(mine.start, own), min(mine.stop, own))
        found, wrong = self.rows.batch(step * own, own, seen)
        if self.text is not None:
            read = slice(max(mine.start, own) - own, max(mine.stop, own) - own)
            rows = self.text(step * (self.batch_size - own) + read.start, read.stop - read.start)
            found = jax.tree.map(
                lambda *parts: np.concatenate(parts), found, unseen(rows, found.images.shape[1:])
            )
        first = step * self.batch_size
        numbers = np.arange(first + mine.start, first + mine.stop).astype(np.uint32)
        images = found.images
        if self.shift:
            images = shifted(images, numbers, self.shift, self.seed)
        return dataclasses.replace(found, rows=numbers, images=images), wrong

    def origins(self, step: int) -> list[dict[str, Any]]:
        """Of each row of a step its example, by number among those kept, or its text."""
        first, text = step * self.own, self.batch_size - self.own
        index = self.rows.index(first, self.own).tolist()
        found = [{"row": row, "item": item} for row, item in enumerate(index, first)]
        return found + (self.text.origins(step * text, text) if self.text else [])


def unseen(text: TokenBatch, images: tuple[int, ...]) -> VisionBatch:
    """Rows of text with room for images [I R R 3], all black, and no prompt."""
    count = len(text.tokens)
    return VisionBatch(
        tokens=text.tokens, targets=text.targets, mask=text.mask,
        prefix=np.zeros(count, np.int32), images=np.zeros((count, *images), np.uint8),
        rows=text.rows,
    )  # fmt: skip
