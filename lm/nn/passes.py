"""What a training step computes of a part of a model, by whether the part is learned."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Passes:
    """Floating-point operations of a token, forward and backward."""

    weight: float  # for each weight of a product
    pair: float  # for each query-key pair of attention, N H times


LEARNED = Passes(6.0, 12.0)  # forward, the gradient of what comes in, and that of the weights
THROUGH = Passes(4.0, 12.0)  # frozen, over something that is learned: no gradient of the weights
READ = Passes(2.0, 4.0)  # frozen, over nothing that is learned: forward alone
