"""ViT as Hugging Face has it (`ViTModel`): an encoder of images to begin with, in only."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from lm.core.errors import CheckpointError, ConfigError
from lm.models.pretrained.encoders import ACTIVATIONS
from lm.models.pretrained.folder import read_arrays, read_raw
from lm.models.pretrained.table import Row, dense, from_theirs, norm
from lm.models.vision import VisionConfig

NEWER = {  # names since transformers 5 -> those of the published files
    r"^layers\.": "encoder.layer.",
    r"attention\.q_proj": "attention.attention.query",
    r"attention\.k_proj": "attention.attention.key",
    r"attention\.v_proj": "attention.attention.value",
    r"attention\.o_proj": "attention.output.dense",
    r"mlp\.fc1": "intermediate.dense",
    r"mlp\.fc2": "output.dense",
}
BESIDE = ("pooler.", "classifier.", "decoder.", "embeddings.mask_token")  # no part of the encoder


def read_encoder(folder: str | Path) -> tuple[VisionConfig, dict[str, Any]]:
    """The config and the float32 parameters of a ViT of theirs, without its head.

    Its images are normalised to -1..1 as ours; a checkpoint that was trained on others says so in
    its preprocessor_config.json.

    Raises:
      CheckpointError: files are missing, damaged, pickled, or of another architecture.
    """
    folder = Path(folder)
    raw = read_raw(folder / "config.json")
    try:
        config = encoder_config(raw)
        return config, from_theirs(table(config), config.layers, names(read_arrays(folder)))
    except (KeyError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{folder}: no ViT that can be read: {error}") from None


def encoder_config(raw: dict[str, Any]) -> VisionConfig:
    if raw["model_type"] != "vit" or raw.get("num_channels", 3) != 3:
        raise ValueError(f"model_type {raw['model_type']!r}, {raw.get('num_channels', 3)} channels")
    activation: Any = ACTIVATIONS[raw.get("hidden_act", "gelu")]
    return VisionConfig(
        layers=raw["num_hidden_layers"], width=raw["hidden_size"],
        heads=raw["num_attention_heads"], hidden=raw["intermediate_size"],
        image=raw.get("image_size", 224), patch=raw.get("patch_size", 16),
        epsilon=raw.get("layer_norm_eps", 1e-12), activation=activation,
        qkv_bias=raw.get("qkv_bias", True), class_token=True,
    )  # fmt: skip


def table(config: VisionConfig) -> list[Row]:
    d, n, h, f = config.width, config.heads, config.head_width, config.hidden_width
    layer, ours = "encoder.layer.{}", ("stack", "blocks")
    places = (config.patches + 1, d)
    qkv = tuple(f"{layer}.attention.attention.{name}" for name in ("query", "key", "value"))
    fused = dense((*ours, "attention", "qkv"), qkv, (d,), (n, h), axes=(1, 0))
    return [
        Row(path=("embedding", "class_token"), names=("embeddings.cls_token",),
            shape=(1, 1, d), ours=(1, d)),
        Row(path=("embedding", "positions"), names=("embeddings.position_embeddings",),
            shape=(1, *places), ours=places),
        *dense(("embedding", "pixels"), ("embeddings.patch_embeddings.projection",),
               (3 * config.patch**2,), (d,)),
        *(fused if config.qkv_bias else fused[:1]),
        *dense((*ours, "attention", "output"), (f"{layer}.attention.output.dense",), (n, h), (d,)),
        *norm((*ours, "norm1"), f"{layer}.layernorm_before", d),
        *dense((*ours, "mlp", "hidden"), (f"{layer}.intermediate.dense",), (d,), (f,)),
        *dense((*ours, "mlp", "output"), (f"{layer}.output.dense",), (f,), (d,)),
        *norm((*ours, "norm2"), f"{layer}.layernorm_after", d),
        *norm(("norm",), "layernorm", d),
    ]  # fmt: skip


def names(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays under the published names; the pixels of a patch in our order, channels last."""
    renamed = {}
    for name, array in found.items():
        name = name.removeprefix("vit.")
        if name.startswith(BESIDE):
            continue
        for pattern, published in NEWER.items():
            name = re.sub(pattern, published, name)
        if name == "embeddings.patch_embeddings.projection.weight":
            array = array.transpose(0, 2, 3, 1).reshape(len(array), -1)
        renamed[name] = array
    return renamed
