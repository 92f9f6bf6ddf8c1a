"""The routes of the labelling page: the next item, what was said of it, and taking it back."""

import asyncio
import hashlib
import random
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from lm.serve.agreement import agreement
from lm.serve.body import Fields, Refused, read_json
from lm.serve.items import Item, Pool
from lm.serve.labels import Labels

NAME = re.compile(r"[A-Za-z0-9._-]{1,40}")
QUALITY = 7
# The yes/no questions of InstructGPT's form, of each answer (Ouyang et al. 2022, appendix B)
METADATA = {
    "fails_instruction": "Fails to follow the correct instruction / task",
    "inappropriate": "Inappropriate for customer assistant",
    "hallucination": "Hallucination",
    "satisfies_constraint": "Satisfies constraint provided in the instruction",
    "sexual": "Contains sexual content",
    "violent": "Contains violent content",
    "encourages_harm": "Encourages or fails to discourage violence/abuse/terrorism/self-harm",
    "denigrates": "Denigrates a protected class",
    "harmful_advice": "Gives harmful advice",
    "opinion": "Expresses opinion",
    "moral_judgment": "Expresses moral judgment",
}


class Labelling:
    """Items of a pool shown to labelers, each to `overlap` of them before the next."""

    def __init__(self, labels: Labels, pool: Pool, overlap: int):
        self.labels, self.pool, self.overlap = labels, pool, overlap

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/labels/next", self.next),
            Route("/labels/record", self.record, methods=["POST"]),
            Route("/labels/undo", self.undo, methods=["POST"]),
            Route("/labels/agreement", self.agreement),
        ]

    async def next(self, request: Request) -> Response:
        labeler = checked_name(request.query_params.get("labeler"))
        item = self.choose(labeler)
        told = self.progress(labeler) | {"metadata": METADATA, "item": None}
        return JSONResponse(told | (self.shown(item, labeler) if item else {}))

    def choose(self, labeler: str) -> Item | None:
        """An item that this labeler has not seen: first those that others have begun."""
        seen: set[str] = set()
        counts: dict[str, int] = {}
        for item, name in self.labels.current():
            counts[item] = counts.get(item, 0) + 1
            if name == labeler:
                seen.add(item)
        open_items = [one for one in list(self.pool.items.values()) if one.name not in seen]

        def order(item: Item) -> tuple[bool, int]:
            count = counts.get(item.name, 0)
            return count >= self.overlap, -count

        return min(open_items, key=order, default=None)

    def progress(self, labeler: str) -> dict[str, Any]:
        own = [one for (_, name), one in self.labels.current().items() if name == labeler]
        done = sum(one["kind"] != "skip" for one in own)
        return {"done": done, "skipped": len(own) - done, "total": len(self.pool.items),
                "making": self.pool.making}  # fmt: skip

    def shown(self, item: Item, labeler: str) -> dict[str, Any]:
        """An item as a labeler sees it: no sources, and in an order of his own."""
        answers = [item.answers[place] for place in shuffled(item, labeler)]
        return {"item": item.name, "messages": item.messages, "answers": answers}

    async def record(self, request: Request) -> Response:
        """Keeps a ranking, a demonstration or a skip; sent again it changes nothing."""
        fields = Fields(await read_json(request))
        labeler = checked_name(fields.text("labeler"))
        item = self.pool.items.get(fields.text("item", most=100))
        if item is None:
            raise Refused("there is no such item", status=404, param="item")
        kind = fields.text("kind", most=20)
        record: dict[str, Any] = {
            "kind": kind, "item": item.name, "labeler": labeler, "messages": item.messages,
        }  # fmt: skip
        if kind == "ranking":
            record |= ranking(fields, item, labeler)
        elif kind == "demonstration":
            record["answer"] = fields.text("answer")
            if not record["answer"].strip():
                raise Refused("the answer is empty", param="answer")
        elif kind != "skip":
            raise Refused("kind must be ranking, demonstration or skip", param="kind")
        await asyncio.to_thread(self.labels.keep, record)
        return JSONResponse(self.progress(labeler))

    async def undo(self, request: Request) -> Response:
        """Takes back what a labeler said last, and shows its item again."""
        labeler = checked_name(Fields(await read_json(request)).text("labeler"))
        last = await asyncio.to_thread(self.labels.take_back, labeler)
        if last is None:
            raise Refused("there is nothing to take back", status=404)
        item = self.pool.items.get(last["item"])
        told = self.progress(labeler) | {"metadata": METADATA, "item": None}
        return JSONResponse(told | (self.shown(item, labeler) if item else {}))

    async def agreement(self, _: Request) -> Response:
        return JSONResponse(agreement(list(self.labels.current().values())))


def shuffled(item: Item, labeler: str) -> list[int]:
    """The places of the answers in the order in which this labeler sees them."""
    digest = hashlib.sha256(f"{item.name} {labeler}".encode()).digest()
    places = list(range(len(item.answers)))
    random.Random(digest).shuffle(places)
    return places


def ranking(fields: Fields, item: Item, labeler: str) -> dict[str, Any]:
    """What a labeler said of an item's answers, put back into their own order.

    Raises:
      Refused: not one rank for each, or a rating or an answer of the form that is none.
    """
    count, places = len(item.answers), shuffled(item, labeler)
    ranks = fields.take("ranks")
    if not isinstance(ranks, list) or len(ranks) != count or not all(
        type(rank) is int and 1 <= rank <= count for rank in ranks
    ):  # fmt: skip
        raise Refused(f"ranks must be {count} whole numbers from 1 to {count}", param="ranks")
    ratings = fields.take("ratings", [None] * count)
    if not isinstance(ratings, list) or len(ratings) != count or not all(
        each is None or (type(each) is int and 1 <= each <= QUALITY) for each in ratings
    ):  # fmt: skip
        raise Refused(f"ratings must be {count} numbers from 1 to {QUALITY}", param="ratings")
    metadata = fields.take("metadata", [{}] * count)
    if not isinstance(metadata, list) or len(metadata) != count or not all(map(answered, metadata)):
        raise Refused(
            f"metadata must be {count} objects with true or false to questions of the form; one "
            "that nobody answered is left out", param="metadata",
        )  # fmt: skip
    order = sorted(set(ranks))  # 1, 2, 2, 4 and 1, 2, 2, 3 are the same
    own = {place: shown for shown, place in enumerate(places)}
    return {
        "answers": item.answers,
        "ranks": [order.index(ranks[own[place]]) + 1 for place in range(count)],
        "ratings": [ratings[own[place]] for place in range(count)],
        "metadata": [metadata[own[place]] for place in range(count)],
        "sources": item.sources,
    }


def answered(metadata: Any) -> bool:
    """Whether these are yes or no to questions of the form, to any number of them."""
    return isinstance(metadata, dict) and all(
        name in METADATA and isinstance(value, bool) for name, value in metadata.items()
    )


def checked_name(name: Any) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Refused("labeler must be 1 to 40 of A-Z a-z 0-9 . _ -", param="labeler")
    return name
