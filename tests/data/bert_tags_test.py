import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.core.errors import DataError
from lm.data.bert_features import BertFeatures, encode
from lm.data.records import Tagging
from tests.data.toy import Toy
from tests.text.tokenizers import tokenizer


def sentence(words, tags=None, name="a", document=None):
    return Tagging(id=name, words=tuple(words.split()), label=tags, document=document)


def test_a_tag_stands_at_the_first_token_of_its_word():
    toy = Toy()
    encoded = encode([sentence("John lives in Washington .", (1, 0, 0, 2, 0))], toy, BertFeatures())
    row, label = encoded.rows.tokens[0, 0], encoded.rows.label[0]
    assert toy.show(row[:11]) == "[CLS] john live ##s in wash ##ingt ##on . [SEP] [PAD]"
    assert label[:11].tolist() == [-1, 1, 0, -1, 0, 2, -1, -1, 0, -1, -1]
    assert encoded.words.word[0, :11].tolist() == [-1, 0, 1, -1, 2, 3, -1, -1, 4, -1, -1]
    assert encoded.rows.segments.sum() == 0


def test_words_without_tags_have_their_places_all_the_same():
    encoded = encode([sentence("a b")], Toy(), BertFeatures())
    assert (encoded.rows.label == -1).all()
    (tags,) = encoded.words.tags(np.full(encoded.rows.label.shape, 5))
    assert tags.tolist() == [5, 5]


def test_a_long_sentence_is_seen_through_windows_and_each_word_labelled_once():
    toy = Toy()
    encoded = encode(
        [sentence("a b c d e f g h", tuple(range(8)))], toy, BertFeatures(length=8, stride=2)
    )
    shown = [toy.show(row[0]) for row in encoded.rows.tokens]
    assert shown == ["[CLS] a b c d e f [SEP]", "[CLS] c d e f g h [SEP]"]
    assert encoded.rows.label.tolist() == [
        [-1, 0, 1, 2, 3, -1, -1, -1],
        [-1, -1, -1, 4, 5, 6, 7, -1],
    ]
    assert encoded.counts.rows == 2 and encoded.counts.items == 1


def test_the_sentences_of_a_document_are_each_others_context():
    toy = Toy()
    records = [
        sentence("a b", (0, 1), "1", "x"),
        sentence("c", (2,), "2", "x"),
        sentence("d e", (3, 4), "3", "y"),
    ]
    apart = encode(records, toy, BertFeatures(length=16, documents=False))
    assert [toy.show(row[0, :4]) for row in apart.rows.tokens] == [
        "[CLS] a b [SEP]",
        "[CLS] c [SEP] [PAD]",
        "[CLS] d e [SEP]",
    ]
    joined = encode(records, toy, BertFeatures(length=16))
    assert [toy.show(row[0, :5]) for row in joined.rows.tokens] == [
        "[CLS] a b c [SEP]",
        "[CLS] d e [SEP] [PAD]",
    ]
    assert joined.rows.label[:, :5].tolist() == [[-1, 0, 1, 2, -1], [-1, 3, 4, -1, -1]]
    assert joined.rows.example.tolist() == [0, 2]
    for encoded in (apart, joined):
        tags = encoded.words.tags(encoded.rows.label)
        assert [t.tolist() for t in tags] == [[0, 1], [2], [3, 4]]


@given(
    st.lists(st.lists(st.sampled_from("a bee letters ~ (1895) ".split()), max_size=12), max_size=8),
    st.integers(8, 40),
    st.integers(1, 40),
    st.booleans(),
)
def test_every_word_with_a_token_is_labelled_once_and_comes_back(texts, length, stride, joined):
    records = [
        Tagging(
            id=str(i),
            words=tuple(words),
            label=tuple(range(len(words))),
            document="one" if joined else None,
        )
        for i, words in enumerate(texts)
    ]
    toy, config = Toy(), BertFeatures(length=length, stride=stride)
    if not any(word != "~" for words in texts for word in words):
        with pytest.raises(DataError):
            encode(records, toy, config)
        return
    encoded = encode(records, toy, config)
    lost = sum(word == "~" for words in texts for word in words)
    assert (encoded.rows.label >= 0).sum() == sum(map(len, texts)) - lost
    assert encoded.counts.lost == lost
    assert encoded.counts.empty == sum(not words for words in texts)
    for words, tags in zip(texts, encoded.words.tags(encoded.rows.label), strict=True):
        assert tags.tolist() == [-1 if word == "~" else i for i, word in enumerate(words)]
    heads = encoded.words.item >= 0
    for row, place in zip(*np.nonzero(heads), strict=True):
        word = texts[encoded.words.item[row, place]][encoded.words.word[row, place]]
        assert encoded.rows.tokens[row, 0, place] == toy.encode(word)[0]


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece", "wordpiece"])
def test_every_vocabulary_serves(kind):
    encoded = encode([sentence("The quick fox", (2, 0, 1))], tokenizer(kind), BertFeatures())
    assert encoded.words.tags(encoded.rows.label)[0].tolist() == [2, 0, 1]


def test_tags_that_are_not_one_a_word_are_an_error():
    for tags in ((0,), (0, 1, 2), (0, -1)):
        with pytest.raises(DataError, match="item a: 2 words have the tags"):
            encode([sentence("a b", tags)], Toy(), BertFeatures())


def test_sentences_that_name_no_document_stay_apart():
    records = [sentence("a b", (0, 1), "1"), sentence("c", (2,), "2")]
    assert len(encode(records, Toy(), BertFeatures(length=16)).rows.mask) == 2
