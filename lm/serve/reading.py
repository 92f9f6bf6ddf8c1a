"""How a prompt is read: at once where it is short, else in steps between which others go on.

A step is an image, or a piece of the text. One prompt at a time is read in several steps.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm.core.config import require
from lm.models.gpt import decoding_params
from lm.models.gpt_vision import GptVisionConfig
from lm.serve.prefill import Model, Scratch, admit, decoder, look, read_piece, seat
from lm.serve.programs import Ask, Likelihood, Slots
from lm.serve.request import NOTHING, Asked, Likely

SHORTEST = 64  # prompts are read in lengths from this on, each twice the last
PIECE = 256  # tokens that are read between two steps


@dataclasses.dataclass
class Reading:
    """A prompt that is being read."""

    asked: Asked
    slot: int
    ask: Ask
    looked: int = 0  # images so far
    at: int = 0  # tokens so far
    done: bool = False
    found: list[Likelihood] = dataclasses.field(default_factory=list)

    def likely(self) -> Likely | None:
        """How likely the prompt's tokens were, from the second on, where that was asked."""
        if not self.asked.scored:
            return None
        whole = jax.tree.map(
            lambda *parts: np.concatenate([np.asarray(part) for part in parts]), *self.found
        )
        return whole.rows(0, len(self.asked.prompt) - 1)


class Reader:
    """Reads prompts of up to `length` tokens; `piece` of them at most in one step.

    A model of mask=prefix reads every prompt at once: each of its tokens sees all.
    """

    def __init__(self, config: Model, params: Any, vocab: int, length: int, piece: int = PIECE):
        require(piece >= 1, f"piece must be at least 1, got {piece}")
        self.model, self.vocab, self.length = config, vocab, length
        self.config = decoder(config)
        sight = config if isinstance(config, GptVisionConfig) else None
        self.sight, self.eyes = sight, None
        text = params
        if sight is not None:
            text = params["text"]
            self.eyes = {name: params[name] for name in ("vision", "connector")}
        self.params = jax.jit(functools.partial(decoding_params, self.config))(text)
        whole = sight is not None and sight.mask == "prefix"
        self.piece = length if whole else min(piece, length)
        self.room = -(-length // self.piece) * self.piece
        self.blocks = doubling(SHORTEST, self.piece)
        self.reaches = doubling(2 * self.piece, self.room) if length > self.piece else []
        self.images = 0
        if sight is not None:
            self.images = (length - 1) // sight.slots
            require(
                self.images >= 1,
                f"length must be at least {sight.slots + 1}, got {length}: an image takes "
                f"{sight.slots} tokens",
            )
        self.reset()

    def reset(self) -> None:
        """Forgets what is half read."""
        self._scratch = None
        if self.reaches:
            self._scratch = jax.jit(lambda: Scratch.empty(self.config, self.room))()
        self._seen = None
        if self.sight is not None:
            shape = self.images * self.sight.slots, self.config.width
            self._seen = jnp.zeros(shape, self.config.dtype)

    def check(self, asked: Asked) -> None:
        """ConfigError where a prompt has other images than places for them."""
        images = len(asked.images)
        if self.sight is None:
            require(images == 0, "this model reads text alone: leave the images out")
            return
        slots = list(asked.prompt).count(self.sight.image_id)
        require(
            slots == images * self.sight.slots,
            f"the prompt has {slots} places of images for {images} images of {self.sight.slots}: "
            f"id {self.sight.image_id} stands for images alone",
        )

    def several(self, asked: Asked) -> bool:
        """Whether it is read in more than one step."""
        return len(asked.images) > 0 or len(asked.prompt) > self.piece

    def warm(self, slots: Slots) -> Slots:
        """Compiles every program."""
        none = Ask.of(NOTHING, self.vocab)
        zero, no = np.int32(0), np.bool_(False)
        for block in self.blocks:
            tokens = np.zeros((1, block), np.int32)
            slots, _ = admit(
                self.model, self.params, slots, zero, tokens, np.int32(1), zero, none, no,
                self._seen,
            )  # fmt: skip
        tokens = np.zeros((1, self.piece), np.int32)
        for reach in self.reaches:
            self._scratch, _ = read_piece(
                self.model, self.params, self.vocab, self._scratch, tokens, tokens[0], zero,
                np.int32(1), no, self._seen, zero, reach,
            )  # fmt: skip
        if self._scratch is not None:
            one, prompt = np.int32(1), np.zeros(self.room, np.int32)
            slots = seat(self.config, self.params, slots, zero, self._scratch, prompt, one, none)
        if self.sight is not None:
            side = self.sight.vision.image
            self._look(np.zeros((side, side, 3), np.uint8), 0)
        return slots

    def _look(self, image: np.ndarray, number: int) -> None:
        assert self.sight is not None
        self._seen = look(self.sight, self.eyes, self._seen, image, np.int32(number))

    def advance(self, reading: Reading, slots: Slots) -> Slots:
        """Takes the next step of a prompt: an image, a piece, or all of it."""
        asked = reading.asked
        if reading.looked < len(asked.images):
            self._look(asked.images[reading.looked], reading.looked)
            reading.looked += 1
        elif len(asked.prompt) <= self.piece:
            slots = self._whole(reading, slots)
        else:
            slots = self._piece(reading, slots)
        return slots

    def _whole(self, reading: Reading, slots: Slots) -> Slots:
        asked = reading.asked
        size = len(asked.prompt)
        tokens = np.zeros((1, next(b for b in self.blocks if b >= size)), np.int32)
        tokens[0, :size] = asked.prompt
        slots, found = admit(
            self.model, self.params, slots, np.int32(reading.slot), tokens, np.int32(size),
            np.int32(asked.prefix), reading.ask, np.bool_(asked.scored), self._seen,
        )  # fmt: skip
        reading.found.append(found)
        reading.done = True
        return slots

    def _piece(self, reading: Reading, slots: Slots) -> Slots:
        asked, start = reading.asked, reading.at
        prompt = np.asarray(asked.prompt, np.int32)
        size = min(self.piece, len(prompt) - start)
        tokens, targets = np.zeros((1, self.piece), np.int32), np.zeros(self.piece, np.int32)
        tokens[0, :size] = prompt[start : start + size]
        following = prompt[start + 1 : start + 1 + self.piece]
        targets[: len(following)] = following
        reach = next(r for r in self.reaches if r >= start + self.piece)
        before = 0
        if self.sight is not None:
            before = int(np.count_nonzero(prompt[:start] == self.sight.image_id))
        self._scratch, found = read_piece(
            self.model, self.params, self.vocab, self._scratch, tokens, targets,
            np.int32(start), np.int32(size), np.bool_(asked.scored), self._seen,
            np.int32(before), reach,
        )  # fmt: skip
        reading.found.append(found)
        reading.at += size
        if reading.at == len(prompt):
            whole = np.pad(prompt, (0, self.room - len(prompt)))
            slots = seat(
                self.config, self.params, slots, np.int32(reading.slot), self._scratch, whole,
                np.int32(len(prompt)), reading.ask,
            )  # fmt: skip
            reading.done = True
        return slots


def doubling(first: int, last: int) -> list[int]:
    """`first`, twice that, and so on, up to `last`, which is always there."""
    sizes = []
    while first < last:
        sizes.append(first)
        first *= 2
    return [*sizes, last]
