"""Translation without training (Radford et al. 2019, section 3.7).

Pairs "english = french", a line each, then "english ="; greedy, and the first sentence written is
the translation. The report does not say how many pairs: here `PAIRS` of the training part.
"""

import dataclasses
from collections.abc import Sequence

from lm.data.prose import sentences
from lm.evals.scorer import Scorer
from lm.evals.zeroshot.figure import Figure
from lm.metrics.bleu import bleu

PAIRS = 5
TOKENS = 100


@dataclasses.dataclass(frozen=True)
class Pair:
    source: str
    target: str


def translation_figures(
    scorer: Scorer, pairs: Sequence[Pair], examples: Sequence[Pair]
) -> list[Figure]:
    """BLEU of the translations, as a fraction.

    Raises:
      ConfigError: sacrebleu is not installed.
      DataError: a pair that does not fit the context.
    """
    written = translations(scorer, [pair.source for pair in pairs], examples)
    value, error = bleu(written, [pair.target for pair in pairs])
    return [Figure("bleu", value, error, len(pairs))]


def translations(scorer: Scorer, sources: Sequence[str], examples: Sequence[Pair]) -> list[str]:
    texts = scorer.generate([prompt(source, examples) for source in sources], TOKENS)
    return [next(sentences(" ".join(text.split())), "") for text in texts]


def prompt(source: str, examples: Sequence[Pair]) -> str:
    shown = "".join(f"{pair.source} = {pair.target}\n" for pair in examples)
    return f"{shown}{source} ="
