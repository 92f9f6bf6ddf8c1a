"""OpenAI's chat completions: what the assistant says next in a conversation."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from lm.core.errors import DataError, TooLong
from lm.data.visual.turns import pictures_of, turns_of
from lm.serve.answers import Answers, Choice, number, told, writers
from lm.serve.body import Fields, Refused, TooLarge
from lm.serve.completions import NO_CACHE, event, failed
from lm.serve.model import Served
from lm.serve.programs import ALTERNATIVES
from lm.serve.request import Likely, Prompt
from lm.serve.settings import Settings
from lm.serve.turns import given
from lm.text.dialogue import Message
from lm.text.interface import unpaired

DEFAULT_TOKENS = 256
DECODERS = ThreadPoolExecutor(2, thread_name_prefix="images")  # few: an image takes much memory


async def chat(request: Request, served: Served, body: dict[str, Any]) -> Response:
    """POST /v1/chat/completions. Of a long conversation the oldest turns are forgotten."""
    fields = Fields(body)
    settings = Settings.read(fields, served)
    wants = fields.flag("logprobs")
    most = fields.whole("top_logprobs", 0, 0, ALTERNATIVES)
    if most and not wants:
        raise Refused(f"top_logprobs is {most}: set logprobs to true", param="top_logprobs")
    turns = read_messages(fields)
    fields.end()
    # encoding is work: the others are answered meanwhile
    try:
        prompt = await asyncio.get_running_loop().run_in_executor(
            DECODERS if any(map(pictures_of, turns)) else None,
            chat_prompt, served, turns, settings.max_tokens,
        )  # fmt: skip
    except TooLong as error:
        raise Refused(str(error), param="messages", code="context_length_exceeded") from None
    answers = Answers(
        served, [prompt], settings, served.chat_ends, writers(served, [prompt], settings),
        alternatives=wants, scored=False,
    )  # fmt: skip
    form = ChatForm(served, most if wants else None)
    if settings.stream:
        return StreamingResponse(
            form.stream(answers, settings), media_type="text/event-stream", headers=NO_CACHE
        )
    if not await answers.finish(request):
        return Response(status_code=499)
    failed(answers)
    choices = [form.whole(choice) for choice in answers.choices]
    envelope = form.envelope("chat.completion", choices)
    return JSONResponse(envelope | {"usage": answers.usage})


def chat_prompt(served: Served, turns: Sequence[Message], max_tokens: int | None) -> Prompt:
    """The ids of a conversation that leave room for its answer, that room, and its images.

    Raises:
      DataError: it does not end with the user, or has an image that cannot be read or that this
        model does not see; TooLong: its last turn does not fit.
    """
    length = served.engine.length
    count = min(DEFAULT_TOKENS, length // 2) if max_tokens is None else max_tokens
    if count >= length:
        raise TooLong(
            f"max_tokens is {count}, and the context has {length} for prompt and answer: ask for "
            "fewer"
        )
    room, sight = length - count, served.sight
    if sight is None:
        if any(map(pictures_of, turns)):
            raise DataError(f"{served.name} reads text alone and sees no images: leave them out")
        return Prompt(served.chat.prompt(turns, room), count)
    ids, pictures = served.questions(sight).prompt(turns, room)
    images = [picture.pixels(sight.vision.image) for picture in pictures]
    return Prompt(ids, count, images, len(ids))


def read_messages(fields: Fields) -> tuple[Message, ...]:
    """The conversation of a body.

    Raises:
      Refused: it is none, or an image is too large.
    """
    messages = fields.take("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused("messages must be a list with at least one message", param="messages")
    try:
        turns = turns_of(messages, given)
    except TooLarge as error:
        raise Refused(str(error), status=413, param="messages", code="too_large") from None
    except DataError as error:
        raise Refused(str(error), param="messages") from None
    if any(unpaired(turn.content) for turn in turns):
        raise Refused("messages must be text that UTF-8 can hold", param="messages")
    return turns


class ChatForm:
    """The objects that a client of chat completions gets."""

    def __init__(self, served: Served, logprobs: int | None):
        self.served, self.logprobs = served, logprobs
        self.name, self.created = "chatcmpl-" + uuid.uuid4().hex, int(time.time())

    def envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.name, "object": kind, "created": self.created, "model": self.served.name,
            "choices": choices,
        }  # fmt: skip

    def whole(self, choice: Choice) -> dict[str, Any]:
        """A choice that has ended."""
        return {
            "index": choice.index,
            "message": {"role": "assistant", "content": choice.writer.text, "refusal": None},
            "logprobs": self.likelihoods(choice.tokens),
            "finish_reason": choice.reason,
        }

    def likelihoods(self, tokens: list[tuple[int, Likely | None]]) -> dict[str, Any] | None:
        if self.logprobs is None:
            return None
        return {
            "content": [
                self.token(token, number(likely.logp[0]))
                | {"top_logprobs": [
                    self.token(i, each) for i, each in told(self.served, likely, 0, self.logprobs)
                ]}
                for token, likely in tokens if likely is not None
            ],
            "refusal": None,
        }  # fmt: skip

    def token(self, token: int, logp: float) -> dict[str, Any]:
        raw = list(self.served.raw(token))
        return {"token": self.served.piece(token), "logprob": logp, "bytes": raw}

    async def stream(self, answers: Answers, settings: Settings) -> AsyncIterator[str]:
        """Server-sent events: the role first, then what is said as it comes."""

        def chunk(index: int, delta: dict[str, Any], logprobs: Any, reason: str | None) -> str:
            choice = {
                "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason
            }  # fmt: skip
            return event(self.envelope("chat.completion.chunk", [choice]))

        async for news in answers.news():
            choice = news.choice
            if choice.reason == "error":
                yield event({"error": choice.failure.error})
            elif news.read:
                yield chunk(choice.index, {"role": "assistant", "content": ""}, None, None)
            else:
                pairs = [] if news.token is None else [(news.token, news.likely)]
                if news.text or (pairs and self.logprobs is not None):
                    likelihoods = self.likelihoods(pairs)
                    yield chunk(choice.index, {"content": news.text}, likelihoods, None)
                if choice.reason:
                    yield chunk(choice.index, {}, None, choice.reason)
        if settings.usage:
            yield event(self.envelope("chat.completion.chunk", []) | {"usage": answers.usage})
        yield "data: [DONE]\n\n"
