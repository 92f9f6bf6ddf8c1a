"""BLEU of translations, by sacrebleu (Papineni et al. 2002; Post 2018)."""

from collections.abc import Sequence

from lm.core.errors import ConfigError, DataError

SAMPLES = 1000  # of the bootstrap
SIGMAS = 1.96  # of its 95% interval, to one side


def bleu(predictions: Sequence[str], references: Sequence[str]) -> tuple[float, float | None]:
    """Corpus BLEU-4 with sacrebleu's own tokens (13a) as a fraction, and its standard error by
    bootstrap over sentences (Koehn 2004); None of fewer than two sentences.

    Raises:
      ConfigError: sacrebleu is not installed.
      DataError: another number of predictions than of references, or none.
    """
    if len(predictions) != len(references) or not predictions:
        raise DataError(f"{len(predictions)} translations for {len(references)} references")
    scorer = library().BLEU()
    several = len(predictions) > 1
    found = scorer.corpus_score(
        list(predictions), [list(references)], n_bootstrap=SAMPLES if several else 1
    )
    return found.score / 100, found._ci / 100 / SIGMAS if several else None


def library():  # type: ignore[no-untyped-def]  # the module `sacrebleu.metrics`, an optional extra
    try:
        import sacrebleu.metrics
    except ImportError:
        raise ConfigError("BLEU needs the package sacrebleu: pip install 'lm[eval]'") from None
    return sacrebleu.metrics
