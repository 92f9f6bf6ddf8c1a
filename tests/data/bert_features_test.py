import gzip
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.core.errors import ConfigError
from lm.data.bert_features import BertFeatures, encode
from lm.data.records import Choice, Classification, Regression
from lm.data.sides import keep_question, longest_first
from tests.data.toy import Toy
from tests.text.tokenizers import DATA, KINDS, tokenizer


def rows_of(*records, **config):
    toy = Toy()
    encoded = encode(records, toy, BertFeatures(**config))
    return encoded, [
        [toy.show(ids[valid]) for ids, valid in zip(row, there, strict=True)]
        for row, there in zip(encoded.rows.tokens, encoded.rows.valid, strict=True)
    ]


def test_a_text_stands_between_cls_and_sep():
    encoded, rows = rows_of(Classification(id="a", text="A wonderful film.", label=1))
    assert rows == [["[CLS] a wond ##erfu ##l film . [SEP]"]]
    assert encoded.rows.segments.sum() == 0 and encoded.rows.label.tolist() == [1]
    assert encoded.rows.tokens.shape == (1, 1, 8) and encoded.rows.read.tolist() == [[0]]


def test_the_second_text_of_a_pair_is_segment_one_with_its_sep():
    encoded, rows = rows_of(Regression(id="a", text="Two dogs.", pair="A dog", label=3.5))
    assert rows == [["[CLS] two dogs . [SEP] a dog [SEP]"]]
    assert encoded.rows.segments.tolist() == [[[0, 0, 0, 0, 0, 1, 1, 1]]]
    assert encoded.rows.label.tolist() == [3.5]


def test_a_choice_has_a_candidate_for_each_answer():
    choice = Choice(id="a", context="It rained.", question="So?", choices=("Wet", "Dry sun"))
    other = Choice(id="b", context="No.", choices=("One", "Two", "Six"), label=2)
    encoded, rows = rows_of(choice, other)
    first = "[CLS] it rain ##ed . so ? [SEP]"
    assert rows[0] == [f"{first} wet [SEP]", f"{first} dry sun [SEP]", "[CLS]"]
    assert rows[1] == [f"[CLS] no . [SEP] {word} [SEP]" for word in ("one", "two", "six")]
    assert encoded.rows.candidates.tolist() == [[True, True, False], [True] * 3]
    assert encoded.rows.label.tolist() == [-1, 2]
    assert not encoded.rows.lm_mask.any()


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 50))
def test_a_pair_is_cut_as_one_token_at_a_time_off_the_longer_would(first, second, room):
    a, b = first, second
    while a + b > room:
        if a > b:
            a -= 1
        else:
            b -= 1
    assert longest_first(first, second, room) == (a, b)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 20))
def test_the_end_of_the_context_goes_before_the_question_does(context, question, room):
    c, q = list(range(context)), list(range(100, 100 + question))
    kept = keep_question(c, q, room)
    assert len(kept) == min(room, context + question)
    assert kept == [*c[: max(0, room - question)], *q[:room]]


def test_what_is_cut_is_counted():
    long = Classification(id="a", text="one two three four", pair="five six")
    encoded, rows = rows_of(long, Classification(id="b", text="one", pair="two"), length=8)
    assert rows == [["[CLS] one two thre [SEP] five six [SEP]"], ["[CLS] one [SEP] two [SEP]"]]
    counts = encoded.counts
    assert (counts.items, counts.rows, counts.truncated, counts.cut) == (2, 2, 1, 2)
    encoded, rows = rows_of(Classification(id="a", text="a b c d e f g h i"), length=8)
    assert rows == [["[CLS] a b c d e f [SEP]"]] and encoded.counts.cut == 3


def test_a_long_context_leaves_the_question_whole():
    long = Choice(id="a", context="a b c d e f", question="why ?", choices=("x", "y z"))
    encoded, rows = rows_of(long, length=9)
    assert rows == [["[CLS] a b c why ? [SEP] x [SEP]", "[CLS] a b why ? [SEP] y z [SEP]"]]
    assert (encoded.counts.truncated, encoded.counts.cut) == (1, 3 + 4)


def test_a_text_without_a_token_is_counted():
    encoded, rows = rows_of(
        Classification(id="a", text="", pair="x"),
        Classification(id="b", text="~", pair="~"),
    )
    assert rows == [["[CLS] [SEP] x [SEP]"], ["[CLS] [SEP] [SEP]"]] and encoded.counts.empty == 3


def test_the_order_of_the_answers_is_the_order_of_the_candidates():
    words = ("Wet ground", "Dry sun", "A much longer answer than these")
    order = [2, 0, 1]
    toy = Toy()
    asked = Choice(id="a", context="It rained.", question="So?", choices=words, label=1)
    turned = Choice(
        id="a",
        context="It rained.",
        question="So?",
        choices=tuple(words[i] for i in order),
        label=2,
    )
    one, other = (encode([r], toy, BertFeatures(length=16)).rows for r in (asked, turned))
    for name in ("tokens", "segments", "valid", "read", "candidates"):
        assert np.array_equal(getattr(one, name)[:, order], getattr(other, name)), name
    assert order[int(other.label[0])] == one.label[0]


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece", "wordpiece"])
def test_every_vocabulary_with_cls_and_sep_serves(kind):
    words = tokenizer(kind)
    pair = Classification(id="a", text="The quick fox", pair="did it?")
    ids = encode([pair], words, BertFeatures()).rows.tokens[0, 0]
    cls, sep = words.specials["cls"], words.specials["sep"]
    first, second = words.encode_batch(["The quick fox", "did it?"])
    wanted = [cls, *first, sep, *second, sep]
    assert ids[: len(wanted)].tolist() == wanted and (ids[len(wanted) :] == words.pad).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("gpt")])
def test_a_vocabulary_without_cls_is_refused(kind):
    with pytest.raises(ConfigError, match=f"{kind} vocabulary has no special 'cls'"):
        encode([Classification(id="a", text="x")], tokenizer(kind), BertFeatures())


def test_sst2_is_encoded_in_seconds():
    file = DATA / "glue_sst2" / "train.tsv.gz"
    if not file.is_file():
        pytest.skip(f"{file} is not here")
    with gzip.open(file, "rt") as lines:
        texts = [line.split("\t")[0] for line in lines][1:8001]
    records = [Classification(id=str(i), text=text, label=0) for i, text in enumerate(texts)]
    words = tokenizer("wordpiece")
    began = time.process_time()
    words.encode_batch(texts)
    alone, began = time.process_time() - began, time.process_time()
    encoded = encode(records, words, BertFeatures())
    took = time.process_time() - began
    assert encoded.rows.tokens.shape[0] == 8000 and encoded.counts.truncated == 0
    assert took - alone < 2  # arrays of 8,000 rows; 0.2 s where this was written


def test_lengths_that_hold_nothing_are_refused():
    for wrong in ({"length": 4}, {"stride": 0}, {"question": 0}):
        with pytest.raises(ConfigError):
            BertFeatures(**wrong)
