"""GPT-3's sizes and rules as the paper's tables print them (2.1, D.1, appendix B)."""

import json
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments.gpt3 import PF_DAY, PODS, SIZES, TOKENS, pod, tiny, train
from launch.experiment import resolve
from lm.core import tree
from lm.core.errors import ConfigError
from lm.data.batches import BatchSizes
from lm.evals.published import figures
from lm.models.gpt import abstract_params
from lm.train.optimizer import Progress
from tests.launched import ROOT, final_digests, losses, run, write_text

BILLION = 1_000_000_000
PUBLISHED = {  # exact count, and table D.1: millions of parameters, training FLOPs
    "small": (125_226_240, 125, 2.25e20),
    "medium": (355_871_744, 356, 6.41e20),
    "large": (760_300_032, 760, 1.37e21),
    "xl": (1_315_723_264, 1_320, 2.38e21),
    "2.7b": (2_651_553_280, 2_650, 4.77e21),
    "6.7b": (6_658_404_352, 6_660, 1.20e22),
    "13b": (12_853_386_240, 12_850, 2.31e22),
    "175b": (174_604_259_328, 174_600, 3.14e23),
}

TABLE_21 = {  # layers, width, heads, head size, batch in tokens, rate; D.1 decides its misprints
    "small": (12, 768, 12, 64, 524_288, 6.0e-4),
    "medium": (24, 1024, 16, 64, 524_288, 3.0e-4),
    "large": (24, 1536, 16, 96, 524_288, 2.5e-4),
    "xl": (24, 2048, 16, 128, 1_048_576, 2.0e-4),
    "2.7b": (32, 2560, 32, 80, 1_048_576, 1.6e-4),
    "6.7b": (32, 4096, 32, 128, 2_097_152, 1.2e-4),
    "13b": (40, 5120, 40, 128, 2_097_152, 1.0e-4),
    "175b": (96, 12_288, 96, 128, 3_145_728, 0.6e-4),
}


def as_printed(parameters):
    """Millions, in tens of them from a billion on, as table D.1 rounds."""
    millions = parameters / 1e6
    return round(millions) if millions < 1000 else round(millions / 10) * 10


@pytest.mark.parametrize("size", TABLE_21)
def test_each_size_has_the_shape_the_batch_and_the_rate_of_table_21(size):
    config = train(size)
    model = config.model
    shape = (model.layers, model.width, model.heads, model.head_width)
    assert (*shape, config.batch * model.length, config.optim.peak_lr) == TABLE_21[size]
    assert replace(config.optim, peak_lr=6e-4) == train("small").optim  # tests/published_test.py
    assert TABLE_21.keys() == SIZES.keys()


@pytest.mark.parametrize("size", PUBLISHED)
def test_each_size_has_the_parameters_and_flops_of_table_d1(size):
    exact, millions, flops = PUBLISHED[size]
    config = resolve(f"gpt3:{size}")
    assert config == train(size)
    assert tree.count(abstract_params(config.model)) == config.model.parameters() == exact
    assert as_printed(exact) == millions
    read = BatchSizes(config.batch, config.model.length, config.ramp).tokens_before(config.steps)
    printed = as_printed(config.model.parameters()) * 1e6  # D.1 multiplies what it prints
    assert f"{6 * printed * read:.2e}" == f"{flops:.2e}"
    assert config.reference.value == pytest.approx(2.57 * (flops / PF_DAY) ** -0.048, abs=2e-3)


def test_the_file_of_published_figures_has_the_flops_of_table_d1():
    rows = [row for row in figures() if row["metric"] == "flops"]
    printed = {row["system"].removeprefix("GPT-3 ").lower(): row["value"] for row in rows}
    assert printed == {size: flops for size, (_, _, flops) in PUBLISHED.items()}


@pytest.mark.parametrize("chips", PODS)
def test_the_page_of_the_pods_says_with_which_batches_each_departs_from_the_paper(chips):
    plan = pod(chips)
    first, full = (rows * plan.model.length for rows in (plan.sizes().rows(0), plan.batch))
    row = f"| {chips} | {first:,} | {full:,} | {plan.optim.peak_lr:g} |".replace("6e-05", "0.6e-4")
    assert row in (ROOT / "results" / "pods.md").read_text()
    assert plan.microbatches == 1 and "pods.md" in pod.__doc__


@pytest.mark.parametrize(
    "size, literal, printed",
    [
        ("xl", {"heads": 24}, 1_520),
        ("13b", {"width": 5140}, 12_940),
        ("13b", {"width": 5140, "head_size": None, "heads": 20}, 12_950),  # projections of 5140 too
    ],
)
def test_the_literal_readings_of_table_21_do_not_have_them(size, literal, printed):
    model = replace(train(size).model, **literal)
    assert as_printed(model.parameters()) == printed != PUBLISHED[size][1]
    assert tree.count(abstract_params(model)) == model.parameters()


def test_layers_alternate_between_dense_and_banded():
    assert {train(size).model.pattern for size in SIZES} == {("dense", "banded")}
    assert train("small").model.band == 256


def test_a_banded_layer_counts_the_pairs_of_its_band():
    model = train("small").model
    dense = replace(model, pattern=("dense",))
    width, length = 768, 2048
    whole, band = length * (length + 1) / 2, 256 * 257 / 2 + (length - 256) * 256
    saved = dense.flops_per_token(length) - model.flops_per_token(length)
    assert saved == pytest.approx(12 * 6 * width * (whole - band) / length)  # of 6 layers
    products = 6 * (12 * 12 * width**2 + 50_257 * width)
    assert dense.flops_per_token(length) == products + 6 * 12 * width * (length + 1)


@pytest.mark.parametrize("size", SIZES)
def test_the_rate_and_the_batch_are_functions_of_tokens(size):
    config = train(size)
    peak = config.optim.peak_lr
    sizes = BatchSizes(config.batch, config.model.length, config.ramp)

    def at(tokens):
        """Learning rate and batch in tokens of the step that reaches this many."""
        step = max(0, sizes.steps_to(tokens) - 1)
        seen = sizes.tokens_before(step + 1)
        assert tokens <= seen < tokens + config.batch * config.model.length or tokens == 0
        rate = config.optim.rate(Progress(step, config.steps, seen, TOKENS))
        return rate / peak, sizes.rows(step) * config.model.length

    rate, batch = at(0)
    assert rate == pytest.approx(32_768 / 375e6) and batch == 32_768
    rate, batch = at(375_000_000)
    assert rate == pytest.approx(1, abs=2e-3)
    assert batch == 32_768  # the first eighth of the ramp
    rate, batch = at(4 * BILLION)
    assert rate == pytest.approx(0.9995, abs=5e-4)
    if config.ramp.tokens == 4 * BILLION:  # the full batch comes next
        assert sizes.rows(sizes.steps_to(4 * BILLION)) == config.batch
        assert batch < config.batch * 2048
    else:
        assert 32_768 < batch < config.batch * 2048
    for tokens in (260 * BILLION, 300 * BILLION):
        rate, batch = at(tokens)
        assert rate == pytest.approx(0.1, abs=1e-4) and batch == config.batch * 2048
    assert config.optim.rate(Progress(0, 1, 260 * BILLION - 10**8, TOKENS)) > 0.1 * peak
    assert config.optim.rate(Progress(0, 1, 130_187_500_000, TOKENS)) == pytest.approx(0.55 * peak)


@pytest.mark.parametrize("size", SIZES)
def test_a_ramp_has_at_most_eight_batches_and_the_run_300_billion_tokens(size):
    config = train(size)
    sizes = BatchSizes(config.batch, config.model.length, config.ramp)
    batches = [rows for _, _, rows in sizes.stages]
    assert len(batches) == 8 and batches == sorted(set(batches)) and batches[-1] == config.batch
    full = sizes.tokens_before(sizes.stages[-1][0])  # where the full batch begins
    assert config.ramp.tokens <= full < config.ramp.tokens + config.batch * 2048
    assert sizes.tokens_before(config.steps - 1) < TOKENS <= sizes.tokens_before(config.steps)
    # linear: halfway in tokens the batch is half the way up, within one of the seven steps
    middle = sizes.rows(sizes.steps_to(config.ramp.tokens // 2))
    assert abs(middle - (16 + config.batch) / 2) <= (config.batch - 16) / 7


@pytest.mark.parametrize("size", SIZES)
def test_every_size_trains_on_more_ways_than_its_first_batch_has_rows(size):
    """Its full batch is what they must divide: a smaller one is filled up by rows without count."""
    config = train(size)
    shape = {"data": 1, "fsdp": 128, "tensor": 4, "sequence": 1}
    config.check_mesh(SimpleNamespace(shape=shape))
    with pytest.raises(ConfigError, match=f"batch {config.batch} is not divisible by 72"):
        config.check_mesh(SimpleNamespace(shape=shape | {"fsdp": 72}))
    with pytest.raises(ConfigError, match="model.heads .* by mesh.tensor 7"):
        config.check_mesh(SimpleNamespace(shape=shape | {"tensor": 7}))


def test_a_schedule_of_steps_would_be_another():
    """The control: in steps, a warm-up under the ramp ends elsewhere in tokens."""
    config = train("175b")
    sizes = BatchSizes(config.batch, config.model.length, config.ramp)
    without = BatchSizes(config.batch, config.model.length)
    steps = without.steps_to(375_000_000)
    assert sizes.tokens_before(steps) < 0.02 * 375_000_000


def test_tiny_has_every_rule():
    config = tiny()
    assert config.ramp and config.model.pattern == ("dense", "banded")
    assert config.model.band < config.model.length
    assert config.optim.warmup_tokens < config.ramp.tokens < config.optim.decay_tokens
    assert jax.tree.leaves(abstract_params(config.model))


@pytest.mark.slow
def test_a_ramp_reads_the_same_rows_on_every_mesh_and_goes_on_on_another(tmp_path):
    """Batches of 3, 9 and 16 rows; 8 devices with 2 microbatches take multiples of 16."""
    text = write_text(tmp_path / "text.txt")
    rules = {
        "experiment": "gpt3:tiny", "tokenizer.kind": "bytes", "model.vocab": 269, "batch": 16,
        "data.mixture": (), "ramp.start": 3, "ramp.sizes": 3, "ramp.tokens": 1600, "steps": 16,
        "model.residual_dropout": 0.1, "optim.warmup_tokens": 640, "optim.decay_tokens": 6400,
        "loop.save_every": 4,
    }  # fmt: skip
    assert (done := run(text, tmp_path / "one", **rules)).returncode == 0, done.stderr
    assert run(text, tmp_path / "two", **rules | {"steps": 4}).returncode == 0
    done = run(text, tmp_path / "two", **rules, devices=8, microbatches=2)
    assert done.returncode == 0, done.stderr
    assert "batches of 3, 9 rows take the time of the next multiple of 16" in done.stdout
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").open()]
        for name in ("one", "two")
    )
    manifest = tmp_path / "two" / "checkpoints" / "16" / "manifest" / "manifest.json"
    told = json.loads(manifest.read_text())
    assert told["data_ramp"][0] == [0, 0, 3]
    del told["checksum"]  # as one of before there were any
    manifest.write_text(json.dumps(told | {"data_ramp": [[0, 0, 4], *told["data_ramp"][1:]]}))
    done = run(text, tmp_path / "two", **rules)
    assert done.returncode == 2 and "data_ramp: checkpoint [[0, 0, 4], " in done.stderr
    assert one[-1]["whole_valid_loss"] == pytest.approx(two[-1]["whole_valid_loss"], rel=1e-5)
    one, two = ([row for row in rows if "loss" in row] for rows in (one, two))
    assert [row["tokens"] // 32 for row in one][:2] == [3, 6]
    for name in ("step", "tokens", "loss", "lr"):
        figures = ([row[name] for row in rows] for rows in (one, two))
        np.testing.assert_allclose(*figures, rtol=1e-5)


@pytest.mark.slow
def test_a_run_with_every_rule_goes_on_bit_for_bit_and_tells_what_it_read(tmp_path):
    """Two texts by weight, under a ramp, with banded layers; stopped in the middle of the ramp."""
    text = write_text(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_text("another text of other words " * 400)
    mixture = f"(('a','{text}',3),('b','{tmp_path}/b.txt',1))"
    rules = {
        "data.train": "stdlib:", "data.mixture": mixture, "tokenizer.kind": "bytes",
        "model.vocab": 269, "model.band": 8, "batch": 8, "ramp.start": 2,
        "ramp.sizes": 3, "ramp.tokens": 1600, "loop.evaluate_every": 40,
        "optim.warmup_tokens": 640, "optim.decay_tokens": 2400,
    }  # fmt: skip
    for name, steps in (("whole", (20,)), ("parts", (10, 20))):
        for until in steps:
            done = run(text, tmp_path / name, experiment="gpt3:tiny", **rules, steps=until)
            assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert final_digests(tmp_path / "whole", 20) == final_digests(tmp_path / "parts", 20)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").open()]
    seen = [row["tokens"] // 32 for row in rows if "loss" in row]
    assert [b - a for a, b in zip(seen, seen[1:], strict=False)][:3] == [2, 2, 2]
    assert seen[-1] - seen[-2] == 8
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    a, b = summary["mixture"]
    assert (a["weight"], b["weight"]) == (0.75, 0.25)
    read = sum(text["epochs"] * text["tokens"] for text in summary["mixture"])
    assert read == pytest.approx(summary["tokens"])
    assert "Training mixture" in (tmp_path / "whole" / "report.html").read_text()
    assert done.stdout.count("epochs") == 2  # at the start and at the end
