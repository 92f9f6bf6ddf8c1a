"""Examples of a .jsonl of one's own: questions, or conversations, about images."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from lm.core.errors import DataError
from lm.data.asking import is_bad
from lm.data.sources import tell
from lm.data.tasks.rows import Row
from lm.data.visual.example import Example, Match, Parts, Picture, Stored, asked
from lm.data.visual.files import field, question, replies, rows, whole
from lm.data.visual.turns import SeenTurn, put, spoken, turns_of
from lm.text.dialogue import Message

LLAVA = {"human": "user", "gpt": "assistant"}
MARK = "<image>"  # where an image stands that a row names beside its turns


def written(path: Path) -> list[Example]:
    """Examples of a .jsonl of one's own.

    A row is {"image": "a.png", "question": "...", "answer": "..."}, or with images among the text
    {"parts": [{"image": "a.png"}, {"text": "..."}, ...], "answer": "..."}, or a conversation: {
    "messages": [...]} as OpenAI's interface has it, the URL of an image its file, or LLaVA's
    {"image": "a.png", "conversations": [{"from": "human", "value": "<image>\\n..."}, ...]}. Either
    may name several images beside it, as "images" or "image", one for each `<image>` of its text.
    Images are named from the file's folder. The answer of a question may be a list, any of which is
    right; "match" says how an answer is judged where not exactly.

    Raises:
      DataError: a row of another form.
    """
    found, bad = [], 0
    for number, row in enumerate(rows(path)):
        name = f"{path.name}-{number}"
        if is_bad(row.values):
            bad += 1
            continue
        if "messages" in row.values or "conversations" in row.values:
            found.append(talk(name, row, path.parent))
        elif "parts" in row.values:
            parts = interleaved(row, path.parent)
            found.append(Example(id=name, parts=parts, answers=replies(row)))
        else:
            found.append(question(name, row, path.parent))
        found[-1] = replace(found[-1], match=match(row))
    if bad:
        tell(f'{path}: {bad} rows with "label": false are left out')
    return found


def match(row: Row) -> Match:
    """How an answer to a row is judged. Raises DataError where nothing is judged so."""
    named = row.values.get("match", "exact")
    if named not in get_args(Match):
        known = ", ".join(get_args(Match))
        raise DataError(f'{row.where}: "match" is {json.dumps(named)[:40]}; known: {known}')
    found: Match = named
    return found


def talk(name: str, row: Row, folder: Path) -> Example:
    """A conversation up to the last answer in it. Raises DataError where it is none."""
    try:
        messages = messages_of(row.values)
        turns = turns_of(messages, lambda url, where: stored(url, where, folder))
    except DataError as error:
        raise DataError(f"{row.where}: {error}") from None
    last = max((place for place, turn in enumerate(turns) if turn.answers), default=None)
    if last is None:
        raise DataError(f"{row.where}: the conversation has no answer of the assistant")
    return Example(id=name, parts=spoken(turns[:last]), answers=(turns[last].content,))


def stored(url: str, where: str, folder: Path) -> Stored:
    """The file that a conversation names. Raises DataError where it is a URL."""
    if url.startswith("data:") or "://" in url:
        raise DataError(f"{where} is {url[:40]!r}: name a file beside the .jsonl")
    return Stored(str(folder), url)


def messages_of(row: dict[str, Any]) -> Any:
    """The turns of a row as OpenAI's messages, with the images in them that it names beside them.

    Raises:
      DataError: not as many images as marks, or another form.
    """
    given = [row[name] for name in ("image", "images") if row.get(name) is not None]
    if not all(isinstance(one, str | list) for one in given):
        raise DataError("image or images is neither a file's name nor a list of names")
    each = [one if isinstance(one, list) else [one] if one else [] for one in given]
    images = [image for one in each for image in one]
    if "messages" not in row:
        return shown(of_llava(row["conversations"]), images)
    said = row["messages"]  # without images beside them, a text may spell the mark
    return shown(said, images) if given and isinstance(said, list) else said


def shown(messages: list[Any], images: list[Any]) -> list[Any]:
    """Messages in which each `<image>` of the user's text is the next of the images. Raises
    DataError where they are not as many."""
    left, found = list(images), []
    for number, one in enumerate(messages, start=1):
        text = one.get("content") if isinstance(one, dict) and one.get("role") == "user" else None
        if not isinstance(text, str):
            found.append(one)
            continue
        content: list[dict[str, Any]] = []
        for place, words in enumerate(text.split(MARK)):
            if place:
                if not left:
                    raise DataError(f"turn {number} has an {MARK} more than the row has images")
                content.append({"type": "image_url", "image_url": {"url": left.pop(0)}})
            if words.strip():
                content.append({"type": "text", "text": words.strip("\n")})
        found.append({**one, "content": content})
    if left:
        raise DataError(f"{len(left)} of {len(images)} images have no {MARK} in the text")
    return found


def of_llava(said: Any) -> list[dict[str, Any]]:
    """LLaVA's turns as OpenAI's messages. Raises DataError where they have another form."""
    if not isinstance(said, list):
        raise DataError("conversations is no list")
    for number, one in enumerate(said, start=1):
        role = one.get("from") if isinstance(one, dict) else None
        if role not in list(LLAVA) or not isinstance(one.get("value"), str):
            raise DataError(f"turn {number} has no text from human or gpt: {json.dumps(one)[:60]}")
    return [{"role": LLAVA[one["from"]], "content": one["value"]} for one in said]


def interleaved(row: Row, folder: Path) -> Parts:
    """The parts of a prompt in a file, in the form in which a user's turn is put."""
    given = row.values["parts"]
    parts: list[str | Picture] = []
    part: Any
    for part in given if isinstance(given, list) and given else [None]:
        named = isinstance(part, dict) and len(part) == 1 and not set(part) - {"image", "text"}
        if not named or not all(isinstance(value, str) for value in part.values()):
            raise DataError(
                f'{row.where}: a part is {{"image": FILE}} or {{"text": WORDS}}, not '
                f"{json.dumps(part)[:60]}"
            )
        for kind, value in part.items():
            whole(value, row)
            parts.append(Stored(str(folder), value) if kind == "image" else value)
    text = "".join(part for part in parts if isinstance(part, str))
    seen = len(parts) > sum(isinstance(part, str) for part in parts)
    return put(SeenTurn("user", text, tuple(parts)) if seen else Message("user", text))


def prompted(row: Row, folder: Path) -> Example:
    """The prompt alone of a row as `written` reads them, with no right answer."""
    if "parts" in row.values:
        parts = interleaved(row, folder)
    else:
        parts = asked(field(row, "question"), Stored(str(folder), field(row, "image")))
    return Example(id=row.name, parts=parts, answers=())
