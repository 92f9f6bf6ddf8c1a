"""GPT-Neo as Hugging Face has it: GPT-2 whose layers alternate dense and banded, as GPT-3's do.

Kernels are (out, in), queries, keys and values are apart and have no bias, and scores are not
divided by sqrt(H): our queries, whose scores are, are sqrt(H) times theirs.
"""

import math
from collections.abc import Mapping
from typing import Any

from lm.models.gpt import GptConfig
from lm.models.pretrained.decoders import PREFIX, names
from lm.models.pretrained.table import (
    Architecture,
    Row,
    activation,
    activation_name,
    dense,
    norm,
    vectors,
)
from lm.nn.config import LayerPattern

PATTERNS: dict[str, LayerPattern] = {"global": "dense", "local": "banded"}


def table(config: GptConfig) -> list[Row]:
    d, n, h, f = config.width, config.heads, config.head_width, config.hidden_width
    layer, ours = f"{PREFIX}h.{{}}", ("stack", "blocks")
    attention = f"{layer}.attn.attention"
    return [
        vectors("tokens", f"{PREFIX}wte.weight", config.vocab, d),
        vectors("positions", f"{PREFIX}wpe.weight", config.length, d),
        *norm(("norm",), f"{PREFIX}ln_f", d),
        Row(path=(*ours, "attention", "qkv", "kernel"),
            names=tuple(f"{attention}.{name}_proj.weight" for name in "qkv"), shape=(d, d),
            ours=(d, n, h), transposed=True, axis=1, scales=(math.sqrt(h), 1.0, 1.0)),
        *dense((*ours, "attention", "output"), (f"{attention}.out_proj",), (n, h), (d,)),
        *dense((*ours, "mlp", "hidden"), (f"{layer}.mlp.c_fc",), (d,), (f,)),
        *dense((*ours, "mlp", "output"), (f"{layer}.mlp.c_proj",), (f,), (d,)),
        *norm((*ours, "norm1"), f"{layer}.ln_1", d),
        *norm((*ours, "norm2"), f"{layer}.ln_2", d),
    ]  # fmt: skip


def config(raw: Mapping[str, Any]) -> GptConfig:
    layers = [kind for kinds, times in raw["attention_types"] for kind in kinds * times]
    if len(layers) != raw["num_layers"]:
        raise ValueError(f"attention_types are of {len(layers)} layers, not {raw['num_layers']}")
    act = activation(raw.get("activation_function", "gelu_new"), "activation_function")
    return GptConfig(
        layers=len(layers), width=raw["hidden_size"], heads=raw["num_heads"],
        hidden=raw.get("intermediate_size"), length=raw["max_position_embeddings"],
        vocab=raw["vocab_size"], epsilon=raw.get("layer_norm_epsilon", 1e-5),
        activation=act, qkv_bias=False, band=raw.get("window_size", 256),
        pattern=tuple(PATTERNS[kind] for kind in period(layers)),
        residual_dropout=float(raw.get("resid_dropout", 0.0)),
        embedding_dropout=float(raw.get("embed_dropout", 0.0)),
        attention_dropout=float(raw.get("attention_dropout", 0.0)),
    )  # fmt: skip


def period(layers: list[str]) -> list[str]:
    """The fewest layers that, repeated, are all of them."""
    return next(
        layers[:size]
        for size in range(1, len(layers) + 1)
        if len(layers) % size == 0 and layers[:size] * (len(layers) // size) == layers
    )


def raw(config: GptConfig) -> dict[str, Any]:
    kinds = {ours: theirs for theirs, ours in PATTERNS.items()}
    return {
        "num_layers": config.layers, "hidden_size": config.width, "num_heads": config.heads,
        "intermediate_size": config.hidden, "max_position_embeddings": config.length,
        "vocab_size": config.vocab, "layer_norm_epsilon": config.epsilon,
        "activation_function": activation_name(config.activation), "window_size": config.band,
        "attention_types": [
            [[kinds[each] for each in config.pattern], config.layers // len(config.pattern)]
        ],
        "resid_dropout": config.residual_dropout, "embed_dropout": config.embedding_dropout,
        "attention_dropout": config.attention_dropout,
    }  # fmt: skip


def refused(config: GptConfig) -> dict[str, bool]:
    foreign = sorted(config.patterns - {"dense", "banded"})
    mixed = any(isinstance(each, tuple) for each in config.pattern)
    return {
        "bias of q, k and v": config.qkv_bias,
        f"pattern {foreign}": bool(foreign),
        "layer whose heads differ": mixed,
        "head_size that is not width / heads": config.heads * config.head_width != config.width,
        f"norm={config.norm}": config.norm != "pre",
        "stack without a final norm": not config.final_norm,
    }


NEO = Architecture(
    model_type="gpt_neo",
    class_name="GPTNeoForCausalLM",
    config=config,
    raw=raw,
    refused=refused,
    table=table,
    names=lambda found: names("wte", found),
)
