"""The likeliest words are those that a loop over every word finds."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.decode.generate import Generator
from lm.decode.words import Parts, next_words
from lm.models import gpt
from tests.models.gpt_test import made, small

forward = jax.jit(gpt.forward, static_argnums=0)
FIRST, WITHIN, AFTER = (1, 2, 3), (4, 5, 6), (0, 7, 8)
PROMPTS = [[9, 1, 5, 3], [2]]


def parts(vocab):
    return Parts(*(np.isin(np.arange(vocab), ids) for ids in (FIRST, WITHIN, AFTER)))


def every_word(config, params, prompt, longest):
    """Each word of up to `longest` tokens and its log-probability, each read by itself."""
    words = [
        word
        for size in range(1, longest + 1)
        for word in itertools.product(FIRST, *[WITHIN] * (size - 1))
    ]
    rows = [[*prompt, *word, *[0] * (longest - len(word))] for word in words]
    logits = forward(config, params, jnp.array(rows))[0]  # causal: what follows is unseen
    logp = np.asarray(jax.jit(jax.nn.log_softmax)(logits), np.float64)
    found = {}
    for word, row in zip(words, logp, strict=True):
        start = len(prompt) - 1
        after = np.log(np.exp(row[start + len(word), list(AFTER)]).sum())
        found[word] = sum(row[start + n, token] for n, token in enumerate(word)) + after
    return sorted(found.items(), key=lambda pair: -pair[1])


def test_a_wide_search_finds_every_word_with_its_probability():
    config = small(length=32)
    params = made(config)
    found = next_words(Generator(config, params, end=0), PROMPTS, parts(config.vocab),
                       width=48, longest=3)  # fmt: skip
    for prompt, words in zip(PROMPTS, found, strict=True):
        right = every_word(config, params, prompt, 3)
        assert [word for word, _ in words] == [word for word, _ in right]
        np.testing.assert_allclose([s for _, s in words], [s for _, s in right], atol=2e-5)


@pytest.mark.slow
def test_rows_of_a_model_that_are_no_tokens_take_no_probability():
    config = small(length=32)
    params = made(config)
    table = params["tokens"]["table"]
    more = jnp.concatenate([table, 0.5 * table[:7]])
    padded = params | {"tokens": params["tokens"] | {"table": more}}
    wide = replace(config, vocab=config.vocab + 7)
    found, right, shared = (
        next_words(Generator(model, some, end=0), PROMPTS, parts(size), width=48, longest=3)
        for model, some, size in (
            (wide, padded, config.vocab), (config, params, config.vocab), (wide, padded, wide.vocab)
        )
    )  # fmt: skip
    for ours, theirs, less in zip(found, right, shared, strict=True):
        assert [word for word, _ in ours] == [word for word, _ in theirs]
        np.testing.assert_allclose([s for _, s in ours], [s for _, s in theirs], atol=2e-5)
        assert less[0][1] < ours[0][1] - 1e-3  # the control: where they are taken for tokens


def test_a_narrow_search_finds_the_likeliest_word():
    config = small(length=32)
    params = made(config)
    found = next_words(Generator(config, params, end=0), PROMPTS, parts(config.vocab),
                       width=8, longest=3)  # fmt: skip
    assert [words[0][0] for words in found] == [
        every_word(config, params, prompt, 3)[0][0] for prompt in PROMPTS
    ]


def test_where_anything_may_follow_a_word_has_what_its_longer_forms_have():
    config = small(length=32)
    generator, some = Generator(config, made(config), end=0), parts(config.vocab)
    anything = Parts(some.first, some.within, np.ones_like(some.after))
    loose, exact = (
        next_words(generator, PROMPTS, each, width=48, longest=3)[0] for each in (anything, some)
    )
    assert all(len(word) == 1 for word, _ in loose[: len(FIRST)])
    assert loose[0][1] > exact[0][1]
