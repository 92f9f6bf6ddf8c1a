"""Requests in a few shapes, so that few programs are compiled, the longest first."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from lm.decode.generate import rounded
from lm.evals.requests import Pair
from lm.models.gpt import GptConfig

SMALLEST = 32  # the shortest row that is compiled


@dataclasses.dataclass(frozen=True)
class Batches:
    """How much a model of this context reads at a time: about `tokens` tokens."""

    length: int
    tokens: int

    def rows(self, length: int) -> int:
        """How many rows of that length are read together: a power of two."""
        return 2 ** max(0, (self.tokens // bucket(length, self.length)).bit_length() - 1)

    def of_rows(self, pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
        """Pairs that are read whole, for one shape."""

        def size(pair: Pair) -> int:
            return len(pair.context) + len(pair.continuation)

        batch: list[Pair] = []
        for pair in sorted(pairs, key=size, reverse=True):
            if batch and len(batch) == self.rows(size(batch[0]) - 1):
                yield batch
                batch = []
            batch.append(pair)
        if batch:
            yield batch

    def of_groups(self, groups: Sequence[list[Pair]]) -> Iterator[list[list[Pair]]]:
        """Groups that are read and continued together: of like contexts, then of like answers."""

        def size(group: list[Pair]) -> tuple[int, int]:
            return rounded(len(group[0].context)), max(len(pair.continuation) for pair in group)

        batch: list[list[Pair]] = []
        for group in sorted(groups, key=size, reverse=True):
            slots = sum(size((batch or [group])[0]))
            if batch and sum(map(len, batch)) + len(group) > 2 * self.tokens // slots:
                yield batch
                batch = []
            batch.append(group)
        if batch:
            yield batch


def together(
    config: GptConfig, order: Sequence[int], prompts: Sequence[Sequence[int]], rows: int
) -> list[int]:
    """The first `rows` of `order`, which are numbers of prompts: those that can be read with the
    first of them, which is those of its length where padding would move blocks."""
    some = order[:rows]
    if not config.counts_blocks:
        return list(some)
    return [number for number in some if len(prompts[number]) == len(prompts[order[0]])]


def power_of_two(size: int) -> int:
    """The least power of two that is not below `size`."""
    return 1 << (size - 1).bit_length()


def bucket(size: int, most: int) -> int:
    """A length to compile for: a power of two or one and a half times one, `most` at most."""
    whole = max(SMALLEST, power_of_two(size))
    return min(most, whole * 3 // 4 if size <= whole * 3 // 4 and whole > SMALLEST else whole)
