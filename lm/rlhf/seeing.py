"""PPO on prompts with images, by the code that teaches a policy text.

The policy is the decoder of a run that sees. A reward function is given examples as its prompts:

    def right(prompts: list[Example], answers: list[str]) -> list[float]: ...

and a reward model (`lm.rlhf.seeing_reward`) what the policy's own eyes see.
"""

import dataclasses
import hashlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from lm.core.config import require
from lm.core.errors import DataError
from lm.core.mesh import local_rows, place
from lm.data.features import TaskRows, take
from lm.data.prompts import RowsConfig
from lm.data.visual import Example, VisualConfig
from lm.data.visual.unread import Unread
from lm.evals.visual import score
from lm.models.gpt import GptConfig
from lm.models.gpt_vision import GptVisionConfig
from lm.rlhf.eyes import SeeingSource, SeenForm, abstract_eyes, abstract_sight, read_seeing
from lm.rlhf.material import PpoMaterial
from lm.rlhf.ppo import Ppo
from lm.rlhf.rollout import Prompts, Sight, encode_prompts
from lm.rlhf.source import Source
from lm.text.interface import Form


def right(prompts: Sequence[Example], answers: Sequence[str]) -> list[float]:
    """A reward that needs no people: 1 for an answer that is right, by the example's own rule."""
    return [score(answer, one) for answer, one in zip(answers, prompts, strict=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeeingPpo(Ppo):
    """Teaches a policy that sees what a reward prefers of its answers."""

    images: VisualConfig = VisualConfig()  # the questions, in the place of `data`
    sees: GptVisionConfig | None = None  # the whole model of `init`, once the run has begun

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.data == RowsConfig(),
            "data is of prompts of text, which no policy that sees is asked: set images",
        )

    def source(self, mesh: jax.sharding.Mesh) -> SeeingSource:
        return read_seeing(self.init, mesh, self.init_step)

    def form(self, source: Source) -> Form:
        assert isinstance(source, SeeingSource)
        examples = [one for part in ("train", "valid") for one in self.images.examples(part)]
        return SeenForm(source.tokenizer, source.eyes.whole, source.eyes.identity, examples)

    def resolved(self, source: Any, reward_model: GptConfig | None) -> Any:
        sees = source.eyes.whole if isinstance(source, SeeingSource) else source.sees
        return dataclasses.replace(super().resolved(source, reward_model), sees=sees)

    def abstract_rows(self) -> Prompts:
        rows = super().abstract_rows()
        if self.sees is None:
            return rows
        sight = abstract_sight(self.sees, (self.batch, self.prompt_length))
        return dataclasses.replace(rows, sight=sight)

    def beside(self, mesh: jax.sharding.Mesh) -> dict[str, Any]:
        eyes = {"eyes": abstract_eyes(self.sees, mesh)} if self.sees else {}
        return super().beside(mesh) | eyes

    def material(self, form: Form, source: Source) -> PpoMaterial:
        assert isinstance(source, SeeingSource) and isinstance(form, SeenForm)
        return SeenMaterial(self, form, source)


class SeenMaterial(PpoMaterial):
    """Questions about images, each with what the eyes make of them; text beside them has none."""

    def __init__(self, config: SeeingPpo, form: SeenForm, source: SeeingSource):
        self.batch, self.form = config.batch, form
        self.unread = Unread()
        self.eyes, self.examples = source.eyes, form.examples
        self.room = max(len(one.pictures) for one in form.examples)
        count, width = len(config.images.examples("train")), config.prompt_length
        learned, self.long = self.encoded(range(count), width)
        valid, self.valid_long = self.encoded(range(count, len(form.examples)), width)
        self.rows = TaskRows(learned, config.seed)
        self.valid, wrong = self.looked_at(valid)
        if wrong:  # what is held out is told of those that can be read
            self.valid = take(self.valid, readable(len(valid.mask), wrong))
        told = repr([(one.parts, one.answers) for one in form.examples])
        self.digest = hashlib.sha256(told.encode()).hexdigest()
        self.read(config.text, config.text_rows, config.width, config.seed)

    def __str__(self) -> str:
        return f"{super().__str__()}{self.unread}"

    def encoded(self, numbers: Sequence[int], width: int) -> tuple[Prompts, int]:
        """Prompts of these examples without what is seen, and how many are left out."""
        whole = self.eyes.whole
        some = self.form.encode_prompts([self.examples[n] for n in numbers])
        prompts, long = encode_prompts(some, width)
        kept = [n for n, ids in zip(numbers, some, strict=True) if len(ids) <= width]
        sight = Sight(
            vectors=None, places=prompts.tokens == whole.image_id,
            example=np.array(kept, np.int32), whole=whole.mask == "prefix",
        )  # fmt: skip
        return dataclasses.replace(prompts, sight=sight), long

    def prompts(self, step: int, mesh: jax.sharding.Mesh) -> Prompts:
        mine = local_rows(mesh, self.batch)
        host = self.rows(step * self.batch + mine.start, mine.stop - mine.start)
        seen, wrong = self.looked_at(host)
        if wrong:  # others are answered in their places, with draws of their own
            index, kept = np.arange(len(host.rows)), readable(len(host.rows), wrong)
            index[list(wrong)] = np.resize(kept, len(wrong))
            seen = take(seen, index).replace(rows=host.rows)
        return place(seen, mesh, mine, self.batch)

    def looked_at(self, prompts: Prompts) -> tuple[Prompts, dict[int, str]]:
        """The prompts with the vectors of their images, and of those that cannot be read why.

        Raises:
          DataError: they are more than a few.
        """
        assert prompts.sight is not None
        numbers = prompts.sight.example
        vectors, wrong = self.eyes.see([self.examples[n] for n in numbers], self.room)
        for line in self.unread.add(wrong.values(), len(numbers)):
            print(line, file=sys.stderr)
        sight = dataclasses.replace(prompts.sight, vectors=vectors)
        return dataclasses.replace(prompts, sight=sight), wrong


def readable(count: int, wrong: Mapping[int, str]) -> np.ndarray:
    """Those of so many rows with which nothing is wrong. [kept]

    Raises:
      DataError: there are none.
    """
    kept = np.array([row for row in range(count) if row not in wrong], np.int64)
    if not len(kept):
        raise DataError(
            f"none of {count} prompts has images that can be read: {next(iter(wrong.values()))}"
        )
    return kept
