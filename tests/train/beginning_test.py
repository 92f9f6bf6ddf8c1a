"""Pre-training goes on from the parameters of another run, on other text."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

import lm.train.beginning
from experiments import gpt1, gpt2
from lm.core.errors import CheckpointError, ConfigError
from lm.core.mesh import one_device
from lm.models.gpt import GptConfig
from lm.text.byte import ByteTokenizer
from lm.train.beginning import read_beginning, with_params
from lm.train.pretrain import Pretrain
from lm.train.saved import Saved, read_run
from tests.launched import run, write_text
from tests.models.pretrained.models import drawn

MODEL = GptConfig(layers=1, width=16, heads=2, length=16, vocab=269)


@pytest.fixture
def saved(monkeypatch):
    found = Saved(replace(gpt2.tiny(), model=MODEL), drawn(MODEL), ByteTokenizer(), 7, "")
    monkeypatch.setattr(lm.train.beginning, "read_run", lambda *_: found)
    return found


@pytest.mark.slow
def test_a_run_begins_with_the_parameters_of_another_alone(saved):
    mesh = one_device()
    model = replace(MODEL, residual_dropout=0.1, hidden=64)  # of the same shape
    params, tokenizer = read_beginning("RUN", model, Pretrain, mesh)
    assert tokenizer is saved.tokenizer
    config = replace(gpt2.tiny(), model=model)
    with jax.set_mesh(mesh):
        state = with_params(config, config.abstract(mesh), params)
    jax.tree.map(np.testing.assert_array_equal, state.params, saved.params)
    assert state.step == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.moments))


def test_a_run_of_another_model_or_kind_is_no_beginning(saved, monkeypatch):
    mesh = one_device()
    for change, said in (({"width": 32}, "width is 32, and 16"), ({"norm": "post"}, "norm is")):
        with pytest.raises(ConfigError, match=f"model.{said}.*in init=RUN: --gin_file=RUN/conf"):
            read_beginning("RUN", replace(MODEL, **change), Pretrain, mesh)
    for other, said in (
        (replace(saved, config=gpt1.finetune()), "init=RUN holds a Finetune of a"),
        (replace(saved, tokenizer=None), "init=RUN has no tokenizer"),
    ):
        monkeypatch.setattr(lm.train.beginning, "read_run", lambda *_, other=other: other)
        with pytest.raises(CheckpointError, match=said):
            read_beginning("RUN", MODEL, Pretrain, mesh)


def test_the_flag_that_takes_the_other_model_can_be_pasted_into_a_shell(saved):
    with pytest.raises(ConfigError, match=r"--gin_file='A RUN'/config.gin has its model"):
        read_beginning("A RUN", replace(MODEL, width=32), Pretrain, one_device())


@pytest.mark.slow
def test_a_run_goes_on_from_another_on_other_text_and_is_resumed_without_it(tmp_path):
    text = write_text(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_text("another text, of other words\n" * 400)
    short = {"steps": 2, "loop.save_every": 1}
    assert run(text, tmp_path / "first", **short).returncode == 0
    more = short | {"init": tmp_path / "first", "optim.warmup_tokens": 10**9}  # nothing is learned
    done = run(tmp_path / "b.txt", tmp_path / "second", **more)
    assert done.returncode == 0, done.stderr
    assert "the rate still rises at the last step" in done.stdout
    first, second = (read_run(tmp_path / name, one_device()) for name in ("first", "second"))
    assert second.config.init == str(tmp_path / "first") and second.step == 2
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), first.params, second.params
    )
    (tmp_path / "first").rename(tmp_path / "away")
    done = run(tmp_path / "b.txt", tmp_path / "second", **(more | {"steps": 3}))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "second" / "summary.json").read_text())["steps"] == 3
