import json
import re
import string
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings

from lm.core.errors import ConfigError, DataError
from lm.text.tokenizer import TokenizerConfig, build, load
from lm.text.wordpiece import OPTIONS, SPECIALS, WordPieceTokenizer, read, train
from tests.text.tokenizers import HARD, PROSE, TEXT, data_lines, script_lines, tokenizer, web_lines

pytest.importorskip("tokenizers")

GOLDEN = Path(__file__).parent / "golden" / "bert_ids.jsonl"
# a file that nobody edits: two processes read it, and one of them later than the other
LICENSE = Path(__file__).parents[2] / "LICENSE"
ENGLISH = [
    PROSE,
    LICENSE.read_text(),
    "unhappily happy Unhappy happier, the happiest! 漢字 漢字\n" * 9,
]
CHINESE = re.compile(
    "[\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f"
    "\U0002b740-\U0002b81f\U0002b820-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f]"
)


def pieces(subject):
    return subject.files()["vocab.txt"].decode().split("\n")[:-1]


def learned(vocab=400, **options):
    return train(lambda: ENGLISH, vocab, **options)


def test_published_ids():
    bert = tokenizer("wordpiece")
    assert bert.specials == {"pad": 0, "unk": 100, "cls": 101, "sep": 102, "mask": 103, "end": 102}
    assert (bert.vocab_size, bert.pad, bert.end) == (30_522, 0, 102)
    assert bert.encode("Hello, world!") == [7592, 1010, 2088, 999]
    assert bert.encode("unaffable") == [14477, 20961, 3468]  # un ##aff ##able, the paper's example
    assert bert.decode(bert.encode("Café unaffable")) == "cafe unaffable"
    assert len(bert.encode("x" * 200)) > 1 and bert.encode("x" * 201) == [100]


def test_a_learned_vocabulary_has_the_specials_first_and_as_many_pieces_as_asked_for():
    subject = learned(vocab=400)
    assert subject.vocab_size == 400 == len(set(pieces(subject)))
    assert tuple(pieces(subject)[:5]) == tuple(SPECIALS.values())
    assert subject.specials == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4, "end": 3}


def test_frequent_words_are_one_piece_and_their_parts_are_shared():
    subject = learned(vocab=400)
    assert {"the", "quick", "happ", "##y"} <= set(pieces(subject))
    assert len(subject.encode("the quick fox")) == 3
    assert subject.decode(subject.encode("Unhappily")) == "unhappily"


def test_the_same_text_gives_the_same_pieces_in_the_same_order():
    code = (
        "from tests.text.wordpiece_test import learned\n"
        "print(learned().digest, learned(cased=True).digest)"
    )
    # another process has another order of hashes, here and in the library
    words = [sys.executable, "-c", code]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert out == [learned().digest, learned(cased=True).digest]


def test_marks_and_chinese_characters_get_no_piece_that_continues_a_word():
    found = pieces(learned(vocab=400))
    assert {",", "!", "漢"} <= set(found) and not {"##,", "##!", "##漢"} & set(found)


def test_every_word_of_the_text_is_spelled_where_its_characters_fit():
    subject = learned(vocab=400)
    assert subject.specials["unk"] not in [i for text in ENGLISH for i in subject.encode(text)]
    assert subject.encode("żółw") == [subject.specials["unk"]]


def test_case_is_kept_only_where_that_is_asked_for(tmp_path):
    cased, lower = learned(cased=True), learned()
    assert cased.decode(cased.encode("Unhappily the GPT")) == "Unhappily the GPT"
    assert lower.decode(lower.encode("Unhappily the GPT")) == "unhappily the gpt"
    assert cased.digest != lower.digest
    cased.save(tmp_path)
    assert load(tmp_path).encode_batch(HARD) == cased.encode_batch(HARD)
    assert load(tmp_path).digest == cased.digest


def test_case_is_part_of_the_digest_where_the_pieces_are_the_same(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIALS.values(), "a", "b"]))
    digests = {
        build(TokenizerConfig(kind="wordpiece", path=str(tmp_path), cased=cased), list).digest
        for cased in (False, True)
    }
    assert len(digests) == 2


def test_a_case_that_contradicts_the_files_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIALS.values(), "a"]))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    with pytest.raises(ConfigError, match=r"words are cased.*--set tokenizer\.cased=True"):
        build(TokenizerConfig(kind="wordpiece", path=str(tmp_path)), list)
    learned().save(tmp_path / "saved")
    with pytest.raises(ConfigError, match=r"lower-cased.*--set tokenizer\.cased=False"):
        build(TokenizerConfig(kind="wordpiece", path=str(tmp_path / "saved"), cased=True), list)
    (tmp_path / "tokenizer_config.json").write_text("[")
    with pytest.raises(DataError, match=r"tokenizer_config\.json is not a JSON object"):
        build(TokenizerConfig(kind="wordpiece", path=str(tmp_path)), list)


@pytest.mark.parametrize("cased", [False, True])
def test_what_a_learned_vocabulary_decoded_once_stays(cased):
    subject = learned(cased=cased)

    @given(TEXT)
    @settings(max_examples=60)
    def check(text):
        once = subject.decode(subject.encode(text))
        assert subject.decode(subject.encode(once)) == once

    check()


def test_a_text_that_cannot_fill_a_vocabulary_has_one_of_all_that_it_fills(capsys):
    found = learned(vocab=5000)
    told = f"warning: the text fills {found.vocab_size} of 5000 pieces: learning these\n"
    assert found.vocab_size < 5000 and capsys.readouterr().err == told
    assert found.digest == learned(vocab=found.vocab_size).digest
    assert capsys.readouterr().err == ""


def test_no_text_to_train_on_is_an_error():
    for texts in ([], [""], [" \n"]):
        with pytest.raises(DataError, match="no text to train a tokenizer on"):
            train(lambda texts=texts: texts, 100)


def many_lines() -> list[str]:
    """2,000 lines of English, German, French, the web, and ten scripts."""
    translated = [
        line for name in ("en", "de", "fr") for line in data_lines(f"multi30k/val.{name}.gz")[:400]
    ]
    return [*translated, *web_lines(300), *script_lines(50)]


def test_ids_of_several_scripts_equal_those_of_transformers():
    """The golden ids are those of `BertTokenizer` of transformers 5.23.0 with the published
    vocabulary, for `script_lines` and for lines of a novel in the public domain."""
    rows = [json.loads(row) for row in GOLDEN.read_text().splitlines()]
    subject = tokenizer("wordpiece")
    assert len(rows) > 150 and sum(not text.isascii() for text, _ in rows) > 50
    for text, ids in rows:
        assert subject.encode(text) == ids, text


def released(text, vocab, lower):
    """The ids that tokenization.py of google-research/bert gives (commit 0ac97f3), written out.

    There `str.lower` makes a final sigma of a capital one at the end of a word; here none is final.
    """
    category = unicodedata.category
    dropped = {"\0", "\ufffd", *(c for c in set(text) if category(c) in ("Cc", "Cf"))}
    text = "".join(c for c in text if c not in dropped - set("\t\n\r"))
    text = "".join(" " if c in "\t\n\r" or category(c) == "Zs" else c for c in text)
    words = []
    for word in CHINESE.sub(r" \g<0> ", text).split():
        if lower:
            word = unicodedata.normalize("NFD", word.replace("Σ", "σ").lower())
            word = "".join(c for c in word if category(c) != "Mn")
        words += "".join(
            f" {c} " if c in string.punctuation or category(c)[0] == "P" else c for c in word
        ).split()
    return [i for word in words for i in longest_first(word, vocab)]


def longest_first(word, vocab):
    found, start = [], 0
    while start < len(word) <= 200:
        fits = (end for end in range(len(word), start, -1)
                if "##" * (start > 0) + word[start:end] in vocab)  # fmt: skip
        if not (end := next(fits, 0)):
            break
        found.append(vocab["##" * (start > 0) + word[start:end]])
        start = end
    return found if start == len(word) else [vocab["[UNK]"]]


@pytest.mark.parametrize("cased", [False, True])
def test_ids_equal_those_of_the_released_algorithm_written_out(cased):
    words = pieces(tokenizer("wordpiece"))
    subject = WordPieceTokenizer(words, cased=cased)
    vocab = {word: i for i, word in enumerate(words)}
    long = [f"http://{'a' * n} {'1' * n}" for n in (100, 101, 200, 201)]
    lines = [*many_lines(), *HARD, *long, "ΟΔΟΣ ΣΑΣ."]
    assert len(lines) > 2000
    for text, ids in zip(lines, subject.encode_batch(lines), strict=True):
        assert ids == released(text, vocab, not cased), text


def test_a_capital_sigma_that_ends_a_word_is_no_final_one():
    subject = tokenizer("wordpiece")
    assert "ΟΔΟΣ".lower() == "οδος"  # the released code's
    assert subject.encode("ΟΔΟΣ") == subject.encode("οδοσ") != subject.encode("οδος")


def test_what_is_beside_a_vocabulary_says_up_to_what_length_words_are_spelled(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIALS.values(), "x", "##x"]))
    alone = read(tmp_path)
    assert (len(alone.encode("x" * 200)), len(alone.encode("x" * 201))) == (200, 1)
    # Hugging Face's files say the case alone, as do those of earlier runs
    (tmp_path / OPTIONS).write_text('{"do_lower_case": true}\n')
    earlier = read(tmp_path)
    assert (len(earlier.encode("x" * 100)), len(earlier.encode("x" * 101))) == (100, 1)
    assert json.loads(earlier.files()[OPTIONS]) == {"do_lower_case": True}
    assert earlier.digest != alone.digest
    for subject in (alone, earlier):
        subject.save(tmp_path / "saved")
        assert load(tmp_path / "saved").encode("x" * 150) == subject.encode("x" * 150)


OTHERWISE = [  # options, a text, and its pieces with them
    ({"do_lower_case": True, "strip_accents": False}, "Café", ["café"]),
    ({"do_lower_case": False, "strip_accents": True}, "Café", ["Cafe"]),
    ({"do_lower_case": True, "tokenize_chinese_chars": False}, "漢字", ["漢", "##字"]),
    ({"do_lower_case": True}, "Café漢字", ["cafe", "漢", "字"]),
    ({"do_lower_case": True, "strip_accents": True}, "Café", ["cafe"]),
    ({"do_lower_case": False, "strip_accents": None}, "Café", ["Café"]),
]


@pytest.mark.parametrize("options, text, expected", OTHERWISE)
@pytest.mark.parametrize("whole", [False, True])
def test_what_is_said_of_accents_and_chinese_characters_is_done_and_kept(
    tmp_path, options, text, expected, whole
):
    words = [*SPECIALS.values(), "cafe", "café", "Cafe", "Café", "漢", "字", "##字"]
    if whole:  # with another name for each in the one file of all
        names = {"lowercase": "do_lower_case", "handle_chinese_chars": "tokenize_chinese_chars"}
        said = {name: options.get(names.get(name, name)) for name in (*names, "strip_accents")}
        model = {"type": "WordPiece", "vocab": {word: i for i, word in enumerate(words)}}
        made = {"normalizer": {"type": "BertNormalizer"} | said, "model": model}
        (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    else:
        (tmp_path / "vocab.txt").write_text("\n".join(words))
        (tmp_path / OPTIONS).write_text(json.dumps(options))
    subject = read(tmp_path)
    assert [words[i] for i in subject.encode(text)] == expected
    subject.save(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.digest == subject.digest and again.encode(text) == subject.encode(text)
    plain = WordPieceTokenizer(words, cased=not options["do_lower_case"], longest=100)
    assert (plain.digest == subject.digest) == (plain.encode(text) == subject.encode(text))


def test_the_tokenizer_of_an_earlier_run_is_loaded_as_it_was(tmp_path):
    digest = "d0faf05467bf9a7fb4f51e7cdb7959a641e7c2567e55e27eb06a0ae966f38056"
    (tmp_path / "vocab.txt").write_text("".join(f"{p}\n" for p in (*SPECIALS.values(), "x", "##x")))
    (tmp_path / OPTIONS).write_text('{"do_lower_case": true}\n')
    specials = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4, "end": 3}
    manifest = {"format": 1, "kind": "wordpiece", "specials": specials, "digest": digest}
    (tmp_path / "lm_tokenizer.json").write_text(json.dumps(manifest))
    assert load(tmp_path).encode("x" * 101) == [1]


@pytest.mark.slow
def test_ids_of_2000_lines_equal_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer("wordpiece").save(tmp_path)
    lines = [line for line in many_lines() if "[" not in line]
    assert len(lines) > 1900
    for cased in (False, True):
        (tmp_path / OPTIONS).write_text(json.dumps({"do_lower_case": not cased}))
        config = TokenizerConfig(kind="wordpiece", path=str(tmp_path / "vocab.txt"), cased=cased)
        theirs = transformers.BertTokenizer.from_pretrained(tmp_path)
        for text, ids in zip(lines, build(config, list).encode_batch(lines), strict=True):
            assert ids == theirs.encode(text, add_special_tokens=False), text


@pytest.mark.slow
def test_a_saved_vocabulary_is_read_by_transformers_with_its_case(tmp_path):
    transformers = pytest.importorskip("transformers")
    for subject in (learned(), learned(cased=True), tokenizer("wordpiece")):
        subject.save(tmp_path)
        theirs = transformers.BertTokenizer.from_pretrained(tmp_path)
        for text in ENGLISH:
            assert subject.encode(text) == theirs.encode(text, add_special_tokens=False)
