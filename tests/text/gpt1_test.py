from tests.text.tokenizers import tokenizer


def test_gpt1_has_its_published_ids():
    gpt1 = tokenizer("gpt1")
    assert (gpt1.vocab_size, gpt1.pad) == (40_478, None)
    assert gpt1.encode("Hello WORLD") == gpt1.encode("hello world")
    assert gpt1.decode(gpt1.encode("The cat sat,  on\nthe mat.")) == "the cat sat , on the mat ."
    assert gpt1.decode(gpt1.encode("unbelievably")) == "unbelievably"
