"""A ranking, or an answer that somebody wrote, as it is kept, whether from a page or a terminal."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from lm.core.errors import DataError
from lm.data.comparisons import MOST
from lm.serve.body import Fields, Refused
from lm.serve.items import Item, digest
from lm.text.dialogue import Conversation, as_objects, conversation
from lm.text.interface import unpaired

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


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What a labeler said of answers, of each in the order in which they were shown."""

    ranks: list[int]  # 1 the best; equal ones a tie
    ratings: list[int | None]
    metadata: list[dict[str, bool]]

    @classmethod
    def read(cls, fields: Fields, count: int) -> "Judgement":
        """Raises Refused: not one rank for each of so many answers, or a rating or an answer of
        the form that is none."""
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
        if not isinstance(metadata, list) or len(metadata) != count or not all(
            map(answered, metadata)
        ):  # fmt: skip
            raise Refused(
                f"metadata must be {count} objects with true or false to questions of the form; "
                "one that nobody answered is left out", param="metadata",
            )  # fmt: skip
        return cls(ranks, ratings, metadata)

    def unshuffled(self, places: Sequence[int]) -> "Judgement":
        """The same of answers in their own order; `places[n]` is that of the one shown as n."""
        own = [places.index(place) for place in range(len(places))]
        return Judgement(
            [self.ranks[n] for n in own],
            [self.ratings[n] for n in own],
            [self.metadata[n] for n in own],
        )


def answered(metadata: Any) -> bool:
    """Whether these are yes or no to questions of the form, to any number of them."""
    return isinstance(metadata, dict) and all(
        name in METADATA and isinstance(value, bool) for name, value in metadata.items()
    )


def said_of(item: Item, labeler: str, kind: str) -> dict[str, Any]:
    """What every record begins with; of one user all are learned from, or none."""
    told = {"kind": kind, "item": item.name, "labeler": labeler, "messages": item.messages}
    return told if item.user is None else told | {"user": item.user}


def ranking(item: Item, labeler: str, judgement: Judgement) -> dict[str, Any]:
    """The record of what a labeler said of an item's answers, in their own order."""
    order = sorted(set(judgement.ranks))  # 1, 2, 2, 4 and 1, 2, 2, 3 are the same
    record = said_of(item, labeler, "ranking") | {
        "answers": item.answers,
        "ranks": [order.index(rank) + 1 for rank in judgement.ranks],
        "ratings": judgement.ratings,
        "metadata": judgement.metadata,
        "sources": item.sources,
    }
    return record | {"ended": item.ended} if item.ended else record


def demonstration(item: Item, labeler: str, answer: str) -> dict[str, Any]:
    """The record of what the assistant should have said.

    Raises:
      Refused: it says nothing.
    """
    if not answer.strip():
        raise Refused("the answer is empty", param="answer")
    return said_of(item, labeler, "demonstration") | {"answer": answer}


def demonstrated(messages: Any, turn: str) -> Item:
    """A conversation to which somebody wrote the answer, as an item.

    Its name is that of the turn and not of what was said: an answer, or a conversation before it,
    that was changed and is kept again stands for the earlier one.

    Raises:
      Refused: no conversation in text that ends with the user, or a turn without a name.
    """
    if not turn:
        raise Refused("item must name the turn of the conversation", param="item")
    return Item(digest(["written", turn]), as_objects(answerable(messages)), [], [])


def answerable(messages: Any) -> Conversation:
    """Raises Refused: no conversation in text that ends with the user."""
    try:
        turns = conversation(messages)
    except DataError as error:
        raise Refused(f"{error}; labels are of answers to text", param="messages") from None
    if turns[-1].role != "user":
        raise Refused("messages must end with the user, who is answered", param="messages")
    if any(unpaired(turn.content) for turn in turns):
        raise Refused("messages must be text that UTF-8 can hold", param="messages")
    return turns


def talked(messages: Any, answers: Any, sources: Any, ended: Any = None) -> Item:
    """The answers that somebody drew to the end of a conversation, as an item.

    Its name is that of the conversation and of the first answer: a ranking of these and one more
    stands for the ranking of these, and the same question asked again is another item.

    Raises:
      Refused: no conversation in text that ends with the user, or no different answers to it.
    """
    turns = answerable(messages)
    if not isinstance(answers, list) or not all(isinstance(one, str) for one in answers):
        raise Refused("answers must be a list of strings", param="answers")
    if not 2 <= len(answers) <= MOST or len(set(answers)) < len(answers):
        raise Refused(f"answers must be 2 to {MOST} different ones", param="answers")
    if any(map(unpaired, answers)):
        raise Refused("answers must be text that UTF-8 can hold", param="answers")
    if not isinstance(sources, list) or len(sources) != len(answers) or not all(
        isinstance(one, str) and len(one) <= 500 and not unpaired(one) for one in sources
    ):  # fmt: skip
        raise Refused("sources must be the name of a run for each answer", param="sources")
    if ended is not None and not (
        isinstance(ended, list) and len(ended) == len(answers)
        and all(isinstance(one, bool) for one in ended)
    ):  # fmt: skip
        raise Refused("ended must be true, or false where it was cut off, for each answer",
                      param="ended")  # fmt: skip
    told = as_objects(turns)
    name = digest(["chat", told, answers[0]])
    return Item(name, told, answers, sources, ended=ended or [])


def checked_name(name: Any) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Refused("labeler must be 1 to 40 of A-Z a-z 0-9 . _ -", param="labeler")
    return name
