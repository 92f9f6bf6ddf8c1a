"""BLEU of translations, by sacrebleu (Papineni et al. 2002; Post 2018)."""

from collections.abc import Sequence

import numpy as np

from lm.core.errors import ConfigError, DataError

SAMPLES = 1000  # of the bootstrap


def bleu(
    predictions: Sequence[str], references: Sequence[str], seed: int = 0
) -> tuple[float, float | None]:
    """Corpus BLEU-4 with sacrebleu's own tokens (13a) as a fraction, and its standard error by
    bootstrap over sentences (Koehn 2004); None of fewer than two sentences.

    Raises:
      ConfigError: sacrebleu is not installed.
      DataError: another number of predictions than of references, or none.
    """
    if len(predictions) != len(references) or not predictions:
        raise DataError(f"{len(predictions)} translations for {len(references)} references")
    scorer = scorers().BLEU(effective_order=True)
    each = [
        scorer.sentence_score(prediction, [reference])
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    # [N 10]: matches and totals of each order, and both lengths; a corpus has their sums
    counts = np.array([[*one.counts, *one.totals, one.sys_len, one.ref_len] for one in each], int)

    def score(sums: np.ndarray) -> float:
        matches, totals = sums[:4].tolist(), sums[4:8].tolist()
        lengths = {"sys_len": int(sums[8]), "ref_len": int(sums[9])}
        return scorers().BLEU.compute_bleu(matches, totals, **lengths).score / 100

    random = np.random.default_rng(seed)
    several = len(counts) > 1
    samples = [
        score(counts[random.integers(0, len(counts), len(counts))].sum(axis=0))
        for _ in range(SAMPLES if several else 0)
    ]
    return score(counts.sum(axis=0)), float(np.std(samples, ddof=1)) if several else None


def scorers():  # type: ignore[no-untyped-def]  # the module `sacrebleu.metrics`, an optional extra
    try:
        import sacrebleu.metrics
    except ImportError:
        raise ConfigError("BLEU needs the package sacrebleu: pip install 'lm[eval]'") from None
    return sacrebleu.metrics
