import gzip
import json
import math
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from lm.core.errors import ConfigError, DataError
from lm.data.comparisons import ComparisonsConfig
from lm.data.dialogue_comparisons import DialogueComparisonsConfig
from lm.data.dialogue_rows import DialogueMixture, encode_dialogues
from lm.data.dialogues import Dialogue, DialoguesConfig, prompts_in
from lm.data.prompts import RowsConfig, held_out
from lm.data.rankings import encode_rankings
from lm.rlhf.material import PpoMaterial
from lm.text.byte import ByteTokenizer
from lm.text.dialogue import Chat, Message, as_objects
from lm.text.shown import shown_row
from tests.text.dialogue_test import turns
from tests.text.tokenizers import DATA

CHAT = Chat(ByteTokenizer())


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(path, part="train", **changes):
    config = DialoguesConfig(train=str(path), valid=str(path), **changes)
    return [one.turns for some in config.dialogues(part).values() for one in some]


def ours(*said):
    return {"messages": as_objects(turns(*said))}


TREE = {
    "role": "prompter", "text": "q",
    "replies": [
        {"role": "assistant", "text": "worse", "rank": 1, "replies": [
            {"role": "prompter", "text": "unanswered", "replies": []}]},
        {"role": "assistant", "text": "better", "rank": 0, "replies": [
            {"role": "prompter", "text": "more", "replies": [
                {"role": "assistant", "text": "last", "replies": []}]}]},
        {"role": "assistant", "text": "gone", "deleted": True, "replies": []},
    ],
}  # fmt: skip
KINDS = [
    (ours("!s", "a", "b"), [turns("!s", "a", "b")]),
    ({"conversations": [{"from": "gpt", "value": "hello"}, {"from": "human", "value": "a"},
                        {"from": "gpt", "value": "b"}]}, [turns("a", "b")]),
    ({"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "a"},
                        {"from": "gpt", "value": "b"}]}, [turns("!s", "a", "b")]),
    ({"turns": [{"speaker": "USER", "utterance": "a"}, {"speaker": "SYSTEM", "utterance": "b"}]},
     [turns("a", "b")]),
    ({"instruction": "add", "input": "1 2", "output": "3"}, [turns("add\n\n1 2", "3")]),
    ({"prompt": "why?", "response": "so."}, [turns("why?", "so.")]),
    ({"prompt": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:", "response": " d"},
     [turns("a", "b", "c", "d")]),
    ({"prompt": TREE}, [turns("q", "better", "more", "last"), turns("q", "worse", "unanswered")]),
    ({"kind": "demonstration", "item": "1", "labeler": "x", "messages": ours("a")["messages"],
      "answer": "b"}, [turns("a", "b")]),
]  # fmt: skip


@pytest.mark.parametrize(("row", "expected"), KINDS)
def test_rows_of_every_kind_are_conversations(row, expected, tmp_path):
    assert read(write(tmp_path / "rows.jsonl", row)) == expected


def test_lines_of_dailydialog_are_conversations_that_the_user_begins(tmp_path):
    with gzip.open(tmp_path / "d.txt.gz", "wt") as file:
        file.write("Hi . __eou__ Hello ! __eou__ Bye . __eou__\t1\t2 2 1\nA __eou__ B\n")
    assert read(tmp_path / "d.txt.gz") == [turns("Hi .", "Hello !", "Bye ."), turns("A", "B")]


def test_a_text_that_is_no_dialogue_is_no_conversation_and_is_told(tmp_path, capsys):
    write(tmp_path / "rows.jsonl", ours("a", "b") | {"conversations": None})
    (tmp_path / "README.md").write_text("---\nlicense: mit\n")
    (tmp_path / "notes.txt").write_text("a line\nanother\n")
    (tmp_path / "TALK.TXT").write_text("x __eou__ y\n")
    assert read(tmp_path) == [turns("x", "y"), turns("a", "b")]
    assert len(DialoguesConfig(train=str(tmp_path), valid=str(tmp_path)).prompts("train")) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path / 'README.md'} is passed over: text, no rows\n" in told
    assert f"{tmp_path / 'notes.txt'} is passed over: no __eou__ between turns\n" in told


def test_a_list_of_conversations_is_read_as_sharegpt_is_published(tmp_path):
    said = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    path = tmp_path / "sharegpt.json"
    path.write_text(json.dumps([{"id": "x", "conversations": said}, {"conversations": said[:0]}]))
    with pytest.raises(DataError, match="sharegpt.json: row 2: the conversation has no user turn"):
        read(path)
    path.write_text(json.dumps([{"id": "x", "conversations": said, "messages": None}]))
    assert read(path) == [turns("a", "b")]


MALFORMED = [
    ({"messages": [{"role": "assistant", "content": "x"}]}, "message 1 is the assistant's"),
    ({"conversations": [{"from": "narrator", "value": "x"}]}, "turn 1 is of 'narrator'"),
    ({"conversations": [{"from": "gpt", "value": "x"}]}, "no user turn"),
    ({"conversations": [{"from": "human", "value": "a"}] * 2}, "message 2 is the user's"),
    ({"turns": [{"speaker": "USER"}]}, 'missing "utterance"'),
    ({"prompt": {"role": "prompter"}}, 'missing "text"'),
    ({"prompt": {"role": "prompter", "text": "a", "replies": 5}}, '"replies" is no list'),
    ({"prompt": {"role": "prompter", "text": "a", "replies": ["x"]}}, '"replies" is no list'),
    (
        {
            "prompt": {
                "role": "prompter",
                "text": "a",
                "replies": [{"role": "assistant", "text": "b", "rank": "1"}],
            }
        },
        "rank of a reply is no number",
    ),
    ({"question": 3}, 'missing "response"'),
    ({"kind": "demonstration", "item": 3}, '"item" is no string'),
    (ours("a", "b\ud800"), "message 2 has a content that is not Unicode text"),
    ({"dialogue": "a __eou__ \ud800"}, '"dialogue" is not Unicode text'),
]


def test_every_malformed_row_is_named_by_file_and_line(tmp_path):
    path = write(tmp_path / "rows.jsonl", ours("a", "b"), *(row for row, _ in MALFORMED[:4]))
    with pytest.raises(DataError) as error:
        read(path)
    for number, (_, told) in enumerate(MALFORMED[:4], start=2):
        assert f"{path}:{number}: " in str(error.value) and told in str(error.value)


@pytest.mark.parametrize(("row", "told"), MALFORMED)
def test_a_malformed_row_says_what_is_wrong(row, told, tmp_path):
    with pytest.raises(DataError, match=told):
        read(write(tmp_path / "rows.jsonl", row))


def test_a_prompt_is_a_conversation_up_to_a_random_answer(tmp_path):
    spoken = turns("a", "b", "c", "d", "e", "f")
    every = [turns("a"), turns("a", "b", "c"), turns("a", "b", "c", "d", "e")]
    assert prompts_in(spoken, "every") == every and prompts_in(spoken, "last") == every[2:]
    rows = [ours(f"{n}", "b", "c", "d", "e", "f") for n in range(60)]
    path = write(tmp_path / "rows.jsonl", *rows, {"turns": ["a question"]}, ours("open"))
    found = DialoguesConfig(train=path, valid=path).prompts("train")
    assert len(found) == 62 and found[-2:] == [turns("a question"), turns("open")]
    lengths = [len(one) for one in found[:60]]
    assert all(lengths.count(length) > 10 for length in (1, 3, 5))
    assert DialoguesConfig(train=path, valid=path).prompts("train") == found


def test_another_seed_asks_for_other_answers_of_the_same_conversations(tmp_path):
    rows = [ours(f"{n}", "b", "c", "d", "e", "f") for n in range(60)]
    config = DialoguesConfig(train=write(tmp_path / "rows.jsonl", *rows), valid_fraction=0.3)
    train, other = (config.prompts("train", seed) for seed in (0, 1))
    assert [one[0] for one in train] == [one[0] for one in other]  # what is held out stays so
    same = sum(a == b for a, b in zip(train, other, strict=True))
    assert 5 < same < 25 and other == config.prompts("train", 1)  # of about 42 a third, by chance
    assert config.prompts("valid", 0) == config.prompts("valid", 1)

    def read(seed, config=config):
        return PpoMaterial(
            config, CHAT, batch=2, prompt_length=40, width=64, text=None, text_rows=0, seed=seed
        )

    sizes = [np.sort(read(seed).rows.whole.start) for seed in (0, 0, 1)]
    assert np.array_equal(*sizes[:2]) and not np.array_equal(*sizes[1:])
    assert np.array_equal(read(0).valid.tokens, read(1).valid.tokens)
    assert read(0).digest == config.fingerprint != read(1).digest  # as it was drawn before, and not
    last = replace(config, asked="last")  # the control: no seed draws
    assert read(1, last).digest == last.fingerprint


def test_one_opening_is_never_on_both_sides(tmp_path):
    rows = [ours(f"opening {n % 40}", f"{n}", "c", "d") for n in range(200)]
    config = DialoguesConfig(train=write(tmp_path / "rows.jsonl", *rows), valid_fraction=0.3)
    sides = [{one.turns[0].content for one in config.dialogues(part)["dialogues"]}
             for part in ("train", "valid")]  # fmt: skip
    assert all(sides) and not sides[0] & sides[1]
    assert {p[0].content for p in config.prompts("valid")} == sides[1]


def test_a_few_rankings_of_the_page_are_learned_and_measured_whatever_their_prompts_begin_with(
    tmp_path,
):
    for count, least, most in ((3, 1, 1), (200, 8, 35)):
        rows = [{"kind": "ranking", "item": f"{n}", "labeler": "ann", "answers": ["a", "b"],
                 "ranks": [1, 2], "messages": [{"role": "user", "content": f"question {n}?"}]}
                for n in range(count)]  # fmt: skip
        path = write(tmp_path / "labels.jsonl", *rows)
        parts = DialogueComparisonsConfig(train=path).parts()
        assert least <= len(parts["valid"]) <= most and sum(map(len, parts.values())) == count


def users_of_parts():
    """A user whose rows are learned, and one whose are held out."""
    parts = [held_out(f"user {n}", RowsConfig.valid_fraction) for n in range(100)]
    return parts.index(False), parts.index(True)


def said_first(config, part):
    return {one.turns[0].content for some in config.dialogues(part).values() for one in some}


def test_what_a_held_out_user_asks_is_not_learned_whatever_was_answered(tmp_path, capsys):
    learned, measured = users_of_parts()
    rows = [
        ours("both", "an answer") | {"user": learned},
        ours("both", "another", "and more", "c") | {"user": measured},
        {"prompt": "both", "response": "a third", "user": learned},
        ours("one", "b") | {"user": learned},
    ]
    config = DialoguesConfig(train=write(tmp_path / "rows.jsonl", *rows))
    assert (said_first(config, "train"), said_first(config, "valid")) == ({"one"}, {"both"})
    assert config.prompts("train") == [turns("one")]
    assert "2 prompts are not learned from" in capsys.readouterr().err


def test_what_one_part_of_a_mixture_holds_out_is_not_learned_from_another(tmp_path):
    learned, measured = users_of_parts()
    rows = {
        "a": [ours("both", "b") | {"user": measured}, ours("one", "b") | {"user": learned}],
        "b": [ours(name, "c") | {"user": learned} for name in ("both", "other")]
        + [ours("more", "c") | {"user": measured}],
    }
    files = {name: write(tmp_path / f"{name}.jsonl", *some) for name, some in rows.items()}
    config = DialoguesConfig(mixture=tuple((name, file, 1.0) for name, file in files.items()))
    assert said_first(config, "train") == {"one", "other"}
    assert said_first(config, "valid") == {"both", "more"}
    assert {prompt[0].content for prompt in config.prompts("train")} == {"one", "other"}


def test_rows_teach_what_the_assistant_says_and_padding_is_not_the_end():
    items = [Dialogue(turns("a", "b", "c", "d", "e"), "x"), Dialogue(turns("a", " "), "y"),
             Dialogue(turns("q", "long" * 20), "z"),
             Dialogue(turns("q", "x" * 20), "w")]  # fmt: skip
    found = encode_dialogues(items, CHAT, 40)
    assert (found.long, found.empty, found.answers) == (1, 1, 3)
    assert "1 too long and left out, 1 without an answer" in str(found)
    said = found.rows.targets[0][found.rows.mask[0]].tolist()
    assert said == [ord("b"), CHAT.end, ord("d"), CHAT.end]
    behind = found.rows.tokens[0, 16:]  # four turns of four tokens
    assert len(behind) and (behind == CHAT.tokenizer.pad).all() and CHAT.tokenizer.pad != CHAT.end
    assert encode_dialogues(items[:1], CHAT, 14).cut == 1
    with pytest.raises(DataError, match="none of 1 conversations fits into 4 tokens"):
        encode_dialogues(items[:1], CHAT, 4)


@pytest.mark.parametrize("learned", ["all", "last"])
def test_a_blank_answer_is_not_learned_and_is_counted(learned):
    items = [Dialogue(turns("a", "b", "c", " "), "x"), Dialogue(turns("a", "", "c", "d"), "y")]
    found = encode_dialogues(items, CHAT, 40, learned)
    said = [
        row[mask].tolist() for row, mask in zip(found.rows.targets, found.rows.mask, strict=True)
    ]
    assert said == [[ord("b"), CHAT.end], [ord("d"), CHAT.end]]
    assert (found.empty, found.blank, found.answers) == (0, 2, 2)
    assert str(found) == "2 conversations, 2 blank answers that are not learned"


def test_paths_of_a_tree_that_differ_behind_their_last_answer_are_learned_once(tmp_path):
    asks = [{"role": "prompter", "text": text, "replies": []} for text in "xyz"]
    tree = {
        "role": "prompter",
        "text": "q",
        "replies": [{"role": "assistant", "text": "a", "replies": asks}],
    }
    path = write(tmp_path / "rows.jsonl", {"prompt": tree})
    config = DialoguesConfig(train=path, valid=path, asked="last")
    items = config.dialogues("train")["dialogues"]
    assert len(encode_dialogues(items, CHAT, 40).rows.mask) == 1
    (shown,) = DialogueComparisonsConfig(train=path).demonstrated(path)
    assert (shown.prompt, shown.answer) == (turns("q"), "a")
    assert config.prompts("train") == [turns("q", "a", text) for text in "xyz"]
    assert len(encode_dialogues([*items, Dialogue(turns("q", "a"), "x")], CHAT, 40).rows.mask) == 2


def test_what_is_measured_first_is_of_all_files(tmp_path):
    files = {
        name: write(
            tmp_path / f"{name}.jsonl",
            *({"messages": as_objects(turns(f"{name} {n}", "x"))} for n in range(40)),
        )
        for name in ("few", "many")
    }
    mixture = tuple((name, file, 1.0) for name, file in files.items())
    config = DialoguesConfig(train="unread", mixture=mixture, valid_fraction=0.5)
    material = PpoMaterial(
        config, CHAT, batch=2, prompt_length=24, width=32, text=None, text_rows=0, seed=0
    )
    first = material.valid.tokens[:12]
    assert 2 < sum(ord("w") in row for row in first.tolist()) < 10


def test_an_answer_that_paths_of_a_tree_share_is_learned_in_the_first_of_them(tmp_path):
    def node(role, text, *replies):
        return {"role": role, "text": text, "replies": list(replies)}

    follow = [node("prompter", text, node("assistant", text.upper())) for text in "xyz"]
    other = node("assistant", "b")
    tree = node("prompter", "q", node("assistant", "a", *follow), other)
    path = write(tmp_path / "rows.jsonl", {"prompt": tree})
    items = DialoguesConfig(train=path, valid=path).dialogues("train")["dialogues"]
    rows = encode_dialogues(items, CHAT, 40).rows
    said = [
        CHAT.tokenizer.decode([token for token in row[mask] if token != CHAT.end])
        for row, mask in zip(rows.targets, rows.mask, strict=True)
    ]
    assert said == ["aX", "Y", "Z", "b"]
    whole = encode_dialogues([Dialogue(item.turns, "x") for item in items], CHAT, 40)
    assert whole.answers == encode_dialogues(items, CHAT, 40).answers + 2  # the control


def test_an_answer_that_the_first_path_of_a_tree_has_no_room_for_is_learned_in_the_next_once():
    def learned(length, *paths, **settings):
        items = [Dialogue(turns(*said), "x", known) for said, known in paths]
        found = encode_dialogues(items, CHAT, length, **settings)
        parts = zip(found.rows.targets, found.rows.mask, strict=True)
        said = [bytes(one for one in row[mask] if one != CHAT.end).decode() for row, mask in parts]
        return said, found.long, found.late

    first, other = (("q", "a", "x", "X" * 20), 0), (("q", "b"), 1)
    second, third = (("q", "a", "y", "Y"), 2), (("q", "a"), 2)
    assert learned(40, first, second, third, other) == (["a" + "X" * 20, "Y", "b"], 0, 0)
    assert learned(30, first, second, third, other) == (["X" * 20, "aY", "b"], 0, 1)  # cut
    assert learned(20, first, second, third, other) == (["aY", "b"], 1, 1)  # left out
    assert learned(30, first, third) == (["X" * 20, "a"], 0, 1)  # without an answer of its own
    assert learned(30, first, second, learned="last") == (["X" * 20, "Y"], 0, 0)
    longer = ("q" * 9, "a" * 9, "x", "X", "y", "Y")
    assert learned(20, (longer, 0), (longer[:4], 4)) == (["XY"], 0, 0)  # no room in either


def test_what_a_row_says_beside_its_turns_is_heard(tmp_path):
    hi, yo = {"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}
    rows = [
        {"conversations": [hi, yo], "system": "be brief"},
        {"instruction": "hi", "output": "yo", "system": "be brief"},
        {"question": "hi", "response": "yo", "system_prompt": "be brief"},
        {"instruction": "hi", "input": "", "output": "yo", "history": [["a", "b"], ["c", "d"]]},
        {"instruction": "hi", "output": "yo", "system": "", "history": []},
    ]
    found = read(write(tmp_path / "rows.jsonl", *rows))
    told = turns("!be brief", "hi", "yo")
    assert found == [told] * 3 + [turns("a", "b", "c", "d", "hi", "yo"), turns("hi", "yo")]
    with pytest.raises(DataError, match='rows.jsonl:1: "history" is no list of pairs'):
        read(write(tmp_path / "rows.jsonl", rows[3] | {"history": ["a", "b"]}))


HISTORY, SYSTEM = {"history": [["h", "g"]]}, {"system": "be brief"}
LISTED = {"prompt": ours("p")["messages"]}
ASKING = [
    ({"prompt": "p"} | SYSTEM, turns("!be brief", "p")),
    ({"prompt": "p"} | HISTORY, turns("h", "g", "p")),
    ({"prompt": "p"} | HISTORY | SYSTEM, turns("!be brief", "h", "g", "p")),
    ({"prompt": "\n\nHuman: a\n\nAssistant: b\n\nHuman: p\n\nAssistant:"} | SYSTEM,
     turns("!be brief", "a", "b", "p")),
    ({"instruction": "do", "input": "it"} | HISTORY | SYSTEM,
     turns("!be brief", "h", "g", "do\n\nit")),
    ({"question": "p"} | HISTORY, turns("h", "g", "p")),
    ({"turns": ["p"]} | SYSTEM, turns("!be brief", "p")),
    (ours("p") | SYSTEM, turns("!be brief", "p")),
    ({"conversations": [{"from": "human", "value": "p"}]} | HISTORY, turns("h", "g", "p")),
]  # fmt: skip
COMPARED = [
    ({}, ["p"]), ({}, ["h", "g", "p"]), ({"prompt": "p"}, []), ({"prompt": "p"}, ["p"]),
    (LISTED, []), (LISTED, ["p"]), (LISTED, ["h", "g", "p"]),
]  # fmt: skip


@pytest.mark.parametrize(("row", "asked"), ASKING)
def test_a_row_asks_the_same_of_a_policy_a_reward_model_and_sft(row, asked, tmp_path):
    path = write(tmp_path / "asks.jsonl", row)
    config = DialoguesConfig(train=path, valid=path, asked="last")
    assert config.prompts("train") == [asked]
    (one,) = compared(write(tmp_path / "c.jsonl", row | {"answers": ["x", "y"], "ranks": [0, 1]}))
    assert (one.prompt, one.answers) == (asked, ("x", "y"))
    if not row.keys() & {"messages", "conversations"}:  # which say their answer themselves
        (one,) = compared(write(tmp_path / "p.jsonl", row | {"chosen": "x", "rejected": "y"}))
        assert (one.prompt, one.answers) == (asked, ("x", "y"))
        (said,) = read(write(tmp_path / "r.jsonl", row | {"response": "x"}))
        assert said == (*asked, Message("assistant", "x"))


@pytest.mark.parametrize(("row", "head"), COMPARED)
def test_the_history_beside_two_lists_of_turns_comes_before_them_once(row, head, tmp_path):
    said = turns(*head) if head else ()
    both = {
        name: as_objects((*said, Message("assistant", answer)))
        for name, answer in (("chosen", "x"), ("rejected", "y"))
    }
    path = write(tmp_path / "c.jsonl", row | both | HISTORY | SYSTEM)
    (one,) = compared(path)
    assert (one.prompt, one.answers) == (turns("!be brief", "h", "g", "p"), ("x", "y"))
    (one,) = ComparisonsConfig(train=str(path), valid=str(path)).compared("train")
    human = "be brief\n\nHuman: h\n\nAssistant: g\n\nHuman: p\n\nAssistant:"
    assert (one.prompt, one.answers) == (human, (" x", " y"))


def test_a_mixture_has_its_weights_exactly_and_is_a_function_of_the_row():
    few = encode_dialogues([Dialogue(turns("a", f"{n}"), "x") for n in range(3)], CHAT, 64)
    many = encode_dialogues([Dialogue(turns("b", "x" * n), "x") for n in range(1, 31)], CHAT, 64)
    mixed = DialogueMixture({"few": few, "many": many}, (1.0, 3.0), 7)
    rows = mixed(0, 1000)
    assert (rows.tokens[:, 2] == ord("a")).sum() == 250
    apart = np.concatenate([mixed(0, 417).tokens, mixed(417, 583).tokens])
    np.testing.assert_array_equal(rows.tokens, apart)
    assert "few (25.0% of the rows, 2.75 times an epoch): 3 conversations" in str(mixed)
    for row, one in zip(rows.tokens[400:500], mixed.origins(400, 100), strict=True):
        source = {"few": few, "many": many}[one["text"]].rows.tokens[one["item"]]
        assert row[: len(source)].tolist() == source.tolist()
    with pytest.raises(ConfigError, match="the weight of few is below a row"):
        DialogueMixture({"few": few, "many": many}, (1e-5, 1.0), 7)


def test_a_row_is_shown_with_what_is_learned_in_brackets_or_green():
    rows = encode_dialogues([Dialogue(turns("a", "b"), "x")], CHAT, 64).rows
    parts = CHAT.tokenizer, rows.tokens[0], rows.targets[0], rows.mask[0]
    plain = "<|im_start|><|user|>a<|im_end|><|im_start|><|assistant|>[b<|im_end|>]"
    assert shown_row(*parts) == shown_row(*parts, colour=False) == plain
    assert shown_row(*parts, colour=True).endswith("\033[32mb<|im_end|>\033[0m")


@pytest.mark.parametrize(
    "named", [("messages", "role", "content"), ("conversations", "from", "value")]
)
def test_an_answer_of_weight_0_is_heard_and_not_learned_and_the_printed_row_shows_it(
    tmp_path, named
):
    field, who, what = named

    def row(*weights):
        said = [
            {who: "user", what: "q"},
            {who: "assistant", what: "bad", "weight": weights[0]},
            {who: "user", what: "r", "weight": None},
            {who: "assistant", what: "good"},
        ]
        return {field: said + [{who: "user", what: "s"},
                               {who: "assistant", what: "bye", "weight": weights[1]}]}  # fmt: skip

    path = write(tmp_path / "rows.jsonl", row(0, 0), row(1, 0.0), row(0, 1))
    items = DialoguesConfig(train=path, valid=path).dialogues("train")["dialogues"]
    found = encode_dialogues(items, CHAT, 64)
    shown = [shown_row(CHAT.tokenizer, found.rows.tokens[n], found.rows.targets[n],
                       found.rows.mask[n], colour=False) for n in range(3)]  # fmt: skip
    assert [re.findall(r"\[(\w+)", one) for one in shown] == [
        ["good"], ["bad", "good"], ["good", "bye"],
    ]  # fmt: skip
    assert "bad" in shown[0] and "bye" not in shown[0]
    assert str(found) == "3 conversations, 4 answers of weight 0 that are not learned"
    prompts = DialoguesConfig(train=path, valid=path, asked="every").prompts("train")
    assert prompts == [turns("q"), turns("q", "bad", "r"), turns("q", "bad", "r", "good", "s")]


def test_an_answer_that_its_row_calls_bad_is_not_learned_and_is_counted_and_still_asked(tmp_path):
    rows = [ours("a", "b") | {"label": True}, ours("c", "d") | {"label": False},
            {"prompt": "e", "completion": "f", "label": False}]  # fmt: skip
    path = write(tmp_path / "rows.jsonl", *rows)
    config = DialoguesConfig(train=path, valid=path)
    items = config.dialogues("train")["dialogues"]
    found = encode_dialogues(items, CHAT, 64)
    told = "1 conversations, 2 without an answer to learn, by weight or label, and left out"
    assert str(found) == told and found.empty == 0
    assert config.prompts("train") == [turns("a"), turns("c"), turns("e")]
    shown = DialogueComparisonsConfig(train=path, valid=path).demonstrated(path)
    assert {one.answer for one in shown} <= {"b"}
    with pytest.raises(DataError, match="none of 2 conversations has an answer to learn"):
        encode_dialogues(items[1:], CHAT, 64)


def label(item, labeler, ranks, **more):
    said = ours("a", "b", "c")["messages"]
    row = {"kind": "ranking", "item": item, "labeler": labeler, "time": "now", "messages": said}
    return row | {"answers": ["x", "y", "z"], "ranks": ranks} | more


def compared(path):
    return DialogueComparisonsConfig(train=str(path), valid=str(path)).compared("train")


def test_labels_are_read_as_the_page_writes_them(tmp_path):
    folder = tmp_path / "labels"
    folder.mkdir()
    skipped = {"kind": "skip", "item": "k", "labeler": "ann"}
    write(folder / "1.jsonl", label("i", "ann", [1, 2, 2]), label("i", "bob", [3, 2, 1]),
          label("j", "ann", [1, 2, 3]), skipped)  # fmt: skip
    write(folder / "2.jsonl", label("i", "ann", [2, 1, 1]),
          {"kind": "undo", "of": "j", "labeler": "ann"},
          {"kind": "demonstration", "item": "l", "labeler": "ann", "answer": "d",
           "messages": ours("q")["messages"]})  # fmt: skip
    found = {(one.labeler, one.ranks) for one in compared(folder)}
    assert found == {("ann", (1, 0, 0)), ("bob", (2, 1, 0))}
    assert all(one.prompt == turns("a", "b", "c") for one in compared(folder))
    assert read(folder) == [turns("q", "d")]


def test_what_was_answered_of_each_answer_of_a_label_is_kept_and_checked(tmp_path):
    told = [{"hallucination": True}, {}, {"opinion": False, "sexual": False}]
    label_of = partial(label, labeler="ann", ranks=[1, 2, 3])
    rows = write(tmp_path / "a.jsonl", label_of("i", metadata=told), label_of("j"))
    assert [one.metadata for one in compared(rows)] == [tuple(told), ()]
    wrong = write(tmp_path / "b.jsonl", label_of("i", metadata=told[:2]))
    with pytest.raises(DataError, match='"metadata" is .* of each of 3 answers'):
        compared(wrong)


def test_a_half_written_last_label_is_left_out_and_one_in_the_middle_is_not(tmp_path, capsys):
    path = tmp_path / "labels.jsonl"
    whole = json.dumps(label("i", "ann", [1, 2, 3]))
    path.write_text(f"{whole}\n{whole[:40]}")
    assert len(compared(path)) == 1
    assert "labels.jsonl:2: a half-written record is left out" in capsys.readouterr().err
    path.write_text(f"{whole[:40]}\n{whole}\n")
    with pytest.raises(DataError, match="labels.jsonl:1: not JSON"):
        compared(path)


def test_a_first_label_that_is_half_written_is_left_out_and_told_as_a_later_one_is(
    tmp_path, capsys
):
    whole = json.dumps(label("i", "ann", [1, 2, 3]))
    (tmp_path / "labels.jsonl").write_text(whole[:40])
    write(tmp_path / "more.jsonl", label("j", "bob", [1, 2, 3]))
    assert [one.labeler for one in compared(tmp_path)] == ["bob"]
    assert "labels.jsonl:1: a half-written record is left out" in capsys.readouterr().err
    for other in ('{"prompt": "a', whole[:40] + "\n"):  # no label, or no longer being written
        (tmp_path / "labels.jsonl").write_text(other)
        with pytest.raises(DataError, match="labels.jsonl:1: not JSON"):
            compared(tmp_path)


def test_ranks_are_places_however_large_they_are_or_near_each_other(tmp_path):
    page = write(tmp_path / "page.jsonl", label("i", "ann", [7, 3_000_000_000, 7]))
    assert compared(page)[0].ranks == (0, 1, 0)
    replies = [{"role": "assistant", "text": f"{rank}", "rank": rank} for rank in (0.7, 0.2)]
    tree = {"prompt": {"role": "prompter", "text": "q", "replies": replies}}
    (one,) = compared(write(tmp_path / "tree.jsonl", tree))
    assert one.answers == ("0.2", "0.7") and one.ranks == (0, 1) and one.pairs
    replies[0]["rank"] = math.nan
    with pytest.raises(DataError, match="tree.jsonl:1: the rank of a reply is no number"):
        compared(write(tmp_path / "tree.jsonl", tree))


def test_of_more_replies_than_a_comparison_has_the_best_the_worst_and_some_between_are_ranked(
    tmp_path,
):
    for count, kept in (
        (9, [*range(9)]),
        (10, [0, 1, 2, 3, 4, 5, 6, 7, 9]),
        (17, [*range(0, 17, 2)]),
    ):
        replies = [{"role": "assistant", "text": f"{n}", "rank": n} for n in range(count)]
        tree = {"prompt": {"role": "prompter", "text": "q", "replies": replies[::-1]}}
        (one,) = compared(write(tmp_path / "tree.jsonl", tree))
        assert one.answers == tuple(map(str, kept)) and one.ranks == (*range(9),)


def test_a_mixture_measures_on_each_conversation_of_a_file_of_its_own_once(tmp_path):
    files = {name: write(tmp_path / f"{name}.jsonl", *(ours(f"{name}{n}", "b") for n in range(7)))
             for name in ("a", "b", "valid")}  # fmt: skip
    mixture = tuple((name, str(files[name]), 1.0) for name in ("a", "b"))
    config = DialoguesConfig(mixture=mixture, valid=str(files["valid"]))
    (measured,) = config.dialogues("valid").values()
    assert [one.turns[0].content for one in measured] == [f"valid{n}" for n in range(7)]
    assert len(config.prompts("valid")) == 7
    assert {name: len(some) for name, some in config.dialogues("train").items()} == {"a": 7, "b": 7}


@pytest.mark.parametrize("reader", ["dialogues", "prompts"])
@pytest.mark.parametrize("mixed", [False, True])
def test_conversations_that_are_learned_and_measured_on_in_files_of_their_own_are_told(
    mixed, reader, tmp_path, capsys
):
    train, other, valid = (
        write(tmp_path / f"{number}.jsonl", *(ours(name, "b") for name in names))
        for number, names in enumerate(("abcd", "efgh", "bcx"))
    )
    mixture = (("train", train, 1.0), ("other", other, 1.0)) if mixed else ()
    config = DialoguesConfig(train=other if mixed else train, mixture=mixture, valid=valid)
    getattr(config, reader)("valid")
    getattr(replace(config, train=other, mixture=()), reader)("train")
    assert not capsys.readouterr().err  # the control
    getattr(config, reader)("train")
    told = f"warning: {train}: 2 of 4 prompts to learn from are in {valid} too"
    assert capsys.readouterr().err.startswith(told)


@pytest.mark.parametrize(
    ("change", "told"),
    [({"ranks": [1, 2]}, "not one for each of 3"), ({"ranks": [1, 2, "3"]}, "no whole numbers"),
     ({"answers": "x"}, '"answers" is no list'), ({"answers": ["x"]}, "1 answers"),
     ({"messages": []}, "no user turn"),
     ({"messages": ours("a", "b")["messages"]}, "do not end with the user")],
)  # fmt: skip
def test_a_malformed_label_says_what_is_wrong(change, told, tmp_path):
    path = write(tmp_path / "labels.jsonl", label("i", "ann", [1, 2, 3]) | change)
    with pytest.raises(DataError, match=f"labels.jsonl:1: .*{told}"):
        compared(path)


def test_a_column_that_is_called_kind_hides_no_comparison(tmp_path):
    row = {"kind": "preference", "prompt": "p", "answers": ["a", "b"], "ranks": [0, 1]}
    path = write(tmp_path / "rows.jsonl", row)
    (found,) = DialogueComparisonsConfig(train=path, valid=path).compared("train")
    assert found.answers == ("a", "b")


def test_comparisons_of_other_kinds_are_of_conversations_too(tmp_path):
    pair = {"chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: good",
            "rejected": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: bad"}  # fmt: skip
    first, second, third = compared(
        write(tmp_path / "c.jsonl", pair, {"prompt": "p", "answers": ["x", "y"], "ranks": [1, 0]},
              {"prompt": TREE})
    )  # fmt: skip
    assert (first.prompt, first.answers) == (turns("a", "b", "c"), ("good", "bad"))
    assert (second.prompt, second.ranks) == (turns("p"), (1, 0))
    assert (third.prompt, third.answers, third.ranks) == (turns("q"), ("better", "worse"), (0, 1))


def test_a_reward_is_read_at_the_end_of_the_last_turn_given_the_whole_conversation(tmp_path):
    items = compared(write(tmp_path / "l.jsonl", label("i", "ann", [1, 2, 3])))
    rows = encode_rankings(items, CHAT, 64).rows
    for place, answer in enumerate("xyz"):
        ids = rows.tokens[0, place, : rows.read[0, place] + 1].tolist()
        assert CHAT.parse(ids) == turns("a", "b", "c", answer) and ids[-1] == CHAT.end
    whole = int(rows.read[0, 0]) + 1
    shorter = encode_rankings(items, CHAT, whole - 1)
    assert shorter.cut == 1
    assert CHAT.parse(shorter.rows.tokens[0, 0].tolist()[: whole - 8]) == turns("c", "x")


@pytest.mark.parametrize(
    ("name", "count", "longest"),
    [("dailydialog_en/part1k.txt.gz", 1000, 10), ("dailydialog_en/dev.txt.gz", 995, 10),
     pytest.param("sgd_dialogues/train.jsonl.gz", 4500, 20, marks=pytest.mark.slow),
     ("oasst_sample/en_100_tree.jsonl.gz", 300, 4),
     ("lima/lima.jsonl.gz", 768, 2), ("self_instruct/seed_tasks.jsonl.gz", 175, 2)],
)  # fmt: skip
def test_the_shared_files_are_read_whole(name, count, longest):
    if not (DATA / name).is_file():
        pytest.skip(f"{DATA / name} is not here")
    found = read(DATA / name)
    assert len(found) >= count and max(map(len, found)) >= longest


@pytest.mark.parametrize(
    "row",
    [{"conversations": [{"from": "tool", "value": "do this"}, {"from": "human", "value": "hi"},
                        {"from": "gpt", "value": "yo"}]},
     {"turns": [{"speaker": "USER"}]}],
)  # fmt: skip
def test_a_malformed_conversation_is_no_prompt_either(tmp_path, row):
    path = write(tmp_path / "rows.jsonl", *[row] * 20)
    with pytest.raises(DataError, match="rows.jsonl:1"):
        DialoguesConfig(train=str(path)).prompts("train")


def test_conversations_that_open_alike_are_taken_for_one_and_every_part_of_it_is_kept(tmp_path):
    one, other = ours("please tell me a", "b", "c", "d"), ours("please tell me e", "f")
    path = write(tmp_path / "rows.jsonl", one, other)

    def asked(**settings):
        return DialoguesConfig(train=path, valid=path, asked="every", **settings).prompts("train")

    assert len(asked()) == 3  # the control
    assert asked(common_prefix=10) == [
        turns("please tell me a"),
        turns("please tell me a", "b", "c"),
    ]
    assert len(asked(common_prefix=16)) == 3


def test_demonstrations_that_score_zero_are_taken_as_comparisons_are(tmp_path):
    rows = [ours(f"please tell me {n}", "b") | {"user": f"{n // 2}"} for n in range(8)]
    path = write(tmp_path / "rows.jsonl", *rows)

    def shown(**settings):
        return len(DialogueComparisonsConfig(train=path, **settings).demonstrated(path))

    assert shown() > 4  # the control
    assert shown(per_user=1) == shown() // 2 and shown(common_prefix=10) == 1


def test_an_instruction_that_spells_speakers_is_what_a_user_says(tmp_path):
    spelt = "\n\nHuman: hi\n\nAssistant: I will obey\n\nHuman: go on"
    rows = [{"instruction": f"{n}{spelt}"[1 if n < 10 else 2 :], "output": "ok"} for n in range(40)]
    path = write(tmp_path / "rows.jsonl", *rows)
    (found,) = {tuple(one.role for one in turns) for turns in read(path)}
    assert found == ("user", "assistant")
    prompted = [{"prompt": spelt + "\n\nAssistant:"}] * 40  # the control: HH's own field
    path = write(tmp_path / "prompts.jsonl", *prompted)
    config = DialoguesConfig(train=str(path), valid=str(path), asked="every")
    longest = max(config.prompts("train"), key=len)
    assert [one.role for one in longest] == ["user", "assistant", "user"]


def test_turns_that_spell_speakers_stay_the_turns_they_are_in_comparisons(tmp_path):
    spelt = "hi\n\nAssistant: I will obey\n\nHuman: go on"
    ranked, said = {"answers": ["x", "y"], "ranks": [0, 1]}, ours("!be brief", spelt)["messages"]
    pair = {
        name: [*said, {"role": "assistant", "content": name}] for name in ("chosen", "rejected")
    }
    typed = {"conversations": [{"from": "human", "value": spelt}], "chosen": {"value": "x"},
             "rejected": {"value": "y"}}  # fmt: skip
    task = {"instruction": f"\n\nHuman: {spelt}", "chosen": "x", "rejected": "y"}
    prompted = {"prompt": f"\n\nHuman: {spelt}\n\nAssistant:"} | ranked  # the control: HH's field
    rows = [{"messages": said} | ranked, pair, typed, task, prompted]
    found = [one.prompt for one in compared(write(tmp_path / "rows.jsonl", *rows))]
    assert found[:3] == [turns("!be brief", spelt)] * 2 + [turns(spelt)]
    assert found[3] == turns(f"Human: {spelt}")
    assert found[4] == turns("hi", "I will obey", "go on")


def test_a_comparison_of_a_conversation_that_nobody_asks_last_is_told(tmp_path):
    row = ours("a", "b") | {"answers": ["x", "y"], "ranks": [0, 1]}
    with pytest.raises(DataError, match="rows.jsonl:1: .*does not end with the user"):
        compared(write(tmp_path / "rows.jsonl", row))


def test_files_are_told_apart_by_the_order_in_which_their_labels_are_read(tmp_path):
    rows = [ours("a", "b"), ours("c", "d")]
    digests = []
    for names in (("labels.jsonl", "mine.jsonl"), ("b.jsonl", "a.jsonl"), ("a.jsonl", "b.jsonl")):
        folder = tmp_path / names[0]
        folder.mkdir()
        for name, row in zip(names, rows, strict=True):
            write(folder / name, row)
        digests.append(DialoguesConfig(train=str(folder)).fingerprint)
    assert digests[0] == digests[1] != digests[2]  # of labels.jsonl, which is read last
