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
