import gzip
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data.prose import LONGEST, is_heading, paragraphs, sentences

NOVELS = Path(__file__).parents[2].parent / "shared" / "data" / "novels"

# Sentences of a paragraph, separated by |.
PROSE = """
It was late.|Nobody came.
"Are you sure?" he asked.|"Quite sure."
"Come in!" cried Mrs. Reed.|"It is cold."
"Come in!" Mrs. Reed cried, and rose.|The door shut.
"Yes?" I said.|He nodded.
Mr. and Mrs. Brown met Dr. J. H. Watson at St. Paul's.|They dined.
See No. 5, on p. 12.|No.|I will not.
He waited ... and waited.|Then he left...|She did not.
Nothing . . . nothing at all.|He slept.
What?!|Never!
It was I.|She knew Henry I. Plantagenet well.
He said (in jest.) That was all.
They paid $3.50 for it.|It broke.
She came at 5 p.m. and left.|He slept.
“Go,” he said.|‘Why?’|“Because.”
Ο Σωκράτης ἦλθεν.|Ἔφη.
The U.S.A. Government paid.|We ate.
It ended.--But how?|Badly.
"""


@pytest.mark.parametrize("line", PROSE.strip().splitlines())
def test_prose_is_cut_where_sentences_end_and_nowhere_else(line):
    line = line.replace("(in jest.) That", "(in jest.)|That")
    assert list(sentences(line.replace("|", " "))) == line.split("|")


@given(st.text(max_size=300) | st.text(alphabet='aB. !?"\n\u2026', max_size=300))
def test_no_character_is_lost_and_no_sentence_is_empty(text):
    parts = [part for paragraph in paragraphs(text) for part in sentences(paragraph)]
    assert all(part == part.strip() and part for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


@pytest.mark.parametrize(
    "text", ["x" * 10_000, "word " * 2000, "Ha! " * 2000, "." * 200_000, ". " * 100_000]
)
def test_a_sentence_without_end_is_cut_at_blanks(text):
    parts = list(sentences(text.strip()))
    assert max(map(len, parts)) <= LONGEST
    assert "".join("".join(parts).split()) == "".join(text.split())
    if text.endswith(" ") and text[0] != ".":
        assert {part.split()[-1] for part in parts} <= {"word", "Ha!"}


WRAPPED = """CHAPTER I
It was a day of rain, and the whole house kept within
doors until noon, when, as nobody had foreseen, Mr.
Brown came home.
"Well?" said she, and looked at him over the top of
the book that she was reading, which was her
own.

He had nothing to say that she would have listened to
before dinner, and so went up the stairs to Mrs.
Green, who was not surprised.
"""


def test_lines_that_an_editor_wrapped_are_joined():
    assert list(paragraphs(WRAPPED)) == [
        "CHAPTER I",
        "It was a day of rain, and the whole house kept within doors until noon, when, as nobody "
        "had foreseen, Mr. Brown came home.",
        '"Well?" said she, and looked at him over the top of the book that she was reading, which '
        "was her own.",
        "He had nothing to say that she would have listened to before dinner, and so went up the "
        "stairs to Mrs. Green, who was not surprised.",
    ]


def test_lines_longer_than_a_page_is_wide_are_paragraphs():
    lines = ["CHAPTER I", "He came and went. " * 20, "", "She stayed", "there. " * 30]
    assert list(paragraphs("\r\n".join(lines))) == [line.strip() for line in lines if line]


def test_headings_are_told_from_prose():
    assert all(map(is_heading, ["CHAPTER I", "Chapter 12. The End", "XIV.", "BOOK II", "7"]))
    assert not any(map(is_heading, ["I went home.", "Chapter after chapter " * 9, "PARTING", ""]))


@pytest.mark.skipif(not NOVELS.is_dir(), reason="the novels are not here")
def test_sentences_of_novels_have_the_length_of_sentences():
    files = random.Random(0).sample(sorted(NOVELS.glob("*.gz")), 3)
    for file in files:
        text = gzip.open(file, "rt").read()
        parts = [part for paragraph in paragraphs(text) for part in sentences(paragraph)]
        words = len(text.split()) / len(parts)
        assert 8 < words < 40, (file.name, words)
        assert sum(part[-1:] in ".!?…\"'”’)*-:;," for part in parts) > 0.93 * len(parts), file.name
        assert sum(part.endswith((" Mr.", " Mrs.", " Dr.")) for part in parts) <= 2, file.name
