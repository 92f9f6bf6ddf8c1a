"""A study's members, and what it tells of them."""

import json
from dataclasses import replace

import jax
import pytest

from experiments import gpt2, sweeps
from lm.core.config import bind
from lm.core.errors import ConfigError, DataError
from lm.studies.transfer import differences, place


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
    assert not models["words"].next_sentences and models["left"].model.causal


def test_cases_of_the_objectives_read_the_same_pairs_and_differ_in_their_losses():
    models = sweeps.bert_objectives().pretrainings()
    assert [list(model.objective().weights) for model in models.values()] == [
        ["words", "next"], ["words"], ["words"],
    ]  # fmt: skip
    assert {model.instances.pairs for model in models.values()} == {True}
    same = [replace(model.instances, objective="masked") for model in models.values()]
    assert len(set(same)) == 1


def test_gpt2_is_compared_with_bert_and_gpt1_on_the_same_text_tokens_and_fine_tuning(tmp_path):
    study = bind(sweeps.pretraining(), {"corpus": "novels"})
    models = study.pretrainings()
    assert list(models) == ["bert", "gpt1", "gpt2"]
    budgets = {one.steps * one.batch * one.model.length for one in models.values()}
    assert len(budgets) == 1 and len({one.tokenizer for one in models.values()}) == 1
    assert len({one.data for one in models.values()}) == 1

    first, second = models["gpt1"], models["gpt2"]
    ours, small = second.model, gpt2.small().model
    assert ours.norm == "pre" and ours.final_norm
    sizes = ("layers", "width", "heads", "vocab", "length", "std", "token_std", "position_std")
    given = {name: getattr(first.model, name) for name in sizes}
    assert ours == replace(small, **given, dtype="float32")  # GPT-2 in all but its size
    assert second.optim == replace(first.optim, b2=0.99, weight_decay=0.1)

    tunings = study.tunings(tmp_path)
    pair = [tunings["cola", label, 0] for label in ("GPT-1", "GPT-2")]
    assert replace(pair[0], init=pair[1].init) == pair[1]
    assert tunings["cola", "GPT-2 from scratch", 0].scratch
    picked = bind(study, {"cases": (("GPT-2", "gpt2", ""),)})
    assert list(picked.pretrainings()) == ["gpt2"]


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
    table = (tmp_path / "table.md").read_text()
    assert "0.750 ± 0.100" in table
    gain = "| sst2 | BERT | BERT from scratch | +0.050 +0.050 +0.050 | 0.050 ± 0.000 | yes |"
    assert gain in table
    rate = "noise 7.4% are so far apart with 3 seeds; 5 are compared here"
    assert rate in table
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")


def test_a_case_is_held_against_itself_from_scratch_and_others_against_the_first():
    scores = {
        "GPT-1": [0.7, 0.8], "no auxiliary loss": [0.6, 0.6], "GPT-1 from scratch": [0.5, 0.6],
        "LSTM": [0.71, 0.81], "LSTM from scratch": [0.5, 0.8], "from scratch": [0.6, 0.7],
    }  # fmt: skip
    rows = {(over, label): rest for over, label, *rest in differences(scores)}
    assert rows == {
        ("GPT-1", "no auxiliary loss"): ["+0.100 +0.200", "0.150 ± 0.071", "yes"],
        ("GPT-1", "GPT-1 from scratch"): ["+0.200 +0.200", "0.200 ± 0.000", "yes"],
        ("GPT-1", "LSTM"): ["-0.010 -0.010", "-0.010 ± 0.000", "yes"],
        ("LSTM", "LSTM from scratch"): ["+0.210 +0.010", "0.110 ± 0.141", "no"],
        ("GPT-1", "from scratch"): ["+0.100 +0.100", "0.100 ± 0.000", "yes"],
    }
    assert not differences({label: values[:1] for label, values in scores.items()})


def test_the_published_figure_and_the_gap_to_it_stand_beside_each_case(tmp_path):
    study = replace(sweeps.pretraining(), tasks=(("sst2", ""),), seeds=(0,))
    for key in study.tunings(tmp_path):
        folder = place(tmp_path, *key)
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text('{"metric": "accuracy", "accuracy": 0.7}')
    study.tell(tmp_path)
    told = json.loads((tmp_path / "summary.json").read_text())
    (row,) = told["sst2/GPT-1"]["published"]
    assert (row["value"], row["gap"]) == (0.913, pytest.approx(-0.213))
    assert not told["sst2/BERT from scratch"]["published"]
    table = (tmp_path / "table.md").read_text()
    assert "0.913, gap -0.213 (GPT-1, GPT-1 table 4)" in table
    assert "of that paper's sizes, texts and split" in table


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


def test_a_corpus_and_a_folder_of_tasks_may_have_blanks_in_their_names(tmp_path):
    study = bind(sweeps.pretraining(), {"corpus": "my novels", "root": "/data/glue sets"})
    assert {one.data.train for one in study.pretrainings().values()} == {"my novels"}
    assert {one.data.root for one in study.tunings(tmp_path).values()} == {"/data/glue sets"}
    study = replace(study, tasks=(("cola", "data.root=here steps=3"),))  # a task's own comes first
    assert {(one.data.root, one.steps) for one in study.tunings(tmp_path).values()} == {("here", 3)}


@pytest.mark.parametrize(
    ("task", "said"), [("sst3", "unknown task 'sst3'; did you mean"), ("cola", "no files of cola")]
)
def test_a_task_that_is_not_there_is_told_before_anything_is_trained(task, said, tmp_path):
    study = bind(sweeps.pretraining(), {"root": str(tmp_path), "corpus": "none"})
    (tmp_path / "SST-2").mkdir()
    (tmp_path / "SST-2" / "train.tsv").write_text("sentence\tlabel\nfine\t1\n")
    study = replace(study, tasks=(("sst2", ""), (task, "")))
    with pytest.raises((ConfigError, DataError), match=f"^{said}") as error:
        study.run(tmp_path / "run")
    assert "\n" not in str(error.value) and not (tmp_path / "run" / "pretrained").exists()


def test_an_unknown_model_is_named_beside_the_known_ones():
    with pytest.raises(ConfigError, match="no model 'bret'"):
        replace(sweeps.pretraining(), cases=(("BERT", "bret", ""),))
