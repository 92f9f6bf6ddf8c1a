"""The critique of sparse attention: its members, what it measures of them, what it tells."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import sweeps
from lm.core.errors import ConfigError
from lm.data.tokens import TextConfig
from lm.models.gpt import forward
from lm.studies import sparse_critique
from lm.studies.sparse_critique import binned, place
from lm.studies.sparse_measures import measured, reach, spanned

pytestmark = pytest.mark.usefixtures("one_device")

TEXT = "The band sees sixteen bytes, and four layers of it see sixty. " * 200


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two patterns of a small model, trained for a step."""
    folder = tmp_path_factory.mktemp("critique")
    (folder / "book.txt").write_text(TEXT)
    study = sweeps.sparse_critique()
    small = {"width": 16, "layers": 2, "band": 4, "stride": 4, "length": 32, "unroll": 1}
    novels = replace(
        study.novels, model=replace(study.novels.model, **small), steps=1, batch=8,
        data=TextConfig(valid_fraction=0.1),
    )  # fmt: skip
    recall = replace(study.recall, model=replace(study.recall.model, **small), steps=1, batch=8)
    return folder, replace(
        study, novels=novels, recall=recall, corpus=str(folder / "book.txt"), seeds=(0,), bins=8,
        patterns=study.patterns[:2], held_out=16,
    )  # fmt: skip


def test_every_member_has_the_same_parameters_and_tokens():
    study = sweeps.sparse_critique()
    members = study.members()
    for task in ("novels", "recall"):
        some = [member for key, member in members.items() if key[0] == task]
        assert len(some) == len(study.patterns) * len(study.seeds)
        assert len({member.model.parameters() for member in some}) == 1
        assert len({(m.steps, m.batch, m.model.length) for m in some}) == 1
        assert len({(m.model.pattern, m.seed) for m in some}) == len(some)
    longest = {m.model.length - 1 for key, m in members.items() if key[0] == "control"}
    assert longest == {reach(study.recall.model) - 1}  # no fact of the control is out of reach


def test_a_banded_model_sees_as_far_as_the_reach_and_not_one_token_further(study):
    _, study = study
    model = replace(study.recall.model, pattern=("banded",), length=32)
    tokens = np.array(jax.random.randint(jax.random.key(0), (3, 32), 0, model.vocab))
    tokens[1:] = tokens[0]
    for row, back in ((1, reach(model)), (2, reach(model) + 1)):
        tokens[row, 31 - back] = (tokens[row, 31 - back] + 1) % model.vocab

    @jax.jit
    def last(key):
        params = model.module().init(key, jnp.zeros((1, 1), jnp.int32))["params"]
        return forward(model, params, tokens)[0][:, -1]

    first, moved, same = np.asarray(last(jax.random.key(1)))
    assert np.abs(moved - first).max() > 0 and np.abs(same - first).max() == 0


@pytest.mark.slow
def test_a_study_trains_measures_and_tells_and_does_nothing_twice(study):
    folder, study = study
    study.run(folder / "study")
    told = json.loads((folder / "study" / "summary.json").read_text())
    for label in ("dense", "banded"):
        assert 0 <= told[f"recall/{label}/right_near"]["mean"] <= 1
    assert told["novels/banded/far_gain"]["mean"] == 0  # nothing of what is beyond gets through
    assert told["novels/dense/far_gain"]["mean"] != 0
    figure = (folder / "study" / "figure.svg").read_text()
    assert figure.startswith("<?xml") and "reach of the band" in figure
    before = (place(folder / "study", "recall", "dense", 0) / "metrics.jsonl").stat().st_mtime_ns
    study.run(folder / "study")
    after = (place(folder / "study", "recall", "dense", 0) / "metrics.jsonl").stat().st_mtime_ns
    assert before == after


def test_one_process_alone_writes_what_was_measured_and_tells(study, tmp_path, monkeypatch):
    _, study = study
    for key in study.members():
        place(tmp_path, *key).mkdir(parents=True)
        (place(tmp_path, *key) / "summary.json").write_text("{}")
    told = []
    monkeypatch.setattr(sparse_critique, "measured", lambda *_: {})
    monkeypatch.setattr(type(study), "tell", lambda *_: told.append(1))
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    study.run(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before and not told
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    study.run(tmp_path)
    assert told and all(
        (place(tmp_path, *key) / "measured.json").exists() for key in study.members()
    )


@pytest.mark.slow
def test_recall_is_counted_by_distance(study):
    folder, study = study
    found = measured(place(folder / "study", "recall", "banded", 0), 16)
    asked, right = np.array(found["asked_at"]), np.array(found["right_at"])
    assert asked[0] == 0 and asked.sum() > 100 and (right <= asked).all()
    assert found["right"] == pytest.approx(right.sum() / asked.sum())


def test_layers_span_sums_of_the_steps_that_each_of_them_can_take():
    model = replace(sweeps.sparse_critique().recall.model, layers=2, length=40, band=5)
    banded = spanned(replace(model, pattern=("banded",)))
    assert banded.sum() == 1 + reach(model) == 9 and banded[:9].all()
    powers = spanned(replace(model, pattern=("powers",)))
    assert np.flatnonzero(~powers)[:4].tolist() == [7, 11, 13, 14]  # sums of three powers of two
    assert spanned(replace(model, pattern=("banded", "dense"))).all()


def test_bins_are_means_of_equal_parts_and_the_last_may_be_shorter():
    np.testing.assert_allclose(binned(np.arange(10.0), 4), [1, 4, 7, 9])
    np.testing.assert_allclose(binned(np.ones((3, 64)), 8), np.ones((3, 8)))


def test_a_study_without_room_beyond_the_reach_is_refused():
    study = sweeps.sparse_critique()
    with pytest.raises(ConfigError, match="reach 60 tokens back"):
        short = replace(study.recall.model, band=16, length=64)
        replace(study, recall=replace(study.recall, model=short))
