"""The ladder: its members, its rule and what it tells."""

import json
from dataclasses import replace

import pytest

from experiments import gpt3, sweeps
from lm.core.config import bind
from lm.core.errors import ConfigError
from lm.data.puzzles import PUZZLES
from lm.studies.capacity_report import Measured, Verdict, judge, write_report

pytestmark = pytest.mark.usefixtures("one_device")

SHOTS = (0, 1, 4)


def answers(zero, one, few, shuffled=0.0, another=0.0, items=100):
    cases = [("true", 0, zero), ("true", 1, one), ("true", 4, few), ("shuffled", 4, shuffled),
             ("another", 4, another)]  # fmt: skip
    return [
        {"puzzle": puzzle.name, "condition": condition, "shots": shots, "items": items,
         "mean_shots": shots, "right": round(share * items)}
        for puzzle in PUZZLES
        for condition, shots, share in cases
    ]  # fmt: skip


def measured(*shares, parameters=1000, loss=1.0, **controls):
    rows = answers(*shares, **controls)
    return Measured(parameters=parameters, tokens=10, compute=1e6, loss=loss, answers=rows)


GOOD = {
    "zero": [0.1, 0.1, 0.1], "one": [0.3, 0.3, 0.35], "few": [0.5, 0.6, 0.55],
    "shuffled": [0.2, 0.2, 0.2], "another": [0.1, 0.1, 0.15], "smallest": [0.1, 0.15, 0.1],
    "zeros": [[0.01, 0.0, 0.0], [0.05, 0.05, 0.05], [0.1, 0.1, 0.1]],
}  # fmt: skip


def test_what_rises_with_examples_and_size_and_falls_with_wrong_examples_is_shown():
    verdict = Verdict(**GOOD)
    assert verdict.shown and verdict.failed is None and "fails" not in verdict.line("large")


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"few": [0.05, 0.1, 0.05]}, "few minus zero is"),
        ({"few": [0.1, 1.0, 0.6]}, "few minus zero is"),  # its spread is as large
        ({"one": [0.1, 0.1, 0.05]}, "one minus zero is"),
        ({"one": [0.1, 0.5, 0.1]}, "one minus zero is"),
        ({"one": [0.6, 0.65, 0.6]}, "few minus one is"),
        ({"smallest": [0.5, 0.6, 0.6]}, "few minus few at the smallest size is"),
        ({"another": [0.5, 0.55, 0.55]}, "few minus few of another task is"),
        ({"zeros": [[0.1, 0.1, 0.1], [0.1, 0.1, 0.1]]}, "zero minus zero at the smallest size is"),
        ({"zeros": [[0.0, 0.1, 0.0], [0.1, 0.1, 0.1]]}, "zero minus zero at the smallest size is"),
        ({"shuffled": [0.4, 0.4, 0.4]}, "shuffled labels remove"),
        ({"another": [0.48, 0.58, 0.53]}, "another task's examples remove 4%, needed 50%"),
        (
            {"zeros": [[0.0] * 3, [0.2] * 3, [0.1] * 3]},
            "zero does not rise with size: 0.200, then 0.100",
        ),
        ({name: values[:1] for name, values in GOOD.items()}, "a spread needs two seeds"),
    ],
)
def test_the_verdict_names_the_first_condition_that_fails(change, failed):
    verdict = Verdict(**GOOD | change)
    assert not verdict.shown and verdict.failed.startswith(failed)
    assert verdict.line("large").startswith("not shown: at large") and failed in verdict.line("")


def test_a_gain_of_exactly_twice_its_spread_is_none():
    level = dict.fromkeys(GOOD, [0.0, 0.0, 0.0])
    exactly = Verdict(**level | {"few": [0.25, 0.5, 0.75]})
    assert exactly.gain == 2 * exactly.spread == 0.5 and not exactly.shown
    assert Verdict(**level | {"few": [0.25, 0.5, 0.625]}).failed.startswith("one minus zero")


@pytest.mark.parametrize("control", ["shuffled", "another"])
def test_wrong_examples_that_remove_just_half_of_the_gain_remove_enough(control):
    half = {
        "zero": [0.0] * 3, "one": [0.25] * 3, "few": [0.5] * 3, "shuffled": [0.0] * 3,
        "another": [0.0] * 3, "smallest": [0.0] * 3, "zeros": [[0.0] * 3, [0.125] * 3],
    }  # fmt: skip
    verdict = Verdict(**half | {control: [0.25] * 3})
    assert verdict.removed([0.25] * 3) == 0.5 and verdict.shown
    assert not Verdict(**half | {control: [0.26] * 3}).shown


def test_the_report_says_first_whether_it_is_shown_and_counts_the_cells(tmp_path):
    study = {
        ("small", seed): measured(0.1, 0.1, 0.1 + 0.01 * seed, shuffled=0.1, another=0.1)
        for seed in (0, 1)
    } | {
        ("large", seed): measured(0.12, 0.3 + 0.01 * seed, 0.7 + 0.02 * seed, shuffled=0.2,
                                  another=0.1, parameters=9000, loss=0.8)
        for seed in (0, 1)
    }  # fmt: skip
    write_report(tmp_path, "title", study, SHOTS)
    first, *rest = (tmp_path / "report.md").read_text().splitlines()
    assert first.startswith("shown: at large, few minus zero is 0.590")
    text = "\n".join(rest)
    cells = len(PUZZLES)
    assert f"few > one > zero in {cells} of {2 * cells}, few > zero in {2 * cells}" in text
    assert "0.710 ± 0.014" in text
    assert json.loads((tmp_path / "summary.json").read_text())["shown"] is True
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")
    only_small = {key: value for key, value in study.items() if key[0] == "small"}
    write_report(tmp_path, "title", only_small, SHOTS)
    assert (tmp_path / "report.md").read_text().startswith("not shown: at small")


def test_the_verdict_is_of_the_largest_size_alone():
    rising, flat = measured(0.0, 0.5, 0.9), measured(0.2, 0.2, 0.2)
    study = {
        (size, seed): one for seed in (0, 1) for size, one in (("small", rising), ("large", flat))
    }
    assert judge(study, "large", 4).gain == 0
    assert judge(study, "small", 4).gain == pytest.approx(0.9)


def test_members_are_every_size_up_to_the_largest_under_every_seed():
    study = sweeps.capacity()
    names = [name for name, _ in study.sizes]
    members = replace(study, largest=names[1], seeds=(3, 4)).members()
    assert list(members) == [(names[0], 3), (names[1], 3), (names[0], 4), (names[1], 4)]
    assert members[names[1], 4].seed == 4
    assert members[names[1], 4].model == gpt3.ladder(names[1]).model
    assert {m.data for m in members.values()} == {study.base.data}  # one corpus for all
    counts = [
        model.model.parameters()
        for model in replace(study, largest=names[-1], seeds=(0,)).members().values()
    ]
    assert counts == sorted(counts) and counts[-1] > 25e6


def test_shots_and_sizes_that_make_no_study_are_refused():
    study = sweeps.capacity()
    with pytest.raises(ConfigError, match="is not one of"):
        replace(study, largest="900b")
    with pytest.raises(ConfigError, match="shots"):
        replace(study, shots=(0, 4))


@pytest.mark.slow
def test_one_command_trains_asks_and_draws_and_goes_on_where_it_stopped(tmp_path, capsys):
    prose = tmp_path / "prose.txt"
    syllables = [a + b for a in "bcdfghjklm" for b in "aeiou"]
    prose.write_text("Once " + " ".join(a + b for a in syllables for b in syllables) + ".")
    study = bind(
        sweeps.capacity(),
        {
            "base.data.train": str(prose), "base.data.cache": str(tmp_path / "cache"),
            "base.data.documents_train": 200, "base.data.documents_valid": 20, "base.steps": 3,
            "base.batch": 8, "base.evaluate_batches": 1, "base.model.length": 64,
            "base.data.bytes": 63, "items": 2,
        },
    )  # fmt: skip
    names = [name for name, _ in study.sizes]
    study = replace(study, largest=names[1], seeds=(0,))
    study.run(tmp_path / "study")
    report = (tmp_path / "study" / "report.md").read_text()
    assert report.startswith(f"not shown: at {names[1]}")  # three steps teach nothing
    for name in names[:2]:
        run = tmp_path / "study" / name / "0"
        assert {"config.gin", "metrics.jsonl", "checkpoints", "report.html", "answers.json"} <= {
            path.name for path in run.iterdir()
        }
    (tmp_path / "study" / names[1] / "0" / "answers.json").unlink()
    capsys.readouterr()
    study.run(tmp_path / "study")
    assert " of 2: " not in capsys.readouterr().out  # none is trained again
    assert (tmp_path / "study" / "report.md").read_text() == report
