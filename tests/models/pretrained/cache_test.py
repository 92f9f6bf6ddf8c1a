"""Decoding with a cache against transformers, on the weights that it wrote."""

import jax
import numpy as np
import pytest

from lm.decode.generate import Generator
from lm.decode.sampling import SamplingConfig
from lm.models.gpt import Cache, decoding_params, forward
from lm.models.pretrained import read


def theirs_of(**shape):
    """Hugging Face's GPT-2 with weights away from their initial ones."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return torch, theirs


@pytest.mark.slow
def test_with_a_cache_and_padding_at_the_left_every_logit_equals_those_of_transformers(tmp_path):
    torch, theirs = theirs_of(n_layer=3, n_embd=64, n_head=4, n_positions=64, vocab_size=300)
    theirs.save_pretrained(tmp_path / "hf")
    config, params = read(tmp_path / "hf")
    ids = np.random.default_rng(0).integers(0, 300, (2, 48))
    padding, prompt = np.array([0, 7]), 20
    valid = np.arange(48)[None] >= padding[:, None]
    with torch.no_grad():
        expected = theirs(
            torch.tensor(ids),
            attention_mask=torch.tensor(valid.astype(np.int64)),
            position_ids=torch.tensor(np.maximum(np.cumsum(valid, 1) - 1, 0)),
        ).logits.numpy()
    with jax.default_matmul_precision("highest"):
        step = jax.jit(lambda p, tokens, cache: forward(config, p, tokens, cache=cache))
        kept = decoding_params(config, params)
        logits, cache = step(kept, ids[:, :prompt], Cache.empty(config, padding, 48))
        found = [np.asarray(logits)]
        for i in range(prompt, 48):
            logits, cache = step(kept, ids[:, i : i + 1], cache)
            found.append(np.asarray(logits))
    assert np.abs(np.concatenate(found, 1) - expected)[valid].max() < 1e-4


@pytest.mark.slow
def test_two_hundred_greedy_tokens_equal_the_uncached_ones_and_those_of_transformers(tmp_path):
    torch, theirs = theirs_of(n_layer=3, n_embd=64, n_head=4, n_positions=256, vocab_size=300)
    theirs.save_pretrained(tmp_path / "hf")
    config, params = read(tmp_path / "hf")
    prompt, count = [5, 17, 250], 200
    with jax.default_matmul_precision("highest"):
        (cached,) = Generator(config, params, None)([prompt], count, SamplingConfig(temperature=0))
        whole = jax.jit(lambda p, tokens: forward(config, p, tokens)[0])
        tokens = np.zeros((1, len(prompt) + count), np.int32)
        tokens[0, : len(prompt)] = prompt
        for i in range(len(prompt), len(prompt) + count):  # what comes later changes nothing
            tokens[0, i] = int(np.argmax(whole(params, tokens)[0, i - 1]))
    assert list(cached) == tokens[0, len(prompt) :].tolist()
    with torch.no_grad():
        expected = theirs.generate(
            torch.tensor([prompt]), max_new_tokens=count, do_sample=False, eos_token_id=None,
            pad_token_id=0,
        )  # fmt: skip
    assert list(cached) == expected[0, len(prompt) :].tolist()
    assert len(set(cached)) > 10  # not one token over and over
