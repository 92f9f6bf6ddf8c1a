"""Which rate of a fine-tuning dev picks."""

import json
from dataclasses import replace

import pytest

from experiments import sweeps
from lm.core.config import bind
from lm.core.errors import ConfigError
from lm.data.tasks import TaskConfig
from lm.studies.rates import Rates
from lm.train.finetune import Finetune
from tests.train.finetune_test import MODELS, OPTIM, classified, pretrained


def accuracy_of(tuning):
    """A toy: best at 4e-5, and a little better after three epochs than after two."""
    return 0.9 - 1e4 * abs(tuning.optim.peak_lr - 4e-5) + 0.01 * (tuning.epochs == 3)


@pytest.fixture
def ran(monkeypatch):
    """The members that were run, each with a summary as of a run."""
    done = []

    def run(tuning, workdir, process=None):
        workdir.mkdir(parents=True)
        told = {"metric": "accuracy", "accuracy": accuracy_of(tuning)}
        (workdir / "summary.json").write_text(json.dumps(told))
        done.append(tuning)

    monkeypatch.setattr(Finetune, "run", run)
    return done


def told(workdir):
    return json.loads((workdir / "summary.json").read_text())


def test_each_of_berts_rates_is_a_run_and_the_best_on_dev_is_picked(ran, tmp_path):
    study = sweeps.bert_rates("cola")
    study.run(tmp_path)
    assert [one.optim.peak_lr for one in ran] == [5e-5, 4e-5, 3e-5, 2e-5]
    assert {replace(one, optim=study.tuning.optim) for one in ran} == {study.tuning}
    assert told(tmp_path)["best"] == "4e-05-3"
    assert "| 4e-05-3 | 0.9100 | best |" in (tmp_path / "table.md").read_text()
    wider = replace(study, epochs=(2.0, 3.0, 4.0))
    wider.run(tmp_path)  # goes on with what is not done
    assert len(ran) == 12 and told(tmp_path)["best"] == "4e-05-3"
    with pytest.raises(ConfigError, match="has results of other settings: tuning.batch was 32"):
        replace(wider, tuning=replace(wider.tuning, batch=16)).run(tmp_path)
    with pytest.raises(ConfigError, match=r"rates has \[5e-05\] twice"):
        replace(study, rates=(5e-5, 5e-5))


def test_what_is_set_of_the_tuning_and_would_do_nothing_is_refused():
    study = sweeps.bert_rates("squad2")
    assert {one.epochs for one in study.members().values()} == {2.0}  # the task's own
    bind(study, {"epochs": (3.0, 4.0), "rates": (1e-4,), "tuning.batch": 16})  # the control
    bind(study, {"rates": (1e-4,), "tuning.optim.peak_lr": 1e-4})
    for name, value, ours in (
        ("tuning.optim.peak_lr", 1e-3, "rates"), ("tuning.epochs", 1.0, "epochs"),
        ("tuning.steps", 7, "epochs"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=f"{name}={value} would .*: set {ours}"):
            bind(study, {name: value})


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_a_rate_that_learns_is_picked_before_one_that_does_not(tmp_path):
    rows = [classified(number) for number in range(160)]
    for part, some in (("train", rows[40:]), ("valid", rows[:40])):
        lines = "".join(json.dumps(row) + "\n" for row in some)
        (tmp_path / f"{part}.jsonl").write_text(lines)
    data = TaskConfig(name="classification", root=str(tmp_path))
    init = str(pretrained(tmp_path / "bert", MODELS["bert"]))
    tuning = Finetune(data=data, init=init, optim=OPTIM, batch=16, length=40, head_dropout=0.0)
    Rates(tuning=tuning, rates=(1e-7, 5e-3), epochs=(12.0,)).run(tmp_path / "study")
    assert told(tmp_path / "study")["best"] == "0.005-12"
