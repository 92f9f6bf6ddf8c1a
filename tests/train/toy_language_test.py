"""BERT learns both of its objectives on a language in which both can be learned, and its topics;
GPT-1 and the LSTM that it is compared with learn these from the words that come before.

A document has one of four topics, whose words are six letters of their own; each sentence is some
of these at random. So a masked word is one of six where the text around it shows the topic, and a
pair belongs together where both texts have one topic: nothing of it can be known by heart. Which
words have one topic is what labels cannot tell of words that none of them shows.
"""

import json
import math
import random

import numpy as np
import pytest

from experiments.gpt1 import decoder
from lm.data.sentences import SentencesConfig
from lm.data.tasks import TaskConfig
from lm.data.tokens import TextConfig
from lm.metrics.spread import over_seeds
from lm.models.bert import BertConfig
from lm.models.lstm import LstmConfig
from lm.text.tokenizer import TokenizerConfig
from lm.text.wordpiece import SPECIALS
from lm.train.finetune import Finetune
from lm.train.guard import GuardConfig
from lm.train.masked import MaskedPretrain
from lm.train.optimizer import BertAdamConfig, Gpt1AdamConfig
from lm.train.pretrain import Pretrain
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


def mixed(texts, seed):
    """The same words in sentences of the same lengths, each put anywhere: no topic is left."""
    words = [word for text in texts for sentence in text for word in sentence.split()]
    random.Random(seed).shuffle(words)
    rest = iter(words)
    return [[" ".join(next(rest) for _ in s.split()) for s in text] for text in texts]


def written(folder, arrange):
    """Documents as `arrange` arranges them, and the words of a tokenizer: what a run reads."""
    for seed, (part, count) in enumerate((("train", 600), ("valid", 120))):
        texts = arrange(documents(count, seed), seed)
        (folder / f"{part}.txt").write_text("\n\n".join(map("\n".join, texts)) + "\n")
    (folder / "vocab.txt").write_text("\n".join([*SPECIALS.values(), *"".join(TOPICS)]) + "\n")
    return {
        "tokenizer": TokenizerConfig(kind="wordpiece", path=str(folder / "vocab.txt")),
        "data": TextConfig(
            train=str(folder / "train.txt"), valid=str(folder / "valid.txt"),
            cache=str(folder / "cache"),
        ),
        "loop": LoopConfig(log_every=100, evaluate_every=10_000, save_every=10_000),
    }  # fmt: skip


def learned(folder, arrange):
    """The held-out figures of a small BERT trained on documents as `arrange` arranges them."""
    MaskedPretrain(
        model=BertConfig(
            layers=2, width=64, heads=2, vocab=32, length=32, std=0.1,
            attention_dropout=0.0, residual_dropout=0.0, embedding_dropout=0.0,
        ),
        optim=BertAdamConfig(peak_lr=2e-3, warmup_steps=80),
        steps=800,
        batch=32,
        stages=((32, 1.0),),
        sentences=SentencesConfig(form="lines"),
        **written(folder, arrange),
    ).run(folder / "run")  # fmt: skip
    return json.loads((folder / "run" / "summary.json").read_text())


@pytest.fixture(scope="module")
def ordered(tmp_path_factory):
    """The folder of the run on documents as they are."""
    return tmp_path_factory.mktemp("ordered")


@pytest.fixture
def as_they_are(ordered):
    """Its held-out figures; it is trained once for the module."""
    done = ordered / "run" / "summary.json"
    return json.loads(done.read_text()) if done.exists() else learned(ordered, lambda t, _: t)


@pytest.mark.slow
def test_masked_words_and_next_sentences_are_learned(as_they_are):
    found = as_they_are
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


@pytest.fixture
def topics(tmp_path):
    """Which topic two words are of; the labels show two words of each, and the held-out items are
    of the other four."""
    folder, chosen = tmp_path / "topics", random.Random(5)
    folder.mkdir()
    for part, count, words in (
        ("train", 8, lambda six: six[:2]),
        ("valid", 200, lambda six: six[2:]),
    ):
        rows = (
            {"text": " ".join(chosen.sample(words(TOPICS[n % 4]), 2)), "label": "abcd"[n % 4]}
            for n in range(count)
        )
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


AS_BERT = BertAdamConfig(peak_lr=1e-3)


def accuracies(run, topics, folder, optim=AS_BERT, **changes):
    """Held-out accuracy of three fine-tunings of a run, each with a seed of its own."""
    found = []
    for seed in range(3):
        workdir = folder / str(seed)
        Finetune(
            data=TaskConfig(name="classification", root=str(topics), train="train.jsonl",
                            valid="valid.jsonl"),
            init=str(run), optim=optim, batch=8, steps=60, length=8,
            head_dropout=0.0, seed=seed, guard=GuardConfig(spike="off"),
            loop=LoopConfig(log_every=100, evaluate_every=10_000, save_every=10_000), **changes,
        ).run(workdir)  # fmt: skip
        found.append(json.loads((workdir / "summary.json").read_text())["accuracy"])
    return found


@pytest.mark.slow
def test_pre_training_helps_where_labels_are_few_and_not_where_its_text_had_no_topics(
    ordered, as_they_are, topics, tmp_path
):
    (tmp_path / "mixed").mkdir()
    learned(tmp_path / "mixed", mixed)
    scratch = accuracies(ordered / "run", topics, tmp_path / "scratch", scratch=True)
    helped = accuracies(ordered / "run", topics, tmp_path / "helped")
    control = accuracies(tmp_path / "mixed" / "run", topics, tmp_path / "control")
    gain, spread = over_seeds(np.subtract(helped, scratch))
    assert gain > 2 * spread and min(helped) > max(scratch), (helped, scratch)
    gain, spread = over_seeds(np.subtract(helped, control))
    assert gain > 2 * spread and max(control) < 0.5 < min(helped), (helped, control)  # of four


DECODERS = {
    "gpt1": decoder(2, 64, 2, vocab=32, length=32, std=0.1, dropout=0.0),
    "lstm": LstmConfig(vocab=32, length=32, width=64, units=96, dropout=0.0, std=0.1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DECODERS)
def test_what_comes_next_teaches_topics_too_where_the_text_has_some(name, topics, tmp_path):
    for kind, arrange in {"ordered": lambda texts, _: texts, "mixed": mixed}.items():
        (tmp_path / kind).mkdir()
        Pretrain(
            model=DECODERS[name], optim=Gpt1AdamConfig(peak_lr=2e-3, warmup_steps=80), steps=300,
            batch=32, **written(tmp_path / kind, arrange),
        ).run(tmp_path / kind / "run")  # fmt: skip
    tuning = {"optim": Gpt1AdamConfig(peak_lr=1e-3, schedule="linear"), "lm_weight": 0.0}
    run = tmp_path / "ordered" / "run"
    scratch = accuracies(run, topics, tmp_path / "scratch", scratch=True, **tuning)
    helped = accuracies(run, topics, tmp_path / "helped", **tuning)
    control = accuracies(tmp_path / "mixed" / "run", topics, tmp_path / "control", **tuning)
    gain, spread = over_seeds(np.subtract(helped, scratch))
    assert gain > 2 * spread and min(helped) > max(scratch), (helped, scratch)
    gain, spread = over_seeds(np.subtract(helped, control))
    assert gain > 2 * spread and max(control) < 0.5 < min(helped), (helped, control)  # of four
