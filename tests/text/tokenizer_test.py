import json
import subprocess
import sys

import pytest
from hypothesis import given, settings

from lm.core.errors import ConfigError, DataError
from lm.text.byte import ByteTokenizer
from lm.text.interface import SPECIALS
from lm.text.tokenizer import TokenizerConfig, build, load
from tests.text.tokenizers import HARD, KINDS, LOSSLESS, TEXT, published, tokenizer


@pytest.mark.parametrize("kind", LOSSLESS)
def test_hard_text_comes_back_as_it_was(kind):
    for text in HARD:
        ids = tokenizer(kind).encode(text)
        assert tokenizer(kind).decode(ids) == text
        assert tokenizer(kind).decode_bytes(ids) == text.encode()


@pytest.mark.parametrize("kind", LOSSLESS)
def test_any_text_comes_back_as_it_was(kind):
    subject = tokenizer(kind)

    @given(TEXT)
    @settings(max_examples=60)
    def check(text):
        assert subject.lossless and subject.decode(subject.encode(text)) == text

    check()


@pytest.mark.parametrize("kind", ["gpt1", "wordpiece"])
def test_what_a_lossy_vocabulary_decoded_once_stays(kind):
    subject = tokenizer(kind)

    @given(TEXT)
    @settings(max_examples=60)
    def check(text):
        once = subject.decode(subject.encode(text))
        assert subject.decode(subject.encode(once)) == once

    assert not subject.lossless
    check()


@pytest.mark.parametrize("kind", KINDS)
def test_text_that_spells_a_special_is_text(kind):
    subject = tokenizer(kind)
    specials = {i for name, i in subject.specials.items() if name != "unk"} | {subject.end}
    for text in (*SPECIALS.values(), *HARD):
        assert not specials & set(subject.encode(text)), text


@pytest.mark.parametrize("kind", KINDS)
def test_ids_lie_below_the_vocabulary_and_pad_is_never_the_end(kind):
    subject = tokenizer(kind)
    ids = [i for text in HARD for i in subject.encode(text)]
    assert 0 <= min(ids) and max(ids) < subject.vocab_size
    assert 0 <= subject.end < subject.vocab_size and subject.pad != subject.end
    assert all(0 <= i < subject.vocab_size for i in subject.specials.values())


@pytest.mark.parametrize("kind", KINDS)
def test_specials_decode_to_nothing(kind):
    subject = tokenizer(kind)
    ids = subject.encode("some text")
    mixed = [subject.end, *ids, *subject.specials.values()]
    assert subject.decode(mixed) == subject.decode(ids) == "some text"


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_texts_one_by_one(kind):
    subject = tokenizer(kind)
    each = [subject.encode(text) for text in HARD]
    assert subject.encode_batch(HARD) == each
    assert [ids.tolist() for ids in subject.encode_arrays(HARD)] == each
    assert subject.encode_batch([]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_lone_surrogate_is_refused(kind):
    with pytest.raises(DataError, match=r"lone surrogate U\+D83D at character 3.*--errors=replace"):
        tokenizer(kind).encode_batch(["fine", "abc\ud83d"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_id_of_another_vocabulary_is_refused(kind):
    subject = tokenizer(kind)
    for wrong in (subject.vocab_size, -1):
        with pytest.raises(DataError, match=f"id {wrong} is not in the .* of {subject.vocab_size}"):
            subject.decode([wrong])


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tokenizer_is_the_same_when_loaded(kind, tmp_path):
    subject = tokenizer(kind)
    subject.save(tmp_path / "t")
    again = load(tmp_path / "t")
    assert again.digest == subject.digest and len(again.digest) == 64
    assert again.kind == kind and again.specials == subject.specials
    assert again.encode_batch(HARD) == subject.encode_batch(HARD)
    by_path = (
        build(TokenizerConfig(kind=kind, path=str(tmp_path / "t")), list)
        if kind != "bytes"
        else again
    )
    assert by_path.digest == subject.digest


def test_tokenizers_of_different_kinds_have_different_digests():
    digests = [tokenizer(kind).digest for kind in ("bytes", "sentencepiece")]
    assert len(set(digests)) == 2 and ByteTokenizer().digest == digests[0]


def test_a_saved_tokenizer_that_was_changed_is_refused(tmp_path):
    tokenizer("sentencepiece").save(tmp_path)
    manifest = tmp_path / "lm_tokenizer.json"
    saved = manifest.read_text()
    manifest.write_text(saved.replace(json.loads(saved)["digest"], "0" * 64))
    with pytest.raises(DataError, match="was changed after it was saved.*manifest 000000000000"):
        load(tmp_path)
    manifest.write_text(saved[:40])
    with pytest.raises(DataError, match=r"lm_tokenizer\.json is damaged"):
        load(tmp_path)
    manifest.write_text(saved.replace('"format": 1', '"format": 9'))
    with pytest.raises(DataError, match="has format 9, this program reads 1"):
        load(tmp_path)
    manifest.unlink()
    with pytest.raises(DataError, match=r"no tokenizer in .*lm_tokenizer\.json is missing"):
        load(tmp_path)


def test_the_ids_of_bytes_are_the_bytes():
    subject = ByteTokenizer()
    assert subject.encode("aé") == [97, 0xC3, 0xA9]
    assert subject.vocab_size == 256 + len(SPECIALS)
    assert subject.decode([0xC3]) == "\ufffd" and subject.decode_bytes([0xC3]) == b"\xc3"


def test_of_a_prompt_the_newest_ids_stay_and_none_where_there_is_no_room():
    tokenizer = ByteTokenizer()
    cuts = {room: tokenizer.cut([1, 2, 3], room) for room in (4, 3, 2, 0, -2)}
    assert cuts == {4: [1, 2, 3], 3: [1, 2, 3], 2: [2, 3], 0: [], -2: []}


def test_byte_level_bpe_needs_a_path():
    with pytest.raises(ConfigError, match="kind='gpt2' with tokenizer.path=None"):
        TokenizerConfig(kind="gpt2")


def test_a_path_that_does_not_fit_its_kind_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="kind='bytes' with tokenizer.path='x'"):
        TokenizerConfig(kind="bytes", path="x")
    with pytest.raises(DataError, match="absent: no such file or folder"):
        build(TokenizerConfig(kind="gpt2", path=str(tmp_path / "absent")), list)
    tokenizer("bytes").save(tmp_path)
    with pytest.raises(ConfigError, match="holds a bytes tokenizer, tokenizer.kind is 'gpt2'"):
        build(TokenizerConfig(kind="gpt2", path=str(tmp_path)), list)


def test_the_text_is_read_only_where_a_tokenizer_is_trained():
    def texts():
        raise AssertionError("read")

    assert build(TokenizerConfig(), texts).kind == "bytes"
    with pytest.raises(AssertionError, match="read"):
        build(TokenizerConfig(kind="sentencepiece"), texts)


def test_a_missing_library_is_one_line_that_names_the_extra(monkeypatch):
    folder = published("gpt2")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError, match=r"need the package tokenizers: pip install 'lm\[text\]'"):
        build(TokenizerConfig(kind="gpt2", path=str(folder)), list)


def test_importing_needs_neither_jax_nor_the_libraries():
    code = (
        "import sys, lm.text.tokenizer, lm.data.tokens\n"
        "print({'jax', 'tokenizers', 'sentencepiece'} & sys.modules.keys())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
