"""What a model writes behind prompts that fit its context."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from lm.core.errors import DataError
from lm.evals.incontext import Prompt
from lm.evals.scorer import Scorer
from lm.evals.zeroshot.figure import Figure


class NothingFits(DataError):
    """No item of a task leaves room for an answer in the model's context."""


def written(
    scorer: Scorer, fitted: Iterable[Prompt | None], tokens: int
) -> list[tuple[Prompt, str]]:
    """The line that the model writes, greedily, after each prompt; None is an item left out.

    Raises:
      NothingFits: all are.
    """
    prompts = [prompt for prompt in fitted if prompt is not None]
    if not prompts:
        raise NothingFits(
            f"no item fits the model's context of {scorer.length} with {tokens} tokens to write"
        )
    texts = scorer.generate([prompt.contexts[0] for prompt in prompts], tokens)
    return list(zip(prompts, texts, strict=True))


def counted(
    figures: Sequence[Figure], asked: Sequence[tuple[Prompt, str]], whole: int
) -> list[Figure]:
    """Figures of what was asked of `whole` items, with how many prompts lost examples to fit and
    how many were refused."""
    cut = sum(prompt.dropped > 0 for prompt, _ in asked)
    return [replace(figure, cut=cut, refused=whole - len(asked)) for figure in figures]
