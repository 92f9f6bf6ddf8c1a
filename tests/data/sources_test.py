import gzip
import json
import os
from pathlib import Path

import pytest

from lm.core.errors import DataError
from lm.data import sources
from lm.data.reading import content
from lm.data.sources import (
    Document,
    content_digest,
    documents,
    files,
    fingerprint,
    refuse_among,
    together,
)
from lm.data.token_writer import write_tokens
from lm.data.tokens import TextConfig
from lm.evals.fewshot.reading import whole
from lm.evals.parallel import pairs
from lm.evals.zeroshot.dialogues import read_coqa
from lm.text.byte import ByteTokenizer


def texts(spec, **options):
    return [document.text for document in documents(str(spec), **options)]


def test_text_that_is_not_utf8_stops_with_file_and_byte(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"caf\xc3\xa9 \xff!")
    with pytest.raises(DataError, match=rf"{path}: not UTF-8 at byte 6;.*--errors=replace"):
        texts(path)
    assert texts(path, on_error="replace") == ["café \ufffd!"]


def test_bom_crlf_nul_and_a_last_line_without_end_are_kept(tmp_path):
    text = "\ufeffone\r\ntwo\rthree\x00\n\n  four \x1a"
    (tmp_path / "a.txt").write_bytes(text.encode())
    assert texts(tmp_path / "a.txt") == [text]


def test_a_text_file_is_one_document_plain_or_gzipped(tmp_path):
    (tmp_path / "a.txt").write_text("plain")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"zipped"))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'{"text": "one"}\n\n{"text": "two"}'))
    (tmp_path / "d.bin").write_bytes(b"\xff")
    assert texts(tmp_path) == ["plain", "zipped", "one", "two"]


def test_files_folders_and_globs_are_taken_in_their_order_each_sorted(tmp_path):
    for name in ("b.txt", "a.txt", "sub/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert texts(tmp_path) == ["a.txt", "b.txt", "sub/c.txt"]
    assert texts(f"{tmp_path}/sub, {tmp_path}/*.txt") == ["sub/c.txt", "a.txt", "b.txt"]


def test_the_standard_library_is_read_without_its_tests():
    names = [str(path) for path in files("stdlib:")]
    assert len(names) > 300 and names == sorted(names)
    assert not any("/test/" in name or "site-packages" in name for name in names)


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("stdlib:", ["a.py", "json/b.py", "json/deep/er/d.py", "json/sitecustomize.py"]),
        ("stdlib:*.py", ["a.py"]),
        ("stdlib:*/**/*.py", ["json/b.py", "json/deep/er/d.py", "json/sitecustomize.py"]),
        ("stdlib:**/deep/**/d.py", ["json/deep/er/d.py"]),
        (
            "stdlib:json/**",
            ["json/b.py", "json/c.txt", "json/deep/er/d.py", "json/sitecustomize.py"],
        ),
    ],
)
def test_what_is_installed_beside_the_standard_library_is_not_looked_through(
    tmp_path, monkeypatch, spec, names
):
    for name in (
        *["a.py", "json/b.py", "json/c.txt", "json/deep/er/d.py", "json/sitecustomize.py"],
        *["json/test/e.py", "site-packages/f.py", "site-packages/json/deep/d.py", "test/g.py"],
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "json" / "link").symlink_to("deep")
    looked, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(Path(path).name) or scandir(path))
    monkeypatch.setattr(sources.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    assert [str(path.relative_to(tmp_path)) for path in files(spec)] == names
    assert not {"site-packages", "test"} & set(looked)


@pytest.mark.parametrize(
    "spec",
    ["absent", "{}/empty", "{}/*.none", "{}/a.txt,", " ", ",{}/a.txt", "~nobody-of-this-name/a"],
)
def test_nothing_found_is_an_error(tmp_path, monkeypatch, spec):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("a")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no text in"):
        texts(spec.format(tmp_path))


@pytest.mark.parametrize("cut", [12, 30, -1])
def test_a_damaged_gzip_file_is_named(tmp_path, cut):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(bytes(range(128)) * 3)[:cut])
    with pytest.raises(DataError, match=str(path)):
        texts(path)
    path.write_bytes(b"no gzip at all")
    with pytest.raises(DataError, match=str(path)):
        texts(path)


def test_the_first_five_malformed_records_are_named_and_the_others_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    bad = ["{", '{"words": "x"}', '{"text": 3}', "[]", "null", '"text"', "\ufeff{}", "NaN"]
    path.write_text("\n".join(['{"text": "fine"}', "", *bad]) + "\n")
    with pytest.raises(DataError) as caught:
        texts(path)
    told = str(caught.value)
    assert f'{path}:3: not JSON in UTF-8; {path}:4: missing "text"; {path}:5: missing' in told
    assert f"{path}:7:" in told and f"{path}:8:" not in told
    assert told.endswith(" and 3 more") and "\n" not in told


def test_a_lone_surrogate_or_wrong_bytes_in_a_record_stop_or_are_replaced(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a\\ud800b \\ud83d\\ude00"}\n{"text": "c\xffd"}\n')
    with pytest.raises(
        DataError, match=f"{path}:1: not JSON in UTF-8; {path}:2: not JSON in UTF-8"
    ):
        texts(path)
    assert texts(path, on_error="replace") == ["a\ufffdb \U0001f600", "c\ufffdd"]


def test_the_fingerprint_changes_with_the_files(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    before = fingerprint(str(tmp_path))
    assert fingerprint(str(tmp_path)) == before
    (tmp_path / "a.txt").write_text("ab")
    changed = fingerprint(str(tmp_path))
    (tmp_path / "b.txt").write_text("")
    assert len({before, changed, fingerprint(str(tmp_path))}) == 3


def test_a_record_that_is_too_long_is_left_out_counted_and_told_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sources.reading, "LONGEST", 1 << 20)
    path = tmp_path / "a.jsonl"
    long = json.dumps({"text": "x" * (3 << 20)})
    fits = json.dumps({"text": "y" * ((1 << 20) - 12)})
    assert len(fits) == 1 << 20
    path.write_text("\n".join(['{"text": "one"}', long, fits, long, '{"text": "two"}', long]))
    for _ in range(2):
        assert [text[:3] for text in texts(path)] == ["one", "yyy", "two"]
    assert capsys.readouterr().err == f"warning: {path}: 3 lines above 1 MiB are left out\n"


def test_a_list_longer_than_a_file_name_is_a_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"{'long' * 10}{n}.txt" for n in range(9)]
    for name in names:
        (tmp_path / name).write_text(name)
    spec = ",".join(names)
    assert len(spec) > 255 and texts(spec) == names
    assert TextConfig(train=spec).made_by_tokenize("train") is None
    with pytest.raises(DataError, match="it is not a file"):
        texts("x" * 300)


def test_what_files_hold_is_the_same_in_a_copy_and_another_where_a_byte_differs(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rows.jsonl").write_text("{}\n")
    copies = [content_digest(str(tmp_path / folder)) for folder in ("a", "b")]
    assert copies[0] == copies[1]
    (tmp_path / "b" / "rows.jsonl").write_text("[]\n")
    assert content_digest(str(tmp_path / "b")) != copies[0]


def test_a_file_with_a_comma_in_its_name_stands_alone_and_is_no_two_files(tmp_path):
    odd, even, other = (tmp_path / name for name in ("a,b.txt", "c.txt", "d.txt"))
    odd.write_text("a")
    even.write_text("c")
    other.write_text("d")
    assert together([str(odd)]) == str(odd)
    listed = f"{even},{other}"  # a list is no name
    assert together([listed, str(even)]) == f"{listed},{even}"
    with pytest.raises(DataError, match="a,b.txt' has a comma in its name .*rename it"):
        together([str(odd), str(even)])
    alone = [content_digest(str(even), str(other)), content_digest(listed)]
    assert alone[0] == alone[1] != content_digest(str(odd), str(even))


def test_what_is_written_into_a_folder_of_the_texts_is_refused(tmp_path):
    books = tmp_path / "books"
    (books / "old").mkdir(parents=True)
    (books / "a.txt").write_text("text")
    for spec in (str(books), f"stdlib:,{books}", f"{books}/**/*.txt"):
        for out in (books / "out", books / "old" / "out"):
            with pytest.raises(DataError, match=rf"out is in {books}, of which every text is read"):
                refuse_among([None, spec], out)
        refuse_among([spec, f"{books}/a.txt"], tmp_path / "books_out")


@pytest.mark.parametrize("below", ["", "train"])
def test_tokens_named_among_texts_are_no_text(tmp_path, below):
    write_tokens([Document("a", "text")], ByteTokenizer(), tmp_path / "tokens" / below)
    (tmp_path / "tokens" / "vocab.txt").write_text("##s")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match="tokens' holds tokens: name the text they were made from"):
        files(f"{tmp_path}/tokens,{tmp_path}/a.txt")
    (tmp_path / "other").mkdir()
    for name in ("manifest.json", "b.txt"):  # of something else
        (tmp_path / "other" / name).write_text("{}")
    assert files(str(tmp_path / "other")) == [tmp_path / "other" / "b.txt"]


READERS = [content, whole, read_coqa, lambda path: pairs(path, path)]


@pytest.mark.parametrize("read", READERS, ids=["content", "whole", "read_coqa", "pairs"])
def test_a_damaged_gzip_file_is_named_whoever_reads_it(tmp_path, read):
    packed = gzip.compress(b'{"data": [1]}\n' * 99)
    path = tmp_path / "a.json.gz"
    changed = bytearray(packed)
    changed[len(packed) // 2] ^= 0xFF
    for damaged in (packed[:-9], bytes(changed), b"no gzip at all"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a.json.gz: damaged gzip .*; copy it again"):
            read(path)
    with pytest.raises(DataError, match="cannot read .*gone.gz: No such file"):
        read(tmp_path / "gone.gz")


def test_a_name_says_in_capitals_too_what_a_file_is_and_what_is_no_text_is_told(tmp_path, capsys):
    (tmp_path / "A.TXT").write_text("a")
    (tmp_path / "B.JSONL").write_text('{"text": "b"}\n')
    (tmp_path / "C.TXT.GZ").write_bytes(gzip.compress(b"c"))
    (tmp_path / ".git").mkdir()
    for name in ("x.parquet", "Y.Parquet", "rows.json", "LICENSE", ".git/x.pack", ".hidden"):
        (tmp_path / name).write_text("[1]")
    for _ in range(2):
        assert texts(tmp_path) == ["a", "b", "c"]
    told = "1 .json, 2 .parquet, 1 without an ending; a .json is where it is named"
    assert capsys.readouterr().err == f"{tmp_path}: files that are no text are not read: {told}\n"


@pytest.mark.parametrize("end", [".json", ".JSON", ".json.gz"])
def test_a_json_is_rows_one_list_or_one_a_line(tmp_path, end):
    several = [{"text": "one"}, {"text": "two"}]
    for written in (json.dumps(several, indent=1), "\n".join(map(json.dumps, several))):
        path = tmp_path / f"a{end}"
        path.write_bytes(gzip.compress(written.encode()) if end == ".json.gz" else written.encode())
        assert texts(path) == ["one", "two"]


def test_a_row_of_a_list_is_named_and_a_list_that_breaks_off_too(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(' \n[{"text": "one"}, {"words": 2}, 3, {"text": "\\ud800"}]')
    with pytest.raises(DataError, match='a.json: row 2: missing "text"; .*: row 3: .*: row 4: not'):
        texts(path)
    path.write_text('[{"text": "one"},')
    with pytest.raises(DataError, match="a.json: begins as a list and is not JSON in UTF-8"):
        texts(path)
    path.write_bytes(b'[{"text": "\xff"}]')
    assert texts(path, on_error="replace") == ["\ufffd"]


def test_a_pattern_of_the_library_is_read_as_a_path_is():
    plain = files("stdlib:json/*.py")
    assert plain and files("stdlib:json//*.py") == files("stdlib:./json/*.py") == plain
    for pattern in ("/etc/*", "."):
        with pytest.raises(DataError, match="no text in"):
            files(f"stdlib:{pattern}")


def test_of_many_endings_that_are_not_read_a_few_are_told(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("a")
    for number in range(30):
        (tmp_path / f"mail.{number}").write_text("b")
    assert len(files(str(tmp_path))) == 1
    said = "".join(capsys.readouterr())
    assert "and 25 other endings" in said and len(said) < 400
