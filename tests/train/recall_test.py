"""Learning recall, as a run like any other."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lm.core.mesh import MeshConfig
from lm.data.batches import TokenBatch
from lm.data.recall import RecallConfig
from lm.models.gpt import GptConfig
from lm.train import recall
from lm.train.metrics import read_metrics
from lm.train.optimizer import AdamWConfig
from lm.train.process import Process, Stop
from lm.train.recall import Recall
from lm.train.session import Finished, LoopConfig
from tests.train.reading import rows_read

TASK = RecallConfig()
SMALL = Recall(
    model=GptConfig(layers=1, width=16, heads=2, vocab=TASK.vocab, length=64),
    optim=AdamWConfig(peak_lr=1e-3), steps=6, batch=8, data=TASK, evaluate_batches=1,
    mesh=MeshConfig(data=-1), loop=LoopConfig(evaluate_every=2, save_every=100),
)  # fmt: skip


@pytest.mark.slow
def test_an_evaluation_that_a_stop_came_before_is_made_by_the_next_process(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Stop, "requested", lambda stop, step: step == 4)
        with pytest.raises(Finished):
            SMALL.run(tmp_path)
    SMALL.run(tmp_path)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if "valid_loss" in row] == [2, 4, 6]


def test_right_answers_and_losses_are_counted_over_questions_alone(monkeypatch):
    monkeypatch.setattr(recall, "forward", lambda model, params, tokens: (params, None))
    targets = np.array([[1, 2, 0, 3]], np.int32)
    mask = np.array([[True, False, False, True]])
    logits = 5 * np.eye(4, dtype=np.float32)[[[1, 2, 0, 0]]]  # the last one is wrong
    batch = TokenBatch(np.zeros_like(targets), targets, mask, np.zeros(1, np.uint32))
    loss, right, count = recall.answered("any", logits, batch)
    share = np.exp(5) / (np.exp(5) + 3)
    assert (right, count) == (1, 2)
    assert float(loss) == pytest.approx(-2 * np.log(share) + 5, rel=1e-5)


def test_norms_of_the_stream_are_logged_where_asked(tmp_path):
    loop = LoopConfig(log_every=1, log_norms=True)
    replace(SMALL, steps=1, loop=loop).run(tmp_path)
    (norms,) = [row["norm/stream"] for row in read_metrics(tmp_path / "metrics.jsonl")
                if "loss" in row]  # fmt: skip
    assert len(norms) == 2 and 0 < min(norms) < np.inf


@pytest.mark.slow
def test_a_run_that_goes_on_with_another_batch_reads_on_and_tells_the_tokens_that_it_read(
    tmp_path, monkeypatch
):
    read = rows_read(monkeypatch)
    SMALL.run(tmp_path)
    replace(SMALL, steps=8, batch=16).run(tmp_path, Process(allow_data_change=True))
    rows = read_metrics(tmp_path / "metrics.jsonl")
    ends = [(row["step"], row["tokens"]) for row in rows if "valid_loss" in row]
    assert ends == [(2, 1024), (4, 2048), (6, 3072), (8, 5120)]
    assert json.loads((tmp_path / "summary.json").read_text())["tokens"] == 5120
    assert read[5:] == [(40, 47), (48, 63), (64, 79)]
