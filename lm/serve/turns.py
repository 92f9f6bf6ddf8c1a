"""What a client says in a conversation with a model that sees.

Images come within the request, as data: URLs. Nothing is fetched and no file is opened: a server
that did so would be asked for what its clients may not see.
"""

import base64
import binascii
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from lm.core.errors import DataError
from lm.data.visual.example import Given, Parts, Picture
from lm.data.visual.rows import prompt_ids
from lm.data.visual.turns import SeenTurn, pictures_of, put, spoken
from lm.serve.body import DATA_URL, TooLarge
from lm.text.dialogue import Message
from lm.text.interface import Tokenizer

LARGEST_IMAGE = 10 << 20  # bytes of a file
ALONE = "this model has learned single questions and is told nothing: leave the system turn out"
BLANKS = b" \t\r\n\f\v"  # which MIME puts after each 76 characters


def objects_of(turns: Sequence[Message]) -> list[dict[str, Any]]:
    """Turns as OpenAI's messages, their images within them; one not to be learned has weight 0."""
    found: list[dict[str, Any]] = []
    for turn in turns:
        parts = [object_of(part) for part in turn.parts] if isinstance(turn, SeenTurn) else None
        found.append({"role": turn.role, "content": turn.content if parts is None else parts})
        if not turn.taught:
            found[-1]["weight"] = 0
    return found


def object_of(part: str | Picture) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    assert isinstance(part, Given)  # a person's, or a request's
    kind = "png" if part.content.startswith(b"\x89PNG") else "jpeg"
    coded = base64.b64encode(part.content).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{coded}"}}


def given(url: str, where: str) -> Given:
    """The image of a data: URL.

    Raises:
      DataError: it is another URL, or no base64; TooLarge: its file is.
    """
    head = DATA_URL.match(url)
    if head is None:
        shown = url[:40].encode("ascii", "replace").decode()
        raise DataError(
            f"{where} is {shown!r}: an image comes within the request, as "
            "data:image/png;base64,...; nothing is fetched"
        )
    # what is not ASCII becomes "?", which is no base64 either
    coded = url[head.end() :].encode("ascii", "replace").translate(None, BLANKS)
    if len(coded) * 3 // 4 > LARGEST_IMAGE + 2:
        raise TooLarge(f"{where} is larger than {LARGEST_IMAGE >> 20} MiB: shrink it")
    try:
        # what fills the last four up to four may be left out
        return Given(base64.b64decode(coded + b"=" * (-len(coded) % 4), validate=True), where)
    except binascii.Error:
        raise DataError(f"{where} is no base64: encode the file's bytes") from None


@dataclasses.dataclass(frozen=True)
class Questions:
    """How a run is asked that has learned questions about images (lm/train/visual.py).

    One that has learned conversations reads the whole of this one, less its oldest turns where it
    is too long; what the system says stays before them. Of others the last question is put, about
    its own images, or about those of the newest turn that has some.
    """

    tokenizer: Tokenizer
    image_id: int
    slots: int  # places of an image
    dialogue: bool  # whether conversations were learned

    @property
    def end(self) -> int:
        """The id that ends an answer."""
        return self.tokenizer.end

    def prompt(self, turns: Sequence[Message], room: int) -> tuple[list[int], tuple[Picture, ...]]:
        """The ids of what is read, at most so many, and the images that stand in it.

        Raises:
          DataError: it does not end with the user, the last turn does not fit, or there is a system
            turn where questions alone were learned.
        """
        last = turns[-1]
        if last.role != "user":
            raise DataError("the conversation does not end with the user, who is answered")
        told = [turn for turn in turns[:1] if turn.role == "system" and turn.content.strip()]
        if not self.dialogue:
            if told:
                raise DataError(ALONE)
            seeing = next((turn for turn in reversed(turns) if pictures_of(turn)), last)
            return self.ids(put(last, *pictures_of(seeing)), room)
        head = self.ids(spoken(told), room)[0] if told else []
        room -= len(head)
        ids, pictures = self.ids(put(last), room)
        begins = [place for place, turn in enumerate(turns) if turn.role == "user"]
        for first, after in reversed(list(itertools.pairwise(begins))):
            try:
                older, earlier = self.ids(spoken(turns[first:after]), room - len(ids))
            except DataError:
                break  # there is no room for this turn, and those before it are forgotten too
            ids, pictures = older + ids, earlier + pictures
        return head + ids, pictures

    def ids(self, parts: Parts, room: int) -> tuple[list[int], tuple[Picture, ...]]:
        pictures = tuple(part for part in parts if not isinstance(part, str))
        return prompt_ids(parts, self.tokenizer, self.image_id, self.slots, room), pictures
