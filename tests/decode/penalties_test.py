"""What is asked of a token beside its probability, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.core.errors import ConfigError
from lm.decode import penalties
from lm.decode.penalties import Penalties, Terms, marked
from lm.decode.sampling import keep_min_p

penalised = jax.jit(penalties.penalised)
LOGITS = np.array([2.0, -1.0, 0.5, 3.0, -4.0], np.float32)
PROMPT, DRAWN = [0, 1, 0], [3, 1, 3]  # token 1 is in both, 2 and 4 in neither


def found(asked, *, ends=(), beside=()):
    """The logits of a text with these penalties, in a batch with others that have theirs."""
    rows = [Terms.of(one, ends, len(LOGITS)) for one in (asked, *beside)]
    terms = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
    real = np.arange(5) < len(PROMPT)
    marks = marked(jnp.array([*PROMPT, 4, 4]), real, len(LOGITS))
    for token in DRAWN:
        marks = marks.at[token].add(2)
    count = len(rows)
    every = penalised(
        np.tile(LOGITS, (count, 1)), jnp.tile(marks, (count, 1)),
        np.full(count, len(DRAWN), np.int32), terms,
    )  # fmt: skip
    return np.asarray(every[0])


def test_none_leaves_the_logits_as_they_are_whatever_is_asked_beside():
    other = Penalties(frequency=2, presence=1, repetition=3, bias=((2, 50),), least=9)
    np.testing.assert_array_equal(found(Penalties(), beside=[other]), LOGITS)


def test_the_frequency_penalty_counts_what_was_drawn_and_not_the_prompt():
    np.testing.assert_allclose(found(Penalties(frequency=0.5)), [2.0, -1.5, 0.5, 2.0, -4.0])


def test_the_presence_penalty_is_the_same_once_or_often():
    np.testing.assert_allclose(found(Penalties(presence=0.5)), [2.0, -1.5, 0.5, 2.5, -4.0])


def test_the_repetition_penalty_makes_what_is_there_less_likely_on_either_side_of_zero():
    np.testing.assert_allclose(found(Penalties(repetition=2.0)), [1.0, -2.0, 0.5, 1.5, -4.0])


def test_biases_are_added_to_the_logits_of_their_tokens():
    asked = Penalties(bias=((4, 100.0), (0, -100.0)))
    np.testing.assert_allclose(found(asked), [-98.0, -1.0, 0.5, 3.0, 96.0])


def test_together_they_are_the_sum_behind_the_repetition():
    asked = Penalties(frequency=0.5, presence=0.25, repetition=2.0, bias=((3, 1.0),))
    np.testing.assert_allclose(found(asked), [1.0, -2.75, 0.5, 1.25, -4.0])


@pytest.mark.parametrize("least", [3, 4])
def test_no_token_that_ends_is_drawn_before_so_many(least):
    logits = found(Penalties(least=least), ends={3, 1})
    held = [1, 3] if least > len(DRAWN) else []
    np.testing.assert_array_equal(np.flatnonzero(np.isneginf(logits)), held)
    np.testing.assert_array_equal(logits[[0, 2, 4]], LOGITS[[0, 2, 4]])


def test_min_p_keeps_what_has_that_share_of_the_likeliest_chance():
    logits = jnp.log(jnp.array([[0.5, 0.3, 0.16, 0.04]] * 3))
    kept = np.isfinite(np.asarray(keep_min_p(logits, jnp.array([0.0, 0.3, 0.7]))))
    assert kept.tolist() == [[True] * 4, [True] * 3 + [False], [True] + [False] * 3]


def test_more_biases_than_there_is_room_for_are_refused():
    with pytest.raises(ConfigError, match="301 biases, at most 300"):
        Penalties(bias=((1, 1.0),) * 301)
