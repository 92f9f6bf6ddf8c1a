"""The lines of the benchmark: what each names, and what it stands beside."""

import jax
import pytest

from lm.data.tokens import TextConfig
from lm.models.gpt import GptConfig
from lm.studies import speed
from lm.studies.speed import Size, generation_figure, pretraining, train_figure
from lm.studies.speed_data import data_figure, pairs_figure

TINY = Size(layers=1, heads=2, width=16, vocab=50, batch=4, length=16)
NAMED = {
    "name", "model", "batch", "length", "dtype", "tokens_per_second", "share_of_matmul",
    "matmul_gflops",
}  # fmt: skip


@pytest.fixture(autouse=True)
def ceilings(monkeypatch):
    monkeypatch.setattr(speed, "matmul_flops", lambda dtype: 1e9)
    monkeypatch.setattr(speed, "read_bandwidth", lambda: 1e9)


@pytest.fixture
def text(tmp_path):
    (tmp_path / "a.txt").write_text("A cat sat. It ran on. " * 50)
    (tmp_path / "b.txt").write_text("A dog ran. It sat down. " * 50)
    return TextConfig(train=str(tmp_path), valid=str(tmp_path / "a.txt"), cache=str(tmp_path / "c"))


def test_rows_and_pairs_are_told_beside_the_ceiling_and_the_training_they_are_for(text):
    rows = data_figure("tiny", TINY, "bfloat16", 1, training=10.0)
    pairs = pairs_figure("bfloat16", training=10.0, text=text)
    for figure, flops in (
        (rows, pretraining(TINY, "bfloat16").flops_per_token()),
        (pairs, speed.bert_pretraining("bfloat16").flops_per_token()),
    ):
        assert figure.keys() >= NAMED and figure["dtype"] == "bfloat16" and figure["batch"]
        whole = figure["tokens_per_second"]
        assert figure["times_training"] == pytest.approx(whole / 10, rel=1e-2)
        assert figure["share_of_matmul"] == pytest.approx(whole * flops / 1e9, rel=1e-2)
    assert "times_training" not in data_figure("tiny", TINY, "float32", 1)


def test_a_step_is_told_with_its_mfu_where_the_peak_of_the_device_is_published(monkeypatch):
    monkeypatch.setattr(speed, "published_peak", lambda kind: 2e9)
    figure = train_figure("tiny", pretraining(TINY, "float32"), 1e4, 1)
    assert figure.keys() >= NAMED
    assert figure["mfu"] == pytest.approx(figure["tokens_per_second"] * 1e4 / 2e9, rel=1e-2)


def test_decoding_is_told_beside_products_as_well_as_beside_memory():
    config = GptConfig(layers=1, width=16, heads=2, length=16, vocab=50)
    with jax.default_device(jax.devices()[0]):
        figure = generation_figure("tiny", config, batch=2, repeats=1, tokens=4, prompt=8)
    assert figure.keys() >= NAMED | {"share_of_bandwidth"}
    assert (figure["model"], figure["batch"], figure["length"]) == ("tiny", 2, 12)
