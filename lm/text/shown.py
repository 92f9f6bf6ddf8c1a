"""What a row of tokens teaches, for people to read: what is learned stands out.

In colour on a terminal, unless NO_COLOR is set (no-color.org); between brackets elsewhere.
"""

import itertools
import os
import sys
from collections.abc import Sequence

import numpy as np

from lm.text.interface import SPECIALS, Tokenizer

GREEN, PLAIN = "\033[32m", "\033[0m"


def coloured() -> bool:
    """Whether standard output is a terminal whose user wants colour."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def shown_row(
    tokenizer: Tokenizer,
    tokens: np.ndarray,  # [T]
    targets: np.ndarray,  # [T]
    mask: np.ndarray,  # [T]
    *,
    colour: bool | None = None,
) -> str:
    """A row that a model reads, specials by their names, padding left out.

    Args:
      colour: by `coloured` where None.
    """
    used = np.flatnonzero(mask)
    last = int(used[-1]) + 1 if len(used) else 0
    ids = [int(tokens[0]), *map(int, targets[:last])]
    learned = [False, *map(bool, mask[:last])]
    runs = itertools.groupby(zip(ids, learned, strict=True), key=lambda pair: pair[1])
    before, after = (GREEN, PLAIN) if (coloured() if colour is None else colour) else ("[", "]")
    told = ""
    for counts, run in runs:
        said = spelled(tokenizer, [i for i, _ in run])
        told += f"{before}{said}{after}" if counts else said
    return told


def spelled(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of ids, specials as they are written in `SPECIALS`."""
    names = {i: SPECIALS.get(name, f"<{name}>") for name, i in tokenizer.specials.items()}
    told = ""
    for special, run in itertools.groupby(ids, key=lambda i: i in names):
        some = list(run)
        told += "".join(names[i] for i in some) if special else tokenizer.decode(some)
    return told
