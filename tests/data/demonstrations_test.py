"""Demonstrations: which rows are read, and which of their tokens are learned."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import instructgpt
from lm.core.errors import ConfigError, DataError
from lm.data.demonstrations import (
    Demonstration,
    check_answers,
    demonstrations,
    encode_demonstrations,
)
from lm.data.dialogues import DialoguesConfig
from lm.data.prompts import RowsConfig, held_out
from lm.text.byte import ByteTokenizer

TOKENIZER = ByteTokenizer()
TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def read(tmp_path, rows, part="train", **settings):
    path = tmp_path / "rows.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines))
    valid = None if "valid_fraction" in settings else str(path)
    config = RowsConfig(train=str(path), **{"valid": valid, **settings})
    return config.read(demonstrations(config.between), part)


def encoded(prompt, answer, **settings):
    item = Demonstration(prompt, answer, "here:1")
    return encode_demonstrations([item], TOKENIZER, 32, **settings)


def test_rows_of_every_kind_give_a_prompt_and_an_answer(tmp_path):
    rows = [
        {"prompt": "Say a:", "response": " a"},
        {"instruction": "Say b", "input": "loudly", "output": "B"},
        {"instruction": "Say c", "input": "", "output": "c"},
        {"instruction": "Say d", "instances": [{"input": "", "output": "d"},
                                               {"input": "x", "output": "dx"}]},
    ]  # fmt: skip
    found = [(item.prompt, item.answer) for item in read(tmp_path, rows, between="|")]
    assert found == [
        ("Say a:", " a"), ("Say b|loudly|", "B"), ("Say c|", "c"), ("Say d|", "d"),
        ("Say d|x|", "dx"),
    ]  # fmt: skip


CHOSEN = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d"
LISTED = [{"role": role, "content": what}
          for role, what in zip(["user", "assistant"] * 2, "abcd", strict=True)]  # fmt: skip


@pytest.mark.parametrize("chosen", [CHOSEN, CHOSEN + "\n\nHuman: e", LISTED])
def test_of_a_dialogue_that_was_chosen_the_last_answer_is_learned_and_what_it_answers_asked(
    tmp_path, chosen
):
    row = {"chosen": chosen, "rejected": chosen[:1]}
    (found,) = read(tmp_path, [row])
    assert (found.prompt, found.answer) == (CHOSEN[:-2], " d")
    path = str(tmp_path / "rows.jsonl")
    assert RowsConfig(train=path, valid=path).prompts("train") == [CHOSEN[:-2]]
    sets = DialoguesConfig(train=path, valid=path).dialogues("train")
    (turns,) = (one.turns for some in sets.values() for one in some)
    assert [(one.role, one.content) for one in turns][:4] == [
        (one["role"], one["content"]) for one in LISTED
    ]
    asked = row | {"prompt": "p", "chosen": CHOSEN}  # the control: what is asked stands beside it
    assert [(one.prompt, one.answer) for one in read(tmp_path, [asked])] == [("p", CHOSEN)]


def test_a_dialogue_in_which_nobody_answers_is_no_demonstration_and_no_prompt(tmp_path):
    for turns in (LISTED[:1], []):
        with pytest.raises(DataError, match="rows.jsonl:1: "):
            read(tmp_path, [{"chosen": turns}])
    write = tmp_path / "twice.jsonl"
    write.write_text(json.dumps({"chosen": "\n\nHuman: a" + CHOSEN}))
    config = DialoguesConfig(train=str(write), valid=str(write))
    for read_so in (config.dialogues, config.prompts):
        with pytest.raises(DataError, match="twice.jsonl:1: message 2 is the user's"):
            read_so("train")


@pytest.mark.parametrize("answer", ["response", "answer"])
def test_the_context_of_a_task_or_a_question_is_asked_with_it(tmp_path, answer):
    rows = [
        {"instruction": "Who?", "context": "Ann ran.", answer: "Ann"},
        {"question": "Who?", "context": "Ann ran.", answer: "Ann"},
        {"question": "Who?", "input": "Ann ran.", "context": "", answer: "Ann"},
        {"instruction": "Say c", "context": " ", answer: "c"},
    ]
    found = [(item.prompt, item.answer) for item in read(tmp_path, rows, between="|")]
    assert found == [("Who?|Ann ran.|", "Ann")] * 3 + [("Say c|", "c")]
    path = str(tmp_path / "rows.jsonl")
    assert RowsConfig(train=path, valid=path, between="|").prompts("train") == [
        "Who?|Ann ran.|", "Say c|",
    ]  # fmt: skip


def test_a_list_of_rows_is_read_as_published_and_a_readme_beside_rows_is_none(tmp_path, capsys):
    rows = [{"instruction": f"Say {n}", "input": None, "output": "so"} for n in range(3)]
    (tmp_path / "alpaca_data.json").write_text(json.dumps(rows, indent=4))
    (tmp_path / "rows.jsonl").write_text('{"prompt": "p", "response": "r", "messages": null}\n')
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    for spec, count in ((tmp_path / "alpaca_data.json", 3), (tmp_path, 1)):
        config = RowsConfig(train=str(spec), valid=str(tmp_path / "alpaca_data.json"))
        assert len(config.read(demonstrations(), "train")) == count
    assert f"{tmp_path / 'README.md'} is passed over: text, no rows\n" in capsys.readouterr().err


def shown(count, **more):
    pairs = [{"input": f"q{n}", "output": f"a{n}"} for n in range(count)]
    return {"instruction": "Do", "examples": pairs} | more


def test_each_of_several_examples_is_asked_behind_all_the_others(tmp_path):
    found = read(tmp_path, [shown(3)], between="|")
    assert [(item.prompt, item.answer, item.where.split(":")[-1]) for item in found] == [
        ("Do|q1|a1|q2|a2|q0|", "a0", "1"), ("Do|q0|a0|q2|a2|q1|", "a1", "1"),
        ("Do|q0|a0|q1|a1|q2|", "a2", "1"),
    ]  # fmt: skip
    named = {"instruction": "Do", "examples": [{"prompt": "p", "response": "r"}] * 2}
    assert [item.prompt for item in read(tmp_path, [named], between="|")] == ["Do|p|r|p|"] * 2
    assert read(tmp_path, [shown(2, system="S")], between="|")[0].prompt == "S|Do|q1|a1|q0|"


def test_a_single_example_is_asked_without_any_and_an_input_beside_them_behind_all(tmp_path):
    rows = [shown(1), shown(2, input="q", output="a"), shown(0, input="q", output="a")]
    found = read(tmp_path, rows, between="|")
    assert [(item.prompt, item.answer) for item in found] == [
        ("Do|q0|", "a0"), ("Do|q0|a0|q1|a1|q|", "a"), ("Do|q|", "a"),
    ]  # fmt: skip
    path = str(tmp_path / "rows.jsonl")
    assert RowsConfig(train=path, valid=path, between="|").prompts("train")[1] == found[1].prompt


def test_examples_are_prompts_and_conversations_of_one_turn_too(tmp_path):
    asked = [item.prompt for item in read(tmp_path, [shown(3)])]
    path = str(tmp_path / "rows.jsonl")
    assert RowsConfig(train=path, valid=path).prompts("train") == asked
    sets = DialoguesConfig(train=path, valid=path).dialogues("train")
    turns = [[said.content for said in one.turns] for some in sets.values() for one in some]
    assert turns == [[prompt.strip(), f"a{n}"] for n, prompt in enumerate(asked)]


def test_examples_that_show_each_other_are_held_out_together_and_none_begins_like_another(
    tmp_path,
):
    rows = [shown(4, instruction=f"Do {n}") for n in range(40)]
    parts = [
        {item.prompt.split("\n")[0] for item in read(tmp_path, rows, part, valid_fraction=0.5)}
        for part in ("train", "valid")
    ]
    assert min(map(len, parts)) > 5 and not parts[0] & parts[1]
    rows = [shown(3, user="ann"), shown(3, instruction="Do it", user="ann")]
    assert len(read(tmp_path, rows, common_prefix=2)) == 3


def test_each_example_counts_among_the_prompts_of_its_user(tmp_path):
    rows = [shown(3, user="ann"), shown(3, instruction="Do it", user="ann"), shown(1, user="bob")]
    assert [one.answer for one in read(tmp_path, rows, per_user=4)] == [
        "a0",
        "a1",
        "a2",
        "a0",
        "a0",
    ]
    assert len(read(tmp_path, rows)) == 7  # the control


def test_what_a_held_out_user_has_examples_of_is_learned_from_nobody(tmp_path):
    both = [{"input": f"q{n}", "output": f"a{n}"} for n in range(3)]
    rows = [
        {"user": f"{n} {k}", "instruction": f"Do {n}"} | own
        for n in range(40)
        for k, own in enumerate(
            (
                {"examples": both},
                {"examples": both[::-1]},
                both[0],
                both[1] | {"examples": both[:1]},
            )
        )
    ]
    parts = [
        {one.prompt.split("\n")[0] for one in read(tmp_path, rows, part, valid_fraction=0.2)}
        for part in ("train", "valid")
    ]
    assert min(map(len, parts)) > 5 and not parts[0] & parts[1]
    written = [shown(1, prompt=f"p{n}", response="a") for n in range(40)]  # of prompts of their own
    assert 5 < len(read(tmp_path, written, "valid", valid_fraction=0.5)) < 35
    plain = [row for row in rows if "examples" not in row]  # the control: other inputs are learned
    plain += [{**row, "input": "q9"} for row in plain]
    plain = [{**row, "user": n} for n, row in enumerate(plain)]
    train, valid = (read(tmp_path, plain, part, valid_fraction=0.5) for part in ("train", "valid"))
    tasks = [{one.prompt.split("\n")[0] for one in some} for some in (train, valid)]
    assert tasks[0] & tasks[1]


def test_only_the_answer_and_its_end_are_learned_unless_the_whole_text_is():
    rows = encoded("ask:", "so").rows
    learned = rows.targets[0][rows.mask[0]].tolist()
    assert learned == [*b"so", TOKENIZER.end]
    assert TOKENIZER.end != TOKENIZER.pad
    assert rows.tokens[0][rows.mask[0]].tolist() == list(b":so")
    whole = encoded("ask:", "so", whole=True).rows
    assert whole.targets[0][whole.mask[0]].tolist() == [*b"sk:so", TOKENIZER.end]


def test_a_demonstration_that_its_row_calls_bad_is_left_out_and_counted(tmp_path):
    rows = [{"prompt": f"p{n}", "completion": "a", "label": n > 0} for n in range(3)]
    items = read(tmp_path, rows)
    found = encode_demonstrations(items, TOKENIZER, 32)
    assert str(found) == '2 demonstrations, 1 of rows with "label": false and left out'
    assert len(read(tmp_path, [{**row, "label": int(row["label"])} for row in rows])) == 3
    path = str(tmp_path / "rows.jsonl")
    assert len(RowsConfig(train=path, valid=path).prompts("train")) == 3
    with pytest.raises(DataError, match="none of 1 demonstrations is good"):
        encode_demonstrations(items[:1], TOKENIZER, 32)


def test_what_does_not_fit_is_left_out_and_counted():
    items = [Demonstration("p" * 20, "a" * size, f"here:{size}") for size in (12, 11)]
    found = encode_demonstrations(items, TOKENIZER, 32)
    assert found.names == ("here:11",)  # of the rows that are there
    assert len(found.rows.mask) == 1 and found.long == 1  # 20 + 11 + the end are 32
    assert str(found) == "1 demonstrations, 1 too long and left out"
    with pytest.raises(DataError, match="none of 2 demonstrations fits into 16 tokens"):
        encode_demonstrations(items, TOKENIZER, 16)
    longer = Demonstration("p" * 21, "a", "here:1")
    found = encode_demonstrations([*items, longer], TOKENIZER, 32, prompt_length=20)
    assert found.names == ("here:11",) and (found.asked, found.long) == (1, 1)
    told = (
        "1 demonstrations, 1 of prompts above prompt_length and left out, 1 too long and left out"
    )
    assert str(found) == told
    with pytest.raises(DataError, match="of at most 19 tokens: set a larger prompt_length"):
        encode_demonstrations([*items, longer], TOKENIZER, 16, prompt_length=19)
    with pytest.raises(DataError, match="into 16 tokens: set a larger length"):  # what then is left
        encode_demonstrations([*items, longer], TOKENIZER, 16, prompt_length=20)
    every = encode_demonstrations([*items, longer], TOKENIZER, 32)
    assert every.names == ("here:11", "here:1")  # the control


def test_a_prompt_or_a_user_is_never_divided_between_the_parts(tmp_path):
    rows = [{"prompt": f"p{n % 30}", "response": f"{n}"} for n in range(300)]
    rows += [{"prompt": f"q{n}", "response": "x", "user": n % 7} for n in range(70)]
    parts = {part: read(tmp_path, rows, part, valid_fraction=0.3) for part in ("train", "valid")}
    prompts_of = {part: {item.prompt for item in some} for part, some in parts.items()}
    assert not prompts_of["train"] & prompts_of["valid"]
    users = {part: {int(p[1:]) % 7 for p in some if p[0] == "q"}
             for part, some in prompts_of.items()}  # fmt: skip
    assert not users["train"] & users["valid"] and users["valid"]
    assert sum(map(len, parts.values())) == 370


def test_a_prompt_that_a_held_out_user_asks_too_is_not_learned_and_is_told(tmp_path, capsys):
    rows = [{"prompt": f"q{n % 50}", "response": "a", "user": n % 6 + 6} for n in range(300)]
    rows += [{"prompt": "alone", "response": "a", "user": n} for n in range(6, 12)]
    parts = {part: {one.prompt for one in read(tmp_path, rows, part, valid_fraction=0.3)}
             for part in ("train", "valid")}  # fmt: skip
    assert "alone" in parts["valid"] and not parts["train"] & parts["valid"]
    assert "a held-out user asks the same" in capsys.readouterr().err
    with pytest.raises(DataError, match="held-out users ask all that the others do"):
        read(tmp_path, rows[300:], valid_fraction=0.3)
    believed = [{**row, "held_out": row["user"] == 11} for row in rows]
    assert "alone" in {one.prompt for one in read(tmp_path, believed)}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{", "rows.jsonl:2: not JSON"),
        ({"prompt": "x"}, 'rows.jsonl:2: missing "response"'),
        ({"response": "x"}, 'rows.jsonl:2: missing "prompt" or "instruction"'),
        ({"prompt": 3, "response": "x"}, 'rows.jsonl:2: "prompt" is no string'),
        ({"prompt": " ", "response": "x"}, "rows.jsonl:2: the prompt is empty"),
        ({"prompt": TURNS[:1]}, 'rows.jsonl:2: missing "response"'),
        ({"prompt": "a\ud800", "response": "x"}, 'rows.jsonl:2: "prompt" is not Unicode text'),
        ({"prompt": "x", "response": "a\ud800"}, 'rows.jsonl:2: "response" is not Unicode text'),
        (
            {"instruction": "a", "input": "\ud800", "output": "x"},
            'rows.jsonl:2: "input" is not Unicode text',
        ),
        (shown(0), 'rows.jsonl:2: "examples" is empty, or one of them lacks its input or output'),
        (
            shown(1, output="x"),
            'rows.jsonl:2: "examples" and no "input": what is asked behind them is missing',
        ),
        ({"instruction": "a", "examples": "x"}, 'rows.jsonl:2: "examples" is no list of objects'),
        ({"instruction": "a", "examples": ["x"]}, 'rows.jsonl:2: "examples" is no list of objects'),
        ({"instruction": "a", "examples": [{"input": "x"}]}, 'rows.jsonl:2: missing "output"'),
        ({"instruction": "a", "examples": [{"output": "x"}]}, 'rows.jsonl:2: missing "input"'),
        (
            {"instruction": "a", "examples": [{"input": "x", "output": " "}]},
            "rows.jsonl:2: .* one of them lacks",
        ),
        (shown(2, instruction=3), 'rows.jsonl:2: "instruction" is no string'),
        ({"question": "q", "context": ["x"], "answer": "a"}, ':2: "context" is no string'),
        (
            {"instruction": "a", "input": "x", "context": "y", "output": "z"},
            ':2: an "input" and another "context"',
        ),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(tmp_path, row, problem):
    with pytest.raises(DataError, match=problem):
        read(tmp_path, [{"prompt": "a", "response": "b"}, row])


@pytest.mark.parametrize(
    "row",
    [
        {"messages": TURNS},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
    ],
)
def test_conversations_are_told_who_reads_them_and_are_read_there(tmp_path, row):
    with pytest.raises(DataError, match="rows.jsonl:1: these are conversations: chatgpt:sft reads"):
        read(tmp_path, [row])
    path = str(tmp_path / "rows.jsonl")
    sets = DialoguesConfig(train=path, valid=path).dialogues("train")
    (found,) = (one.turns for some in sets.values() for one in some)
    assert [(one.role, one.content) for one in found] == [("user", "a"), ("assistant", "b")]
    given = {"messages": TURNS[:1], "response": "b"}  # the control: one answer, and it is text
    assert [one.answer for one in read(tmp_path, [given])] == ["b"]


def test_many_empty_answers_are_refused():
    full = [Demonstration("p", "a", f"f:{n}") for n in range(19)]
    empty = [Demonstration("p", " ", "f:99")]
    check_answers(full + empty, "f")
    assert encode_demonstrations(full + empty, TOKENIZER, 8).empty == 1
    with pytest.raises(DataError, match="2 of 21 rows of f are empty"):
        check_answers(full + empty * 2, "f")


def test_a_few_empty_answers_are_a_few_of_the_whole_file_wherever_they_are_held_out(tmp_path):
    prompts = [f"p{n}" for n in range(100)]
    lost = next(one for one in prompts if held_out(one, 0.1))
    rows = [{"prompt": one, "response": "" if one == lost else "a"} for one in prompts]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = replace(instructgpt.sft(), data=RowsConfig(train=str(path)))
    material = config.demonstrated(TOKENIZER)
    assert len(material.held_out.rows.mask) < 20  # of which one is more than 5%
    assert material.held_out.empty == 1


def test_of_a_user_so_many_prompts_are_taken_and_of_those_that_begin_alike_the_first(
    tmp_path, capsys
):
    asked = [("ann", "a0"), ("ann", "a1"), ("ann", "a2"), ("ann", "a1"), ("bob", "b0"),
             (None, "long one"), (None, "long two"), (None, "long one"), (None, "lon"),
             ("ann", "long too")]  # fmt: skip
    rows = [{"prompt": prompt, "response": f"{number}"} | ({"user": user} if user else {})
            for number, (user, prompt) in enumerate(asked)]  # fmt: skip

    def taken(**settings):
        return [int(one.answer) for one in read(tmp_path, rows, **settings)]

    assert taken() == list(range(10)) and "left out" not in capsys.readouterr().err
    assert taken(per_user=2) == [0, 1, 3, 4, 5, 6, 7, 8]  # a prompt again is not another
    assert taken(common_prefix=5) == [0, 1, 2, 3, 4, 5, 7, 8]
    assert taken(per_user=2, common_prefix=5) == [0, 1, 3, 4, 5, 7, 8]
    told = capsys.readouterr().err.splitlines()
    assert [line.split(": prompts left out: ")[1] for line in told if "left out" in line] == [
        "2 above the 2 of their user",
        "2 that begin with the 5 characters of another",
        "2 that begin with the 5 characters of another, 1 above the 2 of their user",
    ]
    with pytest.raises(ConfigError, match="per_user must be positive, got 0"):
        RowsConfig(per_user=0)


def test_prompts_that_begin_alike_are_not_divided_between_the_parts(tmp_path):
    rows = [{"prompt": f"the same long beginning {number}", "response": "x"}
            for number in range(40)]  # fmt: skip
    parts = [read(tmp_path, rows, part, valid_fraction=0.5) for part in ("train", "valid")]
    assert min(map(len, parts)) > 5  # the control
    with pytest.raises(DataError, match="no rows in .* for"):
        for part in ("train", "valid"):
            read(tmp_path, rows, part, valid_fraction=0.5, common_prefix=10)


def test_a_system_and_earlier_turns_stand_before_an_instruction(tmp_path):
    row = {"instruction": "a", "output": "x"}
    past = {"history": [["q", "r"]]}
    rows = [row | {"system": "s"}, row | past, row | past | {"system": "s"}, row]
    transcript = "\n\nHuman: q\n\nAssistant: r\n\nHuman: a\n\nAssistant:"
    assert [one.prompt for one in read(tmp_path, rows)] == [
        "s\n\na\n\n", transcript, f"s{transcript}", "a\n\n",
    ]  # fmt: skip


def test_prompts_that_are_measured_on_and_learned_from_are_told(tmp_path, capsys):
    paths = [str(tmp_path / name) for name in ("train.jsonl", "valid.jsonl")]
    for path, names in zip(paths, ("abc", "cd"), strict=True):
        Path(path).write_text("".join(json.dumps({"prompt": name}) + "\n" for name in names))
    config = RowsConfig(train=paths[0], valid=paths[1])
    assert config.prompts("train") == ["a", "b", "c"] and config.prompts("valid") == ["c", "d"]
    assert f"1 of 3 prompts to learn from are in {paths[1]} too" in str(capsys.readouterr())
    RowsConfig(train=paths[0]).prompts("train")
    assert "too" not in str(capsys.readouterr())
    RowsConfig(train=paths[0], valid=paths[0]).prompts("train")
    assert f"3 of 3 prompts to learn from are in {paths[0]} too" in str(capsys.readouterr())


SPOKEN = [("prompter", "a"), ("bing", "b"), ("human", "c"), ("gpt", "the answer that was given")]


def test_prompts_are_read_from_questions_and_dialogues(tmp_path):
    path = tmp_path / "prompts.jsonl"
    rows = [
        {"turns": ["Why?", "And then?"]},
        {"question": "Who?"},
        {"messages": [{"role": "user", "content": "Hi"}]},
        {"conversations": [{"from": who, "value": what} for who, what in SPOKEN]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = RowsConfig(train=str(path), valid=str(path))
    found = config.prompts("train")
    assert found == [
        "Why?\n\n", "Who?\n\n", "\n\nHuman: Hi\n\nAssistant:",
        "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:",
    ]  # fmt: skip


def test_how_rows_are_divided_is_part_of_what_they_are_known_by(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "response": "b"}\n')
    divided, whole = RowsConfig(train=str(path)), RowsConfig(train=str(path), valid=str(path))
    before = divided.fingerprint, whole.fingerprint
    monkeypatch.setattr("lm.data.prompts.DIVISION", 1)
    assert divided.fingerprint != before[0] and whole.fingerprint == before[1]


def test_files_with_commas_in_their_names_have_a_fingerprint(tmp_path):
    odd, even = tmp_path / "a,b.jsonl", tmp_path / "c.jsonl"
    odd.write_text('{"prompt": "a", "response": "b"}\n')
    even.write_text("{}\n")
    found = RowsConfig(train=str(odd), valid=str(even)).fingerprint
    odd.rename(tmp_path / "a.jsonl")
    assert found == RowsConfig(train=str(tmp_path / "a.jsonl"), valid=str(even)).fingerprint


def test_what_is_about_a_folder_of_rows_is_neither_read_nor_part_of_what_the_rows_are(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "a", "response": "b"}) + "\n")
    alone = RowsConfig(train=str(tmp_path), valid=str(tmp_path / "rows.jsonl"))
    before = alone.fingerprint
    (tmp_path / "README.md").write_text("# Mine\n")
    (tmp_path / "LICENSE.txt").write_text("Free.\n")
    with_readme = alone.fingerprint
    (tmp_path / "README.md").write_text("# Ours\n")
    assert alone.fingerprint == with_readme
    (tmp_path / "LICENSE.txt").unlink()
    assert alone.fingerprint == before
    (tmp_path / "LICENSE.txt").write_text("Free.\n")
    assert len(alone.read(demonstrations(), "train")) == 1
