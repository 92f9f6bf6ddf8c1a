"""Conversations as ids: who speaks and where a turn ends are ids that text can never produce.

    chat = Chat(tokenizer)                      # its tokenizer knows the five specials
    ids = chat.prompt(conversation(messages))   # up to the header of the assistant's next turn
    text = chat.decode(answer_ids)              # what was said before chat.end
    row = chat.encode(turns, length=512)        # tokens and which of them are learned
    turns = chat.parse(ids)                     # back from ids

A turn is `<|im_start|>`, the id of its role, what is said, `<|im_end|>`: ChatML (OpenAI 2022), in
which a role is one id, and no line ends stand around what is said, since ids need none. Every turn
is tokenised on its own. Text that spells a special is characters (no role can be injected): a
conversation is data, its raw string is never parsed. `Chat.end` ends an answer; it is neither the
end of a document nor padding.
"""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from lm.core.errors import DataError, TooLong
from lm.text.added import with_specials
from lm.text.interface import Tokenizer, unpaired

Role = Literal["system", "user", "assistant"]
Learned = Literal["all", "last"]  # which of the assistant's turns; a blank one is not

ROLES: tuple[Role, ...] = ("system", "user", "assistant")
AS_ROLE = {"developer": "system"}  # what OpenAI's interface calls the system since 2024
DIALOGUE_SPECIALS = ("im_start", "im_end", *ROLES)


@dataclasses.dataclass(frozen=True)
class Message:
    """One turn."""

    role: Role
    content: str
    # of the assistant's: whether to learn it; conversations that differ in this alone are the same
    taught: bool = dataclasses.field(default=True, kw_only=True, compare=False, repr=False)

    @property
    def blank(self) -> bool:
        return not self.content.strip()

    @property
    def answers(self) -> bool:
        """Whether it is the assistant's, says something, and is to be learned."""
        return self.role == "assistant" and self.taught and not self.blank


Conversation = tuple[Message, ...]


def conversation(messages: Any) -> Conversation:
    """Turns of a list of {role, content} objects, as OpenAI's interface has them.

    A developer's turn is the system's. Content may be a list of {"type": "text", "text": ...}
    parts, which are joined. A turn of "weight" 0 is not learned, one of 1, or of none, is.

    Raises:
      DataError: no such list, or one that `check_order` refuses.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes):
        raise DataError("messages is no list of objects with role and content")
    found = []
    for number, one in enumerate(messages, start=1):
        if not isinstance(one, Mapping):
            raise DataError(f"message {number} is no object with role and content")
        role, content = one.get("role"), one.get("content")
        role = AS_ROLE.get(role, role) if isinstance(role, str) else role
        if role not in ROLES:
            raise DataError(f"message {number} has the role {role!r}, expected {', '.join(ROLES)}")
        if isinstance(content, list) and all(
            isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in content
        ):
            content = "".join(part["text"] for part in content)
        if not isinstance(content, str):
            raise DataError(f"message {number} has a content that is no text")
        if unpaired(content):
            raise DataError(f"message {number} has a content that is not Unicode text")
        found.append(Message(role, content, taught=taught_in(one, number)))
    check_order(found)
    return tuple(found)


def taught_in(message: Mapping[str, Any], number: int) -> bool:
    """Whether a message is learned, by its weight (OpenAI's fine-tuning). Raises DataError."""
    weight = message.get("weight")
    if weight not in (None, 0, 1):
        raise DataError(f"message {number} has the weight {weight!r}, expected 0 or 1")
    return weight != 0


def check_order(turns: Sequence[Message]) -> None:
    """Perhaps one system turn, then user and assistant by turns, the user first.

    Raises:
      DataError: another order, or no user turn.
    """
    spoken = turns[1:] if turns and turns[0].role == "system" else turns
    first = len(turns) - len(spoken) + 1
    if not spoken:
        raise DataError("the conversation has no user turn")
    for number, one in enumerate(spoken):
        wanted = ("user", "assistant")[number % 2]
        if one.role != wanted:
            raise DataError(
                f"message {first + number} is the {one.role}'s where the {wanted}'s turn is: a "
                "system turn may come first, then user and assistant by turns"
            )


def as_objects(turns: Iterable[Message]) -> list[dict[str, str]]:
    """Turns as {role, content} objects, for JSON."""
    return [{"role": one.role, "content": one.content} for one in turns]


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A conversation to learn from."""

    tokens: np.ndarray  # [T] int32
    learned: np.ndarray  # [T] bool: tokens that the model is to say
    dropped: int  # tokens of the oldest turns that were cut off


class Chat:
    """How conversations are ids.

    `tokenizer` is the one that was given, with the specials behind it where it had none: this one
    is kept with the run. `end` ends an answer.
    """

    in_turns = True
    eyes = None

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = with_specials(tokenizer, DIALOGUE_SPECIALS)
        specials = self.tokenizer.specials
        self.start, self.end = specials["im_start"], specials["im_end"]
        self.roles: dict[Role, int] = {role: specials[role] for role in ROLES}

    @property
    def header(self) -> list[int]:
        """What the assistant's turn begins with."""
        return [self.start, self.roles["assistant"]]

    def prompt(self, turns: Sequence[Message], length: int | None = None) -> list[int]:
        """The ids of a conversation that ends with the user, and the assistant's header.

        Args:
          length: ids at most; the oldest turns are cut off for it, see `cut`.

        Raises:
          DataError: the conversation does not end with the user; TooLong: its last turn does not
            fit.
        """
        return self.prompts([turns], length)[0]

    def prompts(
        self, conversations: Sequence[Sequence[Message]], length: int | None = None
    ) -> list[list[int]]:
        """`prompt` of each, tokenised at once."""
        found = []
        for turns, spoken in zip(conversations, self._spoken(conversations), strict=True):
            check_order(turns)
            if turns[-1].role != "user":
                raise DataError("the conversation does not end with the user, who is answered")
            ids = [i for part in spoken for i in part] + self.header
            kept = ids if length is None else self.cut(ids, length)
            if not kept:
                raise TooLong(
                    f"the last turn and the system's need {len(self.shortest(ids))} tokens, there "
                    f"is room for {length}: shorten them"
                )
            found.append(kept)
        return found

    def encode(
        self,
        turns: Sequence[Message],
        length: int | None = None,
        learned: Learned = "all",
        known: Collection[int] = (),
    ) -> Encoded | None:
        """The ids of a conversation, and which of them are learned: what the assistant says, with
        its end, not the headers and not what others say.

        Args:
          length: ids at most; the oldest turns are cut off for it, see `cut`.
          learned: every turn of the assistant, or its last alone; one that says nothing is not,
            nor one that is not `taught`.
          known: numbers of turns that are not learned.

        Returns:
          None where not even the newest exchange fits.
        """
        check_order(turns)
        ids: list[int] = []
        mask: list[bool] = []
        last = max((n for n, one in enumerate(turns) if one.role == "assistant"), default=-1)
        for number, (one, part) in enumerate(zip(turns, self._spoken([turns])[0], strict=True)):
            counts = one.answers and number not in known and (learned == "all" or number == last)
            ids += part
            mask += [False, False, *[counts] * (len(part) - 2)]
        there = np.arange(len(ids))
        if length is not None and len(ids) > length:
            cut = self._cut(ids, length)
            if cut is None:
                return None
            there = np.concatenate([there[: cut[0]], there[cut[1] :]])
        return Encoded(
            np.array(ids, np.int32)[there], np.array(mask, bool)[there], len(ids) - len(there)
        )

    def cut(self, ids: Sequence[int], length: int) -> list[int]:
        """At most `length` ids: the system's turn and the newest exchanges, whole, each from a
        user's turn on. Nothing where the newest does not fit."""
        if len(ids) <= length:
            return list(ids)
        cut = self._cut(ids, length)
        return [] if cut is None else [*ids[: cut[0]], *ids[cut[1] :]]

    def shortest(self, ids: Sequence[int]) -> list[int]:
        """The system's turn and the newest exchange."""
        starts = self._exchanges(ids)
        return [*ids[: starts[0]], *ids[starts[-1] :]]

    def encode_prompts(self, prompts: Sequence[Conversation]) -> list[list[int]]:
        return self.prompts(prompts)

    def decode_prompt(self, ids: Iterable[int]) -> Conversation:
        return self.parse(ids)

    def spell(self, prompt: Conversation) -> str:
        """A conversation for people to read."""
        said = "".join(f"{one.role}: {one.content}\n" for one in prompt)
        return f"{said}assistant: "

    def answer(self, text: str) -> list[int]:
        """The ids of what the assistant says, with their end."""
        return [*self.tokenizer.encode(text), self.end]

    def decode(self, ids: Iterable[int]) -> str:
        """What the ids of an answer say, up to its end.

        Specials that a model may have said are skipped.
        """
        said: list[int] = []
        for i in ids:
            if i == self.end:
                break
            said.append(int(i))
        return self.tokenizer.decode(said)

    def parse(self, ids: Iterable[int]) -> Conversation:
        """The turns that ids hold; a header alone at the end is no turn."""
        names = {i: role for role, i in self.roles.items()}
        found: list[Message] = []
        turn: list[int] = []
        for i in [*map(int, ids), self.start]:
            if i == self.start:
                if len(turn) > 1 and turn[0] in names:
                    found.append(Message(names[turn[0]], self.decode(turn[1:])))
                turn = []
            else:
                turn.append(i)
        return tuple(found)

    def _spoken(self, conversations: Sequence[Sequence[Message]]) -> list[list[list[int]]]:
        """The ids of each turn of each conversation, with header and end."""
        flat = [one for turns in conversations for one in turns]
        said = iter(self.tokenizer.encode_batch([one.content for one in flat]))
        return [
            [[self.start, self.roles[one.role], *next(said), self.end] for one in turns]
            for turns in conversations
        ]

    def _exchanges(self, ids: Sequence[int]) -> list[int]:
        """Where the user's turns begin."""
        return [
            at
            for at, (one, role) in enumerate(zip(ids, ids[1:], strict=False))
            if one == self.start and role == self.roles["user"]
        ]

    def _cut(self, ids: Sequence[int], length: int) -> tuple[int, int] | None:
        """Ids of the system's turn, and where the oldest exchange begins that still fits."""
        starts = self._exchanges(ids)
        for start in starts:
            if starts[0] + len(ids) - start <= length:
                return starts[0], start
        return None
