"""BERT learns both of its objectives on a language in which both can be learned.

A document has one of four topics, whose words are six letters of their own; each sentence is some
of these at random. So a masked word is one of six where the text around it shows the topic, and a
pair belongs together where both texts have one topic: nothing of it can be known by heart.
"""

import json
import math
import random

import pytest

from lm.data.sentences import SentencesConfig
from lm.data.tokens import TextConfig
from lm.models.bert import BertConfig
from lm.text.tokenizer import TokenizerConfig
from lm.text.wordpiece import SPECIALS
from lm.train.masked import MaskedPretrain
from lm.train.optimizer import BertAdamConfig
from lm.train.session import LoopConfig

pytestmark = pytest.mark.usefixtures("one_device", "optimized")

TOPICS = ("abcdef", "ghijkl", "mnopqr", "stuvwx")


def documents(count, seed):
    chosen = random.Random(seed)
    return [
        [" ".join(chosen.choices(TOPICS[number % 4], k=chosen.randint(4, 8))) for _ in range(10)]
        for number in range(count)
    ]


def shuffled(texts, seed):
    """The same sentences in documents of the same size, each put anywhere."""
    sentences = [sentence for text in texts for sentence in text]
    random.Random(seed).shuffle(sentences)
    return [sentences[first : first + 10] for first in range(0, len(sentences), 10)]


def learned(folder, arrange):
    """The held-out figures of a small BERT trained on documents as `arrange` arranges them."""
    for seed, (part, count) in enumerate((("train", 600), ("valid", 120))):
        texts = arrange(documents(count, seed), seed)
        (folder / f"{part}.txt").write_text("\n\n".join(map("\n".join, texts)) + "\n")
    (folder / "vocab.txt").write_text("\n".join([*SPECIALS.values(), *"".join(TOPICS)]) + "\n")
    MaskedPretrain(
        model=BertConfig(
            layers=2, width=64, heads=2, vocab=32, length=32, std=0.1,
            attention_dropout=0.0, residual_dropout=0.0, embedding_dropout=0.0,
        ),
        optim=BertAdamConfig(peak_lr=2e-3, warmup_steps=80),
        steps=800,
        batch=32,
        stages=((32, 1.0),),
        tokenizer=TokenizerConfig(kind="wordpiece", path=str(folder / "vocab.txt")),
        data=TextConfig(
            train=str(folder / "train.txt"), valid=str(folder / "valid.txt"),
            cache=str(folder / "cache"),
        ),
        sentences=SentencesConfig(form="lines"),
        loop=LoopConfig(log_every=100, evaluate_every=10_000, save_every=10_000),
    ).run(folder / "run")  # fmt: skip
    return json.loads((folder / "run" / "summary.json").read_text())


@pytest.mark.slow
def test_masked_words_and_next_sentences_are_learned(tmp_path):
    found = learned(tmp_path, lambda texts, seed: texts)
    assert math.log(6) - 0.02 < found["valid_loss"] < math.log(6) + 0.3
    assert found["unigram_entropy"] > math.log(23)
    # one random text in four has the same topic; and a constant answer gets the share of these
    assert 0.75 < found["next_accuracy"] < 1 - found["next_random"] / 4 + 0.04
    assert 0.5 < found["next_random"] < 0.65


@pytest.mark.slow
def test_sentences_that_are_shuffled_leave_nothing_to_tell_the_next_one_by(tmp_path):
    found = learned(tmp_path, shuffled)
    assert found["valid_loss"] < found["unigram_entropy"] - 0.5  # a sentence has its topic still
    assert found["next_accuracy"] < found["next_random"] + 0.08
