"""BLEU of translations, by sacrebleu (Papineni et al. 2002; Post 2018)."""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from lm.core.errors import ConfigError, DataError
from lm.metrics.spread import bootstrap_error

Tokens = Literal["13a", "intl"]  # mteval-v13a's, or international ones: Unicode's punctuation apart


def bleu(
    predictions: Sequence[str], references: Sequence[str], seed: int = 0, tokens: Tokens = "13a"
) -> tuple[float, float | None]:
    """Corpus BLEU-4 as a fraction, over tokens that sacrebleu makes, its own by default; and its
    standard error by bootstrap over sentences (Koehn 2004), None of fewer than two sentences.

    Raises:
      ConfigError: sacrebleu is not installed.
      DataError: another number of predictions than of references, or none.
    """
    if len(predictions) != len(references) or not predictions:
        raise DataError(f"{len(predictions)} translations for {len(references)} references")
    pairs = zip(predictions, references, strict=True)
    each = [bleu_counts(prediction, reference, tokens) for prediction, reference in pairs]
    counts = np.array(each, np.int64)
    error = bootstrap_error(bleu_of_sums, counts, seed=seed) if len(counts) > 1 else None
    return bleu_of_sums(counts.sum(axis=0)), error


def bleu_counts(prediction: str, reference: str, tokens: Tokens = "13a") -> tuple[int, ...]:
    """What a corpus sums up of one translation: matches and totals of each order, and both lengths.
    [10]"""
    one = scorer(tokens).sentence_score(prediction, [reference])
    return (*map(int, one.counts), *map(int, one.totals), int(one.sys_len), int(one.ref_len))


def bleu_of_sums(sums: np.ndarray) -> float:
    """BLEU-4 of the sums of `bleu_counts`, as a fraction. [10]

    An order without a match is smoothed as sacrebleu's corpus score is: halved for each such order.
    """
    matches, totals = sums[:4].tolist(), sums[4:8].tolist()
    lengths = {"sys_len": int(sums[8]), "ref_len": int(sums[9])}
    found = scorers().BLEU.compute_bleu(matches, totals, **lengths, smooth_method="exp")
    return float(found.score) / 100


@functools.cache
def scorer(tokens: Tokens) -> Any:
    return scorers().BLEU(effective_order=True, tokenize=tokens)


def scorers():  # type: ignore[no-untyped-def]  # the module `sacrebleu.metrics`, an optional extra
    try:
        import sacrebleu.metrics
    except ImportError:
        raise ConfigError("BLEU needs the package sacrebleu: pip install 'lm[eval]'") from None
    return sacrebleu.metrics
