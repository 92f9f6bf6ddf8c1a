"""A language model as evaluation asks for it: how likely a text is, and what it writes.

scorer = Scorer(config, params, tokenizer, mesh)       # or lm.load(RUN).scorer()
right, wrong = scorer.scores([Request("2 + 2 =", " 4"), Request("2 + 2 =", " 5")])
"""

import functools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from lm.core.config import require
from lm.decode.generate import Generator, check_ids
from lm.decode.sampling import SamplingConfig
from lm.decode.score import score_after, score_whole
from lm.evals.batches import SMALLEST, Batches, bucket, power_of_two
from lm.evals.requests import Pair, Request, Score, encode
from lm.evals.writing import Writer
from lm.models.gpt import GptConfig
from lm.text.tokenizer import Tokenizer


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
        self.batches = Batches(config.length, batch_tokens)

    @property
    def length(self) -> int:
        """Tokens of context."""
        return self.config.length

    @functools.cached_property
    def generator(self) -> Generator:
        """The same model for decoding: it holds its parameters a second time, by layer."""
        with jax.set_mesh(self.mesh):
            size = self.tokenizer.vocab_size
            return Generator(self.config, self.params, self.tokenizer.end, size)

    @functools.cached_property
    def writer(self) -> Writer:
        return Writer(self.generator, self.tokenizer, self.batches)

    # ------------------------------------------------------------------ scores

    def fits(self, requests: Sequence[Request]) -> list[bool]:
        """Whether `scores` takes each request: its continuation is within the model's context."""
        pairs = encode(requests, self.tokenizer)
        return [len(pair.continuation) <= self.length for pair in pairs]

    def scores(self, requests: Sequence[Request], *, exact: bool = False) -> list[Score]:
        """The score of each continuation after its context; `exact` as in `encode`.

        Requests with the same context share its reading where that saves work. A context that
        does not fit with its continuation is cut from the left, and the score says by how much.

        Raises:
          DataError: a continuation that is empty or longer than the model's context.
        """
        pairs = encode(requests, self.tokenizer, exact=exact)
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
            if len(context) * (len(members) - 1) > steps and not self.config.counts_blocks:
                shared.append(members)
            else:
                alone += members
        with jax.set_mesh(self.mesh):
            for batch in self.batches.of_rows(alone):
                found |= self._score_alone(batch)
            for some in self.batches.of_groups(shared):
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
        shape = (
            min(power_of_two(len(rows)), self.batches.rows(longest)),
            bucket(longest, self.length),
        )
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

        Raises:
          ConfigError: a stride below 1 or above the model's context.
          DataError: ids that are no integers [T], or one that the model's vocabulary lacks.
        """
        stride = max(1, self.length // 2) if stride is None else stride
        require(
            1 <= stride <= self.length,
            f"stride must be from 1 to the context of {self.length}, got {stride}",
        )
        if len(ids):
            check_ids(np.asarray(ids), self.config.vocab, most=1)
        text = (self.tokenizer.end, *ids)
        # The first window has nothing before it, and scores all that it holds.
        ends = [min(self.length, len(ids)), *range(self.length + stride, len(ids), stride)]
        ends += [len(ids)] if ends[-1] < len(ids) else []
        losses = np.zeros(len(ids))
        windows, scored = [], 0
        for end in ends if len(ids) else []:
            windows.append((max(0, end - self.length), scored, end))
            scored = end
        rows = self.batches.rows(min(self.length, len(ids)))
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
        top_p: float | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        numbers: Sequence[int] | None = None,
    ) -> list[str]:
        """What the model writes after each prompt: up to `tokens` tokens, without the first of
        `stop` and what follows.

        Several beams search (a hypothesis ends with a token in which a stop text stands); one is
        greedy at temperature 0, and draws at another, by `seed` and the prompt's number: its place
        where `numbers` is None.

        Raises:
          ConfigError: several beams with a temperature.
          DataError: a prompt that with `tokens` does not fit the model's context.
        """
        sampling = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p)
        with jax.set_mesh(self.mesh):
            return self.writer(
                prompts, tokens, stop=stop, beams=beams, length_penalty=length_penalty,
                sampling=sampling, seed=seed, numbers=numbers,
            )  # fmt: skip
