import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.core.errors import DataError
from lm.metrics.entities import entities, entity_f1

TAGS = ("O", "O", "B-PER", "I-PER", "B-creative-work", "I-creative-work")
# (seed, F1) of seqeval 1.2.2's f1_score (default mode, micro) on the sentences that `drawn` draws.
SEQEVAL = [
    (0, 0.4805194805194805),
    (1, 0.6222222222222221),
    (2, 0.6086956521739131),
    (3, 0.7195121951219512),
    (4, 0.7352941176470589),
    (5, 0.7560975609756098),
    (6, 0.8780487804878048),
    (7, 0.9178082191780823),
]
BIOES = ("O", "O", *(f"{mark}-{kind}" for kind in ("PER", "creative-work") for mark in "BIES"))
# The same with the tags of BIOES.
SEQEVAL_BIOES = [
    (0, 0.6288659793814433),
    (1, 0.7010309278350515),
    (2, 0.6702702702702703),
    (3, 0.7643979057591621),
]
sentences = st.lists(st.lists(st.sampled_from(TAGS), max_size=8), min_size=1, max_size=5)


def drawn(seed, among=TAGS):
    random_ = random.Random(seed)
    right = [[random_.choice(among) for _ in range(random_.randint(1, 12))] for _ in range(20)]
    predicted = [
        [tag if random_.random() < 0.5 + seed / 16 else random_.choice(among) for tag in tags]
        for tags in right
    ]
    return predicted, right


@pytest.mark.parametrize(("seed", "expected"), SEQEVAL)
def test_entity_f1_equals_seqevals_on_any_order_of_tags(seed, expected):
    assert entity_f1(*drawn(seed)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("seed", "expected"), SEQEVAL_BIOES)
def test_entity_f1_equals_seqevals_on_any_order_of_tags_with_ends(seed, expected):
    assert entity_f1(*drawn(seed, BIOES)) == pytest.approx(expected, rel=1e-12)


def test_iob1_iob2_and_bioes_spell_the_same_entities():
    iob2 = ["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "B-PER"]
    iob1 = ["I-PER", "I-PER", "O", "I-LOC", "B-LOC", "I-PER"]
    bioes = ["B-PER", "E-PER", "O", "S-LOC", "S-LOC", "S-PER"]
    expected = {(0, 0, 2, "PER"), (0, 3, 4, "LOC"), (0, 4, 5, "LOC"), (0, 5, 6, "PER")}
    assert entities(iob1) == entities(iob2) == entities(bioes) == expected


def test_an_entity_counts_whole_or_not_at_all():
    right = [["B-PER", "I-PER", "O", "B-LOC"]]
    assert entity_f1([["B-PER", "I-PER", "O", "B-LOC"]], right) == 1
    assert entity_f1([["B-PER", "O", "O", "B-LOC"]], right) == 0.5  # too short: a miss and an alarm
    assert entity_f1([["B-PER", "I-PER", "O", "B-ORG"]], right) == 0.5  # of another type
    assert entity_f1([["O"] * 4], right) == 0


def test_entities_do_not_cross_sentences():
    assert entities(["I-PER"], 0) | entities(["I-PER"], 1) == {(0, 0, 1, "PER"), (1, 0, 1, "PER")}
    assert entity_f1([["B-PER"], ["I-PER"]], [["B-PER"], ["B-PER"]]) == 1


def test_the_average_is_over_entities_and_not_over_sentences():
    right = [["B-PER"] * 3, ["B-PER"]]
    assert entity_f1([["B-PER"] * 3, ["O"]], right) == pytest.approx(2 * 3 / (3 + 4))


@given(sentences)
def test_the_right_tags_score_one_unless_there_is_no_entity(right):
    assert entity_f1(right, right) == float(any(tag != "O" for tags in right for tag in tags))


def test_other_schemes_and_lengths_that_differ_are_refused():
    for tag in ("L-PER", "U-PER", "7", "O-PER"):
        with pytest.raises(DataError, match=f"tag '{tag}': entities are read of O, and B-, I-"):
            entity_f1([[tag]], [["O"]])
    with pytest.raises(DataError, match="sentence 0: 2 tags predicted for 1"):
        entity_f1([["O", "O"]], [["O"]])
    with pytest.raises(DataError, match="1 sentences for 2"):
        entity_f1([["O"]], [["O"], ["O"]])
    with pytest.raises(DataError, match="no sentences"):
        entity_f1([], [])
