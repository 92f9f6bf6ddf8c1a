"""What a model is asked to continue: prompts, as files of instructions hold them (see
`lm/data/asking.py`), and which of them are held out.

Rows of one user, or of one prompt, are never divided between training and measuring: what several
users ask and one who is held out does is not learned. Conversations are of one prompt where their
users say the same first, and so are all rows of an instruction that one of them has examples of,
since each shows the others. Of two or more, one at least is held out and never all. A row that says
of itself `"held_out": true` or `false`, as labels of answers do, is believed; of files of their own
to measure on, how many prompts are learned from too is told.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any, Generic, Literal, TypeVar

from lm.core.config import require, require_positive
from lm.core.errors import DataError
from lm.data.asking import BETWEEN, Malformed, prompts_of, task_of
from lm.data.held_out import dividing, place
from lm.data.labels import files_of_rows, rows_from_the_oldest
from lm.data.sieve import Sieve
from lm.data.sources import TEXT, content_digest, tell
from lm.data.tasks.rows import Problem, Row, jsonl
from lm.data.visual.example import Example
from lm.text.dialogue import Conversation
from lm.text.interface import Form
from lm.text.tokenizer import Tokenizer

HELD_OUT = "held_out"  # a row's own word on its part
SHOWN = 5  # malformed rows told one by one
DIVISION = 2  # of the rules by which rows are divided: a run goes on by those it began with
FAULTY = 0.05  # share of rows without content at which a file is taken for a mistake

Part = Literal["train", "valid"]
PARTS: tuple[Part, ...] = ("train", "valid")
Item = TypeVar("Item")
Reader = Callable[[Row], list[Item]]  # the items of a row; raises Malformed


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowsConfig:
    """Files of rows, `.jsonl` or `.json`, to learn from and to measure on."""

    train: str = "data/train.jsonl"  # files, folders or globs, with commas between
    valid: str | None = None  # a part of `train` is held out where None
    valid_fraction: float = 0.1
    between: str = BETWEEN  # between an instruction and its answer
    per_user: int | None = None  # prompts of a row's "user" at most
    # characters: of texts that begin alike in so many, or conversations, the first is read; rows
    # that say whether they are held out are labels, whose prompts were chosen so before
    common_prefix: int | None = None

    def __post_init__(self) -> None:
        require_positive(self, "per_user", "common_prefix")
        require(bool(self.train), "data.train is empty: name a JSONL file, a folder or a glob")
        fraction = self.valid_fraction
        require(0 < fraction < 1, f"valid_fraction must be above 0 and below 1, got {fraction}")

    @property
    def fingerprint(self) -> str:
        """Identity of what the files hold, and of how it is divided where it is."""
        specs = [spec for spec in (self.train, self.valid) if spec is not None]
        found = content_digest(*specs, order=rows_from_the_oldest)
        return found if self.valid is not None else f"{found};{DIVISION}"

    def drawn(self, seed: int) -> str:
        """Identity of how a seed draws prompts, beside `fingerprint`; "" where it draws none."""
        del seed
        return ""

    def form(self, tokenizer: Tokenizer) -> Form:
        """How its prompts and answers become ids: as text."""
        return tokenizer

    def prompts(self, part: Part, seed: int = 0) -> list[Any]:
        """Each prompt of a part once, in the order of the files; of texts nothing is drawn."""
        del seed
        return list(dict.fromkeys(one.prompt for one in self.read(self.texts, part)))

    def texts(self, row: Row) -> list["Prompt"]:
        """What a row asks. Raises Malformed."""
        return [Prompt(prompt) for prompt in prompts_of(row.values, self.between)]

    def measured(self) -> set[str]:
        """What is held out: prompts, and instructions of which all rows are."""
        found = self.divided(self.texts, "valid").found
        return {asked for one in found for asked in (one.item.prompt, one.known_by)}

    def prompt_ids(self, part: Part, form: Form, length: int, seed: int) -> list[list[int]]:
        """The ids of each; a text is not cut to `length`, it is for the reader to leave out."""
        del length
        return form.encode_prompts(self.prompts(part, seed))

    def rows(self, spec: str) -> Iterable[Row | Problem]:
        """The rows of files."""
        return itertools.chain.from_iterable(map(jsonl, files_of_rows(spec, TEXT)))

    def read(self, items: Reader[Item], part: Part) -> list[Item]:
        """The items of a part, in the order of the files, without those that `per_user` and
        `common_prefix` leave out, which are counted.

        Raises:
          DataError: no rows, or malformed ones: the first few are told, the others counted.
        """
        divided = self.divided(items, part)
        return [one.item for one in self.kept(divided, divided.elsewhere, part, items)]

    def divided(self, items: Reader[Item], part: Part) -> "Divided[Item]":
        """`read`, before what the other part asks too is left out. Raises DataError as it does."""
        spec = self.train if part == "train" or self.valid is None else self.valid
        sieve = Sieve(self.per_user, self.common_prefix)
        taken: list[Taken[Item]] = []
        problems = []
        rows = list(self.rows(spec))
        shown = shown_in(row for row in rows if isinstance(row, Row))
        for row in rows:
            try:
                if isinstance(row, Problem):
                    raise Malformed(row.text)
                sure, mine = isinstance(row.values.get(HELD_OUT), bool), self.decided(row, part)
                for item in items(row):
                    known = known_by(row, item, shown)
                    if sifted(sieve, row, item, "" if sure else known):
                        taken.append(Taken(item, known, sure, mine, place(asker(row, known))))
            except Malformed as error:
                problems.append(f"{row.where}: {error}")
        if problems:
            more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
            raise DataError("; ".join(problems[:SHOWN]) + more)
        fraction = self.valid_fraction
        if not any(one.sure for one in taken):
            fraction = dividing(fraction, {one.place for one in taken})
        found: list[Taken[Item]] = []
        elsewhere: set[str] = set()
        for one in taken:
            below = one.place < fraction
            if below == (part == "valid") if one.mine is None else one.mine:
                found.append(one)
            else:
                elsewhere.add(one.known_by)
        if not found:
            raise DataError(f"no rows in {spec} for {part}: name other files or valid_fraction")
        if left_out := str(sieve):
            tell(f"{spec}: prompts left out: {left_out}")
        return Divided(found, elsewhere)

    def kept(
        self, divided: "Divided[Item]", elsewhere: Set[str], part: Part, items: Reader[Item]
    ) -> list["Taken[Item]"]:
        """The items of a part without those to learn from that are held out `elsewhere`: in these
        files, or in others that are learned from with them. How many of them are in files of their
        own to measure on is told.

        Raises:
          DataError: none is left.
        """
        found = divided.found
        if part == "valid":
            return found
        kept = [one for one in found if one.sure or one.known_by not in elsewhere]
        if not kept:
            raise DataError(
                f"{self.train}: held-out users ask all that the others do: set data.valid"
            )
        if count := len(found) - len(kept):
            tell(
                f"{self.train}: {count} prompts are not learned from: a held-out user asks the same"
            )
        if self.valid is not None:
            same = self.valid == self.train
            measured = found if same else self.divided(items, "valid").found
            asked = {one.known_by for one in measured}
            if count := sum(one.known_by in asked for one in kept):
                tell(
                    f"warning: {self.train}: {count} of {len(kept)} prompts to learn from are in "
                    f"{self.valid} too, which is measured on"
                )
        return kept

    def decided(self, row: Row, part: Part) -> bool | None:
        """Whether a row is of a part, given that its file is; None where its items' hashes tell."""
        marked = row.values.get(HELD_OUT)
        if isinstance(marked, bool) and (self.valid is None or part == "train"):
            return marked == (part == "valid")
        return None if self.valid is None else True


@dataclasses.dataclass(frozen=True)
class Taken(Generic[Item]):
    """An item that the sieve lets through."""

    item: Item
    known_by: str  # of what is known by the same, nothing is divided
    sure: bool  # whether its row says its part
    mine: bool | None  # whether it is of the part that is read; None: as its place tells
    place: float  # in [0, 1): where its user or prompt falls


@dataclasses.dataclass(frozen=True)
class Divided(Generic[Item]):
    """The items of a part, and what the other part asks."""

    found: list[Taken[Item]]
    elsewhere: set[str]  # what it is known by


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A text to continue."""

    prompt: str


def asker(row: Row, known: str) -> str:
    """Who asks; where nobody is named, what."""
    user = row.values.get("user")
    return known if user is None else f"user {user}"


def shown_in(rows: Iterable[Row]) -> set[str]:
    """The instructions that any row has examples of."""
    tasks = (task_of(row.values) for row in rows if row.values.get("examples"))
    return {task for task in tasks if task is not None}


def known_by(row: Row, item: Any, shown: Set[str]) -> str:
    """The instruction of an item, where it is among those `shown` with examples; else as `same`."""
    task = task_of(row.values)
    return same(item) if task is None or task not in shown else task


def same(item: Any) -> str:
    """Equal of items that ask the same: what they begin with, or something of one image."""
    return item.prompt.about if isinstance(item.prompt, Example) else beginning(item)


def beginning(item: Any) -> str:
    """A prompt; of a conversation, every part of which goes with it, what its user says first."""
    return item.prompt if isinstance(item.prompt, str) else opening(item.prompt)


def sifted(sieve: Sieve, row: Row, item: Any, known: str) -> bool:
    """Whether an item is taken: of texts and conversations, not of what is asked about images."""
    if isinstance(item.prompt, Example):
        return True
    user = row.values.get("user")
    return sieve.takes(None if user is None else str(user), beginning(item), known)


def opening(turns: Conversation) -> str:
    """What the user says first."""
    return next(one.content for one in turns if one.role == "user")


def held_out(key: str, fraction: float) -> bool:
    """Whether what has this key is, of many."""
    return place(key) < fraction


def check_faults(faults: Sequence[str], rows: int, spec: str) -> None:
    """Raises DataError where more than a few of the rows have nothing to learn from."""
    if len(faults) > FAULTY * rows:
        shown = "; ".join(faults[:SHOWN])
        raise DataError(
            f"{len(faults)} of {rows} rows of {spec} are empty or equal, more than "
            f"{FAULTY:.0%}: {shown}; correct the files"
        )
