"""Adapters: nothing changes at first, only they are learned, and all of a block can change."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from lm.core import tree
from lm.models import gpt, reward
from lm.models.adapters import (
    adapted,
    attached,
    learned_alone,
    merged,
    trainable,
    whole_gradient,
    with_base,
    with_trainable,
)
from lm.models.gpt import GptConfig, forward

CONFIG = GptConfig(layers=2, width=16, heads=2, vocab=20, length=8)
TOKENS = np.arange(8)[None] % 20
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def params():
    return jax.jit(lambda key: nn.unbox(adapted(gpt.init(CONFIG, key), 2, key)))(jax.random.key(0))


def loss(params):
    logits, _ = forward(CONFIG, merged(params), TOKENS)
    return jnp.square(logits).mean()


def test_every_kernel_of_a_block_has_adapters_that_change_nothing_yet(params):
    names = {name.rpartition("/")[0] for name in tree.named_leaves(params["lora"])}
    assert names == {f"stack/blocks/{part}/kernel" for part in
                     ("attention/qkv", "attention/output", "mlp/hidden", "mlp/output")}  # fmt: skip
    logits = jax.jit(lambda params: forward(CONFIG, merged(params), TOKENS)[0])
    np.testing.assert_array_equal(logits(params), logits(params["base"]))
    assert tree.count(params["lora"]) < 0.5 * tree.count(params["base"])
    for part, inputs in (("hidden", 16), ("output", 64)):  # rows of length one, as many come in
        down = params["lora"]["stack"]["blocks"]["mlp"][part]["kernel"]["down"]
        assert 0.5 < float(jnp.std(down)) * inputs**0.5 < 1.5


def test_every_kernel_and_layer_has_adapters_drawn_for_itself(params):
    blocks = params["lora"]["stack"]["blocks"]
    parts = blocks["attention"]["qkv"], blocks["attention"]["output"], blocks["mlp"]["hidden"]
    drawn = [layer for part in parts for layer in np.asarray(part["kernel"]["down"])]
    assert {one.shape for one in drawn} == {(16, 2)}
    assert len({one.tobytes() for one in drawn}) == 2 * 3


def test_gradients_reach_the_adapters_alone_and_the_optimizer_leaves_the_base(params):
    moved = with_base(params, params["base"])
    moved["lora"] = jax.tree.map(lambda leaf: leaf + 0.1, params["lora"])
    grads = jax.jit(jax.grad(loss))(moved)
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(grads["base"]))
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(grads["lora"]))
    direction = learned_alone(optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(0.1)), 2)
    state = jax.jit(direction.init)(moved)
    assert tree.count(state) < 2.1 * tree.count(params["lora"])  # no moments of the base
    updates, _ = jax.jit(direction.update)(grads, state, moved)
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(updates["base"]))


def test_learning_beside_the_model_is_learning_the_sum_without_the_memory_of_either(params):
    moved = with_base(params, params["base"])
    moved["lora"] = jax.tree.map(lambda leaf: leaf + 0.1, params["lora"])

    def gradient(of, config, tokens):
        def loss(own, params):
            return jnp.square(forward(config, of(with_trainable(params, own)), tokens)[0]).mean()

        return jax.jit(lambda params: jax.grad(loss)(trainable(params), params))

    apart, summed = (gradient(of, CONFIG, TOKENS)(moved) for of in (attached, merged))
    for ours, theirs in zip(*map(jax.tree.leaves, (apart, summed)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert whole_gradient(moved, apart)["lora"] is apart and trainable(apart) is apart
    assert jax.tree.structure(whole_gradient(moved, apart)) == jax.tree.structure(moved)

    large = GptConfig(layers=4, width=256, heads=2, vocab=20, length=8)
    made = jax.eval_shape(lambda key: nn.unbox(adapted(gpt.init(large, key), 2, key)), KEY)
    size = 4 * tree.count(made["base"])
    needed = [
        gradient(of, large, TOKENS).lower(made).compile().memory_analysis().temp_size_in_bytes
        for of in (attached, merged)
    ]
    assert needed[0] < 0.5 * size < 1.5 * size < needed[1]


def test_the_sum_is_that_of_the_written_out_product(params):
    moved = jax.tree.map(lambda leaf: leaf + 0.1, params["lora"])
    both = merged({"base": params["base"], "lora": moved})
    kernel = params["base"]["stack"]["blocks"]["attention"]["output"]["kernel"]
    pair = moved["stack"]["blocks"]["attention"]["output"]["kernel"]
    expected = np.stack([np.asarray(kernel[layer]).reshape(16, 16) + pair["down"][layer]
                         @ pair["up"][layer] for layer in range(2)])  # fmt: skip
    found = both["stack"]["blocks"]["attention"]["output"]["kernel"]
    np.testing.assert_allclose(np.reshape(found, (2, 16, 16)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_scalar_head_is_learned_whole_and_shifted():
    make = jax.jit(lambda key: nn.unbox(adapted(reward.init(CONFIG, key), 1, key)))
    made = make(jax.random.key(0))
    values = jax.jit(lambda params: reward.token_values(CONFIG, params, TOKENS))
    before, after = values(made), values(reward.shifted(made, jnp.float32(0.5)))
    np.testing.assert_allclose(before - after, 0.5, atol=1e-6)
    assert made["lora"]["head"]["kernel"].shape == (16, 1)


def test_a_head_of_questions_is_learned_whole_too():
    boxed = jax.eval_shape(lambda key: adapted(reward.init(CONFIG, key, 3), 1, key), KEY)
    made = nn.unbox(boxed)
    assert made["lora"]["metadata"]["kernel"].shape == (16, 3)
    whole = jax.eval_shape(merged, made)
    assert jax.tree.structure(whole) == jax.tree.structure(made["base"])


def test_rank_zero_is_no_adapter_at_all():
    plain = {"stack": {"blocks": {"mlp": {"hidden": {"kernel": np.ones((1, 2, 2))}}}}}
    assert adapted(plain, 0, jax.random.key(1)) is plain and merged(plain) is plain
