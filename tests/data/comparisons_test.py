"""Comparisons: every kind of row, what is refused, what is held out, and their arrays."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from lm.core.errors import DataError
from lm.data.comparisons import Comparison, ComparisonsConfig, comparisons
from lm.data.dialogue_comparisons import DialogueComparisonsConfig
from lm.data.prompts import RowsConfig
from lm.data.rankings import check_asked, encode_rankings
from lm.losses.preference import pairs
from lm.text.byte import ByteTokenizer
from lm.text.dialogue import Chat

DATA = Path(__file__).parents[2].parent / "shared" / "data"
TOKENIZER = ByteTokenizer()


def written(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(tmp_path, *rows):
    path = written(tmp_path, rows)
    config = ComparisonsConfig(train=path, valid=path, between="|")
    return config.read(comparisons(config.between), "train")


def spoken(*turns):
    return [{"role": role, "content": what} for role, what in turns]


HI, YES, NO = ("user", "hi"), ("assistant", "yes"), ("assistant", "no")


def test_a_ranking_keeps_its_ties_and_its_labeler(tmp_path):
    row = {"prompt": "p", "answers": ["a", "b", "c"], "ranks": [1, 0, 1], "labeler": "ann"}
    (found,) = read(tmp_path, row)
    assert (found.prompt, found.answers, found.ranks, found.labeler) == (
        "p", ("a", "b", "c"), (1, 0, 1), "ann",
    )  # fmt: skip
    assert found.pairs == [(1, 0), (1, 2)] and not found.faults


def test_a_ranking_keeps_what_was_answered_of_each_answer_and_no_column_of_another_meaning(
    tmp_path,
):
    row = {"prompt": "p", "answers": ["a", "b"], "ranks": [1, 0]}
    said = [{}, {"opinion": True, "sexual": False}]
    pair = {"prompt": "p", "chosen": "yes", "rejected": "no", "metadata": ["web", 3, None]}
    found = read(tmp_path, row | {"metadata": said}, row, row | {"metadata": {"from": "x"}}, pair)
    assert [one.metadata for one in found] == [tuple(said), (), (), ()]


def test_pairs_of_every_kind_put_the_preferred_answer_first_in_rank(tmp_path):
    human = "\n\nHuman: hi\n\nAssistant:"
    rows = [
        {"chosen": human + " yes", "rejected": human + " no", "turns": 1},
        {"prompt": "p", "chosen": "yes", "rejected": "no"},
        {"instruction": "do", "input": "it", "chosen": "yes", "rejected": "no"},
        {"conversations": [{"from": "human", "value": "hi"}],
         "chosen": {"from": "gpt", "value": "yes"}, "rejected": {"from": "gpt", "value": "no"}},
        {"instruction": "do", "output_1": "no", "output_2": "yes", "preference": 2},
        {"instruction": "do", "input": "", "response1": "yes", "response2": "no", "annotator1": 1},
        {"prompt": "p", "response 1": "no", "response 2": "yes", "label": 1},
    ]  # fmt: skip
    found = read(tmp_path, *rows)
    assert [one.prompt for one in found] == [
        human, "p", "do|it|", human, "do|", "do|", "p",
    ]  # fmt: skip
    for one in found:
        assert sorted(one.ranks) == [0, 1]
        assert one.answers[one.ranks.index(0)].strip() == "yes"


def test_a_question_asks_beside_two_answers_as_a_prompt_does(tmp_path):
    lists = {"chosen": spoken(YES), "rejected": spoken(NO)}
    texts = {"chosen": "yes", "rejected": "no"}
    for asked, answers in itertools.product(
        ({"question": "do"}, {"turns": ["do"]}), (texts, lists)
    ):
        (found,) = read(tmp_path, asked | answers | {"system": "s"})
        assert found == read(tmp_path, {"prompt": "do|"} | answers | {"system": "s"})[0]


@pytest.mark.parametrize("beside", [{"question": "q"}, {"question": None}, {"turns": ["q"]}])
def test_transcripts_ask_themselves_whatever_question_stands_beside_them(tmp_path, beside):
    human = "\n\nHuman: hi\n\nAssistant:"
    row = beside | {"chosen": human + " yes", "rejected": human + " no"}
    (found,) = read(tmp_path, row)
    assert (found.prompt, found.answers) == (human, (" yes", " no"))
    data = DialogueComparisonsConfig(train=written(tmp_path, [row]), valid_fraction=1e-9)
    (found,) = data.compared("train")
    assert [(one.role, one.content) for one in found.prompt] == [HI]
    assert found.answers == ("yes", "no")


def test_an_answer_that_quotes_a_transcript_is_no_transcript(tmp_path):
    quoting = "as in\n\nHuman: hi\n\nAssistant: yes"
    (found,) = read(tmp_path, {"question": "q", "chosen": quoting, "rejected": "no"})
    assert (found.prompt, found.answers) == ("q|", (quoting, "no"))


def test_every_annotator_gives_a_comparison_of_his_own(tmp_path):
    row = {"instruction": "do", "input": "", "response1": "a", "response2": "b",
           "annotator1": 1, "annotator2": 2, "annotator3": 0}  # fmt: skip
    found = read(tmp_path, row)
    assert [(one.labeler, one.ranks) for one in found] == [
        ("annotator1", (0, 1)), ("annotator2", (1, 0)), ("annotator3", (0, 0)),
    ]  # fmt: skip
    assert not found[2].pairs


def test_transcripts_that_part_before_the_last_turn_are_compared_from_where_they_part(tmp_path):
    start = "\n\nHuman: hi\n\nAssistant:"
    row = {"chosen": start + " a\n\nHuman: x\n\nAssistant: b", "rejected": start + " c"}
    (found,) = read(tmp_path, row)
    assert found.prompt == start and found.answers[1] == " c"


@pytest.mark.parametrize(
    "prompt",
    [spoken(HI), "hi", "\n\nHuman: hi\n\nAssistant:"],
)
@pytest.mark.parametrize("repeated", [False, True])
def test_a_prompt_beside_lists_of_turns_comes_before_them_unless_they_repeat_it(
    tmp_path, prompt, repeated
):
    head = spoken(("system", "s"), HI) if repeated else []
    row = {"prompt": prompt, "chosen": [*head, *spoken(YES)], "rejected": [*head, *spoken(NO)]}
    (found,) = read(tmp_path, row)
    told = "s" if repeated else ""
    assert (found.prompt, found.answers) == (
        f"{told}\n\nHuman: hi\n\nAssistant:", (" yes", " no"),
    )  # fmt: skip
    data = DialogueComparisonsConfig(train=written(tmp_path, [row]), valid_fraction=1e-9)
    (found,) = data.compared("train")
    roles = [(one.role, one.content) for one in found.prompt]
    assert (roles[-1], found.answers) == (HI, ("yes", "no"))
    assert len(roles) == 1 + repeated


Q, X, R = ("user", "q"), ("assistant", "x"), ("user", "r")
DIALOGUE = "\n\nHuman: q\n\nAssistant: x\n\nHuman: r\n\nAssistant:"
SYSTEM, HELLO = ("system", "s"), [("user", "hello"), ("assistant", "hello")]


@pytest.mark.parametrize(
    ("prompt", "head", "answers", "asked"),
    [
        ("r", [Q, X, R], [YES, NO], [Q, X, R]),
        (DIALOGUE, [Q, X, R], [YES, NO], [Q, X, R]),
        (spoken(SYSTEM, HI), [HI], [YES, NO], [SYSTEM, HI]),
        (spoken(HI), [SYSTEM], [YES, NO], [SYSTEM, HI]),
        (spoken(HELLO[0]), [], [HELLO[1], NO], HELLO[:1]),
        (spoken(Q, X), [R], [YES, NO], [Q, X, R]),
        (spoken(Q, X), [Q, X, R], [YES, NO], [Q, X, R]),
    ],
    ids=["last", "formatted", "system", "own system", "echo", "history", "repeated history"],
)
def test_who_speaks_first_in_a_list_says_whether_its_prompt_stands_before_it(
    tmp_path, prompt, head, answers, asked
):
    chosen, rejected = (spoken(*head, one) for one in answers)
    row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    data = DialogueComparisonsConfig(train=written(tmp_path, [row]), valid_fraction=1e-9)
    (found,) = data.compared("train")
    said = tuple(what for _, what in answers)
    assert [(one.role, one.content) for one in found.prompt] == asked and found.answers == said
    (found,) = read(tmp_path, row)
    names = {"system": "{}", "user": "\n\nHuman: {}", "assistant": "\n\nAssistant: {}"}
    told = "".join(names[role].format(what) for role, what in asked)
    assert (found.prompt, found.answers) == (f"{told}\n\nAssistant:", tuple(f" {w}" for w in said))


@pytest.mark.parametrize(
    ("prompt", "head"),
    [({}, [HI]), ({"prompt": spoken(HI)}, []), ({"prompt": "hi"}, []), ({"prompt": "hi"}, [HI])],
)
@pytest.mark.parametrize("own", [[], [("system", "own")]])
def test_what_a_row_says_of_the_system_beside_lists_of_turns_is_heard_unless_they_do(
    tmp_path, prompt, head, own
):
    chosen, rejected = (spoken(*own, *head, one) for one in (YES, NO))
    row = {"system": "s", "chosen": chosen, "rejected": rejected} | prompt
    said = "own" if own else "s"
    (found,) = read(tmp_path, row)
    assert (found.prompt, found.answers) == (
        f"{said}\n\nHuman: hi\n\nAssistant:", (" yes", " no"),
    )  # fmt: skip
    data = DialogueComparisonsConfig(train=written(tmp_path, [row]), valid_fraction=1e-9)
    (found,) = data.compared("train")
    assert [(one.role, one.content) for one in found.prompt] == [("system", said), HI]


@pytest.mark.parametrize("name", ["gpt", "chatgpt", "bing", "bard"])
def test_speakers_of_two_lists_are_the_same_by_whatever_name(tmp_path, name):
    more = [("user", "x"), (name, "b")]
    row = {"chosen": spoken(HI, (name, "yes"), *more), "rejected": spoken(("human", "hi"), NO)}
    (found,) = read(tmp_path, row)
    ends = (" yes\n\nHuman: x\n\nAssistant: b", " no")
    assert (found.prompt, found.answers) == ("\n\nHuman: hi\n\nAssistant:", ends)


@pytest.mark.parametrize("name", ["User", "tool"])
def test_a_turn_of_a_speaker_whom_nobody_knows_is_refused_and_a_developer_is_the_system(
    tmp_path, name
):
    said = {"chosen": spoken((name, "hi"), YES), "rejected": spoken((name, "hi"), NO)}
    with pytest.raises(DataError, match=f":1: a turn is of '{name}', expected one of system"):
        read(tmp_path, said)
    asks = written(tmp_path, [{"conversations": said["chosen"]}])
    with pytest.raises(DataError, match=f":1: a turn is of '{name}'"):
        RowsConfig(train=asks, valid=asks).prompts("train")
    row = {name: spoken(("developer", "s"), HI, turn)
           for name, turn in (("chosen", YES), ("rejected", NO))}  # fmt: skip
    (found,) = read(tmp_path, row)  # the control
    assert (found.prompt, found.answers) == ("s\n\nHuman: hi\n\nAssistant:", (" yes", " no"))


def test_lists_of_turns_that_part_before_the_last_are_read_as_transcripts_are(tmp_path):
    lists = {
        "chosen": spoken(HI, YES, ("user", "x"), ("assistant", "b")), "rejected": spoken(HI, NO),
    }  # fmt: skip
    start = "\n\nHuman: hi\n\nAssistant:"
    texts = {"chosen": start + " yes\n\nHuman: x\n\nAssistant: b", "rejected": start + " no"}
    listed, written_out = read(tmp_path, lists, texts)
    assert (listed.prompt, listed.answers) == (written_out.prompt, written_out.answers)
    data = DialogueComparisonsConfig(train=written(tmp_path, [lists, texts]), valid_fraction=1e-9)
    listed, written_out = data.compared("train")
    assert (listed.prompt, listed.answers) == (written_out.prompt, written_out.answers)


THANKS = "\n\nHuman: thanks"
ASKED = "\n\nHuman: hi\n\nAssistant:"


@pytest.mark.parametrize(
    ("row", "cut"),
    [
        ({"chosen": f"{ASKED} yes{THANKS}", "rejected": f"{ASKED} no{THANKS}"}, 2),
        ({"chosen": f"{ASKED} yes{THANKS}", "rejected": f"{ASKED} no", "question": 3}, 1),
        ({"prompt": ASKED, "chosen": f" yes{THANKS}{THANKS}", "rejected": " no"}, 1),
        ({"chosen": spoken(HI, YES, ("user", "x")), "rejected": spoken(HI, NO)}, 1),
        ({"prompt": spoken(HI), "chosen": spoken(YES), "rejected": spoken(NO, ("human", "x"))}, 1),
    ],
)
def test_what_the_human_says_behind_an_answer_is_no_part_of_it(tmp_path, row, cut, capsys):
    plain = [{"prompt": f"p{n}", "chosen": "a", "rejected": "b"} for n in range(20)]
    (found,) = read(tmp_path, row)
    assert (found.prompt, found.answers, found.overrun) == (ASKED, (" yes", " no"), cut)
    data = DialogueComparisonsConfig(train=written(tmp_path, [row, *plain]))
    parts = data.parts().values()
    (found,) = (one for some in parts for one in some if one.overrun)
    assert [one.content for one in found.prompt] == ["hi"] and found.answers == ("yes", "no")
    assert f"{cut} answers are cut where the human speaks behind them\n" in capsys.readouterr().err


def test_lists_that_the_human_alone_speaks_in_stay_and_an_answer_may_quote_one(tmp_path):
    row = {"prompt": spoken(HI, YES), "chosen": spoken(("user", "a")), "rejected": spoken(HI)}
    quoting = {"question": "q", "chosen": f"as in{ASKED} yes{THANKS}", "rejected": "no"}
    one, other = read(tmp_path, row, quoting)
    assert one.overrun == other.overrun == 0 and other.answers[0] == quoting["chosen"]


def test_all_pairs_of_four_answers_become_places_by_wins(tmp_path):
    row = {"question": "q", "passages": [["t", "u"]], "preference": [1, 1, 1, 2, 0, 1],
           **{f"prediction {n}": f"a{n}" for n in range(1, 5)}}  # fmt: skip
    (found,) = read(tmp_path, row)
    assert found.prompt.endswith("q|") and found.ranks == (0, 2, 1, 2)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": "p", "answers": ["a"], "ranks": [0]}, ":1: 1 answers; a comparison has 2 to 9"),
        ({"prompt": "p", "answers": ["a"] * 10, "ranks": [0] * 10}, "10 answers"),
        ({"prompt": "p", "answers": ["a", "b"], "ranks": [0]}, "not one for each of 2 answers"),
        ({"prompt": "p", "answers": ["a", "b"], "ranks": [0, "x"]}, "no whole numbers"),
        ({"prompt": "p", "answers": ["a", 3], "ranks": [0, 1]}, "no list of strings"),
        ({"prompt": "p", "answers": ["a", "\ud800"], "ranks": [0, 1]}, "not Unicode text"),
        ({"prompt": "p", "answers": ["a", "b"], "ranks": [0, 1], "ended": [True]}, '"ended" is'),
        *((({"prompt": "p", "answers": ["a", "b"], "ranks": [0, 1], "metadata": told},
            '"metadata" is .* of each of 2 answers'))
          for told in ([{}], [{}, None], [{}, {"opinion": 1}], ["yes", "no"])),
        ({"chosen": "a", "rejected": "b"}, "no transcript"),
        ({"chosen": [{"role": "assistant", "content": "a"}],
          "rejected": [{"role": "assistant", "content": "b"}]}, "no turn in common"),
        ({"prompt": "p", "chosen": "a"}, 'rejected'),
        ({"prompt": "p", "response 1": "a", "response 2": "b", "label": 7}, '"label" is 7'),
        ({"prompt": "p", "answers": ["a", "b"], "ranks": [0, 10**30]}, "at most 1000"),
        ({"prompt": "p", "response 1": "a", "response 2": "b", "label": [1]}, "is \\[1\\]"),
        ({"prompt": "p", "response1": "a", "response2": "b"}, 'missing "annotator1"'),
        ({"chosen": [1], "rejected": [2]}, '"chosen" is no string'),
        ({"prediction 1": "a", "question": "q", "passages": 5}, '"passages" is no list of lists'),
        ({"prediction 1": "a", "question": "q", "passages": [5]}, "no list of lists"),
        ({"prediction 1": "a", "question": "q", "passages": [["\ud800"]]}, "not Unicode text"),
        ({"instruction": "i", "examples": [{"input": "q", "output": "a"}], "answers": ["a", "b"],
          "ranks": [0, 1]}, '"examples" and no "input"'),
        ({"prompt": "p"}, 'missing "answers" and "ranks", or "chosen" and "rejected"'),
    ],
)  # fmt: skip
def test_a_row_that_is_no_comparison_is_told_with_its_line(tmp_path, row, problem):
    with pytest.raises(DataError, match=problem):
        read(tmp_path, row)


def many(count, **changes):
    return [{"prompt": f"p{n}", "answers": ["good", "bad"], "ranks": [0, 1],
             "labeler": ["ann", "bob"][n % 2], **changes} for n in range(count)]  # fmt: skip


def test_of_prompts_that_differ_in_a_few_characters_about_the_fraction_is_held_out(tmp_path):
    rows = [{"prompt": f"question number {n}?", "answers": ["a", "b"], "ranks": [0, 1]}
            for n in range(200)]  # fmt: skip
    parts = ComparisonsConfig(train=written(tmp_path, rows)).parts()
    assert 8 <= len(parts["valid"]) <= 35 and sum(map(len, parts.values())) == 200


def test_of_an_instruction_that_is_held_out_beside_them_no_ranking_is_learned(tmp_path):
    tasks = [f"task {n}" for n in range(30)]
    pairs = [{"input": f"i{n}", "output": "o"} for n in range(3)]
    shown = written(
        tmp_path, [{"instruction": one, "input": "i3", "examples": pairs} for one in tasks]
    )
    beside = RowsConfig(train=shown)
    held_out = {one for one in tasks if any(p.startswith(f"{one}\n") for p in beside.measured())}
    ranked = tmp_path / "ranked"
    ranked.mkdir()
    ranks = {"answers": ["good", "bad"], "ranks": [0, 1]}
    train = written(ranked, [
        *({"instruction": one, "input": f"i{n}"} | ranks for one in tasks for n in (3, 4)),
        *({"prompt": prompt} | ranks for prompt in beside.prompts("valid")),
    ])  # fmt: skip
    data = ComparisonsConfig(train=train, valid=train)
    learned = [
        {one.prompt.split("\n")[0] for one in some.parts()["train"]}
        for some in (data, dataclasses.replace(data, beside=beside))
    ]
    assert held_out and learned[0] == set(tasks)  # the control
    assert learned[1] == set(tasks) - held_out


def test_of_three_rankings_one_is_held_out_and_of_all_but_one_at_most(tmp_path):
    rows = [{"prompt": name, "answers": ["a", "b"], "ranks": [0, 1]} for name in "pqr"]
    path = written(tmp_path, rows)
    for fraction, held_out in ((1e-9, 1), (1 - 1e-9, 2)):
        parts = ComparisonsConfig(train=path, valid_fraction=fraction).parts()
        prompts = {part: {one.prompt for one in some} for part, some in parts.items()}
        assert len(prompts["valid"]) == held_out and prompts["train"] | prompts["valid"] == {*"pqr"}
    alone = ComparisonsConfig(train=written(tmp_path, rows[:1]), valid_fraction=1e-9)
    with pytest.raises(DataError, match="no rows in .* for valid"):
        alone.parts()


def test_what_rows_say_of_themselves_is_not_added_to(tmp_path):
    rows = [{"prompt": name, "answers": ["a", "b"], "ranks": [0, 1]} for name in "pqrs"]
    rows[0]["held_out"] = True
    parts = ComparisonsConfig(train=written(tmp_path, rows), valid_fraction=1e-9).parts()
    assert [one.prompt for one in parts["valid"]] == ["p"] and len(parts["train"]) == 3


def test_a_held_out_labeler_teaches_nothing_and_an_unknown_one_is_refused(tmp_path):
    path = written(tmp_path, many(60))
    parts = ComparisonsConfig(train=path, valid_fraction=0.3, held_out=("bob",)).parts()
    labelers = {name: {one.labeler for one in some} for name, some in parts.items()}
    assert labelers == {"train": {"ann"}, "valid": {"ann"}, "labelers": {"bob"}}
    trained = {one.prompt for one in parts["train"]}
    assert not trained & {one.prompt for one in parts["valid"] + parts["labelers"]}
    with pytest.raises(DataError, match="no labeler 'eve' in .*; there are: 'ann', 'bob'"):
        ComparisonsConfig(train=path, valid_fraction=0.3, held_out=("eve",)).parts()


@pytest.mark.parametrize("answers", [["same", "same"], ["", "bad"], [" \n", "bad"]])
def test_equal_or_empty_preferred_answers_are_dropped_and_many_are_refused(
    tmp_path, answers, capsys
):
    faulty = many(2, answers=answers)
    few = ComparisonsConfig(train=written(tmp_path, many(60) + faulty), valid_fraction=0.2).parts()
    kept = sum(map(len, few.values()))
    assert kept == 60
    assert "2 pairs of 2 comparisons with an empty or equal answer preferred are left out" in (
        capsys.readouterr().err
    )
    some = written(tmp_path, many(20) + faulty * 4)
    many_of_them = ComparisonsConfig(train=some, valid_fraction=0.3)
    with pytest.raises(DataError, match="empty or equal, more than 5%"):
        many_of_them.parts()


YES_NO = {"chosen": "yes", "rejected": "no"}
ORDERS = [  # answers of ranks 0, 1, ..., and which of their pairs teach nothing
    (["a", "", "b", "c"], [(1, 2), (1, 3)]),
    (["", "a", "b"], [(0, 1), (0, 2)]),
    (["a", "b", " "], []),
    (["a", "b", "a", "c"], [(0, 2)]),
    (["a", "a"], [(0, 1)]),
]


def test_a_ranking_of_people_loses_the_pairs_that_teach_nothing_and_no_more(tmp_path, capsys):
    rows = [
        {"kind": "ranking", "item": str(n), "labeler": "ann", "messages": spoken(("user", f"q{n}")),
         "answers": answers, "ranks": list(range(1, len(answers) + 1))}
        for n, (answers, _) in enumerate(ORDERS)
    ]  # fmt: skip
    (tmp_path / "valid.jsonl").write_text(json.dumps({"prompt": "v"} | YES_NO))
    valid = str(tmp_path / "valid.jsonl")
    some = DialogueComparisonsConfig(train=written(tmp_path, rows), valid=valid).parts()["train"]
    found = {one.prompt[0].content: one.faults for one in some}
    assert found == {f"q{n}": faults for n, (_, faults) in enumerate(ORDERS[:-1])}
    assert "6 pairs of 4 comparisons with an empty or equal answer preferred are left out" in (
        capsys.readouterr().err
    )
    ranked = encode_rankings(some, Chat(TOKENIZER), 64).rows
    kept = pairs(ranked.ranks, ranked.mask, ranked.faults).tolist()
    assert dict(zip(found, kept, strict=True)) == {"q0": 4, "q1": 1, "q2": 3, "q3": 5}
    other = [{name: one[name] for name in ("answers", "ranks")} | {"prompt": "q"} for one in rows]
    with pytest.raises(DataError, match="4 of 6 rows .* empty or equal, more than 5%"):
        ComparisonsConfig(train=written(tmp_path, other), valid=valid).parts()


def test_all_answers_of_a_prompt_are_one_row_and_are_read_at_their_end_token():
    items = [
        Comparison("ask", ("a", "bcd"), (1, 0), "", "f:1"),
        Comparison("x" * 40, ("e", "f", "g"), (0, 1, 1), "", "f:2"),
    ]
    found = encode_rankings(items, TOKENIZER, 16)
    rows = found.rows
    assert rows.tokens.shape == (2, 3, 16) and found.cut == 1
    assert rows.mask.tolist() == [[True, True, False], [True, True, True]]
    assert rows.tokens[0, 1, :7].tolist() == [*b"askbcd", TOKENIZER.end]
    ends = np.take_along_axis(rows.tokens, rows.read[..., None], axis=2)[..., 0]
    assert (ends[rows.mask] == TOKENIZER.end).all()
    assert rows.start[0, 0] == 3 and rows.start[1, 0] == 14  # one answer token, one end
    just = encode_rankings(items[:1], TOKENIZER, 7)  # with the longer answer and its end
    assert just.cut == 0 and just.rows.start[0, 0] == 3
    with pytest.raises(DataError, match="none of 2 comparisons fits into 2 tokens"):
        encode_rankings(items, TOKENIZER, 2)


def test_answers_to_a_prompt_that_is_too_long_are_left_out_and_not_cut():
    items = [Comparison("x" * size, ("a", "b"), (0, 1), "", f"f:{size}") for size in (3, 4, 40)]
    found = encode_rankings(items, TOKENIZER, 16, prompt_length=3)
    assert (len(found.items), found.cut, found.asked) == (1, 0, 2)
    assert str(found) == "1 comparisons, 2 of prompts above prompt_length left out"
    with pytest.raises(DataError, match="of at most 2 tokens: set a larger prompt_length"):
        encode_rankings(items, TOKENIZER, 16, prompt_length=2)
    with pytest.raises(DataError, match="into 2 tokens: set a larger length"):  # what then is left
        encode_rankings(items, TOKENIZER, 2, prompt_length=3)
    every = encode_rankings(items, TOKENIZER, 16)  # the control
    assert (len(every.items), every.cut, every.asked) == (3, 1, 0)


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data")
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("hh_rlhf_harmless", 1_700),
        ("dpo_en_demo", 215),
        ("finegrained_qa_feedback", 355),
        ("pandalm_testset", 1_800),
        ("autoj_pairwise", 750),
        ("rasbt_preferences", 790),
        ("alpaca_eval_gpt4_prefs", 2_300),
    ],
)
def test_the_published_sets_are_read(name, least):
    parts = ComparisonsConfig(train=str(DATA / name / "*.jsonl.gz")).parts()
    assert sum(map(len, parts.values())) >= least  # whichever of them are held out
    assert len(parts["train"]) > len(parts["valid"]) > 0


def test_questions_are_columns_of_1_0_and_minus_1_where_nobody_answered():
    items = [
        Comparison("p", ("a", "b"), (1, 0), "", "f:1", (), ({"x": True}, {"x": False, "y": True})),
        Comparison("q", ("a", "b", "c"), (0, 1, 1), "", "f:2"),
    ]
    found = encode_rankings(items, TOKENIZER, 16, questions=("y", "x")).rows.answered
    assert found.dtype == np.int8 and found.shape == (2, 3, 2)
    assert found[0].tolist() == [[-1, 1], [1, 0], [-1, -1]] and (found[1] == -1).all()
    assert encode_rankings(items, TOKENIZER, 16).rows.answered is None
    check_asked(("y", "x"), items, "f")
    with pytest.raises(DataError, match="answers 'z' in f, .* there are: 'x', 'y'$"):
        check_asked(("x", "z"), items, "f")
    with pytest.raises(DataError, match="answers 'x' in f, .* there are: no questions$"):
        check_asked(("x",), items[1:], "f")
