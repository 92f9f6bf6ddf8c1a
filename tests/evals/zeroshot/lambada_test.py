import dataclasses
import math

import numpy as np
import pytest

from lm.evals.requests import encode
from lm.evals.scorer import Request
from lm.evals.zeroshot import lambada
from lm.text.byte import ByteTokenizer
from tests.evals.scorer_test import brute, tiny
from tests.text.tokenizers import tokenizer

TEXTS = [
    "They went to the old mill",
    'He smiled and said, "Nadia',
    "We looked for a boat",
    "Of all of us, only he knew it",
]


@pytest.mark.parametrize(
    "text, context, word",
    [
        ("a clear sign", "a clear", " sign"),
        ('said, "Nadia', 'said, "', "Nadia"),
        ("It was\n\nPower", "It was\n\n", "Power"),
        ("say yes.”", "say", " yes"),
        ("we don't", "we", " don't"),
    ],
)
def test_the_paper_s_word_has_no_marks_and_the_harness_s_is_what_follows_the_last_blank(
    text, context, word
):
    assert lambada.last_word(text) == Request(context, word)
    request = lambada.harness_request(text)
    assert request.continuation == " " + text.split(" ")[-1]
    assert request.context + request.continuation == text


def test_the_harness_s_figures_are_those_of_greedy_tokens():
    scorer = tiny()
    accuracy, perplexity = lambada.harness_figures(scorer, TEXTS)
    scores = [brute(scorer, lambada.harness_request(text)) for text in TEXTS]
    assert accuracy.value == np.mean([score.greedy for score in scores])
    nats = -np.mean([score.log_likelihood for score in scores])
    assert perplexity.value == pytest.approx(math.exp(nats), rel=1e-4)


def test_the_paper_s_perplexity_is_of_the_word_and_not_of_line_ends_before_it():
    scorer = tiny()
    text = "It was\n\nPower"
    found = lambada.paper_figures(scorer, [text])[-1]
    score = brute(scorer, lambada.last_word(text))
    assert (found.metric, score.tokens) == ("perplexity", len("Power"))
    assert found.value == pytest.approx(math.exp(-score.log_likelihood), rel=1e-4)


def test_a_pair_may_keep_the_line_ends_that_a_published_vocabulary_would_move():
    text, gpt2 = "It was\n\nPower", tokenizer("gpt2")
    (pair,) = encode([lambada.last_word(text)], gpt2, exact=True)
    assert (gpt2.decode(pair.context), gpt2.decode(pair.continuation)) == ("It was\n\n", "Power")


@pytest.mark.parametrize("pattern", [("dense",), pytest.param(("fixed",), marks=pytest.mark.slow)])
def test_words_are_predicted_alike_in_one_batch_and_alone(pattern):
    scorer = tiny(pattern)
    requests = [lambada.last_word(text) for text in TEXTS]
    together = lambada.predictions(scorer, requests)
    small = tiny(pattern, batch_tokens=1)  # one row at a time
    alone = [lambada.predictions(small, [request])[0] for request in requests[:2]]
    assert [words[:5] for words in together[:2]] == [words[:5] for words in alone]
    whole = [word for words in together for word in words if "\ufffd" not in word]
    assert whole and all(lambada.PART.fullmatch(word) for word in whole)


def test_contexts_that_are_cut_to_fit_are_counted():
    scorer, texts = tiny(), [*TEXTS[:2], "It is so. " * 6 + "old", "They said no. " * 9 + "boat"]
    assert [figure.cut for figure in lambada.harness_figures(scorer, texts)] == [1, 1]
    # a predicted word may be longer than the true one: it wants more room, and cuts one more
    found = {figure.metric: figure.cut for figure in lambada.paper_figures(scorer, texts)}
    assert found == {"accuracy": 2, "accuracy_no_filter": 2, "perplexity": 1}


def test_the_filter_passes_over_stop_words(monkeypatch):
    words = [["The", "mill"], ["Nadia", "the"], ["a", "boat"], ["it", "her", "them"]]
    monkeypatch.setattr(lambada, "predictions", lambda scorer, requests: words)
    figures = {figure.metric: figure for figure in lambada.paper_figures(tiny(), TEXTS)}
    assert figures["accuracy"].value == 0.75  # mill, Nadia, boat; a stop word is never right
    assert figures["accuracy_no_filter"].value == 0.5  # Nadia, it
    monkeypatch.setattr(lambada, "STOP_WORDS", frozenset())
    figures = {figure.metric: figure for figure in lambada.paper_figures(tiny(), TEXTS)}
    assert figures["accuracy"] == dataclasses.replace(
        figures["accuracy_no_filter"], metric="accuracy"
    )


def test_tokens_begin_words_go_on_with_them_or_follow_them():
    tokenizer = ByteTokenizer()
    spaced, bare = (lambada.parts_of(tokenizer, blank) for blank in (True, False))
    kinds = {
        character: [
            bool(mask[tokenizer.encode(character)[0]])
            for mask in (spaced.first, bare.first, bare.within, bare.after)
        ]
        for character in " a3-.\n"
    }
    assert kinds == {
        " ": [True, False, False, True],
        "a": [False, True, True, False],
        "3": [False, True, True, False],
        "-": [False, False, True, False],
        ".": [False, False, False, True],
        "\n": [False, False, False, True],
    }
    assert spaced.after[tokenizer.end] and not bare.first[tokenizer.end]
    assert lambada.PART.fullmatch("well-known") and not lambada.PART.fullmatch("--")
