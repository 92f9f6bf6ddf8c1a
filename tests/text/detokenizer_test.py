import dataclasses
import gzip

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lm.text.detokenizer import CBT, MARK, ONE_BILLION, PTB, WIKITEXT
from tests.text.tokenizers import DATA

CORPORA = {"wikitext": WIKITEXT, "ptb": PTB, "one_billion": ONE_BILLION, "cbt": CBT}
WORDS = (
    "a the word U.S. Mr. St Co etc s ' '' `` ` \" \"\" , . ; : ! ? ... .... ( ) [ ] { } $ £ % # = "
    "@-@ @,@ @.@ @ – — - -- / \\/ N/N N\\/N 3 14 7th 's n't 't 'll 'awiil cats <unk> N ° ′ "
    "-LRB- -RRB- -lrb- -rrb-"
).split()


@pytest.mark.parametrize("corpus", CORPORA)
@settings(max_examples=60)
@given(
    st.lists(
        st.lists(
            st.one_of(st.sampled_from([*WORDS, MARK, MARK + "a", ""]), st.text(max_size=3)),
            max_size=12,
        ).map(" ".join),
        max_size=4,
    ).map("\n".join)
)
@example("\n ").via("a blank line that no line break ends")
def test_every_text_comes_back(corpus, text):
    form = CORPORA[corpus]
    assert form.restore(form.write(text)) == text


@pytest.mark.skipif(not (DATA / "wikitext2").is_dir(), reason="the shared data is not here")
def test_wikitext_comes_back_and_hardly_a_word_needs_a_mark():
    text = gzip.decompress((DATA / "wikitext2" / "valid.txt.gz").read_bytes()).decode()[:100_000]
    written = WIKITEXT.write(text)
    assert WIKITEXT.restore(written) == text
    assert written.count(MARK) < 5
    assert len(written.split()) < 0.87 * len(text.split())  # punctuation is no word any more


@pytest.mark.parametrize(
    "corpus, original, written",
    [
        ("wikitext", " = = Life cycle = = \n", "== Life cycle ==\n"),
        (
            "wikitext",
            ' In 1 @,@ 250 cases ( 0 @.@ 5 % ) the U.S. " well @-@ known " ship didn \'t sink . \n',
            'In 1,250 cases (0.5%) the U.S. "well-known" ship didn\'t sink.\n',
        ),
        (
            "ptb",
            " the company 's $ N million -lrb- N\\/N % -rrb- was n't traders ' gain \n",
            "the company's $N million (N/N%) wasn't traders' gain\n",
        ),
        (
            "one_billion",
            'He said : " We did n\'t know , " in the U.S. ( at last ) .',
            'He said: "We didn\'t know," in the U.S. (at last).',
        ),
        (
            "cbt",
            "`` Oh , I have n't -LRB- yet -RRB- , '' said he ; `` Mr. Toad . ''",
            '"Oh, I haven\'t (yet)," said he; "Mr. Toad."',
        ),
    ],
)
def test_a_corpus_is_written_as_people_write(corpus, original, written):
    assert CORPORA[corpus].write(original) == written
    assert CORPORA[corpus].restore(written) == original


def test_a_word_that_would_be_cut_is_marked_and_one_that_was_marked_too():
    assert WIKITEXT.write(" Yahoo! and , \n") == f"{MARK}Yahoo! and,\n"
    assert ONE_BILLION.write(f"{MARK}x") == f"{MARK}{MARK}x"


def test_rules_that_do_not_fit_the_corpus_are_caught():
    """Written by one corpus's rules and read by another's, a text does not come back."""
    text = " he did n't say so . \n"
    assert WIKITEXT.restore(PTB.write(text)) != text
    no_period = dataclasses.replace(ONE_BILLION, period=False)
    assert no_period.restore(ONE_BILLION.write("It ends here .")) != "It ends here ."
