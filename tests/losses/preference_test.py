"""The comparison loss against separate pairs written out in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.losses import preference
from lm.losses.preference import chosen, pairs, right_pairs

# one program each: without jit every operation is compiled by itself
choice_losses = jax.jit(preference.choice_losses)
comparison_losses = jax.jit(preference.comparison_losses)
close = np.testing.assert_allclose


def separate_pairs(scores, ranks):
    """Every pair of different rank, as (preferred, other)."""
    answers = range(len(scores))
    return [
        (w, other) for w, other in itertools.permutations(answers, 2) if ranks[w] < ranks[other]
    ]


def loss_of(scores, ranks):
    found = separate_pairs(scores, ranks)
    each = [np.log1p(np.exp(-(np.float64(scores[w]) - scores[other]))) for w, other in found]
    return np.mean(each) if each else 0.0


def batch_of(rankings, width):
    """Rankings of several lengths as arrays; what is absent holds rubbish."""
    scores = np.full((len(rankings), width), np.nan, np.float32)
    ranks = np.full((len(rankings), width), 7, np.int32)
    present = np.zeros((len(rankings), width), bool)
    for row, (some, order) in enumerate(rankings):
        scores[row, : len(some)], ranks[row, : len(some)] = some, order
        present[row, : len(some)] = True
    return scores, ranks, present


def rankings_of(sizes, seed=0):
    numbers = np.random.default_rng(seed)
    return [(2 * numbers.standard_normal(k).astype(np.float32), numbers.integers(0, k, k))
            for k in sizes]  # fmt: skip


def test_the_loss_is_the_mean_over_pairs_for_two_to_nine_answers_with_ties():
    rankings = rankings_of(range(2, 10))
    assert any(len(set(order)) < len(order) for _, order in rankings)
    found = comparison_losses(*map(jnp.asarray, batch_of(rankings, 9)))
    close(found, [loss_of(*ranking) for ranking in rankings], rtol=1e-6, atol=1e-6)


def test_nine_answers_in_strict_order_are_36_pairs():
    ranking = (np.zeros(9, np.float32), np.arange(9))
    _, ranks, present = batch_of([ranking, rankings_of([4])[0]], 9)
    assert float(pairs(ranks, present)[0]) == 36
    close(comparison_losses(*batch_of([ranking], 9)), [np.log(2)], rtol=1e-6)


def test_the_gradient_is_the_sum_of_the_gradients_of_separate_pairs():
    (scores, ranks), *_ = rankings_of([6], seed=1)
    every = separate_pairs(scores, ranks)

    def together(scores):
        return comparison_losses(scores[None], ranks[None], np.ones((1, 6), bool))[0]

    def one(scores, w, other):
        return -jax.nn.log_sigmoid(scores[w] - scores[other]) / len(every)

    apart = sum(jax.grad(one)(jnp.asarray(scores), w, other) for w, other in every)
    close(jax.grad(together)(jnp.asarray(scores)), apart, rtol=1e-6, atol=1e-6)


def test_tied_answers_may_change_places_and_others_may_not():
    scores, ranks = np.array([[0.3, -1.0, 2.0]]), np.array([[0, 1, 1]])
    present = np.ones((1, 3), bool)
    as_it_was = comparison_losses(scores, ranks, present)
    close(comparison_losses(scores[:, [0, 2, 1]], ranks, present), as_it_was, rtol=1e-6)
    assert (
        abs(float(comparison_losses(scores[:, [1, 0, 2]], ranks, present)[0] - as_it_was[0])) > 0.1
    )


def test_absent_answers_give_no_loss_and_no_gradient():
    scores, ranks, present = batch_of(rankings_of([3, 2]), 4)
    grads = jax.grad(lambda s: comparison_losses(s, ranks, present).sum())(jnp.asarray(scores))
    assert np.isfinite(grads).all() and not np.asarray(grads)[~present].any()
    all_tied = comparison_losses(jnp.ones((1, 3)), np.zeros((1, 3), int), np.ones((1, 3), bool))
    assert float(all_tied[0]) == 0.0


def test_right_pairs_count_equal_scores_as_half():
    ranks, present = np.array([[0, 1, 2]]), np.ones((1, 3), bool)
    assert float(right_pairs(np.array([[3.0, 2.0, 1.0]]), ranks, present)[0]) == 3
    assert float(right_pairs(np.array([[1.0, 2.0, 3.0]]), ranks, present)[0]) == 0
    assert float(right_pairs(np.array([[2.0, 2.0, 1.0]]), ranks, present)[0]) == 2.5


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_dpo_is_the_comparison_loss_of_implicit_rewards(beta):
    numbers = np.random.default_rng(2)
    policy, reference = numbers.standard_normal((2, 5, 2))
    found = comparison_losses(
        beta * (policy - reference), np.tile([0, 1], (5, 1)), np.ones((5, 2), bool)
    )
    margins = (policy[:, 0] - policy[:, 1]) - (reference[:, 0] - reference[:, 1])
    close(found, np.log1p(np.exp(-beta * margins)), rtol=1e-6, atol=1e-6)


def test_a_choice_is_the_cross_entropy_of_the_best_answer_over_those_that_are_there():
    rankings = [(np.array([1.0, -2.0, 0.5, 3.0], np.float32), [1, 0, 1, 1]),
                (np.array([0.2, 0.1], np.float32), [0, 1]),
                (np.array([0.2, 0.1, 0.0], np.float32), [0, 0, 1]),  # two are best: no choice
                (np.array([0.3], np.float32), [0])]  # fmt: skip
    scores, ranks, present = batch_of(rankings, 4)
    found = choice_losses(scores, ranks, present)
    expected = [np.log(np.exp(one).sum()) - one[best] for one, best in
                ((rankings[0][0], 1), (rankings[1][0], 0))]  # fmt: skip
    close(found, [*expected, 0, 0], rtol=1e-6)
    assert chosen(ranks, present).tolist() == [1, 1, 0, 0]
    # of two answers it is the loss of their pair, of four it is not the mean over pairs
    others = comparison_losses(scores, ranks, present)
    close(found[1], others[1], rtol=1e-6)
    assert abs(float(found[0] - others[0])) > 0.1
    grads = jax.grad(lambda s: jnp.sum(choice_losses(s, ranks, present)))(scores)
    assert np.isfinite(np.asarray(grads)).all() and not np.asarray(grads)[2:].any()


def test_pairs_that_are_left_out_change_nothing_and_a_best_answer_with_one_is_no_choice():
    scores, ranks, present = batch_of(rankings_of([3]), 3)
    ranks = np.array([[0, 1, 2]])
    faults = np.zeros((1, 3, 3), bool)
    faults[0, 1, 2] = True
    assert pairs(ranks, present, faults)[0] == 2
    some = [np.logaddexp(0, scores[0, other] - scores[0, 0]) for other in (1, 2)]
    close(comparison_losses(scores, ranks, present, faults), [np.mean(some)], rtol=1e-6)
    right = np.mean([scores[0, 0] > scores[0, other] for other in (1, 2)]) * 2
    assert right_pairs(scores, ranks, present, faults)[0] == right
    whole = choice_losses(scores, ranks, present)
    assert choice_losses(scores, ranks, present, faults) == whole > 0
    faults[0, 0, 2] = True
    assert choice_losses(scores, ranks, present, faults) == 0


def test_an_answered_question_costs_its_log_probability_and_another_nothing():
    odds = np.array([-3.0, 0.5, 2.0, 40.0, 7.0], np.float32)
    answered = np.array([1, 0, 1, 0, -1], np.int8)
    yes = 1 / (1 + np.exp(-np.float64(odds[:4])))
    expected = -np.log(np.where(answered[:4] == 1, yes, 1 - yes + 1e-300))
    expected[3] = 40.0  # where 1 - yes has no digits left
    losses, slopes = jax.vmap(jax.value_and_grad(preference.answer_losses))(odds, answered)
    close(losses, [*expected, 0.0], rtol=1e-6)
    close(slopes, [*(yes - answered[:4]), 0.0], rtol=1e-5)
