"""Answers to prompts in which images stand: the images are read once, with the prompt."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm.core.errors import DataError
from lm.core.mesh import fetch
from lm.data.visual.rows import BUCKETS
from lm.decode.generate import (
    Decoding,
    Generator,
    check_prompts,
    common_block,
    extend,
    read_prompts,
    rounded,
)
from lm.decode.sampling import SamplingConfig
from lm.models.gpt import Inserted
from lm.models.gpt_vision import GptVision, GptVisionConfig


@functools.partial(jax.jit, static_argnames=("config", "slots"))
def read_seen(
    config: GptVisionConfig, eyes: Any, text: Any, tokens: jax.Array, padding: jax.Array,
    images: jax.Array, slots: int,
) -> Decoding:  # fmt: skip
    """Reads prompts [B P] that begin with `padding` [B] empty places, and their images
    [B I R R 3], into a cache of `slots`."""
    vectors: Any = GptVision(config).apply({"params": eyes}, images, method="seen")
    inserted = None
    if vectors.shape[1]:
        inserted = Inserted(vectors=vectors, places=tokens == config.image_id)
    prefix = jnp.ones(tokens.shape, bool) if config.mask == "prefix" else None
    return read_prompts(config.text, text, tokens, padding, slots, inserted, prefix)


class ImageGenerator:
    """Continues prompts with images, with one model."""

    def __init__(
        self, config: GptVisionConfig, params: Any, end: int | None, vocab: int | None = None
    ):
        """`params` as trained; `end`: the token that ends a text; `vocab`: ids that are tokens, of
        the model's rows all by default: an image's place may be the row after them."""
        self.config, self.end = config, end
        self.text = Generator(config.text, params["text"], end, vocab)
        self.eyes = {name: params[name] for name in ("vision", "connector")}

    def stream(
        self,
        prompts: Sequence[Sequence[int]],  # with `config.slots` ids `config.image_id` an image
        images: Sequence[np.ndarray],  # of each prompt, in order: [I R R 3] uint8
        max_tokens: int,
        sampling: SamplingConfig,
        *,
        seed: int = 0,
        chunk: int = 8,
    ) -> Iterator[np.ndarray]:
        """Yields new tokens [B n], at most `chunk` at a time; a row that has ended repeats the end.

        Raises:
          DataError: an empty prompt, one that with `max_tokens` does not fit the context, one
            whose slots are not those of its images, or unequal ones for a fixed pattern.
        """
        config = self.config
        check_prompts(prompts, config.text.length, max_tokens)
        for number, (prompt, shown) in enumerate(zip(prompts, images, strict=True)):
            slots = list(prompt).count(config.image_id)
            if slots != len(shown) * config.slots:
                raise DataError(
                    f"prompt {number} has {slots} image slots for {len(shown)} images of "
                    f"{config.slots}: make it with lm.data.visual.rows.prompt_ids"
                )
        decoding = self.read(prompts, images, max_tokens)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(
            jax.random.key(seed), jnp.arange(len(prompts))
        )
        left = max_tokens
        while left > 0 and not fetch(decoding.finished).all():
            limit = min(chunk, left)
            decoding, new = extend(
                config.text, self.text.params, decoding, keys, limit, sampling, chunk, self.end,
                self.text.vocab,
            )  # fmt: skip
            left -= limit
            yield fetch(new)[:, :limit]

    def read(
        self, prompts: Sequence[Sequence[int]], images: Sequence[np.ndarray], room: int
    ) -> Decoding:
        """Reads prompts and their images into a cache with room for as many more tokens.

        Raises:
          DataError: unequal prompts for a fixed pattern.
        """
        config, side = self.config, self.config.vision.image
        block = common_block(config.text, prompts)
        tokens = np.zeros((len(prompts), block), np.int32)
        padding = np.array([block - len(prompt) for prompt in prompts], np.int32)
        most = max(map(len, images))
        places = next((size for size in BUCKETS if size >= most), most)
        shown = np.zeros((len(prompts), places, side, side, 3), np.uint8)
        for row, (prompt, some) in enumerate(zip(prompts, images, strict=True)):
            tokens[row, block - len(prompt) :] = prompt
            shown[row, : len(some)] = some
        return read_seen(
            config, self.eyes, self.text.params, tokens, padding, shown, rounded(block + room)
        )

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        images: Sequence[np.ndarray],
        max_tokens: int,
        sampling: SamplingConfig,
        *,
        seed: int = 0,
    ) -> list[list[int]]:
        """New tokens of each prompt, without the end token and what follows it."""
        chunks = list(
            self.stream(prompts, images, max_tokens, sampling, seed=seed, chunk=max_tokens)
        )
        rows = np.concatenate(chunks, axis=1).tolist() if chunks else [[] for _ in prompts]
        return [row[: row.index(self.end)] if self.end in row else row for row in rows]
