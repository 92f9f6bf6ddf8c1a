"""OpenAI's completions: what a model writes after a text, or after token ids."""

import asyncio
import functools
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from lm.core.errors import TooLong
from lm.serve.answers import Answers, Choice, News, number, told, writers
from lm.serve.body import Fields, Refused
from lm.serve.model import Served
from lm.serve.programs import ALTERNATIVES
from lm.serve.request import Likely, Prompt
from lm.serve.settings import MOST_CHOICES, Settings
from lm.serve.spelling import Spelling
from lm.text.interface import unpaired

MOST_PROMPTS = 2048  # as OpenAI's; the queue may hold fewer
DEFAULT_TOKENS = 16  # as OpenAI's


async def complete(request: Request, served: Served, body: dict[str, Any]) -> Response:
    """POST /v1/completions."""
    fields = Fields(body)
    settings = Settings.read(fields, served)
    logprobs = fields.whole("logprobs", None, 0, ALTERNATIVES)  # as vLLM's; OpenAI's end at 5
    echo = fields.flag("echo")
    fewest = settings.choices
    settings = replace(settings, draws=fields.whole("best_of", fewest, fewest, MOST_CHOICES))
    ranked = settings.draws > settings.choices
    if ranked and settings.stream:
        raise Refused("best_of ranks what is whole: leave stream out", param="best_of")
    # encoding is work, and spelling too: the others are answered meanwhile
    ids = await asyncio.to_thread(read_prompts, fields, served)
    fields.end()
    served.engine.check_number(len(ids) * settings.draws)  # before each of them is made
    room = [served.engine.length - len(each) for each in ids]
    wanted = settings.max_tokens
    counts = [min(DEFAULT_TOKENS, max(each, 0)) if wanted is None else wanted for each in room]
    prompts = list(map(Prompt, ids, counts))
    texts = await asyncio.to_thread(writers, served, prompts, settings, echo)
    try:
        answers = Answers(
            served, prompts, settings, served.ends, texts,
            alternatives=logprobs is not None or ranked, scored=echo and logprobs is not None,
        )  # fmt: skip
    except TooLong as error:
        raise Refused(str(error), param="max_tokens", code="context_length_exceeded") from None
    form = Form(served, "cmpl-" + uuid.uuid4().hex, logprobs, echo)
    if settings.stream:
        return StreamingResponse(
            form.stream(answers, settings), media_type="text/event-stream", headers=NO_CACHE
        )
    if not await answers.finish(request):
        return Response(status_code=499)
    failed(answers)
    best = answers.best(settings.choices)
    choices = await asyncio.to_thread(lambda: list(map(form.whole, best)))
    return JSONResponse(form.envelope(choices) | {"usage": answers.usage})


NO_CACHE = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def failed(answers: Answers) -> None:
    """Says that the engine failed, where it did."""
    for choice in answers.choices:
        if choice.reason == "error":
            raise choice.failure


def read_prompts(fields: Fields, served: Served) -> list[list[int]]:
    """A string, strings, token ids or lists of them, as lists of ids.

    Raises:
      Refused: anything else, or an id that the model does not have.
    """
    prompt = fields.take("prompt")
    if isinstance(prompt, str):
        prompt = [prompt]
    if not isinstance(prompt, list) or not prompt:
        raise fields.wrong("prompt", "a string, a list of token ids, or a list of one of these")
    if all(isinstance(one, int) and not isinstance(one, bool) for one in prompt):
        prompt = [prompt]
    if len(prompt) > MOST_PROMPTS:
        raise Refused(f"{len(prompt)} prompts are more than {MOST_PROMPTS}", param="prompt")
    found = []
    for one in prompt:
        if isinstance(one, str) and not unpaired(one):
            # to nothing at all a model continues as it does after the end of a document
            found.append(served.tokenizer.encode(one) or [served.tokenizer.end])
        elif (
            isinstance(one, list)
            and one
            and all(type(i) is int and 0 <= i < served.vocab for i in one)
        ):
            found.append(one)
        else:
            raise Refused(
                f"prompt must be made of strings, or of token ids from 0 to {served.vocab - 1}",
                param="prompt",
            )
    longest = max(map(len, found))
    if longest > served.engine.length:
        raise Refused(
            f"the prompt has {longest} tokens, the context is {served.engine.length}: shorten it",
            param="prompt", code="context_length_exceeded",
        )  # fmt: skip
    return found


class Form:
    """The objects that a client of completions gets."""

    def __init__(self, served: Served, name: str, logprobs: int | None, echo: bool):
        self.served, self.name, self.logprobs, self.echo = served, name, logprobs, echo
        self.created = int(time.time())

    def envelope(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.name, "object": "text_completion", "created": self.created,
            "model": self.served.name, "choices": choices,
        }  # fmt: skip

    def choice(
        self, index: int, text: str, logprobs: dict[str, Any] | None, reason: str | None
    ) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def whole(self, choice: Choice) -> dict[str, Any]:
        """A choice that has ended."""
        text, logprobs = choice.writer.text, None
        prompt = list(choice.asked.prompt)
        if self.logprobs is not None:
            rows: list[tuple[int, Likely | None, int]] = []
            if self.echo:
                rows = [(token, choice.prompt, n - 1) for n, token in enumerate(prompt)]
            # with the end token: lm-eval takes the last for one that the model drew
            drawn = [*choice.tokens, *([choice.end] if choice.end else [])]
            rows += [(token, likely, 0) for token, likely in drawn]
            logprobs = self.likelihoods(rows, self.served.spelling(), begins=self.echo)
        return self.choice(choice.index, text, logprobs, choice.reason)

    def likelihoods(
        self, rows: list[tuple[int, Likely | None, int]], spelling: Spelling, *, begins: bool
    ) -> dict[str, Any]:
        """OpenAI's four lists about tokens; the first of a text has no likelihood.

        `text_offset` is where a token's first character begins in the text that `spelling` makes.
        """
        found: dict[str, list[Any]] = {
            "tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": [],
        }  # fmt: skip
        for place, (token, likely, row) in enumerate(rows):
            piece = self.served.piece(token)
            found["tokens"].append(piece)
            found["text_offset"].append(spelling.size)
            spelling.add(token)
            if likely is None or (begins and place == 0):
                found["token_logprobs"].append(None)
                found["top_logprobs"].append(None)
                continue
            logp = number(likely.logp[row])
            best = told(self.served, likely, row, self.logprobs or 0)
            found["token_logprobs"].append(logp)
            found["top_logprobs"].append({self.served.piece(i): each for i, each in best[::-1]})
            found["top_logprobs"][-1].setdefault(piece, logp)
        return found

    async def stream(self, answers: Answers, settings: Settings) -> AsyncIterator[str]:
        """Server-sent events of all choices as they grow."""
        spellings = [self.served.spelling() for _ in answers.choices]
        async for news in answers.news():
            chunks = functools.partial(self.chunks, news, spellings[news.choice.index])
            for chunk in await asyncio.to_thread(chunks) if news.read else chunks():
                yield event(chunk)
        if settings.usage:
            yield event(self.envelope([]) | {"usage": answers.usage})
        yield "data: [DONE]\n\n"

    def chunks(self, news: News, spelling: Spelling) -> list[dict[str, Any]]:
        choice, found = news.choice, []
        index, logprobs, text = choice.index, None, news.text
        if news.read:
            if not self.echo:
                return []
            prompt = list(choice.asked.prompt)
            text = choice.writer.text  # what is certain of the prompt
            if self.logprobs is not None:
                rows = [(token, choice.prompt, n - 1) for n, token in enumerate(prompt)]
                logprobs = self.likelihoods(rows, spelling, begins=True)
        elif self.logprobs is not None:
            drawn = choice.end if news.token is None else (news.token, news.likely)
            if drawn:
                logprobs = self.likelihoods([(*drawn, 0)], spelling, begins=False)
        if choice.reason == "error":
            return [{"error": choice.failure.error}]
        if text or logprobs or choice.reason:
            found.append(self.envelope([self.choice(index, text, logprobs, choice.reason)]))
        return found


def event(data: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(data)}\n\n"
