import json
import resource
import sys

import numpy as np
import pytest

from lm.core.errors import ConfigError, DataError
from lm.data import token_file, token_writer, tokens
from lm.data.sources import Document, tell
from lm.data.token_file import TokenFile, Verification
from lm.data.token_writer import write_tokens
from lm.data.tokens import TextConfig, prepare
from lm.text.byte import ByteTokenizer

TEXTS = ["one", "", "zwei \x00\r\n", "drei 😀"]


def opened(folder, **changes):
    tokenizer = ByteTokenizer()
    asked = {"vocab_size": tokenizer.vocab_size, "tokenizer_digest": tokenizer.digest} | changes
    return TokenFile.open(folder, **asked)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for module in (token_file, token_writer):
        monkeypatch.setattr(module, "BLOCK", 8)
    write_tokens(
        [Document(str(i), t) for i, t in enumerate(TEXTS)], ByteTokenizer(), tmp_path / "t"
    )
    return tmp_path / "t"


def edit(folder, **changes):
    """Changes a manifest as that of an earlier version, which has no checksum."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({n: v for n, v in manifest.items() if n != "checksum"}))


def test_documents_follow_one_another_each_with_an_end(folder):
    tokenizer, file = ByteTokenizer(), opened(folder)
    expected = [i for text in TEXTS for i in [*text.encode(), tokenizer.end]]
    assert file.tokens.tolist() == expected and file.tokens.dtype == np.uint16
    assert file.documents.tolist() == [0, 4, 5, 14]
    assert file.bytes == sum(len(text.encode()) for text in TEXTS)
    assert file.manifest["documents"] == 4 and file.manifest["max_id"] == tokenizer.end
    file.verify()


@pytest.mark.parametrize("change", [-1, -2, 1, 2])
def test_a_file_of_another_length_is_refused_at_open(folder, change):
    path = folder / "tokens.bin"
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + bytes(change))
    with pytest.raises(
        DataError, match=rf"has {len(data) + change} bytes, its manifest says {len(data)}"
    ):
        opened(folder)


def test_another_tokenizer_is_refused_with_sizes_and_digests(folder):
    with pytest.raises(
        DataError, match="another tokenizer: vocabulary 269, digest .*this one: 300, abc"
    ):
        opened(folder, vocab_size=300, tokenizer_digest="abc")


def test_ids_that_the_vocabulary_lacks_are_refused(folder):
    edit(folder, max_id=269)
    with pytest.raises(DataError, match="id 269 is not below the vocabulary 269"):
        opened(folder)


@pytest.mark.parametrize("documents", [[], [Document("a", "")], [Document("a", "")] * 3])
def test_empty_text_is_refused_and_nothing_is_left(tmp_path, documents):
    with pytest.raises(DataError, match="no text to tokenize in here"):
        write_tokens(documents, ByteTokenizer(), tmp_path / "t", "here")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("position", [0, 17, 33, -1])
def test_a_flipped_bit_is_found_by_verify_which_names_the_block(folder, position):
    path = folder / "tokens.bin"
    data = bytearray(path.read_bytes())
    data[position] ^= 4
    path.write_bytes(data)
    block = (position % len(data)) // 16
    with pytest.raises(DataError, match=rf"block {block} \(tokens from {8 * block}\) is damaged"):
        opened(folder).verify()


def test_a_file_in_use_is_read_whole_beside_it(folder):
    def check(share=(0, 1)):
        with Verification([opened(folder)], share) as verification:
            verification.thread.join()
            verification.check()

    check()
    data = bytearray((folder / "tokens.bin").read_bytes())
    data[16] ^= 1  # still an id, so that opening the file does not see it
    (folder / "tokens.bin").write_bytes(data)
    with pytest.raises(DataError, match="block 1 .* is damaged"):
        check()
    with pytest.raises(DataError, match="block 1 .* is damaged"):
        check(share=(1, 2))
    check(share=(0, 2))  # the other process's


def test_blocks_without_a_digest_are_not_taken_for_whole(folder):
    edit(folder, blocks=json.loads((folder / "manifest.json").read_text())["blocks"][:-1])
    with pytest.raises(DataError):
        opened(folder).verify()


@pytest.mark.parametrize("text", ["", "[]", "{}", "\xff", '{"length": "x", "dtype": "uint16"}'])
def test_a_damaged_manifest_is_refused(folder, text):
    (folder / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"manifest\.json cannot be read"):
        opened(folder)


def test_a_bit_that_flips_in_a_manifest_is_damage_or_changes_nothing_that_is_said(folder):
    path, manifest = folder / "manifest.json", opened(folder).manifest
    whole = path.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place % 7)
        path.write_bytes(flipped)
        try:
            found = opened(folder).manifest
        except DataError:
            continue
        assert all(found[name] == manifest[name] for name in manifest if name != "checksum")


@pytest.mark.parametrize("name", ["tokenizer", "max_id", "vocab_size"])
def test_a_manifest_that_lacks_a_name_is_refused(folder, name):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest[name], manifest["checksum"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"manifest\.json cannot be read"):
        opened(folder)


def test_a_missing_folder_says_how_to_make_it(tmp_path):
    with pytest.raises(DataError, match="No such file or directory; make it with launch.tokenize"):
        opened(tmp_path / "absent")


def test_a_write_that_fails_leaves_nothing(tmp_path):
    def failing():
        yield Document("a", "text" * token_writer.TOGETHER)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tokens(failing(), ByteTokenizer(), tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("texts", [["text " * 3000], [""] * 1500 + ["text"]])  # tokens, index
def test_a_full_disk_is_one_line_that_names_the_folder_and_leaves_nothing(
    tmp_path, monkeypatch, texts
):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # it would be cut off too
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))  # bytes of a file
    try:
        with pytest.raises(DataError, match=f"cannot write {tmp_path}/t: .*; make room there"):
            write_tokens([Document("a", text) for text in texts], ByteTokenizer(), tmp_path / "t")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_the_second_of_two_writers_keeps_what_the_first_made(folder):
    write_tokens([Document("a", "other")], ByteTokenizer(), folder)
    assert opened(folder).bytes == sum(len(text.encode()) for text in TEXTS)
    assert [path.name for path in folder.parent.iterdir()] == ["t"]


def test_a_vocabulary_over_16_bits_is_kept_in_32(tmp_path):
    class Wide(ByteTokenizer):
        def __init__(self):
            super().__init__()
            self.vocab_size, self.end = 70_000, 69_999

    write_tokens([Document("a", "text")], Wide(), tmp_path / "t")
    file = opened(tmp_path / "t", vocab_size=70_000, tokenizer_digest=Wide().digest)
    assert file.tokens.dtype == np.uint32 and file.tokens[-1] == 69_999


def test_prepared_text_is_made_once_and_again_when_it_changes(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("some text to learn from")
    config = TextConfig(train=str(tmp_path / "a.txt"), cache=str(tmp_path / "cache"))
    ((_, train, *_),), valid = prepare(config, ByteTokenizer())
    assert train.bytes + valid.bytes == 23
    made = sorted((tmp_path / "cache").rglob("tokens.bin"))
    monkeypatch.setattr(tokens, "write_tokens", None)
    assert prepare(config, ByteTokenizer())[0][0].file.digest == train.digest
    monkeypatch.undo()
    (tmp_path / "a.txt").write_text("some other text to learn from")
    assert prepare(config, ByteTokenizer())[0][0].file.digest != train.digest
    assert len(made) == 2 and len(sorted((tmp_path / "cache").rglob("tokens.bin"))) == 4


def test_a_copy_of_the_text_that_is_learned_from_is_told_where_it_is_measured_on(tmp_path, capsys):
    for name, text in (("a", "once"), ("copy", "once"), ("other", "twice")):
        (tmp_path / f"{name}.txt").write_text(f"{text} upon a time")
    for valid, said in (("a", 1), ("copy", 1), ("other", 0)):
        tell.cache_clear()
        some = {"train": f"{tmp_path}/a.txt", "valid": f"{tmp_path}/{valid}.txt"}
        prepare(TextConfig(**some, cache=str(tmp_path / "cache")), ByteTokenizer())
        told = capsys.readouterr().err
        assert told.count("warning: data.valid is what is learned from: its figures say") == said


def test_a_share_that_is_not_what_was_asked_is_told_where_documents_are_few(tmp_path):
    def told(sizes, **config):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for number, size in enumerate(sizes):
            (folder / f"{number}.txt").write_text("x" * size)
        found = []
        config = TextConfig(train=str(folder), cache=str(tmp_path / "cache"), **config)
        _, valid = prepare(config, ByteTokenizer(), found.append)
        lines = [line for line in found if "held out" in line]
        return lines, valid.bytes / sum(sizes)

    for sizes in ([500, 500], [1000, 10], [10, 1000]):  # of which half, much or little is held out
        (line,), share = told(sizes)
        assert f"held out {share:.0%} of the text" in line and "has 2 documents" in line
        assert "data.valid_fraction asks 10%" in line and "set data.valid" in line
    assert told([500, 500], valid_fraction=0.5)[0] == []
    assert told([1000])[0] == []  # whose end is held out
    for sizes in ([2], [2, 0]):  # of which no less can be held out
        (line,), _ = told(sizes)
        assert "held out 50%" in line and "one short document, whose end is held out" in line
        assert "2 documents" not in line and "held out whole" not in line
    assert told([10] * 101)[0] == []
    (tmp_path / "valid.txt").write_text("y")
    assert told([500, 500], valid=str(tmp_path / "valid.txt"))[0] == []


def test_a_folder_of_tokenize_is_read_as_it_is_and_a_part_is_never_both(tmp_path):
    for part in ("train", "valid"):
        write_tokens([Document(part, part * 3)], ByteTokenizer(), tmp_path / part)
    ((_, train, *_),), valid = prepare(TextConfig(train=str(tmp_path)), ByteTokenizer())
    assert (train.folder.name, valid.folder.name) == ("train", "valid")
    both = TextConfig(train=str(tmp_path / "train"), valid=str(tmp_path / "valid"))
    assert prepare(both, ByteTokenizer())[1].folder.name == "valid"
    with pytest.raises(DataError, match="data.valid"):
        prepare(TextConfig(train=str(tmp_path / "train")), ByteTokenizer())


@pytest.mark.parametrize("made", ["train", "valid"])
def test_tokens_of_one_part_stand_beside_text_of_the_other(tmp_path, made):
    write_tokens([Document("a", "tokens")], ByteTokenizer(), tmp_path / "made")
    (tmp_path / "a.txt").write_text("some text")
    names = {"train": str(tmp_path / "a.txt"), "valid": str(tmp_path / "a.txt")}
    config = TextConfig(**names | {made: str(tmp_path / "made")}, cache=str(tmp_path / "cache"))
    ((_, train, *_),), valid = prepare(config, ByteTokenizer())
    sizes = {"train": train.bytes, "valid": valid.bytes}
    assert sizes == {"train": 9, "valid": 9} | {made: 6}


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_the_held_out_share_lies_between_none_and_all(fraction):
    with pytest.raises(ConfigError, match="valid_fraction must be above 0 and below 1"):
        TextConfig(valid_fraction=fraction)
    with pytest.raises(ConfigError, match=r"data\.train is empty"):
        TextConfig(train="")
