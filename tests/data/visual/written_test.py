"""Files of one's own: questions and conversations about images, in the forms that others write."""

import gzip
import json
import re

import pytest

from lm.core.errors import DataError
from lm.data.visual.example import Said, Stored, unfolded
from lm.data.visual.rows import encode
from lm.data.visual.written import written
from lm.text.byte import ByteTokenizer


def test_ones_own_file_may_hold_several_images_in_a_row(tmp_path):
    path = tmp_path / "mine.jsonl"
    parts = [{"image": "a.png"}, {"text": "or"}, {"image": "b.png"}]
    path.write_text(
        json.dumps({"parts": parts, "answer": "a"})
        + "\n"
        + json.dumps({"image": "a.png", "question": "is it?", "answer": "yes"})
    )
    first, second = written(path)
    assert [type(part).__name__ for part in first.parts] == ["Stored", "str", "Stored", "str"]
    assert second.question == "is it?" and second.answers == ("yes",)
    path.write_text('{"parts": [{"sound": "a.wav"}], "answer": "a"}')
    with pytest.raises(DataError, match=r"mine.jsonl:1: a part is .* not .*a\.wav"):
        written(path)
    path.write_text("[1]")
    with pytest.raises(DataError, match=r"mine.jsonl:1: a JSON list, expected an object"):
        written(path)


def test_an_answer_may_be_one_of_several_and_be_judged_as_its_row_says(tmp_path):
    path = tmp_path / "own.jsonl"

    def read(**values):
        path.write_text(json.dumps({"image": "a.png", "question": "a?", **values}))
        (one,) = written(path)
        return one.answers, one.match

    assert read(answer="b") == (("b",), "exact")
    assert read(answer=["12 May", 12], match="anls") == (("12 May", "12"), "anls")
    assert read(answer=["b"], parts=[{"text": "a?"}], match="relaxed") == (("b",), "relaxed")
    for values, words in (
        ({"answer": []}, 'a row has no text "answer"'),
        ({"answer": ["b", None]}, 'a row has no text "answer"'),
        ({"answer": ["b", " "]}, '"answer" is blank'),
        ({"answer": "b", "match": ["anls"]}, '"match" is .*; known: exact, relaxed, anls, caption'),
    ):
        with pytest.raises(DataError, match=f"own.jsonl:1: {words}"):
            read(**values)


@pytest.mark.parametrize("parts", [
    [{"text": "which is it?"}, {"image": "a.png"}],
    [{"image": "a.png"}, {"text": "which?"}, {"image": "b.png"}],
    [{"text": "is it?"}],
])  # fmt: skip
def test_parts_are_put_as_the_same_turn_of_a_conversation_is(tmp_path, parts):
    content = [
        {"type": "image_url", "image_url": {"url": part["image"]}} if "image" in part
        else {"type": "text", "text": part["text"]} for part in parts
    ]  # fmt: skip
    talk = [{"role": "user", "content": content}, {"role": "assistant", "content": "yes"}]
    path = tmp_path / "own.jsonl"
    rows = [{"parts": parts, "answer": "yes"}, {"messages": talk}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, other = written(path)
    assert one.parts == other.parts and one.question.endswith("?")


def test_a_file_of_ones_own_may_have_blank_lines_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "own.jsonl"
    row = json.dumps({"image": "a.png", "question": "a?", "answer": "b"})
    path.write_bytes(b"\xef\xbb\xbf" + f"{row}\n\n{row}\n".encode())
    assert len(written(path)) == 2


@pytest.mark.parametrize(("content", "words"), [
    (b'{"image": "\xe9.png"}', ":1: not UTF-8"),
    (b"[" * 100_000, ":1: not JSON"),
    (b"[]", ":1: a JSON list"),
    (b'\n{"question": "a?", "answer": "b"}', ':2: a row has no text "image"'),
])  # fmt: skip
def test_a_file_that_is_not_clean_is_one_line_with_its_place(tmp_path, content, words):
    path = tmp_path / "own.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        written(path)
    assert str(error.value).startswith(f"{path}{words}") and "\n" not in str(error.value)


def test_a_cut_or_false_gzip_is_one_line(tmp_path):
    path = tmp_path / "own.jsonl.gz"
    for content in (b"none", gzip.compress(b"x" * 99)[:20]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="damaged gzip"):
            written(path)


def test_a_name_that_no_file_can_have_is_an_image_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="has no image"):
        Stored(str(tmp_path), "a\0.png").pixels(4)


MESSAGES = [
    {"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "a.png"}}, {"type": "text", "text": "one?"},
    ]},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "sure?"},
    {"role": "assistant", "content": "no"},
]  # fmt: skip
LLAVA = [
    {"from": "human", "value": "<image>\none?"}, {"from": "gpt", "value": "yes"},
    {"from": "human", "value": "sure?"}, {"from": "gpt", "value": "no"},
]  # fmt: skip

MARKED = [{"role": "user", "content": "<image>one?"}, *MESSAGES[1:]]


@pytest.mark.parametrize("row", [
    {"messages": MESSAGES},
    {"messages": [*MESSAGES, {"role": "user", "content": "and?"}]},
    {"messages": [
        *MESSAGES, {"role": "user", "content": "and?"}, {"role": "assistant", "content": " "},
    ]},
    {"image": "a.png", "conversations": LLAVA},
    {"image": ["a.png"], "conversations": LLAVA},
    {"images": ["a.png"], "conversations": LLAVA},
    {"images": ["a.png"], "messages": MARKED},
    {"image": "a.png", "messages": MARKED},
    {"images": [], "messages": MESSAGES},
])  # fmt: skip
def test_a_conversation_of_ones_own_is_read(tmp_path, row):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (found,) = written(path)
    assert found.parts == (
        Stored(str(tmp_path), "a.png"), "one?\n", Said("yes"), "sure?\n"
    ) and isinstance(found.parts[2], Said)  # fmt: skip
    assert found.answers == ("no",)


def test_an_image_within_a_sentence_leaves_its_words_apart(tmp_path):
    said = [{"from": "human", "value": "What is <image> doing?"}, {"from": "gpt", "value": "x"}]
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"image": "a.png", "conversations": said}))
    (found,) = written(path)
    assert found.question.split() == ["What", "is", "doing?"]


def test_a_mark_in_messages_without_images_is_text(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"messages": MARKED}))
    (found,) = written(path)
    assert found.question.startswith("<image>one?") and not found.pictures


@pytest.mark.parametrize(("row", "words"), [
    ({"messages": MESSAGES[1:]}, "message 1 is the assistant's"),
    ({"messages": MESSAGES[:1]}, "no answer of the assistant"),
    ({"messages": [{"role": "system", "content": "Be brief."}, MESSAGES[0]]}, "no answer of the"),
    ({"messages": [MESSAGES[0], {"role": "assistant", "content": " "}]}, "no answer of the"),
    ({"image": "a.png", "question": "a?", "answer": " "}, '"answer" is blank'),
    ({"image": "a.png", "question": "a\ud83d?", "answer": "b"}, "half a surrogate pair"),
    ({"parts": [{"text": "a\ud83d?"}], "answer": "b"}, "half a surrogate pair"),
    ({"messages": 3}, "messages is no list"),
    ({"messages": []}, "no user turn"),
    ({"image": "a.png", "conversations": LLAVA[2:]}, "1 of 1 images have no <image>"),
    ({"images": ["a.png"], "messages": MESSAGES[2:]}, "1 of 1 images have no <image>"),
    ({"images": ["a.png", "b.png"], "messages": MARKED}, "1 of 2 images have no <image>"),
    ({"images": ["a.png"], "messages": MESSAGES}, "1 of 1 images have no <image>"),
    ({"images": [], "messages": MARKED}, "turn 1 has an <image> more"),
    ({"images": {"a": "a.png"}, "messages": MARKED}, "neither a file's name nor a list of names"),
    ({"images": [3], "messages": MARKED}, "part 1 of message 1 has no URL"),
    ({"images": ["a.png"], "messages": 3}, "messages is no list"),
    ({"conversations": LLAVA}, "turn 1 has an <image> more"),
    ({"conversations": [{"from": "bot", "value": "x"}]}, "turn 1 has no text from human or gpt"),
    ({"conversations": [{"from": ["human"], "value": "x"}]}, "turn 1 has no text from human"),
    ({"image": "https://a/b.png", "conversations": LLAVA}, "name a file beside the .jsonl"),
    ({"image": [3], "conversations": LLAVA}, "part 1 of message 1 has no URL"),
])  # fmt: skip
def test_a_conversation_of_another_form_is_refused_with_its_line(tmp_path, row, words):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"messages": MESSAGES}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=re.escape(words)) as error:
        written(path)
    assert str(error.value).startswith(f"{path}:2: ")


def test_answers_that_are_not_to_be_learned_are_shown_and_not_learned(tmp_path, capsys):
    def turns(weight):
        said = [("user", "q", {}), ("assistant", "BAD", {"weight": weight}), ("user", "r", {})]
        return [{"role": role, "content": text} | more for role, text, more in said]

    path = tmp_path / "set.jsonl"
    right = {"role": "assistant", "content": "good"}
    rows = [{"messages": [*turns(0), right]}, {"messages": [*turns(1), right]}]
    rows += [{"messages": [*turns(1), right], "label": label} for label in (False, True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = written(path)
    assert len(found) == 3 and '1 rows with "label": false' in "".join(capsys.readouterr())
    tokenizer = ByteTokenizer()
    learned = []
    for one in encode(found, tokenizer, image_id=999, slots=1, every=True):
        pairs = zip(one.ids, one.learned, strict=True)
        learned.append(tokenizer.decode([i for i, yes in pairs if yes and i != tokenizer.end]))
    assert learned == ["good", "BADgood", "BADgood"]
    assert [len(unfolded(one)) for one in found] == [1, 2, 2]
    assert all("BAD" in one.parts for one in found)
