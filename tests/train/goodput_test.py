"""The account of a run's time: over kills, damaged files, and steps made twice."""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.report.time_spent import KINDS, processes, totals
from lm.train.goodput import Goodput


def entry(first, last, **seconds):
    return {"began": "-", "first": first, "last": last, "seconds": seconds}


def test_time_is_spent_on_one_thing_and_what_was_under_way_goes_on(tmp_path):
    goodput = Goodput(tmp_path / "goodput.json")
    before = dict(goodput.seconds)
    goodput.switch("step")
    with goodput.spent("save"):
        time.sleep(0.05)
    assert goodput.now == "step"
    time.sleep(0.02)
    goodput.write()
    spent = {kind: goodput.seconds[kind] - before[kind] for kind in KINDS}
    assert 0.05 <= spent["save"] < 0.2 and 0.02 <= spent["step"] < 0.2
    assert spent["restore"] == spent["data"] == 0
    (mine,) = processes(tmp_path / "goodput.json")
    assert mine["seconds"]["save"] == pytest.approx(goodput.seconds["save"], abs=1e-3)


def test_what_a_step_compiles_is_none_of_its_time_and_what_else_does_is_counted_once():
    def compiling(kind, number):
        """Seconds of steps and of compiling, as something is compiled in time of this kind."""
        began = time.perf_counter()
        goodput.switch(kind)
        before = dict(goodput.seconds)
        jax.jit(lambda x: jnp.sort(x * number))(np.ones(8, np.float32)).block_until_ready()
        goodput.switch("save")
        spent = {kind: goodput.seconds[kind] - before[kind] for kind in ("step", "compile")}
        assert sum(spent.values()) <= time.perf_counter() - began
        return spent

    goodput = Goodput(None)
    with goodput.hearing():
        inside = compiling("step", 1)
        assert inside["compile"] > 0 and inside["step"] > 0
        assert compiling("evaluate", 2) == {"step": 0, "compile": 0}
    after = compiling("step", 3)  # is not heard of: each run hears for itself
    assert after["compile"] == 0 and after["step"] > 0


def test_a_process_adds_to_what_earlier_ones_left(tmp_path):
    path = tmp_path / "goodput.json"
    for first, last in ((0, 7), (5, 9)):
        goodput = Goodput(path)
        goodput.first = first
        goodput.reached(last)
    assert [(one["first"], one["last"]) for one in processes(path)] == [(0, 7), (5, 9)]
    path.write_text(path.read_text()[:-9])  # damaged: the account begins anew, the run goes on
    assert processes(path) == Goodput(path).before == []


@pytest.mark.parametrize(
    "damaged",
    [
        1, {}, {"began": 1}, {"first": 0, "last": 1}, entry("0", 1), entry(0, None),
        entry(0, 1) | {"seconds": [1]}, entry(0, 1, step="long"),
    ],
)  # fmt: skip
def test_an_entry_that_is_damaged_is_left_out_and_the_others_are_counted(tmp_path, damaged):
    path = tmp_path / "goodput.json"
    path.write_text(json.dumps({"processes": [entry(0, 7, step=7.0), damaged]}))
    assert totals(processes(path))["step"] == 7.0
    assert Goodput(path).last == 7


def test_steps_that_are_made_again_are_lost():
    found = totals([entry(0, 10, step=20.0, compile=5.0), entry(5, 10, step=10.0, restore=5.0)])
    assert found["lost"] == 10.0 and found["step"] == 20.0
    assert found["goodput"] == pytest.approx(20 / 40)
    whole = totals([entry(0, 5, step=10.0), entry(5, 10, step=10.0)])  # the control: saved in time
    assert whole["lost"] == 0.0 and whole["goodput"] == 1.0
    assert totals([])["goodput"] == 0.0


def test_a_process_that_ends_before_it_begins_loses_nothing_of_those_before_it(tmp_path):
    path = tmp_path / "goodput.json"
    for first, last, spent in ((0, 7, 70.0), (None, None, 0.0), (7, 9, 20.0)):
        goodput = Goodput(path)
        if last is not None:
            goodput.first = first
            goodput.seconds["step"] = spent
            goodput.reached(last)
        goodput.write()
    found = totals(processes(path))
    assert found["lost"] == 0.0 and found["step"] == 90.0


def test_a_process_that_goes_back_further_loses_the_steps_of_all_before_it():
    some = [entry(0, 10, step=10.0), entry(8, 9, step=1.0), entry(5, 12, step=7.0)]
    found = totals(some)
    assert found["lost"] == 5.0 + 1.0 and found["step"] == 12.0  # as many seconds as steps
    assert totals(some[:2])["lost"] == 2.0  # the control: before the third there was less to lose


def test_the_second_run_of_a_process_begins_where_the_first_ended(tmp_path):
    first = Goodput(tmp_path / "first.json")
    time.sleep(0.2)
    first.write()
    second = Goodput(tmp_path / "second.json")
    assert first.seconds["init"] >= 0.2 > second.seconds["init"]  # 0.2 s of it are the first's
    assert second.began > first.began


def test_a_full_disk_does_not_end_a_run(tmp_path):
    goodput = Goodput(tmp_path / "no" / "folder" / "goodput.json")
    goodput.reached(3)
    assert goodput.last == 3


def test_a_file_is_whole_or_as_it_was(tmp_path):
    goodput = Goodput(tmp_path / "goodput.json")
    goodput.reached(1)
    assert json.loads((tmp_path / "goodput.json").read_text())["processes"][0]["last"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["goodput.json"]
