"""The table of many plans, without a compiler: which meshes it tries, refuses and goes on after."""

from dataclasses import replace

import jax
import pytest

from experiments import bert, chatgpt, gpt2, gpt3, gpt4, instructgpt
from lm.core.errors import ConfigError
from lm.plan import search, table
from lm.plan.page import HEADER
from lm.plan.search import candidates, meshes
from lm.plan.topology import Topology
from tests.plan.plan_test import PLAN


@pytest.mark.parametrize("devices", [16, 64, 256, 512, 1024])
@pytest.mark.parametrize(
    "experiment", [bert.large(), gpt2.xl(), gpt3.train("175b"), gpt4.base()], ids=lambda _: ""
)
def test_every_size_has_a_mesh_that_divides_it_on_every_slice(experiment, devices):
    model = getattr(experiment.model, "text", experiment.model)
    chosen = table.placed(experiment, devices)
    assert experiment.batch <= chosen.batch < experiment.batch + devices
    for mesh in meshes(chosen, devices):
        assert mesh.data * mesh.fsdp * mesh.tensor * mesh.sequence == devices
        assert chosen.batch % (mesh.data * mesh.fsdp) == 0
        assert model.width % mesh.fsdp == model.heads % mesh.tensor == 0


def test_a_search_tries_the_ways_to_split_the_stream_only_where_something_splits_it():
    tried = list(candidates(gpt3.train("175b"), 1024))
    assert {one.mesh.tensor for _, one in tried} == {2, 4, 8, 16}
    assert len({(one.mesh, one.model.remat, one.model.stream) for _, one in tried}) == len(tried)
    assert {one.model.stream for _, one in candidates(gpt2.xl(), 64)} == {"width"}


@pytest.mark.parametrize("slices", [2, 3])
def test_a_search_over_slices_splits_parameters_within_each_and_the_batch_across(slices):
    experiment = replace(gpt2.xl(), batch=1536)
    for mesh in (found := meshes(experiment, 64 * slices, slices)):
        assert mesh.data % slices == 0 and mesh.data * mesh.fsdp * mesh.tensor == 64 * slices
        assert mesh.fsdp == 64 // mesh.tensor  # all of a slice, of which each divides the width
    tried = [one.mesh for _, one in candidates(experiment, 64 * slices, slices)]
    assert set(tried) == set(found) and len(found) > 0


def test_a_search_changes_the_decoder_of_a_model_with_eyes():
    experiment = gpt4.base()
    tried = [one.model for _, one in candidates(experiment, 16)]
    assert {model.text.remat for model in tried} == {"full", "qkv", "products"}
    assert {replace(model, text=experiment.model.text) for model in tried} == {experiment.model}


@pytest.mark.parametrize("experiment", [instructgpt.sft(), chatgpt.sft()], ids=lambda _: "")
def test_a_search_for_what_has_no_model_before_it_begins_is_one_line(experiment):
    with pytest.raises(ConfigError, match="Sft whose model is None has no blocks .*: name one by"):
        list(candidates(experiment, 16))
    assert list(candidates(instructgpt.sft("6b"), 16))


def test_a_search_keeps_the_microbatches_and_tries_meshes_that_divide_each():
    tried = [one for _, one in candidates(replace(gpt2.xl(), batch=512, microbatches=4), 64)]
    assert {one.microbatches for one in tried} == {4}
    assert all(512 % (4 * one.mesh.data * one.mesh.fsdp) == 0 for one in tried)
    assert not list(candidates(replace(gpt2.xl(), batch=4, microbatches=4), 1024))


def test_a_search_goes_on_after_a_candidate_of_which_there_is_no_program(monkeypatch):
    def planned(experiment, *_):
        if experiment.model.remat == "full":
            raise ConfigError("batch 512 is not divisible by 9|10\nand more")
        if experiment.model.remat == "qkv":
            raise jax.errors.JaxRuntimeError("INTERNAL: a fault of the compiler")
        return replace(PLAN, t_ici=10.0 * experiment.mesh.tensor)

    monkeypatch.setattr(search, "plan", planned)
    found = list(search.rows(gpt2.small(), Topology("v5e:4x4"), [None] * 16))
    left = [line for line, made in found if made is None]
    assert left[0] == (
        "| remat full, mesh fsdp 16 | v5e:4x4 | no program: batch 512 is not divisible by 9/10 "
        "| | | | | | |"
    )
    assert "no program: INTERNAL: a fault of the compiler" in left[1]
    best, *_ = sorted(found, key=lambda pair: search.rank(pair[1]))
    assert best[1].t_ici == 10.0 and len(found) > len(left) + 1


def test_a_plan_of_unknown_utilisation_is_neither_the_best_nor_no_plan():
    unread, refused = replace(PLAN, flops=0.0), replace(PLAN, fits=False)
    slow = replace(PLAN, t_ici=5.0)
    assert sorted([None, unread, slow, refused, PLAN], key=search.rank) == [
        PLAN, slow, unread, refused, None,
    ]  # fmt: skip


def test_what_cannot_fit_by_far_is_refused_without_a_compiler():
    experiment = replace(gpt3.train("175b"), batch=1024)
    line = table.cell("gpt3:175b", experiment, Topology("v5e:2x4"), jax.devices())
    assert "needs over 28" in line and "refused by arithmetic, not compiled" in line
    assert line.count("|") == HEADER.splitlines()[0].count("|")


def test_a_table_goes_on_where_it_stopped_the_smallest_model_first(tmp_path, monkeypatch):
    monkeypatch.setattr(
        table, "cell", lambda name, _, topology, __: f"| {name} | {topology.name} | made |"
    )
    monkeypatch.setattr(Topology, "devices", lambda _: [])
    sizes = {"large": bert.large(), "small": gpt2.small()}
    pods, out = ("v5e:4x4", "v6e:4x4"), tmp_path / "table.md"
    first = table.rows(("large", "small"), sizes.__getitem__, pods, out)
    assert next(first) == "| small | v5e:4x4 | made |"
    first.close()
    rest = list(table.rows(("large", "small"), sizes.__getitem__, pods, out))
    assert rest == [
        f"| {name} | {pod} | made |"
        for name, pod in [("small", "v6e:4x4"), ("large", "v5e:4x4"), ("large", "v6e:4x4")]
    ]
    assert len(out.read_text().splitlines()) == 2 + 4


def test_a_table_knows_the_rows_it_has_of_a_name_with_commas(tmp_path, monkeypatch):
    monkeypatch.setattr(
        table, "cell", lambda name, _, topology, __: f"| {name}, batch 96 | {topology.name} | x |"
    )
    monkeypatch.setattr(Topology, "devices", lambda _: [])
    names, out = ('gpt2:train(size="xl", seed=1)', "gpt2:xl"), tmp_path / "table.md"
    assert len(list(table.rows(names, lambda _: gpt2.xl(), ("v5e:4x4",), out))) == 2
    assert not list(table.rows(names, lambda _: gpt2.xl(), ("v5e:4x4",), out))


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("absent/table.md", "cannot write .*absent/table.md: No such file or directory"),
        ("", "cannot be read: .*Is a directory.*; name a Markdown file"),
        ("binary", "binary cannot be read: .*can't decode byte.*; name a Markdown file"),
    ],
)
def test_a_table_that_cannot_be_kept_is_one_line(path, problem, tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=problem) as caught:
        next(table.rows(("gpt2:xl",), lambda _: gpt2.xl(), ("v5e:4x4",), tmp_path / path))
    assert "\n" not in str(caught.value)
