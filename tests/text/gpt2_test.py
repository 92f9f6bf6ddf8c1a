import gzip
import json
import math

import pytest

from lm.core.errors import DataError
from lm.text.tokenizer import TokenizerConfig, build
from tests.text.tokenizers import BYTE_LEVEL, HARD, published, script_lines, tokenizer, web_lines


def test_gpt2_has_its_published_ids():
    gpt2 = tokenizer("gpt2")
    assert gpt2.encode("Hello world") == [15496, 995]
    assert gpt2.encode("Hello  world\n\n") == [15496, 220, 995, 628]
    assert gpt2.encode("<|endoftext|>") == [27, 91, 437, 1659, 5239, 91, 29]
    assert (gpt2.vocab_size, gpt2.end, gpt2.pad) == (50_257, 50_256, None)


def test_plain_files_under_either_name_give_the_same_tokenizer(tmp_path):
    folder = published("gpt2")
    for name, saved in (("vocab.json", "encoder.json.gz"), ("merges.txt", "vocab.bpe.gz")):
        (tmp_path / name).write_bytes(gzip.decompress((folder / saved).read_bytes()))
    again = build(TokenizerConfig(kind="gpt2", path=str(tmp_path)), list)
    assert again.digest == tokenizer("gpt2").digest


@pytest.mark.parametrize("whole", [False, True])
def test_a_blank_before_each_text_is_refused_unless_it_is_said_to_be_none(tmp_path, whole):
    option = {"add_prefix_space": True}
    if whole:
        model = {"type": "BPE", "vocab": {"<|endoftext|>": 0, "a": 1}, "merges": []}
        made = {"pre_tokenizer": BYTE_LEVEL | option, "model": model}
        (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    else:
        (tmp_path / "vocab.json").write_text('{"<|endoftext|>": 0, "a": 1}')
        (tmp_path / "merges.txt").write_text("")
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(option))
    config = TokenizerConfig(kind="gpt2", path=str(tmp_path))
    with pytest.raises(DataError, match="says add_prefix_space=true.*set it to false there"):
        build(config, list)
    (tmp_path / "tokenizer_config.json").write_text('{"add_prefix_space": false}')
    assert build(config, list).encode("a") == [1]


def released(subject):
    """`encode` of encoder.py of openai/gpt-2, written out: text to ids."""
    import regex

    files = {name: data.decode() for name, data in subject.files().items()}
    vocab = json.loads(files["vocab.json"])
    merges = [tuple(line.split()) for line in files["merges.txt"].split("\n")[1:-1]]
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = {byte: chr(byte) for byte in shown}
    letters |= {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    split = regex.compile(
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    )

    def merged(word):
        while len(word) > 1:
            pair = min(zip(word, word[1:], strict=False), key=lambda p: ranks.get(p, math.inf))
            if pair not in ranks:
                break
            after, n = [], 0
            while n < len(word):
                both = tuple(word[n : n + 2]) == pair
                after.append("".join(pair) if both else word[n])
                n += 1 + both
            word = after
        return word

    def encode(text):
        words = ([letters[byte] for byte in word.encode()] for word in split.findall(text))
        return [vocab[piece] for word in words for piece in merged(word)]

    return encode


@pytest.mark.slow  # regex comes with transformers
def test_ids_equal_those_of_the_released_algorithm_written_out():
    subject = tokenizer("gpt2")
    encode = released(subject)
    lines = [*web_lines(300), *script_lines(50), *HARD, "I've  they'LL\n\n  we'd 1st²½ "]
    assert len(lines) > 800
    for text, ids in zip(lines, subject.encode_batch(lines), strict=True):
        assert ids == encode(text), text


@pytest.mark.slow
def test_ids_equal_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    subject = tokenizer("gpt2")
    subject.save(tmp_path)
    theirs = transformers.GPT2Tokenizer.from_pretrained(tmp_path)
    for text in [*web_lines(300), *(text for text in HARD if "<" not in text)]:
        assert subject.encode(text) == theirs.encode(text, add_special_tokens=False), text
