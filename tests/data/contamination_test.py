import gzip
import json
import random

import pytest

from lm.core.errors import DataError
from lm.data import overlap
from lm.data.contamination import LEAST, MARGIN, cut, held_out_texts
from lm.data.overlap import GramIndex

QUESTION = "What is it that walks on four legs in the morning, on two at noon and on three?"


def prose(words, seed):
    chosen = random.Random(seed)
    return " ".join(f"w{chosen.randrange(10_000)}" for _ in range(words))


def cleaned(text, index):
    return cut(text, index.positions(text))


def test_an_overlap_goes_with_two_hundred_characters_on_each_side():
    before, after = prose(200, 0), prose(200, 1)
    text = f"{before} {QUESTION} {after}"
    first, second = cleaned(text, GramIndex([QUESTION]))
    assert first == text[: len(before) + 1 - MARGIN]
    assert second == text[len(before) + 1 + len(QUESTION) + MARGIN :]
    assert not GramIndex([QUESTION]).positions(f"{first} {second}")


def test_a_document_without_an_overlap_stays_as_it_is():
    for text in (prose(500, 0), "short", ""):
        assert cleaned(text, GramIndex([QUESTION])) == [text]


def test_pieces_of_fewer_than_two_hundred_characters_go():
    text = "x" * (MARGIN + LEAST - 1) + "#" + "y" * (MARGIN + LEAST)
    place = MARGIN + LEAST - 1
    assert cut(text, [(place, place + 1)]) == ["y" * LEAST]
    assert cut("x" * 300, [(100, 150)]) == []


def test_a_document_in_more_than_ten_pieces_goes_whole():
    def planted(times):
        return " ".join([prose(300, 0), *(f"{QUESTION} {prose(300, n)}" for n in range(times))])

    index = GramIndex([QUESTION])
    assert len(cleaned(planted(9), index)) == 10
    assert cleaned(planted(10), index) == []


def test_overlaps_near_each_other_make_one_hole():
    text = f"{prose(300, 0)} {QUESTION} {prose(20, 1)} {QUESTION} {prose(300, 2)}"
    assert len(cleaned(text, GramIndex([QUESTION]))) == 2


@pytest.mark.parametrize("place", [0.0, 0.999])
def test_a_book_is_cut_like_a_page(place, monkeypatch):
    """The bug of the original program let long documents through."""
    monkeypatch.setattr(overlap, "PIECE", 50_000)
    words = prose(90_000, 0)
    at = int(len(words) * place)
    at = words.index(" ", at)
    book = f"{words[:at]} {QUESTION} {words[at:]}"
    pieces = cleaned(book, GramIndex([QUESTION]))
    assert pieces and not any(QUESTION in piece for piece in pieces)
    assert len(book) - sum(map(len, pieces)) <= len(QUESTION) + 2 * MARGIN + LEAST


def test_the_strings_of_test_sets_are_read_from_their_own_files(tmp_path):
    rows = [{"ctx": "a", "endings": ["b", "c"], "label": 1}, {"q": {"text": "d", "n": [None, 2.0]}}]
    with gzip.open(tmp_path / "val.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / "dev.tsv").write_text("e\tf\ng\r\n")
    (tmp_path / "squad.json").write_text(json.dumps({"data": [{"context": "h"}]}))
    (tmp_path / "u.JSON").write_text('{"text": "i"}\n{"text": "j"}\n')
    (tmp_path / "README.md").write_text("no test set")
    assert "".join(held_out_texts(str(tmp_path))) == "efghijabcd"
    assert list(held_out_texts(f"{tmp_path}/*.tsv")) == ["e", "f", "g"]


def test_a_cell_of_csv_is_a_string_by_itself(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text(
        'id,ctx\r\n7,"one evening, a ""man"",\nnobody"\r\n\r\n8,' + "x" * 200_000 + "\n"
    )
    found = list(held_out_texts(str(tmp_path)))
    assert found[:4] == ["id", "ctx", "7", 'one evening, a "man",\nnobody']
    assert found[4:] == ["8", "x" * 200_000]


def test_what_is_no_test_set_is_refused_by_name(tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"a": ')
    with pytest.raises(DataError, match=r"bad\.jsonl: not JSON"):
        list(held_out_texts(str(tmp_path)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no test sets in"):
        list(held_out_texts(str(tmp_path / "empty")))
