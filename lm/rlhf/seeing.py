"""PPO on prompts with images, by the code that teaches a policy text.

The policy is the decoder of a run that sees; its eyes stay as they are, so that what they make of
an image is a constant of the prompt (`Sight`). A reward function is given examples as its prompts:

    def right(prompts: list[Example], answers: list[str]) -> list[float]: ...
"""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from lm.core.config import require
from lm.core.errors import CheckpointError, ConfigError
from lm.core.mesh import local_rows, place
from lm.core.paths import run_path
from lm.data.features import TaskRows
from lm.data.visual import Example, VisualConfig
from lm.data.visual.rows import encode
from lm.evals.visual import score
from lm.models.gpt_vision import GptVision, GptVisionConfig
from lm.rlhf.material import PpoMaterial
from lm.rlhf.ppo import Ppo
from lm.rlhf.rollout import Prompts, Sight, encode_prompts
from lm.rlhf.source import Source, identity
from lm.text.interface import Form
from lm.text.tokenizer import Tokenizer
from lm.train.saved import Saved, read_run

BATCH = 64  # prompts whose images are looked at together, of what is held out


def right(prompts: Sequence[Example], answers: Sequence[str]) -> list[float]:
    """A reward that needs no people: 1 for an answer that is right, by the example's own rule."""
    return [score(answer, one) for answer, one in zip(answers, prompts, strict=True)]


@dataclasses.dataclass(frozen=True)
class SeeingSource(Source):
    """The decoder of a run that sees, and its eyes."""

    whole: GptVisionConfig
    eyes: Any  # parameters of encoder and connector


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeeingPpo(Ppo):
    """Teaches a policy that sees what a reward prefers of its answers."""

    images: VisualConfig = VisualConfig()  # the questions; `data` means nothing here

    def seer(self, mesh: jax.sharding.Mesh) -> Saved:
        """The run whose eyes the policy has. Raises CheckpointError where it has none."""
        if self.init is None:
            raise ConfigError("init is not set: --set init=RUN names a run of gpt4")
        saved = read_run(run_path(self.init), mesh, self.init_step)
        if not isinstance(saved.config.model, GptVisionConfig) or saved.tokenizer is None:
            raise CheckpointError(f"{self.init} does not see: name a run of gpt4")
        return saved

    def source(self, mesh: jax.sharding.Mesh) -> SeeingSource:
        saved = self.seer(mesh)
        assert saved.tokenizer is not None
        whole, params = saved.config.model, saved.params
        return SeeingSource(
            whole.text, saved.tokenizer, saved.config.text, params["text"],
            identity(run_path(str(self.init)), saved.step), whole,
            {name: params[name] for name in ("vision", "connector")},
        )  # fmt: skip

    def form(self, source: Source) -> Form:
        examples = [one for part in ("train", "valid") for one in self.images.examples(part)]
        return SeenForm(source.tokenizer, examples)

    def material(self, form: Form, source: Source) -> PpoMaterial:
        assert isinstance(source, SeeingSource) and isinstance(form, SeenForm)
        require(self.update.gamma == 0, "update.gamma: text beside images is not mixed; set it 0")
        return SeenMaterial(self, form, source)


@dataclasses.dataclass(frozen=True)
class SeenForm:
    """Prompts are examples, and a prompt's id is the example's number."""

    tokenizer: Tokenizer
    examples: Sequence[Example]
    in_turns: bool = False

    @property
    def end(self) -> int:
        return self.tokenizer.end

    def encode_prompts(self, prompts: Sequence[Any]) -> list[list[int]]:
        raise ConfigError("prompts with images have no text alone: name reward.function")

    def decode_prompt(self, ids: Iterable[int]) -> Example:
        (number,) = ids
        return self.examples[int(number)]

    def cut(self, ids: Sequence[int], length: int) -> list[int]:
        return list(ids) if len(ids) <= length else []

    def spell(self, prompt: Example) -> str:
        return prompt.question + "\n"


class SeenMaterial(PpoMaterial):
    """Questions about images, each with what the eyes make of them."""

    def __init__(self, config: SeeingPpo, form: SeenForm, source: SeeingSource):
        self.batch, self.form, self.held_out, self.text, self.note = (
            config.batch,
            form,
            None,
            None,
            "",
        )
        self.whole, self.eyes, self.examples = source.whole, source.eyes, form.examples
        self.room = max(len(one.pictures) for one in form.examples)
        count, width = len(config.images.examples("train")), config.prompt_length
        learned, self.long = self.encoded(range(count), width)
        valid, _ = self.encoded(range(count, len(form.examples)), width)
        self.rows = TaskRows(learned, config.seed)
        self.valid = self.looked_at(valid)
        self.digest = "-".join(config.images.sets) + f"-{count}"

    def encoded(self, numbers: Sequence[int], width: int) -> tuple[Prompts, int]:
        """Prompts of these examples without what is seen, and how many are left out."""
        whole, tokenizer = self.whole, self.form.tokenizer
        some = encode([self.examples[n] for n in numbers], tokenizer, whole.image_id, whole.slots)
        prompts, long = encode_prompts([one.prompt for one in some], width)
        kept = [n for n, one in zip(numbers, some, strict=True) if len(one.prompt) <= width]
        sight = Sight(
            vectors=None, places=prompts.tokens == whole.image_id,
            example=np.array(kept, np.int32), whole=whole.mask == "prefix",
        )  # fmt: skip
        return dataclasses.replace(prompts, sight=sight), long

    def prompts(self, step: int, mesh: jax.sharding.Mesh) -> Prompts:
        mine = local_rows(mesh, self.batch)
        host = self.rows(step * self.batch + mine.start, mine.stop - mine.start)
        return place(self.looked_at(host), mesh, mine, self.batch)

    def looked_at(self, prompts: Prompts) -> Prompts:
        """The prompts with the vectors of their images."""
        assert prompts.sight is not None
        found = []
        for first in range(0, len(prompts.start), BATCH):
            some = prompts.sight.example[first : first + BATCH]
            found.append(np.asarray(look(self.whole, self.eyes, self.images(some))))
        sight = dataclasses.replace(prompts.sight, vectors=np.concatenate(found))
        return dataclasses.replace(prompts, sight=sight)

    def images(self, numbers: np.ndarray) -> np.ndarray:
        """[B I R R 3]; raises DataError where one cannot be read."""
        side = self.whole.vision.image
        found = np.zeros((len(numbers), self.room, side, side, 3), np.uint8)
        for row, number in enumerate(numbers):
            for place_, picture in enumerate(self.examples[number].pictures):
                found[row, place_] = picture.pixels(side)
        return found


@partial(jax.jit, static_argnums=0)
def look(config: GptVisionConfig, eyes: Any, images: jax.Array) -> jax.Array:
    """What the decoder gets of images [B I R R 3]. [B I*slots D]"""
    out: Any = GptVision(config).apply({"params": eyes}, images, method="seen")
    return out
