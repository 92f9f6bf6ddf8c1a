"""The numbers of papers and released codes, as the experiments have them."""

from dataclasses import replace

import pytest

from experiments import bert, gpt1, gpt2, gpt3
from lm.core.config import bindings
from lm.data.bert_layout import BertFeatures
from lm.evals.spans import SpanSearch

BERT_ADAM = {
    "optim.b1": 0.9, "optim.b2": 0.999, "optim.epsilon": 1e-6, "optim.weight_decay": 0.01,
    "optim.clip": 1.0,
}  # fmt: skip
GPT1_ADAM = BERT_ADAM | {"optim.epsilon": 1e-8}
BERT_DROPOUT = {
    "model.attention_dropout": 0.1, "model.residual_dropout": 0.1, "model.embedding_dropout": 0.1,
}  # fmt: skip
GPT1_DROPOUT = BERT_DROPOUT | {"model.dropped": "table"}


def tuned(generation, task):
    """A fine-tuning of the published size, as it is once its run has begun."""
    config = replace(generation.finetune(task=task), model=generation.base().model)
    return replace(config, length=config.row)


def bert_tuning(**changes):
    told = {
        "batch": 32, "epochs": 3.0, "length": 128, "optim.peak_lr": 5e-5, "head_dropout": 0.1,
        "optim.warmup_steps": None, "optim.warmup_fraction": 0.1, "lm_weight": 0.0,
    }  # fmt: skip
    return BERT_ADAM | BERT_DROPOUT | told | changes


FIRST_VALUES = {
    "model.std": 0.02, "model.token_std": 0.02, "model.position_std": 0.02,
    "model.positions": "drawn",
}  # fmt: skip
INSTANCES = {  # create_pretraining_data.py's, and the README's
    "instances.pairs": True, "instances.short_probability": 0.1,
    "instances.short_per": "document", "instances.duplication": 10, "instances.mask_fraction": 0.15,
    "instances.masked": 0.8, "instances.kept": 0.1, "instances.whole_word": False,
    "instances.objective": "masked", "next_sentences": True,
}  # fmt: skip
SPANS = {"length": 384, "question": 64}
PUBLISHED = {
    "bert:base": (
        bert.base(),
        BERT_ADAM | BERT_DROPOUT | INSTANCES | {
            "model.init": "bert",
            "optim.peak_lr": 1e-4, "optim.warmup_steps": 10_000, "batch": 256, "steps": 1_000_000,
            "stages": ((128, 0.9), (512, 0.1)), "model.activation": "gelu_erf",
            "model.epsilon": 1e-12, "model.std": 0.02, "model.norm": "post",
            "reference.value": 3.99,
        },
    ),
    "bert:finetune sst2": (tuned(bert, "sst2"), bert_tuning()),
    "bert:finetune swag": (tuned(bert, "swag"), bert_tuning(batch=16, **{"optim.peak_lr": 2e-5})),
    "bert:finetune squad": (tuned(bert, "squad"), bert_tuning(**SPANS)),
    "bert:finetune squad2": (
        tuned(bert, "squad2"), bert_tuning(**SPANS | {"batch": 48, "epochs": 2.0})
    ),
    "gpt1:base": (
        gpt1.base(),
        GPT1_ADAM | GPT1_DROPOUT | FIRST_VALUES | {
            "model.init": "gpt1",
            "optim.peak_lr": 2.5e-4, "optim.warmup_steps": 2_000, "optim.schedule": "cosine",
            "batch": 64, "model.length": 512, "model.epsilon": 1e-5, "model.norm": "post",
            "model.final_norm": False, "model.activation": "gelu_tanh", "reference.value": 18.4,
        },
    ),
    "gpt1:lstm": (  # "a single layer 2048 unit LSTM", under the transformer's rules
        gpt1.lstm(),
        GPT1_ADAM | {
            "model.layers": 1, "model.units": 2_048, "model.width": 768, "model.vocab": 40_478,
            "model.length": 512, "model.dropout": 0.1, "reference": None,
            "optim.peak_lr": 2.5e-4, "optim.warmup_steps": 2_000, "optim.schedule": "cosine",
            "batch": 64, "steps": gpt1.base().steps,
        },
    ),
    "gpt1:finetune": (
        tuned(gpt1, "sst2"),
        GPT1_ADAM | GPT1_DROPOUT | {
            "optim.peak_lr": 6.25e-5, "optim.warmup_steps": None, "optim.warmup_fraction": 0.002,
            "optim.schedule": "linear", "batch": 32, "epochs": 3.0, "length": 512,
            "lm_weight": 0.5, "head_dropout": 0.1,
        },
    ),
    "gpt2:small": (  # nanoGPT's recipe
        gpt2.small(),
        FIRST_VALUES | {
            "model.init": "hf", "model.activation": "gelu_tanh",
            "optim.peak_lr": 6e-4, "optim.final_ratio": 0.1, "optim.schedule": "cosine",
            "optim.warmup_tokens": 2_000 * 480 * 1024, "optim.b1": 0.9, "optim.b2": 0.95,
            "optim.epsilon": 1e-8, "optim.weight_decay": 0.1, "optim.clip": 1.0, "batch": 480,
            "steps": 600_000, "model.length": 1024, "model.epsilon": 1e-5,
            "model.attention_dropout": 0.0, "model.residual_dropout": 0.0,
            "model.embedding_dropout": 0.0, "model.final_norm": True, "model.norm": "pre",
        },
    ),
    "gpt3:small": (  # appendix B, which names no dropout
        gpt3.train("small"),
        FIRST_VALUES | {
            "model.init": "hf",
            "optim.peak_lr": 6e-4, "optim.final_ratio": 0.1, "optim.schedule": "cosine",
            "optim.warmup_tokens": 375_000_000, "optim.decay_tokens": 260_000_000_000,
            "optim.b1": 0.9, "optim.b2": 0.95, "optim.epsilon": 1e-8, "optim.weight_decay": 0.1,
            "optim.clip": 1.0, "batch": 256, "model.length": 2048, "model.epsilon": 1e-5,
            "model.attention_dropout": 0.0, "model.residual_dropout": 0.0,
            "model.embedding_dropout": 0.0, "model.final_norm": True, "model.norm": "pre",
            "model.activation": "gelu_tanh",
        },
    ),
}  # fmt: skip


def differing(config, told):
    found = bindings(config)
    assert told.keys() <= found.keys()
    return {name: found[name] for name, value in told.items() if found[name] != value}


@pytest.mark.parametrize(
    "config",
    [bert.base(), bert.large(), gpt1.base(), gpt2.small(), gpt2.xl()],
    ids=lambda config: f"{config.model.layers}x{config.model.width}",
)
def test_sizes_for_accelerators_compute_in_bfloat16_and_those_for_a_laptop_do_not(config):
    assert config.model.dtype == "bfloat16"
    for tiny in (bert.tiny(), bert.mini(), gpt1.tiny(), gpt2.tiny(), gpt2.shakespeare_char_cpu()):
        assert tiny.model.dtype == "float32"


def test_each_size_of_gpt2_has_the_rate_of_gpt3_s_size_that_is_nearest():
    sizes = {name: gpt2.train(name) for name in ("small", "medium", "large", "xl")}
    assert {name: config.optim.peak_lr for name, config in sizes.items()} == {
        "small": 6e-4, "medium": 3e-4, "large": 2.5e-4, "xl": 2e-4,
    }  # fmt: skip
    for config in sizes.values():  # and the rest of the recipe
        assert differing(config, PUBLISHED["gpt2:small"][1]).keys() <= {"optim.peak_lr"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_experiment_has_its_published_numbers(name):
    config, told = PUBLISHED[name]
    assert differing(config, told) == {}
    other = replace(config, batch=2 * config.batch)
    assert differing(other, told) == {"batch": 2 * config.batch}  # the control


def test_questions_about_passages_are_cut_and_answered_as_in_the_released_code():
    features = tuned(bert, "squad").bert_features()
    assert (features.length, features.stride, features.question) == (384, 128, 64)
    assert (BertFeatures().question, BertFeatures().stride) == (64, 128)
    assert (SpanSearch().best, SpanSearch().longest) == (20, 30)
