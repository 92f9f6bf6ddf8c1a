"""Where a study begins: nothing of another run is lost, and what is done keeps its settings."""

from dataclasses import replace

import pytest

from experiments import gpt2, instructgpt
from lm.core.config import dump, load
from lm.core.errors import ConfigError
from lm.studies.several import begin, stages_done

PLAN = instructgpt.pipeline()


def held(workdir):
    return (workdir / "config.gin").read_text()


def test_a_directory_of_another_run_is_left_as_it_is(tmp_path):
    (tmp_path / "config.gin").write_text(dump(gpt2.tiny()))
    with pytest.raises(ConfigError, match=r"holds a .*Pretrain.*, not .*Alignment.*choose another"):
        begin(tmp_path, PLAN)
    assert held(tmp_path) == dump(gpt2.tiny())


def test_what_there_are_results_of_may_not_change(tmp_path):
    begin(tmp_path, PLAN)
    other = replace(PLAN, labeling=replace(PLAN.labeling, noise=3.0))
    with pytest.raises(ConfigError, match=r"labeling.noise was 0.1, now 3.0; choose another"):
        begin(tmp_path, other, ["sft.", "labeling."])
    assert load(held(tmp_path), "a") == PLAN
    begin(tmp_path, other, ["sft."])
    assert load(held(tmp_path), "a") == other


def test_how_a_step_is_made_may_always_change(tmp_path):
    begin(tmp_path, PLAN)
    often = replace(PLAN.sft, microbatches=2, loop=replace(PLAN.sft.loop, log_every=7))
    begin(tmp_path, replace(PLAN, sft=often), ["sft."])
    assert load(held(tmp_path), "a").sft == often


def test_a_stage_is_done_once_one_of_its_runs_has_ended(tmp_path):
    (tmp_path / "1" / "ppo").mkdir(parents=True)
    folders = ("sft", "1/ppo", "2/ppo")
    assert stages_done(tmp_path, *folders) == []
    (tmp_path / "1" / "ppo" / "summary.json").write_text("{}")
    assert stages_done(tmp_path, *folders) == ["ppo."]


@pytest.mark.parametrize("name", ["file/x", "file"])
def test_a_directory_that_cannot_be_made_is_one_line(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot use --workdir") as error:
        begin(tmp_path / name, PLAN)
    assert "\n" not in str(error.value)
