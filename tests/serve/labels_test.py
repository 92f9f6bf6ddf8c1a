"""Labels: kept through a crash, never twice, and how far labelers agree."""

import errno
import gzip
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from lm.core.errors import ConfigError, DataError
from lm.data.dialogue_comparisons import DialogueComparisonsConfig
from lm.data.dialogues import DialoguesConfig
from lm.data.labels import conversation_rows
from lm.data.tasks.rows import Row
from lm.decode.sampling import SamplingConfig
from lm.serve.agreement import agreement, krippendorff, preference_alpha
from lm.serve.items import Item, Pool, SamplingPlan, Wanted, read_prompts
from lm.serve.labelling import Labelling, shuffled
from lm.serve.labels import FILE, Labels
from lm.serve.model import Served
from lm.serve.rankings import METADATA, Judgement, ranking
from lm.serve.request import Busy, Drawn, Ended
from lm.text.dialogue import Message, as_objects
from tests.serve.served import client, listening, served, wait_until


@pytest.fixture(scope="module")
def toy():
    return served(start=False)  # nothing is asked of it


def pool_of(folder, *items):
    pool = Pool(folder, [], [], SamplingPlan())
    pool.items = {item.name: item for item in items}
    return pool


def item(name, count=3):
    messages = [{"role": "user", "content": f"question {name}"}]
    answers = [f"{name} answer {n}" for n in range(count)]
    return Item(name, messages, answers, [f"run {n % 2}" for n in range(count)])


@pytest.fixture
def page(toy, tmp_path):
    """A client of the labelling page, its labels, and its items."""
    items = [item("a"), item("b", 9), item("c", 2)]
    labels = Labels(tmp_path / "labels")
    routes = Labelling(labels, pool_of(tmp_path / "labels", *items), 2)
    with listening(toy, extra=routes.routes()) as address, client(address) as api:
        yield SimpleNamespace(
            api=api, labels=labels, items=items, folder=tmp_path / "labels", routes=routes
        )


def shown(page, labeler):
    return page.api.get("/labels/next", params={"labeler": labeler}).json()


def say(page, labeler, found, **what):
    record = {"labeler": labeler, "item": found["item"], "kind": "ranking"} | what
    return page.api.post("/labels/record", json=record)


def test_answers_come_in_an_order_of_the_labelers_own_and_without_sources(page):
    found = shown(page, "ann")
    assert set(found["metadata"]) == set(METADATA) and "sources" not in found
    assert sorted(found["answers"]) == page.items[0].answers and "run" not in json.dumps(found)
    orders = {tuple(shuffled(page.items[1], f"labeler{n}")) for n in range(20)}
    assert len(orders) > 15


def test_a_ranking_is_kept_in_the_agreed_form_whatever_order_was_shown(page):
    found = shown(page, "ann")
    best = [answer == "a answer 1" for answer in found["answers"]]
    ranks = [1 if yes else 2 for yes in best]
    ratings = [7 if yes else None for yes in best]
    metadata = [{"opinion": True, "sexual": False} if yes else {} for yes in best]
    answer = say(page, "ann", found, ranks=ranks, ratings=ratings, metadata=metadata)
    told = answer.json()
    assert told == shown(page, "ann") and told["item"] == "b"  # the next item, in the same answer
    assert told.items() >= {"done": 1, "skipped": 0, "total": 3, "making": False}.items()
    (line,) = (page.folder / "labels.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record.pop("time")
    assert record == {
        "kind": "ranking", "item": "a", "labeler": "ann", "messages": page.items[0].messages,
        "answers": page.items[0].answers, "ranks": [2, 1, 2], "ratings": [None, 7, None],
        "metadata": [{}, {"opinion": True, "sexual": False}, {}],  # what nobody said is not there
        "sources": ["run 0", "run 1", "run 0"],
    }  # fmt: skip


def test_labels_that_the_disk_does_not_take_are_told_with_the_reason(page, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    found = shown(page, "ann")
    say(page, "ann", found, ranks=[1, 2, 3])
    monkeypatch.setattr("lm.serve.labels.append_line", full)
    for answer in (
        say(page, "ann", found, ranks=[3, 2, 1]),
        page.api.post("/labels/undo", json={"labeler": "ann"}),
    ):
        error = answer.json()["error"]
        assert (answer.status_code, error["type"]) == (500, "server_error")
        assert "No space left on device" in error["message"]
    assert len(page.labels.records) == 1


def test_a_record_sent_twice_is_kept_once(page):
    found = shown(page, "ann")
    for _ in range(2):
        assert say(page, "ann", found, ranks=[1, 2, 3]).status_code == 200
    assert len(page.labels.records) == 1
    say(page, "ann", found, ranks=[3, 2, 1])
    assert len(page.labels.records) == 2 and len(page.labels.current()) == 1


def test_an_item_goes_to_two_labelers_before_the_next_is_begun(page):
    assert [shown(page, name)["item"] for name in ("ann", "bob")] == ["a", "a"]
    say(page, "ann", shown(page, "ann"), ranks=[1, 2, 3])
    found = shown(page, "ann")
    assert found["item"] == "b" and found["done"] == 1
    say(page, "ann", found, kind="skip")
    assert shown(page, "bob")["item"] in ("a", "b")
    say(page, "bob", {"item": "a"}, ranks=[1, 2, 3])
    assert shown(page, "cid")["item"] == "b"  # "a" has its two


def test_people_who_label_at_the_same_time_get_no_more_of_an_item_than_the_overlap(page):
    got = [shown(page, name)["item"] for name in ("ann", "bob", "cid", "dan", "eve")]
    assert got == ["a", "a", "b", "b", "c"]
    assert shown(page, "ann")["item"] == "a"  # who looks again has it still
    say(page, "ann", {"item": "a"}, ranks=[1, 2, 3])
    assert shown(page, "ann")["item"] == "c"
    for name in ("bob", "cid"):
        say(page, name, {"item": "a"}, ranks=[1, 2, 3])
    assert shown(page, "fay")["item"] == "c"  # past the overlap, what fewest have


def test_an_item_that_was_shown_and_left_goes_to_somebody_else_after_a_while(page):
    page.routes.overlap = 1
    assert [shown(page, name)["item"] for name in ("ann", "bob")] == ["a", "b"]
    assert min(page.routes.held.values()) > time.monotonic() + 14 * 60
    page.routes.held = dict.fromkeys(page.routes.held, time.monotonic())  # it is over
    assert shown(page, "cid")["item"] == "a"


def test_what_was_skipped_goes_to_as_many_others_as_what_was_not(page):
    page.routes.overlap = 1
    say(page, "ann", shown(page, "ann"), kind="skip")
    assert shown(page, "bob")["item"] == "a"
    say(page, "bob", {"item": "a"}, kind="demonstration", answer="Yes.")
    assert shown(page, "cid")["item"] == "b"  # and a demonstration is one


def test_what_somebody_skipped_is_offered_again_once_nothing_else_is_left(page):
    for name in "bac":
        say(page, "ann", {"item": name}, kind="skip")
    assert [shown(page, "ann")["item"] for _ in range(2)] == ["b", "b"]
    assert say(page, "ann", {"item": "b"}, kind="skip").json()["item"] == "a"
    found = say(page, "ann", {"item": "a"}, ranks=[1, 2, 3]).json()
    assert (found["item"], found["done"], found["skipped"]) == ("c", 1, 2)
    assert shown(page, "bob")["item"] == "a"  # the control: of others nothing changes
    say(page, "ann", {"item": "c"}, kind="demonstration", answer="Yes.")
    say(page, "ann", {"item": "b"}, kind="demonstration", answer="No.")
    assert shown(page, "ann")["item"] is None


def test_while_more_is_to_come_nothing_that_was_skipped_is_offered(page):
    for name in "abc":
        say(page, "ann", {"item": name}, kind="skip")
    page.routes.pool = SimpleNamespace(**vars(page.routes.pool), making=True)
    assert shown(page, "ann")["item"] is None
    page.routes.pool.making = False
    assert shown(page, "ann")["item"] == "a"


def test_skips_demonstrations_and_undo(page):
    found = shown(page, "ann")
    assert say(page, "ann", found, kind="skip").json()["skipped"] == 1
    second = shown(page, "ann")
    assert second["item"] != found["item"]
    say(page, "ann", second, kind="demonstration", answer="so it is <b>done</b>")
    back = page.api.post("/labels/undo", json={"labeler": "ann"}).json()
    assert back["item"] == second["item"] and back["done"] == 0
    kinds = [record["kind"] for record in page.labels.records]
    assert kinds == ["skip", "demonstration", "undo"]
    assert page.labels.records[-1]["of"] == second["item"]
    assert page.api.post("/labels/undo", json={"labeler": "ann"}).json()["item"] == found["item"]
    assert page.api.post("/labels/undo", json={"labeler": "ann"}).status_code == 404


def test_an_undo_takes_back_what_was_said_last_though_it_stands_for_something_earlier(page):
    for name, ranks in (("a", [1, 2, 3]), ("c", [1, 2]), ("a", [3, 2, 1])):
        say(page, "ann", {"item": name}, ranks=ranks)
    back = [page.api.post("/labels/undo", json={"labeler": "ann"}).json() for _ in range(2)]
    assert [(one["item"], one["said"]["ranks"]) for one in back] == [
        ("a", [3, 2, 1]),
        ("c", [1, 2]),
    ]


def test_a_skip_stands_for_nothing_that_was_said(page):
    said = {"a": {"ranks": [1, 2, 3]}, "b": {"kind": "demonstration", "answer": "Yes."}}
    for name, what in said.items():
        say(page, "ann", {"item": name}, **what)
        assert say(page, "ann", {"item": name}, kind="skip").json()["skipped"] == 0
    assert [record["kind"] for record in page.labels.records] == ["ranking", "demonstration"]
    page.api.post("/labels/undo", json={"labeler": "ann"})
    assert say(page, "ann", {"item": "b"}, kind="skip").json()["skipped"] == 1  # the control


def test_what_was_said_comes_back_with_an_undo_in_the_order_in_which_it_was_shown(page):
    ranks, ratings = [3, 1, 2, 2, *range(5, 10)], [1, None, 7, *[None] * 6]
    metadata = [{"opinion": number % 2 == 0} for number in range(9)]
    said = {"ranks": ranks, "ratings": ratings, "metadata": metadata, "answer": "Yes."}
    say(page, "ann", {"item": "b"}, **said)
    back = page.api.post("/labels/undo", json={"labeler": "ann"}).json()
    kept = {"ranks": [3, 1, 2, 2, *range(4, 9)]}  # without gaps
    assert back["said"] == said | kept and back["item"] == "b"
    say(page, "ann", {"item": "a"}, kind="demonstration", answer="No.")
    back = page.api.post("/labels/undo", json={"labeler": "ann"}).json()
    assert back["said"] == {"answer": "No."}
    say(page, "ann", {"item": "a"}, kind="skip")
    assert page.api.post("/labels/undo", json={"labeler": "ann"}).json()["said"] == {}


def test_a_ranking_and_an_answer_of_ones_own_are_learned_from_one_record(page):
    say(page, "ann", shown(page, "ann"), ranks=[1, 2, 3], answer="Mine.")
    say(page, "bob", shown(page, "bob"), ranks=[1, 2, 3])
    both, ranked = (json.loads(line) for line in (page.folder / FILE).open())
    assert both["kind"] == "ranking" and both["answer"] == "Mine." and "answer" not in ranked
    folder = str(page.folder)
    data = DialogueComparisonsConfig(train=folder, valid=folder)
    assert [one.labeler for one in data.compared("train")] == ["ann", "bob"]
    (dialogue,) = DialoguesConfig(train=folder, valid=folder).dialogues("train")["dialogues"]
    assert as_objects(dialogue.turns) == [
        *page.items[0].messages, {"role": "assistant", "content": "Mine."}
    ]  # fmt: skip


@pytest.mark.parametrize(
    "what",
    [{"ranks": [1, 2]}, {"ranks": [1, 2, 4]}, {"ranks": [0, 1, 2]}, {"ranks": [1, 2, True]},
     {"ranks": None}, {"ranks": [1, 2, 3], "ratings": [8, 1, 1]}, {"labeler": "../x"},
     {"ranks": [1, 2, 3], "metadata": [{"unknown": True}, {}, {}]}, {"item": "nothing"},
     {"ranks": [1, 2, 3], "metadata": [{"opinion": 1}, {}, {}]}, {"labeler": ""}, {"kind": "undo"},
     {"ranks": [1, 2, 3], "metadata": [{"opinion": None}, {}, {}]}, {"labeler": "a" * 41},
     {"ranks": [1, 2, 3], "metadata": [{}, {}]}, {"ranks": [1, 2, 3], "metadata": {}},
     {"kind": "demonstration", "answer": " "}, {"ranks": [1, 2, 3], "answer": " "},
     {"kind": "demonstration", "answer": "\ud800"}],
)  # fmt: skip
def test_a_record_that_is_none_is_refused_and_not_kept(page, what):
    record = {"labeler": "ann", "item": "a", "kind": "ranking"} | what
    answer = page.api.post("/labels/record", content=json.dumps(record))
    assert answer.status_code in (400, 404) and answer.json()["error"]["message"]
    assert not page.labels.records and not (page.folder / "labels.jsonl").exists()


def test_a_line_cut_off_by_a_crash_is_left_out_and_the_next_record_stands_on_its_own(tmp_path):
    labels = Labels(tmp_path)
    first = {"kind": "skip", "item": "a", "labeler": "x", "messages": []}
    labels.keep(first)
    with (tmp_path / "labels.jsonl").open("ab") as file:
        file.write(b'{"kind": "skip", "item": "b", "lab')
    labels = Labels(tmp_path)
    assert labels.damaged == 1 and len(labels.records) == 1
    labels.keep(first | {"item": "c"})
    again = Labels(tmp_path)
    assert [record["item"] for record in again.records] == ["a", "c"] and again.damaged == 0


@pytest.mark.parametrize("cut", [30, -1])  # within the record, and before the end of its line
def test_training_reads_labels_that_were_added_after_a_crash(tmp_path, cut):
    labels = Labels(tmp_path)
    record = item("a")
    said = {"kind": "ranking", "item": "a", "labeler": "x", "messages": record.messages,
            "answers": record.answers, "ranks": [1, 2, 3]}  # fmt: skip
    labels.keep(said)
    path = tmp_path / "labels.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole.replace(b'"item": "a"', b'"item": "b"')[:cut])
    Labels(tmp_path).keep(said | {"item": "c"})
    rows = list(conversation_rows(str(path)))
    assert all(isinstance(row, Row) for row in rows)
    expected = ["a", "c"] if cut > 0 else ["a", "b", "c"]
    assert [row.values["item"] for row in rows] == expected


def test_records_with_one_answer_to_the_questions_an_item_are_still_read(tmp_path):
    one = item("a")
    record = {"kind": "ranking", "item": "a", "labeler": "x", "messages": one.messages,
              "answers": one.answers, "ranks": [1, 2, 3], "ratings": [None, 7, None],
              "sources": one.sources}  # fmt: skip
    forms = {"older": {"opinion": True}, "newer": [{"opinion": True}, {}, {}]}
    found = {}
    for name, metadata in forms.items():
        Labels(tmp_path / name).keep(record | {"metadata": metadata})
        folder = str(tmp_path / name)
        data = DialogueComparisonsConfig(train=folder, valid=folder)
        found[name] = [replace(each, where="") for each in data.compared("train")]
        again = Labels(tmp_path / name)
        assert again.current() and agreement(again.records)["items"] == 1
    (newer,) = found["newer"]
    assert newer.ranks == (0, 1, 2) and newer.metadata == ({"opinion": True}, {}, {})
    assert found["older"] == [replace(newer, metadata=())]


def test_records_that_lack_what_all_have_are_counted_and_left_out(tmp_path):
    good = {
        "kind": "ranking",
        "item": "a",
        "labeler": "ann",
        "answers": ["x", "y"],
        "ranks": [1, 2],
    }
    bad = [
        {**good, "labeler": None},
        {**good, "ranks": [1]},
        {**good, "answers": "xy"},
        {**good, "answers": ["x", ["y"]]},
        {**good, "ranks": [1, None]},
        {**good, "ranks": [1, True]},
        {**good, "ratings": 7},
        {**good, "ratings": [7, "7"]},
        {"kind": "skip", "labeler": "ann"},
        {"kind": "undo", "item": "a", "labeler": "ann"},
    ]
    rows = [good, *bad, {"prompt": "of another kind"}]
    (tmp_path / FILE).write_text("".join(json.dumps(row) + "\n" for row in rows) + "{cut")
    labels = Labels(tmp_path)
    assert labels.current() == {("a", "ann"): good} and labels.damaged == len(bad) + 1
    assert agreement(labels.current().values())["labelers"] == ["ann"]


def answering(toy, name, submit):
    """A run whose engine takes what is asked as `submit` says."""
    engine = SimpleNamespace(length=64, submit=submit)
    return SimpleNamespace(
        name=name, engine=engine, text=toy.text, chat=toy.chat, chat_ends=toy.chat_ends, sight=None
    )


def saying(toy, name, *answers, cut=()):
    """A run that says each of these once, in this order; of some it is cut off."""
    left = iter(answers)

    def submit(asked):
        answer = next(left)
        for token in toy.tokenizer.encode(answer):
            asked.tell(Drawn(token, None))
        asked.tell(Ended("length" if answer in cut else "stop"))

    return answering(toy, name, submit)


def sampled(folder, run):
    """The item of two answers that a run gives to the one prompt there is, or that was kept."""
    prompts = [Wanted((Message("user", "Sing?"),))]
    pool = Pool(folder, prompts, [run], SamplingPlan(answers=2))
    pool._run()
    (item,) = pool.items.values()
    return item


def test_rankings_of_another_runs_answers_to_the_same_prompts_are_learned_from_too(toy, tmp_path):
    folders = [tmp_path / name / "labels" for name in "ab"]
    runs = [saying(toy, "a", "Yes.", "No."), saying(toy, "b", "Now.", "Never.")]
    items = [sampled(*each) for each in zip(folders, runs, strict=True)]
    judgement = Judgement([1, 2], [None] * 2, [{}] * 2)
    spec = ",".join(map(str, folders))

    def learned():
        found = DialogueComparisonsConfig(train=spec, valid=spec).compared("train")
        return [one.answers for one in found]

    for folder, one in zip(folders, items, strict=True):
        Labels(folder).keep(ranking(one, "ann", judgement))
    assert learned() == [("Yes.", "No."), ("Now.", "Never.")]
    for folder, one in zip(
        folders, items, strict=True
    ):  # the control: of one name, the last counts
        Labels(folder).keep(ranking(replace(one, name="same"), "bob", judgement))
    assert learned()[2:] == [("Now.", "Never.")]


def test_answers_are_found_again_by_their_prompt_and_are_not_sampled_anew(toy, tmp_path):
    first = sampled(tmp_path / "labels", saying(toy, "a", "Yes.", "No."))
    assert sampled(tmp_path / "labels", saying(toy, "b", "Now.", "Never.")) == first
    # a file of items that were named by their prompts
    path = tmp_path / "labels.items.jsonl"
    row = json.loads(path.read_text())
    row["item"] = row.pop("prompt")
    path.write_text(json.dumps(row) + "\n")
    again = sampled(tmp_path / "labels", saying(toy, "b", "Now.", "Never."))
    assert again == replace(first, name=row["item"])
    # the control: in another place there are none
    other = sampled(tmp_path / "other", saying(toy, "b", "Now.", "Never."))
    assert other.answers == ["Now.", "Never."]


def test_of_an_answer_that_was_cut_off_the_end_is_not_learned(toy, tmp_path):
    folder = tmp_path / "labels"
    first = sampled(folder, saying(toy, "a", "Yes.", "It is", cut=["It is"]))
    assert first.ended == [True, False]
    assert sampled(folder, saying(toy, "a")) == first  # as it was kept
    path = tmp_path / "labels.items.jsonl"
    row = json.loads(path.read_text())
    path.write_text(json.dumps({n: told for n, told in row.items() if n != "ended"}) + "\n")
    older = sampled(folder, saying(toy, "a"))
    assert older == replace(first, ended=[])
    for labeler, one in (("ann", first), ("bob", older)):
        record = ranking(one, labeler, Judgement([2, 1], [None] * 2, [{}] * 2))
        assert ("ended" in record) == bool(one.ended)
        Labels(folder).keep(record)
    data = DialogueComparisonsConfig(train=str(folder), valid=str(folder))
    ends = {one.labeler: [one.ends(0), one.ends(1)] for one in data.compared("train")}
    assert ends == {"ann": [True, False], "bob": [True, True]}  # the control: nobody says so


def test_a_run_that_knows_no_conversations_is_told_before_anything_is_sampled(toy, tmp_path):
    mute = Served("mute", toy.engine, SimpleNamespace(specials={}))
    prompts = [Wanted((Message("user", "Sing?"),))]
    pool = Pool(tmp_path / "labels", prompts, [toy, mute], SamplingPlan())
    with pytest.raises(ConfigError, match="mute knows no conversations"):
        pool.start()
    assert not pool.making
    pool = Pool(tmp_path / "labels", [], [toy], SamplingPlan())  # the control: both know them
    pool.start()
    pool.stop()


def pool_that_ran(folder, run, *asked, **plan):
    prompts = [Wanted((Message("user", text),)) for text in asked]
    pool = Pool(folder, prompts, [run], SamplingPlan(answers=2, **plan))
    pool._run()
    return pool


def told_of(pool):
    found = Labelling(SimpleNamespace(current=dict), pool, 2).missing()
    return found["prompts"], found["dropped"], found["fault"]


def test_every_answer_and_every_attempt_at_it_has_a_seed_of_its_own(toy, tmp_path):
    seeds = []

    def submit(asked):
        seeds.append(asked.seed)
        asked.tell(Ended("stop"))  # it says nothing, and another is drawn

    pool_that_ran(tmp_path / "labels", answering(toy, "a", submit), "Sing?", "Dance?", attempts=3)
    assert len(set(seeds)) == len(seeds) == 2 * 2 * 3


def test_runs_answer_in_turn_and_each_prompt_begins_with_the_next(toy, tmp_path):
    runs = [saying(toy, name, *(f"{name}{n}" for n in range(3))) for name in "ab"]
    prompts = [Wanted((Message("user", text),)) for text in ("Sing?", "Dance?")]
    pool = Pool(tmp_path / "labels", prompts, runs, SamplingPlan(answers=3))
    pool._run()
    assert [one.sources for one in pool.items.values()] == [["a", "b", "a"], ["b", "a", "b"]]


def test_prompts_without_two_different_answers_are_counted_and_told(toy, tmp_path, capsys):
    run = saying(toy, "a", "Yes.", "No.", *["Same."] * 4)
    pool = pool_that_ran(tmp_path / "labels", run, "Sing?", "Dance?")
    assert len(pool.items) == 1 and told_of(pool) == (2, 1, "")
    assert "1 of 2 prompts have no two different answers, and are" in capsys.readouterr().out


def test_an_answer_that_says_nothing_or_the_same_again_is_not_labelled_and_is_counted(
    toy, tmp_path, capsys
):
    run = saying(toy, "a", "", "Yes.", "Yes. ", " \n", "No.", *[""] * 3, *["Same."] * 3)
    pool = pool_that_ran(tmp_path / "labels", run, "Sing?", "Dance?")
    assert [one.answers for one in pool.items.values()] == [["Yes.", "No."]]
    assert told_of(pool) == (2, 1, "")
    assert "5 drawn answers said nothing, and are not labelled" in capsys.readouterr().out


@pytest.mark.parametrize("answers", [["Yes.", ""], ["Yes.", "No.", "Yes."]])
def test_an_item_from_before_with_such_an_answer_is_sampled_anew_and_counted(
    toy, tmp_path, answers, capsys
):
    first = sampled(tmp_path / "labels", saying(toy, "a", "Yes.", "No."))
    path = tmp_path / "labels.items.jsonl"
    row = json.loads(path.read_text()) | {"answers": answers, "ended": []}
    path.write_text(json.dumps(row | {"item": "before"}) + "\n")
    assert sampled(tmp_path / "labels", saying(toy, "a", "Yes.", "No.")) == first
    told = "1 items with an empty answer or the same twice, and are not labelled"
    assert told in capsys.readouterr().out
    assert sampled(tmp_path / "labels", saying(toy, "a")) == first  # it is kept beside


def test_what_a_run_says_of_a_prompt_that_it_does_not_take_is_told(
    toy, tmp_path, capsys, monkeypatch
):
    def refusing(*_):
        raise DataError("leave the system turn out")

    monkeypatch.setattr("lm.serve.items.chat_prompt", refusing)
    pool = pool_that_ran(tmp_path / "labels", saying(toy, "a"), "Sing?")
    assert told_of(pool) == (1, 1, "") and pool.refused == "leave the system turn out"
    assert "are not labelled: leave the system turn out" in capsys.readouterr().out


def test_why_sampling_ended_early_is_kept_and_told(toy, tmp_path, capsys, monkeypatch):
    run = saying(toy, "a", "Yes.", "No.", "Now.", "Never.")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("lm.serve.items.append_line", full)
    pool = pool_that_ran(tmp_path / "labels", run, "Sing?", "Dance?")
    assert not pool.items and told_of(pool) == (2, 0, "No space left on device")
    assert "ended early: No space left on device" in capsys.readouterr().out


def test_sampling_does_not_wait_for_an_engine_that_has_failed(toy, tmp_path):
    def submit(_):
        raise Busy("the engine has failed")

    run = answering(toy, "a", submit)
    run.engine.failed = True
    assert told_of(pool_that_ran(tmp_path, run, "Sing?"))[2] == "the engine has failed"


def test_items_that_were_sampled_otherwise_are_counted(toy, tmp_path):
    def counted(name="a", **plan):
        return pool_that_ran(tmp_path / "labels", saying(toy, name), "Sing?", **plan).otherwise

    pool_that_ran(tmp_path / "labels", saying(toy, "a", "Yes.", "No."), "Sing?")
    assert counted() == 0  # the control
    assert counted("b") == counted(max_tokens=7) == 1
    assert counted(sampling=SamplingConfig(temperature=0.5)) == 1
    path = tmp_path / "labels.items.jsonl"  # as it was kept without the plan
    row = json.loads(path.read_text())
    del row["plan"]
    path.write_text(json.dumps(row) + "\n")
    assert counted() == 0 and counted("b") == 1


@pytest.mark.parametrize("event", [Ended("error"), Ended("left")])
def test_what_was_cut_short_is_no_answer_to_label(toy, tmp_path, event):
    def submit(asked):
        asked.tell(Drawn(65, None))
        asked.tell(event)

    pool = Pool(tmp_path, [], [], SamplingPlan())
    short = answering(toy, "toy", submit)
    if event.reason == "error":
        with pytest.raises(Busy, match="the engine failed"):
            pool._answer(short, (Message("user", "x"),), 0)
    else:
        assert pool._answer(short, (Message("user", "x"),), 0) is None
    event = Ended("length")
    assert pool._answer(short, (Message("user", "x"),), 0) is not None


def test_what_was_acknowledged_is_there_after_kill_9(tmp_path):
    code = (
        "import sys; from pathlib import Path; from lm.serve.labels import Labels\n"
        "labels = Labels(Path(sys.argv[1]))\n"
        "for n in range(10**6):\n"
        "    labels.keep({'kind': 'skip', 'item': str(n), 'labeler': 'x', 'messages': []})\n"
        "    print(n, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(20):
        told = process.stdout.readline()
    process.kill()
    told = int((told + process.stdout.read()).split("\n")[-2])
    process.wait()
    found = [int(record["item"]) for record in Labels(tmp_path).records]
    assert found == list(range(len(found))) and len(found) > told >= 19


def test_answers_are_sampled_in_the_background_from_several_runs(tmp_path):
    toy, other = served(), served("other", seed=1)
    prompts = [Wanted((Message("user", f"prompt {n}"),), [None, "ada"][n]) for n in range(2)]
    plan = SamplingPlan(answers=3, max_tokens=6, sampling=SamplingConfig(temperature=1.5))
    pool = Pool(tmp_path, prompts, [toy, other], plan)
    pool.start()
    wait_until(lambda: not pool.making, 60)
    assert len(pool.items) == 2
    for one in pool.items.values():
        assert len(set(one.answers)) == len(one.answers) == 3
        assert set(one.sources) == {"toy", "other"}
    assert [one.user for one in pool.items.values()] == [None, "ada"]
    again = Pool(tmp_path, prompts, [toy, other], plan)
    assert again.items == pool.items  # the same after a new start
    for each in (toy, other):
        each.engine.close(drain=False)


def test_prompts_are_read_from_lines_and_conversations(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "one"}\n{"messages": [{"role": "user", "content": "two"},'
                    ' {"role": "assistant", "content": "x"}]}\n"three"\n')  # fmt: skip
    assert [one.turns[-1].content for one in read_prompts(path)] == ["one", "two", "three"]
    rows = [{"prompt": "one", "messages": None}, "two"]
    (tmp_path / "list.json").write_text(json.dumps(rows, indent=1))
    found = read_prompts(tmp_path / "list.json")
    assert [one.turns[-1].content for one in found] == ["one", "two"]
    (tmp_path / "lines.txt").write_text("four\n\nfive\n")
    assert len(read_prompts(tmp_path / "lines.txt")) == 2


def test_prompts_are_divided_by_line_feeds_alone_and_what_is_no_text_is_told_in_a_line(tmp_path):
    path = tmp_path / "asked.jsonl.gz"
    row = json.dumps({"prompt": "one\u2028and\x85two"}, ensure_ascii=False)
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + row.encode() + b"\r\n"))
    assert [one.turns[-1].content for one in read_prompts(path)] == ["one\u2028and\x85two"]
    path = tmp_path / "asked.txt"
    path.write_bytes("one\ncaf\xe9\n".encode("latin-1"))
    with pytest.raises(DataError, match="asked.txt:2: not UTF-8 at byte 3"):
        read_prompts(path)


def test_of_a_prompt_with_an_image_it_is_told_that_the_page_shows_none(tmp_path):
    path = tmp_path / "asked.jsonl"
    parts = [{"type": "image_url", "image_url": {"url": "a.png"}}, {"type": "text", "text": "?"}]
    for content, told in ((parts, "; the page labels answers to text"), (7, "$")):
        path.write_text(json.dumps({"messages": [{"role": "user", "content": content}]}))
        with pytest.raises(DataError, match=f"asked.jsonl:1: message 1 has .* no text.*{told}"):
            read_prompts(path)
    path.write_text(json.dumps({"messages": None}))
    with pytest.raises(DataError, match="messages is no list of objects with role and content$"):
        read_prompts(path)


def test_a_file_without_a_prompt_is_refused(tmp_path):
    (tmp_path / "asked.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="no prompts in .*asked.jsonl"):
        read_prompts(tmp_path / "asked.jsonl")


def test_of_a_conversation_an_answer_is_drawn_and_alternatives_to_it_are_asked_for(tmp_path):
    path = tmp_path / "said.jsonl"
    turns = [{"role": role, "content": f"{role} {n}"} for n in range(4)
             for role in ("user", "assistant")]  # fmt: skip
    waiting = [*turns, {"role": "user", "content": "user 4"}]
    rows = [{"messages": turns}] * 200 + [{"messages": waiting}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_prompts(path)
    last = [one.turns[-1].content for one in found]
    assert last.pop() == "user 4"  # whoever waits for an answer is answered
    assert {last.count(f"user {n}") > 25 for n in range(4)} == {True} and len(set(last)) == 4
    assert all(len(one.turns) == 2 * int(one.turns[-1].content[-1]) + 1 for one in found)
    assert read_prompts(path) == found != read_prompts(path, seed=1)


def test_whose_prompt_it_was_is_in_the_record_and_decides_what_is_held_out(toy, tmp_path):
    users = [f"user {n}" for n in range(8)]
    asked = [{"prompt": f"{user} asks {n}", "user": user} for user in users for n in range(3)]
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in asked))
    items = [
        Item(str(n), as_objects(one.turns), ["a", "b"], ["toy"] * 2, one.user)
        for n, one in enumerate(read_prompts(path))
    ]
    folder = tmp_path / "labels"
    routes = Labelling(Labels(folder), pool_of(folder, *items), 1).routes()
    with listening(toy, extra=routes) as address, client(address) as api:
        for one in items:
            record = {"labeler": "ann", "item": one.name, "kind": "ranking", "ranks": [1, 2]}
            assert api.post("/labels/record", json=record).status_code == 200

    def both(folder):
        """The users of each part."""
        data = DialogueComparisonsConfig(train=str(folder), valid_fraction=0.3)
        return [
            {one.prompt[0].content.rpartition(" asks ")[0] for one in data.compared(part)}
            for part in ("train", "valid")
        ]

    train, valid = both(folder)
    assert train | valid == set(users) and valid and not train & valid
    nobodys = [line | {"user": None} for line in map(json.loads, (folder / FILE).open())]
    (tmp_path / "other.jsonl").write_text("".join(json.dumps(one) + "\n" for one in nobodys))
    train, valid = both(tmp_path / "other.jsonl")
    assert train & valid  # by what they ask alone they are divided


# Krippendorff 2011, section "nominal data, any number of observers, missing data"
OBSERVED = [
    [1, 1, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4], [4, 4, 4, 4],
    [1, 1, 2, 1], [2, 2, 2, 2], [5, 5, 5], [1, 1], [3],
]  # fmt: skip


@pytest.mark.parametrize(
    "level, alpha", [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_is_that_of_krippendorffs_own_example(level, alpha):
    assert krippendorff(OBSERVED, level) == pytest.approx(alpha, abs=5e-4)


def test_alpha_by_hand():
    # coincidences: a-a 2, b-b 2, a-b and b-a 1 each; n_a = n_b = 3; observed 2, expected 18 / 5
    units = [["a", "a"], ["b", "b"], ["a", "b"]]
    assert krippendorff(units, "nominal") == pytest.approx(1 - 5 * 2 / 18)
    assert krippendorff([["a", "a"]], "nominal") is None  # nothing varies


def test_alpha_of_preferences_by_hand():
    # 3 of 6 values are ties; observed 2; by chance, of 30 pairs, 2 * 3 * 3 and half of 3 * 2
    assert preference_alpha([[1, 1], [0, 0], [1, 0]]) == pytest.approx(1 - 5 * 2 / (18 + 3))
    # no ties: two preferences disagree half of the time, whatever the number of units
    assert preference_alpha([[1, 1]] * 9 + [[1, -1]]) == pytest.approx(2 * 0.9 - 1)
    assert preference_alpha([[1, 1], [1, 1]]) == 1  # of one sign alone there is agreement, too
    assert preference_alpha([[0, 0]]) is preference_alpha([[1], []]) is None


def test_which_answer_is_stored_first_changes_no_alpha():
    def judged(turned):
        """What three people say of 50 items with two answers each, some of them turned around."""
        drawn, records = random.Random(0), []
        for n in range(50):
            step = -1 if n in turned else 1
            for labeler in "xyz":
                ranks = drawn.choice([[1, 2], [1, 2], [1, 2], [2, 1], [1, 1]])[::step]
                records.append(ranked(str(n), labeler, ranks, answers="ab"[::step]))
        return agreement(records)

    told = judged(())
    for turned in (range(50), range(0, 50, 2), range(17)):
        assert judged(turned) == told
    assert 0 < told["alpha_preference"] < 0.5


def ranked(item, labeler, ranks, ratings=None, answers="abc"):
    return {"kind": "ranking", "item": item, "labeler": labeler, "ranks": ranks,
            "ratings": ratings, "answers": list(answers[: len(ranks)])}  # fmt: skip


def test_agreement_counts_pairs_of_answers_that_two_labelers_order_alike():
    told = agreement([
        ranked("a", "x", [1, 2, 3]), ranked("a", "y", [1, 3, 2]),  # 2 of 3
        ranked("b", "x", [1, 1]), ranked("b", "y", [1, 1]),  # a tie is a judgement too
        ranked("c", "x", [1, 2]),
        {"kind": "skip", "item": "c", "labeler": "y"},
    ])  # fmt: skip
    assert told["pairs"] == 4 and told["agreement"] == 3 / 4
    assert told["items"] == 3 and told["shared_items"] == 2
    low, high = told["interval"]
    assert low == pytest.approx(2 / 3) and high == 1
    assert agreement([])["agreement"] is None


def test_of_one_item_that_was_shared_there_is_no_interval():
    one = [ranked("a", "x", [1, 2, 3]), ranked("a", "y", [1, 3, 2])]
    assert agreement(one)["interval"] is None and agreement(one)["agreement"] == 2 / 3
    two = [ranked("b", "x", [1, 2]), ranked("b", "y", [1, 2])]
    assert agreement(one + two)["interval"] is not None  # the control


def test_two_labelers_are_one_pair_whoever_ranked_first():
    told = agreement([
        ranked("a", "ann", [1, 2]), ranked("a", "bob", [1, 2]),
        ranked("b", "bob", [1, 2]), ranked("b", "ann", [2, 1]),
    ])  # fmt: skip
    assert told["between"] == [{"labelers": ["ann", "bob"], "agreement": 1 / 2, "pairs": 2}]


def test_the_interval_of_many_items_is_that_of_a_share_of_them():
    orders = {"ann": [[1, 2]] * 400, "bob": [[1, 2]] * 280 + [[2, 1]] * 120}
    told = agreement(
        ranked(str(item), name, ranks)
        for name, some in orders.items()
        for item, ranks in enumerate(some)
    )
    error = (0.7 * 0.3 / 400) ** 0.5  # 1.64 of it, for 90 %, are 0.007 less
    assert told["interval"] == pytest.approx([0.7 - 1.96 * error, 0.7 + 1.96 * error], abs=0.004)


def test_rankings_of_other_answers_to_an_item_are_not_compared():
    told = agreement([ranked("a", "x", [1, 2]), ranked("a", "y", [2, 1], answers="de")])
    assert told["pairs"] == 0 and told["agreement"] is None


def test_the_page_of_agreement_gets_its_figures(page):
    for labeler in ("ann", "bob"):
        found = shown(page, labeler)
        ranks = [1 + int(answer[-1]) for answer in found["answers"]]
        say(page, labeler, found, ranks=ranks, ratings=[8 - 2 * r for r in ranks])
    told = page.api.get("/labels/agreement").json()
    assert told["agreement"] == 1 and told["alpha_rating"] == 1 and told["pairs"] == 3
    assert [(row["value"], row["error"]) for row in told["published"]] == [
        (0.726, 0.015), (0.773, 0.013)
    ]  # fmt: skip
    assert page.api.get("/agreement").status_code == 200
