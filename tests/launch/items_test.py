"""What launch.evaluate asks of a run's task, and what it says where that cannot be."""

import json
import os
from pathlib import Path

import pytest

from launch import items
from launch.command import told_by_flags
from lm.core.errors import DataError, UserError
from lm.data.tasks import TaskConfig


def records(part="test", columns_of_run=(), **flags):
    """The records that these flags ask of a run that was tuned for SST-2."""
    with told_by_flags(items.TOLD):
        data = TaskConfig(name="sst2", columns=columns_of_run)
        return items.found(data, part, **flags).records(part)


@pytest.mark.parametrize("name", ["mine.tsv", "mine.jsonl"])
def test_a_file_laid_out_as_the_readme_says_is_read_by_a_published_task(tmp_path, name):
    rows = {"mine.tsv": "text\tlabel\nfine\t1\n", "mine.jsonl": '{"text": "fine", "label": 1}\n'}
    path = tmp_path / name
    path.write_text(rows[name])
    (record,) = records(file=str(path))
    assert (record.text, record.label) == ("fine", 1)


def test_columns_of_a_file_are_named_and_its_bad_rows_left_out_by_flags(tmp_path):
    path = tmp_path / "mine.tsv"
    path.write_text("review\tlabel\nfine\t1\nbad\tx\n")
    (record,) = records(file=str(path), columns=["text=review"], on_bad="drop")
    assert record.text == "fine"


def test_a_column_that_a_flag_names_and_no_row_has_is_refused_and_one_of_the_run_is_not(tmp_path):
    path = tmp_path / "mine.tsv"
    path.write_text("text\tgrade\nfine\t1\n")
    said = r"^--columns: label=stars, and no row of .*mine.tsv has .* 'stars': name one of text, gr"
    with pytest.raises(DataError, match=said):
        records(file=str(path), columns=["label=stars"])
    (record,) = records(file=str(path), columns=["label=grade"])
    assert record.label == 1
    (record,) = records(file=str(path), columns_of_run=("label=stars",))
    assert record.label is None


def test_a_name_of_many_bytes_is_cut_to_what_a_file_system_takes(tmp_path):
    cut = items.stems([Path("a" + "評" * 83 + ".tsv"), Path("b.tsv")])
    assert cut == "a" + "評" * 49  # 148 bytes: no half of a character
    (tmp_path / f"sst2-file-{cut}.jsonl.part").touch()
    assert items.stems([Path("mine.v2.tsv.gz"), Path(".csv")]) == "mine.v2+.csv"
    assert items.stems([Path(os.fsdecode(b"caf\xe9.tsv"))]) == "caf"  # no UTF-8


def test_the_figures_of_a_file_are_beside_those_of_another_of_its_name_and_over_its_own(tmp_path):
    def put(file):
        path = items.own_path(tmp_path / "sst2-file-mine.v2.json", file)
        path.write_text(json.dumps({"file": file}))
        return path.name

    first, second = put("/a/mine.v2.tsv"), put("/b/mine.v2.tsv")
    assert first == "sst2-file-mine.v2.json"
    assert second.startswith("sst2-file-mine.v2-") and len(second) == len(first) + 7
    assert [put("/a/mine.v2.tsv"), put("/b/mine.v2.tsv")] == [first, second]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"file": "mine.tsv"}, r'missing "text" \(columns looked for: sentence, text\)'),
        ({"file": "mine.tsv"}, "leave them out with --on_bad=drop"),
        ({"file": "mine.tsv", "columns": ["words=a"]}, "^--columns: unknown field 'words'"),
        ({"file": "mine.tsv", "columns": ["words"]}, "^--columns: cannot read 'words'"),
        ({"file": "none.tsv"}, "^--file="),
        ({"part": "valid"}, "set --root=FOLDER"),
    ],
)
def test_what_is_wrong_is_told_with_a_flag_of_this_command(tmp_path, monkeypatch, flags, said):
    (tmp_path / "mine.tsv").write_text("a\tb\nc\td\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said) as error:
        records(**flags)
    assert "data." not in str(error.value)
