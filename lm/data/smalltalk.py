"""Conversations of a made-up kind in which every answer can be checked.

A user asks for letters of a short alphabet, and follows up: what a follow-up asks for is said in
an earlier turn alone.

    417: next c    d    (prev c: b, self c: c), by the alphabet, which is a circle
    and f          the same of another letter
    again          the last answer once more

The number is the user's, and tells nothing: it makes openings of different people different ones.
The assistant writes the letter in one of several manners, and is at times wrong: people are, and
it leaves something to learn from their rankings.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lm.core.config import require
from lm.core.paths import write_whole
from lm.data.prompts import RowsConfig, held_out
from lm.text.dialogue import Conversation, Message, as_objects

ALPHABET = "abcdefgh"
STEPS = {"next": 1, "prev": -1, "self": 0}
MANNERS = ("{}", "{}.", "it is {}", "it is {}.", "{}!")


@dataclass(frozen=True, kw_only=True)
class Smalltalk:
    """How much of it, and how good."""

    conversations: int = 3000  # of two or three exchanges
    single: int = 3000  # questions without a follow-up
    wrong: float = 0.2  # share of answers with a letter drawn at random
    seed: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.wrong <= 1, f"wrong must be in 0..1, got {self.wrong}")

    def write(self, folder: Path, valid_fraction: float = RowsConfig.valid_fraction) -> None:
        """`conversations.jsonl`, `single.jsonl`, and `text.txt` to pre-train on, without the
        questions that the first two hold out, which are `valid_fraction` of them."""
        folder.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(self.seed)
        talks = [self.talk(draw, 2 + int(draw.integers(2))) for _ in range(self.conversations)]
        rows: list[dict[str, Any]] = [{"messages": as_objects(turns)} for turns in talks]
        write(folder / "conversations.jsonl", rows)
        short = [self.talk(draw, 1) for _ in range(self.single)]
        rows = [{"prompt": turns[0].content, "response": turns[1].content} for turns in short]
        write(folder / "single.jsonl", rows)
        asked = [question(draw) for _ in range(4000)]
        asked = [one for one in asked if not held_out(one, valid_fraction)]
        text = "".join(f"{one} is {expected([Message('user', one)])}. " for one in asked)
        write_whole(folder / "text.txt", text)  # the last one: where it is, all are

    def talk(self, draw: np.random.Generator, exchanges: int) -> Conversation:
        """A conversation."""
        turns: list[Message] = []
        for number in range(exchanges):
            turns.append(Message("user", question(draw) if not number else follow_up(draw)))
            right = expected(turns)
            letter = letter_of(draw) if draw.random() < self.wrong else right
            manner = MANNERS[draw.integers(len(MANNERS))]
            turns.append(Message("assistant", manner.format(letter)))
        return tuple(turns)


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))


def letter_of(draw: np.random.Generator) -> str:
    return ALPHABET[draw.integers(len(ALPHABET))]


def question(draw: np.random.Generator) -> str:
    step = list(STEPS)[draw.integers(len(STEPS))]
    return f"{draw.integers(100, 1000)}: {step} {letter_of(draw)}"


def follow_up(draw: np.random.Generator) -> str:
    return "again" if draw.random() < 0.3 else f"and {letter_of(draw)}"


def expected(turns: Sequence[Message]) -> str:
    """The letter that the user's last turn asks for; "" where that is not said.

    It depends on what the user said, not on what was answered.
    """
    step, letter = None, ""
    for one in turns:
        words = one.content.split()[-2:] if one.role == "user" else []
        if len(words) == 2 and len(words[1]) == 1 and words[1] in ALPHABET:
            step, letter = STEPS.get(words[0], step), words[1]
    if step is None or not letter:
        return ""
    return ALPHABET[(ALPHABET.index(letter) + step) % len(ALPHABET)]


def said(answer: str) -> str:
    """The letter of an answer, whatever its manner; "" where it has none."""
    left = answer.strip().removeprefix("it is ").rstrip(".!")
    return left if len(left) == 1 and left in ALPHABET else ""


def right(prompt: Conversation, answer: str) -> bool:
    return said(answer) == expected(prompt) != ""


def gold(prompts: Sequence[Conversation], answers: Sequence[str]) -> list[float]:
    """The programmed labeler: 1 for the right letter, a half for a sentence, a half for its full
    stop; nothing at all where there is no letter. From 0 to 2."""
    return [
        right(prompt, answer) + 0.5 * answer.startswith("it is ") + 0.5 * answer.endswith(".")
        if said(answer)
        else 0.0
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
