import pytest

from lm.core.errors import DataError
from lm.metrics.bleu import bleu, bleu_counts

WANTED = ["Un petit chien court sur l'herbe.", "Deux hommes sont assis sur un banc, dehors.",
          "Elle lit un livre dans le parc.", "Le train part à 18.30 h de la gare."]  # fmt: skip
GIVEN = ["Un petit chien court dans l'herbe.", "Deux hommes sont assis sur un banc.",
         "Elle lit dans le parc.", "Le train part de la gare à 18.30 h."]  # fmt: skip


@pytest.mark.slow  # whose environment has sacrebleu
def test_bleu_and_its_error_are_sacrebleu_s():
    from sacrebleu import metrics

    value, error = bleu(GIVEN, WANTED)
    assert value == pytest.approx(metrics.BLEU().corpus_score(GIVEN, [WANTED]).score / 100)
    assert value != pytest.approx(metrics.BLEU().corpus_score(WANTED, [GIVEN]).score / 100)
    text = metrics.BLEU().corpus_score(GIVEN, [WANTED], n_bootstrap=1000).format()
    half = float(text.split("± ")[1].split(")")[0]) / 100  # of the 95% interval
    assert error == pytest.approx(half / 1.96, rel=0.25)
    assert bleu(GIVEN[:1], WANTED[:1])[1] is None


@pytest.mark.slow  # whose environment has sacrebleu
def test_translations_without_four_words_in_a_row_that_match_are_worth_what_sacrebleu_says():
    import sacrebleu

    given = ["Un chien noir court.", "Deux femmes sont ici dehors.", "Il lit un livre."]
    wanted = WANTED[:3]
    assert not any(bleu_counts(*pair)[3] for pair in zip(given, wanted, strict=True))
    value, error = bleu(given, wanted)
    assert value > 0 and value == pytest.approx(sacrebleu.corpus_bleu(given, [wanted]).score / 100)
    assert error > 0


def test_as_many_translations_as_references_are_needed():
    with pytest.raises(DataError, match="1 translations for 2 references"):
        bleu(["a"], ["a", "b"])
    with pytest.raises(DataError, match="0 translations"):
        bleu([], [])
