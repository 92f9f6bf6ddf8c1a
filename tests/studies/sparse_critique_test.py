"""The critique of sparse attention: its members, what it measures of them, what it tells."""

import json
from contextlib import nullcontext
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments import sweeps
from lm.core.errors import ConfigError
from lm.core.mesh import MeshConfig, make_mesh, replicated
from lm.data.recall import HELD_OUT, RecallRows
from lm.data.tokens import TextConfig
from lm.models.gpt import GptConfig, forward
from lm.studies import sparse_critique, sparse_measures
from lm.studies.sparse_critique import binned, place
from lm.studies.sparse_measures import (
    joined,
    logits_of,
    measured,
    measured_recall,
    reach,
    spanned,
)
from lm.studies.sparse_verdict import Verdict
from tests.launched import ROOT

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


def test_recall_within_reach_holds_the_last_token_that_is_reached(study, monkeypatch):
    config = study[1].recall
    made = RecallRows(config.data, config.model.length, HELD_OUT)
    batch, distances = made.with_distances(0, config.batch)
    told = np.where(distances % 2, batch.targets, batch.targets + 1)  # right at odd distances
    monkeypatch.setattr(sparse_measures, "logits_of", lambda model, *_: np.eye(model.vocab)[told])
    found = measured_recall(config, None, config.batch)
    asked = np.bincount(distances[distances > 0], minlength=config.model.length)
    right, far = asked * (np.arange(len(asked)) % 2), reach(config.model) + 1
    assert asked[far - 1] and asked[far] and found["right_at"] == right.tolist()
    assert found["right_within"] == right[:far].sum() / asked[:far].sum()
    assert found["right_beyond"] == right[far:].sum() / asked[far:].sum()
    assert found["right_near"] == right[:4].sum() / asked[:4].sum()


def test_layers_span_sums_of_the_steps_that_each_of_them_can_take():
    model = replace(sweeps.sparse_critique().recall.model, layers=2, length=40, band=5)
    banded = spanned(replace(model, pattern=("banded",)))
    assert banded.sum() == 1 + reach(model) == 9 and banded[:9].all()
    powers = spanned(replace(model, pattern=("powers",)))
    assert np.flatnonzero(~powers)[:4].tolist() == [7, 11, 13, 14]  # sums of three powers of two
    assert spanned(replace(model, pattern=("banded", "dense"))).all()


def test_local_then_strided_joins_every_pair_and_a_band_needs_as_many_layers_as_it_takes():
    base = sweeps.sparse_critique().recall.model
    every = np.tri(256, dtype=bool)
    parts = replace(base, length=256, layers=2, band=16, stride=16, pattern=("banded", "columns"))
    np.testing.assert_array_equal(joined(parts), every)
    for one in parts.pattern:
        assert not np.array_equal(joined(replace(parts, pattern=(one,))), every)
    band = replace(base, length=256, layers=9, band=32, pattern=("banded",))
    np.testing.assert_array_equal(joined(band), every)
    assert not np.array_equal(joined(replace(band, layers=8)), every)


COLUMNS = {  # the verdict's figures by row and column of the table
    "dense": ("dense", 3), "banded": ("banded", 3), "alternating": ("dense, banded", 3),
    "dense_within": ("dense", 2), "banded_within": ("banded", 2), "dense_control": ("dense", 5),
    "banded_control": ("banded", 5),
}  # fmt: skip


def committed():
    """What the results print, as three seeds of the same mean and deviation."""
    text = (ROOT / "results" / "sparse_critique.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.split("|")[1:]] for line in lines]
    rows = {row[0]: row for row in cells}
    found = {}
    for name, (label, column) in COLUMNS.items():
        mean, deviation = map(float, rows[label][column].split(" ± "))
        found[name] = [mean - deviation, mean, mean + deviation]
    return text, found


def test_the_verdict_of_the_committed_figures_is_what_the_results_say():
    text, found = committed()
    verdict = Verdict(chance=0.125, **found)
    assert verdict.shown and verdict.failed is None and "fails" not in verdict.line()
    assert f"**S{verdict.line()[1:]}.**" in " ".join(text.split())


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"dense": [0.125] * 3}, "dense minus banded beyond reach is"),
        ({"dense": [0.1, 1.0, 0.3]}, "dense minus banded beyond reach is"),  # within its spread
        ({"banded": [0.2, 0.21, 0.2]}, "banded keeps 9."),
        ({"alternating": [0.9, 0.9, 0.9]}, "alternating keeps 88."),
        ({"banded_within": [0.5, 0.4, 0.5]}, "banded keeps 39.0% within reach"),
        ({"banded_control": [0.125] * 3}, "banded keeps 0.0% of the control"),
        ({"dense_control": [0.125] * 3}, "banded keeps nan% of the control"),
        ({name: [0.5] for name in COLUMNS}, "a spread needs two seeds"),
    ],
)
def test_the_verdict_names_the_first_condition_that_fails(change, failed):
    verdict = Verdict(chance=0.125, **committed()[1] | change)
    assert not verdict.shown and verdict.failed.startswith(failed)
    assert verdict.line().startswith("not shown: ") and failed in verdict.line()


def test_a_study_without_the_patterns_of_the_rule_has_no_verdict():
    study = sweeps.sparse_critique()

    def over(task, label, name):
        within = task == "control" or name == "right_within" or label != "banded"
        return np.full(3, 1.0 if within else 0.125)

    assert study.verdict(over).shown
    assert replace(study, patterns=study.patterns[:2]).verdict(over) is None
    assert replace(study, controlled=()).verdict(over) is None


def test_bins_are_means_of_equal_parts_and_the_last_may_be_shorter():
    np.testing.assert_allclose(binned(np.arange(10.0), 4), [1, 4, 7, 9])
    np.testing.assert_allclose(binned(np.ones((3, 64)), 8), np.ones((3, 8)))


def test_a_study_without_room_beyond_the_reach_is_refused():
    study = sweeps.sparse_critique()
    with pytest.raises(ConfigError, match="reach 60 tokens back"):
        short = replace(study.recall.model, band=16, length=64)
        replace(study, recall=replace(study.recall, model=short))
    model = study.novels.model
    least = reach(model) + model.band + 1  # the last tokens, a band of them, do not see the first
    for length, taken in ((least, True), (least - 1, False)):
        novels = replace(study.novels, model=replace(model, length=length))
        with nullcontext() if taken else pytest.raises(ConfigError, match="too few of"):
            replace(study, novels=novels, bins=4)


def test_a_study_without_other_rows_to_take_far_tokens_from_is_refused():
    study = sweeps.sparse_critique()
    with pytest.raises(ConfigError, match=r"^novels\.batch 1 must be 2 or more"):
        replace(study, novels=replace(study.novels, batch=1))


@pytest.mark.slow
def test_logits_are_whole_on_every_process():
    devices = jax.local_devices()
    mesh = make_mesh(MeshConfig(), devices)
    model = GptConfig(layers=1, width=8, heads=1, vocab=16, length=8)
    params = nn.unbox(model.module().init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32)))
    with jax.set_mesh(mesh):
        params = jax.device_put(params["params"], replicated(mesh))
        found = logits_of(model, params, np.zeros((len(devices), 8), np.int32))
    assert len(devices) == 8 == len(found.sharding.device_set) and found.is_fully_replicated
