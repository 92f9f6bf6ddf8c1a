"""What the study of conversations shows, and the differences that it rests on.

Shown means above twice its spread over the seeds; unchanged, that a difference is not, and that
twice its spread more would still be below what is allowed: otherwise noise hides what is lost.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lm.metrics.spread import clear, over_seeds
from lm.report.markdown import with_deviation

ENDED = 0.95  # of the answers, more are to end by themselves
CHANGED = 0.1  # of the gold score of first questions, 0 to 2, a difference is to be below
Measures = Sequence[Mapping[str, Any]]  # measured.json of each seed


def more(
    measures: Measures, figure: tuple[str, str], than: tuple[str, str]
) -> tuple[float, float | None]:
    """How far one policy's figure is above another one, and its spread over the seeds."""
    return over_seeds([one[figure[0]][figure[1]] - one[than[0]][than[1]] for one in measures])


def unchanged(measures: Measures) -> tuple[bool | None, str]:
    """Whether the mixture leaves the gold score of first questions, and what was found. How many
    are right does not tell: all are, with conversations and without."""
    if not all("gold_first" in one[name] for one in measures for name in ("chat/sft", "single")):
        return None, "and the gold score of first questions alone was not measured"
    mean, deviation = more(measures, ("chat/sft", "gold_first"), ("single", "gold_first"))
    same = clear(CHANGED - abs(mean), deviation) and not clear(abs(mean), deviation)
    return same, (
        f"and its gold score of first questions differs by {with_deviation(mean, deviation)}, "
        f"where less than {CHANGED} is allowed"
    )


def claims(measures: Measures) -> dict[str, tuple[bool | None, str]]:
    """Of each claim whether it is shown, None where that was not measured, and what was found."""
    mixture, second = "chat/sft", ("chat/2/ppo", "gold")
    history = more(measures, (mixture, "follow_up"), (mixture, "no_history"))
    follow = more(measures, (mixture, "follow_up"), ("single", "follow_up"))
    same, said = unchanged(measures)
    rounds = more(measures, second, ("chat/1/ppo", "gold"))
    longer = more(measures, second, ("again", "gold"))
    beyond = over_seeds([one[mixture]["ended"] - ENDED for one in measures])
    return {
        "C2, the end": (
            clear(*beyond),
            f"the share of the mixture's answers that end by themselves is above {ENDED} by "
            f"{with_deviation(*beyond)}",
        ),
        "C3, context": (
            clear(*history),
            f"follow-ups with their history above those without it by {with_deviation(*history)}",
        ),
        "C4, the mixture": (
            clear(*follow) and same,
            f"above single turns it has {with_deviation(*follow)} of follow-ups, {said}",
        ),
        "C5, the second round": (
            clear(*rounds) and clear(*longer),
            f"its gold score is above the first's by {with_deviation(*rounds)}, and above the "
            f"first's for as long by {with_deviation(*longer)}",
        ),
    }


def verdict(measures: Measures) -> list[str]:
    """A line of each claim."""
    told = {True: "shown", False: "not shown", None: "cannot be judged"}
    return [
        f"- {name}: {told[shown]}: {found}." for name, (shown, found) in claims(measures).items()
    ]
