"""What alignment on prompts with images goes on from: a run that sees.

Its decoder is learned from; its eyes, encoder and connector, stay as they are, so that what they
make of an image is a constant of the prompt (`Sight`), and policy, value function and reward model
read the same. A prompt is an `Example`.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from lm.core.errors import CheckpointError, DataError
from lm.core.mesh import one_device, replicated
from lm.core.paths import run_path
from lm.data.visual import Example
from lm.data.visual.rows import prompt_ids
from lm.models import gpt_vision
from lm.models.gpt_vision import GptVision, GptVisionConfig
from lm.rlhf.rollout import Sight
from lm.rlhf.source import Source, identity
from lm.text.tokenizer import Tokenizer
from lm.train.saved import read_run, require_init
from lm.train.state import abstract_state

BATCH = 64  # prompts whose images are looked at together
EYES = ("vision", "connector")  # of the parameters


@dataclasses.dataclass(frozen=True)
class Eyes:
    """An encoder and a connector."""

    whole: GptVisionConfig
    params: Any  # on a device of this process, whole
    identity: str  # of the parameters and of how they are used

    def see(self, examples: Sequence[Example], room: int) -> tuple[np.ndarray, dict[int, str]]:
        """What the decoder gets of the images of each example, of which it has at most `room`
        [B room*slots D], and of each whose images cannot be read why, by its number."""
        side, found = self.whole.vision.image, []
        wrong: dict[int, str] = {}
        for first in range(0, len(examples), BATCH):
            some = examples[first : first + BATCH]
            images = np.zeros((len(some), room, side, side, 3), np.uint8)
            for row, one in enumerate(some):
                try:
                    for place, picture in enumerate(one.pictures):
                        images[row, place] = picture.pixels(side)
                except DataError as error:
                    wrong[first + row] = str(error)
            with jax.set_mesh(one_device()):  # each process looks at rows of its own
                found.append(np.asarray(look(self.whole, self.params, images)))
        return np.concatenate(found), wrong


@partial(jax.jit, static_argnums=0)
def look(config: GptVisionConfig, eyes: Any, images: jax.Array) -> jax.Array:
    """What the decoder gets of images [B I R R 3]. [B I*slots D]"""
    out: Any = GptVision(config).apply({"params": eyes}, images, method="seen")
    return out


@dataclasses.dataclass(frozen=True)
class SeeingSource(Source):
    """The decoder of a run that sees, and its eyes."""

    eyes: Eyes


def read_seeing(init: str | None, mesh: jax.sharding.Mesh, step: int | None = None) -> SeeingSource:
    """The run `init`, at its newest checkpoint or at that of a step.

    Raises:
      ConfigError: none is named.
      CheckpointError: it has no eyes, or no tokenizer.
    """
    run = run_path(require_init(init, "a run of gpt4"))
    saved = read_run(run, mesh, step)
    whole, params = saved.config.model, saved.params
    if not isinstance(whole, GptVisionConfig) or saved.tokenizer is None:
        raise CheckpointError(f"{init} has not learned to see: name a run such as gpt4:tiny's")
    used = (whole.vision, whole.connector, whole.merge, whole.mask, whole.image_id)
    known = hashlib.sha256((identity(run, saved.step, EYES) + repr(used)).encode()).hexdigest()[:16]
    eyes = Eyes(whole, here({name: params[name] for name in EYES}, mesh), known)
    return SeeingSource(
        whole.text, saved.tokenizer, saved.config.text, params["text"],
        identity(run, saved.step), eyes,
    )  # fmt: skip


def here(params: Any, mesh: jax.sharding.Mesh) -> Any:
    """Parameters of a mesh, whole on the first device of this process."""
    whole = jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(params)
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), whole)


def abstract_sight(whole: GptVisionConfig, places: tuple[int, ...]) -> Sight:
    """Shapes of what is seen in prompts with an image each, whose places are of this shape."""
    struct, rows = jax.ShapeDtypeStruct, places[:1]
    return Sight(
        vectors=struct((*rows, whole.slots, whole.text.width), whole.vision.dtype),
        places=struct(places, bool), example=struct(rows, np.int32),
        whole=whole.mask == "prefix",
    )  # fmt: skip


def abstract_eyes(whole: GptVisionConfig, mesh: jax.sharding.Mesh) -> Any:
    """Shapes of the eyes as they lie in memory: whole on a device."""
    every = abstract_state(partial(gpt_vision.init, whole), mesh)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated(mesh)),
        {name: every[name] for name in EYES},
    )


@dataclasses.dataclass(frozen=True)
class SeenForm:
    """Prompts are examples. Where a prompt is told by ids, its id is the example's number."""

    tokenizer: Tokenizer
    whole: GptVisionConfig
    eyes: str  # identity of those that see the images
    examples: Sequence[Example] = ()
    in_turns: bool = False

    @property
    def end(self) -> int:
        return self.tokenizer.end

    def encode_prompts(self, prompts: Sequence[Any]) -> list[list[int]]:
        """The ids of each, with the slots of its images."""
        tokenizer, image, slots = self.tokenizer, self.whole.image_id, self.whole.slots
        room = 2**31  # whoever asks leaves out what is too long
        return [prompt_ids(one.parts, tokenizer, image, slots, room) for one in prompts]

    def decode_prompt(self, ids: Iterable[int]) -> Example:
        (number,) = ids
        return self.examples[int(number)]

    def cut(self, ids: Sequence[int], length: int) -> list[int]:
        return list(ids) if len(ids) <= length else []

    def spell(self, prompt: Example) -> str:
        return prompt.question + "\n"
