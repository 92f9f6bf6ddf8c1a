"""Translation without training (Radford et al. 2019, section 3.7).

Pairs "english = french", a line each, then "english ="; greedy, and the first sentence written is
the translation. The report does not say how many pairs: here `PAIRS` of the training part, fewer
where they do not fit the context. A sentence that does not fit without any is not asked.
"""

from collections.abc import Sequence

from lm.data.prose import sentences
from lm.evals.incontext import Item, Style, fit
from lm.evals.scorer import Scorer
from lm.evals.zeroshot.figure import Figure
from lm.evals.zeroshot.prompts import counted, written
from lm.metrics.bleu import bleu

PAIRS = 5
TOKENS = 100
LINES = Style(between="\n")


def pair(source: str, target: str) -> Item:
    return Item(contexts=(f"{source} =",), completions=(f" {target}",))


def translation_figures(
    scorer: Scorer, pairs: Sequence[Item], examples: Sequence[Item]
) -> list[Figure]:
    """BLEU of the translations, as a fraction.

    Raises:
      ConfigError: sacrebleu is not installed.
      DataError: nothing fits the context.
    """
    prompts = (
        fit(one, examples, LINES, scorer.tokenizer, length=scorer.length, answer=TOKENS)
        for one in pairs
    )
    asked = written(scorer, prompts, TOKENS)
    references = [prompt.item.completions[0].strip() for prompt, _ in asked]
    value, error = bleu([first_sentence(text) for _, text in asked], references)
    return counted([Figure("bleu", value, error, len(asked))], asked, len(pairs))


def first_sentence(text: str) -> str:
    return next(sentences(" ".join(text.split())), "")
