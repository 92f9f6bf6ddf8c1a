"""What a client says in a conversation: turns of text, and images among the text.

Images come within the request, as data: URLs. Nothing is fetched and no file is opened: a server
that did so would be asked for what its clients may not see.
"""

import base64
import binascii
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lm.core.errors import DataError
from lm.data.visual.example import Given, Picture, asked
from lm.data.visual.rows import prompt_ids
from lm.text.dialogue import Message, conversation
from lm.text.interface import Tokenizer

LARGEST_IMAGE = 8 << 20  # bytes of a file
DATA_URL = re.compile(r"data:image/[a-zA-Z0-9.+-]+;base64,")
Parts = tuple[str | Picture, ...]


@dataclasses.dataclass(frozen=True)
class SeenTurn(Message):
    """A turn of the user with images; `content` is its text alone."""

    parts: Parts


def pictures_of(turn: Message) -> tuple[Picture, ...]:
    """The images of a turn."""
    parts = turn.parts if isinstance(turn, SeenTurn) else ()
    return tuple(part for part in parts if not isinstance(part, str))


def seen_turn(text: str, *pictures: Picture) -> Message:
    """What the user says of some images, or of none."""
    return SeenTurn("user", text, (*pictures, text)) if pictures else Message("user", text)


def turns_of(messages: Any) -> tuple[Message, ...]:
    """Turns of OpenAI's messages, whose content is a text or a list of parts: text, image_url.

    Raises:
      DataError: another form, or an image that is not the user's or not within the request.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes):
        raise DataError("messages is no list of objects with role and content")
    parts: list[Parts] = []
    plain: list[Any] = []
    for number, one in enumerate(messages, start=1):
        content = one.get("content") if isinstance(one, Mapping) else None
        if not isinstance(content, list):
            parts.append(())
            plain.append(one)
            continue
        found = tuple(part_of(part, number, place) for place, part in enumerate(content, start=1))
        parts.append(found)
        plain.append({**one, "content": "".join(part for part in found if isinstance(part, str))})
    turns = []
    for number, (turn, found) in enumerate(zip(conversation(plain), parts, strict=True), start=1):
        if all(isinstance(part, str) for part in found):
            turns.append(turn)
        elif turn.role != "user":
            raise DataError(f"message {number} has an image and is not the user's: leave it out")
        else:
            turns.append(SeenTurn(turn.role, turn.content, found))
    return tuple(turns)


def objects_of(turns: Sequence[Message]) -> list[dict[str, Any]]:
    """Turns as OpenAI's messages, their images within them."""
    return [
        {"role": turn.role, "content": [object_of(part) for part in turn.parts]}
        if isinstance(turn, SeenTurn) else {"role": turn.role, "content": turn.content}
        for turn in turns
    ]  # fmt: skip


def object_of(part: str | Picture) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    assert isinstance(part, Given)  # a person's, or a request's
    kind = "png" if part.content.startswith(b"\x89PNG") else "jpeg"
    coded = base64.b64encode(part.content).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{coded}"}}


def part_of(part: Any, message: int, place: int) -> str | Picture:
    """One part of a message's content."""
    where = f"part {place} of message {message}"
    if not isinstance(part, Mapping):
        raise DataError(f"{where} is no object with a type")
    kind = part.get("type", "text" if "text" in part else None)
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind != "image_url":
        raise DataError(f"{where} is of type {str(kind)[:40]!r}: text and image_url are known")
    url = part.get("image_url")
    url = url.get("url") if isinstance(url, Mapping) else url
    if not isinstance(url, str):
        raise DataError(
            f'{where} has no URL: {{"image_url": {{"url": "data:image/png;base64,..."}}}}'
        )
    return Given(content_of(url, where), where)


def content_of(url: str, where: str) -> bytes:
    """The bytes of a data: URL.

    Raises:
      DataError: it is another URL, no base64, or too large.
    """
    head = DATA_URL.match(url)
    if head is None:
        shown = url[:40].encode("ascii", "replace").decode()
        raise DataError(
            f"{where} is {shown!r}: an image comes within the request, as "
            "data:image/png;base64,...; nothing is fetched"
        )
    coded = url[head.end() :]
    if len(coded) * 3 // 4 > LARGEST_IMAGE + 2:
        raise DataError(f"{where} is larger than {LARGEST_IMAGE >> 20} MiB: shrink it")
    try:
        return base64.b64decode(coded, validate=True)
    except (binascii.Error, ValueError):
        raise DataError(f"{where} is no base64: encode the file's bytes") from None


@dataclasses.dataclass(frozen=True)
class Questions:
    """How a run is asked that has learned to answer one question about images (lm/train/visual.py).

    The last question is put, in the form in which it learned, about its own images, or about those
    of the newest turn that has some. What else was said is not read: it has learned no dialogue.
    """

    tokenizer: Tokenizer
    image_id: int
    slots: int  # places of an image

    @property
    def end(self) -> int:
        """The id that ends an answer."""
        return self.tokenizer.end

    def prompt(self, turns: Sequence[Message], room: int) -> tuple[list[int], tuple[Picture, ...]]:
        """The ids of the question, at most so many, and the images that stand in it.

        Raises:
          DataError: it does not end with the user, or does not fit.
        """
        last = turns[-1]
        if last.role != "user":
            raise DataError("the conversation does not end with the user, who is answered")
        seeing = next((turn for turn in reversed(turns) if pictures_of(turn)), last)
        parts = asked(last.content, *pictures_of(seeing))
        if isinstance(last, SeenTurn) and among(last.parts):
            parts = (*last.parts, "\n")
        ids = prompt_ids(parts, self.tokenizer, self.image_id, self.slots, room)
        return ids, pictures_of(seeing)


def among(parts: Parts) -> bool:
    """Whether text stands between two images."""
    places = [place for place, part in enumerate(parts) if not isinstance(part, str)]
    return any(isinstance(part, str) and part.strip() for part in parts[places[0] : places[-1]])
