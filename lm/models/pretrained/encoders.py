"""BERT as Hugging Face has it: kernels are (out, in), and queries, keys and values are apart."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lm.models.bert import BertConfig
from lm.models.pretrained.table import (
    Architecture,
    Row,
    activation,
    activation_name,
    dense,
    norm,
    untied,
    vectors,
)

BARE = ("embeddings.", "encoder.", "pooler.")  # what `BertModel` alone writes without a prefix
HEAD = "cls.predictions"
HEADS = {  # which `BertModel` and `BertForMaskedLM` do not write, or not all of them
    "pooler": ("pooler",),
    "head of masked words": ("transform", "transform_norm", "output_bias"),
    "head of the next sentence": ("next",),
}


def table(config: BertConfig) -> list[Row]:
    d, n, h, f = config.width, config.heads, config.head_width, config.hidden_width
    layer, ours = "bert.encoder.layer.{}", ("stack", "blocks")
    qkv = tuple(f"{layer}.attention.self.{name}" for name in ("query", "key", "value"))
    return [
        vectors("tokens", "bert.embeddings.word_embeddings.weight", config.vocab, d),
        vectors("positions", "bert.embeddings.position_embeddings.weight", config.length, d),
        vectors("segments", "bert.embeddings.token_type_embeddings.weight", config.segments, d),
        *norm(("norm",), "bert.embeddings.LayerNorm", d),
        *dense((*ours, "attention", "qkv"), qkv, (d,), (n, h), axes=(1, 0)),
        *dense((*ours, "attention", "output"), (f"{layer}.attention.output.dense",), (n, h), (d,)),
        *norm((*ours, "norm1"), f"{layer}.attention.output.LayerNorm", d),
        *dense((*ours, "mlp", "hidden"), (f"{layer}.intermediate.dense",), (d,), (f,)),
        *dense((*ours, "mlp", "output"), (f"{layer}.output.dense",), (f,), (d,)),
        *norm((*ours, "norm2"), f"{layer}.output.LayerNorm", d),
        *dense(("pooler",), ("bert.pooler.dense",), (d,), (d,)),
        *dense(("transform",), (f"{HEAD}.transform.dense",), (d,), (d,)),
        *norm(("transform_norm",), f"{HEAD}.transform.LayerNorm", d),
        Row(path=("output_bias", "bias"), names=(f"{HEAD}.bias",),
            shape=(config.vocab,), ours=(config.vocab,)),
        *dense(("next",), ("cls.seq_relationship",), (d,), (2,)),
    ]  # fmt: skip


def names(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays under today's names, without buffers and what is tied.

    TensorFlow's files call the parts of a norm gamma and beta.
    """
    renamed = {}
    for name, array in found.items():
        if name.endswith("embeddings.position_ids"):
            continue
        name = f"bert.{name}" if name.startswith(BARE) else name
        for old, new in (
            ("LayerNorm.gamma", "LayerNorm.weight"),
            ("LayerNorm.beta", "LayerNorm.bias"),
        ):
            name = name.replace(old, new)
        renamed[name] = array
    renamed = untied(renamed, f"{HEAD}.decoder.weight", "bert.embeddings.word_embeddings.weight")
    return untied(renamed, f"{HEAD}.decoder.bias", f"{HEAD}.bias")


def config(raw: Mapping[str, Any]) -> BertConfig:
    if raw.get("position_embedding_type", "absolute") != "absolute" or raw.get("is_decoder"):
        raise ValueError("positions are not absolute, or it is a decoder")
    act = activation(raw.get("hidden_act", "gelu"), "hidden_act")
    dropped = raw.get("hidden_dropout_prob", 0.1)
    return BertConfig(
        layers=raw["num_hidden_layers"], width=raw["hidden_size"],
        heads=raw["num_attention_heads"], hidden=raw["intermediate_size"],
        vocab=raw["vocab_size"], length=raw.get("max_position_embeddings", 512),
        segments=raw.get("type_vocab_size", 2), epsilon=raw.get("layer_norm_eps", 1e-12),
        activation=act, residual_dropout=dropped, embedding_dropout=dropped,
        attention_dropout=raw.get("attention_probs_dropout_prob", 0.1),
    )  # fmt: skip


def raw_config(config: BertConfig) -> dict[str, Any]:
    return {
        "num_hidden_layers": config.layers, "hidden_size": config.width,
        "num_attention_heads": config.heads, "intermediate_size": config.hidden_width,
        "vocab_size": config.vocab, "max_position_embeddings": config.length,
        "type_vocab_size": config.segments, "layer_norm_eps": config.epsilon,
        "hidden_act": activation_name(config.activation),
        "hidden_dropout_prob": config.residual_dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
    }  # fmt: skip


def refused(config: BertConfig) -> dict[str, bool]:
    return {
        "a sparse pattern": config.patterns != {"dense"},
        "qkv without a bias": not config.qkv_bias,
        "left-to-right attention": config.causal,
        "head_size that is not width / heads": config.heads * config.head_width != config.width,
        "two rates of dropout, on embeddings and on sums": (
            config.embedding_dropout != config.residual_dropout
        ),
    }


BERT = Architecture(
    model_type="bert",
    class_name="BertForPreTraining",
    config=config,
    raw=raw_config,
    refused=refused,
    table=table,
    names=names,
    heads=HEADS,
)
