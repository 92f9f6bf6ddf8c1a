import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.core.errors import DataError
from lm.data.bert_features import BertFeatures, encode
from lm.data.passages import passages
from lm.data.records import Answer, Span
from lm.evals.spans import (
    SpanSearch,
    best_threshold,
    predictions,
    realign,
    search_spans,
    text_of,
)
from tests.data.toy import Toy
from tests.text.tokenizers import DATA, tokenizer


def asked(passage, name="a", answers=()):
    return Span(id=name, question="Who?", passage=passage, answers=answers)


def logits(encoded, seed=0):
    shape = (len(encoded.rows.mask), encoded.rows.tokens.shape[-1])
    return np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("original", "before", "predicted", "after", "text"),
    [
        ("Steve Smith's", "", "steve smith", "' s", "Steve Smith"),
        ("(1895-1943).", "(", "1895", "- 1943 ) .", "1895"),
        ("(1895-1943).", "( 1895 -", "1943", ") .", "1943"),
        ("Zoë\n  Ångström,", "", "zoe angstrom", ",", "Zoë\n  Ångström"),
        ("a-a-a", "a -", "a", "- a", "a"),  # the second, not the first
        ("Weiß 漢字.", "wei", "", "字 .", "Weiß 漢字."),  # lengths differ: all the words
        ("½ cup", "", "cup", "", "½ cup"),  # an unknown word decodes to nothing
        ("plain words", "", "plain words", "", "plain words"),
    ],
)
def test_the_prediction_is_found_again_in_the_original(original, before, predicted, after, text):
    assert realign(original, before, predicted, after) == text


def reference_realign(pred_text, orig_text, tokenized):
    """The search of run_squad.py: by place in the tokenised text, through its characters."""
    place = tokenized.find(pred_text)
    solid = [i for i, c in enumerate(orig_text) if not c.isspace()]
    dense = [i for i, c in enumerate(tokenized) if not c.isspace()]
    if place < 0 or len(solid) != len(dense):
        return orig_text
    last = place + len(pred_text) - 1
    return orig_text[solid[dense.index(place)] : solid[dense.index(last)] + 1]


def test_on_real_passages_the_text_is_that_of_the_released_search():
    words, changed = tokenizer("wordpiece"), 0
    draw = np.random.default_rng(0)
    for passage in passages(words, [record.passage for record in xquad()[::9]]):
        for first in draw.integers(0, len(passage.tokens), 20):
            last = min(int(first) + int(draw.integers(0, 9)), len(passage.tokens) - 1)
            a, b = passage.word[first], passage.word[last]
            begin, end = passage.span(int(a), int(b))
            original = passage.text[passage.bounds[a, 0] : passage.bounds[b, 1]]
            predicted = words.decode(passage.tokens[first : last + 1])
            text = text_of(passage, int(first), last, words)
            wanted = reference_realign(predicted, original, words.decode(passage.tokens[begin:end]))
            if text != wanted:  # it takes the first of two equal places, perhaps inside a word
                assert original.count(wanted) > 1 or text.casefold() == wanted.casefold()
            changed += text != original
    assert changed > 100


def xquad():
    file = DATA / "squad_xquad_en" / "xquad.en.part.json.gz"
    if not file.is_file():
        pytest.skip(f"{file} is not here")
    with gzip.open(file, "rt") as text:
        articles = json.load(text)["data"]
    return [
        Span(
            id=qa["id"],
            question=qa["question"],
            passage=paragraph["context"],
            answers=tuple(Answer(a["text"], a["answer_start"]) for a in qa["answers"]),
        )
        for article in articles
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece", "wordpiece"])
def test_logits_that_are_sure_of_the_label_give_the_answer_as_it_was_written(kind):
    records = xquad()[:200]
    words = tokenizer(kind)
    encoded = encode(records, words, BertFeatures(length=384))
    shape = (len(encoded.rows.mask), encoded.rows.tokens.shape[-1])
    sure = np.full((2, *shape), -9.0)
    for row, (first, last) in enumerate(encoded.rows.label):
        if first:
            sure[0, row, first] = sure[1, row, last] = 9
    found = search_spans(*sure, encoded, words, SpanSearch(longest=200))
    held = set(encoded.rows.example[encoded.rows.label[:, 0] > 0].tolist())
    right = [
        found[item].text.split() == records[item].answers[0].text.split() for item in sorted(held)
    ]
    assert len(held) == len(records) - encoded.counts.lost
    assert sum(right) >= 0.99 * len(right) and len(right) > 190


@given(
    st.lists(st.sampled_from("a bee letters. (1895) ~".split()), min_size=2, max_size=30),
    st.integers(8, 20),
    st.integers(1, 9),
    st.integers(1, 12),
    st.integers(1, 8),
    st.integers(0, 9),
)
def test_the_best_are_those_of_every_allowed_span(words, length, stride, best, longest, seed):
    toy = Toy()
    records = [asked(" ".join(words)), asked(" ".join(["x", *words[::-1]]), "b")]
    if not toy.encode(records[0].passage):
        return
    encoded = encode(records, toy, BertFeatures(length=length, question=2, stride=stride))
    start, end = logits(encoded, seed)
    places, rows = encoded.passages, encoded.rows
    search = SpanSearch(best=best, longest=longest)
    for item, found in enumerate(search_spans(start, end, encoded, toy, search)):
        texts = {}
        for row in np.flatnonzero(rows.example == item):
            begin = places.begin[row]
            inside = range(begin, begin + places.size[row])
            for i in inside:
                for j in inside:
                    if i <= j < i + longest and places.best[row, i]:
                        at = places.first[row] - begin
                        text = text_of(places.passages[item], i + at, j + at, toy)
                        score = float(start[row, i]) + float(end[row, j])
                        texts[text] = max(score, texts.get(text, -np.inf))
        wanted = sorted(texts.items(), key=lambda pair: -pair[1])[:best]
        assert [(g.text, g.score) for g in found.guesses] == wanted
        assert found.text == wanted[0][0]
        null = min(
            float(start[row, 0]) + float(end[row, 0])
            for row in np.flatnonzero(rows.example == item)
        )
        assert found.null_odds == null - wanted[0][1]
        assert sum(guess.probability for guess in found.guesses) == pytest.approx(1)


def test_question_padding_and_marks_are_never_an_answer():
    toy = Toy()
    encoded = encode([asked("cat sat")], toy, BertFeatures(length=32, question=4))
    start, end = logits(encoded)
    allowed = [4, 5]
    assert toy.show(encoded.rows.tokens[0, 0, :7]) == "[CLS] who ? [SEP] cat sat [SEP]"
    for where in set(range(start.shape[1])) - set(allowed):
        start[0, where] = end[0, where] = 99
    (found,) = search_spans(start, end, encoded, toy, SpanSearch())
    assert {guess.text for guess in found.guesses} == {"cat", "sat", "cat sat"}


def test_no_answer_is_a_guess_where_it_is_asked_for():
    toy = Toy()
    encoded = encode([asked("cat sat")], toy, BertFeatures(length=32, question=4))
    start, end = np.zeros((2, 1, encoded.rows.tokens.shape[-1]))
    start[0, 0], end[0, 0], start[0, 5] = 2.0, 1.0, 1.0
    (found,) = search_spans(start, end, encoded, toy, SpanSearch(null=True))
    assert [(g.text, g.score) for g in found.guesses[:2]] == [("", 3.0), ("sat", 1.0)]
    assert (found.text, found.null_odds) == ("sat", 2.0)
    ratio = found.guesses[0].probability / found.guesses[1].probability
    assert ratio == pytest.approx(np.exp(2.0))
    assert predictions([found], None) == predictions([found], 2.0) == {"a": "sat"}
    assert predictions([found], 1.9) == {"a": ""}


@given(
    st.lists(
        st.tuples(st.integers(-3, 3), st.sampled_from([0.0, 0.5, 1.0]), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_no_other_threshold_does_better(items):
    odds = np.array([odd for odd, _, _ in items], np.float64)
    answered = np.array([0.0 if none else score for _, score, none in items])
    unanswered = np.array([float(none) for _, _, none in items])

    def score(threshold):
        return np.where(odds > threshold, unanswered, answered).mean()

    threshold, best = best_threshold(odds, answered, unanswered)
    assert score(threshold) == pytest.approx(best)
    assert best == pytest.approx(max(score(tau) for tau in [-np.inf, *np.arange(-4, 5) / 1.0]))


def test_logits_that_are_not_those_of_the_rows_are_refused():
    toy = Toy()
    encoded = encode([asked("cat sat")], toy, BertFeatures(length=32, question=4))
    start, end = logits(encoded)
    with pytest.raises(DataError, match="cut the rows that filled the last batch"):
        search_spans(np.concatenate([start, start]), end, encoded, toy, SpanSearch())
    start[0, 3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        search_spans(start, end, encoded, toy, SpanSearch())
