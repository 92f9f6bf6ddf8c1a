"""What is put before a labeler."""

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import linen as nn

from experiments import instructgpt
from lm.core.config import bind
from lm.core.errors import ConfigError, DataError
from lm.data.comparisons import ComparisonsConfig
from lm.data.dialogue_comparisons import DialogueComparisonsConfig
from lm.data.dialogues import DialoguesConfig
from lm.data.prompts import HELD_OUT, RowsConfig
from lm.data.smalltalk import gold
from lm.models import gpt
from lm.rlhf import labeling
from lm.rlhf.labeling import Answer, LabelingConfig, answered, label, model_written, to_label
from lm.rlhf.rollout import roll_out
from lm.rlhf.source import Source
from lm.text.byte import ByteTokenizer
from lm.text.dialogue import Chat
from tests.rlhf.runs import MODEL, write_rows
from tests.text.dialogue_test import turns

LENGTHS = {"batch": 4, "prompt_length": 64, "answer_length": 8}
ASKED = [turns("next a"), turns("!s", "next a", "people", "again"),
         turns("next a", "people", "and b", "people", "and c")]  # fmt: skip


def ended(answers):
    """Answers that a model ended."""
    return [Answer(text, ended=True) for text in answers]


def speaking(monkeypatch, says):
    """A model that says what `says` does to each prompt; the prompts that it was given."""
    given = []

    def answered(asked, *rest, **lengths):
        given.extend(asked)
        said = [says(turns) for turns in asked]
        return [None if text is None else Answer(text, ended=True) for text in said]

    monkeypatch.setattr(labeling, "answered", answered)
    return given


def random_source(**changes):
    """A model that nobody has taught."""
    model = replace(MODEL, **changes)
    params = nn.unbox(jax.jit(gpt.init, static_argnums=0)(model, jax.random.key(0)))
    return Source(model, ByteTokenizer(), None, params, "")


def asked_of(source, mesh, prompt_length=8):
    return answered(
        ["a", "bc"], source.tokenizer, source, jax.random.key(0), mesh, batch=2,
        prompt_length=prompt_length, answer_length=16,
    )  # fmt: skip


@pytest.mark.slow
def test_a_model_of_more_rows_than_tokens_answers_in_tokens(monkeypatch, one_device):
    source = random_source(vocab=2 * MODEL.vocab)
    assert all(asked_of(source, one_device))
    # the control: with every row drawn an answer has no text
    monkeypatch.setattr(labeling, "roll_out", lambda *some, vocab, **more: roll_out(*some, **more))
    with pytest.raises(DataError, match="is not in the byte"):
        asked_of(source, one_device)


def test_prompt_and_answer_that_are_longer_than_the_context_are_refused(one_device):
    source = random_source()
    with pytest.raises(ConfigError, match=r"prompt_length 33 \+ answer_length 16 .*length 48 of"):
        asked_of(source, one_device, prompt_length=33)
    assert all(asked_of(source, one_device, prompt_length=32))  # the control


def test_every_answer_before_the_ranked_one_is_written_anew_turn_after_turn(monkeypatch):
    given = speaking(monkeypatch, lambda talk: f"model {len(talk)}")
    found = model_written(ASKED, Chat(ByteTokenizer()), None, jax.random.key(0), None, **LENGTHS)
    assert found == [
        turns("next a"),
        turns("!s", "next a", "model 2", "again"),
        turns("next a", "model 1", "and b", "model 3", "and c"),
    ]
    assert set(given) == {
        turns("!s", "next a"), turns("next a"), turns("next a", "model 1", "and b")
    }  # fmt: skip


def test_every_turn_is_drawn_with_a_key_of_its_own(monkeypatch):
    keys = []

    def answered(asked, form, source, key, mesh, **lengths):
        keys.append(tuple(jax.random.key_data(key).tolist()))
        return ended("x" for _ in asked)

    monkeypatch.setattr(labeling, "answered", answered)
    for seed in (0, 0, 1):
        key = jax.random.key(seed)
        model_written(ASKED, Chat(ByteTokenizer()), None, key, None, **LENGTHS)
    first, again, other = (keys[at : at + 2] for at in (0, 2, 4))
    assert len(keys) == 6 and first == again and len({*first, *other}) == 4


def test_a_conversation_that_no_longer_fits_is_left_out(monkeypatch):
    speaking(monkeypatch, lambda talk: "x" if len(talk) < 3 else None)
    found = model_written(ASKED, Chat(ByteTokenizer()), None, jax.random.key(0), None, **LENGTHS)
    assert found == [turns("next a"), turns("!s", "next a", "x", "again")]


def test_rankings_are_written_as_the_labelling_page_does_and_read_back(monkeypatch, tmp_path):
    said = iter(["it is b.", " ", "b", "c."])

    def answered(asked, *rest, **lengths):
        answer = next(said)
        return [Answer(answer, ended=len(answer) > 1), None]

    monkeypatch.setattr(labeling, "answered", answered)
    out = tmp_path / "labels.jsonl"

    def judge(prompts, answers, ended):
        return np.array(gold(prompts, answers))

    config = LabelingConfig(answers=(4, 4), noise=0.0)
    found = label(config, {"train": ASKED[:2]}, Chat(ByteTokenizer()), None, judge, out, None,
                  prompt_length=64, answer_length=8)  # fmt: skip
    assert found["rankings"] == 1 and found["bayes_accuracy"] == 1.0
    row = json.loads(out.read_text())
    assert (
        row["kind"] == "ranking" and row["ranks"][0] == 1 and sorted(row["ranks"]) == [1, 2, 3, 4]
    )
    (read,) = DialogueComparisonsConfig(train=str(out), valid=str(out)).compared("train")
    assert row["answers"][1] == "" and row["ranks"][1] == 4  # no labeler prefers nothing to words
    assert read.ended == (True, True, False, True)  # an answer of nothing is whole
    assert read.prompt == ASKED[0] and read.answers[0] == "it is b." and read.ranks[0] == 0


def test_rankings_of_other_runs_replace_none(monkeypatch, tmp_path):
    said = itertools.count()
    monkeypatch.setattr(
        labeling, "answered", lambda asked, *_, **__: ended(f"{next(said)}." for _ in asked)
    )
    config, files = LabelingConfig(answers=(2, 2)), []
    for number, prompts in enumerate((ASKED[:2], ASKED[1:])):
        files.append(str(tmp_path / f"{number}.jsonl"))
        labeled(config, {"train": prompts}, Chat(ByteTokenizer()), Path(files[-1]), len)
    both = ",".join(files)
    assert len(DialogueComparisonsConfig(train=both, valid=both).compared("train")) == 4
    twice = ",".join(
        [files[0], str(shutil.copy(files[0], tmp_path / "again.jsonl"))]
    )  # the control
    assert len(DialogueComparisonsConfig(train=twice, valid=twice).compared("train")) == 2


def test_a_judge_that_gives_no_number_leaves_no_rankings(monkeypatch, tmp_path):
    number = itertools.count()
    monkeypatch.setattr(
        labeling, "answered", lambda asked, *_, **__: ended(str(next(number)) for _ in asked)
    )
    out = tmp_path / "labels.jsonl"
    with pytest.raises(DataError, match="the judge gave .*nan"):
        label(
            LabelingConfig(prompts=2, answers=(2, 2), batch=2), {"train": ASKED[:2]},
            Chat(ByteTokenizer()), None, lambda prompts, answers, ended: np.array([np.nan] * 2),
            out, None, prompt_length=64, answer_length=8,
        )  # fmt: skip
    assert not out.exists()


def labeled(config, parts, form, out, score):
    """The figures and the rows of rankings by a function of an answer."""
    found = label(
        config, parts, form, None, lambda _, answers, ended: np.array([score(a) for a in answers]),
        out, None, prompt_length=64, answer_length=8,
    )  # fmt: skip
    return found, [json.loads(line) for line in out.read_text().splitlines()]


def test_answers_that_a_judge_without_noise_likes_alike_are_tied(monkeypatch, tmp_path):
    said = iter(["aa", "bb", "c", "dd"])
    monkeypatch.setattr(labeling, "answered", lambda asked, *_, **__: ended([next(said)]))
    config, tokenizer = LabelingConfig(answers=(4, 4), noise=0.0), ByteTokenizer()
    found, (row,) = labeled(config, {"train": ["p"]}, tokenizer, tmp_path / "a.jsonl", len)
    assert row["ranks"] == [0, 0, 1, 0] and found["pairs"] == 3 and found["bayes_accuracy"] == 1.0
    said = iter(["aa", "bb", "c", "dd"])  # the control: a noisy judge has an order
    noisy = LabelingConfig(answers=(4, 4), noise=0.1)
    found, (row,) = labeled(noisy, {"train": ["p"]}, tokenizer, tmp_path / "b.jsonl", len)
    assert sorted(row["ranks"]) == [0, 1, 2, 3] and found["pairs"] == 6


@pytest.mark.parametrize("liked", [True, False])
def test_the_bayes_limit_knows_that_an_empty_answer_is_last(liked, monkeypatch, tmp_path):
    said = iter(["", "aa", "b"])
    monkeypatch.setattr(labeling, "answered", lambda asked, *_, **__: ended([next(said)]))
    config, out = LabelingConfig(answers=(3, 3), noise=0.0), tmp_path / "rows.jsonl"
    score = {"": 9.0 if liked else -1.0, "aa": 2.0, "b": 1.0}
    found, (row,) = labeled(config, {"train": ["p"]}, ByteTokenizer(), out, score.get)
    assert row["ranks"] == [2, 0, 1] and row["scores"] == list(score.values())
    assert (found["pairs"], found["bayes_accuracy"]) == (3, 1.0)


def test_the_bayes_limit_is_a_mean_over_the_prompts_that_are_held_out(monkeypatch, tmp_path):
    said = iter([["x", "a"], ["y", "bb"], ["z", "ccc"]])
    monkeypatch.setattr(labeling, "answered", lambda asked, *_, **__: ended(next(said)))
    parts = {"train": ["equal"], "valid": ["clear"]}  # noise decides the first, and not the second
    config, out = LabelingConfig(answers=(3, 3), noise=1e-3), tmp_path / "rows.jsonl"
    found, rows = labeled(config, parts, ByteTokenizer(), out, len)
    assert [row[HELD_OUT] for row in rows] == [False, True]
    assert (found["pairs"], found["bayes_accuracy"]) == (6, 1.0)  # over all pairs it is 3/4


def test_labelers_take_turns_in_each_part_over_what_has_an_order(monkeypatch, tmp_path):
    asked = {"train": ["a1", "b1"], "valid": ["same", "a2", "b2"]}
    said = iter([["x"] * 5, ["yy", "yy", "x", "yy", "yy"]])
    monkeypatch.setattr(labeling, "answered", lambda *_, **__: ended(next(said)))
    config = LabelingConfig(answers=(2, 2), noise=0.0, labelers=2)
    _, rows = labeled(config, asked, ByteTokenizer(), tmp_path / "rows.jsonl", len)
    assert [(row["prompt"], row["labeler"]) for row in rows] == [
        ("a1", "judge 0"), ("b1", "judge 1"), ("a2", "judge 0"), ("b2", "judge 1")
    ]  # fmt: skip


def test_every_prompt_has_its_own_number_of_answers_from_four_to_nine(monkeypatch, tmp_path):
    number = itertools.count()
    monkeypatch.setattr(
        labeling, "answered", lambda asked, *_, **__: ended(str(next(number)) for _ in asked)
    )
    parts = {"train": [f"p{n}" for n in range(40)], "valid": [f"q{n}" for n in range(20)]}

    def drawn(name, **config):
        found, rows = labeled(
            LabelingConfig(**config), parts, ByteTokenizer(), tmp_path / name, len
        )
        return found, [len(row["answers"]) for row in rows]

    found, counts = drawn("a.jsonl", noise=0.01)
    assert set(counts) == {4, 5, 6, 7, 8, 9}
    assert found["pairs"] == sum(count * (count - 1) // 2 for count in counts)
    assert drawn("b.jsonl", noise=0.01)[1] == counts  # the seed says how many
    assert drawn("c.jsonl", noise=0.01, seed=1)[1] != counts
    assert set(drawn("d.jsonl", answers=(4, 4))[1]) == {4}  # the control: one number for all


@pytest.mark.parametrize("answers", [(9, 4), (1, 4), (4, 10)])
def test_a_range_that_no_ranking_can_have_is_refused_in_one_line(answers):
    with pytest.raises(
        ConfigError, match=r"labeling.answers .* got \(\d+, \d+\): \(4, 9\)"
    ) as told:
        LabelingConfig(answers=answers)
    assert "\n" not in str(told.value)
    with pytest.raises(ConfigError, match="labeling.answers: expected .*got '4'"):
        bind(instructgpt.pipeline(), {"labeling.answers": "4"})


def test_the_bayes_limit_is_that_of_bradley_and_terry_whatever_the_number_of_answers(
    monkeypatch, tmp_path
):
    """Two scores a noise apart: the better is preferred in 1 / (1 + 1/e) of the pairs of them."""
    number = itertools.count()
    monkeypatch.setattr(
        labeling, "answered", lambda asked, *_, **__: ended(str(next(number)) for _ in asked)
    )
    parts = {"train": ["p"], "valid": [f"p{n}" for n in range(1500)]}

    def limit(gap):
        score = {True: gap, False: 0.0}
        found, rows = labeled(
            LabelingConfig(noise=0.1), parts, ByteTokenizer(), tmp_path / f"{gap}.jsonl",
            lambda answer: score[int(answer) % 2 == 0],
        )  # fmt: skip
        shares = [
            [truth for one, other in itertools.combinations(row["scores"], 2)
             for truth in [1 / (1 + np.exp(-abs(one - other) / 0.1))]]
            for row in rows if row[HELD_OUT]
        ]  # fmt: skip
        return found["bayes_accuracy"], np.mean([np.mean(some) for some in shares])

    for gap in (0.1, 0.3):
        measured, expected = limit(gap)
        assert abs(measured - expected) < 0.01
    assert limit(0.0)[0] == 0.5  # the control: nobody is right about what is alike


def users(tmp_path):
    rows = [{"prompt": f"p{n}", "response": "a", "user": f"{n % 9}"} for n in range(90)]
    return RowsConfig(train=write_rows(tmp_path / "rows.jsonl", rows), valid_fraction=0.4)


def files(tmp_path):
    rows = [{"prompt": f"p{n}", "response": "a"} for n in range(90)]
    one, other = (write_rows(tmp_path / f"{n}.jsonl", rows[n::2]) for n in range(2))
    return RowsConfig(train=one, valid=other)


def fractions(tmp_path):
    rows = [{"prompt": f"p{n}", "response": "a"} for n in range(90)]
    return RowsConfig(train=write_rows(tmp_path / "rows.jsonl", rows), valid_fraction=0.5)


def spoken(tmp_path):
    rows = [{"messages": [{"role": "user", "content": f"p{n}"}, {"role": "assistant",
            "content": "a"}], "user": f"{n % 9}"} for n in range(90)]  # fmt: skip
    return DialoguesConfig(train=write_rows(tmp_path / "rows.jsonl", rows), valid_fraction=0.4)


@pytest.mark.parametrize("of", [users, files, fractions, spoken])
def test_no_prompt_that_a_policy_is_measured_on_is_learned_from_in_comparisons(
    of, monkeypatch, tmp_path
):
    data = of(tmp_path)
    number = itertools.count()
    monkeypatch.setattr(
        labeling, "answered", lambda asked, *_, **__: ended(str(next(number)) for _ in asked)
    )
    out, form = tmp_path / "ranked.jsonl", data.form(ByteTokenizer())
    parts = to_label(LabelingConfig(prompts=90, answers=(2, 2)), data)
    _, rows = labeled(LabelingConfig(answers=(2, 2)), parts, form, out, len)
    kind = DialogueComparisonsConfig if of is spoken else ComparisonsConfig
    config, held_out = kind(train=str(out)), set(data.prompts("valid"))
    learned = {one.prompt for one in config.compared("train")}
    assert learned and not learned & held_out
    assert {one.prompt for one in config.compared("valid")} <= held_out
    for row in rows:  # the control: without their mark some are learned from
        del row[HELD_OUT]
    unmarked = kind(train=write_rows(tmp_path / "unmarked.jsonl", rows))
    assert {one.prompt for one in unmarked.compared("train")} & held_out


def test_rankings_of_prompts_that_show_examples_are_all_learned_from(tmp_path):
    tasks = [f"Task {n}: tell in one word what this is about. " + "Say no more. " * 20
             for n in range(40)]  # fmt: skip
    rows = [{"instruction": task, "examples": [{"input": f"{n}", "output": "x"} for n in range(4)]}
            for task in tasks]  # fmt: skip
    sized = instructgpt.pipeline("1.3b")
    asked = replace(sized.ppo.data, train=write_rows(tmp_path / "rows.jsonl", rows))
    parts = to_label(replace(sized.labeling, prompts=120), asked)
    labels = [labeling.record(prompt, ["a", "b"], [0, 1], "j") | {HELD_OUT: part == "valid"}
              for part, some in parts.items() for prompt in some]  # fmt: skip
    data = replace(sized.reward.data, train=write_rows(tmp_path / "labels.jsonl", labels))
    read = {part: [one.prompt for one in some] for part, some in data.parts().items()}
    assert read == parts and len(read["train"]) > 100
    people = [{**row, HELD_OUT: None} for row in labels]  # the control: who does not say so is read
    data = replace(data, train=write_rows(tmp_path / "people.jsonl", people))
    assert sum(map(len, data.parts().values())) == len(tasks)


@pytest.mark.parametrize("process", [0, 1])
def test_what_is_known_of_rankings_is_there_before_them_and_one_process_writes_both(
    monkeypatch, tmp_path, process
):
    out, seen = tmp_path / "rows.jsonl", []
    monkeypatch.setattr(jax, "process_index", lambda: process)
    known, answers = tmp_path / "labeling.json", iter("ab")
    monkeypatch.setattr(
        labeling, "write_rows", lambda *_: seen.extend(json.loads(known.read_text()))
    )
    monkeypatch.setattr(labeling, "answered", lambda asked, *_, **__: ended([next(answers)]))
    found = label(
        LabelingConfig(answers=(2, 2)), {"train": ["p"]}, ByteTokenizer(), None,
        lambda *_: np.arange(2.0), out, None, prompt_length=8, answer_length=8,
    )  # fmt: skip
    assert seen == ([] if process else list(found)) and known.exists() == (process == 0)
