"""Relaxed accuracy of chart questions (Methani et al. 2020; Masry et al. 2022, section 4.1), as
google-research/pix2struct computes it: a percentage is a fraction, and a truth of 0 is a text."""

TOLERANCE = 0.05  # of the right number


def number(text: str) -> float | None:
    """The number that a text is; "5%" is 0.05; None where it is none."""
    bare = text.strip()
    try:
        return float(bare.removesuffix("%")) / (100 if bare.endswith("%") else 1)
    except ValueError:
        return None


def relaxed(answer: str, truth: str) -> bool:
    """Whether a number is at most 5 % off, or a text the same but for case and outer space."""
    theirs, ours = number(truth), number(answer)
    if theirs and ours is not None:
        return abs(ours - theirs) <= TOLERANCE * abs(theirs)
    return answer.strip().lower() == truth.strip().lower()
