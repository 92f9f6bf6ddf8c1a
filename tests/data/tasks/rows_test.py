import json

import pytest

from lm.core.errors import DataError
from lm.data.tasks.rows import Problem, conll, jsonl, quoted_csv, squad


def values(found):
    return [row.values for row in found]


def problems(found):
    return [str(row) for row in found if isinstance(row, Problem)]


def test_a_quoted_cell_holds_commas_quotation_marks_and_line_ends(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'x,y\r\n"a, ""b""\nc",1\r\n\r\nd,2\r\n')
    assert values(quoted_csv(path)) == [{"x": 'a, "b"\nc', "y": "1"}, {"x": "d", "y": "2"}]


def test_a_csv_that_breaks_off_inside_a_quotation_is_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('x,y\na,1\nb\n"c,2\n')
    assert problems(quoted_csv(path)) == [
        f"{path}:3: 1 columns, expected 2 (x, y)",
        f"{path}:4: not CSV (unexpected end of data)",
    ]


def test_the_rows_of_a_csv_behind_one_that_is_ill_quoted_are_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('x,y\na,1\n"b"c,2\n"d\nd""","e"f\ng,3\n')
    assert values(row for row in quoted_csv(path) if not isinstance(row, Problem)) == [
        {"x": "a", "y": "1"}, {"x": "g", "y": "3"}
    ]  # fmt: skip
    assert problems(quoted_csv(path)) == [
        f"{path}:3: not CSV (',' expected after '\"')",
        f"{path}:4: not CSV (',' expected after '\"')",
    ]


@pytest.mark.parametrize("row", ['"b,2', '"b "c" d\nmore, of it",2'])
def test_a_quotation_that_stays_open_is_the_last_problem_of_a_csv(tmp_path, row):
    path = tmp_path / "a.csv"
    path.write_text(f"x,y\na,1\n{row}\ne,3\n")
    found = list(quoted_csv(path))
    assert found[0].values == {"x": "a", "y": "1"} and len(found) == 2
    assert found[1].where == f"{path}:3" and found[1].last


def test_a_cell_may_be_longer_than_the_readers_own_limit(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"x,y\n{'long ' * 30_000},1\n")
    assert [len(row["x"]) for row in values(quoted_csv(path))] == [150_000]


def test_lines_that_are_no_json_object_are_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 1\n[1]\n3\n' + "[" * 100_000 + "\n")
    assert problems(jsonl(path)) == [
        f"{path}:3: not JSON",
        f"{path}:4: a JSON list, expected an object",
        f"{path}:5: a JSON int, expected an object",
        f"{path}:6: not JSON",
    ]


def test_the_objects_of_a_list_are_rows_by_their_numbers_and_so_are_lines_of_a_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('\ufeff[{"a": 1},\n 3, {"a": 2}]')
    found = list(jsonl(path))
    assert [(row.where, row.name) for row in (found[0], found[2])] == [
        (f"{path}: row 1", "a:1"), (f"{path}: row 3", "a:3"),
    ]  # fmt: skip
    assert problems([found[1]]) == [f"{path}: row 2: a JSON int, expected an object"]
    path.write_text('{"a": 1}\n[2]\n')
    first, second = jsonl(path)
    assert (first.where, first.values) == (f"{path}:1", {"a": 1})
    assert str(second) == f"{path}:2: a JSON list, expected an object"


def test_a_field_that_is_null_is_none(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": null, "b": {"c": null}, "d": 0}\n')
    assert values(jsonl(path)) == [{"b": {"c": None}, "d": 0}]


def test_sentences_end_at_blank_lines_and_know_their_document(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("-DOCSTART-\tO\n\na\tO\nb\tB-X\n  \n\nc\tO\n-DOCSTART-\tO\n\nd\tO")
    found = list(conll(path, 0, -1))
    assert [row.values["words"] for row in found] == [["a", "b"], ["c"], ["d"]]
    assert [row.values["document"] for row in found] == ["a:1", "a:1", "a:8"]
    assert [row.where for row in found] == [f"{path}:3", f"{path}:7", f"{path}:10"]


def test_a_hash_begins_a_comment_only_where_it_is_no_column(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("# a comment of five words\n#\tO\n#yes\tB-X\n")
    assert values(conll(path, 0, 1))[0]["words"] == ["#", "#yes"]
    path.write_text("# O\n#yes B-X\n")
    assert values(conll(path, 0, 1))[0]["words"] == ["#", "#yes"]


def test_a_sentence_with_a_ragged_line_is_a_problem_and_the_next_one_is_read(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("a O\nb\nc O\n\nd O\n")
    first, second = conll(path, 0, -1)
    assert str(first) == f"{path}:2: 1 columns, expected 2"
    assert second.values["words"] == ["d"]
    assert problems(conll(path, 3, -1))[0] == f"{path}:1: 2 columns, expected 2"


def test_words_alone_are_sentences_without_tags(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("a\nb\n")
    assert values(conll(path, 0, -1))[0]["tags"] is None


@pytest.mark.parametrize("text", ["", "[]", '{"data": 3}', '{"data": [{"paragraphs": [{}]}]}', "{"])
def test_json_that_is_not_squads_is_refused(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match="a.json: not SQuAD's JSON .*expected data"):
        list(squad(path))


def test_a_question_is_named_by_its_place(tmp_path):
    path = tmp_path / "a.json"
    questions = [{"id": "q"}, "what?"]
    article = {"title": "T", "paragraphs": [{"context": "C", "qas": questions}]}
    path.write_text(json.dumps({"data": [article]}))
    row, problem = squad(path)
    assert row.values == {"id": "q", "title": "T", "section": None, "context": "C"}
    expected = f"{path}: data[0].paragraphs[0].qas[1]: a JSON str, expected an object"
    assert str(problem) == expected
