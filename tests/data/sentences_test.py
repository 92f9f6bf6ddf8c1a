import json

import numpy as np
import pytest

from lm.core.errors import ConfigError, DataError
from lm.data import sentences
from lm.data.sentences import SentenceFile, SentencesConfig, prepare_sentences, write_sentences
from lm.data.sources import Document
from lm.data.token_file import TokenFile
from lm.data.token_writer import write_tokens
from lm.data.tokens import TextConfig
from lm.text.byte import ByteTokenizer
from lm.text.tokenizer import TokenizerConfig, build

LINES = "One.\nTwo three.\n\n\nFour.\r\n \nFive.\n"
PROSE = "CHAPTER I\n\nOne day. Two days!\n\nThree.\n\nCHAPTER II\n\nFour.\n\nFive.\n"


def written(folder, text=LINES, **config):
    how = SentencesConfig(**{"form": "lines"} | config)
    write_sentences(iter([Document("a", text)]), how, ByteTokenizer(), folder)
    return opened(folder)


def opened(folder, tokenizer=None):
    tokenizer = tokenizer or ByteTokenizer()
    return SentenceFile.open(
        folder, vocab_size=tokenizer.vocab_size, tokenizer_digest=tokenizer.digest
    )


def text_of(file):
    """The text of each sentence of each document."""
    out = []
    for first, after in zip(file.firsts[:-1], file.firsts[1:], strict=True):
        bounds = file.bounds[first:after]
        out.append(
            [bytes(file.file.tokens[a:b].tolist()).decode() for a, b in zip(bounds, bounds[1:])]  # noqa: B905
        )
    return out


def test_a_line_is_a_sentence_and_an_empty_line_ends_a_document(tmp_path):
    file = written(tmp_path / "s")
    assert text_of(file) == [[" One.", " Two three."], [" Four."], [" Five."]]
    assert (file.documents, file.sentences) == (3, 4)
    end = ByteTokenizer().end
    assert (
        np.flatnonzero(file.file.tokens == end).tolist()
        == file.bounds[file.firsts[1:] - 1].tolist()
    )
    file.file.verify()


def test_a_sentence_file_is_a_token_file_too(tmp_path):
    written(tmp_path / "s")
    tokenizer = ByteTokenizer()
    plain = TokenFile.open(
        tmp_path / "s", vocab_size=tokenizer.vocab_size, tokenizer_digest=tokenizer.digest
    )
    assert plain.manifest["documents"] == 3 and plain.bytes == len("One.Two three.Four.Five.")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, [["CHAPTER I", "One day.", "Two days!", "Three.", "CHAPTER II", "Four.", "Five."]]),
        (
            {"chapters": True},
            [["CHAPTER I", "One day.", "Two days!", "Three."], ["CHAPTER II", "Four.", "Five."]],
        ),
        (
            {"paragraphs": 2},
            [["CHAPTER I", "One day.", "Two days!"], ["Three.", "CHAPTER II"], ["Four.", "Five."]],
        ),
        (
            {"paragraphs": 2, "chapters": True},
            [
                ["CHAPTER I", "One day.", "Two days!"],
                ["Three."],
                ["CHAPTER II", "Four."],
                ["Five."],
            ],
        ),
    ],
)  # fmt: skip
def test_prose_becomes_documents_of_files_chapters_or_paragraphs(config, expected):
    documents = SentencesConfig(**config).documents(Document("a", PROSE))
    assert list(documents) == expected


@pytest.mark.parametrize("text", ["", " \n\n ", "\n"])
@pytest.mark.parametrize("form", ["prose", "lines"])
def test_a_corpus_without_words_is_refused_and_nothing_is_left(tmp_path, text, form):
    with pytest.raises(DataError, match="no text to tokenize in"):
        written(tmp_path / "s", text, form=form)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "other"])
def test_a_damaged_index_of_sentences_is_refused(tmp_path, damage):
    written(tmp_path / "s")
    path = tmp_path / "s" / "sentences.npy"
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "other":
        np.save(path, np.arange(3))
    else:
        data[-3] ^= 1
        path.write_bytes(data[:-8] if damage == "cut" else data)
    with pytest.raises(DataError, match=r"sentences\.npy is missing or damaged; remove the folder"):
        opened(tmp_path / "s")


def test_a_cut_token_file_and_another_tokenizer_are_refused(tmp_path):
    written(tmp_path / "s")

    class Other(ByteTokenizer):
        digest = "other"

    with pytest.raises(DataError, match="another tokenizer"):
        opened(tmp_path / "s", Other())
    path = tmp_path / "s" / "tokens.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="its manifest says"):
        opened(tmp_path / "s")


def test_sentences_are_made_once_and_again_for_other_text_rules_or_tokenizer(tmp_path, monkeypatch):
    (tmp_path / "text").mkdir()
    for name in "abc":
        (tmp_path / "text" / f"{name}.txt").write_text(PROSE)
    text = TextConfig(train=str(tmp_path / "text"), cache=str(tmp_path / "cache"))
    first = prepare_sentences(text, SentencesConfig(), ByteTokenizer(), "train")
    held = prepare_sentences(text, SentencesConfig(), ByteTokenizer(), "valid")
    assert first.documents + held.documents == 3
    with monkeypatch.context() as patch:
        patch.setattr(sentences, "write_sentences", None)
        again = prepare_sentences(text, SentencesConfig(), ByteTokenizer(), "train")
    assert again.file.folder == first.file.folder and again.digest == first.digest

    class Other(ByteTokenizer):
        digest = "other"

    others = [
        prepare_sentences(text, SentencesConfig(chapters=True), ByteTokenizer(), "train"),
        prepare_sentences(text, SentencesConfig(), Other(), "train"),
    ]
    for name in "abc":
        (tmp_path / "text" / f"{name}.txt").write_text(PROSE + "More.")
    others.append(prepare_sentences(text, SentencesConfig(), ByteTokenizer(), "train"))
    assert len({first.file.folder, *(other.file.folder for other in others)}) == 4
    assert len({first.digest, *(other.digest for other in others)}) == 4


def test_tokens_that_do_not_give_their_text_back_are_not_cut_into_sentences(tmp_path):
    subject = build(TokenizerConfig(kind="wordpiece", vocab=30), lambda: [PROSE])
    subject.save(tmp_path / "tokenizer")
    for part in ("train", "valid"):
        write_tokens([Document(part, PROSE)], subject, tmp_path / part)
    text = TextConfig(train=str(tmp_path), cache=str(tmp_path / "cache"))
    said = f"train holds wordpiece tokens.*name the text itself, and tokenizer.path={tmp_path}/tok"
    with pytest.raises(DataError, match=said):
        prepare_sentences(text, SentencesConfig(), subject, "train")
    assert not (tmp_path / "cache").exists()


def test_text_that_is_not_utf8_stops_with_file_and_byte(tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"One. Two \xff.")
    text = TextConfig(train=str(tmp_path / "bad.txt"), cache=str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"bad\.txt: not UTF-8 at byte 9"):
        prepare_sentences(text, SentencesConfig(), ByteTokenizer(), "train")


def test_a_document_of_no_paragraphs_cannot_be_asked_for():
    with pytest.raises(ConfigError, match="paragraphs must be positive"):
        SentencesConfig(paragraphs=0)


def test_the_manifest_names_the_digest_of_the_index(tmp_path):
    written(tmp_path / "s")
    assert isinstance(json.loads((tmp_path / "s" / "manifest.json").read_text())["sentences"], int)
