"""Learning recall, as a run like any other."""

import numpy as np
import pytest

from lm.core.mesh import MeshConfig
from lm.data.batches import TokenBatch
from lm.data.recall import RecallConfig
from lm.models.gpt import GptConfig
from lm.train import recall
from lm.train.metrics import read_metrics
from lm.train.optimizer import AdamWConfig
from lm.train.process import Stop
from lm.train.recall import Recall
from lm.train.session import Finished, LoopConfig

TASK = RecallConfig()


@pytest.mark.slow
def test_an_evaluation_that_a_stop_came_before_is_made_by_the_next_process(tmp_path, monkeypatch):
    config = Recall(
        model=GptConfig(layers=1, width=16, heads=2, vocab=TASK.vocab, length=64),
        optim=AdamWConfig(peak_lr=1e-3), steps=6, batch=8, data=TASK, evaluate_batches=1,
        mesh=MeshConfig(data=-1), loop=LoopConfig(evaluate_every=2, save_every=100),
    )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(Stop, "requested", lambda stop, step: step == 4)
        with pytest.raises(Finished):
            config.run(tmp_path)
    config.run(tmp_path)
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
