"""Answers to one prompt in the order of somebody's preference: for reward models and for DPO.

A row of a JSONL file is one comparison, of one of these kinds:

    {"prompt": ..., "answers": [...], "ranks": [0, 1, 1], "labeler": ...}    0 the best; 1, 1 a tie;
        perhaps with "ended": [...], false of an answer that was cut off, and with
        "metadata": [{"hallucination": true}, {}, ...], the yes/no questions answered of each
    {"chosen": ..., "rejected": ...}    two HH-RLHF transcripts, lists of turns, or with a prompt,
        instruction or question, which comes before turns too (TRL)
    {"output_1", "output_2", "preference"}    AlpacaEval: 1 or 2
    {"response1", "response2", "annotator1", ...}    PandaLM: one comparison an annotator, 0 a tie
    {"response 1", "response 2", "label"}    Auto-J: 0 the first, 1 the second, 2 a tie
    {"question", "passages", "prediction 1", ..., "preference"}    fine-grained RLHF: all pairs
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lm.core.errors import DataError
from lm.data.asking import BETWEEN, Malformed, prompt_of, task_of, text, unicode_text
from lm.data.demonstrations import Demonstration, demonstrations
from lm.data.parting import chosen_and_rejected, until_answered
from lm.data.prompts import Part, Reader, RowsConfig, check_faults, same
from lm.data.sources import tell
from lm.data.tasks.rows import Row
from lm.data.visual.example import Example
from lm.data.visual.written import prompted
from lm.text.dialogue import Conversation

LARGEST = 1_000  # rank, either side of 0
MOST = 9  # answers of a comparison (Ouyang et al. 2022, 3.5: K from 4 to 9)
FIRST, SECOND, TIE = (0, 1), (1, 0), (0, 0)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Answers to a prompt, and the rank of each: 0 the best, equal ones a tie."""

    prompt: str | Conversation | Example
    answers: tuple[str, ...]
    ranks: tuple[int, ...]
    labeler: str  # "" where nobody is named
    where: str  # file:line
    ended: tuple[bool, ...] = ()  # whether each answer ends; a model's may be cut; (): all do
    metadata: tuple[Mapping[str, bool], ...] = ()  # of each answer, questions that were answered
    task: str | None = None  # the instruction that its row asks by
    overrun: int = 0  # answers behind which the human speaks in their row, and which are cut there
    labelled: bool = False  # in the page, and no row of a file that may be wrong as a whole

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Places of a preferred answer and of one that it is preferred to."""
        every = itertools.permutations(range(len(self.ranks)), 2)
        return [(a, b) for a, b in every if self.ranks[a] < self.ranks[b]]

    @property
    def faults(self) -> list[tuple[int, int]]:
        """Those that teach nothing: an empty answer is preferred, or one of two equal ones."""
        said = self.answers
        return [(a, b) for a, b in self.pairs if not said[a].strip() or said[a] == said[b]]

    def ends(self, place: int) -> bool:
        """Whether an answer ends."""
        return not self.ended or self.ended[place]


def comparisons(between: str = BETWEEN, images: bool = False) -> Reader[Comparison]:
    """The comparisons of any of the kinds; with `images`, of the first, about images."""

    def of(row: Row) -> list[Comparison]:
        values, where = row.values, row.where
        labeler = str(values.get("labeler", values.get("annotator", "")))

        def compared(answers: list[str], ranks: Any, by: str = labeler) -> Comparison:
            if not isinstance(ranks, list | tuple) or len(ranks) != len(answers):
                raise Malformed(f"ranks {ranks!r} are not one for each of {len(answers)} answers")
            if not all(isinstance(rank, int) and not isinstance(rank, bool) for rank in ranks):
                raise Malformed(f"ranks {ranks!r} are no whole numbers")
            if not 2 <= len(answers) <= MOST:
                raise Malformed(f"{len(answers)} answers; a comparison has 2 to {MOST}")
            if any(abs(rank) > LARGEST for rank in ranks):
                raise Malformed(f"a rank of {max(ranks, key=abs)}; at most {LARGEST} is one")
            ended = ended_of(values, len(answers))
            return Comparison(
                prompt, tuple(answers), tuple(ranks), by, where, ended, task=task_of(values)
            )

        def ranked() -> Comparison:
            one = compared(listed(values), values.get("ranks"))
            return dataclasses.replace(one, metadata=metadata_of(values, len(one.answers)))

        prompt: str | Example
        if images:
            path, _, _ = where.rpartition(":")
            try:
                prompt = prompted(row, Path(path).parent)
            except DataError as error:
                raise Malformed(str(error).removeprefix(f"{where}: ")) from None
            return [ranked()]
        if "chosen" in values:
            values, overrun = until_answered(values)
            prompt, answers = chosen_and_rejected(values, between)
            return [dataclasses.replace(compared(answers, FIRST), overrun=overrun)]
        if "answers" in values:
            prompt = prompt_of(values, between)
            return [ranked()]
        if "prediction 1" in values:
            passages = values.get("passages", [])
            if not isinstance(passages, list) or not all(isinstance(one, list) for one in passages):
                raise Malformed('"passages" is no list of lists')
            joined = "".join(map(str, itertools.chain(*passages)))
            prompt = unicode_text("passages", joined)
            prompt += (BETWEEN if prompt else "") + prompt_of({"question": values.get("question")},
                                                              between)  # fmt: skip
            answers = [text(values, f"prediction {number}") for number in range(1, 5)]
            return [compared(answers, ranks_of_pairs(values.get("preference"), len(answers)))]
        prompt = prompt_of(values, between)
        if "output_1" in values:
            answers = [text(values, "output_1"), text(values, "output_2")]
            order = chosen(values, "preference", {1: FIRST, 2: SECOND, 0: TIE})
            return [compared(answers, order)]
        if "response1" in values:
            answers = [spelled(values, "response1"), spelled(values, "response2")]
            names = [name for name in values if name.startswith("annotator")]
            if not names:
                raise Malformed('missing "annotator1", which of the two is better')
            orders = {0: TIE, 1: FIRST, 2: SECOND}
            return [compared(answers, chosen(values, name, orders), name) for name in names]
        if "response 1" in values:
            answers = [text(values, "response 1"), text(values, "response 2")]
            return [compared(answers, chosen(values, "label", {0: FIRST, 1: SECOND, 2: TIE}))]
        raise Malformed('missing "answers" and "ranks", or "chosen" and "rejected"')

    return of


def placed(ranks: Sequence[float]) -> tuple[int, ...]:
    """The place of each rank among those there are: 0 the best, equal ones a tie."""
    order = sorted(set(ranks))
    return tuple(map(order.index, ranks))


def listed(values: dict[str, Any]) -> list[str]:
    answers = values.get("answers")
    if not isinstance(answers, list) or not all(isinstance(a, str) for a in answers):
        raise Malformed('"answers" is no list of strings')
    return [unicode_text("answers", answer) for answer in answers]


def ended_of(values: dict[str, Any], count: int) -> tuple[bool, ...]:
    """Which answers of a row end, where it says so of each."""
    ended = values.get("ended")
    if not isinstance(ended, list):  # a column of another meaning
        return ()
    if len(ended) != count or not all(isinstance(one, bool) for one in ended):
        raise Malformed(f'"ended" is {ended!r}, not true or false of each of {count} answers')
    return tuple(ended)


def metadata_of(values: dict[str, Any], count: int) -> tuple[dict[str, bool], ...]:
    """The yes/no questions that a row has answers to, of each of its answers to the prompt."""
    told = values.get("metadata")
    if not isinstance(told, list):  # a column of another meaning
        return ()
    if len(told) != count or not all(
        isinstance(one, dict) and all(isinstance(said, bool) for said in one.values())
        for one in told
    ):
        raise Malformed(
            f'"metadata" is {told!r}, not questions with true or false of each of {count} answers'
        )
    return tuple(told)


def spelled(values: dict[str, Any], name: str) -> str:
    """An answer that its file may hold as a literal: PandaLM has `true` for the answer "True"."""
    return str(values[name]) if isinstance(values.get(name), bool) else text(values, name)


def chosen(values: dict[str, Any], name: str, orders: dict[int, tuple[int, int]]) -> Any:
    if values.get(name) not in list(orders):  # it may be of any type
        raise Malformed(f'"{name}" is {values.get(name)!r}, expected one of {list(orders)}')
    return orders[values[name]]


def ranks_of_pairs(preference: Any, answers: int) -> list[int]:
    """Ranks from the answers to all pairs in order: 1 the first, 2 the second, 0 a tie.

    Such answers may run in a circle: an answer's place is that of its number of wins, half for a
    tie (Copeland's rule).
    """
    every = list(itertools.combinations(range(answers), 2))
    if not isinstance(preference, list) or len(preference) != len(every):
        raise Malformed(f'"preference" is not one number for each of {len(every)} pairs')
    wins = [0.0] * answers
    for (first, second), which in zip(every, preference, strict=True):
        if which not in (0, 1, 2):
            raise Malformed(f'"preference" holds {which!r}, expected 0, 1 or 2')
        wins[first] += {0: 0.5, 1: 1.0, 2: 0.0}[which]
        wins[second] += {0: 0.5, 1: 0.0, 2: 1.0}[which]
    order = sorted(set(wins), reverse=True)
    return [order.index(won) for won in wins]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparisonsConfig(RowsConfig):
    """Comparisons to learn from; held out are prompts, and besides them whole labelers."""

    held_out: tuple[str, ...] = ()  # labelers nothing is learned from (the paper: a fifth of them)
    # texts of other steps: what these hold out is not learned from either, whoever asks it
    beside: RowsConfig | None = None

    @property
    def fingerprint(self) -> str:
        """Identity of what the files hold, and of what is left out of it where anything is."""
        found = super().fingerprint
        if self.beside is None:
            return found
        _, left_out = self.learned()
        told = "\n".join(map(same, left_out)).encode()
        return f"{found};{hashlib.sha256(told).hexdigest()}" if left_out else found

    @property
    def told(self) -> str:
        """What they are of, in messages."""
        return self.train

    def compared(self, part: Part) -> list[Comparison]:
        """The comparisons of a part, in the order of the files."""
        return self.read(comparisons(self.between), part)

    def demonstrated(self, files: str) -> list[Demonstration]:
        """The good answers in files of demonstrations."""
        shown = dataclasses.replace(self, train=files, valid=None)
        return [one for one in shown.read(demonstrations(self.between), "train") if one.good]

    def learned(self) -> tuple[list[Comparison], list[Comparison]]:
        """Those to learn from, without those of prompts and instructions that the rows `beside`
        hold out, and these, which are counted.

        Raises:
          DataError: there are none to learn from.
        """
        found = self.compared("train")
        if self.beside is None:
            return found, []
        measured = self.beside.measured()
        asked = [bool(measured & {same(one), one.task}) for one in found]
        kept = [one for one, out in zip(found, asked, strict=True) if not out]
        left_out = [one for one, out in zip(found, asked, strict=True) if out]
        where = self.beside.valid or self.beside.train
        if not kept:
            raise DataError(f"{self.told}: all {len(found)} are of prompts held out in {where}")
        if count := len(left_out):
            tell(f"{self.told}: {count} comparisons of prompts held out in {where} are left out")
        return kept, left_out

    def parts(self) -> dict[str, list[Comparison]]:
        """`train`, `valid` (prompts not trained on) and, where some are named, `labelers`: those
        prompts as the labelers saw them of whom nothing is learned.

        Raises:
          DataError: an unknown labeler, nothing to learn from, or faulty rows over 5% of
            those that are no labels.
        """
        (train, _), valid = self.learned(), self.compared("valid")
        known = sorted({one.labeler for one in train + valid})
        for name in self.held_out:
            if name not in known:
                raise DataError(
                    f"data.held_out: no labeler {name!r} in {self.told}; there are: "
                    f"{', '.join(map(repr, known))}"
                )
        rows = [one for one in train + valid if not one.labelled]
        check_faults([one.where for one in rows if one.faults], len(rows), self.told)
        found = {
            "train": [one for one in train if one.labeler not in self.held_out],
            "valid": [one for one in valid if one.labeler not in self.held_out],
        }
        if self.held_out:
            found["labelers"] = [one for one in valid if one.labeler in self.held_out]
        if count := sum(one.overrun for one in train + valid):
            tell(f"{self.told}: {count} answers are cut where the human speaks behind them")
        if count := sum(not one.pairs for one in train + valid):
            tell(f"{self.told}: {count} comparisons without a preference are left out")
        faults = [len(one.faults) for one in train + valid if one.faults]
        if faults:
            tell(
                f"{self.told}: {sum(faults)} pairs of {len(faults)} comparisons with an empty or "
                "equal answer preferred are left out"
            )
        for part, some in found.items():
            found[part] = [one for one in some if len(one.pairs) > len(one.faults)]
            if not found[part]:
                raise DataError(
                    f"no comparison in {self.told} for {part} has a preference to learn"
                )
        return found
