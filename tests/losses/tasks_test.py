"""Losses of a task's head against their formulas written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from lm.losses import tasks
from lm.losses.language import token_losses

# one program each: without jit every operation is compiled by itself
auxiliary_losses, choice_losses = jax.jit(tasks.auxiliary_losses), jax.jit(tasks.choice_losses)
class_losses, span_losses = jax.jit(token_losses), jax.jit(tasks.span_losses)
square_losses, tag_losses = jax.jit(tasks.square_losses), jax.jit(tasks.tag_losses)
NUMBERS = np.random.default_rng(0)
close = np.testing.assert_allclose


def scores_of(*shape):
    return 3 * NUMBERS.standard_normal(shape).astype(np.float32)


def log_softmax(scores):
    scores = scores.astype(np.float64)
    return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))


def test_a_class_costs_minus_its_log_probability():
    scores, label = scores_of(5, 3), np.array([0, 2, 1, 1, 0])
    close(class_losses(scores, label), -log_softmax(scores)[np.arange(5), label], rtol=1e-5)


def test_a_candidate_that_is_not_there_has_no_probability():
    scores, label = scores_of(2, 4), np.array([1, 0])
    there = np.array([[True, True, True, False], [True, True, False, False]])
    expected = [-log_softmax(scores[0, :3])[1], -log_softmax(scores[1, :2])[0]]
    close(choice_losses(scores, there, label), expected, rtol=1e-5)
    raised = np.where(there, scores, 50.0)  # whatever stands there
    close(choice_losses(raised, there, label), expected, rtol=1e-5)
    assert (
        np.abs(np.asarray(class_losses(raised, label)) - expected).min() > 10
    )  # without the mask it tells
    slope = jax.grad(lambda x: choice_losses(x, there, label).sum())(jnp.asarray(raised))
    assert (np.asarray(slope)[~there] == 0).all() and (np.asarray(slope)[there] != 0).all()


def test_a_number_costs_the_square_of_its_distance():
    close(square_losses(np.array([1.0, -2.0]), np.array([3.0, -2.5])), [4.0, 0.25])


def test_a_span_costs_the_mean_of_start_and_end_over_real_tokens():
    scores, label = scores_of(2, 6, 2), np.array([[1, 3], [0, 0]])
    valid = np.arange(6) < np.array([[6], [4]])
    expected = [
        -(log_softmax(scores[0, :, 0])[1] + log_softmax(scores[0, :, 1])[3]) / 2,
        -(log_softmax(scores[1, :4, 0])[0] + log_softmax(scores[1, :4, 1])[0]) / 2,
    ]
    close(span_losses(scores, valid, label), expected, rtol=1e-5)
    padding = np.where(valid[..., None], scores, 40.0)
    close(span_losses(padding, valid, label), expected, rtol=1e-5)


def test_only_tokens_with_a_tag_cost_anything_and_they_are_summed():
    scores, label = scores_of(2, 4, 3), np.array([[-1, 2, -1, 0], [-1, -1, -1, -1]])
    logs = log_softmax(scores)
    close(tag_losses(scores, label), [-logs[0, 1, 2] - logs[0, 3, 0], 0.0], rtol=1e-5)
    slope = jax.grad(lambda x: tag_losses(x, label).sum())(jnp.asarray(scores))
    assert (np.asarray(slope)[label < 0] == 0).all()


def test_the_auxiliary_loss_is_a_mean_over_each_example_and_not_over_all_tokens():
    logits, tokens = scores_of(2, 2, 5, 7), NUMBERS.integers(0, 7, (2, 2, 5))
    lengths = np.array([[5, 2], [3, 1]])  # the last has no successor that counts
    mask = np.arange(5) < lengths[..., None] - 1
    logs = log_softmax(logits)
    expected = np.zeros((2, 2))
    for i, j in np.ndindex(2, 2):
        said = [-logs[i, j, t, tokens[i, j, t + 1]] for t in range(lengths[i, j] - 1)]
        expected[i, j] = np.mean(said) if said else 0.0
    found = np.asarray(auxiliary_losses(logits, tokens, mask))
    close(found, expected, rtol=1e-5)
    over_all = (expected * mask.sum(-1)).sum() / mask.sum()
    assert abs(found[found > 0].mean() - over_all) > 0.01  # long rows would weigh more


def test_losses_are_float32_whatever_the_scores_are():
    scores = jnp.asarray(scores_of(3, 4), jnp.bfloat16)
    found = class_losses(scores, jnp.array([0, 1, 2]))
    assert found.dtype == jnp.float32
    expected = -log_softmax(np.asarray(scores, np.float32))[np.arange(3), [0, 1, 2]]
    close(found, expected, rtol=1e-5, atol=1e-6)
