import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.core.errors import ConfigError, DataError
from lm.data.bert_features import BertFeatures, encode
from lm.data.records import Answer, Span
from tests.data.toy import Toy
from tests.text.tokenizers import DATA, tokenizer

BORN = "The leader was John Smith (1895-1943)."


def asked(passage, *answers, question="Who?", name="a"):
    places = tuple(Answer(text, passage.index(text)) for text in answers)
    return Span(id=name, question=question, passage=passage, answers=places)


def rows_of(*records, **config):
    toy = Toy()
    encoded = encode(records, toy, BertFeatures(**config))
    rows = encoded.rows
    shown = [toy.show(ids[0][there[0]]) for ids, there in zip(rows.tokens, rows.valid, strict=True)]
    labelled = [
        toy.show(ids[0, first : last + 1])
        for ids, (first, last) in zip(rows.tokens, rows.label, strict=True)
    ]
    return encoded, shown, labelled


def test_the_question_is_the_first_segment_and_the_passage_the_second():
    encoded, rows, labelled = rows_of(asked("A cat sat.", "cat"), length=16, question=4)
    assert rows == ["[CLS] who ? [SEP] a cat sat . [SEP]"] and labelled == ["cat"]
    assert encoded.rows.segments[0, 0, :9].tolist() == [0] * 4 + [1] * 5
    assert encoded.rows.label.tolist() == [[5, 5]]


def test_a_long_passage_is_seen_through_windows_and_elsewhere_the_answer_is_cls():
    encoded, rows, labelled = rows_of(
        asked("a b c d e f g h", "f g"), length=9, question=3, stride=2
    )
    assert rows == [
        "[CLS] who ? [SEP] a b c d [SEP]",
        "[CLS] who ? [SEP] c d e f [SEP]",
        "[CLS] who ? [SEP] e f g h [SEP]",
    ]
    assert labelled == ["[CLS]", "[CLS]", "f g"]
    assert encoded.rows.example.tolist() == [0, 0, 0] and encoded.counts.rows == 3
    assert encoded.counts.lost == 0


def test_the_answer_is_its_own_tokens_where_they_are_found_and_whole_words_where_not():
    _, _, labelled = rows_of(
        asked(BORN, "1895"),
        asked(BORN, "John Smith"),
        asked(BORN, "ohn Smi"),
        length=64,
        question=9,
    )
    assert labelled == ["1895", "john smit ##h", "john smit ##h"]


def test_no_answer_is_cls_and_unknown_answers_are_no_label():
    none = Span(id="a", question="Who?", passage=BORN, answers=())
    unknown = Span(id="b", question="Who?", passage=BORN)
    encoded, _, _ = rows_of(none, unknown, length=64, question=9)
    assert encoded.rows.label.tolist() == [[0, 0], [-1, -1]] and encoded.counts.lost == 0


def test_a_long_question_is_cut_and_counted():
    encoded, rows, _ = rows_of(
        asked("cat", "cat", question="who or what is it"), length=16, question=3
    )
    assert rows == ["[CLS] who or what [SEP] cat [SEP]"]
    assert (encoded.counts.truncated, encoded.counts.cut) == (1, 2)


def test_an_answer_that_no_window_holds_is_counted():
    encoded, _, labelled = rows_of(
        asked("a b c d e f", "a b c d e"), asked("x ~ y", "~"), length=9, question=3, stride=2
    )
    assert labelled == ["[CLS]"] * 3 and encoded.counts.lost == 2


@pytest.mark.parametrize("answer", [Answer("cat", 3), Answer("cat", -3), Answer("sat.", 30)])
def test_an_answer_that_is_not_where_it_is_said_to_be_is_an_error(answer):
    wrong = Span(id="q7", question="x", passage="A cat sat.", answers=(answer,))
    with pytest.raises(DataError, match=f"item q7: .* is not at character {answer.start}"):
        encode([wrong], Toy(), BertFeatures(length=384))


def test_what_cannot_be_asked_is_an_error():
    for answers in ((Answer(" ", 1),), (Answer("", 0),)):
        blank = Span(id="q7", question="x", passage="A cat", answers=answers)
        with pytest.raises(DataError, match="item q7: the answer"):
            encode([blank], Toy(), BertFeatures(length=384))
    with pytest.raises(DataError, match="item q7: its passage gives no token"):
        encode([Span(id="q7", question="x", passage=" ~ ")], Toy(), BertFeatures(length=384))
    with pytest.raises(ConfigError, match="no room for a passage"):
        encode([asked("cat", "cat")], Toy(), BertFeatures(length=64))


@given(
    st.lists(
        st.sampled_from("a bee seven letters. (1895-1943), ~".split()), min_size=1, max_size=60
    ),
    st.integers(8, 40),
    st.integers(1, 40),
    st.data(),
)
def test_rows_show_the_passage_and_the_answer_wherever_it_fits(words, length, stride, data):
    passage = " ".join(words)
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, len(words) - 1))
    text = " ".join(words[first : last + 1])
    start = len(" ".join([*words[:first], ""]))
    record = Span(id="a", question="Who?", passage=passage, answers=(Answer(text, start),))
    toy = Toy()
    tokens, answer = toy.encode(passage), toy.encode(text)
    config = BertFeatures(length=length, question=2, stride=stride)
    if not tokens:
        with pytest.raises(DataError):
            encode([record], toy, config)
        return
    encoded = encode([record], toy, config)
    rows, places = encoded.rows, encoded.passages
    found = np.zeros(len(tokens), int)
    for row in range(len(rows.mask)):
        begin, at, size = places.begin[row], places.first[row], places.size[row]
        assert rows.tokens[row, 0, begin : begin + size].tolist() == tokens[at : at + size]
        assert rows.segments[row, 0].sum() == size + 1
        assert set(np.flatnonzero(places.best[row])) <= set(range(begin, begin + size))
        found[np.flatnonzero(places.best[row]) - begin + at] += 1
        label = rows.label[row]
        if label.any():
            assert rows.tokens[row, 0, label[0] : label[1] + 1].tolist() == answer
    assert (found == 1).all()  # each token is best seen in one row
    held = bool(rows.label.any())
    assert encoded.counts.lost == (not held)
    if answer and len(answer) <= max(1, length - 5 - min(length - 5, stride)):
        assert held


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece", "wordpiece"])
def test_on_real_questions_the_labelled_tokens_spell_the_answer(kind):
    file = DATA / "squad_xquad_en" / "xquad.en.part.json.gz"
    if not file.is_file():
        pytest.skip(f"{file} is not here")
    with gzip.open(file, "rt") as text:
        articles = json.load(text)["data"]
    records = [
        asked(paragraph["context"], qa["answers"][0]["text"], question=qa["question"])
        for article in articles[:12]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]
    words = tokenizer(kind)
    encoded = encode(records, words, BertFeatures(length=384))
    rows, spelled = encoded.rows, 0
    for tokens, (first, last), item in zip(rows.tokens, rows.label, rows.example, strict=True):
        if first:
            text = records[item].answers[0].text
            plain = words.decode(words.encode(text))
            spelled += words.decode(tokens[0, first : last + 1]).split() == plain.split()
    held = int((rows.label[:, 0] > 0).sum())
    assert held >= len(records) - encoded.counts.lost > 0.97 * len(records)
    assert spelled > 0.98 * held
