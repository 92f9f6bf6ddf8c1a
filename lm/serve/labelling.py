"""The routes of the labelling page: the next item, what was said of it, and taking it back; and
that of what was ranked or written in a chat."""

import asyncio
import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from lm.serve.agreement import agreement, published
from lm.serve.body import Fields, Refused, read_json
from lm.serve.items import Item, Pool
from lm.serve.labels import Labels
from lm.serve.rankings import (
    METADATA,
    Judgement,
    checked_name,
    demonstrated,
    demonstration,
    ranking,
    said_of,
    talked,
)

HELD = 15 * 60  # seconds for which an item that was shown is held for the labeler


class Labelling:
    """Items of a pool shown to labelers, each to `overlap` of them before the next.

    What counts are rankings, demonstrations, and for a while what others have before them.
    """

    def __init__(self, labels: Labels, pool: Pool, overlap: int):
        self.labels, self.pool, self.overlap = labels, pool, overlap
        self.held: dict[tuple[str, str], float] = {}  # (item, labeler), and until when
        self.skipped: dict[tuple[str, str], float] = {}  # (item, labeler), and when last

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/labels/next", self.next),
            Route("/labels/record", self.record, methods=["POST"]),
            Route("/labels/chat", self.chat, methods=["POST"]),
            Route("/labels/undo", self.undo, methods=["POST"]),
            Route("/labels/agreement", self.agreement),
        ]

    async def next(self, request: Request) -> Response:
        labeler = checked_name(request.query_params.get("labeler"))
        return JSONResponse(self.offered(labeler))

    def offered(self, labeler: str) -> dict[str, Any]:
        """What the page shows next."""
        item = self.choose(labeler)
        told = self.progress(labeler) | {"metadata": METADATA, "item": None} | self.missing()
        return told | (self.shown(item, labeler) if item else {})

    def choose(self, labeler: str) -> Item | None:
        """An item of which this labeler has said nothing, which is held for him: first what is
        held already, then what others have begun, then what was said the least of. Once nothing
        else is left or to come, what he skipped comes again, the longest ago first, what he skipped
        before the server began in no order before the rest."""
        now = time.monotonic()
        self.held = {key: until for key, until in self.held.items() if until > now}
        said = self.labels.current()
        done = Counter(item for (item, _), one in said.items() if one["kind"] != "skip")
        shown = Counter(
            item for item, name in self.held if name != labeler and (item, name) not in said
        )

        def order(item: Item) -> tuple[bool, bool, int, int]:
            count = done[item.name] + shown[item.name]
            full = count >= self.overlap
            other = (item.name, labeler) not in self.held
            return other, full, done[item.name] if full else -count, count

        every = list(self.pool.items.values())
        unsaid = (one for one in every if (one.name, labeler) not in said)
        item = min(unsaid, key=order, default=None)
        if item is None and not self.pool.making:
            skips = (one for one in every if said[one.name, labeler]["kind"] == "skip")
            item = min(
                skips, key=lambda one: self.skipped.get((one.name, labeler), 0), default=None
            )
        if item is not None:
            self.hold(item, labeler)
        return item

    def hold(self, item: Item, labeler: str) -> None:
        self.held[item.name, labeler] = time.monotonic() + HELD

    def progress(self, labeler: str) -> dict[str, Any]:
        every = self.labels.current().items()
        own = [one for (item, name), one in every if name == labeler and item in self.pool.items]
        done = sum(one["kind"] != "skip" for one in own)
        return {"done": done, "skipped": len(own) - done, "total": len(self.pool.items),
                "making": self.pool.making}  # fmt: skip

    def missing(self) -> dict[str, Any]:
        """Why there may be fewer items than prompts."""
        pool = self.pool
        return {"prompts": len(pool.prompts), "dropped": pool.dropped, "refused": pool.refused,
                "fault": pool.fault}  # fmt: skip

    def shown(self, item: Item, labeler: str) -> dict[str, Any]:
        """An item as a labeler sees it: no sources, and in an order of his own."""
        answers = [item.answers[place] for place in shuffled(item, labeler)]
        return {"item": item.name, "messages": item.messages, "answers": answers}

    async def record(self, request: Request) -> Response:
        """Keeps a ranking, with the answer that he wrote beside it or without, a demonstration or
        a skip, and shows the next item; sent again it changes nothing."""
        fields = Fields(await read_json(request))
        labeler = checked_name(fields.text("labeler"))
        item = self.pool.items.get(fields.text("item", most=100))
        if item is None:
            raise Refused("there is no such item", status=404, param="item")
        kind = fields.text("kind", most=20)
        record = said_of(item, labeler, kind)
        if kind == "ranking":
            said = Judgement.read(fields, len(item.answers)).unshuffled(shuffled(item, labeler))
            record = ranking(item, labeler, said)
            if fields.take("answer") is not None:
                record = demonstration(item, labeler, fields.text("answer")) | record
        elif kind == "demonstration":
            record = demonstration(item, labeler, fields.text("answer"))
        elif kind != "skip":
            raise Refused("kind must be ranking, demonstration or skip", param="kind")
        await self.written(self.labels.keep, record)
        if kind == "skip":
            self.skipped[item.name, labeler] = time.monotonic()
        return JSONResponse(self.offered(labeler))

    async def chat(self, request: Request) -> Response:
        """Keeps a ranking of the answers that a labeler drew in a conversation of his own, or the
        answer that he wrote there; tells whether it stands for an earlier one."""
        fields = Fields(await read_json(request))
        labeler = checked_name(fields.text("labeler"))
        kind = fields.text("kind", "ranking", most=20)
        if kind == "ranking":
            said = (fields.take(name) for name in ("messages", "answers", "sources", "ended"))
            item = talked(*said)
            record = ranking(item, labeler, Judgement.read(fields, len(item.answers)))
        elif kind == "demonstration":
            item = demonstrated(fields.take("messages"), fields.text("item", most=100))
            record = demonstration(item, labeler, fields.text("answer"))
        else:
            raise Refused("kind must be ranking or demonstration", param="kind")
        replaced = await self.written(self.labels.keep, record)
        return JSONResponse({"item": item.name, "replaced": replaced})

    async def undo(self, request: Request) -> Response:
        """Takes back what a labeler said last of an item of the pool, and shows both again."""
        labeler = checked_name(Fields(await read_json(request)).text("labeler"))
        last = await self.written(self.labels.take_back, labeler, self.pool.items)
        if last is None:
            raise Refused("there is nothing to take back", status=404)
        item = self.pool.items[last["item"]]
        self.hold(item, labeler)
        told = self.progress(labeler) | {"metadata": METADATA}
        said = as_shown(last, item, labeler)
        return JSONResponse(told | self.shown(item, labeler) | {"said": said})

    async def written(self, write: Callable[..., Any], *given: Any) -> Any:
        """What a method that writes labels returns.

        Raises:
          Refused: the disk takes no more, or another reason for which nothing is kept.
        """
        try:
            return await asyncio.to_thread(write, *given)
        except OSError as error:
            raise Refused(
                f"not kept, {self.labels.folder} cannot be written to: {error.strerror}",
                status=500, kind="server_error",
            ) from None  # fmt: skip

    async def agreement(self, _: Request) -> Response:
        told = agreement(list(self.labels.current().values()))
        return JSONResponse(told | {"published": published()})


def as_shown(record: dict[str, Any], item: Item, labeler: str) -> dict[str, Any]:
    """What a record says, of the answers in the order in which its labeler sees them."""
    said = {"answer": record["answer"]} if "answer" in record else {}
    if record["kind"] == "ranking" and record["answers"] == item.answers:
        for name in ("ranks", "ratings", "metadata"):
            given = record.get(name)
            if isinstance(given, list) and len(given) == len(item.answers):
                said[name] = [given[place] for place in shuffled(item, labeler)]
    return said


def shuffled(item: Item, labeler: str) -> list[int]:
    """The places of the answers in the order in which this labeler sees them."""
    digest = hashlib.sha256(f"{item.name} {labeler}".encode()).digest()
    places = list(range(len(item.answers)))
    random.Random(digest).shuffle(places)
    return places
