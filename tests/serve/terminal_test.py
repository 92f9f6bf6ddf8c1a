"""What a terminal is shown and typed."""

import io
from types import SimpleNamespace

import pytest

from lm.serve.terminal import harmless, take_any_bytes


@pytest.mark.parametrize(
    "text",
    ["全角\u3000空白", "10\u00a0km", "\U0001f468\u200d\U0001f469", "co\u00adop", "a\n\tb", "é"],
)
def test_ordinary_characters_are_shown_as_they_are(text):
    assert harmless(text) == text


@pytest.mark.parametrize("text", ["\x1b", "\x07", "\r", "\x9b", "\u202e", "\u2066", "\ud800"])
def test_what_steers_a_terminal_is_not_shown(text):
    assert harmless(f"a{text}b") == "a\ufffdb"


def test_a_byte_that_is_no_utf8_is_read_and_can_be_told(monkeypatch):
    typed = io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), encoding="utf-8")
    shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr("lm.serve.terminal.sys", SimpleNamespace(stdin=typed, stdout=shown))
    take_any_bytes()
    line = typed.readline()
    assert line == "caf\udce9\n"
    shown.write(line)
    shown.flush()
    assert shown.buffer.getvalue() == b"caf?\n"
    monkeypatch.setattr("lm.serve.terminal.sys", SimpleNamespace(stdin=io.StringIO(), stdout=None))
    take_any_bytes()  # what is no file is left as it is
