"""What there is to label: prompts with answers, sampled beforehand by the runs in turn.

Items are kept beside the folder of labels, so that a server that comes back asks for labels of the
same answers.
"""

import dataclasses
import hashlib
import json
import os
import queue
import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lm.core.errors import DataError
from lm.data.labels import digest
from lm.data.reading import ROWS, ending, listed
from lm.data.tasks.rows import Problem, lines
from lm.decode.sampling import SamplingConfig
from lm.serve.conversations import chat_prompt
from lm.serve.labels import append_line, read_lines
from lm.serve.model import Served
from lm.serve.request import Asked, Busy, Drawn, Ended, Event
from lm.text.dialogue import Conversation, Message, as_objects, conversation

PAUSE = 0.5  # seconds until a busy engine is asked again


@dataclasses.dataclass(frozen=True)
class Item:
    """A conversation and its answers, in the order in which they were drawn."""

    name: str  # of the prompt and its answers: other answers to the same prompt are another item
    messages: list[dict[str, str]]
    answers: list[str]
    sources: list[str]  # the run that wrote each
    user: str | None = None  # whose conversation it is, where that is known
    ended: list[bool] = dataclasses.field(default_factory=list)  # or cut off; []: nobody knows


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A conversation up to an answer that is to be labelled, and whose it is."""

    turns: Conversation
    user: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingPlan:
    """How answers are drawn."""

    answers: int = 4
    max_tokens: int = 128
    sampling: SamplingConfig = SamplingConfig()
    attempts: int = 3  # at an answer that is none of those there are


def read_prompts(path: Path, seed: int = 0) -> list[Wanted]:
    """Conversations that end with the user, from JSON of {messages}, {prompt}, each with or
    without a {user}, or strings, or from lines of text, both perhaps gzipped. Of one that ends with
    the assistant `seed` draws the answer that is to be labelled.

    Raises:
      DataError: a line that is none of these, or no prompt at all.
    """
    if not path.is_file():
        raise DataError(f"--label_prompts={path}: no such file")
    found = []
    for number, value in values_in(path):
        user = None
        if isinstance(value, dict):
            user = value.get("user")
            value = value.get("messages") or value.get("prompt")
        try:
            turns = (Message("user", value),) if isinstance(value, str) else conversation(value)
        except DataError as error:
            told = f"{path}:{number}: {error}"
            if pictured(value):
                told += "; the page labels answers to text: rank those to images in a file (README)"
            raise DataError(told) from None
        turns = up_to_an_answer(turns, random.Random(f"{seed} {number}"))
        found.append(Wanted(turns, None if user is None else str(user)))
    if not found:
        raise DataError(f"no prompts in {path}: give one a line")
    return found


def pictured(messages: Any) -> bool:
    """Whether an image stands in messages of any form."""
    several = messages if isinstance(messages, list) else []
    contents = [one.get("content") for one in several if isinstance(one, dict)]
    parts = [part for some in contents if isinstance(some, list) for part in some]
    return any(isinstance(part, dict) and "image_url" in part for part in parts)


def values_in(path: Path) -> Iterator[tuple[int, Any]]:
    """The rows of a file with their numbers, from 1; of one of text, its lines."""
    if (several := listed(path)) is not None:
        yield from enumerate(several, start=1)
        return
    for number, line in lines(path):
        if isinstance(line, Problem):
            raise DataError(str(line))
        if not line.strip():
            continue
        try:
            yield number, json.loads(line) if ending(path) in ROWS else line
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: no JSON ({error})") from None


def up_to_an_answer(turns: Conversation, draw: random.Random) -> Conversation:
    """What comes before one of the assistant's turns, any of them alike, as in the comparisons of
    ChatGPT (OpenAI 2022); all of it where the user has not been answered."""
    if turns[-1].role == "user":
        return turns
    return turns[: draw.choice([n for n, one in enumerate(turns) if one.role == "assistant"])]


class Pool:
    """Items, and the thread that makes them."""

    def __init__(
        self, folder: Path, prompts: Sequence[Wanted], models: Sequence[Served],
        plan: SamplingPlan,
    ):  # fmt: skip
        self.prompts, self.models, self.plan = prompts, models, plan
        folder.mkdir(parents=True, exist_ok=True)
        # beside the folder: whoever trains on it reads every file in it
        whole = Path(os.path.abspath(folder))  # "." has no name
        self._path = whole.parent / f"{whole.name}.items.jsonl"
        self.items: dict[str, Item] = {}
        self._answered: set[str] = set()  # prompts of which there are items
        self.otherwise = 0  # items that were sampled by another plan, or from other runs
        self.dropped = 0  # prompts to which there were no two different answers
        self.silent = 0  # answers that said nothing, in whose place others are drawn
        self.unfit = 0  # items with such an answer, or the same twice, from before that was seen to
        self.refused = ""  # what a run said of the last prompt that it did not take
        self.fault = ""  # why the sampling ended early
        for row in read_lines(self._path)[0]:
            item = Item(
                row["item"], row["messages"], row["answers"], row["sources"], row.get("user"),
                row.get("ended", []),
            )  # fmt: skip
            if not fit(item.answers):
                self.unfit += 1
                continue
            self.items[item.name] = item
            self._answered.add(row.get("prompt", item.name))  # items were named by it alone once
            self.otherwise += row.get("plan", self._plan(item)) != self._plan()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="labels", daemon=True)

    def _plan(self, item: Item | None = None) -> dict[str, Any]:
        """How answers are sampled; of an item of which it was not kept as far as can be told."""
        plan = self.plan
        names = {served.name for served in self.models}
        count = plan.answers
        if item is not None:
            names |= set(item.sources)
            count = max(count, len(item.answers))
        return {"runs": sorted(names), "answers": count, "max_tokens": plan.max_tokens,
                "temperature": plan.sampling.temperature}  # fmt: skip

    def start(self) -> None:
        """Begins to sample.

        Raises:
          ConfigError: a run knows no conversations.
          OSError: what is sampled cannot be kept.
        """
        for served in self.models:
            assert served.images or served.chat
        self._path.touch()
        self._thread.start()

    def stop(self) -> None:
        """Ends the sampling."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(5)

    @property
    def making(self) -> bool:
        """Whether more is to come."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._make()
        except Exception as error:  # whoever labels is told why no more comes
            self.fault = getattr(error, "strerror", None) or str(error) or repr(error)
            print(f"{self._path}: the sampling of answers ended early: {self.fault}", flush=True)
        left_out = {
            "drawn answers said nothing": self.silent,
            "items with an empty answer or the same twice": self.unfit,
        }
        for what, count in left_out.items():
            if count:
                print(f"{self._path}: {count} {what}, and are not labelled", flush=True)
        if self.dropped:
            print(
                f"{self._path}: {self.dropped} of {len(self.prompts)} prompts have no two "
                f"different answers, and are not labelled{self.refused and f': {self.refused}'}",
                flush=True,
            )

    def _make(self) -> None:
        for number, wanted in enumerate(self.prompts):
            prompt = prompt_name(wanted.turns, number)
            if self._stopped.is_set():
                return
            if prompt in self._answered:
                continue
            item = self._sample(prompt, wanted, number)
            if item is None:
                self.dropped += not self._stopped.is_set()
            else:
                row = {"item": item.name, "prompt": prompt, "messages": item.messages,
                       "answers": item.answers, "sources": item.sources, "user": item.user,
                       "ended": item.ended, "plan": self._plan()}  # fmt: skip
                append_line(self._path, row)
                self._answered.add(prompt)
                self.items[item.name] = item

    def _sample(self, prompt: str, wanted: Wanted, number: int) -> Item | None:
        """An item with different answers; None where there are not two."""
        answers: list[str] = []
        sources: list[str] = []
        ended: list[bool] = []
        for place in range(self.plan.answers):
            for attempt in range(self.plan.attempts):
                served = self.models[(number + place) % len(self.models)]
                drawn = hashlib.sha256(f"{prompt} {place} {attempt}".encode()).hexdigest()
                seed = int(drawn[:8], 16)
                try:
                    answer = self._answer(served, wanted.turns, seed)
                except DataError as error:  # too long, or what this model does not read
                    self.refused = str(error)
                    break
                if answer is None:
                    return None
                text, end = answer
                self.silent += not text.strip()
                if fit([*answers, text]):
                    answers.append(text)
                    sources.append(served.name)
                    ended.append(end)
                    break
        if len(answers) < 2:
            return None
        name = digest([prompt, answers, sources])
        return Item(name, as_objects(wanted.turns), answers, sources, wanted.user, ended)

    def _answer(self, served: Served, turns: Conversation, seed: int) -> tuple[str, bool] | None:
        """One answer, and whether it ended or was cut off; None where the server stops.

        Raises:
          DataError: the run does not take the prompt.
          Busy: the engine failed.
        """
        limit = min(self.plan.max_tokens, served.engine.length // 2)
        prompt = chat_prompt(served, turns, limit)
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        asked = Asked(
            prompt=prompt.ids, max_tokens=prompt.max_tokens, tell=events.put, seed=seed,
            prefix=prompt.prefix, ends=served.chat_ends,
            sampling=self.plan.sampling,
        )  # fmt: skip
        while not self._stopped.is_set():
            try:
                served.engine.submit(asked)
                break
            except Busy:  # people who chat come first
                if served.engine.failed:
                    raise
                self._stopped.wait(PAUSE)
        tokens = []
        while not self._stopped.is_set():
            try:
                event = events.get(timeout=PAUSE)
            except queue.Empty:
                continue
            if isinstance(event, Drawn):
                tokens.append(event.token)
            elif isinstance(event, Ended):
                if event.reason == "error":
                    raise Busy(event.fault)
                if event.reason not in ("stop", "length"):
                    return None
                return served.text(tokens), event.reason == "stop"
        asked.leave()
        return None


def fit(answers: Sequence[str]) -> bool:
    """Whether all answers say something, and each something else than the others."""
    said = [answer.strip() for answer in answers]
    return all(said) and len(set(said)) == len(said)


def prompt_name(turns: Conversation, number: int) -> str:
    """A name that the same prompt at the same place has again."""
    return digest([number, as_objects(turns)])
