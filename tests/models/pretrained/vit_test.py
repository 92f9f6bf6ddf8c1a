"""Our encoder of images against those of transformers, with changes that have to show."""

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lm.core.errors import CheckpointError
from lm.models import vision
from lm.models.pretrained.table import to_theirs
from lm.models.pretrained.vit import (
    CLIP_COLOURS,
    PIXELS,
    colours,
    encoder_config,
    names,
    on_ours,
    read_encoder,
    table,
)
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


@pytest.mark.slow
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside text"])
@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_the_encoders_of_both_recipes_give_the_states_of_transformers(tmp_path, kind, alone):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = {
        "num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 4, "image_size": 24,
        "intermediate_size": 48, "patch_size": 8,
    }  # fmt: skip
    text = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 4, "vocab_size": 8,
            "intermediate_size": 48}  # fmt: skip
    of = partial(getattr, transformers)
    own = of(f"{kind}VisionConfig")(**shape)
    both = of(f"{kind}Config")(text_config=text, vision_config=own.to_dict())
    theirs = (of(f"{kind}VisionModel")(own) if alone else of(f"{kind}Model")(both)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    config, params = read_encoder(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3)).astype(np.uint8)
    mean, deviation = CLIP_COLOURS if kind == "CLIP" else (0.5, 0.5)
    pixels = torch.tensor(((images / 255 - mean) / deviation).transpose(0, 3, 1, 2)).float()
    tower = theirs if alone else theirs.vision_model
    with torch.no_grad():
        told = tower(pixel_values=pixels, output_hidden_states=True)
    last = told.last_hidden_state.numpy()
    wanted = told.hidden_states[-2].numpy() if kind == "CLIP" else last
    assert config.class_token == (kind == "CLIP") and wanted.shape == (
        2,
        9 + config.class_token,
        32,
    )

    ours = vision.normalised(images)

    def furthest(config, wanted=wanted, images=ours):
        with jax.default_matmul_precision("highest"):
            found = jax.jit(vision.forward, static_argnums=0)(config, params, images)
        return np.abs(np.asarray(found) - wanted).max()

    assert furthest(config) < TOLERANCE
    assert furthest(replace(config, activation="gelu_erf")) > TOLERANCE
    elsewhere = "after" if kind == "CLIP" else "before"
    assert furthest(replace(config, whole_norm=elsewhere)) > TOLERANCE
    if kind == "CLIP":
        assert furthest(config, wanted=last) > TOLERANCE  # of its last block
        assert furthest(config, images=np.moveaxis(pixels.numpy(), 1, 3)) > TOLERANCE


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


def test_what_stands_beside_an_encoder_of_images_is_left_out():
    clip = {
        "vision_model.embeddings.position_ids": 1, "text_model.embeddings.position_ids": 2,
        "vision_model.encoder.layers.0.self_attn.out_proj.bias": 3, "logit_scale": 4,
        "text_model.encoder.layers.0.self_attn.out_proj.bias": 5, "visual_projection.weight": 6,
        "vision_model.pre_layrnorm.bias": 7, "vision_model.head.probe": 8,
    }  # fmt: skip
    kept = {"encoder.layer.0.attention.output.dense.bias": 3, "pre_layrnorm.bias": 7}
    assert names(clip) == kept


def test_a_config_beside_that_of_text_says_only_what_is_not_usual():
    own = {"hidden_size": 1152, "image_size": 384, "patch_size": 14, "num_attention_heads": 16}
    found = encoder_config({"model_type": "siglip", "vision_config": own})
    assert (found.width, found.layers, found.grid, found.class_token) == (1152, 12, 27, False)
    clip = encoder_config({"model_type": "clip", "vision_config": {"num_hidden_layers": 24}})
    assert (clip.layers, clip.activation, clip.epsilon) == (23, "gelu_quick", 1e-5)


def test_the_colours_that_an_encoder_was_trained_with_are_in_its_patches(tmp_path):
    draw = np.random.default_rng(0)
    bytes_, kernel = draw.integers(0, 256, (4, 2, 2, 3)), draw.standard_normal((5, 12))
    said = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    found = colours(tmp_path, {"model_type": "vit"})
    made = on_ours({f"{PIXELS}.weight": kernel}, *found)
    theirs = (bytes_ / 255 - said["image_mean"]) / said["image_std"]
    ours = np.asarray(vision.normalised(bytes_)).reshape(4, 12)
    patches = ours @ made[f"{PIXELS}.weight"].T + made[f"{PIXELS}.bias"]
    np.testing.assert_allclose(patches, theirs.reshape(4, 12) @ kernel.T, atol=1e-5)
    usual = on_ours(
        {f"{PIXELS}.weight": kernel}, *colours(tmp_path / "none", {"model_type": "vit"})
    )
    np.testing.assert_array_equal(usual[f"{PIXELS}.weight"], kernel.astype(np.float32))


MEANS = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}


@pytest.mark.parametrize(
    "said",
    [{}, {"do_normalize": False}, {"do_rescale": False}, {"rescale_factor": 1 / 127.5},
     {"image_mean": None, "image_std": None}],
    ids=str,
)  # fmt: skip
def test_what_a_folder_does_to_images_is_in_the_patches_wherever_it_says_so(tmp_path, said):
    said = MEANS | said
    bytes_, kernel = np.arange(12.0) * 20, np.random.default_rng(0).standard_normal((5, 12))
    mean, deviation = said["image_mean"] or 0.5, said["image_std"] or 0.5
    theirs = bytes_.reshape(4, 3)
    if said.get("do_rescale", True):
        theirs = theirs * said.get("rescale_factor", 1 / 255)
    if said.get("do_normalize", True):
        theirs = (theirs - mean) / deviation
    other = {"image_mean": [9, 9, 9]}
    for nested, beside in ((said, other), (None, said)):
        (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": nested}))
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(beside))
        found = colours(tmp_path, {"model_type": "vit"})
        made = on_ours({f"{PIXELS}.weight": kernel}, *found)
        ours = np.asarray(vision.normalised(bytes_))
        patches = made[f"{PIXELS}.weight"] @ ours + made[f"{PIXELS}.bias"]
        np.testing.assert_allclose(patches, kernel @ theirs.reshape(12), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([], "preprocessor_config.json is \\[\\], expected settings"),
        ({"image_std": [0, 0, 0]}, "deviations above 0"),
        ({"image_mean": 0.5}, "expected three numbers"),
        ({"image_mean": [0.5] * 4, "image_std": [0.5] * 4}, "expected three numbers"),
        ({"image_mean": [0.5, 0.5, float("nan")]}, "expected three numbers"),
        ({"do_normalize": "false"}, "do_normalize is 'false', expected true or false"),
        ({"rescale_factor": 0}, "rescale_factor is 0"),
    ],
)
def test_colours_that_no_images_have_are_refused(tmp_path, said, told):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match=told):
        colours(tmp_path, {"model_type": "vit"})


def test_a_pair_of_equal_sides_is_one_side():
    raw = {"model_type": "clip_vision_model", "image_size": [28, 28], "patch_size": [14, 14]}
    assert encoder_config(raw).grid == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_size": [28, 42]}, r"image_size is \[28, 42\], expected a whole number"),
        ({"num_hidden_layers": "3"}, "num_hidden_layers is '3', expected a whole number"),
        ({"patch_size": 0}, "patch_size is 0, expected a whole number above 0"),
        ({"vision_config": None}, "vision_config is None, expected settings"),
        ({"layer_norm_eps": None}, "NoneType"),
        ({"hidden_act": ["gelu"]}, "list"),
    ],
)
def test_a_config_that_cannot_be_is_told_in_a_line(tmp_path, changes, told):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"} | changes))
    with pytest.raises(CheckpointError, match=f"no ViT that can be read: .*{told}") as caught:
        read_encoder(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_no_vit_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not a config"):
        read_encoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match="no ViT that can be read: model_type 'bert'"):
        read_encoder(tmp_path)
