"""What a model writes behind examples that are the same for every item."""

from collections.abc import Sequence

from lm.core.errors import DataError
from lm.evals.incontext import Item, Prompt, Style, fit
from lm.evals.scorer import Scorer


def written(
    scorer: Scorer, items: Sequence[Item], examples: Sequence[Item], style: Style, tokens: int
) -> list[tuple[Prompt, str]]:
    """The line that the model writes, greedily, for each item that fits the context.

    Raises:
      DataError: no item does.
    """
    fitted = (
        fit(item, examples, style, scorer.tokenizer, length=scorer.length, answer=tokens)
        for item in items
    )
    prompts = [prompt for prompt in fitted if prompt is not None]
    if not prompts:
        raise DataError(
            f"no item fits the model's context of {scorer.length} with {tokens} tokens to write"
        )
    texts = scorer.generate([prompt.contexts[0] for prompt in prompts], tokens)
    return list(zip(prompts, texts, strict=True))
