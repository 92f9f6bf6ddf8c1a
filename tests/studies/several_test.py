"""Where a study begins: nothing of another run, and nothing of other settings, is gone on from."""

from dataclasses import replace

import pytest

from experiments import gpt2, instructgpt
from lm.core.config import dump, load
from lm.core.errors import ConfigError
from lm.studies.several import begin

PLAN = instructgpt.pipeline()


def held(workdir):
    return (workdir / "config.gin").read_text()


def test_a_directory_of_another_run_is_left_as_it_is(tmp_path):
    (tmp_path / "config.gin").write_text(dump(gpt2.tiny()))
    with pytest.raises(ConfigError, match=r"holds a .*Pretrain.*, not .*Alignment.*choose another"):
        begin(tmp_path, PLAN)
    assert held(tmp_path) == dump(gpt2.tiny())


def test_settings_may_change_until_steps_are_done(tmp_path):
    begin(tmp_path / "a", PLAN)
    other = replace(PLAN, labeling=replace(PLAN.labeling, noise=3.0))
    with pytest.raises(ConfigError, match=r"labeling.noise: checkpoint 0.1, now 3.0; choose"):
        begin(tmp_path / "a", other, begun=True)
    assert load(held(tmp_path / "a"), "a") == PLAN
    begin(tmp_path / "a", other)
    assert load(held(tmp_path / "a"), "a") == other


def test_how_often_a_step_tells_may_always_change(tmp_path):
    begin(tmp_path, PLAN)
    often = replace(PLAN, sft=replace(PLAN.sft, loop=replace(PLAN.sft.loop, log_every=7)))
    begin(tmp_path, often, begun=True)
    assert load(held(tmp_path), "a") == often


@pytest.mark.parametrize("name", ["file/x", "file"])
def test_a_directory_that_cannot_be_made_is_one_line(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot use --workdir") as error:
        begin(tmp_path / name, PLAN)
    assert "\n" not in str(error.value)
