"""Text behind links is read, each file once, and a link to nothing is told."""

import gzip
import os

import pytest

from lm.core.errors import DataError
from lm.data.contamination import held_out_files
from lm.data.sources import documents, files, refuse_among


def texts(spec):
    return [document.text for document in documents(str(spec))]


@pytest.fixture
def books(tmp_path):
    """A folder with text in it, behind a link, and a link back to itself."""
    for name in ("books/a.txt", "books/z/b.txt", "disk/deep/c.txt", "other.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "books" / "more").symlink_to(tmp_path / "disk")
    (tmp_path / "books" / "z" / "self").symlink_to("..")
    return tmp_path / "books"


def test_text_behind_a_link_to_a_folder_is_read_and_a_link_back_is_left_out(books, capsys):
    assert texts(books) == ["books/a.txt", "disk/deep/c.txt", "books/z/b.txt"]
    told = capsys.readouterr().err
    assert told.startswith(f"warning: {books}/z/self is linked to what is read already")
    assert told.count("\n") == 1


def test_a_link_to_a_later_folder_of_the_same_texts_changes_neither_their_names_nor_their_order(
    books,
):
    before = [document.name for document in documents(str(books))]
    (books / "a").mkdir()
    (books / "a" / "early").symlink_to("../z")
    assert [document.name for document in documents(str(books))] == before


def test_what_lies_around_a_folder_is_not_read_through_a_link_up(books):
    (books / "up").symlink_to("..")
    assert "other.txt" not in texts(books) and len(texts(books)) == 3


def test_a_test_set_behind_a_link_to_a_folder_is_read(books):
    assert [path.name for path in held_out_files(str(books))] == ["a.txt", "c.txt", "b.txt"]


def test_a_glob_that_meets_a_link_back_reads_each_file_once(books):
    assert texts(f"{books}/**/*.txt") == ["books/a.txt", "disk/deep/c.txt", "books/z/b.txt"]


@pytest.mark.parametrize("spec", ["{0},{0}/../books", "{0},{0}/z/b.txt,{0}/more/deep", "{0}/,{0}"])
def test_a_file_that_is_named_twice_is_read_once_and_told(books, capsys, spec):
    assert sorted(texts(spec.format(books))) == sorted(texts(books))
    assert "named twice, or linked to: each file is read once" in capsys.readouterr().err
    assert files(spec.format(books)) == files(str(books))


@pytest.mark.parametrize("place", ["{}", "{}/*.txt", "{}/gone.txt", "{}/**/*.txt"])
@pytest.mark.parametrize("target", ["nothing.txt", "gone.txt"])
def test_a_link_to_nothing_is_told(books, place, target):
    (books / "gone.txt").symlink_to(target)
    with pytest.raises(DataError, match=f"gone.txt is a link to {target}, which is not there"):
        texts(place.format(books))


@pytest.mark.parametrize("spec", ["{}", "{}/**/*.txt"])
def test_what_is_written_behind_a_link_in_a_folder_of_the_texts_is_refused(books, spec):
    disk = books.parent / "disk"
    with pytest.raises(DataError, match="out is in .*/books/more, of which every text is read"):
        refuse_among([spec.format(books)], disk / "out")
    refuse_among([spec.format(books)], books.parent / "out")


def test_a_folder_that_cannot_be_read_is_told_and_left_out(books, monkeypatch, capsys):
    listed = os.scandir

    def scandir(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert len(texts(books)) == 2
    assert f"warning: {books}/more/deep is left out: Permission denied" in capsys.readouterr().err


def test_a_lock_of_an_editor_is_no_text(books):
    (books / ".#a.txt").symlink_to("me@here.12")
    assert len(texts(books)) == 3


def test_a_gz_of_no_bytes_is_damaged_and_one_of_an_empty_text_is_not(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b""))
    assert texts(tmp_path) == [""]
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"a.txt.gz: damaged gzip \(it is empty\); copy it again"):
        texts(tmp_path)
