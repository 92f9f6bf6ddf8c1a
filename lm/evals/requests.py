"""What a model is asked to score, as text and as tokens."""

import dataclasses
from collections.abc import Sequence

from lm.core.errors import DataError
from lm.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Request:
    """How likely is `continuation` after `context`? An empty context is the start of a text."""

    context: str
    continuation: str


@dataclasses.dataclass(frozen=True)
class Score:
    log_likelihood: float  # nats, summed over the continuation's tokens
    tokens: int  # of the continuation
    greedy: bool  # each of them was the likeliest
    truncated: int  # tokens of the context that did not fit, cut from the left


@dataclasses.dataclass(frozen=True)
class Pair:
    """A request in tokens."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    def cut(self, length: int) -> "Pair":
        """The pair with as much of the context as a model of this length can read."""
        room = length + 1 - len(self.continuation)  # the last token is never read
        if room < 1:
            raise DataError(
                f"a continuation of {len(self.continuation)} tokens is more than the model's "
                f"context of {length}; shorten it"
            )
        return Pair(self.context[-room:], self.continuation)


def encode(requests: Sequence[Request], tokenizer: Tokenizer, *, exact: bool = False) -> list[Pair]:
    """Requests as tokens.

    The continuation has the tokens of the whole text beyond those of the context, where the
    whole begins with these; where the two melt into one token, they are encoded apart. White
    space at the end of a context belongs to the continuation, unless `exact`, and an empty context
    is the token that ends a text (both as lm-evaluation-harness has it).
    """
    texts: list[tuple[str, str]] = []
    for request in requests:
        context = request.context if exact else request.context.rstrip()
        texts.append((context, request.context[len(context) :] + request.continuation))
    distinct = list(dict.fromkeys(text for a, b in texts for text in (a, a + b, b)))
    ids = dict(zip(distinct, tokenizer.encode_batch(distinct), strict=True))
    pairs = []
    for number, (context, continuation) in enumerate(texts):
        before, whole = ids[context], ids[context + continuation]
        clean = whole[: len(before)] == before
        after = whole[len(before) :] if clean else ids[continuation]
        if not after:
            raise DataError(f"request {number} has an empty continuation: give it some text")
        pairs.append(Pair(tuple(before or [tokenizer.end]), tuple(after)))
    return pairs
