"""Requests of a client as requests of the engine: settings, and events as they come."""

import asyncio
import dataclasses
import secrets
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np
from starlette.requests import Request

from lm.serve.body import Refused
from lm.serve.model import Served
from lm.serve.request import (
    FAILED,
    NOT_FINITE,
    SEEDS,
    Asked,
    Drawn,
    Ended,
    Event,
    Likely,
    Prompt,
    Prompted,
)
from lm.serve.settings import Settings
from lm.serve.writer import Writer


@dataclasses.dataclass
class Choice:
    """One answer as it grows."""

    index: int
    asked: Asked
    writer: Writer
    tokens: list[tuple[int, Likely | None]] = dataclasses.field(default_factory=list)
    prompt: Likely | None = None
    reason: str | None = None
    end: tuple[int, Likely | None] | None = None  # the token that ended it, not of the text
    fault: str = FAILED  # where the reason is "error"

    @property
    def mean_logp(self) -> float:
        """The mean log-probability of what was drawn, the end with it."""
        drawn = [*self.tokens, *([self.end] if self.end else [])]
        told = [float(likely.logp[0]) for _, likely in drawn if likely is not None]
        return sum(told) / max(1, len(told))

    @property
    def failure(self) -> Refused:
        """What a client is told where the reason is "error"."""
        return Refused(self.fault, status=500, kind="server_error")


@dataclasses.dataclass(frozen=True)
class News:
    """What has happened to a choice."""

    choice: Choice
    text: str
    token: int | None = None
    likely: Likely | None = None
    read: bool = False  # its prompt has been read


def writers(
    served: Served, prompts: Sequence[Prompt], settings: Settings, echo: bool = False
) -> list[Writer]:
    """Those of all answers to some prompts; to spell prompts that are echoed is work."""
    return [
        Writer(
            served.spelling(), settings.stops, prompt.ids if echo else (), settings.penalties.least
        )
        for prompt in prompts
        for _ in range(settings.draws)
    ]


class Answers:
    """All answers that one request of a client asks for.

    Args:
      ends: the model's own tokens that end an answer.
      writers: of each of them.

    Raises:
      Busy, TooLong, ConfigError: as the engine's `submit`.
    """

    def __init__(
        self, served: Served, prompts: Sequence[Prompt], settings: Settings,
        ends: frozenset[int], writers: Sequence[Writer], *, alternatives: bool, scored: bool,
    ):  # fmt: skip
        loop, self._queue = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Event]]()
        self._served, self._prompts = served, len(prompts)

        def teller(index: int) -> Callable[[Event], None]:
            def tell(event: Event) -> None:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(self._queue.put_nowait, (index, event))

            return tell

        self.choices = []
        for place, prompt in enumerate(prompts):
            seed = secrets.randbelow(SEEDS) if settings.seed is None else settings.seed
            for number in range(settings.draws):
                index = place * settings.draws + number
                asked = Asked(
                    prompt=prompt.ids, max_tokens=prompt.max_tokens, images=prompt.images,
                    prefix=prompt.prefix, sampling=settings.sampling, tell=teller(index),
                    seed=seed, number=number, ends=settings.ends(ends),
                    penalties=settings.penalties, alternatives=alternatives, scored=scored,
                )  # fmt: skip
                self.choices.append(Choice(index, asked, writers[index]))
        served.engine.submit(*(choice.asked for choice in self.choices))

    async def news(self) -> AsyncIterator[News]:
        """What happens, until all have ended. Whoever stops listening leaves."""
        open_choices = len(self.choices)
        try:
            while open_choices:
                index, event = await self._queue.get()
                choice = self.choices[index]
                if choice.reason is not None:
                    continue
                if event.likely is not None and np.isnan(event.likely.logp).any():
                    choice.asked.leave()
                    event = Ended("error", fault=NOT_FINITE)
                if isinstance(event, Prompted):
                    choice.prompt = event.likely
                    yield News(choice, "", read=True)
                elif isinstance(event, Drawn):
                    choice.tokens.append((event.token, event.likely))
                    text = choice.writer.add(event.token)
                    if choice.writer.stopped:
                        choice.reason = "stop"
                        choice.asked.leave()
                        open_choices -= 1
                    yield News(choice, text, event.token, event.likely)
                elif isinstance(event, Ended):
                    text = choice.writer.finish()
                    choice.reason = "stop" if choice.writer.stopped else event.reason
                    choice.fault = event.fault
                    choice.end = None if event.token is None else (event.token, event.likely)
                    open_choices -= 1
                    yield News(choice, text)
        finally:
            self.leave()

    def best(self, choices: int) -> list[Choice]:
        """So many of the draws of each prompt, the likeliest first, numbered anew."""
        found = []
        draws = len(self.choices) // self._prompts
        for first in range(0, len(self.choices), draws):
            own = self.choices[first : first + draws]
            if choices < draws:
                own = sorted(own, key=lambda choice: -choice.mean_logp)[:choices]
            found += own
        return [dataclasses.replace(choice, index=n) for n, choice in enumerate(found)]

    def leave(self) -> None:
        """Nobody wants more of any of them."""
        for choice in self.choices:
            choice.asked.leave()

    async def finish(self, request: Request) -> bool:
        """Waits for all of them; false where the client left before."""
        whole = asyncio.ensure_future(self._collect())
        gone = asyncio.ensure_future(departed(request))
        try:
            await asyncio.wait({whole, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not whole.done():
                whole.cancel()
                self.leave()
        return whole.done() and not whole.cancelled() and whole.result()

    async def _collect(self) -> bool:
        async for _ in self.news():
            pass
        return True

    @property
    def usage(self) -> dict[str, int]:
        """Tokens read and drawn, as OpenAI counts them."""
        each = len(self.choices) // self._prompts
        read = sum(len(choice.asked.prompt) for choice in self.choices[::each])
        drawn = sum(len(choice.tokens) for choice in self.choices)
        return {"prompt_tokens": read, "completion_tokens": drawn, "total_tokens": read + drawn}


async def departed(request: Request) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def told(served: Served, likely: Likely, row: int, most: int) -> list[tuple[int, float]]:
    """The `most` likeliest tokens of a place, with their log-probabilities."""
    ids, logps = likely.ids[row][:most], likely.logps[row][:most]
    return [(int(i), number(logp)) for i, logp in zip(ids, logps, strict=True)]


def number(logp: float) -> float:
    """A log-probability that JSON can hold."""
    return max(float(logp), -9999.0)
