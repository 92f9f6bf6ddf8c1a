"""Conversations about images: what is said in turns, and the one row that a conversation is.

    messages = [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "a.png"}}, {"type": "text", "text": "What?"}
    ]}, {"role": "assistant", "content": "A cat."}]
    parts = spoken(turns_of(messages, read))

The row has the form of one question again and again: its images, its text, the answer and its end.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm.core.errors import DataError
from lm.data.visual.example import Parts, Picture, Said, Untaught, asked
from lm.text.dialogue import Message, conversation

Read = Callable[[str, str], Picture]  # an image's URL, and what an error calls it


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


def turns_of(messages: Any, read: Read) -> tuple[Message, ...]:
    """Turns of OpenAI's messages, whose content is a text or a list of parts: text, image_url.

    Raises:
      DataError: another form, or an image that is not the user's or that `read` refuses.
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
        found = tuple(
            part_of(part, f"part {place} of message {number}", read)
            for place, part in enumerate(content, start=1)
        )
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


def part_of(part: Any, where: str, read: Read) -> str | Picture:
    """One part of a message's content. Raises DataError where it is neither text nor image."""
    if not isinstance(part, Mapping):
        raise DataError(f"{where} is no object with a type")
    kind = part.get("type", "text" if "text" in part else None)
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind != "image_url":
        raise DataError(f"{where} is of type {str(kind)[:40]!r}: text and image_url are known")
    url = url_of(part)
    if not isinstance(url, str):
        raise DataError(f'{where} has no URL: {{"image_url": {{"url": "..."}}}}')
    return read(url, where)


def url_of(part: Mapping[str, Any]) -> Any:
    """What a part of a message's content names as its image's URL; None where it names none."""
    url = part.get("image_url")
    return url.get("url") if isinstance(url, Mapping) else url


def put(turn: Message, *pictures: Picture) -> Parts:
    """A user's turn in the form in which questions are put, about its own images or these."""
    if isinstance(turn, SeenTurn) and among(turn.parts):
        return (*turn.parts, "\n")
    return asked(turn.content, *(pictures or pictures_of(turn)))


def spoken(turns: Sequence[Message]) -> Parts:
    """A conversation as parts of a prompt; what a system turn says is put like text of the user."""
    found: list[str | Picture] = []
    for turn in turns:
        if turn.role == "assistant":
            found.append((Said if turn.taught else Untaught)(turn.content))
        elif turn.role == "user" or turn.content.strip():
            found += put(turn)
    return tuple(found)


def among(parts: Parts) -> bool:
    """Whether text stands between two images."""
    places = [place for place, part in enumerate(parts) if not isinstance(part, str)]
    return any(isinstance(part, str) and part.strip() for part in parts[places[0] : places[-1]])
