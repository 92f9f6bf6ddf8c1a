"""Decoding with a cache equals computing everything anew."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.core.errors import ConfigError, DataError
from lm.core.tree import size_bytes
from lm.decode.beam import beam_search
from lm.decode.generate import MOMENTS, Generator, extend
from lm.decode.sampling import SamplingConfig
from lm.decode.words import Parts, next_words
from lm.models import gpt
from lm.models.gpt import Cache, GptConfig
from lm.nn.attention import write
from tests.models.gpt_test import made, small

GREEDY = SamplingConfig(temperature=0)
forward = jax.jit(gpt.forward, static_argnums=0)


def greedy_anew(config, params, prompt, count):
    ids = list(prompt)
    for _ in range(count):
        # causal: what follows is unseen
        padded = np.array([ids + [0] * (config.length - len(ids))])
        logits, _ = forward(config, params, padded)
        ids.append(int(np.argmax(np.asarray(logits)[0, len(ids) - 1])))
    return ids[len(prompt) :]


@pytest.mark.parametrize(
    "pattern",
    [
        ("dense",),
        ("dense", "banded"),
        pytest.param(("strided", "powers"), marks=pytest.mark.slow),
        pytest.param(("banded", ("banded", "columns")), marks=pytest.mark.slow),
    ],
)
def test_cached_greedy_decoding_of_unequal_prompts_equals_decoding_anew(pattern):
    config = small(length=64, pattern=pattern, band=5, stride=4, summary=2)
    params = made(config)
    prompts = [[3, 1, 4, 1, 5, 9, 2, 6], [7], [5, 3, 5]]
    rows = Generator(config, params, end=None)(prompts, 20, GREEDY)
    assert rows == [greedy_anew(config, params, prompt, 20) for prompt in prompts]


def test_a_banded_layers_cache_is_a_ring_of_its_band_and_a_dense_layers_is_whole():
    config = small(length=64, layers=4, pattern=("dense", "banded"), band=5)
    cache = Cache.empty(config, np.zeros(3, np.int32), 64)
    assert [layer.k.shape[1] for layer in cache.layers] == [64, 5, 64, 5]
    one = 2 * 3 * config.width * 4  # keys and values of a slot: rows, heads x size, float32
    assert size_bytes(cache.layers) == one * 2 * (64 + 5)
    short = Cache.empty(config, np.zeros(3, np.int32), 4)  # never more than there are slots
    assert {layer.k.shape[1] for layer in short.layers} == {4}


@pytest.mark.parametrize("length", (3, 5, 12))  # of a prompt: less than the ring, all, several
def test_a_ring_holds_the_last_tokens_of_a_prompt_at_their_slots(length):
    kept, new = jnp.zeros((2, 5, 1)), jnp.arange(1.0, 2 * length + 1).reshape(1, 2, length, 1)
    found = write(kept, new, 0)
    for slot in range(max(0, length - 5), length):
        np.testing.assert_array_equal(found[:, slot % 5], new[0, :, slot])
    after = write(found, -jnp.ones((1, 2, 1, 1)), length)
    assert (after[:, length % 5] == -1).all() and (after == -1).sum() == 2


def likeliest_words(generator, prompts):
    anything = np.ones(generator.config.vocab, bool)
    return next_words(generator, prompts, Parts(anything, anything, anything), width=4, longest=4)


@pytest.mark.parametrize(
    "write",
    [
        lambda generator, prompts: generator(prompts, 4, GREEDY),
        lambda generator, prompts: beam_search(generator, prompts, 4),
        likeliest_words,
    ],
    ids=["drawn", "beams", "words"],
)
def test_prompts_of_unequal_length_are_refused_where_padding_would_move_the_blocks(write):
    config = small(length=64, pattern=("fixed",), stride=4, summary=2)
    params = made(config)
    generator = Generator(config, params, end=49)
    with pytest.raises(DataError, match="fixed pattern counts its blocks"):
        write(generator, [[1, 2], [3]])
    assert write(generator, [[1, 2], [3, 4]])


def test_a_prompt_of_a_fixed_pattern_is_continued_as_decoding_anew_does():
    config = small(length=64, pattern=("fixed",), stride=4, summary=2)
    params = made(config)
    found = Generator(config, params, end=None)([[1, 2]], 20, GREEDY)
    assert found == [greedy_anew(config, params, [1, 2], 20)]


@pytest.mark.parametrize("pattern", ["strided", "columns", "fixed", "block", "powers"])
def test_a_padded_prompt_shorter_than_a_stride_is_continued_as_decoding_anew_does(pattern):
    config = small(layers=1, length=128, pattern=(pattern,))
    assert config.stride == 128
    params, prompt = made(config), list(range(1, 20))
    found = Generator(config, params, end=None)([prompt], 8, GREEDY)
    assert found == [greedy_anew(config, params, prompt, 8)]


def test_a_row_is_drawn_alike_alone_and_among_others():
    config = small(length=64)
    generator = Generator(config, made(config), end=None)
    sampling = SamplingConfig(temperature=1.0)
    together = generator([[1, 2, 3], [1, 2, 3]], 10, sampling, seed=5)
    assert together[0] != together[1]  # one prompt twice is drawn twice
    assert generator([[1, 2, 3]], 10, sampling, seed=5)[0] == together[0]
    assert generator([[1, 2, 3]], 10, sampling, seed=6)[0] != together[0]


def test_a_row_goes_on_past_the_context_alike_alone_and_beside_longer_ones():
    config = small(length=64)
    params = made(config)
    generator = Generator(config, params, end=None)
    prompts = [list(range(1, 41)), [*range(2, 49), *range(1, 14)]]
    alone = [generator([prompt], 30, GREEDY)[0] for prompt in prompts]
    whole = prompts[0] + alone[0][:24]  # the context is full, and the later half of it goes on
    assert alone[0][24:] == greedy_anew(config, params, whole[-32:], 6)
    assert alone[1] == greedy_anew(config, params, prompts[1][-32:], 30)  # that has no moment left
    assert generator(prompts, 30, GREEDY) == alone
    generator.end = next(token for token in alone[1] if token not in alone[0])
    ended = generator(prompts, 30, GREEDY)  # the longer one, that is
    assert ended == [alone[0], alone[1][: alone[1].index(generator.end)]]


def test_unequal_rows_that_go_on_past_the_context_are_read_again_at_few_moments(monkeypatch):
    config = small(length=64)
    generator, reads, read = Generator(config, made(config), end=None), [], Generator.read

    def counted(self, texts, room):
        reads.append(room)
        return read(self, texts, room)

    monkeypatch.setattr(Generator, "read", counted)
    prompts = [[*range(1, count)] for count in range(2, 50, 3)]
    rows = generator(prompts, 120, GREEDY)
    assert len(reads) <= 1 + MOMENTS * 120 / 64
    del reads[:]
    assert generator(prompts[-1:], 120, GREEDY) == rows[-1:]
    assert len(reads) == 5  # at 0, 16, 48, 80 and 112 tokens


def test_a_row_that_ends_within_the_context_is_seen_whole_to_its_end():
    config = small(length=64)
    params, prompt = made(config), [*range(2, 49), *range(1, 14)]
    found = Generator(config, params, end=None)([prompt], 4, GREEDY)
    assert found == [greedy_anew(config, params, prompt, 4)]


@pytest.mark.slow
def test_writing_goes_on_past_the_context_without_repeating_its_draws():
    config = small(length=16)
    generator = Generator(config, made(config), end=None)
    row = generator([[1, 2]], 80, SamplingConfig(temperature=2.0), seed=1)[0]
    assert len(row) == 80
    halves = [row[i : i + 8] for i in range(16, 72, 8)]
    assert len({tuple(half) for half in halves}) == len(halves)


def test_rows_of_the_model_that_are_no_token_are_never_drawn():
    config = small(length=64)
    generator = Generator(config, made(config), end=7, vocab=8)  # of 50
    row = generator([[1, 2, 3]], 40, SamplingConfig(temperature=5.0))[0]
    (found,), _ = beam_search(generator, [[1, 2, 3]], 12, alpha=0.0)
    assert row and max(row) < 8 and max(found, default=0) < 8


def test_a_row_stops_at_its_end_token():
    config = small(length=64)
    params = made(config)
    plain = Generator(config, params, end=None)([[1, 2, 3]], 20, GREEDY)[0]
    end = plain[5]
    assert Generator(config, params, end)([[1, 2, 3]], 20, GREEDY)[0] == plain[: plain.index(end)]


def test_one_beam_is_greedy_and_more_beams_find_no_worse_a_text():
    config = small(length=64)
    generator = Generator(config, made(config), end=49)
    prompts = [[1, 2, 3], [4, 5]]
    one, score1 = beam_search(generator, prompts, 12, width=1, alpha=0.0)
    assert one == generator(prompts, 12, GREEDY)
    _, score4 = beam_search(generator, prompts, 12, width=4, alpha=0.0)
    assert all(four >= single - 1e-5 for four, single in zip(score4, score1, strict=True))


def test_a_hypothesis_goes_on_whatever_many_tokens_end_one():
    config = GptConfig(layers=1, width=16, heads=2, length=16, vocab=6)
    params = made(config)
    first = np.asarray(forward(config, params, np.array([[1, 2]]))[0])[0, -1]
    alone = int(first.argmin())  # of the tokens the one that does not end a text
    end, *more = (token for token in range(6) if token != alone)
    generator = Generator(config, params, end)
    for width in (1, 2):  # 5 tokens are likelier, and longer texts are far better
        (found,), _ = beam_search(generator, [[1, 2]], 4, width=width, alpha=10.0, ends=more)
        assert found[:3] == [alone] * 3


def test_a_context_of_one_token_is_refused():
    config = small(length=1)
    with pytest.raises(ConfigError, match="context of 1 token"):
        next(Generator(config, made(config), end=49).stream([[1]], 4, GREEDY))


def test_a_beam_search_beyond_the_context_is_told_with_the_context_as_it_is():
    config = small(length=64)
    generator = Generator(config, made(config), end=49)
    with pytest.raises(DataError, match="has 3 tokens and 62 to write, the model's context is 64"):
        beam_search(generator, [[1, 2, 3]], 62)


@pytest.mark.parametrize("alpha", [-3.0, 0.6])
def test_the_best_of_all_texts_is_found_whatever_the_penalty(alpha):
    config = GptConfig(layers=1, width=16, heads=2, length=16, vocab=4)
    params = made(config)
    end, count, prompt = 3, 4, [0, 1]
    texts = np.array(list(itertools.product(range(4), repeat=count)))
    tokens = np.array([[*prompt, *text] for text in texts.tolist()])
    logits = np.asarray(forward(config, params, tokens)[0])[:, 1:-1]
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    each = np.cumsum(np.take_along_axis(logp, texts[..., None], 2)[..., 0], axis=1)
    ended = texts == end
    length = np.where(ended.any(1), ended.argmax(1) + 1, count)
    scores = each[np.arange(len(texts)), length - 1] / ((5 + length) / 6) ** alpha
    best = texts[scores.argmax(), : length[scores.argmax()]].tolist()

    generator = Generator(config, params, end)
    (found,), (score,) = beam_search(generator, [prompt], count, width=32, alpha=alpha)
    assert found == [token for token in best if token != end]
    assert score == pytest.approx(scores.max(), abs=1e-5)


@pytest.mark.parametrize(
    ("alpha", "ends", "length"),
    [
        (2.0, (0.6, 0.01, 0.01, 0.01, 0.99, 0.01), 4),  # a longer text wins once one has ended
        (-2.0, (0.3, 0.99, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5), 1),
        (0.6, (0.3, 0.01, 0.01), 3),  # the one that is cut does
        (-2.0, (0.45, 0.5, 0.5), 0),  # one that neither has ended nor is cut is none
    ],
)
def test_of_texts_that_end_at_chances_by_hand_the_best_is_found(alpha, ends, length):
    count = len(ends)
    config = GptConfig(layers=1, width=8, heads=1, length=16, vocab=2, final_norm=False)
    params = jax.tree.map(jnp.zeros_like, made(config))
    chances = np.log([[1 - end, end] for end in ends])
    # places alone say what comes next: tokens are nearly nothing, and places as much larger
    params["tokens"]["table"] = 1e-3 * jnp.eye(2, 8)
    places = jnp.zeros((16, 8)).at[:count, :2].set(1e3 * chances)
    params["positions"]["table"] = places
    lengths = np.arange(1, count + 1)
    going_on = np.cumsum(chances[:, 0])
    totals = np.append(going_on - chances[:, 0] + chances[:, 1], going_on[-1])  # ended, and cut
    scores = totals / ((5 + np.append(lengths, count)) / 6) ** alpha

    found = beam_search(Generator(config, params, 1), [[0]], count, width=2, alpha=alpha)
    assert scores.argmax() == length and found[0] == [[0] * length]
    assert found[1] == pytest.approx([scores.max()], abs=1e-4)


def test_one_program_writes_whatever_many_tokens_are_left_for_the_last_chunk():
    config = small(length=64)
    generator = Generator(config, made(config), end=None)
    (whole,) = generator([[1, 2, 3]], 20, GREEDY)
    before = extend._cache_size()
    for count in (3, 20, 18, 6):
        chunks = list(generator.stream([[1, 2, 3]], count, GREEDY, chunk=7))
        assert [chunk.shape[1] for chunk in chunks] == [7] * (count // 7) + [count % 7]
        assert np.concatenate(chunks, axis=1).tolist() == [whole[:count]]
    assert extend._cache_size() == before + 1


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_no_cache_is_copied_in_the_loop_over_tokens(rows):
    config = small(length=64)
    generator = Generator(config, made(config), end=None)
    decoding = generator.read([[1, 2, 3]] * rows, 20)
    keys = jax.random.split(jax.random.key(0), rows)
    lowered = extend.lower(config, generator.params, decoding, keys, 20, GREEDY, 20, None)
    shape = ",".join(map(str, decoding.cache.layers[0].k.shape))
    text = lowered.compile().as_text()
    assert f"f32[{shape}]" in text  # the cache is there under this name
    assert not re.findall(rf"= f32\[{shape}\]\S* copy\(", text)


def test_prompts_that_cannot_be_continued_are_refused():
    config = small()
    generator = Generator(config, made(config), end=None)
    with pytest.raises(DataError, match="prompt 0 is empty"):
        generator([[]], 5, GREEDY)
    with pytest.raises(DataError, match="prompt 1 has 17 tokens, the model's context is 16"):
        generator([[1], [1] * 17], 5, GREEDY)
