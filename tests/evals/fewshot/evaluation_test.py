"""An evaluation asks every item once, also after it was killed, and says what it could not ask."""

import errno
import json
import os
from dataclasses import replace

import numpy as np
import pytest

from lm.core.errors import ConfigError, DataError
from lm.evals.fewshot.evaluation import CHUNK, Summary, evaluate, summary
from lm.evals.fewshot.ledger import Ledger
from lm.evals.fewshot.task import Task
from lm.evals.incontext import Item, Prompt, Style
from lm.evals.protocols import Choose, Outcome, Write
from lm.text.byte import ByteTokenizer

ITEMS = [
    Item(id=str(n), contexts=(f"{n} is",), completions=(" even", " odd"), gold=n % 2)
    for n in range(150)
]


class Killed(Exception):
    """What SIGKILL would be."""


class Knowing:
    """A scorer that is asked nothing, and a protocol that knows, but for multiples of three."""

    tokenizer, length = ByteTokenizer(), 60
    metrics = ("accuracy",)

    def __init__(self, dies_at: int | None = None):
        self.asked: list[str] = []
        self.draws: dict[str, tuple[int, int]] = {}  # seed and number, by item
        self.dies_at = dies_at

    def ask(self, scorer, prompts, seed=0):
        self.draws |= {prompt.item.id: (seed, prompt.number) for prompt in prompts}
        outcomes = []
        for prompt in prompts:
            if len(self.asked) == self.dies_at:
                raise Killed
            self.asked.append(prompt.item.id)
            right = int(prompt.item.id) % 3 > 0
            outcomes.append(Outcome("yes" if right else "no", {"accuracy": float(right)}))
        return outcomes


def read_with(protocol, items=ITEMS):
    task = Task(
        name="parity", item=lambda row: row, files=(), shots=4, protocol=protocol,
        style=Style(between="\n"), made=lambda: items,
    )  # fmt: skip
    return task.read(None)


def told(tmp_path, protocol, shots=2, items=ITEMS, limit=None, name="a.jsonl", seed=0):
    read = read_with(protocol, items)
    object.__setattr__(read, "digest", str(hash(tuple(items))))  # not of the counting protocol
    with Ledger(tmp_path / name) as ledger:
        return evaluate(
            read, shots, scorer=protocol, model="m", seed=seed, limit=limit, ledger=ledger
        )


@pytest.fixture
def no_files(monkeypatch):
    monkeypatch.setattr("lm.evals.fewshot.task.first_of", lambda root, names: None)


def test_what_was_killed_goes_on_where_it_was_and_ends_alike(tmp_path, no_files):
    whole = Knowing()
    expected = told(tmp_path, whole, name="whole.jsonl")
    assert sorted(map(int, whole.asked)) == list(range(150))
    first = Knowing(dies_at=CHUNK + 10)
    with pytest.raises(Killed):
        told(tmp_path, first)
    second = Knowing()
    assert told(tmp_path, second) == expected
    assert second.asked == whole.asked[CHUNK:]  # what was on disk is not asked again
    third = Knowing()
    assert told(tmp_path, third) == expected and third.asked == []
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_line_that_was_cut_short_is_asked_again(tmp_path, no_files):
    expected = told(tmp_path, Knowing(), name="whole.jsonl")
    text = (tmp_path / "whole.jsonl").read_bytes()
    for cut in (1, 20, len(text.splitlines(keepends=True)[-1]) - 1):
        (tmp_path / "a.jsonl").write_bytes(text[:-cut])
        again = Knowing()
        assert told(tmp_path, again) == expected and again.asked == ["149"]
        assert (tmp_path / "a.jsonl").read_bytes() == text


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    for broken in ("{no json\n", "[]\n", '{"task": "parity"}\n'):
        path.write_text(broken)
        with pytest.raises(DataError, match=r"a\.jsonl:1 is damaged; remove the line"):
            Ledger(path)


def test_a_ledger_is_of_one_evaluation_at_a_time_and_a_line_that_is_being_written_is_left(tmp_path):
    path, row = tmp_path / "a.jsonl", dict.fromkeys(("task", "shots", "seed", "of", "number"), 0)
    with Ledger(path) as ledger:
        ledger.file.write(b'{"task"')  # in the midst of a line
        with pytest.raises(DataError, match=r"another process writes .*a\.jsonl: wait for it"):
            Ledger(path)
        assert path.read_bytes() == b'{"task"'
    with Ledger(path) as ledger:
        ledger.add([row])
    with Ledger(path) as ledger:
        assert list(ledger.rows.values()) == [row]


def test_a_ledger_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ConfigError, match="cannot write .*a.jsonl: "):
        Ledger(tmp_path / "out" / "a.jsonl")
    row = dict.fromkeys(("task", "shots", "seed", "of", "number"), 0)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left")

    monkeypatch.setattr(os, "fsync", full)
    with Ledger(tmp_path / "b.jsonl") as ledger:
        with pytest.raises(ConfigError, match="cannot write .*b.jsonl: No space left"):
            ledger.add([row])
        assert not ledger.rows


def test_other_data_seeds_and_numbers_of_examples_are_asked_anew(tmp_path, no_files):
    told(tmp_path, Knowing(), limit=5)
    for changed in ({"shots": 1}, {"items": [*ITEMS[:-1], ITEMS[0]]}):
        again = Knowing()
        told(tmp_path, again, limit=5, **changed)
        assert len(again.asked) == 5
    more = Knowing()
    told(tmp_path, more, limit=8)
    assert len(more.asked) == 3  # the five are among the eight


def test_an_item_is_drawn_by_the_seed_and_its_number_whatever_was_asked_before(tmp_path, no_files):
    whole, first, second, cut = (Knowing() for _ in range(4))
    told(tmp_path, whole, name="whole.jsonl", seed=3)
    assert whole.draws == {str(n): (3, n) for n in range(150)}
    told(tmp_path, first, limit=20, seed=3)
    told(tmp_path, second, seed=3)
    assert {**first.draws, **second.draws} == whole.draws and len(second.draws) == 130
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "whole.jsonl").write_bytes(b"".join(lines[: CHUNK + 10]))  # within a chunk
    told(tmp_path, cut, name="whole.jsonl", seed=3)
    assert cut.draws == {str(n): (3, n) for n in range(CHUNK + 10, 150)}


def test_examples_that_do_not_fit_are_counted_and_items_that_do_not_are_refused(tmp_path, no_files):
    long = Item(id="1", contexts=("x" * 70,), completions=(" even", " odd"))
    middle = Item(id="2", contexts=("y" * 40,), completions=(" even", " odd"))
    found = told(tmp_path, Knowing(), shots=4, items=[*ITEMS[:2], long, middle])
    assert found.refused == 1 and found.numbers == (0, 1, 3)
    # 60 tokens: the long item is among the examples of all others, and no example has room for it
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row.get("refused", False) for row in rows] == [False, False, True, False]
    kept = [row for row in rows if not row.get("refused")]
    assert all(row["used"] + row["dropped"] == 3 for row in kept)  # there are three others
    assert found.shortened == 3 and found.used == pytest.approx(np.mean([r["used"] for r in kept]))
    nothing = told(tmp_path, Knowing(), items=[long], name="b.jsonl")
    assert nothing.mean() is None and nothing.refused == 1


def test_a_translation_that_cannot_be_asked_for_is_an_empty_one(no_files):
    pytest.importorskip("sacrebleu")
    words = "one two three four five six"
    items = [Item(contexts=(f"{n} =",), completions=(f" {words}",)) for n in range(2)]
    read = read_with(Write(tokens=9, compare="bleu", metrics=("bleu",)), items)
    (one,) = (read.task.protocol.outcome(words, Prompt(item, "", 0)) for item in items[:1])
    row = {"number": 0, "used": 0, "dropped": 0, "cut": 0, "figures": one.figures}
    rows = [row | {"counts": one.counts}, {"number": 1, "refused": True}]
    assert summary(read, 0, rows[:1]).mean()[0] == pytest.approx(1.0)
    found = summary(read, 0, rows)
    assert found.mean()[0] == pytest.approx(np.exp(1 - 2)) and found.failed == 1  # half as long


def test_the_mean_has_its_standard_error(tmp_path, no_files):
    found = told(tmp_path, Knowing(), items=ITEMS[:12])
    right = np.array([n % 3 > 0 for n in range(12)], float)
    assert found.mean() == pytest.approx((right.mean(), right.std(ddof=1) / np.sqrt(12)))
    assert found.mean(np.arange(12) == 1) == (1.0, None)
    assert found.metric == "accuracy"


def test_questions_on_one_passage_are_one_part_of_the_sample_in_the_error(tmp_path, no_files):
    random = np.random.default_rng(0)
    passages = random.integers(0, 2, 30)  # one that is known is known in each of its questions
    groups = tuple(str(n) for n in range(30) for _ in range(5))
    rights = tuple(np.repeat(passages, 5).astype(float).tolist())
    counts = tuple((int(right), 1, 1) for right in rights)
    whole = {
        "shots": 0, "numbers": tuple(range(150)), "rights": {"accuracy": rights, "f1a": rights},
        "used": 0.0, "shortened": 0, "cut": 0, "refused": 0, "counts": counts,
    }  # fmt: skip
    apart, together = Summary(**whole), Summary(**whole, groups=groups)
    wanted = passages.std(ddof=1) / np.sqrt(30)
    assert together.mean() == pytest.approx((passages.mean(), wanted))
    assert apart.mean() == pytest.approx((passages.mean(), wanted / np.sqrt(5)), rel=0.02)
    assert together.mean(metric="f1a")[1] == pytest.approx(wanted, rel=0.1)
    assert apart.mean(metric="f1a")[1] == pytest.approx(wanted / np.sqrt(5), rel=0.1)
    assert together.mean(np.arange(150) < 5) == (passages[0], None)  # a passage alone
    some = np.arange(150) % 5 == 0  # a question of each
    assert together.mean(some) == pytest.approx(apart.mean(some))
    items = [replace(item, group=f"{n % 3}") for n, item in enumerate(ITEMS[:12])]
    assert told(tmp_path, Knowing(), shots=0, items=items).groups == tuple("012" * 4)


def test_the_digest_is_of_items_protocol_and_style(no_files):
    def digest(items, **changes):
        task = Task(
            **{
                "name": "t", "item": lambda row: row, "files": (), "shots": 4,
                "protocol": Choose(), "made": lambda: items,
            } | changes
        )  # fmt: skip
        return task.read(None).digest

    one = digest(ITEMS)
    assert one == digest(ITEMS, shots=9)  # which the key of an outcome has beside it
    assert one == digest(ITEMS, version=1) != digest(ITEMS, version=2)
    others = [digest(ITEMS[1:]), digest(ITEMS, protocol=Choose(rule="sum")),
              digest(ITEMS, style=Style(between="\n"))]  # fmt: skip
    assert len({one, *others}) == 4
