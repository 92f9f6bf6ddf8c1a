"""What a save costs is timed around a save that is really written."""

import pytest

from lm.models.gpt import GptConfig
from lm.studies import saving
from lm.train.checkpoint import Checkpoints
from lm.train.optimizer import AdamWConfig
from lm.train.pretrain import Pretrain

EXPERIMENT = Pretrain(
    model=GptConfig(layers=1, width=16, heads=2, length=8, vocab=32),
    optim=AdamWConfig(peak_lr=1e-3),
    steps=1,
    batch=8,
)


@pytest.mark.slow
def test_a_save_is_timed_and_is_on_the_disk_when_it_is_said_to_be(monkeypatch):
    kept, settle = [], Checkpoints.settle

    def settled(self):
        done = settle(self)
        kept.append(self.steps())
        return done

    monkeypatch.setattr(Checkpoints, "settle", settled)
    figure = saving.saving_figure(EXPERIMENT, repeats=2)
    assert kept[-1] == [2]
    assert 0 < figure["save_ms"] <= figure["written_ms"]
    assert figure["save_of_a_step"] == pytest.approx(figure["save_ms"] / figure["step_ms"], rel=0.2)
