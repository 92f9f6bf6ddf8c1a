import io

import pytest
import sentencepiece

from lm.core.errors import ConfigError, DataError
from lm.data.sources import Document
from lm.data.token_file import TokenFile
from lm.data.token_writer import write_tokens
from lm.text import vocabulary
from lm.text.interface import SPECIALS
from lm.text.sentencepiece import SentencePieceTokenizer, read, train
from lm.text.tokenizer import TokenizerConfig, build
from tests.text.tokenizers import DATA, PROSE, tokenizer


def test_specials_come_first_in_their_order():
    subject = tokenizer("sentencepiece")
    assert subject.specials == {name: i for i, name in enumerate(SPECIALS)}
    assert subject.vocab_size == 420


def test_the_same_text_gives_the_same_model():
    assert train(lambda: [PROSE], 330).digest == train(lambda: [PROSE], 330).digest


def test_very_long_lines_are_learned_from_as_well():
    subject = train(lambda: ["abracadabra " * 2000], 285)
    assert len(subject.encode("abracadabra abracadabra")) < 12


def test_of_a_text_above_the_limit_only_its_beginning_is_learned_from(monkeypatch):
    whole = PROSE + "\n" + "zyx" * 3000
    monkeypatch.setattr(vocabulary, "LIMIT", len(PROSE))
    cut = train(lambda: [whole, "wvu" * 3000], 330)
    assert cut.digest == train(lambda: [PROSE], 330).digest


@pytest.mark.parametrize("vocab", [3, 5, 100])
def test_a_vocabulary_too_small_for_the_text_names_one_that_is_not(vocab):
    with pytest.raises(ConfigError, match=rf"tokenizer\.vocab={vocab} .*use at least \d+"):
        train(lambda: [PROSE], vocab)


def test_a_text_that_cannot_fill_a_vocabulary_has_one_of_all_that_it_fills(capsys):
    few = "red\ngreen\n" * 50
    found = train(lambda: [few], 400)
    told = f"warning: the text fills {found.vocab_size} of 400 pieces: learning these\n"
    assert found.vocab_size < 400 and capsys.readouterr().err == told
    assert found.digest == train(lambda: [few], found.vocab_size).digest
    assert len(found.encode("red")) == 1 and capsys.readouterr().err == ""


def test_no_text_to_train_on_is_an_error():
    for texts in ([], [""], ["\n\n"]):
        with pytest.raises(DataError, match="no text to train a tokenizer on"):
            train(lambda texts=texts: texts, 400)


def test_a_damaged_model_is_named(tmp_path):
    path = tmp_path / "spiece.model"
    model = tokenizer("sentencepiece").files()["spiece.model"]
    for data in (b"", model[: len(model) // 2], b"no model"):
        path.write_bytes(data)
        with pytest.raises(DataError, match=f"{path} is not a sentencepiece model"):
            read(tmp_path)


def test_a_published_model_is_read_with_its_own_specials():
    path = DATA / "vocab_sentencepiece" / "spiece.model"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    subject = build(TokenizerConfig(kind="sentencepiece", path=str(path)), list)
    assert subject.vocab_size == 30_000 and not subject.lossless
    assert subject.specials["cls"] == 2 and subject.end == subject.specials["sep"] == 3
    assert subject.pad == 0 and subject.specials["unk"] == 1
    ids = subject.encode("hello world [SEP]")
    assert 3 not in ids and ids[:2] == [10975, 126]
    assert subject.decode([2, *ids[:2], 3]) == "hello world"


def test_a_model_that_puts_a_blank_before_every_text_gives_the_text_back(tmp_path):
    """LLaMA's kind: identity, bytes, and a dummy prefix, which is none of the text."""
    lines = ["the cat sat on the mat", "hello world this is text", "some other words"] * 20
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=made, model_type="bpe", vocab_size=320,
        byte_fallback=True, normalization_rule_name="identity", add_dummy_prefix=True,
        remove_extra_whitespaces=False, minloglevel=2, num_threads=1,
    )  # fmt: skip
    tokenizer = SentencePieceTokenizer(made.getvalue())
    for text in ("the cat", " the cat", "a \U0001f600"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert not tokenizer.lossless
    long = "the cat sat on " * 8_000
    write_tokens([Document("long", long)], tokenizer, tmp_path / "tokens", report=str)
    file = TokenFile.open(
        tmp_path / "tokens", vocab_size=tokenizer.vocab_size, tokenizer_digest=tokenizer.digest
    )
    assert file.tokens.tolist() == [*tokenizer.encode(long), tokenizer.end]
