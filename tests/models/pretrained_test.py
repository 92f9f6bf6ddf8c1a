"""GPT-2 weights in Hugging Face's layout, both ways, against their own model."""

import json

import jax
import numpy as np
import pytest

from lm.core.errors import CheckpointError, ConfigError
from lm.models.gpt import forward
from lm.models.pretrained import read_gpt2, write_gpt2
from tests.models.gpt_test import made, small

numpy_files = pytest.importorskip("safetensors.numpy")


@pytest.fixture
def exported(tmp_path):
    config = small()
    params = jax.device_get(made(config))
    write_gpt2(config, params, tmp_path / "hf")
    return config, params, tmp_path / "hf"


def rewritten(folder, change):
    arrays = numpy_files.load_file(folder / "model.safetensors")
    numpy_files.save_file(change(arrays), folder / "model.safetensors")


def test_what_is_written_reads_back_exactly(exported):
    config, params, folder = exported
    again, read = read_gpt2(folder)
    assert again.parameters() == config.parameters()
    jax.tree.map(np.testing.assert_array_equal, read, params)


def test_names_without_their_prefix_and_with_old_buffers_load(exported):
    _, params, folder = exported

    def old(arrays):
        bare = {name.removeprefix("transformer."): array for name, array in arrays.items()}
        return bare | {"h.0.attn.bias": np.ones((1, 1, 16, 16), np.float32)}

    rewritten(folder, old)
    jax.tree.map(np.testing.assert_array_equal, read_gpt2(folder)[1], params)


def test_all_wrong_keys_are_told_at_once(exported):
    folder = exported[2]

    def spoil(arrays):
        arrays = dict(arrays)
        arrays.pop("transformer.wpe.weight")
        arrays["transformer.ln_f.bias"] = np.zeros(3, np.float32)
        return arrays | {"transformer.more": np.zeros(1, np.float32)}

    rewritten(folder, spoil)
    with pytest.raises(CheckpointError) as error:
        read_gpt2(folder)
    for part in ("missing wpe.weight", "ln_f.bias is (3,), not (32,)", "unexpected more"):
        assert part in str(error.value)


def test_pickles_and_cut_files_are_refused(exported):
    folder = exported[2]
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match="model.safetensors"):
        read_gpt2(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pytorch_model.bin is a pickle"):
        read_gpt2(folder)


def test_attention_scaled_otherwise_is_refused(exported):
    path = exported[2] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scale_attn_weights": False}))
    with pytest.raises(CheckpointError, match="not scaled"):
        read_gpt2(exported[2])


def test_a_model_that_their_gpt2_cannot_express_is_refused(tmp_path):
    config = small(norm="post")
    with pytest.raises(ConfigError, match="norm=post"):
        write_gpt2(config, {}, tmp_path)


@pytest.mark.slow
def test_logits_equal_those_of_transformers_and_another_gelu_does_not(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = {"n_layer": 4, "n_embd": 64, "n_head": 4, "n_positions": 64, "vocab_size": 300}
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path / "hf")
    config, params = read_gpt2(tmp_path / "hf")
    ids = np.random.default_rng(0).integers(0, 300, (2, 48))
    valid = np.arange(48)[None] >= np.array([[0], [7]])  # padding at the left
    with torch.no_grad():
        expected = theirs(
            torch.tensor(ids),
            attention_mask=torch.tensor(valid.astype(np.int64)),
            position_ids=torch.tensor(np.maximum(np.cumsum(valid, 1) - 1, 0)),
        ).logits.numpy()

    def furthest(**changes):
        from dataclasses import replace

        used = replace(config, **changes)
        with jax.default_matmul_precision("highest"):
            logits = jax.jit(lambda p: forward(used, p, ids, valid=valid)[0])(params)
        return np.abs(np.asarray(logits) - expected)[valid].max()

    assert furthest() < 1e-4
    assert furthest(activation="gelu_erf") > 1e-4

    write_gpt2(config, params, tmp_path / "back")
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "back").eval()
    with torch.no_grad():
        same, first = again(torch.tensor(ids)).logits, theirs(torch.tensor(ids)).logits
    assert torch.equal(same, first)
