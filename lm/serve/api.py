"""The HTTP interface: OpenAI's routes, those of a tokenizer, and the pages."""

import asyncio
import contextlib
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from lm.core.errors import UserError
from lm.serve.body import Fields, Refused, read_json
from lm.serve.completions import complete
from lm.serve.conversations import chat
from lm.serve.guard import Guard, refusal
from lm.serve.model import Served
from lm.serve.request import Busy, Failed
from lm.serve.schema import schema

PAGES = Path(__file__).parent / "page"
Handler = Callable[[Request], Awaitable[Response]]


def application(
    models: Mapping[str, Served], *, token: str | None = None, loopback: bool = True,
    extra: Sequence[BaseRoute] = (),
) -> ASGIApp:  # fmt: skip
    """The whole server: an ASGI application over engines that have been started.

    Args:
      models: by name; the first one answers where none is named.
      token: what a client must show; None: nothing.
      loopback: whether it is bound to this machine alone.
      extra: routes of the labelling page; none: no labels are kept.
    """
    api = Api(models, labels=bool(extra))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield

    app = Starlette(
        routes=[*api.routes(), *extra, *pages()],
        exception_handlers={
            Refused: refused, Busy: busy, Failed: failed, UserError: mistaken,
            HTTPException: unknown, ClientDisconnect: gone, Exception: internal,
        },
        lifespan=lifespan,
    )  # fmt: skip
    return Guard(app, token, loopback)


async def refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse({"error": error.error}, status_code=error.status)


async def busy(_: Request, error: Exception) -> Response:
    body = {"message": str(error), "type": "rate_limit_error", "param": None, "code": "busy"}
    return JSONResponse({"error": body}, status_code=429, headers={"Retry-After": "1"})


async def failed(request: Request, error: Exception) -> Response:
    """An engine that has ended for good: asking again is no use."""
    return await refused(request, Refused(str(error), status=503, kind="server_error"))


async def mistaken(_: Request, error: Exception) -> Response:
    return refusal(400, str(error))


async def internal(_: Request, __: Exception) -> Response:
    """An error of ours, whose traceback is in the log."""
    body = {"message": "the server failed, see its log", "type": "server_error", "param": None,
            "code": None}  # fmt: skip
    return JSONResponse({"error": body}, status_code=500)


async def gone(_: Request, __: Exception) -> Response:
    """What nobody reads: the client left while it sent its body."""
    return Response(status_code=499)


async def unknown(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = refusal(error.status_code, str(error.detail))
    response.headers.update(error.headers or {})
    return response


class Api:
    """OpenAI's routes, and those of a tokenizer as vLLM has them."""

    def __init__(self, models: Mapping[str, Served], labels: bool):
        self.models, self.labels = models, labels

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/health", self.health),
            Route("/openapi.json", self.schema),
            Route("/v1/models", self.list_models),
            Route("/v1/models/{name:path}", self.one_model),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/chat/completions", self.chat_completions, methods=["POST"]),
            Route("/tokenizer_info", self.tokenizer_info),
            Route("/tokenize", self.tokenize, methods=["POST"]),
            Route("/detokenize", self.detokenize, methods=["POST"]),
        ]

    def chosen(self, fields: Fields) -> Served:
        """The model that a body names."""
        name = fields.text("model", next(iter(self.models)), most=500)
        if name not in self.models:
            raise Refused(
                f"there is no model {name!r}; there are: {', '.join(self.models)}",
                status=404, param="model", code="model_not_found",
            )  # fmt: skip
        return self.models[name]

    async def health(self, _: Request) -> Response:
        load = {
            name: {"busy": one.engine.busy, "waiting": one.engine.waiting,
                   "slots": one.engine.slots, "tokens": one.engine.tokens}
            for name, one in self.models.items()
        }  # fmt: skip
        if any(one.engine.failed for one in self.models.values()):
            return JSONResponse({"status": "failed", "models": load}, status_code=500)
        return JSONResponse({"status": "ok", "models": load})

    async def schema(self, _: Request) -> Response:
        return JSONResponse(schema(list(self.models), self.labels))

    def entry(self, served: Served) -> dict[str, Any]:
        return {
            "id": served.name, "object": "model", "created": served.created, "owned_by": "lm",
            "context": served.engine.length, "chat": served.talks, "images": served.images,
            "dialogue": served.talks and served.dialogue,
        }  # fmt: skip

    async def list_models(self, _: Request) -> Response:
        entries = [self.entry(served) for served in self.models.values()]
        return JSONResponse({"object": "list", "data": entries, "labels": self.labels})

    async def one_model(self, request: Request) -> Response:
        return JSONResponse(self.entry(self.chosen(Fields({"model": request.path_params["name"]}))))

    async def completions(self, request: Request) -> Response:
        body = await read_json(request)
        return await complete(request, self.chosen(Fields(body)), body)

    async def chat_completions(self, request: Request) -> Response:
        sees = any(served.images for served in self.models.values())
        body = await read_json(request, images=sees)
        return await chat(request, self.chosen(Fields(body)), body)

    async def tokenizer_info(self, _: Request) -> Response:
        served = next(iter(self.models.values()))
        tokenizer = served.tokenizer
        pad = None if tokenizer.pad is None else served.spelled.get(tokenizer.pad)
        return JSONResponse({
            "tokenizer_class": tokenizer.kind, "vocab_size": tokenizer.vocab_size,
            "eos_token": served.spelled[tokenizer.end], "bos_token": None, "pad_token": pad,
            "model_max_length": served.engine.length, "chat_template": None,
        })  # fmt: skip

    async def tokenize(self, request: Request) -> Response:
        """Ids of a text. A special's spelling alone is asked for to learn its id, as lm-eval does;
        within a text it is characters like any others."""
        fields = Fields(await read_json(request))
        served, text = self.chosen(fields), fields.text("prompt")
        ids = [i for i, spelled in served.spelled.items() if spelled == text]
        tokens = ids[:1] or await asyncio.to_thread(served.tokenizer.encode, text)
        length = served.engine.length
        return JSONResponse({"tokens": tokens, "count": len(tokens), "max_model_len": length})

    async def detokenize(self, request: Request) -> Response:
        fields = Fields(await read_json(request))
        served, tokens = self.chosen(fields), fields.take("tokens")
        if not isinstance(tokens, list) or not all(
            type(i) is int and 0 <= i < served.vocab for i in tokens
        ):
            raise Refused(f"tokens must be ids from 0 to {served.vocab - 1}", param="tokens")
        return JSONResponse({"prompt": await asyncio.to_thread(served.text, tokens)})


def pages() -> list[BaseRoute]:
    """The pages and what they load: the files that there are, by name, and nothing else."""
    files = {path.name: path for path in PAGES.iterdir() if path.is_file()}
    addresses = {"/": "chat.html", "/label": "label.html", "/agreement": "agreement.html"}

    def page(name: str) -> Handler:
        async def show(_: Request) -> Response:
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            return Response(files[name].read_bytes(), media_type=kind, headers=FRESH)

        return show

    shown = [Route(path, page(name)) for path, name in addresses.items() if name in files]
    return [*shown, *(Route(f"/page/{name}", page(name)) for name in sorted(files))]


FRESH = {"Cache-Control": "no-cache"}
