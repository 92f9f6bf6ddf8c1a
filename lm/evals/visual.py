"""What a model answers to questions about images, and how many of the answers are right."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from lm.core.errors import DataError
from lm.core.mesh import everywhere
from lm.data.visual.example import Example
from lm.data.visual.rows import prompt_ids
from lm.decode.images import ImageGenerator
from lm.decode.sampling import SamplingConfig
from lm.evals.batches import together
from lm.metrics.anls import similarity
from lm.metrics.relaxed import relaxed
from lm.metrics.rouge import rouge
from lm.text.tokenizer import Tokenizer

BATCH = 64  # examples at a time
TOKENS = 48  # of an answer at most
Shown = Callable[[int], np.ndarray]  # number of an example -> its images [I R R 3] uint8


@dataclasses.dataclass(frozen=True)
class Answered:
    """Answers of a model to examples."""

    examples: Sequence[Example]
    answers: tuple[str, ...]
    unread: tuple[str, ...] = ()  # of each example that is not among them, why it cannot be read

    @property
    def scores(self) -> np.ndarray:
        """How right each is, from 0 to 1. [examples]"""
        pairs = zip(self.answers, self.examples, strict=True)
        return np.array([score(answer, example) for answer, example in pairs])

    @property
    def accuracy(self) -> float:
        """Mean score; of captions it is their ROUGE-L."""
        return float(self.scores.mean())


def score(answer: str, example: Example) -> float:
    """How right an answer is: 1 or 0; of a caption, ROUGE-L with the nearest of the true ones, and
    of what is read, by ANLS, its similarity to the nearest."""
    if example.match == "caption":
        return max(rouge([answer], [truth])["rougeL"] for truth in example.answers)
    if example.match == "anls":
        return max(similarity(answer, truth) for truth in example.answers)
    if example.match == "relaxed":
        return float(any(relaxed(answer, truth) for truth in example.answers))
    return float(any(answer.strip().lower() == truth.strip().lower() for truth in example.answers))


def longest(examples: Sequence[Example], tokenizer: Tokenizer) -> int:
    """Tokens to answer in: of the longest true answer and its end, which no right answer needs more
    of, at most 48; 48 for captions and by ANLS, where an answer may be right in part."""
    if any(one.match in ("caption", "anls") for one in examples):
        return TOKENS
    told = [truth for one in examples for truth in one.answers]
    return min(TOKENS, 1 + max(map(len, tokenizer.encode_batch(told))))


def answer(
    generator: ImageGenerator, tokenizer: Tokenizer, examples: Sequence[Example], tokens: int,
    shown: Shown | None = None,
) -> Answered:  # fmt: skip
    """Greedy answers of up to `tokens` tokens.

    An example whose image cannot be read is left out: it says nothing of the model.

    Args:
      shown: images to show of each example instead of its own, as a control does.

    Raises:
      DataError: an example that does not fit the context, or no example can be read.
    """
    config, side = generator.config, generator.config.vision.image
    room = config.text.length - tokens

    def own(number: int) -> np.ndarray:
        pictures = examples[number].pictures
        empty = np.zeros((0, side, side, 3), np.uint8)
        return np.stack([p.pixels(side) for p in pictures]) if pictures else empty

    prompts = [
        prompt_ids(one.parts, tokenizer, config.image_id, config.slots, room) for one in examples
    ]
    if not prompts:
        raise DataError("there are no examples to answer")
    found: dict[int, str] = {}
    unread: dict[int, str] = {}
    order = list(range(len(prompts)))
    if config.text.counts_blocks:
        order.sort(key=lambda number: len(prompts[number]))
    while order:
        some = together(config.text, order, prompts, BATCH)
        order = order[len(some) :]
        images: dict[int, np.ndarray] = {}
        for number in some:
            try:
                images[number] = (shown or own)(number)
            except DataError as error:
                unread[number] = str(error)
        read = everywhere(np.array([number in images for number in some]))
        for number in itertools.compress(some, ~read):
            images.pop(number, None)
            unread.setdefault(number, "an image that another process cannot read")
        if not images:
            continue
        some = list(images)
        index = some + some[-1:] * (BATCH - len(some))  # one program for all
        rows = generator(
            [prompts[n] for n in index], [images[n] for n in index], tokens,
            SamplingConfig(temperature=0.0),
        )  # fmt: skip
        for number, row in zip(some, rows, strict=False):
            found[number] = tokenizer.decode(row)
    wrong = tuple(unread[number] for number in sorted(unread))
    if not found:
        raise DataError(f"none of {len(prompts)} examples has images that can be read: {wrong[0]}")
    kept = sorted(found)
    return Answered([examples[n] for n in kept], tuple(found[n] for n in kept), wrong)
