"""Excerpts of prose: whole sentences that fit, with something left to go on with."""

import pytest

from lm.core.errors import DataError
from lm.data.excerpts import LEAST, excerpts
from lm.data.sources import Document
from lm.text.byte import ByteTokenizer

SENTENCES = [[f"Number {n} sat down here.", f"He was no {n} himself.", "Then all of them went."]
             for n in range(30)]  # fmt: skip
BOOK = Document("book", "\n\n".join(" ".join(some) for some in SENTENCES))


def cut(count=20, longest=60, seed=0):
    return excerpts([BOOK], ByteTokenizer(), count, longest, seed)


def test_excerpts_are_whole_sentences_that_fit_and_never_a_paragraphs_last():
    found = cut()
    assert len(found) == len(set(found)) == 20
    whole = {sentence for some in SENTENCES for sentence in some[:-1]}
    for excerpt in found:
        assert LEAST <= len(ByteTokenizer().encode(excerpt)) <= 60
        assert all(f"{part}." in whole for part in excerpt.rstrip(".").split(". "))
    assert {excerpt.count(".") for excerpt in found} == {1, 2}
    assert max(len(one) for one in cut(longest=26)) <= 26  # the control: two do not fit


def test_the_seed_draws_them_and_too_many_are_refused():
    assert cut() == cut() != cut(seed=1)
    with pytest.raises(DataError, match="61 excerpts were asked for and the text has"):
        cut(count=61)
