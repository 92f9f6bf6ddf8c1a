"""A fine-tuned classifier of two classes is a reward."""

import random

import pytest

from lm.core.errors import ConfigError
from lm.data.tasks import TaskConfig
from lm.rlhf import scores
from lm.rlhf.scores import RewardConfig, RolloutScorer, text_scorer
from lm.text.byte import ByteTokenizer
from lm.train.finetune import Finetune
from lm.train.guard import GuardConfig
from tests.rlhf.runs import OPTIM, pretrained, write_rows


def test_a_classifier_is_known_by_its_parameters_and_not_by_its_path(
    tmp_path, monkeypatch, one_device
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scores, "is_classifier", lambda run: True)
    monkeypatch.setattr(scores, "classifier_scorer", lambda saved, mesh: None)
    pretrained(tmp_path / "run")
    pretrained(tmp_path / "longer", seed=8)  # stands for the same run, trained further

    def known(run):
        return RolloutScorer(RewardConfig(run=run), ByteTokenizer(), one_device).identity

    assert known("run") == known(str(tmp_path / "run")) != known("longer")


@pytest.mark.slow
def test_a_classifier_prefers_answers_of_its_second_class(tmp_path, one_device):
    letters, rows = random.Random(0), []
    for number in range(240):
        mark = "zy"[number % 2]
        text = "".join(letters.choice("abcd") for _ in range(6)) + mark
        rows.append({"text": text, "label": ["bad", "good"][number % 2]})
    for part, some in (("train", rows[:200]), ("valid", rows[200:])):
        write_rows(tmp_path / f"{part}.jsonl", some)
    Finetune(
        data=TaskConfig(name="classification", root=str(tmp_path), train="train.jsonl",
                        valid="valid.jsonl"),
        init=str(pretrained(tmp_path / "base")), optim=OPTIM, batch=16, steps=60, length=24,
        head_dropout=0.0, guard=GuardConfig(spike="off"),
    ).run(tmp_path / "run")  # fmt: skip
    score = text_scorer(RewardConfig(run=str(tmp_path / "run")), ByteTokenizer(), one_device)
    liked, disliked, nothing = score(["p"] * 3, ["abcdaby", "abcdabz", ""])
    assert liked > 1 and disliked < -1 and abs(nothing) < 100
    with pytest.raises(ConfigError, match="is no reward model"):
        text_scorer(RewardConfig(run=str(tmp_path / "base")), ByteTokenizer(), one_device)
