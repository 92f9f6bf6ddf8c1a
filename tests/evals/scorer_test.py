"""Scores in batches, with shared contexts and cut ones, equal one row at a time."""

import functools

import jax
import numpy as np
import pytest

from lm.core.errors import ConfigError, DataError
from lm.core.mesh import MeshConfig, make_mesh
from lm.evals.batches import bucket
from lm.evals.requests import Request, Score, encode
from lm.evals.scorer import Scorer
from lm.models.gpt import GptConfig, forward
from lm.text.byte import ByteTokenizer
from tests.models.gpt_test import made, small


def tiny(pattern=("dense",), length=64, mesh=None, **changes) -> Scorer:
    tokenizer = ByteTokenizer()
    config = small(
        layers=len(pattern), length=length, vocab=tokenizer.vocab_size, pattern=pattern, band=7,
        stride=4, summary=2,
    )  # fmt: skip
    mesh = mesh or make_mesh(MeshConfig(data=1), jax.devices()[:1])
    return Scorer(config, made(config), tokenizer, mesh, **changes)


@functools.partial(jax.jit, static_argnums=0)
def whole(config: GptConfig, params, tokens: jax.Array) -> jax.Array:
    return forward(config, params, tokens)[0]


def logits_of(scorer: Scorer, ids: list[int]) -> np.ndarray:
    """One row, all logits, no cache. What stands behind the row changes nothing before it."""
    row = np.array([[*ids, *[0] * (scorer.length - len(ids))]])
    return np.asarray(whole(scorer.config, scorer.params, row), np.float64)[0, : len(ids)]


def brute(scorer: Scorer, request: Request) -> Score:
    before = scorer.tokenizer.encode(request.context) or [scorer.tokenizer.end]
    after = scorer.tokenizer.encode(request.continuation)
    ids = (before + after)[-scorer.length - 1 :]
    logits = logits_of(scorer, ids[:-1])
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    first = len(ids) - len(after) - 1
    places = range(first, first + len(after))
    return Score(
        log_likelihood=sum(logp[place, ids[place + 1]] for place in places),
        tokens=len(after),
        greedy=all(logp[place].argmax() == ids[place + 1] for place in places),
        truncated=max(0, len(before) + len(after) - 1 - scorer.length),
    )


LONG = "What a long story it was that the old man told us, all evening and half the night:"
REQUESTS = [
    *(Request("Q: two and two?\nA:", answer) for answer in (" four", " five", " a lot", " 4")),
    Request("Q: one?\nA:", " yes"),
    Request("", "Begin"),
    *(Request("A", answer) for answer in (": a rather long answer", ": another of the kind")),
    *(Request(LONG, answer) for answer in (" x", " y", " of kings and of queens")),
]


def equal(found: list[Score], expected: list[Score]) -> bool:
    return all(
        abs(one.log_likelihood - other.log_likelihood) < 1e-3
        and (one.tokens, one.greedy, one.truncated) == (other.tokens, other.greedy, other.truncated)
        for one, other in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize(
    "pattern",
    [("dense",), ("fixed",), pytest.param(("banded", "strided"), marks=pytest.mark.slow)],
)
def test_scores_equal_a_loop_over_rows(pattern):
    scorer = tiny(pattern)
    expected = [brute(scorer, request) for request in REQUESTS]
    assert equal(scorer.scores(REQUESTS), expected)
    assert expected[-1].truncated > 0 == expected[0].truncated
    # the control: continuations of the wrong contexts
    assert not equal(scorer.scores(REQUESTS), expected[1:] + expected[:1])


def test_the_order_and_the_size_of_batches_change_no_score():
    requests = REQUESTS[:5] + REQUESTS[:3]
    scores = tiny().scores(requests)
    back = tiny(batch_tokens=32).scores(requests[::-1])[::-1]
    assert equal(scores, back)
    assert scores[-3:] == scores[:3]


def test_a_shared_context_is_read_once_where_that_saves_work(monkeypatch):
    scorer, shared, alone = tiny(), [], []

    def scored(told):
        def score(pairs):
            told.append(len(pairs))
            pairs = [pair for group in pairs for pair in group] if told is shared else pairs
            return dict.fromkeys(pairs, (0.0, False))

        return score

    monkeypatch.setattr(scorer, "_score_shared", scored(shared))
    monkeypatch.setattr(scorer, "_score_alone", scored(alone))
    scorer.scores([Request("The same long context", answer) for answer in (" a", " b", " c")])
    assert (shared, alone) == ([1], [])
    # one letter is shared, and the rest would go token by token: each is read whole
    scorer.scores([Request("A", " much longer answer"), Request("A", " rather longer answer")])
    assert (shared, alone) == ([1], [2])
    # a pattern that padding would move
    scorer.config = tiny(("fixed",)).config
    scorer.scores([Request("The same long context", answer) for answer in (" a", " b", " c")])
    assert (shared, alone) == ([1], [2, 3])


class Latin(ByteTokenizer):
    """Every byte is a character, so that all that a model writes is text that reads back."""

    def encode_batch(self, texts):
        return [list(text.encode("latin-1")) for text in texts]

    def decode(self, ids):
        return self.decode_bytes(ids).decode("latin-1")


@pytest.mark.parametrize("prompt", ["Q:", "Q: who was it?"], ids=["alone", "shared"])
def test_greedy_is_true_of_what_the_model_would_write(prompt):
    scorer = tiny()
    scorer.tokenizer = Latin()
    (written,) = scorer.generate([prompt], 16, stop=())
    written = written[:5]
    others = ["a" if letter != "a" else "b" for letter in written]
    texts = [written, written[:3] + others[3] + written[4:], written[0], others[0]]
    found = scorer.scores([Request(prompt, text) for text in texts])
    assert [score.greedy for score in found] == [True, False, True, False]


def test_white_space_at_the_end_of_a_context_belongs_to_the_continuation():
    moved, kept = encode([Request("A: \n", "four"), Request("A:", " \nfour")], ByteTokenizer())
    assert moved == kept
    assert kept.continuation == tuple(b" \nfour")


def test_a_continuation_that_melts_into_its_context_is_encoded_apart():
    class Pairs(ByteTokenizer):
        """Two letters, aligned from the start of the text, are one token."""

        def encode_batch(self, texts):
            return [
                [ord(text[i]) % 128 + 128 * (i + 1 == len(text)) for i in range(0, len(text), 2)]
                for text in texts
            ]

    clean, melted = encode([Request("abcd", "ef"), Request("abc", "de")], Pairs())
    assert (clean.context, clean.continuation) == ((97, 99), (101,))
    assert (melted.context, melted.continuation) == ((97, 99 + 128), (100,))


def test_an_empty_or_an_endless_continuation_is_refused():
    scorer = tiny(length=16)
    with pytest.raises(DataError, match="request 1 has an empty continuation"):
        scorer.scores([Request("a", "b"), Request("a", "")])
    with pytest.raises(DataError, match="17 tokens is more than the model's context of 16"):
        scorer.scores([Request("a", "b" * 17)])


def test_what_fits_is_what_is_scored_and_nothing_is_no_score():
    scorer = tiny(length=16)
    requests = [Request("a" * 40, "b" * size) for size in (16, 17)]
    assert scorer.fits(requests) == [True, False]
    assert len(scorer.scores(requests[:1])) == 1 and scorer.scores([]) == []


@pytest.mark.parametrize("stride", [None, 5, 16])
def test_rolling_scores_every_token_once_after_what_its_window_shows(stride):
    scorer = tiny(length=16, batch_tokens=16)
    for length in (1, 17, 61):
        ids = list(np.random.default_rng(length).integers(0, 256, length))
        text = [scorer.tokenizer.end, *ids]
        end, expected = min(16, length), []
        while len(expected) < length:  # by the definition: a window at a time
            first = max(0, end - 16)
            logits = logits_of(scorer, text[first:end])
            logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            expected += [-logp[i - first, text[i + 1]] for i in range(len(expected), end)]
            end = min(end + (stride or 8), length)
        np.testing.assert_allclose(scorer.rolling(ids, stride=stride), expected, atol=1e-3)
    assert scorer.rolling([]).tolist() == []


@pytest.mark.parametrize(
    ("ids", "stride", "said"),
    [
        ([1, 2], 0, "stride must be from 1 to the context of 16, got 0"),
        ([1, 2], -1, "stride must be from 1 to the context of 16, got -1"),
        ([1, 2], 17, "stride must be from 1 to the context of 16, got 17"),
        ([1, 9999], None, "id 9999 is not in the model's vocabulary"),
        ([-1], None, "id -1 is not in the model's vocabulary"),
        ([0.5], None, r"ids must be integers \[T\], got float64"),
        ([[1, 2]], None, r"ids must be integers \[T\], got int64\(1, 2\)"),
    ],
)
def test_ids_and_strides_that_cannot_be_are_refused_and_not_clamped(ids, stride, said):
    with pytest.raises((ConfigError, DataError), match=said):
        tiny(length=16).rolling(ids, stride=stride)


def test_what_was_carried_over_is_seen():
    scorer = tiny(length=16)
    ids = list(range(40, 80))
    changed = [*ids[:20], 7, *ids[21:]]
    # token 30 is scored in the window of 24..40: with a context of half a window
    assert scorer.rolling(ids)[26] != scorer.rolling(changed)[26]
    assert scorer.rolling(ids, stride=16)[33] == scorer.rolling(changed, stride=16)[33]


def test_generation_does_not_depend_on_what_else_is_asked_and_stops():
    scorer = tiny()
    prompts = ["Q: a?\nA:", "Q", "Once upon a time there was a"]
    together = scorer.generate(prompts, 16, stop=())
    assert together == [scorer.generate([prompt], 16, stop=())[0] for prompt in prompts]
    mark = together[0][4]
    cut = scorer.generate(prompts, 16, stop=(mark,))
    assert cut == [text.partition(mark)[0] for text in together]


def test_a_small_top_p_leaves_the_likeliest_token_alone():
    scorer = tiny()
    drawn = scorer.generate(["Q"], 16, stop=(), temperature=1.0, top_p=1e-6)
    assert drawn == scorer.generate(["Q"], 16, stop=())


def test_draws_are_of_the_seed_and_the_prompts_number_and_of_no_batch():
    prompts = ["Once upon", "A", "A", "Q: a?"] * 2
    few, many = tiny(batch_tokens=2 * 64), tiny(batch_tokens=8 * 64)
    drawn = {"stop": (), "temperature": 1.0}
    found = few.generate(prompts, 16, **drawn)
    assert found == many.generate(prompts, 16, **drawn)
    assert few.generate(prompts[5:], 16, **drawn, numbers=range(5, 8)) == found[5:]
    assert len(set(found)) == len(prompts)
    for seed in range(1, 5):
        assert not set(found) & set(few.generate(prompts, 16, **drawn, seed=seed))


def test_beams_end_at_a_stop_and_find_no_less_likely_an_answer():
    scorer = tiny()
    scorer.tokenizer = Latin()
    prompt = "Q: a?"
    (plain,) = scorer.generate([prompt], 16, stop=(), beams=4, length_penalty=0.0)
    (greedy,) = scorer.generate([prompt], 16, stop=())
    mark = next(letter for letter in greedy if letter.isascii())
    (stopped,) = scorer.generate([prompt], 16, stop=(mark,), beams=4, length_penalty=0.0)
    assert mark not in stopped
    up_to_mark = greedy[: greedy.index(mark) + 1]
    best, first, ended, greedily = scorer.scores(
        [Request(prompt, text) for text in (plain, greedy, stopped + mark, up_to_mark)]
    )
    assert best.log_likelihood >= first.log_likelihood - 1e-3
    assert ended.log_likelihood >= greedily.log_likelihood - 1e-3
    with pytest.raises(ConfigError, match="several beams search; a temperature draws"):
        scorer.generate([prompt], 3, beams=2, temperature=1.0)
    with pytest.raises(DataError, match="prompt 0 has 60 tokens and 5 to write"):
        scorer.generate(["x" * 60], 5)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [{"data": 8}, {"data": 2, "fsdp": 2, "tensor": 2}])
def test_eight_devices_score_and_write_as_one_does(sizes):
    many, one = tiny(mesh=make_mesh(MeshConfig(**sizes))), tiny()
    assert equal(many.scores(REQUESTS), one.scores(REQUESTS))
    prompts = [f"Q: {letter}?\nA:" for letter in "abcdefgh"]
    for beams in (1, 4):
        assert many.generate(prompts, 6, beams=beams) == one.generate(prompts, 6, beams=beams)


def test_few_lengths_are_compiled():
    sizes = {bucket(size, 1024) for size in range(1, 1025)}
    assert sizes == {32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024}
    assert all(size <= bucket(size, 1024) for size in range(1, 1025))
    assert bucket(70, 80) == 80
