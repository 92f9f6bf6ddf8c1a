"""Two dialogues of which one was chosen and the other rejected, as two answers to one prompt.

A pair may part before the last turn: what both begin with, up to an answer, is then the prompt, and
all that comes after it the answers.
"""

from collections.abc import Mapping
from typing import Any

from lm.data.dialogues import question
from lm.data.prompts import SPEAKERS, Malformed, prompt_of, text, transcript
from lm.text.dialogue import as_objects

SPEAKS = "\n\nAssistant:"


def chosen_and_rejected(values: dict[str, Any], between: str) -> tuple[str, list[str]]:
    """The prompt and both answers of a row of {chosen, rejected}. Raises Malformed."""
    both = [values["chosen"], values.get("rejected")]
    if all(isinstance(one, dict) for one in both):
        both = [text(one, "value", "content") for one in both]
        return prompt_of(values, between), [f" {one}" for one in both]
    if in_turns(values):
        shared, rest = parted(values, between)
        ends = [f" {said(one[0])}" + transcript(one[1:]).removesuffix(SPEAKS) for one in rest]
        return transcript(shared), ends
    answers = [text({"chosen": both[0]}, "chosen"), text({"rejected": both[1]}, "rejected")]
    if "prompt" in values or "instruction" in values:
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


def in_turns(values: Mapping[str, Any]) -> bool:
    """Whether both of a row are lists of turns."""
    both = [values.get("chosen"), values.get("rejected")]
    return all(isinstance(one, list) and one and isinstance(one[-1], dict) for one in both)


def parted(values: Mapping[str, Any], between: str) -> tuple[list[Any], list[list[Any]]]:
    """The turns that both begin with, up to an answer, and those of each from there. A prompt
    beside them (TRL's) comes first, unless they repeat it. Raises Malformed."""
    before: list[Any] = []
    if isinstance(values.get("prompt"), list):
        before = values["prompt"]
    elif "prompt" in values or "instruction" in values:
        before = as_objects(question(values, between))
    both = [[*before, *values[name]] for name in ("chosen", "rejected")]
    if not all(isinstance(turn, dict) for one in both for turn in one):
        raise Malformed("a turn of the dialogue is no object")
    both = [one[len(before) :] if repeats(one, len(before)) else one for one in both]
    turns = [[(speaker(turn), said(turn)) for turn in one] for one in both]
    lasts = [len(one) - 1 for one in turns]
    place = min(first_other(*turns), *lasts)
    last = lasts == [place] * 2  # whoever speaks it
    while place and not last and any(SPEAKERS.get(one[place][0]) != "Assistant" for one in turns):
        place -= 1
    if not place:
        raise Malformed('the dialogues of a pair have no turn in common, and no "prompt"')
    return both[0][:place], [one[place:] for one in both]


def repeats(turns: list[Any], count: int) -> bool:
    """Whether the turns behind the first `count` begin with what these say."""
    rest = turns[count:]
    words = [said(turn).strip() for turn in turns[:count]]
    heads = (rest, [turn for turn in rest if speaker(turn) != "system"])
    return any([said(turn).strip() for turn in one[:count]] == words for one in heads)


def first_other(a: Any, b: Any) -> int:
    """The first place at which two sequences are not the same, or the end of the shorter."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((place for place, (x, y) in pairs if x != y), min(len(a), len(b)))


def said(turn: dict[str, Any]) -> str:
    """The words of a turn. Raises Malformed."""
    return text(turn, "value", "content")


def speaker(turn: dict[str, Any]) -> Any:
    """Who speaks in a turn, where it says so."""
    return turn.get("from", turn.get("role"))
