"""Conversations to learn from, of whatever file they are in.

A row is a conversation, of one of these kinds; whatever else a row of instructions may be
(`lm.data.demonstrations`) is a conversation of one turn.

    {"messages": [{"role", "content"}, ...]}    ours, and OpenAI's, whose "weight" 0 is not learned
    {"prompt": [{"role", "content"}, ...], "completion": [...]}    the same in two parts
    {"conversations": [{"from", "value"}, ...]}    ShareGPT; cut up to the first user
    {"chosen": ...}    HH-RLHF's transcripts, or turns, where nothing beside them asks
    {"turns": [{"speaker": "USER" or "SYSTEM", "utterance"}, ...]}    Schema-Guided Dialogue
    {"prompt": {"role": "prompter", "text", "replies": [...]}}    OpenAssistant: each path of it
    {"kind": "demonstration", "messages", "answer"}    the labelling page's; its rankings have one
        where the labeler wrote an answer, too
    a line of a `.txt` file, `__eou__` between turns    DailyDialog: the first speaker is the user

No answer of a row that says of itself `"label": false` (KTO's verdict) is learned. The file is long
because each kind is told from the others in one place.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from lm.core.config import require
from lm.core.errors import DataError
from lm.data.asking import (
    BESIDE,
    BETWEEN,
    SPEAKERS,
    Malformed,
    asked_by,
    history_of,
    is_bad,
    is_dialogue,
    system_of,
    text,
)
from lm.data.demonstrations import demonstrations
from lm.data.held_out import place
from lm.data.labels import END_OF_UTTERANCE, conversation_rows, rows_from_the_oldest
from lm.data.prompts import Part, Reader, RowsConfig
from lm.data.sources import content_digest
from lm.data.tasks.rows import Problem, Row
from lm.text.dialogue import (
    Chat,
    Conversation,
    Learned,
    Message,
    Role,
    check_order,
    conversation,
    taught_in,
)
from lm.text.interface import Form
from lm.text.tokenizer import Tokenizer

Asked = Literal["random", "every", "last"]  # which of a conversation's answers are prompted for

DRAWING = 2  # of the rules by which a seed draws answers: a run goes on by those it began with
GUIDED: dict[str, Role] = {"USER": "user", "SYSTEM": "assistant"}
TRANSCRIPT = re.compile(r"\n\n(Human|Assistant): ?")


@dataclasses.dataclass(frozen=True)
class Dialogue:
    """A conversation, and where it stands."""

    turns: Conversation
    where: str  # file:line
    known: int = 0  # turns at its beginning that an earlier path of its tree has too

    @property
    def prompt(self) -> Conversation:
        """By which it is held out or not."""
        return self.turns

    @property
    def to_answer(self) -> Conversation:
        """The turns up to the last answer that is learned; none where there is none."""
        last = max((n for n, one in enumerate(self.turns) if one.answers), default=-1)
        return self.turns[: last + 1]


def answered(items: Iterable[Dialogue]) -> list[Dialogue]:
    """Each conversation up to its last answer; of the paths of a tree those with an answer that
    none before has."""
    cut = (dataclasses.replace(item, turns=item.to_answer) for item in items)
    return [item for item in cut if len(item.turns) > item.known]


def dialogues(between: str = BETWEEN) -> Reader[Dialogue]:
    """The conversations of a row of any of the kinds."""
    one_turn = demonstrations(between)

    def of(row: Row) -> list[Dialogue]:
        found = every(row)
        return [untaught(one) for one in found] if is_bad(row.values) else found

    def every(row: Row) -> list[Dialogue]:
        values = row.values
        try:
            if values.get("kind") == "ranking" and "answer" not in values:
                return []
            if values.get("kind") in ("ranking", "demonstration"):
                said = conversation(values.get("messages"))
                answer = Message("assistant", text(values, "answer"))
                return [Dialogue((*said, answer), row.where)]
            if isinstance(values.get("prompt"), Mapping):
                found = paths(values["prompt"])
                return [Dialogue(turns, row.where, known) for turns, known in found]
            turns = turns_of(values)
            if turns is not None:
                return [Dialogue(instructed(turns, values), row.where)]
        except DataError as error:
            raise Malformed(str(error)) from None
        alone = {name: value for name, value in values.items() if name not in BESIDE}
        return [
            Dialogue(
                (*question(values, between, one.prompt), Message("assistant", one.answer.strip())),
                row.where,
            )
            for one in one_turn(dataclasses.replace(row, values=alone))
            if isinstance(one.prompt, str)
        ]

    return of


def untaught(item: Dialogue) -> Dialogue:
    """A conversation of which nothing is learned."""
    turns = tuple(dataclasses.replace(one, taught=False) for one in item.turns)
    return dataclasses.replace(item, turns=turns)


def turns_of(values: Mapping[str, Any]) -> Conversation | None:
    """The turns of a row that is a conversation; None for one that is not.

    Raises:
      DataError, Malformed: a turn is wrong, or their order.
    """
    if "messages" in values:
        return conversation(values["messages"])
    prompt, said = values.get("prompt"), values.get("completion")
    if isinstance(prompt, list) and isinstance(said, list):
        return conversation(prompt + said)
    if "conversations" in values:
        said = spoken(values["conversations"], SPEAKERS, ("from", "role"), ("value", "content"))
        first = next((n for n, one in enumerate(said) if one.role == "user"), len(said))
        return ordered([one for one in said[:first] if one.role == "system"] + said[first:])
    if is_dialogue(values) and isinstance(values["chosen"], str):
        return asked(text(dict(values), "chosen"))
    if is_dialogue(values):
        return ordered(spoken(values["chosen"], SPEAKERS, ("from", "role"), ("value", "content")))
    turns = values.get("turns")
    if isinstance(turns, list) and turns and isinstance(turns[0], Mapping):
        return ordered(spoken(turns, GUIDED, ("speaker",), ("utterance",)))
    if isinstance(values.get("dialogue"), str):
        lines = text(dict(values), "dialogue").split("\t")[0].split(END_OF_UTTERANCE)
        roles: Iterator[Role] = itertools.cycle(("user", "assistant"))
        said = [Message(role, line.strip()) for role, line in zip(roles, lines, strict=False)]
        return ordered(said[:-1] if said and not said[-1].content else said)
    return None


def spoken(
    turns: Any, speakers: Mapping[str, Role], by: tuple[str, ...], what: tuple[str, ...]
) -> list[Message]:
    """The turns of a list of objects that name speakers in their own way."""
    if not isinstance(turns, list) or not all(isinstance(one, dict) for one in turns):
        raise Malformed("a dialogue is no list of objects")
    found = []
    for number, one in enumerate(turns, start=1):
        speaker = text(one, *by)
        if speaker not in speakers:
            known = ", ".join(speakers)
            raise Malformed(f"turn {number} is of {speaker!r}, expected one of {known}")
        said = text(one, *what)
        found.append(Message(speakers[speaker], said, taught=taught_in(one, number)))
    return found


def ordered(turns: Iterable[Message]) -> Conversation:
    found = tuple(turns)
    check_order(found)
    return found


def instructed(turns: Conversation, values: Mapping[str, Any]) -> Conversation:
    """Turns behind the system's, and behind earlier ones, where their row has these in fields of
    their own. Raises Malformed as `system_of` and `history_of` do."""
    said, earlier = system_of(values), history_of(values)
    system, rest = (turns[:1], turns[1:]) if turns[0].role == "system" else ((), turns)
    if said and not system:
        system = (Message("system", said),)
    return (*system, *(conversation(earlier) if earlier else ()), *rest)


def paths(
    node: Mapping[str, Any], before: Conversation = (), known: int = 0
) -> Iterator[tuple[Conversation, int]]:
    """From the first message of a tree to each of its last, those without an answer left out; with
    how many turns of it an earlier path has."""
    here = (
        *before,
        Message(SPEAKERS.get(text(dict(node), "role"), "user"), text(dict(node), "text")),
    )
    replies = replies_of(node)
    if replies:
        for number, reply in enumerate(replies):
            yield from paths(reply, here, len(here) if number else known)
    elif len(here) > 1:
        check_order(here)
        yield here, known


def replies_of(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The replies that nobody deleted, the best-ranked first."""
    found = node.get("replies") or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Malformed('"replies" is no list of objects')
    found = [one for one in found if not one.get("deleted")]
    ranks = [one["rank"] for one in found if one.get("rank") is not None]
    if not all(isinstance(rank, int | float) and math.isfinite(rank) for rank in ranks):
        raise Malformed("the rank of a reply is no number")
    return sorted(found, key=lambda one: one["rank"] if one.get("rank") is not None else len(found))


def is_conversation(values: Mapping[str, Any]) -> bool:
    """Whether a row has turns, right or wrong ones: then it is nothing else."""
    turns = values.get("turns")
    objects = isinstance(turns, list) and any(isinstance(one, Mapping) for one in turns)
    return (
        objects
        or is_dialogue(values)
        or any(name in values for name in ("kind", "messages", "conversations", "dialogue"))
    )


def question(values: Mapping[str, Any], between: str, prompt: str | None = None) -> Conversation:
    """What a row asks. Only the field `prompt` may be a transcript: an instruction that spells
    speakers is what a user says. Raises Malformed."""
    said = asked_by(dict(values), between) if prompt is None else prompt
    if "prompt" not in values:
        return instructed((Message("user", said.strip()),), values)
    try:
        return instructed(asked(said), values)
    except DataError as error:
        raise Malformed(str(error)) from None


def asked(prompt: str) -> Conversation:
    """A prompt as a conversation: a transcript of `Human:` and `Assistant:` (HH-RLHF) by its
    turns, anything else as what a user says."""
    parts = TRANSCRIPT.split(prompt)
    if len(parts) < 3 or parts[0].strip():
        return (Message("user", prompt.strip()),)
    roles = {"Human": "user", "Assistant": "assistant"}
    said = [
        Message(SPEAKERS[roles[who]], what.strip())
        for who, what in zip(parts[1::2], parts[2::2], strict=True)
    ]
    if said and said[-1].role == "assistant" and not said[-1].content:
        said.pop()  # where the answer goes
    return ordered(said)


def prompts_in(turns: Conversation, which: Asked, seed: int = 0) -> list[Conversation]:
    """The conversation up to one of its answers, drawn by its content and a seed, or to each of
    them.

    One that ends with the user waits for an answer, and is a prompt as it is too.
    """
    places = [place for place, one in enumerate(turns) if one.role == "assistant"]
    if turns[-1].role != "assistant":
        places.append(len(turns))
    if which == "random":
        drawn = place(f"{turns!r}{seed or ''}")
        places = [places[int(drawn * len(places))]]
    elif which == "last":
        places = places[-1:]
    return [turns[:place] for place in places]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DialoguesConfig(RowsConfig):
    """Conversations to learn from and to measure on."""

    mixture: tuple[tuple[str, str, float], ...] = ()  # (name, files, weight), in place of `train`
    learned: Learned = "all"  # of the assistant's turns; a blank one is not
    asked: Asked = "random"  # answers of a conversation that are prompted for; by a run's seed

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [name for name, _, _ in self.mixture]
        require(len(set(names)) == len(names), f"data.mixture names one part twice: {names}")
        for name, spec, weight in self.mixture:
            require(
                bool(name and spec), f"data.mixture: {(name, spec, weight)} lacks name or files"
            )
            require(weight > 0, f"data.mixture: the weight of {name} must be positive: {weight}")

    @property
    def sources(self) -> dict[str, tuple["DialoguesConfig", float]]:
        """The parts of the mixture and their weights; where there is none, the whole."""
        if not self.mixture:
            return {"dialogues": (self, 1.0)}
        return {
            name: (dataclasses.replace(self, train=spec, mixture=()), weight)
            for name, spec, weight in self.mixture
        }

    def read_from(self, part: Part) -> dict[str, "DialoguesConfig"]:
        """What the rows of a part are read from."""
        if part == "valid" and self.valid is not None:
            return {"dialogues": self}
        return {name: one for name, (one, _) in self.sources.items()}

    @property
    def fingerprint(self) -> str:
        """Identity of what the files hold, and of the weights."""
        if not self.mixture:
            return super().fingerprint
        told = ";".join(f"{one.fingerprint}*{weight}" for one, weight in self.sources.values())
        if self.valid is None:
            return told
        return f"{told};{content_digest(self.valid, order=rows_from_the_oldest)}"

    def drawn(self, seed: int) -> str:
        """Nothing for seed 0, by which answers are drawn as they were before seeds drew them."""
        return f";{DRAWING}" if seed and self.asked == "random" else ""

    def form(self, tokenizer: Tokenizer) -> Form:
        """As turns."""
        return Chat(tokenizer)

    def rows(self, spec: str) -> Iterator[Row | Problem]:
        return conversation_rows(spec)

    def dialogues(self, part: Part) -> dict[str, list[Dialogue]]:
        """The conversations of each part of the mixture; those to measure on, once, where they have
        files of their own."""
        return self.read_parts(dialogues(self.between), part)

    def read_parts(self, items: Reader[Dialogue], part: Part) -> dict[str, list[Dialogue]]:
        """`read` of each part of the mixture; what any of them holds out is learned from none."""
        sources = self.read_from(part)
        divided = {name: one.divided(items, part) for name, one in sources.items()}
        elsewhere = set().union(*(one.elsewhere for one in divided.values()))
        kept = {
            name: one.kept(divided[name], elsewhere, part, items) for name, one in sources.items()
        }
        return {name: [one.item for one in some] for name, some in kept.items()}

    def prompts(self, part: Part, seed: int = 0) -> list[Conversation]:
        """Each prompt of a part once: a conversation up to an answer of the assistant. What is held
        out is asked alike whatever the seed, so that what is said to it compares."""
        whole = dialogues(self.between)
        seed = seed if part == "train" else 0

        def items(row: Row) -> list[Dialogue]:
            try:
                found = whole(row)
            except Malformed:  # rows that ask and do not answer
                if is_conversation(row.values):
                    raise
                found = [Dialogue(question(row.values, self.between), row.where)]
            return [
                Dialogue(prompt, one.where)
                for one in found
                for prompt in prompts_in(one.turns, self.asked, seed)
            ]

        some = self.read_parts(items, part).values()
        return list(dict.fromkeys(one.turns for one in itertools.chain.from_iterable(some)))

    def prompt_ids(self, part: Part, form: Form, length: int, seed: int) -> list[list[int]]:
        """The ids of each, the oldest exchanges of a longer one cut off."""
        found = form.encode_prompts(self.prompts(part, seed))
        return [form.cut(ids, length) or ids for ids in found]
