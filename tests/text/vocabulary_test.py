import gzip
import json
from collections import Counter

import pytest

from lm.core.errors import ConfigError, DataError
from lm.text import gpt1, wordpiece
from lm.text.tokenizer import TokenizerConfig, build
from lm.text.vocabulary import learn
from tests.text.tokenizers import BYTE_LEVEL


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", b"{", r"vocab\.json is not JSON"),
        ("vocab.json", b'{"a": 0, "b": 2}', "does not give its pieces the ids 0, 1, 2"),
        ("vocab.json", b'{"a": 0}', "no gpt2 vocabulary: '<|endoftext|>' is not among its 1"),
        ("merges.txt", b"#version: 0.2\na b c\n", r"merges\.txt:2: 'a b c' is not a merge"),
        (
            "merges.txt",
            b"#version: 0.2\na b\n",
            "the merge 'a' 'b' is not of this vocabulary, which has no 'b'",
        ),
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


def test_lines_that_end_as_windows_ends_them_and_a_mark_before_them_change_nothing(tmp_path):
    pytest.importorskip("tokenizers")

    def made(kind, name, text):
        (tmp_path / name).write_bytes(text.encode())
        return build(TokenizerConfig(kind=kind, path=str(tmp_path)), list)

    merges = "#version: 0.2\na b\nab c\n"
    words = "".join(
        f"{word}\n" for word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "y", "z")
    )
    (tmp_path / "vocab.json").write_text(
        json.dumps({piece: i for i, piece in enumerate(["a", "b", "c", "ab", "abc", END])})
    )
    for kind, name, text, said, ids in (
        ("gpt2", "merges.txt", merges, "abcab", [4, 3]),
        ("wordpiece", "vocab.txt", words, "y z", [5, 6]),
    ):
        plain = made(kind, name, text)
        assert plain.encode(said) == ids
        for changed in (text.replace("\n", "\r\n"), "\ufeff" + text):
            other = made(kind, name, changed)
            assert other.encode(said) == ids and other.digest == plain.digest


def test_a_gzip_file_cut_short_is_named(tmp_path):
    pytest.importorskip("tokenizers")
    (tmp_path / "vocab.txt.gz").write_bytes(gzip.compress(b"[PAD]\n" * 50)[:-9])
    with pytest.raises(DataError, match=r"cannot read the vocabulary .*vocab\.txt\.gz"):
        build(TokenizerConfig(kind="wordpiece", path=str(tmp_path)), list)


END = "<|endoftext|>"
TEXT = """
it was a dark and stormy night; the rain fell in torrents, except at occasional intervals, when it
was checked by a violent gust of wind which swept up the streets, rattling along the housetops, and
fiercely agitating the scanty flame of the lamps that struggled against the darkness.
"""


def merged_slowly(words, ids, vocab, inner="", last="", least=False):
    """Byte-pair encoding by its definition: count all pairs, join the commonest, begin again.

    Of equal counts the pair of the smallest ids goes first. `least` joins the rarest instead.
    """
    ids, merges = dict(ids), []
    split = [
        [("" if not i else inner) + c + (last if i == len(word) - 1 else "")
         for i, c in enumerate(word)] for word in words
    ]  # fmt: skip
    while len(ids) < vocab:
        counts = Counter(pair for word in split for pair in zip(word, word[1:], strict=False))
        kept = {pair: count for pair, count in counts.items() if count > 1}
        sign = 1 if least else -1
        left, right = min(kept, key=lambda p: (sign * kept[p], ids[p[0]], ids[p[1]]))
        merges.append((left, right))
        joined = left + right.removeprefix(inner)
        ids[joined] = len(ids)
        for word in split:
            at = 0
            while at + 1 < len(word):
                if (word[at], word[at + 1]) == (left, right):
                    word[at : at + 2] = [joined]
                at += 1
    return list(ids), merges


@pytest.mark.parametrize("inner, last", [("", "</w>"), ("##", ""), ("", "")])
def test_learned_merges_equal_those_of_the_written_out_definition(inner, last):
    library = pytest.importorskip("tokenizers")
    encoder = library.Tokenizer(
        library.models.BPE(continuing_subword_prefix=inner, end_of_word_suffix=last)
    )
    encoder.normalizer = library.normalizers.Lowercase()
    encoder.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    text, vocab = 3 * TEXT, 110
    pieces, merges = learn(encoder, lambda: [text], vocab, ("<unk>",), inner=inner, last=last)
    begin = len(pieces) - len(merges)
    ids = {piece: number for number, piece in enumerate(pieces[:begin])}
    assert len(merges) > 30
    assert merged_slowly(text.split(), ids, vocab, inner, last) == (pieces, merges)
    other = merged_slowly(text.split(), ids, vocab, inner, last, least=True)  # the control
    assert other[1] != merges


@pytest.mark.parametrize("train, least", [(wordpiece.train, 15), (gpt1.train, 9)])
def test_a_vocabulary_below_its_specials_and_characters_names_one_that_holds_them(train, least):
    pytest.importorskip("tokenizers"), pytest.importorskip("ftfy")
    with pytest.raises(ConfigError, match=rf"tokenizer\.vocab=3 is too small .* {least} or more$"):
        train(lambda: [TEXT] * 3, 3)
    assert train(lambda: [TEXT] * 3, least).vocab_size == least


VOCAB = {"<|endoftext|>": 0, "a": 1, "b": 2, "ab": 3}


@pytest.mark.parametrize("merges", [[["a", "b"]], ["a b"]], ids=["pairs", "texts"])
def test_merges_of_one_file_of_json_are_pairs_or_texts(tmp_path, merges):
    pytest.importorskip("tokenizers")
    model = {"type": "BPE", "vocab": VOCAB, "merges": merges}
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"pre_tokenizer": BYTE_LEVEL, "model": model})
    )
    tokenizer = build(TokenizerConfig(kind="gpt2", path=str(tmp_path)), list)
    assert tokenizer.encode("abba") == [3, 2, 1]


@pytest.mark.parametrize(
    "whole, message",
    [
        ([], "holds no vocabulary"),
        ({"model": {"type": "BPE"}}, "holds no vocabulary"),
        ({"model": {"type": "BPE", "vocab": {"a": 1}}}, "does not give its pieces the ids 0"),
        ({"model": {"type": "WordPiece", "vocab": VOCAB}}, "holds a WordPiece vocabulary, not BPE"),
        ({"model": {"type": "BPE", "vocab": VOCAB, "merges": ["ab"]}}, "holds no merges"),
    ],
)
def test_a_file_of_json_that_holds_another_vocabulary_or_none_is_named(tmp_path, whole, message):
    pytest.importorskip("tokenizers")
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(DataError, match=f"tokenizer.json {message}"):
        build(TokenizerConfig(kind="gpt2", path=str(tmp_path)), list)
