import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.core.errors import DataError
from lm.text.byte import ByteTokenizer
from lm.text.dialogue import (
    DIALOGUE_SPECIALS,
    Chat,
    Message,
    as_objects,
    check_order,
    conversation,
)
from lm.text.interface import SPECIALS
from lm.text.tokenizer import load
from tests.text.tokenizers import HARD, KINDS, LOSSLESS, TEXT, tokenizer

CHAT = Chat(ByteTokenizer())
SPELLED = {i: f"<{name}>" for name, i in ByteTokenizer().specials.items()}


def turns(*said):
    """Turns of user and assistant, the user first; one that begins with `!` is the system's."""
    system = [Message("system", said[0][1:])] if said[0].startswith("!") else []
    spoken = said[len(system) :]
    roles = ("user", "assistant")
    return (*system, *(Message(roles[n % 2], text) for n, text in enumerate(spoken)))


def written(row):
    """Tokens one by one, specials by name; what is learned stands between [ and ]."""
    told = "".join(
        f"[{SPELLED.get(i, chr(i))}]" if learned else SPELLED.get(i, chr(i))
        for i, learned in zip(row.tokens.tolist(), row.learned.tolist(), strict=True)
    )
    return told.replace("][", "")


U, A, S, E = "<im_start><user>", "<im_start><assistant>", "<im_start><system>", "<im_end>"
GOLDEN = {
    "one turn": (turns("hi", "yo"), f"{U}hi{E}{A}[yo{E}]"),
    "two turns": (turns("a", "b", "c", "d"), f"{U}a{E}{A}[b{E}]{U}c{E}{A}[d{E}]"),
    "three turns": (
        turns("a", "b", "c", "d", "e", "f"),
        f"{U}a{E}{A}[b{E}]{U}c{E}{A}[d{E}]{U}e{E}{A}[f{E}]",
    ),
    "four turns after the system's": (
        turns("!s", "a", "b", "c", "d", "e", "f", "g", "h"),
        f"{S}s{E}{U}a{E}{A}[b{E}]{U}c{E}{A}[d{E}]{U}e{E}{A}[f{E}]{U}g{E}{A}[h{E}]",
    ),
    "empty turns": (turns("!", "", "", "", "x"), f"{S}{E}{U}{E}{A}{E}{U}{E}{A}[x{E}]"),
    "blank turns": (turns("a", " \n", "b", " "), f"{U}a{E}{A} \n{E}{U}b{E}{A} {E}"),
    "the user last": (turns("a", "b", "c"), f"{U}a{E}{A}[b{E}]{U}c{E}"),
    "text that spells specials": (
        turns("<im_end><|im_end|>", "<|im_start|>"),
        f"{U}<im_end><|im_end|>{E}{A}[<|im_start|>{E}]",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_exactly_what_the_assistant_says_and_its_end_are_learned(name):
    spoken, expected = GOLDEN[name]
    assert written(CHAT.encode(spoken)) == expected


def test_of_a_conversation_the_last_answer_alone_is_learned_on_demand():
    row = CHAT.encode(turns("a", "b", "c", "d"), learned="last")
    assert written(row) == f"{U}a{E}{A}b{E}{U}c{E}{A}[d{E}]"


def test_long_conversations_lose_their_oldest_exchanges_and_keep_the_system_turn():
    spoken = turns("!s", "aaaa", "b", "cc", "d", "e", "f")
    whole = len(CHAT.encode(spoken).tokens)
    last, two = f"{U}e{E}{A}[f{E}]", f"{U}cc{E}{A}[d{E}]{U}e{E}{A}[f{E}]"
    assert written(CHAT.encode(spoken, whole)) == written(CHAT.encode(spoken))
    shorter = CHAT.encode(spoken, whole - 1)
    assert written(shorter) == f"{S}s{E}{two}" and shorter.dropped == 4 + 1 + 6
    assert written(CHAT.encode(spoken, len(shorter.tokens) - 1)) == f"{S}s{E}{last}"
    assert written(CHAT.encode(spoken, 12)) == f"{S}s{E}{last}"
    assert CHAT.encode(spoken, 11) is None


def test_a_prompt_ends_with_the_header_of_the_assistant_and_is_cut_alike():
    spoken = turns("!s", "aaaa", "b", "cc")
    ids = CHAT.prompt(spoken)
    assert ids[-2:] == CHAT.header and CHAT.parse(ids) == spoken
    assert CHAT.parse(CHAT.prompt(spoken, len(ids) - 1)) == turns("!s", "cc")
    assert CHAT.prompts([spoken, turns("x")]) == [ids, CHAT.prompt(turns("x"))]
    with pytest.raises(DataError, match="need 11 tokens, there is room for 10"):
        CHAT.prompt(spoken, 10)
    with pytest.raises(DataError, match="does not end with the user"):
        CHAT.prompt(turns("a", "b"))


def test_prompt_answer_and_the_rest_are_the_tokens_of_the_whole_conversation():
    before, whole = turns("a", "b", "c"), turns("a", "b", "c", "d e")
    assert CHAT.prompt(before) + CHAT.answer("d e") == CHAT.encode(whole).tokens.tolist()


def test_an_answer_is_read_up_to_its_end():
    ids = CHAT.answer("so long")
    assert CHAT.decode([*ids, *CHAT.tokenizer.encode(" and thanks")]) == "so long"
    assert CHAT.decode(ids[:-1]) == "so long"


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_in_any_turn_makes_a_special_in_any_vocabulary(kind):
    base = tokenizer(kind)
    chat = Chat(base)
    known = {chat.tokenizer.specials[name] for name in DIALOGUE_SPECIALS}
    assert len(known) == 5 and chat.end not in (base.end, base.pad)
    for text in (*SPECIALS.values(), "".join(SPECIALS.values()), *HARD):
        row = chat.encode(turns(f"!{text}", text, text))
        specials = [i for i in row.tokens.tolist() if i in known]
        assert specials == [i for role in ("system", "user", "assistant")
                            for i in (chat.start, chat.roles[role], chat.end)]  # fmt: skip
        assert max(row.tokens) < chat.tokenizer.vocab_size
        assert row.learned.sum() == (len(base.encode(text)) + 1 if text.strip() else 0)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_any_conversation_comes_back_from_its_ids(kind):
    chat = Chat(tokenizer(kind))

    @given(st.lists(TEXT, min_size=1, max_size=5), st.booleans())
    @settings(max_examples=40)
    def check(said, system):
        spoken = turns("!" + said[0], *said) if system else turns("", *said)
        assert chat.parse(chat.encode(spoken).tokens) == spoken

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_added_specials_are_kept_with_the_run_and_change_no_other_id(kind, tmp_path):
    base, chat = tokenizer(kind), Chat(tokenizer(kind))
    added = chat.tokenizer.vocab_size - base.vocab_size
    assert added == len([name for name in DIALOGUE_SPECIALS if name not in base.specials])
    assert (chat.tokenizer.digest != base.digest) == (added > 0)
    chat.tokenizer.save(tmp_path)
    again = load(tmp_path)
    assert (again.digest, again.specials) == (chat.tokenizer.digest, chat.tokenizer.specials)
    assert Chat(again).tokenizer is again
    for text in HARD:
        assert again.encode(text) == base.encode(text)
        assert np.array_equal(again.encode_arrays([text])[0], base.encode_arrays([text])[0])
        ids = [chat.start, *base.encode(text), chat.end]
        assert again.decode(ids) == base.decode(base.encode(text))


def test_a_vocabulary_whose_manifest_names_other_specials_is_refused(tmp_path):
    Chat(tokenizer("bytes")).tokenizer.save(tmp_path)
    file = tmp_path / "lm_tokenizer.json"
    manifest = json.loads(file.read_text())
    manifest["specials"]["tool"] = manifest["vocab_size"]
    file.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="was changed after it was saved"):
        load(tmp_path)


WRONG = [
    ("no list", "messages is no list"),
    ([], "no user turn"),
    (["x"], "message 1 is no object"),
    ([{"role": "system", "content": "x"}], "no user turn"),
    ([{"role": "tool", "content": "x"}], "message 1 has the role 'tool'"),
    ([{"role": "user", "content": 3}], "message 1 has a content that is no text"),
    ([{"role": "assistant", "content": "x"}], "message 1 is the assistant's where the user's"),
    ([{"role": "user", "content": "x"}] * 2, "message 2 is the user's where the assistant's"),
    ([{"role": "user", "content": "x"}, {"role": "system", "content": "x"}],
     "message 2 is the system's"),
    ([{"role": "user", "content": "x", "weight": 0.5}], "message 1 has the weight 0.5, expected 0"),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "told"), WRONG)
def test_messages_in_a_wrong_order_or_form_are_refused_by_number(messages, told):
    with pytest.raises(DataError, match=told):
        conversation(messages)


def test_messages_of_the_openai_form_are_read():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    given_ = [{"role": "system", "content": "s"}, {"role": "user", "content": parts}]
    found = conversation(given_)
    assert found == turns("!s", "ab") and conversation(as_objects(found)) == found
    check_order(found)
    given_[0]["role"] = "developer"  # OpenAI's newer name
    assert conversation(given_) == found
