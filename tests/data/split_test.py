import json
import tracemalloc

import pytest

from lm.core.errors import DataError
from lm.data import sources
from lm.data.split import split


def parts(spec, fraction=0.1):
    return [list(split(str(spec), None, fraction, part)) for part in ("train", "valid")]


def test_a_single_document_holds_out_its_end_as_nanogpt_does(tmp_path):
    text = "".join(chr(32 + i % 90) for i in range(111_539))
    (tmp_path / "input.txt").write_text(text)
    (train,), (valid,) = parts(tmp_path / "input.txt")
    assert train.text == text[: int(len(text) * 0.9)]
    assert train.text + valid.text == text


@pytest.mark.parametrize("end", ["s", "é", "’", "\U0001f600"])
@pytest.mark.parametrize("fraction", [0.1, 0.77])
def test_a_single_document_is_cut_between_two_characters(tmp_path, end, fraction):
    text = "".join(f"{k}{end}" for k in range(300))
    (tmp_path / "input.txt").write_text(text)
    (train,), (valid,) = parts(tmp_path / "input.txt", fraction)
    assert train.text == text[: int(len(text) * (1 - fraction))]
    assert train.text + valid.text == text


@pytest.mark.parametrize("count", [1, 3, 200])
@pytest.mark.parametrize("valid", [None, "{}"])
def test_the_files_of_a_text_are_listed_once_a_pass(tmp_path, monkeypatch, count, valid):
    for number in range(count):
        (tmp_path / f"{number}.txt").write_text(f"text {number}")
    listed, files_of = [], sources.files_of
    monkeypatch.setattr(sources, "files_of", lambda part: listed.append(part) or files_of(part))
    assert list(split(str(tmp_path), valid and valid.format(tmp_path), 0.5, "train"))
    assert listed == [str(tmp_path)]


def test_a_single_document_is_held_once_while_it_is_read(tmp_path):
    path = tmp_path / "input.txt"
    path.write_text("it’s " * 300_000)
    tracemalloc.start()
    rows = split(str(path), None, 0.1, "train")
    train = next(rows)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1.1 * 2 * len(train.text)  # two bytes a character


def test_many_documents_are_split_whole_and_the_same_wherever_they_lie(tmp_path):
    for root in ("here", "there/deep"):
        folder = tmp_path / root / "corpus"
        folder.mkdir(parents=True)
        with (folder / "a.jsonl").open("w") as file:
            for i in range(500):
                file.write(json.dumps({"text": f"text {i}"}) + "\n")
    train, valid = parts(tmp_path / "here")
    assert 20 < len(valid) < 90
    assert sorted(d.text for d in train + valid) == sorted(f"text {i}" for i in range(500))
    again = parts(tmp_path / "there")
    assert [d.text for d in again[1]] == [d.text for d in valid]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_few_documents_leave_something_to_train_on_and_to_measure_on(tmp_path, count):
    for seed in range(4):
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        for i in range(count):
            (folder / f"{i}.txt").write_text(f"{i}" * 100)
        train, valid = ("".join(d.text for d in part) for part in parts(folder))
        assert train and valid
        assert sorted(train + valid) == sorted("".join(f"{i}" * 100 for i in range(count)))


@pytest.mark.parametrize("empty", [1, 4, 120])
def test_empty_files_are_neither_all_that_is_held_out_nor_all_that_is_trained_on(tmp_path, empty):
    (tmp_path / "a.txt").write_text("text " * 20)
    for i in range(empty):
        (tmp_path / f"{i}.txt").touch()
    train, valid = ("".join(d.text for d in part) for part in parts(tmp_path))
    assert train + valid == "text " * 20 and len(valid) == 10  # the end of the only one
    (tmp_path / "b.txt").write_text("other")
    assert sorted("".join(d.text for d in part) for part in parts(tmp_path)) == [
        "other", "text " * 20,
    ]  # fmt: skip
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(DataError, match=r"no text in '.*': it has no documents, or empty ones"):
        parts(tmp_path)


def test_an_empty_file_moves_no_other_from_one_part_to_the_other(tmp_path):
    for i in range(30):
        (tmp_path / f"{i}.txt").write_text(f"{i}")
    before = [[d.name for d in part if d.text] for part in parts(tmp_path, 0.3)]
    for name in ("x", "y", "z"):
        (tmp_path / f"{name}.txt").touch()
    assert before == [[d.name for d in part if d.text] for part in parts(tmp_path, 0.3)]


@pytest.mark.parametrize("count", [2, 120])
def test_files_that_are_called_alike_are_told_apart_by_more_of_their_names(tmp_path, count):
    for i in range(count):
        folder = tmp_path / f"{i}" / "data"
        folder.mkdir(parents=True)
        (folder / "input.txt").write_text(f"text {i}")
    train, valid = parts(tmp_path)
    assert train and valid and len(train) + len(valid) == count
    assert len(valid) < len(train) or count == 2


def test_a_valid_spec_is_what_is_measured_on(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    a, b = str(tmp_path / "a.txt"), str(tmp_path / "b.txt")
    assert [d.text for d in split(a, b, 0.1, "train")] == ["a"]
    assert [d.text for d in split(a, b, 0.1, "valid")] == ["b"]
