"""Relaxed accuracy of chart questions (Methani et al. 2020; Masry et al. 2022, section 4.1)."""

import re

TOLERANCE = 0.05  # of the right number


def number(text: str) -> float | None:
    """The number that a text is, without currency, separators and percent sign; None: none."""
    bare = re.sub(r"[$€£,%\s]", "", text)
    try:
        return float(bare) if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)", bare) else None
    except ValueError:
        return None


def relaxed(answer: str, truth: str) -> bool:
    """Whether a number is at most 5 % off, or a text the same but for case and outer space."""
    theirs, ours = number(truth), number(answer)
    if theirs is not None and ours is not None:
        return abs(ours - theirs) <= TOLERANCE * abs(theirs)
    return answer.strip().lower() == truth.strip().lower()
