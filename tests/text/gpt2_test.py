import gzip

import pytest

from lm.text.tokenizer import TokenizerConfig, build
from tests.text.tokenizers import HARD, published, tokenizer, web_lines


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


@pytest.mark.slow
def test_ids_equal_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    subject = tokenizer("gpt2")
    subject.save(tmp_path)
    theirs = transformers.GPT2Tokenizer.from_pretrained(tmp_path)
    for text in [*web_lines(300), *(text for text in HARD if "<" not in text)]:
        assert subject.encode(text) == theirs.encode(text, add_special_tokens=False), text
