"""A folder of Hugging Face's: which architecture it holds, and its files.

Only safetensors: a pickle can run code.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lm.core.errors import CheckpointError, ConfigError
from lm.core.paths import local_path
from lm.models.bert import BertConfig
from lm.models.gpt import GptConfig
from lm.models.pretrained.decoders import GPT1, GPT2
from lm.models.pretrained.encoders import BERT
from lm.models.pretrained.neo import NEO
from lm.models.pretrained.table import Architecture, Row, from_theirs, to_theirs

Model = GptConfig | BertConfig
ARCHITECTURES = {each.model_type: each for each in (BERT, GPT1, GPT2, NEO)}


def read(folder: str | Path) -> tuple[Model, dict[str, Any]]:
    """The config and the float32 parameters of a model of theirs, one of `ARCHITECTURES`.

    A head of BERT that the folder is without is drawn anew, which is said.

    Raises:
      CheckpointError: files are missing, damaged, pickled, or of other arrays than the config's.
      ConfigError: the folder is in an object store.
    """
    folder = local_path(folder)
    architecture, config = read_config(folder / "config.json")
    arrays = read_arrays(folder)
    try:
        found = architecture.names(arrays)
        rows = architecture.table(config)
        absent = absent_heads(architecture, rows, found)
        drawn = [part for head in absent for part in architecture.heads[head]]
        rows = [row for row in rows if row.path[0] not in drawn]
        params = from_theirs(rows, config.layers, found)
    except ValueError as error:
        named = ", ".join(read_raw(folder / "config.json").get("architectures") or ())
        known = architecture.class_name
        whose = f" (it holds a {named}, not a {known})" if named not in ("", known) else ""
        raise CheckpointError(f"{folder}: {error}{whose}") from None
    if absent:
        print(f"{folder} has no {', no '.join(absent)}: drawn anew")
        params |= fresh(config, drawn)
    return config, params


def absent_heads(
    architecture: Architecture, rows: list[Row], found: dict[str, np.ndarray]
) -> list[str]:
    """The heads of which nothing at all is there."""
    return [
        head
        for head, parts in architecture.heads.items()
        if not any(found.keys() & set(row.names) for row in rows if row.path[0] in parts)
    ]


def fresh(config: Model, parts: list[str]) -> dict[str, Any]:
    """These parameters as those of a new model."""

    @jax.jit
    def drawn(key: jax.Array) -> dict[str, Any]:
        params = config.module().init(key, jnp.zeros((1, 1), jnp.int32))["params"]
        return {part: nn.unbox(params)[part] for part in parts}

    return jax.tree.map(np.asarray, drawn(jax.random.key(0)))


def read_config(path: Path) -> tuple[Architecture, Any]:
    try:
        raw = json.loads(path.read_text())
        kind = raw["model_type"]
        if kind in ARCHITECTURES:
            return ARCHITECTURES[kind], ARCHITECTURES[kind].config(raw)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such file; name a folder that holds config.json and model.safetensors"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path}: not a config that can be read: {error!r}") from None
    known = ", ".join(ARCHITECTURES)
    raise CheckpointError(f"{path}: model_type is {kind!r}; what can be read: {known}")


def read_raw(path: Path) -> dict[str, Any]:
    """A config.json as it is. CheckpointError where it is none."""
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a config that can be read: {error!r}") from None
    if not isinstance(raw, dict) or "model_type" not in raw:
        raise CheckpointError(f"{path}: has no model_type; name a folder of Hugging Face's")
    return raw


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    reader = safetensors_numpy()
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.exists() and not single.exists():
        try:
            named = json.loads(index.read_text())["weight_map"].values()
            files = [folder / name for name in sorted(set(named))]
            if not files or any(file.parent != folder for file in files):
                raise ValueError  # a folder names its own files alone
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointError(f"{index}: not an index of weights") from None
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


def write(
    config: Model,
    params: Any,
    folder: str | Path,
    *,
    end: int | None = None,
    pad: int | None = None,
) -> None:
    """Writes model.safetensors and config.json as `from_pretrained` of transformers reads them.

    Args:
      end, pad: ids of the vocabulary. A text begins behind the end of another, as GPT-2's do. None
        is written too: what transformers takes in its place is of the published vocabulary.

    Raises:
      ConfigError: the architecture of theirs that is nearest cannot express the model, or the
        folder is in an object store.
    """
    architecture = BERT if isinstance(config, BertConfig) else GPT1
    if isinstance(config, GptConfig) and config.norm == "pre":
        plain = config.qkv_bias and config.patterns == {"dense"}
        architecture = GPT2 if plain else NEO
    refused = [what for what, is_so in architecture.refused(config).items() if is_so]
    if refused:
        raise ConfigError(
            f"Hugging Face's {architecture.model_type} has no {', '.join(refused)}; it cannot be "
            "exported"
        )
    writer, folder = safetensors_numpy(), local_path(folder)
    arrays = to_theirs(architecture.table(config), config.layers, params)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(config, BertConfig):
        end = None  # it writes no text
    named = {
        "model_type": architecture.model_type,
        "architectures": [architecture.class_name],
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": pad,
    }
    raw = named | architecture.raw(config)
    (folder / "config.json").write_text(json.dumps(raw, indent=2) + "\n")
    writer.save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copymode(folder / "config.json", folder / "model.safetensors")  # it is the owner's alone


def safetensors_numpy() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ConfigError("safetensors is not installed; pip install 'lm[weights]'") from None
    return safetensors.numpy
