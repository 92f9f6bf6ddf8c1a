"""Rows of associative recall, against what they promise."""

import numpy as np
import pytest

from lm.core.errors import ConfigError
from lm.data.recall import HELD_OUT, RecallConfig, RecallRows, uniform

CONFIG = RecallConfig(keys=3, values=5, fillers=4, asked=0.6, near=8)
FACTS = CONFIG.keys * CONFIG.values


def test_the_answer_is_the_fact_of_the_questions_key_at_the_distance_told():
    batch, distances = RecallRows(CONFIG, 64, 0).with_distances(0, 200)
    asked = 0
    for tokens, targets, away in zip(batch.tokens, batch.targets, distances, strict=True):
        for place in np.flatnonzero(away):
            key = tokens[place] - FACTS
            fact = tokens[place - away[place]]
            assert fact // CONFIG.values == key and targets[place] == fact
            asked += 1
    assert asked > 1000


def test_each_key_has_one_fact_and_nothing_else_in_the_row_gives_it_away():
    batch, distances = RecallRows(CONFIG, 64, 0).with_distances(0, 200)
    for tokens, away in zip(batch.tokens, distances, strict=True):
        facts = tokens[tokens < FACTS]
        assert sorted(facts // CONFIG.values) == [0, 1, 2]
        assert ((tokens >= FACTS) & (tokens < FACTS + CONFIG.keys) == (away > 0)).all()
    assert batch.tokens.max() == CONFIG.vocab - 1 and batch.tokens.min() == 0


def test_values_are_independent_of_keys_and_uniform():
    batch = RecallRows(CONFIG, 64, 0)(0, 3000)
    facts = np.bincount(batch.tokens[batch.tokens < FACTS], minlength=FACTS)
    assert np.abs(facts / 3000 - 1 / CONFIG.values).max() < 0.03


def test_far_questions_count_in_inverse_proportion_to_their_distance():
    batch, distances = RecallRows(CONFIG, 64, 0).with_distances(0, 2000)
    assert not batch.mask[distances == 0].any()
    assert batch.mask[(distances > 0) & (distances <= CONFIG.near)].all()
    for distance in (16, 32):
        share = batch.mask[distances == distance].mean()
        assert share == pytest.approx(CONFIG.near / distance, abs=0.06)


def test_a_row_depends_on_its_seed_and_number_alone():
    rows = RecallRows(CONFIG, 64, 0)
    whole, part = rows(0, 10), rows(4, 3)
    np.testing.assert_array_equal(whole.tokens[4:7], part.tokens)
    np.testing.assert_array_equal(whole.mask[4:7], part.mask)
    assert (RecallRows(CONFIG, 64, HELD_OUT)(0, 10).tokens != whole.tokens).any(1).all()
    drawn = uniform(np.array([0, 2**64 - 1], np.uint64))
    assert drawn[0] == 0 and 0.999 < drawn[1] < 1


def test_facts_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="3 keys do not fit the first 50% of 6 tokens"):
        RecallRows(CONFIG, 6, 0)
