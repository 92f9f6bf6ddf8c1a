"""What a row asks, as text.

    {"prompt": ...}                        the very text that the model continues
    {"instruction": ..., "input": ...}     a task, and perhaps what it is about (Dolly's `context`),
        behind `examples`
    {"instruction": ..., "instances": [{"input": ..., "output": ...}]}
    {"instruction": ..., "examples": [{"input": ..., "output": ...}]}    each behind all the others
    {"turns": [...]}, {"question": ..., "context": ...}    a question, and perhaps what it is about
    {"conversations": [...]}, {"messages": [...]}    a dialogue, as a transcript
    {"chosen": ...}    a dialogue that asks itself, up to its last answer: HH-RLHF's transcripts

A prompt is taken as it is; after anything else comes `between`, which tells where the answer
begins. What a field `system` or `system_prompt` says stands before it, and the pairs of a field
`history` make it the last turn of a transcript. All rows of an instruction that one of them has
examples of are learned from together or held out together.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from lm.text.dialogue import Role
from lm.text.interface import unpaired

BETWEEN = "\n\n"
SPEAKERS: dict[str, Role] = {  # by what files of conversations call them
    "system": "system", "human": "user", "user": "user", "prompter": "user", "gpt": "assistant",
    "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "assistant": "assistant",
    "developer": "system",
}  # fmt: skip
SYSTEM = ("system", "system_prompt")  # fields of a row
BESIDE = (*SYSTEM, "history")
GIVEN = ("input", "context")  # fields: what a task or a question is about
ANSWERS = ("response", "completion", "answer", "output", "chosen")  # fields: the first there is
WRITTEN = {"user": "Human", "assistant": "Assistant"}  # of a transcript
ASKS, SPEAKS = "\n\nHuman:", "\n\nAssistant:"  # what a question and an answer come after in one


class Malformed(Exception):
    """What is wrong with a row, which is named by who catches it."""


def text(values: dict[str, Any], *names: str) -> str:
    """The first of these fields that is there. Raises Malformed unless it is a text."""
    for name in names:
        if name in values:
            return unicode_text(name, values[name])
    raise Malformed(f'missing "{names[0]}"')


def unicode_text(name: str, value: Any) -> str:
    """What a field holds. Raises Malformed unless it is a string that a tokenizer can read."""
    if not isinstance(value, str):
        raise Malformed(f'"{name}" is no string')
    if unpaired(value):
        raise Malformed(f'"{name}" is not Unicode text')
    return value


def prompt_of(values: dict[str, Any], between: str) -> str:
    """The prompt of a row behind what its system says, and as the last turn of a transcript where
    it has a history. Raises Malformed where there is none."""
    prompt, said, earlier = asked_by(values, between), system_of(values), history_of(values)
    if earlier:
        prompt = transcript([*earlier, {"role": "user", "content": prompt.strip()}])
    return said + ("" if prompt.startswith(BETWEEN) else between) + prompt if said else prompt


def is_few_shot(values: Mapping[str, Any]) -> bool:
    """Whether a row is an instruction and examples of it, and neither asks nor answers besides."""
    own = {"prompt", "instances", *GIVEN, *ANSWERS}
    return {"instruction", "examples"} <= values.keys() and not values.keys() & own


def is_bad(values: Mapping[str, Any]) -> bool:
    """Whether a row says of its own answer that it is not to be learned (KTO's verdict)."""
    return values.get("label") is False


def task_of(values: Mapping[str, Any]) -> str | None:
    """The instruction that a row asks by; None where it has none, or a prompt beside it."""
    task = values.get("instruction")
    return task if isinstance(task, str) and "prompt" not in values else None


def few_shot(values: dict[str, Any], between: str) -> list[tuple[str, str]]:
    """Of K examples each, as prompt and answer, behind the instruction and the K - 1 others
    (Ouyang et al. 2022, appendix A); a single one is asked without any. Raises Malformed."""
    pairs = pairs_of(values)
    asked = [
        behind(values, [*pairs[:n], *pairs[n + 1 :]], given, between)
        for n, (given, _) in enumerate(pairs)
    ]
    return [
        (prompt_of({**values, "prompt": prompt}, between), answer)
        for prompt, (_, answer) in zip(asked, pairs, strict=True)
    ]


def pairs_of(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The examples of a row, as input and output. Raises Malformed."""
    examples = values["examples"]
    if not isinstance(examples, list) or not all(isinstance(one, dict) for one in examples):
        raise Malformed('"examples" is no list of objects')
    pairs = [(text(one, "input", "prompt"), text(one, "output", "response")) for one in examples]
    if not pairs or not all(said.strip() for pair in pairs for said in pair):
        raise Malformed('"examples" is empty, or one of them lacks its input or output')
    return pairs


def behind(
    values: dict[str, Any], pairs: Sequence[tuple[str, str]], given: str, between: str
) -> str:
    """What is asked behind a row's instruction and these examples."""
    said = [text(values, "instruction"), *itertools.chain.from_iterable(pairs), given]
    return "".join(one + between for one in said)


def prompts_of(values: dict[str, Any], between: str) -> list[str]:
    """All that a row asks: of examples each, of anything else the one prompt. Raises Malformed."""
    if is_few_shot(values):
        return [prompt for prompt, _ in few_shot(values, between)]
    return [prompt_of(values, between)]


def system_of(values: Mapping[str, Any]) -> str:
    """What a row says, beside its turns, of who answers; "" where it does not. Raises Malformed."""
    name = next((name for name in SYSTEM if isinstance(values.get(name), str)), None)
    return unicode_text(name, values[name]).strip() if name else ""


def history_of(values: Mapping[str, Any]) -> list[dict[str, str]]:
    """The turns before a row's own, which it has as pairs of question and answer. Raises
    Malformed."""
    pairs = values.get("history") or []
    if not isinstance(pairs, list) or not all(isinstance(p, list) and len(p) == 2 for p in pairs):
        raise Malformed('"history" is no list of pairs of a question and its answer')
    return [
        {"role": role, "content": unicode_text("history", said)}
        for pair in pairs for role, said in zip(("user", "assistant"), pair, strict=True)
    ]  # fmt: skip


def asked_by(values: dict[str, Any], between: str) -> str:
    """The prompt of a row alone. Raises Malformed where there is none."""
    if is_dialogue(values):
        prompt, _ = last_answer(values)
    elif "prompt" in values:
        prompt = text(values, "prompt")
    elif "instruction" in values and values.get("examples"):
        given = given_in(values)
        if not given.strip():
            raise Malformed('"examples" and no "input": what is asked behind them is missing')
        prompt = behind(values, pairs_of(values), given, between)
    elif "instruction" in values:
        prompt = instruction(values, given_in(values), between)
    elif dialogue := values.get("conversations") or values.get("messages"):
        prompt = transcript(to_answer(dialogue))
    elif isinstance(values.get("turns"), list) and values["turns"]:
        prompt = text({"turns": values["turns"][0]}, "turns") + between
    elif "question" in values:
        prompt = followed(text(values, "question"), given_in(values), between)
    else:
        raise Malformed('missing "prompt" or "instruction"')
    if not prompt.strip():
        raise Malformed("the prompt is empty")
    return prompt


def asks(values: Mapping[str, Any]) -> bool:
    """Whether a row asks in a text, rather than in a dialogue or not at all. A question is a column
    of another meaning beside two transcripts, which ask themselves."""
    if "prompt" in values or "instruction" in values:
        return True
    pair = [values.get("chosen"), values.get("rejected")]
    transcripts = all(isinstance(one, str) and SPEAKS in one for one in pair)
    if transcripts or values.get("conversations") or values.get("messages"):
        return False
    turns = values.get("turns")  # likewise, where it is no list of texts
    listed = isinstance(turns, list) and bool(turns) and isinstance(turns[0], str)
    return listed or isinstance(values.get("question"), str)


def is_dialogue(values: Mapping[str, Any]) -> bool:
    """Whether a row's `chosen` is a transcript, or turns, and nothing beside it asks."""
    chosen = values.get("chosen")
    said = isinstance(chosen, list) or (isinstance(chosen, str) and SPEAKS in chosen)
    return said and not (asks(values) or values.get("conversations") or values.get("messages"))


def last_answer(values: dict[str, Any]) -> tuple[str, str]:
    """The prompt and the last answer of the dialogue that `chosen` is. Raises Malformed."""
    if isinstance(values["chosen"], str):
        before, _, answer = text(values, "chosen").rpartition(SPEAKS)
        return before + SPEAKS, answer.partition(ASKS)[0]
    *turns, last = up_to_answer(values["chosen"]) or [None]
    if role_of(last) != "assistant":
        raise Malformed("nobody answers in the dialogue")
    return transcript(turns), f" {text(last, 'value', 'content')}"


def up_to_answer(turns: list[Any]) -> list[Any]:
    """Turns without the human's behind the last of the assistant, where there is one."""
    roles = [role_of(one) for one in turns]
    count = len(turns)
    while count and roles[count - 1] == "user":
        count -= 1
    return turns[:count] if "assistant" in roles[:count] else turns


def instruction(values: dict[str, Any], given: Any, between: str) -> str:
    """An instruction and what it is about, with `between` after each."""
    return followed(text(values, "instruction"), unicode_text("input", given), between)


def followed(asked: str, given: str, between: str) -> str:
    """What is asked and what it is about, with `between` after each."""
    return asked + between + (given + between if given.strip() else "")


def given_in(values: Mapping[str, Any]) -> str:
    """What a row's task or question is about; "" where it does not say. Raises Malformed where it
    says it in two ways."""
    found = [unicode_text(name, values[name]) for name in GIVEN if name in values]
    found = [said for said in dict.fromkeys(found) if said.strip()]
    if len(found) > 1:
        raise Malformed('an "input" and another "context": put both into one of them')
    return found[0] if found else ""


def to_answer(turns: Any) -> Any:
    """A dialogue without what the assistant says at its end. Raises Malformed if that is all."""
    rest = turns
    while isinstance(rest, list) and rest and role_of(rest[-1]) == "assistant":
        rest = rest[:-1]
    if not rest:
        raise Malformed("nobody but the assistant speaks in the dialogue")
    return rest


def transcript(turns: Any) -> str:
    """A dialogue up to where the assistant speaks, in the form of the HH-RLHF transcripts."""
    if not isinstance(turns, list):
        raise Malformed("a dialogue is no list of turns")
    written = ""
    for turn in turns:
        role = role_of(turn)
        said = text(turn, "value", "content")
        written += f"\n\n{WRITTEN[role]}: {said}" if role in WRITTEN else said
    return written + SPEAKS


def role_of(turn: Any) -> Role:
    """Who speaks. Raises Malformed where the name is of nobody known, or there is none."""
    if not isinstance(turn, dict):
        raise Malformed("a turn of the dialogue is no object")
    who = text(turn, "from", "role")
    if who not in SPEAKERS:
        raise Malformed(f"a turn is of {who!r}, expected one of {', '.join(SPEAKERS)}")
    return SPEAKERS[who]
