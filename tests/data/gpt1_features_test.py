import numpy as np
import pytest

from lm.core.errors import ConfigError
from lm.data.gpt1_features import Gpt1Features, Specials, encode
from lm.data.records import Choice, Classification, Regression, Span, Tagging
from tests.data.toy import Toy
from tests.text.tokenizers import KINDS, tokenizer

SPECIALS = Specials.after(1000)
NAMES = {"<s>": 1000, "$": 1001, "<e>": 1002}


def rows_of(*records, toy=None, **config):
    toy = toy or Toy()
    encoded = encode(records, toy, Gpt1Features(**config), SPECIALS)
    return (
        encoded.rows,
        encoded.counts,
        [
            [toy.show(ids[valid], **NAMES) for ids, valid in zip(row, there, strict=True)]
            for row, there in zip(encoded.rows.tokens, encoded.rows.valid, strict=True)
        ],
    )


def test_the_specials_follow_the_vocabulary_in_the_released_order():
    assert Specials.after(40_478) == Specials(start=40_478, delimiter=40_479, classify=40_480)


def test_a_text_stands_between_start_and_classify():
    batch, _, rows = rows_of(Classification(id="a", text="A wonderful film.", label=1))
    assert rows == [["<s> a wond ##erfu ##l film . <e>"]]
    assert batch.read.tolist() == [[7]] and batch.label.tolist() == [1]


def test_premise_and_hypothesis_stand_around_the_delimiter():
    pair = Classification(id="a", text="Two dogs.", pair="A dog", label=0)
    _, _, rows = rows_of(pair)
    assert rows == [["<s> two dogs . $ a dog <e>"]]


def test_a_similarity_is_encoded_in_both_orders():
    pair = Regression(id="a", text="Two dogs.", pair="A dog", label=3.5)
    batch, _, rows = rows_of(pair, both_orders=True)
    assert rows == [["<s> two dogs . $ a dog <e>", "<s> a dog $ two dogs . <e>"]]
    assert batch.candidates.all() and batch.label.tolist() == [3.5]


@pytest.mark.parametrize("length", [8, 14, 512])
def test_swapping_the_texts_of_a_similarity_swaps_its_candidates(length):
    toy = Toy()
    one, two = "Two dogs run over a wide field", "A dog"
    here, counts, _ = rows_of(
        Regression(id="a", text=one, pair=two), toy=toy, both_orders=True, length=length
    )
    there, again, _ = rows_of(
        Regression(id="a", text=two, pair=one), toy=toy, both_orders=True, length=length
    )
    for name in ("tokens", "valid", "read", "lm_mask", "candidates"):
        assert np.array_equal(getattr(here, name), getattr(there, name)[:, ::-1]), name
    assert counts == again
    alone, _, _ = rows_of(Regression(id="a", text=one, pair=two), toy=toy, length=length)
    turned, _, _ = rows_of(Regression(id="a", text=two, pair=one), toy=toy, length=length)
    assert not np.array_equal(alone.tokens, turned.tokens)  # one order is not symmetric


def test_a_choice_has_a_candidate_for_each_answer():
    choice = Choice(id="a", context="It rained.", question="So?", choices=("Wet", "Dry sun"))
    batch, _, rows = rows_of(choice)
    first = "<s> it rain ##ed . so ? $"
    assert rows == [[f"{first} wet <e>", f"{first} dry sun <e>"]]
    assert batch.read.tolist() == [[9, 10]]
    assert (batch.tokens[0, np.arange(2), batch.read[0]] == SPECIALS.classify).all()


def test_the_order_of_the_answers_is_the_order_of_the_candidates():
    words, order, toy = (
        ("Wet ground", "Dry sun", "A much longer answer than these"),
        [2, 0, 1],
        Toy(),
    )
    asked = Choice(id="a", context="It rained.", choices=words, label=1)
    turned = Choice(id="a", context="It rained.", choices=tuple(words[i] for i in order), label=2)
    (one, _, _), (other, _, _) = rows_of(asked, toy=toy), rows_of(turned, toy=toy)
    for name in ("tokens", "segments", "valid", "read", "lm_mask", "candidates"):
        assert np.array_equal(getattr(one, name)[:, order], getattr(other, name)), name
    assert order[int(other.label[0])] == one.label[0]


def test_each_side_is_cut_to_half_the_context_less_two_and_counted():
    pair = Classification(id="a", text="a b c d e f", pair="x y z u v")
    _, counts, rows = rows_of(pair, length=10)
    assert rows == [["<s> a b c $ x y z <e>"]]
    assert (counts.truncated, counts.cut) == (1, 3 + 2)
    _, counts, rows = rows_of(pair, length=10, both_orders=True)
    assert rows == [["<s> a b c $ x y z <e>", "<s> x y z $ a b c <e>"]]
    assert (counts.truncated, counts.cut) == (1, 2 * 5)


def test_a_text_alone_may_fill_the_row():
    _, counts, rows = rows_of(Classification(id="a", text="a b c d e f g h i"), length=10)
    assert rows == [["<s> a b c d e f g h <e>"]] and counts.cut == 1


def test_a_long_context_leaves_the_question_whole():
    long = Choice(id="a", context="a b c d e f", question="why ?", choices=("x",))
    _, counts, rows = rows_of(long, length=12)
    assert rows == [["<s> a b why ? $ x <e>"]] and counts.cut == 4


def test_every_token_but_the_last_has_a_successor_that_counts():
    batch, _, _ = rows_of(
        Classification(id="a", text="one two", pair="three"),
        Classification(id="b", text="one", pair="two"),
    )
    sizes = batch.valid.sum(-1)
    assert np.array_equal(batch.lm_mask[..., :-1], batch.valid[..., 1:])
    assert np.array_equal(batch.lm_mask.sum(-1), sizes - 1)
    assert np.array_equal(batch.read, sizes - 1) and not batch.lm_mask[..., -1].any()


@pytest.mark.parametrize("kind", KINDS)
def test_every_vocabulary_serves(kind):
    words = tokenizer(kind)
    specials = Specials.after(words.vocab_size)
    pair = Classification(id="a", text="The quick fox", pair="did it?")
    batch = encode([pair], words, Gpt1Features(), specials).rows
    first, second = words.encode_batch(["The quick fox", "did it?"])
    wanted = [specials.start, *first, specials.delimiter, *second, specials.classify]
    assert batch.tokens[batch.valid].tolist() == wanted


def test_what_gpt1_has_no_transformation_for_is_refused():
    for record in (
        Span(id="a", question="x", passage="y", answers=()),
        Tagging(id="a", words=("x",), label=(0,)),
    ):
        with pytest.raises(ConfigError, match="use BERT"):
            encode([record], Toy(), Gpt1Features(), SPECIALS)
    alone = Classification(id="a", text="x")
    choice = Choice(id="a", context="x", choices=("y",))
    for record in (alone, choice):
        with pytest.raises(ConfigError, match="item a is no pair"):
            encode([record], Toy(), Gpt1Features(both_orders=True), SPECIALS)
