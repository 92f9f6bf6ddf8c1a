"""Runs that differ by their seed alone stand together."""

import json

from lm.report.groups import seeds_table
from lm.report.record import read_run


def run(folder, seed, scratch, score):
    folder.mkdir(parents=True)
    (folder / "config.gin").write_text(f"seed = {seed}\nscratch = {scratch}\ninit = 'r'\n")
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 1.0}) + "\n")
    (folder / "summary.json").write_text(json.dumps({"steps": 9, "accuracy": score}))
    return read_run(folder)


def test_seeds_are_told_by_mean_and_deviation(tmp_path):
    records = [run(tmp_path / f"{s}{n}", n, s, s + n / 10) for s in (False, True) for n in range(3)]
    page = seeds_table(records)
    assert "0.1 ± 0.1" in page and "1.1 ± 0.1" in page
    assert "scratch = False" in page and "init" not in page  # only what differs names a row


def test_a_run_that_has_not_ended_is_no_seed_and_a_figure_of_some_says_of_how_many(tmp_path):
    records = [run(tmp_path / str(n), n, False, n / 10) for n in range(3)]
    (tmp_path / "3").mkdir()
    for name in ("config.gin", "metrics.jsonl"):  # killed on the way
        text = (tmp_path / "0" / name).read_text().replace("seed = 0", "seed = 3")
        (tmp_path / "3" / name).write_text(text)
    killed = read_run(tmp_path / "3")
    assert seeds_table([*records, killed]) == seeds_table(records)
    (tmp_path / "2" / "summary.json").write_text(json.dumps({"steps": 9, "f1": 0.7}))
    page = seeds_table([*records[:2], read_run(tmp_path / "2")])
    assert "<td>3</td>" in page and "0.05 ± 0.07071 (of 2)" in page and "0.7 (of 1)" in page


def test_one_seed_twice_is_one_seed(tmp_path):
    same = [run(tmp_path / name, 0, False, score) for name, score in (("a", 0.5), ("b", 0.7))]
    assert seeds_table(same) == ""
    page = seeds_table([*same, run(tmp_path / "c", 1, False, 0.7)])
    assert "<td>2</td>" in page and "0.6 ± 0.1414" in page


def test_runs_that_differ_otherwise_are_no_group(tmp_path):
    records = [run(tmp_path / "a", 0, False, 0.5), run(tmp_path / "b", 0, True, 0.6)]
    assert seeds_table(records) == ""
