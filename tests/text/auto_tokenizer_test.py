"""What is written for AutoTokenizer has our ids, or nothing that it could read."""

import json

import pytest

from lm.core.errors import DataError
from lm.text import auto_tokenizer
from lm.text.byte import ByteTokenizer
from lm.text.dialogue import Chat, conversation
from lm.text.tokenizer import TokenizerConfig, build
from tests.text.tokenizers import HARD, PROSE, learned_gpt2, tokenizer

library = pytest.importorskip("tokenizers")


def test_a_sentencepiece_of_ours_is_written_with_its_own_ids():
    ours = tokenizer("sentencepiece")
    files = auto_tokenizer.files(ours)
    theirs = library.Tokenizer.from_str(files["tokenizer.json"].decode())
    for text in (PROSE, *HARD):
        if "\u2581" not in text:
            assert theirs.encode(text).ids == ours.encode(text), text
            assert theirs.decode(ours.encode(text)) == text
    told = json.loads(files["tokenizer_config.json"])
    assert ours.specials["end"] == theirs.token_to_id(told["eos_token"])


def test_a_vocabulary_that_comes_out_otherwise_is_not_written(monkeypatch):
    ours = tokenizer("sentencepiece")
    pieces = ours.pieces()
    monkeypatch.setattr(ours, "pieces", lambda: [(p, s and -s) for p, s in pieces])
    for one in (ours, ByteTokenizer()):
        (name,) = files = auto_tokenizer.files(one)
        assert name == "tokenizer_config.json" and auto_tokenizer.NONE.encode() in files[name]


def given(files, folder):
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_markers_behind_gpt2_s_vocabulary_are_written_with_their_ids(tmp_path):
    ours = Chat(learned_gpt2(tmp_path / "gpt2")).tokenizer
    files = auto_tokenizer.files(ours, in_turns=True)
    theirs = library.Tokenizer.from_str(files["tokenizer.json"].decode())
    assert theirs.get_vocab_size() == ours.vocab_size
    assert theirs.encode("<|im_start|><|user|> a").ids[:2] == [
        ours.specials["im_start"],
        ours.specials["user"],
    ]
    for text in (PROSE, "  \n a <b", "\u2581 \U0001f600"):
        assert theirs.encode(text).ids == ours.encode(text)
        assert theirs.decode(ours.encode(text)) == text
    found = build(TokenizerConfig(kind="gpt2", path=str(given(files, tmp_path / "back"))), list)
    assert found.digest == ours.digest
    assert b"chat_template" not in auto_tokenizer.files(ours)["tokenizer_config.json"]


def test_markers_behind_another_vocabulary_are_not_written(tmp_path):
    gpt1 = Chat(tokenizer("gpt1")).tokenizer
    (name,) = files = auto_tokenizer.files(gpt1, in_turns=True)
    assert auto_tokenizer.NONE.encode() in files[name]


def test_a_sentencepiece_is_read_from_what_transformers_keeps_of_its_files(tmp_path):
    ours = tokenizer("sentencepiece")
    files = auto_tokenizer.files(ours)
    config = TokenizerConfig(kind="sentencepiece", path=str(given(files, tmp_path / "kept")))
    found = build(config, list)
    assert found.digest == ours.digest
    whole = json.loads(files["tokenizer.json"])
    whole["added_tokens"].append({"id": ours.vocab_size, "content": "[X]", "special": True})
    (tmp_path / "kept" / "tokenizer.json").write_text(json.dumps(whole))
    assert build(config, list).specials == ours.specials | {"[X]": ours.vocab_size}
    whole["normalizer"] = {"type": "Lowercase"}
    (tmp_path / "kept" / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(DataError, match="its normalizer or pre-tokenizer is another"):
        build(config, list)
    options = json.loads(files["tokenizer_config.json"]) | {"sentencepiece_model": "=x"}
    (tmp_path / "kept" / "tokenizer_config.json").write_text(json.dumps(options))
    with pytest.raises(DataError, match=r"tokenizer_config\.json is damaged"):
        build(config, list)


def test_pieces_of_a_sentencepiece_without_its_model_say_what_is_missing(tmp_path):
    files = auto_tokenizer.files(tokenizer("sentencepiece"))
    folder = given({"tokenizer.json": files["tokenizer.json"]}, tmp_path / "kept")
    with pytest.raises(DataError, match=r"model alone: put that beside.*spiece\.model with lm_"):
        build(TokenizerConfig(kind="gpt2", path=str(folder)), list)


TURNS = [
    {"role": "user", "content": "  The quick\n\nfox \u2014 "},
    {"role": "assistant", "content": "It jumps.\n"},
    {"role": "user", "content": [{"type": "text", "text": text} for text in (" Does", "it?")]},
]
FIRST = ([], [{"role": "system", "content": "Be brief."}], [{"role": "developer", "content": ""}])
REFUSED = (
    TURNS[1:],
    TURNS[:1] * 2,
    [TURNS[0] | {"content": "a<|im_end|>"}],
    [TURNS[0] | {"role": "tool"}],
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "sentencepiece"])
def test_the_chat_template_gives_the_ids_of_our_dialogues(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    base = tokenizer(kind) if kind == "sentencepiece" else learned_gpt2(tmp_path / "gpt2")
    chat = Chat(base)
    files = auto_tokenizer.files(chat.tokenizer, in_turns=True)
    theirs = transformers.AutoTokenizer.from_pretrained(given(files, tmp_path / "files"))
    assert len(theirs) == chat.tokenizer.vocab_size
    for first in FIRST:
        turns = first + TURNS
        ids = theirs.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
        assert ids == chat.prompt(conversation(turns))
        ids = theirs.apply_chat_template(turns[:-1])["input_ids"]
        assert ids == chat.encode(conversation(turns[:-1])).tokens.tolist()
        assert "jumps" in theirs.decode(ids) and "<|" not in theirs.decode(ids, True)
    for wrong in REFUSED:
        with pytest.raises(Exception, match="message"):
            theirs.apply_chat_template(wrong)
    theirs.save_pretrained(tmp_path / "kept")
    assert not (tmp_path / "kept" / "lm_tokenizer.json").exists()
    found = build(TokenizerConfig(kind=kind, path=str(tmp_path / "kept")), list)
    assert found.digest == chat.tokenizer.digest
