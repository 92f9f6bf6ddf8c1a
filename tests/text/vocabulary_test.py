import gzip

import pytest

from lm.core.errors import DataError
from lm.text.tokenizer import TokenizerConfig, build


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", b"{", r"vocab\.json is not JSON"),
        ("vocab.json", b'{"a": 0, "b": 2}', "does not give its pieces the ids 0, 1, 2"),
        ("vocab.json", b'{"a": 0}', "no gpt2 vocabulary: '<|endoftext|>' is not among its 1"),
        ("merges.txt", b"#version: 0.2\na b c\n", r"merges\.txt:2: 'a b c' is not a merge"),
        ("merges.txt", None, r"no vocab\.bpe or merges\.txt \(or \.gz\) in"),
    ],
)
def test_damaged_vocabulary_files_are_named(tmp_path, name, content, message):
    pytest.importorskip("tokenizers")
    (tmp_path / "vocab.json").write_text('{"a": 0, "<|endoftext|>": 1}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message.replace("<|", r"<\|").replace("|>", r"\|>")):
        build(TokenizerConfig(kind="gpt2", path=str(tmp_path)), list)


def test_a_gzip_file_cut_short_is_named(tmp_path):
    pytest.importorskip("tokenizers")
    (tmp_path / "vocab.txt.gz").write_bytes(gzip.compress(b"[PAD]\n" * 50)[:-9])
    with pytest.raises(DataError, match=r"cannot read the vocabulary .*vocab\.txt\.gz"):
        build(TokenizerConfig(kind="wordpiece", path=str(tmp_path)), list)
