import gzip
import json
import random

import pytest

from lm.core.errors import DataError
from lm.text.tokenizer import TokenizerConfig, build
from tests.text.tokenizers import DATA, HARD, published, tokenizer


def lines(count):
    path = DATA / "web_samples" / "c4_demo.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        texts = [line for row in file for line in json.loads(row)["text"].split("\n")]
    return random.Random(0).sample(texts, count)


def test_gpt2_has_its_published_ids():
    gpt2 = tokenizer("gpt2")
    assert gpt2.encode("Hello world") == [15496, 995]
    assert gpt2.encode("Hello  world\n\n") == [15496, 220, 995, 628]
    assert gpt2.encode("<|endoftext|>") == [27, 91, 437, 1659, 5239, 91, 29]
    assert (gpt2.vocab_size, gpt2.end, gpt2.pad) == (50_257, 50_256, None)


def test_gpt1_has_its_published_ids():
    gpt1 = tokenizer("gpt1")
    assert (gpt1.vocab_size, gpt1.pad) == (40_478, None)
    assert gpt1.encode("Hello WORLD") == gpt1.encode("hello world")
    assert gpt1.decode(gpt1.encode("The cat sat,  on\nthe mat.")) == "the cat sat , on the mat ."
    assert gpt1.decode(gpt1.encode("unbelievably")) == "unbelievably"


def test_wordpiece_has_its_published_ids():
    bert = tokenizer("wordpiece")
    assert bert.specials == {"pad": 0, "unk": 100, "cls": 101, "sep": 102, "mask": 103, "end": 102}
    assert (bert.vocab_size, bert.pad, bert.end) == (30_522, 0, 102)
    assert bert.encode("Hello, world!") == [7592, 1010, 2088, 999]
    assert bert.encode("unaffable") == [14477, 20961, 3468]  # un ##aff ##able, the paper's example
    assert bert.decode(bert.encode("Café unaffable")) == "cafe unaffable"
    assert bert.encode("x" * 101) == [100]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("gpt2", "GPT2Tokenizer"),
        ("gpt1", "OpenAIGPTTokenizer"),
        ("wordpiece", "BertTokenizer"),
    ],
)
@pytest.mark.slow
def test_ids_equal_those_of_transformers(kind, name, tmp_path):
    transformers = pytest.importorskip("transformers")
    subject = tokenizer(kind)
    subject.save(tmp_path)
    theirs = getattr(transformers, name).from_pretrained(tmp_path)
    for text in [*lines(300), *(text for text in HARD if "<" not in text and "[" not in text)]:
        assert subject.encode(text) == theirs.encode(text, add_special_tokens=False), text


def test_plain_files_under_either_name_give_the_same_tokenizer(tmp_path):
    folder = published("gpt2")
    for name, saved in (("vocab.json", "encoder.json.gz"), ("merges.txt", "vocab.bpe.gz")):
        (tmp_path / name).write_bytes(gzip.decompress((folder / saved).read_bytes()))
    again = build(TokenizerConfig(kind="gpt2", path=str(tmp_path)), list)
    assert again.digest == tokenizer("gpt2").digest


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
