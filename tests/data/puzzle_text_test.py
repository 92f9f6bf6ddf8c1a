"""The corpus of tasks in prose: pure in its row, parts apart, within its bounds."""

import itertools
import re
from dataclasses import replace

import pytest

from lm.core.errors import ConfigError, DataError
from lm.data import puzzle_text
from lm.data.puzzle_text import PuzzleText
from lm.data.sources import Document
from lm.data.tokens import prepare
from lm.text.byte import ByteTokenizer

SYLLABLES = [a + b for a in "bcdfghjklm" for b in "aeiou"]


@pytest.fixture(scope="module")
def prose(tmp_path_factory):
    words = [a + b for a, b in itertools.product(SYLLABLES, SYLLABLES[:9])]
    path = tmp_path_factory.mktemp("prose") / "prose.txt"
    path.write_text("Once " + " ".join(words) + ".")
    return path


@pytest.fixture
def text(prose, tmp_path):
    return PuzzleText(
        train=str(prose), cache=str(tmp_path), documents_train=400, documents_valid=40, bytes=90
    )


def test_a_document_is_a_pure_function_of_seed_part_and_row(text):
    forwards = [document.text for document in text.documents("train")]
    assert [text.document("train", row) for row in reversed(range(400))] == forwards[::-1]
    assert [d.text for d in replace(text, seed=1).documents("train")] != forwards
    assert [text.document("valid", row) for row in range(40)] != forwards[:40]
    # more rows change none of the earlier ones
    more = replace(text, documents_train=500).documents("train")
    assert [d.text for d in itertools.islice(more, 400)] == forwards


def test_documents_are_prose_and_one_task_each_in_their_shares(text):
    texts = [document.text for document in text.documents("train")]
    tasks = [one for one in texts if one.startswith("\n")]
    again = [one for one in texts if one.isalpha() and one[:40] in one[1:]]
    assert 0.15 < len(again) / len(texts) < 0.25  # repeat_share 0.2
    assert 0.02 < 1 - (len(tasks) + len(again)) / len(texts) < 0.10  # prose_share 0.05
    assert all(len(one) <= text.bytes for one in texts)
    arithmetic = [one for one in tasks if one.startswith("\n\nQ:")]
    assert 0.01 < len(arithmetic) / len(texts) < 0.08  # 0.04
    assert all(len(set(re.findall("plus|minus", one))) == 1 for one in arithmetic)
    counts = {len(one.strip().split("\n")) for one in tasks if not one.startswith("\n\nQ:")}
    assert {1, 2, 3} <= counts  # a first, a second and a later example are learned


def test_passages_of_the_parts_do_not_overlap(text):
    prosaic = replace(text, prose_share=1.0, repeat_share=0.0, mapping_share=0.0,
                      operation_share=0.0, word_share=0.0, arithmetic_share=0.0)  # fmt: skip
    train = {
        d.text[i : i + 24] for d in prosaic.documents("train") for i in range(len(d.text) - 23)
    }
    valid = {
        d.text[i : i + 24] for d in prosaic.documents("valid") for i in range(len(d.text) - 23)
    }
    assert valid and not train & valid
    assert train & {d.text[20:44] for d in prosaic.documents("train")}  # they do within a part


def test_the_corpus_is_tokenised_once_and_another_configuration_apart(text):
    tokenizer = ByteTokenizer()
    (source,), valid = prepare(text, tokenizer)
    train = source.file
    assert train.manifest["documents"] == 400 and valid.manifest["documents"] == 40
    first = text.document("train", 0)
    assert tokenizer.decode(train.tokens[: len(first)].tolist()) == first
    (again,), _ = prepare(text, tokenizer)
    (other,), _ = prepare(replace(text, prose_share=0.15, mapping_share=0.4), tokenizer)
    assert again.file.folder == train.folder != other.file.folder


def test_shares_that_do_not_add_up_and_prose_without_words_are_refused(text, tmp_path):
    with pytest.raises(ConfigError, match="add up to 1"):
        replace(text, prose_share=0.5)
    poor = tmp_path / "poor.txt"
    poor.write_text("abc def ghi " * 100)
    with pytest.raises(DataError, match="too few"):
        replace(text, train=str(poor)).stock("valid")


def test_prose_ends_with_the_document_that_reaches_its_length_each_measured_once(monkeypatch):
    measured = []

    class Text(str):
        def encode(self, *some):
            return self

        def decode(self):
            return self

        def __len__(self):
            measured.append(str(self))
            return super().__len__()

    some = (Document("", Text(letter * 3)) for letter in "abcdef")
    monkeypatch.setattr(puzzle_text, "documents", lambda spec, on_error: some)
    assert puzzle_text.prose.__wrapped__("", 8) == "aaa\nbbb\n"
    assert measured == ["aaa", "bbb", "ccc"] and len(list(some)) == 3
