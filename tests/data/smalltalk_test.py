import json

import numpy as np
import pytest

from lm.data.dialogues import DialoguesConfig
from lm.data.smalltalk import ALPHABET, Smalltalk, expected, gold, right, said
from tests.text.dialogue_test import turns


def test_what_is_asked_for_is_the_letter_that_the_alphabet_gives():
    assert expected(turns("next c")) == "d" and expected(turns("prev a")) == "h"
    assert expected(turns("417: self g")) == "g" and expected(turns("next h")) == "a"


def test_a_follow_up_is_answered_from_what_the_user_said_before_not_from_the_answers():
    assert expected(turns("next c", "x", "and f")) == "g"
    assert expected(turns("next c", "x", "again")) == "d"
    assert expected(turns("prev c", "x", "and f", "y", "again")) == "e"
    for alone in ("and f", "again", "hello there"):  # without history nobody can tell
        assert expected(turns(alone)) == "" and not right(turns(alone), "f")


def test_answers_in_every_manner_hold_their_letter_and_others_none():
    assert [said(a) for a in ("d", "d.", "it is d", "it is d.", "d!")] == ["d"] * 5
    assert [said(a) for a in ("", "dd", "it is", "z", "next d")] == [""] * 5


def test_the_gold_score_likes_the_right_letter_a_sentence_and_a_full_stop():
    asked = [turns("next c")] * 6
    answers = ["it is d.", "d", "d.", "it is d", "it is e.", "nonsense."]
    assert gold(asked, answers) == [2.0, 1.0, 1.5, 1.5, 1.0, 0.0]


def test_files_have_the_share_of_wrong_answers_and_the_same_seed_writes_the_same(tmp_path):
    talk = Smalltalk(conversations=600, single=600, wrong=0.4)
    for name in ("a", "b"):
        talk.write(tmp_path / name)
    for file in ("conversations.jsonl", "single.jsonl", "text.txt"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "a" / "single.jsonl").open()]
    share = np.mean([right(turns(row["prompt"]), row["response"]) for row in rows])
    exact = 1 - 0.4 * (1 - 1 / len(ALPHABET))  # a letter drawn at random may be right
    assert abs(share - exact) < 0.06


@pytest.mark.parametrize("name", ["conversations", "single"])
def test_no_question_that_is_held_out_stands_in_the_text_of_pretraining(name, tmp_path):
    Smalltalk().write(tmp_path)
    text = (tmp_path / "text.txt").read_text()
    known = {sentence.rpartition(" is ")[0] for sentence in text.split(". ")}
    data = DialoguesConfig(train=str(tmp_path / f"{name}.jsonl"), asked="every")
    asked, learned = (
        {turns[0].content for turns in data.prompts(part)} for part in ("valid", "train")
    )
    assert len(asked) > 100 and not asked & known
    assert len(learned & known) > 100  # the control: of the others many do
