"""GPT-2 and GPT-1 as Hugging Face has them.

Their `Conv1D` keeps kernels as (in, out), as we do, and queries, keys and values are fused.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lm.models.gpt import GptConfig
from lm.models.pretrained.table import (
    Architecture,
    Row,
    activation,
    activation_name,
    norm,
    untied,
    vectors,
)

GPT1_ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu"}  # its own GELU is the tanh form
BUFFERS = (
    ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias", "position_ids"
)  # fmt: skip
PREFIX = "transformer."


def blocks(config: GptConfig) -> list[Row]:
    d, n, h, f = config.width, config.heads, config.head_width, config.hidden_width
    rows, ours = [], ("stack", "blocks")
    for theirs, path, inner, outer, split in (
        ("attn.c_attn", ("attention", "qkv"), (d,), (3 * d,), ((d,), (3, n, h))),
        ("attn.c_proj", ("attention", "output"), (d,), (d,), ((n, h), (d,))),
        ("mlp.c_fc", ("mlp", "hidden"), (d,), (f,), ((d,), (f,))),
        ("mlp.c_proj", ("mlp", "output"), (f,), (d,), ((f,), (d,))),
    ):
        name, place = f"{PREFIX}h.{{}}.{theirs}", (*ours, *path)
        kernel, bias = (f"{name}.weight",), (f"{name}.bias",)
        rows += [
            Row(path=(*place, "kernel"), names=kernel, shape=inner + outer, ours=sum(split, ())),
            Row(path=(*place, "bias"), names=bias, shape=outer, ours=split[1]),
        ]
    for i in (1, 2):
        rows += norm((*ours, f"norm{i}"), f"{PREFIX}h.{{}}.ln_{i}", d)
    return rows


def gpt2_table(config: GptConfig) -> list[Row]:
    return [
        vectors("tokens", f"{PREFIX}wte.weight", config.vocab, config.width),
        vectors("positions", f"{PREFIX}wpe.weight", config.length, config.width),
        *norm(("norm",), f"{PREFIX}ln_f", config.width),
        *blocks(config),
    ]


def gpt1_table(config: GptConfig) -> list[Row]:
    return [
        vectors("tokens", f"{PREFIX}tokens_embed.weight", config.vocab, config.width),
        vectors("positions", f"{PREFIX}positions_embed.weight", config.length, config.width),
        *blocks(config),
    ]


def names(tokens: str, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays with their prefix, which old files lack, and without buffers and the tied head."""
    found = {
        name if name.startswith((PREFIX, "lm_head.")) else PREFIX + name: array
        for name, array in found.items()
        if not name.endswith(BUFFERS)
    }
    return untied(found, "lm_head.weight", f"{PREFIX}{tokens}.weight")


def shared(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that both name alike."""
    return {
        "layers": raw["n_layer"], "width": raw["n_embd"], "heads": raw["n_head"],
        "length": raw["n_positions"], "vocab": raw["vocab_size"],
        "epsilon": raw.get("layer_norm_epsilon", 1e-5),
        "residual_dropout": raw.get("resid_pdrop", 0.1),
        "embedding_dropout": raw.get("embd_pdrop", 0.1),
        "attention_dropout": raw.get("attn_pdrop", 0.1),
    }  # fmt: skip


def shared_raw(config: GptConfig) -> dict[str, Any]:
    return {
        "n_layer": config.layers, "n_embd": config.width, "n_head": config.heads,
        "n_positions": config.length, "vocab_size": config.vocab,
        "layer_norm_epsilon": config.epsilon, "resid_pdrop": config.residual_dropout,
        "embd_pdrop": config.embedding_dropout, "attn_pdrop": config.attention_dropout,
    }  # fmt: skip


def gpt2_config(raw: Mapping[str, Any]) -> GptConfig:
    if raw.get("scale_attn_by_inverse_layer_idx") or not raw.get("scale_attn_weights", True):
        raise ValueError("attention is not scaled by 1/sqrt(head size) alone")
    act = activation(raw.get("activation_function", "gelu_new"), "activation_function")
    return GptConfig(**shared(raw), hidden=raw.get("n_inner"), activation=act)


def gpt1_config(raw: Mapping[str, Any]) -> GptConfig:
    act = activation(raw.get("afn", "gelu"), "afn", GPT1_ACTIVATIONS)
    return GptConfig(
        **shared(raw), activation=act, norm="post", final_norm=False, init="gpt1",
        dropped="table",
    )  # fmt: skip


def gpt2_raw(config: GptConfig) -> dict[str, Any]:
    act = activation_name(config.activation)
    return shared_raw(config) | {"n_inner": config.hidden, "activation_function": act}


def gpt1_raw(config: GptConfig) -> dict[str, Any]:
    return shared_raw(config) | {"afn": activation_name(config.activation, GPT1_ACTIVATIONS)}


def refused(config: GptConfig) -> dict[str, bool]:
    return {
        "a sparse pattern": config.patterns != {"dense"},
        "qkv without a bias": not config.qkv_bias,
        "head_size that is not width / heads": config.heads * config.head_width != config.width,
    }


def gpt2_refused(config: GptConfig) -> dict[str, bool]:
    return refused(config) | {
        f"norm={config.norm}": config.norm != "pre",
        "stack without a final norm": not config.final_norm,
    }


def gpt1_refused(config: GptConfig) -> dict[str, bool]:
    return refused(config) | {
        f"norm={config.norm}": config.norm != "post",
        "final norm": config.final_norm,
        f"hidden={config.hidden}": config.hidden_width != 4 * config.width,
        f"activation={config.activation}": config.activation not in GPT1_ACTIVATIONS.values(),
    }


GPT2 = Architecture(
    model_type="gpt2",
    class_name="GPT2LMHeadModel",
    config=gpt2_config,
    raw=gpt2_raw,
    refused=gpt2_refused,
    table=gpt2_table,
    names=lambda found: names("wte", found),
)
GPT1 = Architecture(
    model_type="openai-gpt",
    class_name="OpenAIGPTLMHeadModel",
    config=gpt1_config,
    raw=gpt1_raw,
    refused=gpt1_refused,
    table=gpt1_table,
    names=lambda found: names("tokens_embed", found),
)
