"""What a program or a notebook gets of a run."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import lm
from experiments import chatgpt, gpt2, instructgpt
from lm.core.errors import DataError
from lm.data.tokens import TextConfig
from lm.models.gpt import forward
from lm.rlhf.source import text_of
from lm.studies.loaded import Loaded
from lm.text.byte import ByteTokenizer
from lm.train.process import Process
from lm.train.saved import Saved
from tests.launched import ROOT, environment
from tests.models.gpt_test import made, small
from tests.serve.seeing import model as seeing_model
from tests.serve.seeing import seeing_run
from tests.train.pretrain_test import small_run
from tests.train.step_test import EXPERIMENT


@pytest.fixture(scope="module")
def loaded():
    model = small()
    return Loaded(replace(EXPERIMENT, model=model), made(model), None, 0)


IDS = np.arange(24).reshape(2, 12)


@pytest.mark.slow
def test_one_row_and_several_have_the_same_logits_hidden_states_and_attention(loaded):
    np.testing.assert_allclose(
        loaded.logits(IDS), forward(loaded.config.model, loaded.params, IDS)[0], atol=1e-5
    )
    assert loaded.hidden_states(IDS).shape == (3, 2, 12, 32)
    assert loaded.hidden_states(IDS[0]).shape == (3, 12, 32)
    assert loaded.attention(IDS[0]).shape == (2, 4, 12, 12)
    for ask in (loaded.hidden_states, loaded.attention):
        np.testing.assert_allclose(ask(IDS[0]), ask(IDS)[:, 0], atol=1e-5)
    np.testing.assert_allclose(loaded.logits(IDS[1].tolist()), loaded.logits(IDS)[1], atol=1e-5)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (list(range(17)), "17 ids are more than the model's context of 16"),
        ([1, 50], "id 50 is not in the model's vocabulary of 50"),
        ([-1], "id -1 is not in"),
        ([], "must be integers"),
        ([0.5], "must be integers"),
    ],
)
def test_ids_that_the_model_does_not_have_are_refused_and_not_clamped(loaded, ids, said):
    for ask in (loaded.logits, loaded.hidden, loaded.attention):
        with pytest.raises(DataError, match=said):
            ask(ids)


@pytest.mark.parametrize(
    ("config", "learned"),
    [(gpt2.tiny(), False), (instructgpt.sft(), False), (instructgpt.ppo(), False),
     (chatgpt.sft(), True), (chatgpt.ppo(), True)],
)  # fmt: skip
def test_a_run_has_learned_turns_where_its_data_are_conversations(config, learned):
    """Whatever its vocabulary knows: that of bytes has the roles always."""
    assert Loaded(config, None, ByteTokenizer(), 0).in_turns is learned


def test_a_model_that_sees_reads_text_with_its_decoder(tmp_path):
    run = seeing_run(tmp_path / "seeing", seeing_model())
    loaded, ids = lm.load(run), np.arange(8)
    decoder, params = loaded.config.model.text, loaded.params["text"]
    expected = forward(decoder, params, ids[None])[0][0]
    np.testing.assert_allclose(loaded.logits(ids), expected, atol=1e-5)
    assert loaded.hidden(ids).shape == (8, decoder.width)
    assert loaded.attention(ids).shape == (decoder.layers, decoder.heads, 8, 8)
    command = [sys.executable, "-m", "launch.sample", f"--workdir={run}"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 1 and "name one by --image=FILE" in done.stderr


def test_weights_from_elsewhere_have_no_known_text_and_those_trained_here_have():
    """A conversion is step 0; the text that its config names is what it may go on with."""
    trained = Loaded(replace(gpt2.tiny(), data=TextConfig(train="stdlib:this.py")), None, None, 3)
    assert any("Gur Mra bs Clguba" in text for text in trained.texts())
    with pytest.raises(DataError, match="do not say what they were pre-trained on"):
        list(replace(trained, step=0).texts())
    stage = instructgpt.sft()
    for step in (0, 3):  # what goes on from either
        found = text_of(Saved(trained.config, None, None, step, ""))
        after = Loaded(replace(stage, init="RUN", text=found), None, None, 1)
        if step:
            assert list(after.texts()) == list(trained.texts())
            continue
        with pytest.raises(DataError, match="RUN does not say what it was pre-trained on"):
            list(after.texts())


def test_tokens_are_those_that_the_run_counted_whatever_its_batch_is_now(one_device, tmp_path):
    config, run = small_run(tmp_path), tmp_path / "run"
    config.run(run)
    replace(config, steps=7, batch=8).run(run, Process(allow_data_change=True))
    found = lm.load(run)
    assert found.tokens == 4 * 4 * 8 + 3 * 8 * 8
    assert found.tokens == json.loads((run / "summary.json").read_text())["tokens"]
    assert replace(found, counted=None).tokens == 7 * 8 * 8  # as of an older checkpoint


def test_what_was_loaded_is_shown_in_a_line(loaded):
    assert re.fullmatch(r"<Loaded: \w+ of a \w+, [\d,]+ parameters, step \d+>", repr(loaded))
