import time

import numpy as np
import pytest

from lm.core.errors import DataError
from lm.data import token_writer
from lm.data.sources import Document
from lm.data.token_file import TokenFile
from lm.data.token_writer import write_tokens
from lm.data.tokens import TextConfig, prepare
from lm.text.byte import ByteTokenizer
from tests.text.tokenizers import HARD, PROSE, tokenizer

CODE = "".join(f"def f{i}(x):\r\n    return  x\n\n\nclass  C{i}: pass\n" for i in range(90))
TEXTS = [PROSE, CODE, "", "x" * 500, "\n" * 300, "".join(HARD) * 9, " a" * 200]


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece", "gpt2", "gpt1", "wordpiece"])
def test_a_document_encoded_in_pieces_has_the_ids_it_has_whole(tmp_path, monkeypatch, kind):
    subject = tokenizer(kind)
    monkeypatch.setattr(token_writer, "PIECE", 40)
    monkeypatch.setattr(token_writer, "CALL", 300)
    write_tokens([Document(str(i), t) for i, t in enumerate(TEXTS)], subject, tmp_path / "t")
    file = TokenFile.open(
        tmp_path / "t", vocab_size=subject.vocab_size, tokenizer_digest=subject.digest
    )
    file.verify()
    found = [part.tolist() for part in np.split(file.tokens, file.documents[1:])]
    for text, ids in zip(TEXTS, found, strict=True):
        if text not in ("x" * 500, "\n" * 300):  # where there is no seam, a cut may show
            assert ids == [*subject.encode(text), subject.end]
        elif subject.lossless:
            assert subject.decode(ids) == text


def test_text_is_read_back_from_a_folder_of_tokens(tmp_path):
    subject = tokenizer("sentencepiece")
    subject.save(tmp_path / "tokenizer")
    for part, texts in (("train", HARD), ("valid", HARD[::-1])):
        write_tokens([Document(part, text) for text in texts], subject, tmp_path / part)
    config = TextConfig(train=str(tmp_path))
    assert [d.text for d in config.documents("train")] == HARD
    assert [d.text for d in config.documents("valid")] == HARD[::-1]
    with pytest.raises(DataError, match=f"another tokenizer.*set tokenizer.path={tmp_path}/tok"):
        prepare(config, ByteTokenizer())


@pytest.mark.parametrize("change", ["short", "moved", "junk"])
def test_an_index_that_does_not_fit_its_tokens_is_found_by_verify(tmp_path, change):
    subject = ByteTokenizer()
    write_tokens([Document("", "one"), Document("", "two")], subject, tmp_path / "t")
    path = tmp_path / "t" / "documents.npy"
    if change == "junk":
        path.write_bytes(b"junk")
    else:
        np.save(path, np.array([0] if change == "short" else [0, 3]))
    file = TokenFile.open(tmp_path / "t", vocab_size=None, tokenizer_digest=None)
    with pytest.raises(DataError, match=r"documents\.npy is damaged"):
        file.verify()


def test_tokens_that_are_not_the_manifests_are_noticed_at_open(tmp_path):
    write_tokens([Document("", "x" * 99)], ByteTokenizer(), tmp_path / "t")
    np.full(100, 60_000, np.uint16).tofile(tmp_path / "t" / "tokens.bin")
    with pytest.raises(DataError, match=r"block 0 \(tokens from 0\) is damaged"):
        TokenFile.open(tmp_path / "t", vocab_size=269, tokenizer_digest=None)


def test_long_work_is_told_as_it_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(token_writer, "TOLD", 0.0)
    monkeypatch.setattr(token_writer, "CALL", 1)
    lines: list[str] = []
    texts = (Document("", "some text") for _ in range(3) if time.sleep(0.001) is None)
    write_tokens(texts, ByteTokenizer(), tmp_path / "t", report=lines.append)
    assert len(lines) == 3 and "30 tokens" in lines[-1]
