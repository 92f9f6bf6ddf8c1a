"""What a model writes after prompts of unequal length, up to a text that stops it."""

import dataclasses
import functools
from collections.abc import Container, Iterator, Sequence

from lm.core.config import require
from lm.decode.beam import beam_search
from lm.decode.generate import Generator, check_prompts
from lm.decode.sampling import SamplingConfig
from lm.evals.batches import Batches, power_of_two, together
from lm.text.tokenizer import Tokenizer

CHUNK = 16  # tokens written before one looks whether all texts have ended


@dataclasses.dataclass(frozen=True)
class Written:
    """What was written after a prompt."""

    text: str  # up to a stop
    ids: list[int]  # without the end token
    finish: str  # "stop": it has ended, or come to a stop; "length": there may be no more
    score: float | None = None  # of a search: its normalised log-probability


class Writer:
    """A model for decoding, its tokenizer, and how much it reads at a time."""

    def __init__(self, generator: Generator, tokenizer: Tokenizer, batches: Batches):
        self.generator, self.tokenizer, self.batches = generator, tokenizer, batches

    def __call__(
        self, prompts: Sequence[str], tokens: int, *, stop: Sequence[str], beams: int,
        length_penalty: float, sampling: SamplingConfig, seed: int,
        numbers: Sequence[int] | None = None,
    ) -> list[str]:  # fmt: skip
        """The text after each prompt, as `Scorer.generate` says."""
        require(
            beams == 1 or sampling.temperature == 0, "several beams search; a temperature draws"
        )
        ids = self.read(prompts)
        check_prompts(ids, self.generator.config.length, tokens)
        texts = [""] * len(ids)
        for place, written in self.each(
            ids, tokens, stop=stop, beams=beams if beams > 1 else 0,
            length_penalty=length_penalty, sampling=sampling, seed=seed, numbers=numbers,
        ):  # fmt: skip
            texts[place] = written.text
        return texts

    def read(self, prompts: Sequence[str]) -> list[list[int]]:
        """Their tokens: after nothing at all a model goes on as after the end of a document."""
        return [row or [self.tokenizer.end] for row in self.tokenizer.encode_batch(list(prompts))]

    def each(
        self, ids: Sequence[list[int]], tokens: int, *, stop: Sequence[str], beams: int,
        length_penalty: float, sampling: SamplingConfig, seed: int, done: Container[int] = (),
        numbers: Sequence[int] | None = None,
    ) -> Iterator[tuple[int, Written]]:  # fmt: skip
        """The place of each prompt that is not `done` and what is written after it, the longest
        prompts first.

        It depends on the prompt and its number alone, which is its place where `numbers` is None.
        What is drawn (`beams` 0) goes on beyond the context; hypotheses are compared whole, so that
        a search ends with it.
        """
        config = self.generator.config
        numbers = range(len(ids)) if numbers is None else numbers

        def count(place: int) -> int:
            return min(tokens, config.length - len(ids[place])) if beams else tokens

        order = [place for place in range(len(ids)) if place not in done]
        order.sort(key=lambda place: -len(ids[place]))
        while order:
            longest, most = len(ids[order[0]]), count(order[0])
            rows = max(1, self.batches.rows(longest + tokens) // max(1, beams))
            some = together(config, order, ids, rows)
            some = [place for place in some if count(place) == most]
            order = order[len(some) :]
            batch = [ids[place] for place in some]
            filling = min(rows, power_of_two(len(batch))) - len(batch)
            batch += batch[:1] * filling
            scores: list[float | None] = [None] * len(batch)
            if beams:
                found, scores[:] = beam_search(
                    self.generator, batch, most, width=beams, alpha=length_penalty,
                    ends=self.ends(stop),
                )  # fmt: skip
            else:
                # by their own numbers: the draws of a prompt are the same in any batch
                own = [numbers[place] for place in some + some[:1] * filling]
                found = self.written(batch, most, sampling, stop, seed, own)
            for place, row, score in zip(some, found, scores, strict=False):
                whole = self.tokenizer.decode(row)
                text = before(whole, stop)
                ended = len(row) < most or text != whole
                yield place, Written(text, row, "stop" if ended else "length", score)

    def written(
        self, prompts: list[list[int]], count: int, sampling: SamplingConfig,
        stop: Sequence[str], seed: int, numbers: Sequence[int],
    ) -> list[list[int]]:  # fmt: skip
        """Tokens of each prompt without the end, until all have ended or stopped."""
        end = self.tokenizer.end
        rows: list[list[int]] = [[] for _ in prompts]
        for chunk in self.generator.stream(
            prompts, count, sampling, seed=seed, chunk=CHUNK, numbers=numbers
        ):
            for row, new in zip(rows, chunk.tolist(), strict=True):
                row += new
            texts = (self.tokenizer.decode(row) for row in rows)
            if all(
                end in row or before(text, stop) != text
                for row, text in zip(rows, texts, strict=True)
            ):
                break
        return [row[: row.index(end)] if end in row else row for row in rows]

    def ends(self, stop: Sequence[str]) -> list[int]:
        """The tokens with which a text has ended: the end, and those in which a stop stands."""
        marks = [text.encode() for text in stop]
        found = [i for i, piece in enumerate(self.pieces) if any(mark in piece for mark in marks)]
        return [self.tokenizer.end, *found]

    @functools.cached_property
    def pieces(self) -> list[bytes]:
        return [self.tokenizer.decode_bytes([i]) for i in range(self.tokenizer.vocab_size)]


def before(text: str, stop: Sequence[str]) -> str:
    """The text up to the first of the stops in it."""
    places = [place for place in (text.find(mark) for mark in stop) if place >= 0]
    return text[: min(places)] if places else text
