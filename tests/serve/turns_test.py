"""What of a conversation a model that sees is asked with."""

import base64
import json

import numpy as np
import pytest

from lm.core.errors import DataError, TooLong
from lm.data.visual import VisualRows
from lm.data.visual.turns import turns_of
from lm.data.visual.written import written
from lm.serve.body import image_urls
from lm.serve.turns import Questions, given
from lm.text.byte import ByteTokenizer
from tests.serve.seeing import IMAGE_ID, picture

TOKENIZER = ByteTokenizer()
SLOTS = 4
END, IMAGE = TOKENIZER.end, [IMAGE_ID] * SLOTS


def user(text, *numbers, url=lambda n: "data:image/png;base64," + coded(n)):
    images = [{"type": "image_url", "image_url": {"url": url(n)}} for n in numbers]
    return {"role": "user", "content": [*images, {"type": "text", "text": text}]}


def coded(number):
    return base64.b64encode(picture(number)).decode()


def assistant(text):
    return {"role": "assistant", "content": text}


TALK = [user("one?", 1), assistant("yes"), user("two?", 2), assistant("no"), user("sure?")]


def asked(messages, room=200, *, dialogue=True):
    questions = Questions(TOKENIZER, IMAGE_ID, SLOTS, dialogue)
    ids, pictures = questions.prompt(turns_of(messages, given), room)
    return ids, [one.content for one in pictures]


def test_a_conversation_is_read_whole():
    ids, images = asked(TALK)
    assert ids == [
        *IMAGE, *b"one?\n", *b"yes", END, *IMAGE, *b"two?\n", *b"no", END, *b"sure?\n"
    ]  # fmt: skip
    assert images == [picture(1), picture(2)]


def test_an_image_is_read_as_other_programs_write_it():
    content = bytes(range(100))  # more than a line of MIME, and its base64 is filled
    lines, plain = base64.encodebytes(content).decode(), base64.b64encode(content).decode()
    assert lines.count("\n") == 2 and plain.endswith("==")
    for url in (
        f"data:image/png;base64,{lines}",
        f"data:image/png;base64,{plain.rstrip('=')}",
        f"data:image/png;charset=utf-8;base64,{plain}",
        f"DATA:Image/PNG;Base64,{plain}",
    ):
        assert given(url, "it").content == content
        body = {"messages": [user("one?", 1, url=lambda _, url=url: url)]}
        assert [*image_urls(body)] == [url]  # it is not counted as text


@pytest.mark.parametrize("code", ["A", "QQ=====", "Q=Q=", "QQ é", "QQ-_", "%3D"])
def test_what_is_no_base64_is_told_so(code):
    with pytest.raises(DataError, match="it is no base64"):
        given("data:image/png;base64," + code, "it")


def test_what_the_system_says_is_read_before_the_first_turn_and_stays_where_turns_are_forgotten():
    ids, images = asked(TALK)
    told = [{"role": "system", "content": "Be brief."}, *TALK]
    assert asked(told) == ([*b"Be brief.\n", *ids], images)
    assert asked(told, 10 + len(ids) - 1) == (
        [*b"Be brief.\n", *IMAGE, *b"two?\n", *b"no", END, *b"sure?\n"], [picture(2)]
    )  # fmt: skip
    with pytest.raises(TooLong, match="shorten it"):
        asked(told, 15)
    for nothing in ("", " \n"):
        assert asked([{"role": "system", "content": nothing}, *TALK]) == (ids, images)


def test_a_model_that_has_learned_questions_alone_refuses_a_system_turn():
    told = [{"role": "system", "content": "Be brief."}, *TALK]
    with pytest.raises(DataError, match="leave the system turn out"):
        asked(told, dialogue=False)
    nothing = [{"role": "system", "content": ""}, *TALK]
    assert asked(nothing, dialogue=False) == asked(TALK, dialogue=False)


def test_the_oldest_turns_are_forgotten_where_it_is_too_long():
    whole, _ = asked(TALK)
    ids, images = asked(TALK, len(whole) - 1)
    assert ids == [*IMAGE, *b"two?\n", *b"no", END, *b"sure?\n"] and images == [picture(2)]
    assert asked(TALK, len(ids) - 1) == ([*b"sure?\n"], [])
    with pytest.raises(DataError, match="shorten it"):
        asked(TALK, 5)


def test_a_model_that_has_learned_questions_alone_is_asked_the_newest_about_the_newest_image():
    assert asked(TALK, dialogue=False) == ([*IMAGE, *b"sure?\n"], [picture(2)])


def test_the_prompt_is_what_was_learned_from_the_same_conversation(tmp_path):
    for number in (1, 2):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    told = {"role": "system", "content": "Be brief."}
    messages = [
        told, user("one?", 1, url="{}.png".format), assistant("yes"),
        user("two?", 2, url="{}.png".format), assistant("no"), user("sure?"), assistant("so"),
    ]  # fmt: skip
    (tmp_path / "own.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
    rows = VisualRows(
        written(tmp_path / "own.jsonl"), TOKENIZER, image_id=IMAGE_ID, slots=SLOTS, side=16,
        length=64, seed=0,
    )  # fmt: skip
    batch, wrong = rows.take(np.array([0]), 0)
    ids, _ = asked([told, *TALK])
    assert not wrong and batch.tokens[0, : batch.prefix[0]].tolist() == ids
