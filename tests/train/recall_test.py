"""Learning recall, as a run like any other."""

import pytest

from lm.core.mesh import MeshConfig
from lm.data.recall import RecallConfig
from lm.models.gpt import GptConfig
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
