"""Reading what a client sends: a body of bounded size, and fields that are what they should be."""

import difflib
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from starlette.requests import Request

from lm.core.errors import DataError
from lm.data.visual.turns import url_of
from lm.text.interface import unpaired

LARGEST = 1 << 20  # bytes of a body, less the images in it
LARGEST_SEEN = 16 << 20  # with them
# any program's: the kind may have parameters, and capitals are no matter
DATA_URL = re.compile(r"data:image/[a-z0-9.+-]{1,99}(?:;[^;,]{0,99}){0,9}?;base64,", re.IGNORECASE)

HARMLESS = {  # fields of OpenAI's requests that ask for nothing here, or of which nothing is lost
    "max_tokens", "metadata", "model", "moderation", "parallel_tool_calls", "prediction",
    "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning_effort",
    "safety_identifier", "service_tier", "store", "user", "verbosity",
}  # fmt: skip


class Refused(Exception):
    """A request that cannot be answered: its status, and OpenAI's error object."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None,
                 code: str | None = None, kind: str = "invalid_request_error"):  # fmt: skip
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": kind, "param": param, "code": code}


class TooLarge(DataError):
    """More bytes than are taken."""


async def read_json(request: Request, *, images: bool = False) -> dict[str, Any]:
    """The object in a request's body.

    Args:
      images: whether its messages may hold some, beside what is read of other bodies.

    Raises:
      Refused: 413 where it is too large, 400 where it is no object of JSON.
    """
    parts, size, largest = [], 0, LARGEST_SEEN if images else LARGEST
    async for part in request.stream():
        size += len(part)
        if size > largest:
            raise Refused(f"the body is larger than {largest} bytes", status=413, code="too_large")
        parts.append(part)
    try:
        body = json.loads(b"".join(parts), parse_constant=not_finite)
    except (ValueError, RecursionError) as error:
        raise Refused(f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise Refused("the body is no JSON object", code="invalid_json")
    if size > LARGEST:
        size -= sum(map(len, image_urls(body)))
        if size > LARGEST:
            raise Refused(
                f"the body without its images is larger than {LARGEST} bytes: shorten it",
                status=413, code="too_large",
            )  # fmt: skip
    return body


def image_urls(body: dict[str, Any]) -> Iterator[str]:
    """The images in the messages of a body, whatever else these are."""

    def objects(found: Any) -> list[dict[str, Any]]:
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    for message in objects(body.get("messages")):
        for part in objects(message.get("content")):
            url = url_of(part)
            if isinstance(url, str) and DATA_URL.match(url):
                yield url


def not_finite(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


class Fields:
    """The fields of a body, each checked as it is taken; null is the same as not there."""

    def __init__(self, body: dict[str, Any]):
        self.body = body
        self.known = set(HARMLESS)  # and what was taken

    def take(self, name: str, default: Any = None) -> Any:
        self.known.add(name)
        value = self.body.get(name)
        return default if value is None else value

    def whole(self, name: str, default: Any, low: int, high: int) -> Any:
        """A whole number between the two, or the default."""
        value = self.take(name)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(name, f"a whole number from {low} to {high}")
        return value

    def number(self, name: str, default: float | None, low: float, high: float) -> float | None:
        """A number between the two, or the default."""
        value = self.take(name)
        if value is None:
            return default
        known = isinstance(value, int | float) and not isinstance(value, bool)
        # an integer of JSON may be too large to be a float: it is compared first
        if not known or not low <= value <= high or not math.isfinite(float(value)):
            raise self.wrong(name, f"a number from {low} to {high}")
        return float(value)

    def flag(self, name: str) -> bool:
        """A boolean, false by default."""
        value = self.take(name, False)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def text(self, name: str, default: str | None = None, most: int = LARGEST) -> str:
        """A string, needed unless there is a default."""
        value = self.take(name, default)
        if not isinstance(value, str) or len(value) > most or unpaired(value):
            raise self.wrong(name, f"a string of at most {most} characters")
        return value

    def strings(self, name: str, most: int) -> list[str]:
        """A string, or at most so many."""
        value = self.take(name, [])
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or len(value) > most:
            raise self.wrong(name, f"a string or a list of at most {most}")
        if not all(isinstance(one, str) and one for one in value):
            raise self.wrong(name, "made of strings that are not empty")
        return value

    def absent(self, *names: str, but: Sequence[Any] = ()) -> None:
        """Refuses what is not supported, unless it asks for nothing, as the values in `but` do."""
        for name in names:
            if self.take(name) not in (None, 0, {}, [], "", False, *but):
                raise Refused(f"{name} is not supported: leave it out", param=name)

    def end(self) -> None:
        """Refuses a field that nothing has taken, after all that are known were: one misspelt would
        be answered as if it had not been sent."""
        for name in self.body.keys() - self.known:
            if self.body[name] is not None:
                shown = name[:40]
                near = difflib.get_close_matches(shown, sorted(self.known), n=1)
                hint = f"did you mean {near[0]}?" if near else "leave it out"
                raise Refused(
                    f"there is no field {ascii(shown)}: {hint}", param=ascii(shown)[1:-1],
                    code="unknown_parameter",
                )  # fmt: skip

    def wrong(self, name: str, wanted: str) -> Refused:
        shown = repr(self.body.get(name))
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return Refused(f"{name} must be {wanted}, got {shown}", param=name)
