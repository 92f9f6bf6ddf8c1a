"""Each architecture against transformers and PyTorch, with changes that have to show."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from lm.models.pretrained import read, write
from tests.models.pretrained.models import drawn, gpt1

TOLERANCE = 1e-4


@pytest.fixture
def torch():
    pytest.importorskip("transformers")
    module = pytest.importorskip("torch")
    module.manual_seed(0)
    return module


def shaken(torch, model, size):
    """Their model, moved so that no bias or scale is one that may be forgotten.

    Embeddings stay as they are drawn: so small that the epsilon of the first norm counts.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed" not in name or "LayerNorm" in name:
                parameter.add_(size * torch.randn_like(parameter))
    return model.eval()


def run(config, params, *inputs, method="__call__"):
    with jax.default_matmul_precision("highest"):
        apply = jax.jit(lambda p, *xs: config.module().apply({"params": p}, *xs, method=method))
        return jax.tree.map(np.asarray, apply(params, *inputs))


def padded(rng, vocab, rows=3, length=48):
    """Ids, and which of them are real: padding at the right, of several lengths."""
    ids = rng.integers(0, vocab, (rows, length))
    return ids, np.arange(length) < np.array([[length], [length - 7], [length // 2]])[:rows]


@pytest.mark.slow
def test_gpt2(torch, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"n_layer": 4, "n_embd": 64, "n_head": 4, "n_positions": 64, "vocab_size": 300}
    theirs = shaken(torch, GPT2LMHeadModel(GPT2Config(**shape)), size=0.1)
    theirs.save_pretrained(tmp_path / "hf")
    config, params = read(tmp_path / "hf")
    ids = np.random.default_rng(0).integers(0, 300, (2, 48))
    valid = np.arange(48)[None] >= np.array([[0], [7]])  # padding at the left
    with torch.no_grad():
        expected = theirs(
            torch.tensor(ids),
            attention_mask=torch.tensor(valid.astype(np.int64)),
            position_ids=torch.tensor(np.maximum(np.cumsum(valid, 1) - 1, 0)),
        ).logits.numpy()

    def furthest(**changes):
        logits = run(replace(config, **changes), params, ids, valid)[0]
        return np.abs(logits - expected)[valid].max()

    assert furthest() < TOLERANCE
    assert furthest(activation="gelu_erf") > TOLERANCE
    returned(torch, GPT2LMHeadModel, config, params, theirs, tmp_path, torch.tensor(ids))


@pytest.mark.slow
def test_gpt_neo(torch, tmp_path):
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    shape = GPTNeoConfig(
        num_layers=4, hidden_size=96, num_heads=4, max_position_embeddings=64, vocab_size=300,
        window_size=7, attention_types=[[["global", "local"], 2]],
    )  # fmt: skip
    theirs = shaken(torch, GPTNeoForCausalLM(shape), size=0.1)
    theirs.save_pretrained(tmp_path / "hf")
    config, params = read(tmp_path / "hf")
    assert config.pattern == ("dense", "banded") and config.band == 7 and not config.qkv_bias
    ids = np.random.default_rng(0).integers(0, 300, (2, 48))
    with torch.no_grad():
        expected = theirs(torch.tensor(ids)).logits.numpy()

    def furthest(**changes):
        return np.abs(run(replace(config, **changes), params, ids)[0] - expected).max()

    assert furthest() < TOLERANCE
    assert furthest(band=8) > TOLERANCE
    assert furthest(pattern=("banded", "dense")) > TOLERANCE
    write(config, params, tmp_path / "back")
    again = GPTNeoForCausalLM.from_pretrained(tmp_path / "back").eval()
    with torch.no_grad():  # sqrt(24) times and over itself is not the same to the last bit
        found = again(torch.tensor(ids)).logits.numpy()
    assert np.abs(found - expected).max() < TOLERANCE


def returned(torch, model_class, config, params, theirs, folder, *inputs, **named):
    """Asserts that what we write, theirs reads to the same last bit of every output."""
    write(config, params, folder / "back")
    again, report = model_class.from_pretrained(folder / "back", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        there, here = theirs(*inputs, **named), again.eval()(*inputs, **named)
    for name in there.keys() & {"logits", "prediction_logits", "seq_relationship_logits"}:
        assert torch.equal(there[name], here[name])


@pytest.mark.slow
def test_gpt1(torch, tmp_path):
    from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel

    shape = {"n_layer": 12, "n_embd": 256, "n_head": 4, "n_positions": 64, "vocab_size": 300}
    theirs = shaken(torch, OpenAIGPTLMHeadModel(OpenAIGPTConfig(**shape)), size=0.02)
    theirs.save_pretrained(tmp_path / "hf")
    config, params = read(tmp_path / "hf")
    assert (config.epsilon, config.norm, config.final_norm) == (1e-5, "post", False)
    ids = np.random.default_rng(0).integers(0, 300, (2, 48))
    with torch.no_grad():
        expected = theirs(torch.tensor(ids)).logits.numpy()

    def furthest(**changes):
        return np.abs(run(replace(config, **changes), params, ids)[0] - expected).max()

    assert furthest() < TOLERANCE
    assert furthest(epsilon=1e-6) > TOLERANCE
    assert furthest(activation="gelu_erf") > TOLERANCE
    returned(torch, OpenAIGPTLMHeadModel, config, params, theirs, tmp_path, torch.tensor(ids))


@pytest.mark.slow
@pytest.mark.parametrize("act", ["gelu", "gelu_new"])
def test_bert(torch, tmp_path, act):
    from transformers import BertConfig, BertForPreTraining

    shape = {
        "num_hidden_layers": 12, "hidden_size": 128, "num_attention_heads": 4,
        "intermediate_size": 512, "vocab_size": 300, "max_position_embeddings": 64,
    }  # fmt: skip
    theirs = shaken(torch, BertForPreTraining(BertConfig(**shape, hidden_act=act)), size=0.05)
    theirs.save_pretrained(tmp_path / "hf")
    config, params = read(tmp_path / "hf")
    assert config.activation == {"gelu": "gelu_erf", "gelu_new": "gelu_tanh"}[act]
    rng = np.random.default_rng(0)
    ids, valid = padded(rng, 300)
    segments = (np.arange(48) >= 20).astype(np.int64) * valid
    inputs = {
        "input_ids": torch.tensor(ids),
        "token_type_ids": torch.tensor(segments),
        "attention_mask": torch.tensor(valid.astype(np.int64)),
    }
    with torch.no_grad():
        out = theirs(**inputs)
        pooled = theirs.bert(**inputs).pooler_output.numpy()
    words, order = out.prediction_logits.numpy(), out.seq_relationship_logits.numpy()

    def furthest(**changes):
        used = replace(config, **changes)
        our_words, our_order = run(used, params, ids, segments, valid)
        hidden = run(used, params, ids, segments, valid, method="hidden")
        our_pooled = run(used, params, hidden, method="pooled")
        return {
            "words": np.abs(our_words - words)[valid].max(),
            "order": np.abs(our_order - order).max(),
            "pooled": np.abs(our_pooled - pooled).max(),
        }

    found = furthest()
    assert max(found.values()) < TOLERANCE, found
    other = "gelu_tanh" if act == "gelu" else "gelu_erf"
    assert furthest(activation=other)["words"] > TOLERANCE
    assert furthest(epsilon=1e-5)["words"] > TOLERANCE
    returned(torch, BertForPreTraining, config, params, theirs, tmp_path, **inputs)


def layer_norm(x, gain, bias, epsilon=1e-5):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(np.square(x - mean).mean(-1, keepdims=True) + epsilon) * gain + bias


def openai_logits(arrays, ids, layers, heads):
    """Scores [T V] of `model()` in the released train.py, for one sequence, in float64.

    There they go on over the rows of its one table that stand for positions; these are the columns
    of the tokens, which do not depend on the others.
    """
    a = {name.removeprefix("transformer."): x.astype(np.float64) for name, x in arrays.items()}
    length, width = len(ids), a["tokens_embed.weight"].shape[1]
    hidden = a["tokens_embed.weight"][ids] + a["positions_embed.weight"][:length]
    for layer in range(layers):

        def linear(name, x, place=f"h.{layer}"):
            return x @ a[f"{place}.{name}.weight"] + a[f"{place}.{name}.bias"]

        def norm(name, x, place=f"h.{layer}"):
            return layer_norm(x, a[f"{place}.{name}.weight"], a[f"{place}.{name}.bias"])

        q, k, v = np.split(linear("attn.c_attn", hidden), 3, axis=-1)
        q, k, v = (x.reshape(length, heads, -1).transpose(1, 0, 2) for x in (q, k, v))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(width / heads)
        scores = np.where(np.tri(length, dtype=bool), scores, -1e9)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        attended = (weights @ v).transpose(1, 0, 2).reshape(length, width)
        hidden = norm("ln_1", hidden + linear("attn.c_proj", attended))
        x = linear("mlp.c_fc", hidden)
        x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        hidden = norm("ln_2", hidden + linear("mlp.c_proj", x))
    return hidden @ a["tokens_embed.weight"].T


def test_gpt1_equals_a_transcription_of_the_released_model(tmp_path):
    files = pytest.importorskip("safetensors.numpy")
    config = gpt1(layers=4, length=32)
    params = drawn(config)
    write(config, params, tmp_path)
    ids = np.random.default_rng(0).integers(0, config.vocab, 32)
    arrays = files.load_file(tmp_path / "model.safetensors")
    expected = openai_logits(arrays, ids, config.layers, config.heads)
    assert np.abs(run(config, params, ids[None])[0][0] - expected).max() < TOLERANCE
    other = run(replace(config, activation="gelu_erf"), params, ids[None])[0][0]
    assert np.abs(other - expected).max() > TOLERANCE
