"""Average normalised Levenshtein similarity, of one answer (Biten et al. 2019, section 3.3), as the
evaluation of DocVQA and InfographicVQA has it: case and blanks are no matter."""

THRESHOLD = 0.5  # below it an answer is wrong, and not a misspelling; at it, it counts


def similarity(answer: str, truth: str) -> float:
    """How much of the longer of two texts the edits between them leave; 0 below the threshold."""
    mine, right = (" ".join(text.lower().split()) for text in (answer, truth))
    longer = max(len(mine), len(right))
    found = 1 - distance(mine, right) / longer if longer else 1.0
    return found if found >= THRESHOLD else 0.0


def distance(a: str, b: str) -> int:
    """The least number of letters to insert, to drop or to replace that makes one the other."""
    row = list(range(len(b) + 1))  # from the letters of `a` so far to so many of `b`
    for n, letter in enumerate(a, start=1):
        before, row[0] = row[0], n
        for m, other in enumerate(b, start=1):
            before, row[m] = row[m], min(row[m] + 1, row[m - 1] + 1, before + (letter != other))
    return row[-1]
