"""What is ranked or written in a chat: the labelling page's records, wherever they come from."""

import fcntl
import json
import threading
import time

import pytest

from lm.core.errors import UserError
from lm.data.dialogue_comparisons import DialogueComparisonsConfig
from lm.data.dialogues import DialoguesConfig
from lm.serve.alternatives import Alternatives, read_order
from lm.serve.items import Item, Pool, SamplingPlan
from lm.serve.labelling import Labelling, shuffled
from lm.serve.labels import Labels, append_line
from lm.text.byte import ByteTokenizer
from lm.text.dialogue import Chat, as_objects
from tests.serve.served import client, listening, served

MESSAGES = [
    {"role": "user", "content": "Name a colour."},
    {"role": "assistant", "content": "Blue."},
    {"role": "user", "content": "Another one, please."},
]
ANSWERS = ["Red.", "No.", "Green."]
TALKED = {"labeler": "bob", "messages": MESSAGES, "answers": ANSWERS, "ranks": [1, 2, 1],
          "sources": ["toy"] * 3}  # fmt: skip
ENDED = [True, False, True]
WRITTEN = {"kind": "demonstration", "labeler": "bob", "item": "12-34-3", "messages": MESSAGES,
           "answer": "Green, <|im_end|> or grün."}  # fmt: skip


@pytest.fixture(scope="module")
def toy():
    return served(start=False)  # nothing is asked of it


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "labels"


@pytest.fixture
def api(toy, folder):
    pool = Pool(folder, [], [], SamplingPlan())
    pool.items = {"a": Item("a", MESSAGES, ANSWERS, ["toy"] * 3, ended=ENDED)}
    with (
        listening(toy, extra=Labelling(Labels(folder), pool, 2).routes()) as address,
        client(address) as found,
    ):
        yield found


def lines(folder):
    path = folder / "labels.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_record_from_each_of_the_pages_and_the_terminal_is_the_same_and_is_read(api, folder):
    places = shuffled(Item("a", MESSAGES, ANSWERS, []), "ann")
    shown = {"labeler": "ann", "item": "a", "kind": "ranking", "ranks": [0] * 3}
    for place, own in enumerate(places):
        shown["ranks"][place] = TALKED["ranks"][own]
    assert api.post("/labels/record", json=shown).status_code == 200
    assert api.post("/labels/chat", json=TALKED | {"ended": ENDED}).status_code == 200
    drawn = Alternatives(folder, "cid", "toy")
    for answer, ended in zip(ANSWERS, ENDED, strict=True):
        drawn.add(answer, ended)
    best, path = drawn.rank(MESSAGES, "1=3 2")
    assert best == "Red." and path == folder / "labels.jsonl"

    found = lines(folder)
    assert [record["labeler"] for record in found] == ["ann", "bob", "cid"]
    own = ("item", "labeler", "time")
    plain = [{name: value for name, value in one.items() if name not in own} for one in found]
    assert plain[0] == plain[1] == plain[2] and [*found[0]] == [*found[1]] == [*found[2]]
    data = DialogueComparisonsConfig(train=str(folder), valid=str(folder))
    compared = data.compared("train")
    assert [one.ranks for one in compared] == [(0, 1, 0)] * 3
    assert {one.answers for one in compared} == {tuple(ANSWERS)}
    assert {one.ended for one in compared} == {tuple(ENDED)}


def test_a_ranking_that_does_not_say_which_answers_ended_is_kept_without(api, folder):
    assert api.post("/labels/chat", json=TALKED).status_code == 200
    assert "ended" not in lines(folder)[0]


@pytest.mark.parametrize(
    "what",
    [{"labeler": "../x"}, {"labeler": None}, {"messages": MESSAGES[:2]}, {"messages": []},
     {"messages": [{"role": "user", "content": "\ud800"}]}, {"messages": "Red?"},
     {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
     {"answers": ["Red.", "Red.", "Green."]}, {"answers": ["Red."], "ranks": [1]},
     {"answers": [str(n) for n in range(10)]}, {"answers": [1, 2, 3]}, {"ranks": [1, 2]},
     {"ranks": [1, 2, 4]}, {"ranks": [0, 1, 2]}, {"sources": ["toy"]}, {"sources": None},
     {"ratings": [8, 1, 1]}, {"ended": [True]}, {"ended": [1, 0, 1]}, {"ended": "yes"}],
)  # fmt: skip
def test_a_ranking_in_a_chat_that_is_none_is_refused_and_not_kept(api, folder, what):
    answer = api.post("/labels/chat", content=json.dumps(TALKED | what))
    assert answer.status_code == 400 and answer.json()["error"]["message"]
    assert not lines(folder)


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"},
                                     {"Sec-Fetch-Site": "cross-site"}])  # fmt: skip
def test_another_site_cannot_rank(api, folder, headers):
    assert api.post("/labels/chat", json=TALKED, headers=headers).status_code == 403
    assert not lines(folder)


def test_a_ranking_with_one_more_answer_stands_for_the_one_without(api, folder):
    more = TALKED | {"answers": [*ANSWERS, "Pink."], "ranks": [1, 2, 3, 4], "sources": ["toy"] * 4}
    again = TALKED | {"answers": ["Pink.", *ANSWERS], "ranks": [1, 2, 3, 4], "sources": ["toy"] * 4}
    for said in (TALKED, TALKED, more, again):
        api.post("/labels/chat", json=said)
    assert len(lines(folder)) == 3  # one was sent twice
    kept = Labels(folder).current().values()
    assert [record["answers"] for record in kept] == [more["answers"], again["answers"]]


def test_the_labelling_page_neither_counts_nor_takes_back_what_was_ranked_in_a_chat(api, folder):
    api.post("/labels/chat", json=TALKED)
    told = api.get("/labels/next", params={"labeler": "bob"}).json()
    assert told["done"] == 0 and told["item"] == "a"
    assert api.post("/labels/undo", json={"labeler": "bob"}).status_code == 404
    assert [record["kind"] for record in lines(folder)] == ["ranking"]


@pytest.mark.parametrize("name", ["early.jsonl", "merged.jsonl"])  # before labels.jsonl, or behind
def test_what_is_taken_back_stays_so_beside_the_records_of_another_file(folder, name):
    record = {"kind": "demonstration", "labeler": "ann", "messages": MESSAGES, "answer": "Pink."}
    for item in "ab":
        Labels(folder).keep(record | {"item": item})
    (folder / "labels.jsonl").rename(folder / name)
    assert len(Labels(folder).current()) == len(told(folder)) == 2  # the control
    Labels(folder).take_back("ann", {"a"})
    assert [*Labels(folder).current()] == [("b", "ann")] and len(told(folder)) == 1


def told(folder):
    """The conversations that are learned from."""
    data = DialoguesConfig(train=str(folder), valid=str(folder))
    return [one.turns for one in data.dialogues("train")["dialogues"]]


def test_an_answer_that_is_written_in_a_chat_is_learned_as_it_was_said(api, folder):
    assert api.post("/labels/chat", json=WRITTEN).json()["replaced"] is False
    api.post("/labels/chat", json=TALKED)  # which is no demonstration
    (turns,) = told(folder)
    assert as_objects(turns) == [*MESSAGES, {"role": "assistant", "content": WRITTEN["answer"]}]
    chat = Chat(ByteTokenizer())
    row = chat.encode(turns, length=200)
    learned = [i for i, counts in zip(row.tokens, row.learned, strict=True) if counts]
    assert learned == [
        i for text in ("Blue.", WRITTEN["answer"])
        for i in (*chat.tokenizer.encode(text), chat.end)
    ]  # fmt: skip


def test_an_answer_that_is_kept_again_stands_for_the_earlier_one_and_says_so(api, folder):
    changed = WRITTEN | {"messages": MESSAGES[:1], "answer": "Pink."}
    another = WRITTEN | {"item": "12-34-5"}
    replaced = [
        api.post("/labels/chat", json=said).json()["replaced"]
        for said in (WRITTEN, WRITTEN, changed, another, another | {"labeler": "cid"})
    ]
    assert replaced == [False, False, True, False, False]
    assert len(lines(folder)) == 4  # one was sent twice
    assert [turns[-1].content for turns in told(folder)] == ["Pink.", *[WRITTEN["answer"]] * 2]


@pytest.mark.parametrize(
    "what",
    [{"kind": "skip"}, {"kind": 1}, {"labeler": ""}, {"item": None}, {"item": ""}, {"item": 3},
     {"item": "x" * 101}, {"answer": " "}, {"answer": None}, {"answer": "\ud800"},
     {"messages": MESSAGES[:2]}, {"messages": []}, {"messages": None},
     {"messages": [{"role": "user", "content": "\ud800"}]},
     {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}],
)  # fmt: skip
def test_an_answer_that_is_written_to_nothing_or_is_none_is_refused(api, folder, what):
    answer = api.post("/labels/chat", content=json.dumps(WRITTEN | what))
    assert answer.status_code == 400 and answer.json()["error"]["message"]
    assert not lines(folder)


def test_whether_labels_are_kept_is_told_with_the_models(toy, api):
    assert api.get("/v1/models").json()["labels"] is True
    with listening(toy) as address, client(address) as other:
        assert other.get("/v1/models").json()["labels"] is False


@pytest.mark.parametrize(
    "text, ranks",
    [("2 1 3", [2, 1, 3]), ("3 1=2", [2, 2, 1]), ("1 = 2 3", [1, 1, 3]), ("1=2=3", [1, 1, 1])],
)
def test_an_order_is_read_as_ranks(text, ranks):
    assert read_order(text, 3) == ranks


@pytest.mark.parametrize(
    "text", ["", "1 2", "1 2 2 3", "1 2 4", "a b c", "1==2 3", "=1 2 3", "1,2,3"]
)
def test_what_is_no_order_of_all_answers_is_refused(text):
    with pytest.raises(UserError, match="each number from 1 to 3 once"):
        read_order(text, 3)


def test_a_terminal_without_a_folder_or_with_no_name_keeps_nothing(folder):
    drawn = dict(zip(ANSWERS, ENDED, strict=True))
    for kept, told in (
        (Alternatives(None, "ann", "toy", drawn), "--labels=FOLDER"),
        (Alternatives(folder, "Ann Smith", "toy", drawn), "labeler must be"),
    ):
        with pytest.raises(UserError, match=told):
            kept.rank(MESSAGES, "1 2 3")
    assert not folder.exists()


def test_a_tenth_answer_in_a_terminal_makes_no_other_item_of_the_message(folder):
    drawn = Alternatives(folder, "ann", "toy")
    for number in range(12):
        drawn.add(f"answer {number}", ended=True)
        if number == 8:
            drawn.rank(MESSAGES, "1 2 3 4 5 6 7 8 9")
    assert list(drawn.answers) == [f"answer {number}" for number in (0, *range(4, 12))]
    drawn.rank(MESSAGES, "9 8 7 6 5 4 3 2 1")
    (kept,) = Labels(folder).current().values()
    assert kept["answers"] == list(drawn.answers)


def test_a_line_waits_while_another_process_writes_its_own(tmp_path):
    path = tmp_path / "labels.jsonl"
    with path.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(b'{"kind": ')
        held.flush()
        writing = threading.Thread(target=append_line, args=(path, {"n": 2}))
        writing.start()
        time.sleep(0.3)
        held.write(b'"skip"}\n')
    writing.join(10)  # without the lock it would have cut off the half line
    assert path.read_text() == '{"kind": "skip"}\n{"n": 2}\n'
