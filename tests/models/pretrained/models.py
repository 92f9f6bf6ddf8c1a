"""Small models of each architecture, with every array away from what it starts as."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lm.core import tree
from lm.models.bert import BertConfig
from lm.models.gpt import GptConfig


def gpt1(**changes: object) -> GptConfig:
    values: dict = {
        "layers": 2, "width": 32, "heads": 4, "length": 16, "vocab": 50, "norm": "post",
        "final_norm": False, "init": "gpt1", "dropped": "table", "embedding_dropout": 0.1,
    }  # fmt: skip
    return GptConfig(**(values | changes))


def gpt2(**changes: object) -> GptConfig:
    values: dict = {"layers": 2, "width": 32, "heads": 4, "length": 16, "vocab": 50}
    return GptConfig(**(values | changes))


def neo(**changes: object) -> GptConfig:
    sparse: dict = {"pattern": ("dense", "banded"), "band": 5, "qkv_bias": False, "heads": 2}
    return gpt2(**(sparse | changes))


def bert(**changes: object) -> BertConfig:
    values: dict = {"layers": 2, "width": 32, "heads": 4, "hidden": 48, "length": 16, "vocab": 50}
    return BertConfig(**(values | changes))


MODELS = {"gpt1": gpt1, "gpt2": gpt2, "gpt_neo": neo, "bert": bert}


def drawn(config: BertConfig | GptConfig, seed: int = 0) -> dict:
    """Parameters with biases and scales away from 0 and 1, so that a forgotten one shows."""
    numbers = np.random.default_rng(seed)
    tokens = jnp.zeros((1, 1), jnp.int32)
    boxed = jax.eval_shape(lambda key: config.module().init(key, tokens), jax.random.key(0))

    def one(path, leaf):
        noise = 0.1 * numbers.standard_normal(leaf.shape).astype(np.float32)
        return noise + tree.name_of(path).endswith("scale")

    return jax.tree_util.tree_map_with_path(one, nn.unbox(boxed)["params"])
