"""A programmed judge, for studies in which the truth behind the labels has to be known."""

from collections.abc import Sequence

WORDS = 8  # of an answer that is neither curt nor wordy


def concise(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
    """Likes about eight different words that end with a full stop: from -1 to 1.5 and a little."""
    del prompts
    found = []
    for answer in answers:
        words = answer.lower().split()
        length = -min(2.0, abs(len(words) - WORDS) / WORDS)
        variety = len(set(words)) / len(words) if words else 0.0
        found.append(length + variety + 0.5 * answer.rstrip().endswith("."))
    return found


def relevant(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
    """The share of an answer's different words that the prompt has too: a second judge, of whom
    nothing is learned."""
    found = []
    for prompt, answer in zip(prompts, answers, strict=True):
        asked, said = set(prompt.lower().split()), set(answer.lower().split())
        found.append(len(asked & said) / len(said) if said else 0.0)
    return found


def tidy(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
    """Likes what `concise` likes by other signs: a capital first, a mark last, one sentence, no
    word twice in a row. From 0 to 1; nothing is ever learned from it."""
    del prompts
    found = []
    for answer in answers:
        said, words = answer.strip(), answer.lower().split()
        inner = said[:-1]
        signs = (
            said[:1].isupper() or said[:1].isdigit(),
            said.endswith((".", "!", "?")),
            bool(said) and not any(mark in inner for mark in ".!?\n"),
            len(words) > 1 and all(a != b for a, b in zip(words, words[1:], strict=False)),
        )
        found.append(sum(signs) / len(signs))
    return found
