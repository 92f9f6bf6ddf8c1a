"""Our encoder of images against transformers' `ViTModel`, with changes that have to show."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lm.core.errors import CheckpointError
from lm.models import vision
from lm.models.pretrained.table import to_theirs
from lm.models.pretrained.vit import names, read_encoder, table
from lm.models.vision import VisionConfig

TOLERANCE = 1e-4


@pytest.mark.slow
def test_a_vit_of_random_weights_gives_the_states_of_transformers(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = {
        "num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 4, "image_size": 24,
        "intermediate_size": 48, "patch_size": 8, "layer_norm_eps": 1e-6,
    }  # fmt: skip
    theirs = transformers.ViTModel(transformers.ViTConfig(**shape)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    config, params = read_encoder(tmp_path)
    images = np.random.default_rng(0).standard_normal((2, 24, 24, 3)).astype(np.float32)
    with torch.no_grad():
        pixels = torch.tensor(images.transpose(0, 3, 1, 2))
        expected = theirs(pixel_values=pixels).last_hidden_state.numpy()

    def furthest(config):
        with jax.default_matmul_precision("highest"):
            found = jax.jit(vision.forward, static_argnums=0)(config, params, images)
        return np.abs(np.asarray(found) - expected).max()

    assert furthest(config) < TOLERANCE
    assert furthest(replace(config, activation="gelu_tanh")) > TOLERANCE
    assert furthest(replace(config, epsilon=1e-2)) > TOLERANCE


def test_a_folder_is_read_back_array_by_array(tmp_path):
    from safetensors.numpy import save_file

    config = VisionConfig(layers=2, width=8, heads=2, hidden=32, image=8, patch=4, class_token=True)
    boxed = jax.eval_shape(
        lambda key: vision.Vision(config).init(key, jnp.zeros((1, 8, 8, 3))), jax.random.key(0)
    )
    draw = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: draw.standard_normal(leaf.shape).astype(np.float32), nn.unbox(boxed)["params"]
    )
    arrays = to_theirs(table(config), config.layers, params)
    kernel = "embeddings.patch_embeddings.projection.weight"
    arrays[kernel] = np.ascontiguousarray(arrays[kernel].reshape(8, 4, 4, 3).transpose(0, 3, 1, 2))
    save_file(arrays, tmp_path / "model.safetensors")
    raw = {
        "model_type": "vit", "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2,
        "intermediate_size": 32, "image_size": 8, "patch_size": 4, "layer_norm_eps": 1e-5,
        "hidden_act": "gelu_new",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(raw))
    found, again = read_encoder(tmp_path)
    assert found == config
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_names_of_both_ages_are_the_same_arrays():
    new = {
        "layers.2.attention.q_proj.bias": 1, "layers.0.mlp.fc1.weight": 2,
        "layers.1.attention.o_proj.weight": 3, "pooler.dense.weight": 4,
    }  # fmt: skip
    old = {
        "vit.encoder.layer.2.attention.attention.query.bias": 1,
        "vit.encoder.layer.0.intermediate.dense.weight": 2,
        "vit.encoder.layer.1.attention.output.dense.weight": 3,
        "classifier.weight": 4,
    }
    assert names(new) == names(old) and len(names(new)) == 3


def test_what_is_no_vit_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not a config"):
        read_encoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match="no ViT that can be read: model_type 'bert'"):
        read_encoder(tmp_path)
