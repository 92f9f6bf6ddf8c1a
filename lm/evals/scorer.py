"""A language model as evaluation asks for it: how likely a text is, and what it writes.

scorer = Scorer(config, params, tokenizer, mesh)       # or lm.load(RUN).scorer()
right, wrong = scorer.scores([Request("2 + 2 =", " 4"), Request("2 + 2 =", " 5")])

Requests are brought into a few shapes, so that few programs are compiled, the longest first.
"""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from lm.core.config import require
from lm.core.errors import DataError
from lm.decode.beam import beam_search
from lm.decode.generate import Generator, rounded
from lm.decode.sampling import SamplingConfig
from lm.decode.score import score_after, score_whole
from lm.models.gpt import GptConfig
from lm.text.tokenizer import Tokenizer

SMALLEST = 32  # the shortest row that is compiled
CHUNK = 16  # tokens written before one looks whether all texts have ended


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


class Scorer:
    """One model, its tokenizer, and the mesh that its parameters are on (of one process)."""

    def __init__(
        self,
        config: GptConfig,
        params: Any,
        tokenizer: Tokenizer,
        mesh: jax.sharding.Mesh,
        *,
        batch_tokens: int = 8192,
    ):
        """`batch_tokens`: how many are read at a time; memory grows with it."""
        require(batch_tokens >= 1, f"batch_tokens must be at least 1, got {batch_tokens}")
        self.config, self.params, self.tokenizer, self.mesh = config, params, tokenizer, mesh
        self.batch_tokens = batch_tokens

    @property
    def length(self) -> int:
        """Tokens of context."""
        return self.config.length

    @functools.cached_property
    def generator(self) -> Generator:
        """The same model for decoding: it holds its parameters a second time, by layer."""
        with jax.set_mesh(self.mesh):
            return Generator(self.config, self.params, self.tokenizer.end)

    # ------------------------------------------------------------------ scores

    def scores(self, requests: Sequence[Request]) -> list[Score]:
        """The score of each continuation after its context.

        Requests with the same context share its reading where that saves work. A context that
        does not fit with its continuation is cut from the left, and the score says by how much.

        Raises:
          DataError: a continuation that is empty or longer than the model's context.
        """
        pairs = self.encode(requests)
        cut = [pair.cut(self.length) for pair in pairs]
        found: dict[Pair, tuple[float, bool]] = {}
        alone: list[Pair] = []
        shared: list[list[Pair]] = []
        groups: dict[tuple[int, ...], list[Pair]] = defaultdict(list)
        for pair in dict.fromkeys(cut):
            groups[pair.context].append(pair)
        for context, members in groups.items():
            steps = sum(len(pair.continuation) - 1 for pair in members)
            # what is saved are tokens of the context; what it costs is to go token by token
            if len(context) * (len(members) - 1) > steps and "fixed" not in self.config.pattern:
                shared.append(members)
            else:
                alone += members
        with jax.set_mesh(self.mesh):
            for batch in self._row_batches(alone):
                found |= self._score_alone(batch)
            for some in self._group_batches(shared):
                found |= self._score_shared(some)
        return [
            Score(
                log_likelihood=found[short][0],
                tokens=len(short.continuation),
                greedy=found[short][1],
                truncated=len(whole.context) - len(short.context),
            )
            for whole, short in zip(pairs, cut, strict=True)
        ]

    def encode(self, requests: Sequence[Request]) -> list[Pair]:
        """Requests as tokens.

        The continuation has the tokens of the whole text beyond those of the context, where the
        whole begins with these; where the two melt into one token, they are encoded apart. White
        space at the end of a context belongs to the continuation, and an empty context is the
        token that ends a text (both as lm-evaluation-harness has it).
        """
        texts: list[tuple[str, str]] = []
        for request in requests:
            context = request.context.rstrip()
            texts.append((context, request.context[len(context) :] + request.continuation))
        distinct = list(dict.fromkeys(text for a, b in texts for text in (a, a + b, b)))
        ids = dict(zip(distinct, self.tokenizer.encode_batch(distinct), strict=True))
        pairs = []
        for number, (context, continuation) in enumerate(texts):
            before, whole = ids[context], ids[context + continuation]
            clean = whole[: len(before)] == before
            after = whole[len(before) :] if clean else ids[continuation]
            if not after:
                raise DataError(f"request {number} has an empty continuation: give it some text")
            pairs.append(Pair(tuple(before or [self.tokenizer.end]), tuple(after)))
        return pairs

    def _row_batches(self, pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
        """Pairs for one shape, the longest first."""

        def size(pair: Pair) -> int:
            return len(pair.context) + len(pair.continuation)

        batch: list[Pair] = []
        for pair in sorted(pairs, key=size, reverse=True):
            if batch and len(batch) == self._rows(size(batch[0]) - 1):
                yield batch
                batch = []
            batch.append(pair)
        if batch:
            yield batch

    def _rows(self, tokens: int) -> int:
        """How many rows of that length are read together: a power of two."""
        return 2 ** max(0, (self.batch_tokens // bucket(tokens, self.length)).bit_length() - 1)

    def _score_alone(self, pairs: Sequence[Pair]) -> dict[Pair, tuple[float, bool]]:
        rows = [(*pair.context, *pair.continuation) for pair in pairs]
        spans = [
            (len(pair.context) - 1, len(row) - 1) for pair, row in zip(pairs, rows, strict=True)
        ]
        found = self._score_spans(rows, spans)
        return {
            pair: (float(logp.sum(dtype=np.float64)), bool(likeliest.all()))
            for pair, (logp, likeliest) in zip(pairs, found, strict=True)
        }

    def _score_spans(
        self, rows: Sequence[Sequence[int]], spans: Sequence[tuple[int, int]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Log-probabilities of the tokens after the places of each row's span, and whether each
        is the likeliest. The last token of a row is not read."""
        longest = max(map(len, rows)) - 1
        shape = min(power_of_two(len(rows)), self._rows(longest)), bucket(longest, self.length)
        sizes = [last - first for first, last in spans]
        tokens = np.zeros(shape, np.int32)
        places, targets = np.zeros((2, power_of_two(sum(sizes))), np.int32)
        done = 0
        for number, (row, (first, last)) in enumerate(zip(rows, spans, strict=True)):
            tokens[number, : len(row) - 1] = row[:-1]
            here = slice(done, done + last - first)
            places[here] = np.arange(first, last) + number * shape[1]
            targets[here] = row[first + 1 : last + 1]
            done += last - first
        logp, likeliest = jax.device_get(
            score_whole(self.config, self.params, tokens, places, targets, done)
        )
        ends = np.cumsum(sizes)[:-1]
        parts = (np.split(each[:done], ends) for each in (logp, likeliest))
        return list(zip(*parts, strict=True))

    def _group_batches(self, groups: Sequence[list[Pair]]) -> Iterator[list[list[Pair]]]:
        """Groups that are read and continued together: of like contexts, then of like answers."""

        def size(group: list[Pair]) -> tuple[int, int]:
            return rounded(len(group[0].context)), max(len(pair.continuation) for pair in group)

        batch: list[list[Pair]] = []
        for group in sorted(groups, key=size, reverse=True):
            slots = sum(size((batch or [group])[0]))
            if batch and sum(map(len, batch)) + len(group) > 2 * self.batch_tokens // slots:
                yield batch
                batch = []
            batch.append(group)
        if batch:
            yield batch

    def _score_shared(self, groups: Sequence[list[Pair]]) -> dict[Pair, tuple[float, bool]]:
        pairs = [pair for group in groups for pair in group]
        most = max(SMALLEST, power_of_two(max(len(pair.continuation) for pair in pairs)))
        contexts = [group[0].context for group in groups]
        contexts += contexts[:1] * (power_of_two(len(contexts)) - len(contexts))
        rows = power_of_two(len(pairs))
        prompt, counts = np.zeros(rows, np.int32), np.ones(rows, np.int32)
        prompt[: len(pairs)] = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        counts[: len(pairs)] = [len(pair.continuation) for pair in pairs]
        tokens = np.zeros((rows, most), np.int32)
        for row, pair in zip(tokens, pairs, strict=False):
            row[: len(pair.continuation)] = pair.continuation
        after_first = (np.arange(most) < counts[:, None]) & (np.arange(most) > 0)
        places = np.zeros(tokens.size, np.int32)
        places[: after_first.sum()] = np.flatnonzero(after_first)
        decoding = self.generator.read(contexts, most)
        params = self.generator.params
        logp, greedy = jax.device_get(
            score_after(self.config, params, decoding, prompt, tokens, counts, places)
        )
        return {pair: (float(logp[n]), bool(greedy[n])) for n, pair in enumerate(pairs)}

    # ----------------------------------------------------------------- rolling

    def rolling(self, ids: Sequence[int], *, stride: int | None = None) -> np.ndarray:
        """Nats of each token of a text of any length, each scored once. [T] float64

        The text is read in windows as long as the model's context; each scores `stride` tokens
        (half the context where None), after as many before them as fit. The first is scored after
        the token that ends a text. With stride = length the windows are those of
        lm-evaluation-harness.
        """
        stride = stride or max(1, self.length // 2)
        require(stride <= self.length, f"stride {stride} is above the context of {self.length}")
        text = (self.tokenizer.end, *ids)
        # The first window has nothing before it, and scores all that it holds.
        ends = [min(self.length, len(ids)), *range(self.length + stride, len(ids), stride)]
        ends += [len(ids)] if ends[-1] < len(ids) else []
        losses = np.zeros(len(ids))
        windows, scored = [], 0
        for end in ends if len(ids) else []:
            windows.append((max(0, end - self.length), scored, end))
            scored = end
        rows = self._rows(min(self.length, len(ids)))
        for first in range(0, len(windows), rows):
            some = windows[first : first + rows]
            with jax.set_mesh(self.mesh):
                found = self._score_spans(
                    [text[start : end + 1] for start, _, end in some],
                    [(done - start, end - start) for start, done, end in some],
                )
            for (_, done, end), (logp, _) in zip(some, found, strict=True):
                losses[done:end] = -logp
        return losses

    # ---------------------------------------------------------------- generate

    def generate(
        self,
        prompts: Sequence[str],
        tokens: int,
        *,
        stop: Sequence[str] = ("\n",),
        beams: int = 1,
        length_penalty: float = 0.6,
        top_k: int | None = None,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """What the model writes after each prompt: up to `tokens` tokens, without the first of
        `stop` and what follows.

        Several beams search (a hypothesis ends with a token in which a stop text stands); one is
        greedy at temperature 0, and draws by `seed` at another.

        Raises:
          ConfigError: several beams with a temperature.
          DataError: a prompt that with `tokens` does not fit the model's context.
        """
        require(beams == 1 or temperature == 0, "several beams search; a temperature draws")
        ids = [row or [self.tokenizer.end] for row in self.tokenizer.encode_batch(list(prompts))]
        for number, row in enumerate(ids):
            if len(row) + tokens > self.length:
                raise DataError(
                    f"prompt {number} has {len(row)} tokens; with {tokens} to write it does not "
                    f"fit the model's context of {self.length}: shorten it"
                )
        texts = [""] * len(ids)
        sampling = SamplingConfig(temperature=temperature, top_k=top_k)
        order = sorted(range(len(ids)), key=lambda number: -len(ids[number]))
        while order:
            longest = len(ids[order[0]])
            rows = max(1, self._rows(min(longest + tokens, self.length)) // beams)
            some = order[:rows]
            if "fixed" in self.config.pattern:  # whose prompts must be of one length
                some = [number for number in some if len(ids[number]) == longest]
            order = order[len(some) :]
            batch = [ids[number] for number in some]
            batch += batch[:1] * (min(rows, power_of_two(len(batch))) - len(batch))
            with jax.set_mesh(self.mesh):
                if beams > 1:
                    written, _ = beam_search(
                        self.generator, batch, tokens, width=beams, alpha=length_penalty,
                        ends=self._ends(stop),
                    )  # fmt: skip
                else:
                    written = self._written(batch, tokens, sampling, stop, seed + some[0])
            for number, row in zip(some, written, strict=False):
                texts[number] = before(self.tokenizer.decode(row), stop)
        return texts

    def _written(
        self, prompts: list[list[int]], count: int, sampling: SamplingConfig,
        stop: Sequence[str], seed: int,
    ) -> list[list[int]]:  # fmt: skip
        """Tokens of each prompt without the end, until all have ended or stopped."""
        end = self.tokenizer.end
        rows: list[list[int]] = [[] for _ in prompts]
        for chunk in self.generator.stream(prompts, count, sampling, seed=seed, chunk=CHUNK):
            for row, new in zip(rows, chunk.tolist(), strict=True):
                row += new
            texts = (self.tokenizer.decode(row) for row in rows)
            if all(
                end in row or before(text, stop) != text
                for row, text in zip(rows, texts, strict=True)
            ):
                break
        return [row[: row.index(end)] if end in row else row for row in rows]

    def _ends(self, stop: Sequence[str]) -> list[int]:
        """The tokens with which a text has ended: the end, and those in which a stop stands."""
        marks = [text.encode() for text in stop]
        found = [i for i, piece in enumerate(self._pieces) if any(mark in piece for mark in marks)]
        return [self.tokenizer.end, *found]

    @functools.cached_property
    def _pieces(self) -> list[bytes]:
        return [self.tokenizer.decode_bytes([i]) for i in range(self.tokenizer.vocab_size)]


def before(text: str, stop: Sequence[str]) -> str:
    """The text up to the first of the stops in it."""
    places = [place for place in (text.find(mark) for mark in stop) if place >= 0]
    return text[: min(places)] if places else text


def power_of_two(size: int) -> int:
    """The least power of two that is not below `size`."""
    return 1 << (size - 1).bit_length()


def bucket(size: int, most: int) -> int:
    """A length to compile for: a power of two or one and a half times one, `most` at most."""
    whole = max(SMALLEST, power_of_two(size))
    return min(most, whole * 3 // 4 if size <= whole * 3 // 4 and whole > SMALLEST else whole)
