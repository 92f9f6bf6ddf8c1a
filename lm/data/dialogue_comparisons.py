"""Answers to conversations in the order of somebody's preference, of whatever file they are in.

{"kind": "ranking", "messages": [...], "answers": [...], "ranks": [...]}    1 the best
OpenAssistant's trees: the ranked replies to every message of a prompter, of more than nine
the best, the worst and some evenly between
any comparison of prompts that are texts (`lm.data.comparisons`), as conversations: turns as they
stand, and the transcripts of HH-RLHF by their speakers
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm.core.errors import DataError
from lm.data.asking import BESIDE, BETWEEN, Malformed, asks, text
from lm.data.comparisons import (
    MOST,
    Comparison,
    ComparisonsConfig,
    comparisons,
    ended_of,
    listed,
    metadata_of,
    placed,
)
from lm.data.demonstrations import Demonstration
from lm.data.dialogues import (
    DialoguesConfig,
    answered,
    asked,
    instructed,
    question,
    replies_of,
    turns_of,
)
from lm.data.labels import KINDS, conversation_rows
from lm.data.parting import in_turns, parted, until_answered
from lm.data.prompts import Item, Part, Reader
from lm.data.tasks.rows import Problem, Row
from lm.text.dialogue import Chat, Conversation, Message, conversation
from lm.text.interface import Form
from lm.text.tokenizer import Tokenizer


def dialogue_comparisons(between: str = BETWEEN) -> Reader[Comparison]:
    """The comparisons of a row of any of the kinds."""
    of_texts = comparisons(between)

    def of(row: Row) -> list[Comparison]:
        values = row.values
        try:
            if values.get("kind") == "ranking":
                return [ranking(row)]
            if values.get("kind") in list(KINDS):
                return []
            if isinstance(values.get("prompt"), Mapping):
                return list(in_tree(values["prompt"], row.where))
            alone = {name: value for name, value in values.items() if name not in BESIDE}
            return [
                dataclasses.replace(
                    one, prompt=before(values, between, one.prompt),
                    answers=tuple(answer.strip() for answer in one.answers),
                )
                for one in of_texts(dataclasses.replace(row, values=alone))
                if isinstance(one.prompt, str)
            ]  # fmt: skip
        except DataError as error:
            raise Malformed(str(error)) from None

    return of


def before(values: dict[str, Any], between: str, prompt: str) -> Conversation:
    """What was said before the answers of a row, whose prompt as a text is `prompt`, without what
    the row says beside it. Turns stay as they stand, whatever they spell; a transcript is what
    `prompt` and `chosen` alone may be."""
    said: Conversation | None
    chosen = values.get("chosen")
    turns = values.get("conversations") or values.get("messages")
    if in_turns(values):
        said = turns_of({"conversations": parted(until_answered(values)[0], between)[0]})
    elif isinstance(chosen, str) and not asks(values):
        said = instructed(asked(prompt), values)
    elif turns and not asks(values) and "prediction 1" not in values:
        found = turns_of(values)
        said = instructed(found, values) if found else None
    else:
        said = question(values, between, prompt)
    if not said or said[-1].role != "user":
        raise Malformed("the prompt does not end with the user, who is answered")
    return said


def ranking(row: Row) -> Comparison:
    """A ranking of the labelling page."""
    values = row.values
    said, ranks = conversation(values.get("messages")), values.get("ranks")
    if said[-1].role != "user":
        raise Malformed("the messages do not end with the user, who is answered")
    answers = listed(values)
    if not 2 <= len(answers) <= MOST:
        raise Malformed(f"{len(answers)} answers; a ranking has 2 to {MOST}")
    if not isinstance(ranks, list) or len(ranks) != len(answers):
        raise Malformed(f"ranks {ranks!r} are not one for each of {len(answers)} answers")
    if not all(isinstance(rank, int) and not isinstance(rank, bool) for rank in ranks):
        raise Malformed(f"ranks {ranks!r} are no whole numbers")
    labeler = str(values.get("labeler", ""))
    ended, metadata = ended_of(values, len(answers)), metadata_of(values, len(answers))
    return Comparison(
        said, tuple(answers), placed(ranks), labeler, row.where, ended, metadata, labelled=True
    )


def in_tree(node: Mapping[str, Any], where: str, before: Conversation = ()) -> Iterator[Comparison]:
    """The rankings of a tree of messages."""
    role = "user" if text(dict(node), "role") == "prompter" else "assistant"
    here = (*before, Message("user" if role == "user" else "assistant", text(dict(node), "text")))
    replies = replies_of(node)
    ranked = spread([one for one in replies if one.get("rank") is not None])
    if role == "user" and len(ranked) > 1:
        answers = tuple(text(dict(one), "text") for one in ranked)
        yield Comparison(here, answers, placed([one["rank"] for one in ranked]), "", where)
    for reply in replies:
        yield from in_tree(reply, where, here)


def spread(ranked: Sequence[Item]) -> Sequence[Item]:
    """As many as a comparison may have, the first, the last and others evenly between them."""
    if len(ranked) <= MOST:
        return ranked
    return [ranked[number * (len(ranked) - 1) // (MOST - 1)] for number in range(MOST)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DialogueComparisonsConfig(ComparisonsConfig):
    """Comparisons of answers to conversations."""

    def form(self, tokenizer: Tokenizer) -> Form:
        """As turns."""
        return Chat(tokenizer)

    def rows(self, spec: str) -> Iterator[Row | Problem]:
        return conversation_rows(spec)

    def compared(self, part: Part) -> list[Comparison]:
        return self.read(dialogue_comparisons(self.between), part)

    def demonstrated(self, files: str) -> list[Demonstration]:
        """The last answers of the conversations in files."""
        shown = DialoguesConfig(
            train=files, valid_fraction=self.valid_fraction, between=self.between,
            per_user=self.per_user, common_prefix=self.common_prefix,
        )  # fmt: skip
        return [
            Demonstration(item.turns[:-1], item.turns[-1].content, item.where)
            for item in answered(shown.dialogues("train")["dialogues"])
        ]
