"""What a terminal is shown of a text that anybody may have written, and what it may be typed."""

import io
import sys
from unicodedata import category

# marks that turn the order of letters about: what is read would not be what was written
TURNED = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def harmless(text: str) -> str:
    """A text without the control characters that would steer a terminal."""
    return "".join(
        "\ufffd" if c in TURNED or (c not in "\n\t" and category(c) in ("Cc", "Cs")) else c
        for c in text
    )


def take_any_bytes() -> None:
    """Lets a byte that is no UTF-8 be read, as half a surrogate pair, and told about."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
