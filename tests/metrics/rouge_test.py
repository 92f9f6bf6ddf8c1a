import gzip
import importlib.util
import json
from pathlib import Path

import pytest

from lm.data.prose import sentences
from lm.metrics.rouge import common, rouge, words

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def test_words_are_runs_of_letters_and_digits_in_lower_case():
    assert words("The U.S. won 3-2, didn't it?") == ["the", "u", "s", "won", "3", "2", "didn", "t",
                                                     "it"]  # fmt: skip


def test_figures_are_those_of_rouge_score():
    """Golden: rouge-score 0.1.2, rouge1, rouge2 and rougeLsum, no stemmer."""
    given = ["The cat sat on the mat, and the dog ran away.", "It rained on the cat all day."]
    wanted = ["A cat sat on a mat all day.", "The dog ran, and it rained."]
    found = rouge(given, wanted)
    assert found["rouge1"] == pytest.approx(0.75)
    assert found["rouge2"] == pytest.approx(0.4)
    assert found["rougeL"] == pytest.approx(0.6875)
    assert found["rouge"] == pytest.approx((0.75 + 0.4 + 0.6875) / 3)


def test_order_counts_for_pairs_and_sequences_and_not_for_words():
    straight, turned = ["a b c d"], ["d c b a"]
    assert rouge(straight, straight)["rouge"] == 1
    found = rouge(turned, straight)
    assert (found["rouge1"], found["rouge2"], found["rougeL"]) == (1, 0, 0.25)
    assert common(["a", "b", "c"], ["a", "x", "c"]) == [0, 2]
    assert common(["a", "b"], ["b", "a"]) == [0]  # of two as long, that of rouge-score


def test_an_empty_summary_is_worth_nothing():
    assert rouge([], ["a b"])["rouge"] == 0 == rouge(["..."], ["a b"])["rouge"]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("rouge_score") is None,
    reason="rouge-score is not installed (lm[eval])",
)
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here")
def test_real_summaries_have_the_numbers_of_rouge_score():
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeLsum"])
    with gzip.open(DATA / "cnndm_sample" / "val.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    for row in rows:
        lede = list(sentences(row["article"]))[:3]
        wanted = list(sentences(row["summary"]))
        found = rouge(lede, wanted)
        right = scorer.score("\n".join(wanted), "\n".join(lede))
        for ours, theirs in (("rouge1",) * 2, ("rouge2",) * 2, ("rougeL", "rougeLsum")):
            assert found[ours] == pytest.approx(right[theirs].fmeasure, abs=1e-12)
