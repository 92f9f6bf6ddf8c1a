"""The perplexity of a model on a text."""

import math

LARGEST = 700.0  # nats; of more no float holds the exponential


def perplexity(loss: float) -> float:
    """exp of a mean loss in nats, also where a run diverged and no float could hold it."""
    return math.exp(min(loss, LARGEST))
