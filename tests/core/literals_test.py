import pytest

from lm.core.errors import ConfigError
from lm.core.literals import convert


def test_text_is_read_as_the_type_demands():
    assert convert("3", float, "x") == 3.0 and isinstance(convert("3", float, "x"), float)
    assert convert("none", int | None, "x") is None
    assert convert("false", bool, "x") is False
    assert convert("dense,banded", tuple[str, ...], "x") == ("dense", "banded")
    assert convert("(1, 2)", tuple[float, ...], "x") == (1.0, 2.0)
    assert convert("'3'", str, "x") == "3" and convert("3", str, "x") == "3"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def main(x)", ("def main(x)",)),
        ("print('a')", ("print('a')",)),
        ("(a, b)", ("a", "b")),
        ("[a,b]", ("a", "b")),
        ("(a)(b)", ("(a)(b)",)),
        ("a,", ("a",)),
        ("", ()),
        ("()", ()),
        ("('f(x), y',)", ("f(x), y",)),
    ],
)
def test_words_are_split_at_commas_and_lose_no_bracket_of_their_own(text, words):
    assert convert(text, tuple[str, ...], "x") == words


@pytest.mark.parametrize("text", ['print("a, b")', "f(a, b)", "(a, b), c", "don't, please", "3"])
def test_words_with_a_comma_within_quotes_or_brackets_are_refused_with_their_literal(text):
    with pytest.raises(ConfigError) as caught:
        convert(text, tuple[str, ...], "x")
    said = str(caught.value)
    assert said.startswith("x: expected ") and said.endswith(f"; write it as {(text,)!r}")
    assert convert(said.partition("write it as ")[2], tuple[str, ...], "x") == (text,)
