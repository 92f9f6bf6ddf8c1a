"""GPT-2's weights in Hugging Face's safetensors layout, read and written.

Only safetensors: a pickle can run code. Their `Conv1D` keeps kernels as (in, out), as we do.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from lm.core.errors import CheckpointError, ConfigError
from lm.models.gpt import GptConfig

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu": "gelu_erf", "relu": "relu"}
BUFFERS = (".attn.bias", ".attn.masked_bias")


def safetensors_numpy() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ConfigError("safetensors is not installed; pip install 'lm[weights]'") from None
    return safetensors.numpy


def names(config: GptConfig) -> dict[str, tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...]]]:
    """Their name -> our path, their shape, our shape; `{}` stands for the layer."""
    d, n, h, f = config.width, config.heads, config.head_width, config.hidden_width
    b = ("stack", "blocks")
    table: dict[str, tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...]]] = {
        "wte.weight": (("tokens", "table"), (config.vocab, d), (config.vocab, d)),
        "wpe.weight": (("positions", "table"), (config.length, d), (config.length, d)),
        "ln_f.weight": (("norm", "scale"), (d,), (d,)),
        "ln_f.bias": (("norm", "bias"), (d,), (d,)),
    }
    for theirs, ours, inner, outer, split in (
        ("attn.c_attn", ("attention", "qkv"), (d,), (3 * d,), ((d,), (3, n, h))),
        ("attn.c_proj", ("attention", "output"), (d,), (d,), ((n, h), (d,))),
        ("mlp.c_fc", ("mlp", "hidden"), (d,), (f,), ((d,), (f,))),
        ("mlp.c_proj", ("mlp", "output"), (f,), (d,), ((f,), (d,))),
    ):
        table[f"h.{{}}.{theirs}.weight"] = ((*b, *ours, "kernel"), inner + outer, sum(split, ()))
        table[f"h.{{}}.{theirs}.bias"] = ((*b, *ours, "bias"), outer, split[1])
    for i in (1, 2):
        table[f"h.{{}}.ln_{i}.weight"] = ((*b, f"norm{i}", "scale"), (d,), (d,))
        table[f"h.{{}}.ln_{i}.bias"] = ((*b, f"norm{i}", "bias"), (d,), (d,))
    return table


def read_gpt2(folder: str | Path) -> tuple[GptConfig, Any]:
    """The config and the float32 parameters of a Hugging Face GPT-2.

    Raises:
      CheckpointError: files are missing, damaged, pickled, or of other arrays than the config's.
    """
    folder = Path(folder)
    config = read_config(folder / "config.json")
    found = read_arrays(folder)
    found = {k.removeprefix("transformer."): v for k, v in found.items() if not k.endswith(BUFFERS)}
    head = found.pop("lm_head.weight", None)
    if head is not None and not np.array_equal(head, found.get("wte.weight", ())):
        raise CheckpointError(f"{folder}: lm_head.weight is not wte.weight; only tied heads load")
    table, wrong, expected = names(config), [], set()
    for pattern, (_, shape, _) in table.items():
        for layer in range(config.layers if "{}" in pattern else 1):
            name = pattern.format(layer)
            expected.add(name)
            if name not in found:
                wrong.append(f"missing {name}")
            elif found[name].shape != shape:
                wrong.append(f"{name} is {found[name].shape}, not {shape}")
    wrong += [f"unexpected {name}" for name in sorted(found.keys() - expected)]
    if wrong:
        raise CheckpointError(f"{folder}: {'; '.join(wrong)}")
    params: dict[str, Any] = {}
    for pattern, (path, _, shape) in table.items():
        if "{}" in pattern:
            parts = [found[pattern.format(i)].reshape(shape) for i in range(config.layers)]
            array = np.stack(parts)
        else:
            array = found[pattern]
        node = params
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = np.ascontiguousarray(array, np.float32)
    return config, params


def read_config(path: Path) -> GptConfig:
    try:
        raw = json.loads(path.read_text())
        scaled = raw.get("scale_attn_by_inverse_layer_idx") or not raw.get(
            "scale_attn_weights", True
        )
        if scaled:
            raise CheckpointError(f"{path}: attention is not scaled by 1/sqrt(head size) alone")
        return GptConfig(
            layers=raw["n_layer"], width=raw["n_embd"], heads=raw["n_head"],
            length=raw["n_positions"], vocab=raw["vocab_size"], hidden=raw.get("n_inner"),
            epsilon=raw.get("layer_norm_epsilon", 1e-5),
            activation=ACTIVATIONS[raw.get("activation_function", "gelu_new")],  # type: ignore[arg-type]
            residual_dropout=raw.get("resid_pdrop", 0.1),
            embedding_dropout=raw.get("embd_pdrop", 0.1),
            attention_dropout=raw.get("attn_pdrop", 0.1),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a GPT-2 config: {error!r}") from None


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    reader = safetensors_numpy()
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.exists() and not single.exists():
        files = [
            folder / f for f in sorted(set(json.loads(index.read_text())["weight_map"].values()))
        ]
    else:
        files = [single]
    if not files[0].exists():
        pickled = [p.name for p in sorted(folder.glob("*")) if p.suffix in (".bin", ".pt")]
        why = f"{pickled[0]} is a pickle; convert it to safetensors" if pickled else "no weights"
        raise CheckpointError(f"{folder}: {why} (model.safetensors)")
    arrays: dict[str, np.ndarray] = {}
    for file in files:
        try:
            arrays |= reader.load_file(file)
        except Exception as error:  # its error class is made in Rust; any means a damaged file
            raise CheckpointError(f"{file}: {' '.join(str(error).split())}") from None
    return arrays


def write_gpt2(config: GptConfig, params: Any, folder: str | Path) -> None:
    """Writes model.safetensors and config.json as `GPT2LMHeadModel.from_pretrained` reads them.

    Raises:
      ConfigError: Hugging Face's GPT-2 cannot express the model.
    """
    refused = {
        "norm": config.norm != "pre", "final_norm": not config.final_norm,
        "pattern": "banded" in config.pattern, "qkv_bias": not config.qkv_bias,
        "causal": not config.causal, "head_size": config.heads * config.head_width != config.width,
    }  # fmt: skip
    if any(refused.values()):
        fields = ", ".join(f"{k}={getattr(config, k)}" for k, bad in refused.items() if bad)
        raise ConfigError(f"Hugging Face's GPT-2 has no {fields}; it cannot be exported")
    writer, folder = safetensors_numpy(), Path(folder)
    arrays = {}
    for pattern, (path, shape, _) in names(config).items():
        array: Any = params
        for part in path:
            array = array[part]
        array = np.asarray(array, np.float32)
        for i in range(config.layers if "{}" in pattern else 1):
            one = array[i] if "{}" in pattern else array
            key = "transformer." + pattern.format(i)
            arrays[key] = np.ascontiguousarray(one.reshape(shape))
    folder.mkdir(parents=True, exist_ok=True)
    writer.save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    activation = {ours: theirs for theirs, ours in ACTIVATIONS.items()}[config.activation]
    raw = {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": config.layers,
        "n_embd": config.width, "n_head": config.heads, "n_positions": config.length,
        "vocab_size": config.vocab, "n_inner": config.hidden, "activation_function": activation,
        "layer_norm_epsilon": config.epsilon, "resid_pdrop": config.residual_dropout,
        "embd_pdrop": config.embedding_dropout, "attn_pdrop": config.attention_dropout,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(raw, indent=2) + "\n")
