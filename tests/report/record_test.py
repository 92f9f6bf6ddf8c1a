import json

import pytest

from lm.core.errors import DataError
from lm.report.record import read_run
from tests.report.runs import training_row, valid_row, write_run


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


def log(run, lines):
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (run / "metrics.jsonl").write_text("\n".join(text))


def test_everything_a_run_wrote_is_read(run):
    record = read_run(run)
    assert record.name == "run"
    assert record.bindings["optim.peak_lr"] == "0.0003"
    assert record.notes == ["jax 0.10.2, Python 3.11.7", "devices: 8 x TPU v5p"]
    assert list(record.samples) == [0, 100]
    assert record.curve("valid_loss") == ([100.0], [2.0])
    assert record.curve("loss", "tokens")[0][-1] == 6400
    assert "reference" not in record.final()


def test_a_last_line_cut_short_is_ignored(run):
    log(run, [training_row(1), training_row(2), '{"step": 3, "lo'])
    record = read_run(run)
    assert [row["step"] for row in record.rows] == [1, 2]
    assert record.unreadable == 0


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "bad", ["{", "[1, 2]", "7", '{"loss": 1}', '{"step": "x"}', "\x00\x00", DEEP], ids=range(7)
)
def test_a_damaged_line_in_the_middle_is_counted(run, bad):
    log(run, [training_row(1), bad, training_row(2), ""])
    record = read_run(run)
    assert [row["step"] for row in record.rows] == [1, 2]
    assert record.unreadable == 1


def test_a_resumed_run_keeps_only_the_later_rows_of_a_step(run):
    log(run, [training_row(1), valid_row(1), training_row(2), training_row(3, loss=9.0),
              training_row(2, loss=7.0), ""])  # fmt: skip
    assert read_run(run).curve("loss") == ([1.0, 2.0], [training_row(1)["loss"], 7.0])
    assert read_run(run).curve("valid_loss") == ([1.0], [2.0])


def test_without_a_summary_the_last_values_stand_in(run):
    (run / "summary.json").unlink()
    final = read_run(run).final()
    assert final["valid_loss"] == 2.0
    assert final["step"] == 100
    assert final["loss"] == training_row(100)["loss"]
    assert final["seconds"] == 50.0  # which the row of an evaluation has not


def test_what_was_measured_at_an_earlier_end_of_the_run_is_not_its_latest(run):
    (run / "summary.json").unlink()
    whole = valid_row(1) | {"whole_valid_loss": 1.5}
    log(run, [training_row(1), whole])
    assert read_run(run).final()["whole_valid_loss"] == 1.5
    log(run, [training_row(1), whole, training_row(2)])
    assert "whole_valid_loss" not in read_run(run).final()


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.gin"])
def test_a_missing_file_is_named(run, name):
    (run / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        read_run(run)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere is not a run directory"):
        read_run(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["{", "[]", "", DEEP], ids=range(4))
def test_a_damaged_summary_is_refused(run, text):
    (run / "summary.json").write_text(text)
    with pytest.raises(DataError, match="summary.json"):
        read_run(run)
