"""RACE's folders of passages: what is read of them, in which order, and what is refused."""

import gzip
import json

import pytest

from lm.core.errors import DataError
from lm.data.tasks import TaskConfig, read

PASSAGE = {
    "article": "Ann ran. Bob sat.",
    "questions": ["Who ran?", "Bob _ ."],
    "options": [["Bob", "Ann", "I", "we"], ["sat", "flew", "ran", "ate"]],
    "answers": ["B", "A"],
}


def put(root, **passages):
    """Passages by their places, as `dev_high_10` for `dev/high/10.txt`."""
    for place, passage in passages.items():
        path = root / "RACE" / (place.replace("_", "/") + ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(passage if isinstance(passage, bytes) else json.dumps(passage).encode())


def race(root, name="race", **fields):
    return read(TaskConfig(name=name, root=str(root), **fields))


def test_a_school_is_one_folder_and_race_is_both(tmp_path):
    put(tmp_path, train_high_10=PASSAGE, train_high_2=PASSAGE, train_middle_2=PASSAGE)
    put(tmp_path, dev_high_1=PASSAGE, dev_middle_3=PASSAGE, test_high_4=PASSAGE)
    task = race(tmp_path)
    expected = [f"{name}:{n}" for name in ("high2", "high10", "middle2") for n in (0, 1)]
    assert [record.id for record in task.train] == expected
    assert [record.id for record in task.valid] == ["high1:0", "high1:1", "middle3:0", "middle3:1"]
    assert [record.id for record in task.test] == ["high4:0", "high4:1"]
    assert [record.id for record in race(tmp_path, "race_middle").train] == expected[4:]
    assert race(tmp_path).references("train") == [1, 0] * 3


def test_files_may_be_named_and_gzipped(tmp_path):
    put(tmp_path, other_6=PASSAGE)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "5.txt.gz").write_bytes(gzip.compress(json.dumps(PASSAGE).encode()))
    task = race(tmp_path, train="mine/*.txt.gz", valid="RACE/other/*.txt")
    assert [record.id for record in task.train] == ["mine5:0", "mine5:1"]
    assert [record.id for record in task.valid] == ["other6:0", "other6:1"]


def test_questions_on_one_passage_are_held_out_together(tmp_path):
    passages = {f"train_high_{n}": PASSAGE | {"article": f"Text {n}."} for n in range(20)}
    put(tmp_path, **passages)
    task = race(tmp_path)
    train, valid = ({record.context for record in part} for part in (task.train, task.valid))
    assert len(valid) == 2 and not train & valid
    # the control: by context and question, as rows that name no document are, both sides have some
    rows = [{"context": f"Text {n}.", "question": q, "choices": ["a", "b"], "label": 0}
            for n in range(20) for q in ("x?", "y?")]  # fmt: skip
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = read(TaskConfig(name="choice", root=str(tmp_path)))
    assert {r.context for r in task.train} & {r.context for r in task.valid}


@pytest.mark.parametrize(
    ("passage", "problem"),
    [
        (b"{", r"2\.txt: no passage of RACE \(JSONDecodeError"),
        (b"[1]", r"2\.txt: no passage of RACE \(TypeError"),
        (b"\xe9", r"2\.txt:1: not UTF-8 at byte 0"),
        (PASSAGE | {"answers": ["B"]}, r"2\.txt: no passage of RACE \(ValueError"),
        (PASSAGE | {"answers": "BA"}, r"2\.txt: no passage of RACE .*must be lists"),
        ({"article": "x", "questions": [], "options": []}, r"2\.txt: no passage .*'answers'"),
        (PASSAGE | {"answers": ["B", "E"]}, r"2\.txt: questions\[1\]: not a row of this task"),
        (PASSAGE | {"answers": ["B", ""]}, r'2\.txt: questions\[1\]: missing "label"'),
        (PASSAGE | {"answers": ["AB", "A"]}, r"2\.txt: questions\[0\]: not a row"),
        (PASSAGE | {"options": [["a", "b"], ["c", 3]]}, r"questions\[1\]: choice 1 is 3, expected"),
        (PASSAGE | {"options": [["a", "b"], ["c"]]}, r"questions\[1\]: .choices. is"),
        (PASSAGE | {"options": [["a", "b"], None]}, r"questions\[1\]: .choices. is None, expected"),
        (PASSAGE | {"options": [["a", "b"], ["c"] * 2], "answers": ["B", "D"]}, "known: 0, 1"),
        (PASSAGE | {"questions": ["Who?", None]}, r"questions\[1\]: not a row .*question is None"),
        (PASSAGE | {"article": " "}, r"questions\[0\]: .context. is empty"),
    ],
)  # fmt: skip
def test_a_passage_that_is_none_is_named_with_its_file_or_question(tmp_path, passage, problem):
    put(tmp_path, train_high_1=PASSAGE, train_high_2=passage, dev_high_1=PASSAGE)
    with pytest.raises(DataError, match=problem):
        _ = race(tmp_path).train
    dropped = race(tmp_path, on_bad="drop").train
    assert [record.id for record in dropped][:2] == ["high1:0", "high1:1"]


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    (tmp_path / "RACE" / "train" / "high").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no files of race_high in .*: looked for train/high/\*"):
        race(tmp_path, "race_high")


def test_of_many_files_an_error_names_a_few(tmp_path):
    put(tmp_path, **{f"train_high_{n}": PASSAGE | {"article": "One."} for n in range(9)})
    with pytest.raises(DataError, match=r"one text in (\S+\.txt, ){4}\S+4\.txt and 4 more"):
        _ = race(tmp_path).valid
