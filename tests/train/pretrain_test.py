"""What pre-training refuses, how it goes on with another batch, and what it says of a mixture."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from experiments import gpt2
from lm.core.errors import ConfigError, DataError
from lm.data.sources import Document
from lm.data.token_writer import write_tokens
from lm.data.tokens import TextConfig
from lm.models.gpt import GptConfig
from lm.models.lstm import LstmConfig
from lm.text.tokenizer import TokenizerConfig, build
from lm.train.metrics import read_metrics
from lm.train.optimizer import AdamWConfig
from lm.train.pretrain import Pretrain
from lm.train.pretrain_evaluation import beside_trigram
from lm.train.process import Process
from lm.train.session import LoopConfig
from tests.train.reading import rows_read


def small_run(folder):
    (folder / "text.txt").write_text("Some words, and then some more. " * 40)
    return Pretrain(
        model=GptConfig(vocab=269, length=8, width=8, heads=1, layers=1),
        optim=AdamWConfig(peak_lr=1.0, final_ratio=0.0, schedule="linear"),
        data=TextConfig(train=str(folder / "text.txt"), cache=str(folder / "cache")),
        steps=4, batch=4, evaluate_batches=1, loop=LoopConfig(log_every=1),
    )  # fmt: skip


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


@pytest.mark.parametrize(
    ("prompt", "said"), [("", "prompt 1 is empty"), ("x" * 9, "prompt 1 has 9 tokens, .* is 8")]
)
def test_a_prompt_that_cannot_be_continued_is_told_before_there_is_a_run(
    one_device, tmp_path, prompt, said
):
    config = small_run(tmp_path)
    loop = replace(config.loop, sample_tokens=2, sample_prompts=("a", prompt))
    with pytest.raises(DataError, match=f"^loop.sample_prompts: {said}"):
        replace(config, loop=loop).run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_samples_of_unequal_prompts_are_written_where_blocks_are_counted(one_device, tmp_path):
    config = small_run(tmp_path)
    model = replace(config.model, pattern=("fixed",), stride=4, summary=1)
    loop = replace(config.loop, sample_tokens=2, sample_prompts=("a", "some"))
    replace(config, model=model, loop=loop, steps=1).run(tmp_path / "run")
    written = (tmp_path / "run" / "samples" / "00000001.txt").read_text()
    assert written.startswith("a") and "\nsome" in written


def test_there_is_no_byte_trigram_of_tokens_that_do_not_give_their_text_back(tmp_path, capsys):
    texts = [Document("a", "Some Words\nin two lines. " * 9)]
    made = {"pieces": TokenizerConfig(kind="wordpiece", vocab=40), "bytes": TokenizerConfig()}
    for name, config in made.items():
        subject = build(config, lambda: (document.text for document in texts))
        subject.save(tmp_path / name / "tokenizer")
        for part in ("train", "valid"):
            write_tokens(texts, subject, tmp_path / name / part)
    assert beside_trigram(TextConfig(train=str(tmp_path / "pieces")), 2.0) == {}
    assert "no byte trigram beside it: " in capsys.readouterr().out
    (bits,) = beside_trigram(TextConfig(train=str(tmp_path / "bytes")), 2.0).values()
    assert f"{bits:.4f} bits a byte; this model: 2.0000, " in capsys.readouterr().out


def test_parts_of_the_vocabulary_are_refused_of_a_model_that_takes_it_whole():
    tiny = gpt2.tiny()
    config = replace(
        tiny, model=LstmConfig(vocab=16, length=8, width=8, units=8),
        loop=replace(tiny.loop, sample_tokens=0),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="vocabulary_parts=2 is of GPT models alone"):
        replace(config, vocabulary_parts=2)


@pytest.fixture(scope="module")
def other_batch(one_device, tmp_path_factory):
    """A run of 4 steps of 4 rows that goes on to step 7 with 8 rows a step: its rows of metrics,
    and the rows that each step read."""
    folder = tmp_path_factory.mktemp("other_batch")
    config = small_run(folder)
    with pytest.MonkeyPatch.context() as patch:
        read = rows_read(patch)
        config.run(folder / "run")
        allowed = Process(allow_data_change=True)
        replace(config, steps=7, batch=8).run(folder / "run", allowed)
    rows = read_metrics(folder / "run" / "metrics.jsonl")
    return [row for row in rows if "lr" in row], read


def test_after_another_batch_the_rate_goes_on_by_the_tokens_that_were_counted(other_batch):
    rows, _ = other_batch
    assert [row["tokens"] for row in rows] == [32, 64, 96, 128, 192, 256, 320]
    assert [row["lr"] for row in rows[:4]] == [0.75, 0.5, 0.25, 0.0]  # of the first run's 128
    np.testing.assert_allclose([row["lr"] for row in rows[4:]], [0.4, 0.2, 0.0], atol=1e-6)


def test_after_another_batch_no_row_is_left_out_and_none_is_read_again(other_batch):
    _, read = other_batch
    assert read == [(0, 3), (4, 7), (8, 11), (12, 15), (16, 23), (24, 31), (32, 39)]


def test_a_mixture_has_a_held_out_loss_of_each_text(one_device, tmp_path):
    noise = random.Random(0)
    texts = {
        "easy": "ab" * 6_000,
        "hard": "".join(chr(noise.randrange(32, 127)) for _ in range(6_000)),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    mixed = tuple((name, str(tmp_path / name), 1.0) for name in texts)
    tiny = gpt2.tiny()
    config = replace(
        tiny, model=replace(tiny.model, layers=1, width=32, heads=2, length=32), steps=30, batch=8,
        optim=replace(tiny.optim, peak_lr=1e-2, warmup_tokens=0), trigram=False,
        loop=replace(tiny.loop, sample_tokens=0), tokenizer=TokenizerConfig(kind="bytes"),
        data=TextConfig(mixture=mixed, cache=str(tmp_path / "cache")), evaluate_batches=1,
    )  # fmt: skip
    config.run(tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    easy, hard = summary["valid_loss/easy"], summary["valid_loss/hard"]
    assert easy < summary["valid_loss"] < hard and hard > easy + 1
    # all that is held out is twice as much of the easy text
    assert summary["valid_loss"] == pytest.approx((2 * easy + hard) / 3, abs=0.05)
    assert [row["valid_loss"] for row in summary["mixture"]] == [easy, hard]
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["whole_valid_loss/easy"] == easy
    page = (tmp_path / "run" / "report.html").read_text()
    assert "valid loss/easy" in page and "<figcaption>Valid loss/easy" not in page  # one point
    # the control: text of its own to measure on is one, and of neither
    config = replace(config, steps=1, data=replace(config.data, valid=str(tmp_path / "easy")))
    config.run(tmp_path / "named")
    told = (tmp_path / "named" / "summary.json").read_text()
    assert "mixture" in told and "valid_loss/" not in told
