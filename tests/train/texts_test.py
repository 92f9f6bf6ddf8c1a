"""Which directories a run is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments import bert, chatgpt, gpt2, instructgpt
from lm.core.errors import ConfigError
from lm.data.dialogues import DialoguesConfig
from lm.data.prompts import RowsConfig
from lm.data.tokens import TextConfig
from lm.train.guard import GuardConfig
from lm.train.process import Process
from lm.train.session import LoopConfig, Session
from lm.train.texts import refuse_among_texts


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("text")
    return tmp_path / "texts"


@pytest.mark.parametrize("below", ["", "runs/one"])
@pytest.mark.parametrize(
    "config",
    [
        lambda spec: replace(gpt2.tiny(), data=TextConfig(train=spec)),
        lambda spec: replace(gpt2.tiny(), data=TextConfig(train=f"stdlib:,{spec}")),
        lambda spec: replace(gpt2.tiny(), data=TextConfig(valid=spec)),
        lambda spec: replace(gpt2.tiny(), data=TextConfig(mixture=(("one", spec, 1.0),))),
        lambda spec: replace(gpt2.tiny(), data=TextConfig(train=f"{spec}/**/*.txt")),
        lambda spec: replace(bert.tiny(), data=TextConfig(train=spec)),
        lambda spec: replace(
            chatgpt.pipeline(),
            sft=replace(chatgpt.sft(), data=DialoguesConfig(mixture=(("one", spec, 1.0),))),
        ),
        lambda spec: replace(instructgpt.sft(), data=RowsConfig(train=spec)),
        lambda spec: instructgpt.sft(text=spec),
        lambda spec: instructgpt.ppo(text=spec),
        lambda spec: replace(
            instructgpt.pipeline(),
            sft=replace(instructgpt.sft(), data=RowsConfig(train=spec)),
        ),
    ],
)
def test_a_run_among_the_texts_that_it_reads_is_refused(texts, config, below):
    with pytest.raises(
        ConfigError, match=r"--workdir .* is in .*texts, of which (sft\.)?(data|text)\.\w+ read"
    ):
        refuse_among_texts(texts / below, config(str(texts)))
    assert [path.name for path in texts.iterdir()] == ["a.txt"]


def test_a_run_is_refused_by_where_its_directory_is_and_not_by_its_name(texts, monkeypatch):
    config = replace(gpt2.tiny(), data=TextConfig(train=str(texts)))
    refuse_among_texts(texts.with_name("texts-run"), config)
    refuse_among_texts(texts.parent, config)
    (texts.parent / "link").symlink_to(texts)
    with pytest.raises(ConfigError, match="choose another --workdir"):
        refuse_among_texts(texts.parent / "link" / "run", config)
    monkeypatch.chdir(texts)
    with pytest.raises(ConfigError, match="choose another --workdir"):
        refuse_among_texts(Path("run"), config)


def test_a_run_whose_mixture_has_a_comma_in_a_name_is_not_refused_for_it(texts):
    (texts / "a,b.txt").write_text("text")
    mixture = (("one", str(texts / "a,b.txt"), 0.5), ("other", str(texts / "a.txt"), 0.5))
    refuse_among_texts(texts / "run", replace(gpt2.tiny(), data=TextConfig(mixture=mixture)))


def test_a_step_of_a_pipeline_is_refused_by_what_it_alone_reads(texts):
    plan = replace(
        instructgpt.pipeline(),
        init="a run",
        demonstrations=str(texts),
        comparisons="rankings.jsonl",
    )
    member = plan.members(texts / "run")["sft"]
    with pytest.raises(ConfigError, match="of which data.train reads every text"):
        Session(
            texts / "run" / "sft", member, Process(), loop=LoopConfig(), guard=GuardConfig(),
            steps=1, facts={}, flops_per_token=lambda step: 1.0, peak=1.0, tokens_before=int,
        ).__enter__()  # fmt: skip
    assert not (texts / "run").exists()


def test_a_run_beside_its_file_or_in_its_folder_of_tokens_is_none_among_texts(texts):
    file = replace(gpt2.tiny(), data=TextConfig(train=str(texts / "a.txt")))
    refuse_among_texts(texts / "run", file)
    (texts / "train").mkdir()
    (texts / "train" / "manifest.json").touch()
    refuse_among_texts(texts / "run", replace(gpt2.tiny(), data=TextConfig(train=str(texts))))
