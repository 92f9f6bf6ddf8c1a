"""Perplexity of a corpus equals conditional probabilities multiplied one by one."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

from lm.core.errors import DataError
from lm.evals.zeroshot.corpora import (
    CORPORA,
    Corpus,
    by_line,
    corpus_figures,
    corpus_text,
    text_figures,
)
from lm.text.detokenizer import WIKITEXT
from tests.evals.scorer_test import logits_of, tiny

TEXT = ' \n = Ships = \n \n It can \'t sail 1 @,@ 200 miles ( " so " ) . \n Or @-@ else ? \n'
CORPUS = Corpus(("here.txt",), WIKITEXT)


def conditional(scorer, before, token) -> float:
    """-log P(token | before), everything read anew."""
    logits = logits_of(scorer, before)[-1]
    return math.log(np.exp(logits).sum()) - logits[token]


def naive(scorer, text) -> float:
    """Nats of a text that fits the context, token by token."""
    ids = [scorer.tokenizer.end, *scorer.tokenizer.encode(text)]
    return sum(conditional(scorer, ids[:n], ids[n]) for n in range(1, len(ids)))


@pytest.fixture(scope="module")
def scorer():
    return tiny()


def test_the_test_part_is_the_end_of_the_file_from_the_first_whole_character_on(tmp_path):
    path = tmp_path / "x"
    path.write_text("one 東京 two")  # three bytes a character
    parts = {4: " two", 7: "京 two", 8: "京 two", 9: "京 two", 99: "one 東京 two"}
    for tail, text in parts.items():
        assert corpus_text(Corpus(("x",), tail=tail), path) == text
    assert corpus_text(Corpus(("x",)), path) == "one 東京 two"
    tails = {name: corpus.tail for name, corpus in CORPORA.items() if corpus.tail is not None}
    assert tails == {"enwik8": 5_000_000, "text8": 5_000_000}  # the last twentieth of 10^8 bytes


def test_a_token_is_of_the_line_in_which_it_ends():
    def of(tokens, lines):
        told = SimpleNamespace(
            encode=lambda text: range(len(tokens)), decode_bytes=lambda ids: tokens[ids[0]]
        )
        nats = SimpleNamespace(tokenizer=told, rolling=lambda ids: 2.0 ** np.arange(len(ids)))
        return by_line(nats, lines)

    lines = ["a b\n", "é\n", "c"]
    assert of([b"a", b" b", b"\n", "é".encode(), b"\n", b"c"], lines) == [7, 24, 32]
    assert of([b"a b", b"\n\xc3", b"\xa9", b"\nc"], lines) == [1, 6, 8]  # over ends of lines


def test_word_perplexity_is_of_the_words_of_the_original(scorer):
    written = WIKITEXT.write(TEXT)
    assert len(written) < scorer.length and len(written.split()) < len(TEXT.split())
    word, bits = corpus_figures(scorer, CORPUS, TEXT)
    nats = naive(scorer, written)
    assert word.value == pytest.approx(math.exp(nats / len(TEXT.split())), rel=1e-4)
    assert bits.value == pytest.approx(nats / math.log(2) / len(TEXT.encode()), rel=1e-5)
    # the control: as many words as the written text has
    assert word.value != pytest.approx(math.exp(nats / len(written.split())), rel=1e-2)


def test_a_long_text_is_read_with_what_stands_before_and_each_token_once(scorer):
    ids = scorer.tokenizer.encode(WIKITEXT.write(TEXT * 3))
    text = [scorer.tokenizer.end, *ids]
    nats, scored = 0.0, 0
    while scored < len(ids):  # half a window at a time, behind as much as fits
        end = min(64 if not scored else scored + 32, len(ids))
        start = max(0, end - 64)
        nats += sum(
            conditional(scorer, text[start : n + 1], text[n + 1]) for n in range(scored, end)
        )
        scored = end
    word, _ = corpus_figures(scorer, CORPUS, TEXT * 3)
    assert word.value == pytest.approx(math.exp(nats / len((TEXT * 3).split())), rel=1e-4)
    # the control: windows that begin with nothing before them
    cut = sum(
        naive(scorer, scorer.tokenizer.decode(ids[n : n + 63])) for n in range(0, len(ids), 63)
    )
    assert word.value != pytest.approx(math.exp(cut / len((TEXT * 3).split())), rel=1e-3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT, ""),
        (
            TEXT.replace("\n", "\r\n"),
            r"5 of 5 lines .* \(they end in \\r\\n\): the value is too high",
        ),
        ("\n".join(line.strip() for line in TEXT.split("\n")), "5 of 5 lines .*do: the value"),
        (TEXT * 30 + "odd\n", ""),
    ],
    ids=["as published", "other line ends", "without the blanks", "one odd line"],
)
def test_lines_that_are_not_of_the_published_form_are_told_with_their_number(
    text, said, monkeypatch
):
    still = tiny()
    monkeypatch.setattr(still, "rolling", lambda ids: np.ones(len(ids)))
    for figure in corpus_figures(still, CORPUS, text):
        assert re.search(said, figure.remark) and bool(figure.remark) == bool(said)


def test_shuffled_lines_are_texts_by_themselves(scorer):
    lines = ["He said so .\n", "\n", "It rained , too .\n"]
    word, _ = corpus_figures(scorer, Corpus(("x",), WIKITEXT, apart=True), "".join(lines))
    nats = sum(naive(scorer, WIKITEXT.write(line).strip()) for line in lines if line.strip())
    assert word.value == pytest.approx(math.exp(nats / 9), rel=1e-4)
    assert word.items == 2


def test_no_byte_of_a_shuffled_line_counts_that_is_not_scored(scorer):
    lines = ["He said so .\n", "\n", " It rained , too . \n"]
    _, bits = corpus_figures(scorer, Corpus(("x",), WIKITEXT, apart=True), "".join(lines))
    nats = sum(naive(scorer, WIKITEXT.write(line).strip()) for line in lines if line.strip())
    scored = len("He said so .") + len("It rained , too .")
    assert bits.value == pytest.approx(nats / math.log(2) / scored, rel=1e-5)


def test_characters_that_end_lines_elsewhere_stand_in_a_line(scorer):
    text = " One\u2028 two\x85 \x0cthree\x1c four \n five\r \n"
    word, bits = corpus_figures(scorer, Corpus(("x",)), text)
    assert word.items == bits.items == 2


def test_a_limit_counts_lines_with_words_and_no_words_are_refused(scorer):
    assert corpus_figures(scorer, CORPUS, TEXT, 1)[0].items == 2  # an empty line, a heading
    said = "the first 1 of 3 lines with words"
    assert {figure.remark for figure in corpus_figures(scorer, CORPUS, TEXT, 1)} == {said}
    assert {figure.remark for figure in corpus_figures(scorer, CORPUS, TEXT, 3)} == {""}
    unpublished = "\n".join(line.strip() for line in TEXT.split("\n"))
    found = corpus_figures(scorer, CORPUS, unpublished, 2)[0].remark
    assert found.startswith("the first 2 of 3 lines with words; 4 of 4 lines do not begin")
    with pytest.raises(DataError, match="no words"):
        corpus_figures(scorer, CORPUS, " \n \n")


def test_texts_of_a_user_s_are_each_measured_alone_and_every_token_once(scorer, monkeypatch):
    texts = ["He said so.", "It rained, too. " * 30]
    ids = [scorer.tokenizer.encode(text) for text in texts]
    assert len(ids[0]) < scorer.length < len(ids[1])
    sizes, (loss, of_token, bits) = text_figures(scorer, texts)
    nats = sum(scorer.rolling(each).sum() for each in ids)
    count = sum(map(len, ids))
    assert sizes == {"texts": 2, "tokens": count, "bytes": sum(len(text) for text in texts)}
    assert loss.value == pytest.approx(nats / count, rel=1e-5)
    assert of_token.value == pytest.approx(math.exp(nats / count), rel=1e-4)
    assert bits.value == pytest.approx(nats / math.log(2) / sizes["bytes"], rel=1e-5)
    monkeypatch.setattr(scorer.tokenizer, "lossless", False)  # of which text are they?
    assert [figure.metric for figure in text_figures(scorer, texts)[1]] == ["loss", "perplexity"]
    with pytest.raises(DataError, match="no text to measure on"):
        text_figures(scorer, [""])
