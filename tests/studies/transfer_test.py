"""A study's members, and what it tells of them."""

import json
from dataclasses import replace

import jax
import pytest

from experiments import sweeps
from lm.core.errors import ConfigError
from lm.studies.transfer import place


def test_members_are_every_task_case_and_seed_from_the_models_they_need(tmp_path):
    study = replace(sweeps.gpt1_ablations(), seeds=(0, 1))
    assert set(study.pretrainings()) == {"gpt1", "lstm"}
    tunings = study.tunings(tmp_path)
    assert len(tunings) == len(study.tasks) * len(study.cases) * 2
    plain = tunings["sst2", "GPT-1", 1]
    assert plain.seed == 1 and plain.lm_weight == 0.5
    assert plain.init == str(tmp_path / "pretrained" / "gpt1")
    assert tunings["sst2", "no auxiliary loss", 0].lm_weight == 0
    assert tunings["sst2", "2 layers transferred", 0].transfer == 2
    assert tunings["sst2", "LSTM from scratch", 0].scratch


def test_a_variant_is_the_model_with_its_bindings():
    models = sweeps.bert_objectives().pretrainings()
    assert not models["words"].instances.pairs and models["left"].model.causal


def test_what_is_done_is_gathered_with_mean_and_deviation(tmp_path):
    study = replace(sweeps.pretraining(), tasks=(("sst2", ""),))
    for (task, label, seed), _ in study.tunings(tmp_path).items():
        folder = place(tmp_path, task, label, seed)
        folder.mkdir(parents=True)
        score = 0.6 + 0.1 * seed + 0.05 * ("scratch" not in label)
        (folder / "summary.json").write_text(json.dumps({"metric": "accuracy", "accuracy": score}))
    study.tell(tmp_path)
    told = json.loads((tmp_path / "summary.json").read_text())
    assert told["sst2/BERT"]["mean"] == pytest.approx(0.75)
    assert told["sst2/BERT from scratch"]["deviation"] == pytest.approx(0.1)
    assert "0.750 ± 0.100" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")


def test_one_process_alone_tells(tmp_path, monkeypatch):
    study = replace(sweeps.pretraining(), seeds=(0,))
    runs = [tmp_path / "pretrained" / name for name in study.pretrainings()]
    for folder in (*runs, *(place(tmp_path, *key) for key in study.tunings(tmp_path))):
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text('{"metric": "accuracy", "accuracy": 0.5}')
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    study.run(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    study.run(tmp_path)
    assert (tmp_path / "table.md").exists()


def test_an_unknown_model_is_named_beside_the_known_ones():
    with pytest.raises(ConfigError, match="no model 'bret'"):
        replace(sweeps.pretraining(), cases=(("BERT", "bret", ""),))
