"""Encoders of images as Hugging Face has them, to begin with, in only: ViT (`ViTModel`), LLaVA's
CLIP (`CLIPVisionModel`) and PaliGemma's SigLIP (`SiglipVisionModel`).

CLIP is read where LLaVA reads it, before its last block; that and the norm behind it are left out.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from lm.core.errors import CheckpointError, ConfigError
from lm.models.pretrained.folder import read_arrays, read_raw
from lm.models.pretrained.table import Row, activation, dense, from_theirs, norm
from lm.models.vision import VisionConfig

SHARED = {
    "num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12,
    "intermediate_size": 3072, "image_size": 224, "num_channels": 3, "qkv_bias": True,
}  # fmt: skip
CLIP = SHARED | {"patch_size": 32, "layer_norm_eps": 1e-5, "hidden_act": "quick_gelu"}
SIGLIP = SHARED | {"patch_size": 16, "layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh"}
DEFAULTS: dict[str, dict[str, Any]] = {  # model_type -> what a config.json of theirs need not say
    "vit": SHARED | {"patch_size": 16, "layer_norm_eps": 1e-12, "hidden_act": "gelu"},
    "clip": CLIP, "clip_vision_model": CLIP, "siglip": SIGLIP, "siglip_vision_model": SIGLIP,
}  # fmt: skip
NAMES = {  # names of the others, and of ViT since transformers 5 -> those of ViT's published files
    r"^(encoder\.)?layers\.": "encoder.layer.",
    r"(attention|self_attn)\.q_proj": "attention.attention.query",
    r"(attention|self_attn)\.k_proj": "attention.attention.key",
    r"(attention|self_attn)\.v_proj": "attention.attention.value",
    r"(attention\.o|self_attn\.out)_proj": "attention.output.dense",
    r"mlp\.fc1": "intermediate.dense",
    r"mlp\.fc2": "output.dense",
    r"layer_norm1": "layernorm_before",
    r"layer_norm2": "layernorm_after",
    r"^post_layernorm": "layernorm",
    r"class_embedding": "cls_token",
    r"patch_embedding\.": "patch_embeddings.projection.",
    r"position_embedding\.weight": "position_embeddings",
}
TOWER = "vision_model."  # what a model with a tower of text writes before the encoder's names
BESIDE = (  # no part of the encoder
    "pooler.", "classifier.", "decoder.", "head.", "embeddings.mask_token",
    "embeddings.position_ids",
)  # fmt: skip
PIXELS = "embeddings.patch_embeddings.projection"
CLIP_COLOURS = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def read_encoder(folder: str | Path) -> tuple[VisionConfig, dict[str, Any]]:
    """The config and the float32 parameters of an encoder of theirs, without its head.

    It reads images of -1 to 1, as ours: what the folder says of its images' colours is in the
    kernel and the bias of its patches.

    Raises:
      CheckpointError: files are missing, damaged, pickled, or of another architecture.
    """
    folder = Path(folder)
    raw = read_raw(folder / "config.json")
    try:
        config = encoder_config(raw)
        found = names(read_arrays(folder))
        if config.whole_norm == "before":
            unread = (f"encoder.layer.{config.layers}.", "layernorm.")
            found = {name: array for name, array in found.items() if not name.startswith(unread)}
        found = on_ours(found, *colours(folder, raw))
        return config, from_theirs(table(config), config.layers, found)
    except (OSError, KeyError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{folder}: no ViT that can be read: {error}") from None


def encoder_config(raw: dict[str, Any]) -> VisionConfig:
    """Raises ValueError or TypeError for what is no such encoder."""
    kind, own = raw["model_type"], raw.get("vision_config", raw)
    raw = DEFAULTS.get(kind, {}) | settings(own, "vision_config")
    if kind not in DEFAULTS or raw["num_channels"] != 3:
        raise ValueError(f"model_type {kind!r}, {raw.get('num_channels', 3)} channels")
    clip, patch = kind.startswith("clip"), count(raw, "patch_size")
    act = activation(raw["hidden_act"], "hidden_act")
    return VisionConfig(
        layers=count(raw, "num_hidden_layers") - clip, width=count(raw, "hidden_size"),
        heads=count(raw, "num_attention_heads"), hidden=count(raw, "intermediate_size"),
        # pixels of no whole patch are not read
        image=count(raw, "image_size") // patch * patch, patch=patch,
        epsilon=float(raw["layer_norm_eps"]), activation=act, qkv_bias=raw["qkv_bias"],
        class_token=not kind.startswith("siglip"), whole_norm="before" if clip else "after",
    )  # fmt: skip


def count(raw: dict[str, Any], name: str) -> int:
    """A whole number of a config; of a pair of the same two, as a square's sides are, that one."""
    found = raw[name]
    if isinstance(found, list) and len(found) == 2 and found[0] == found[1]:
        found = found[0]
    if type(found) is not int or found < 1:
        raise ValueError(f"{name} is {raw[name]!r}, expected a whole number above 0")
    return found


def settings(found: Any, name: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"{name} is {found!r}, expected settings by name")
    return found


def preprocessing(folder: Path, kind: str) -> dict[str, Any]:
    """What is done to its images, found as transformers does: in processor_config.json, else in
    preprocessor_config.json; what neither says, or says as null, is the architecture's own."""
    found: dict[str, Any] | None = None
    for file in ("processor_config.json", "preprocessor_config.json"):
        if found is None and (folder / file).exists():
            found = settings(json.loads((folder / file).read_text()), file)
            if file == "processor_config.json":
                inner = found.get("image_processor")
                found = None if inner is None else settings(inner, "image_processor")
    mean, deviation = CLIP_COLOURS if kind.startswith("clip") else (3 * (0.5,), 3 * (0.5,))
    usual = {"image_mean": mean, "image_std": deviation, "rescale_factor": 1 / 255}
    usual |= {"do_normalize": True, "do_rescale": True}
    return usual | {name: value for name, value in (found or {}).items() if value is not None}


def colours(folder: Path, raw: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each colour of its images, whose pixels are from 0 to 1; where theirs
    are not, so that the outcome is the same. [3] [3]

    Raises:
      ValueError: the folder says what no images of three colours have.
    """
    said = preprocessing(folder, raw["model_type"])
    for name in ("do_normalize", "do_rescale"):
        if not isinstance(said[name], bool):
            raise ValueError(f"{name} is {said[name]!r}, expected true or false")
    if not said["do_normalize"]:
        said |= {"image_mean": (0.0, 0.0, 0.0), "image_std": (1.0, 1.0, 1.0)}
    largest = 255 * float(said["rescale_factor"] if said["do_rescale"] else 1)  # of a pixel
    mean, deviation = (np.array(said[name], np.float32) for name in ("image_mean", "image_std"))
    if not 0 < largest < np.inf:
        raise ValueError(f"rescale_factor is {said['rescale_factor']}, expected one above 0")
    if not (
        mean.shape == deviation.shape == (3,)
        and np.isfinite([mean, deviation]).all()
        and (deviation > 0).all()
    ):
        raise ValueError(
            f"image_mean {said['image_mean']} and image_std {said['image_std']}: expected three "
            "numbers each, and deviations above 0"
        )
    return mean / largest, deviation / largest


def on_ours(
    found: dict[str, np.ndarray], mean: np.ndarray, deviation: np.ndarray
) -> dict[str, np.ndarray]:
    """The arrays with the kernel and the bias of patches of -1 to 1; CLIP's have no bias."""
    kernel = np.asarray(found[f"{PIXELS}.weight"], np.float32)
    pixels = kernel.shape[1] // 3
    scale, shift = np.tile(0.5 / deviation, pixels), np.tile((0.5 - mean) / deviation, pixels)
    bias = found.get(f"{PIXELS}.bias", 0) + kernel @ shift
    return found | {f"{PIXELS}.weight": kernel * scale, f"{PIXELS}.bias": bias}


def table(config: VisionConfig) -> list[Row]:
    d, n, h, f = config.width, config.heads, config.head_width, config.hidden_width
    layer, ours = "encoder.layer.{}", ("stack", "blocks")
    places, before = (config.patches + config.class_token, d), config.whole_norm == "before"
    token = Row(path=("embedding", "class_token"), names=("embeddings.cls_token",),
                shape=(1, 1, d), ours=(1, d))  # fmt: skip
    qkv = tuple(f"{layer}.attention.attention.{name}" for name in ("query", "key", "value"))
    fused = dense((*ours, "attention", "qkv"), qkv, (d,), (n, h), axes=(1, 0))
    return [
        *([token] if config.class_token else []),
        Row(path=("embedding", "positions"), names=("embeddings.position_embeddings",),
            shape=(1, *places), ours=places),
        *dense(("embedding", "pixels"), (PIXELS,),
               (3 * config.patch**2,), (d,)),
        *(fused if config.qkv_bias else fused[:1]),
        *dense((*ours, "attention", "output"), (f"{layer}.attention.output.dense",), (n, h), (d,)),
        *norm((*ours, "norm1"), f"{layer}.layernorm_before", d),
        *dense((*ours, "mlp", "hidden"), (f"{layer}.intermediate.dense",), (d,), (f,)),
        *dense((*ours, "mlp", "output"), (f"{layer}.output.dense",), (f,), (d,)),
        *norm((*ours, "norm2"), f"{layer}.layernorm_after", d),
        *norm(("norm",), "pre_layrnorm" if before else "layernorm", d),
    ]  # fmt: skip


def names(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays under ViT's published names; the pixels of a patch in our order, channels last."""
    if any(name.startswith(TOWER) for name in found):
        found = {name: array for name, array in found.items() if name.startswith(TOWER)}
    renamed = {}
    for name, array in found.items():
        name = name.removeprefix("vit.").removeprefix(TOWER)
        if name.startswith(BESIDE):
            continue
        for pattern, published in NAMES.items():
            name = re.sub(pattern, published, name)
        if name == f"{PIXELS}.weight":
            array = array.transpose(0, 2, 3, 1).reshape(len(array), -1)
        if name in ("embeddings.cls_token", "embeddings.position_embeddings"):
            array = array.reshape(1, -1, array.shape[-1])
        renamed[name] = array
    return renamed
