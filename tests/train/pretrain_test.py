"""What pre-training refuses before it begins."""

from dataclasses import replace

import pytest

from experiments import gpt2
from lm.core.errors import ConfigError, DataError
from lm.data.tokens import TextConfig
from lm.models.lstm import LstmConfig
from lm.text.tokenizer import TokenizerConfig


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (80, "73 tokens to train on are too few for one row of 64"),
        (400, "41 tokens held out are too few for one row of 64 .* by data.valid or data.valid_fr"),
    ],
)
def test_a_text_that_is_too_short_is_named_before_there_is_a_run(one_device, tmp_path, size, said):
    text = tmp_path / "text.txt"
    text.write_text("x" * size)
    tiny = gpt2.tiny()
    config = replace(
        tiny, model=replace(tiny.model, length=64), tokenizer=TokenizerConfig(kind="bytes"),
        data=TextConfig(train=str(text), cache=str(tmp_path / "cache")),
    )  # fmt: skip
    with pytest.raises(DataError, match=f"^{text}: {said}"):
        config.run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_parts_of_the_vocabulary_are_refused_of_a_model_that_takes_it_whole():
    tiny = gpt2.tiny()
    config = replace(
        tiny, model=LstmConfig(vocab=16, length=8, width=8, units=8),
        loop=replace(tiny.loop, sample_tokens=0),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="vocabulary_parts=2 is of GPT models alone"):
        replace(config, vocabulary_parts=2)
