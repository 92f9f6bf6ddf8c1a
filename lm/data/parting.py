"""Two dialogues of which one was chosen and the other rejected, as two answers to one prompt.

A pair may part before the last turn: what both begin with, up to an answer, is then the prompt, and
all that comes after it the answers. What the human says behind the last answer of either, and
nobody answers, is part of none.
"""

from collections.abc import Mapping
from typing import Any

from lm.data.asking import (
    ASKS,
    SPEAKS,
    Malformed,
    asks,
    history_of,
    prompt_of,
    role_of,
    system_of,
    text,
    transcript,
    up_to_answer,
)
from lm.data.dialogues import question
from lm.text.dialogue import as_objects

Turn = dict[str, str]  # {role, content}


def chosen_and_rejected(values: dict[str, Any], between: str) -> tuple[str, list[str]]:
    """The prompt and both answers of a row of {chosen, rejected}. Raises Malformed."""
    both = [values["chosen"], values.get("rejected")]
    if all(isinstance(one, dict) for one in both):
        both = [text(one, "value", "content") for one in both]
        return prompt_of(values, between), [f" {one}" for one in both]
    if in_turns(values):
        shared, rest = parted(values, between)
        ends = [f" {one[0]['content']}" + transcript(one[1:]).removesuffix(SPEAKS) for one in rest]
        return transcript(shared), ends
    answers = [text({"chosen": both[0]}, "chosen"), text({"rejected": both[1]}, "rejected")]
    if asks(values):
        return prompt_of(values, between), answers
    heads, ends = zip(*(one.rpartition(SPEAKS)[::2] for one in answers), strict=True)
    if not heads[0]:
        raise Malformed('no "prompt", and no transcript: "chosen" has no "\\n\\nAssistant:"')
    if heads[0] != heads[1]:
        place = answers[0].rfind(SPEAKS, 0, first_other(*answers))
        if place < 0:
            raise Malformed("the transcripts of a pair have no turn in common")
        place += len(SPEAKS)
        return answers[0][:place], [one[place:] for one in answers]
    return heads[0] + SPEAKS, list(ends)


def until_answered(values: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """A row of {chosen, rejected} with both up to their last answers, and how many were cut for it.
    Texts are transcripts where nothing beside them asks, or a prompt that is one itself."""
    found = {name: values[name] for name in ("chosen", "rejected") if name in values}
    prompt = values.get("prompt")
    if in_turns(values):
        found = {name: up_to_answer(said) for name, said in found.items()}
    elif not asks(values) or (isinstance(prompt, str) and prompt.rstrip().endswith(SPEAKS)):
        texts = {name: said for name, said in found.items() if isinstance(said, str)}
        for name, said in texts.items():
            before, speaks, answer = said.rpartition(SPEAKS)
            found[name] = before + speaks + answer.partition(ASKS)[0]
    return values | found, sum(values[name] != said for name, said in found.items())


def in_turns(values: Mapping[str, Any]) -> bool:
    """Whether both of a row are lists of turns."""
    both = [values.get("chosen"), values.get("rejected")]
    return all(isinstance(one, list) and one and isinstance(one[-1], dict) for one in both)


def parted(values: Mapping[str, Any], between: str) -> tuple[list[Turn], list[list[Turn]]]:
    """The turns that both begin with, up to an answer, and those of each from there, behind a
    prompt (TRL's), a system and a history beside them. Raises Malformed."""
    before: list[Turn] = []
    if isinstance(values.get("prompt"), list):
        before = turns_in(values["prompt"])
    elif asks(values):
        before = as_objects(question(values, between))
    if (said := system_of(values)) and not parts(before)[0]:
        before = [{"role": "system", "content": said}, *before]
    both = [behind(before, turns_in(values[name])) for name in ("chosen", "rejected")]
    lasts = [len(one) - 1 for one in both]
    place = min(first_other(*both), *lasts)
    last = lasts == [place] * 2  # whoever speaks it
    while place and not last and any(one[place]["role"] != "assistant" for one in both):
        place -= 1
    if not place:
        raise Malformed('the dialogues of a pair have no turn in common, and no "prompt"')
    earlier, (system, shared) = history_of(values), parts(both[0][:place])
    if shared[: len(earlier)] != earlier:
        shared = earlier + shared
    return system + shared, [one[place:] for one in both]


def turns_in(said: list[Any]) -> list[Turn]:
    """Turns as {role, content} objects, their speakers by our names. Raises Malformed."""
    return [{"role": role_of(one), "content": text(one, "value", "content")} for one in said]


def behind(prompt: list[Turn], said: list[Turn]) -> list[Turn]:
    """A list of turns with its prompt, which it lacks where it begins with the answer, or goes on
    with the user behind a prompt that ends with an answer. A system turn of either is first."""
    (system, asked), (own, rest) = parts(prompt), parts(said)
    follows = rest[:1] and rest[0]["role"] == "assistant"
    if asked and asked[-1]["role"] == "assistant" and rest[: len(asked)] != asked:
        follows = True
    return (own or system) + (asked if follows else []) + rest


def parts(turns: list[Turn]) -> tuple[list[Turn], list[Turn]]:
    """The system's turn, where it is first, and the others."""
    count = int(bool(turns) and turns[0]["role"] == "system")
    return turns[:count], turns[count:]


def first_other(a: Any, b: Any) -> int:
    """The first place at which two sequences are not the same, or the end of the shorter."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((place for place, (x, y) in pairs if x != y), min(len(a), len(b)))
