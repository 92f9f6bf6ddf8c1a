"""What the study of conversations shows, and the differences that it rests on.

Shown means above twice its spread over the seeds; unchanged, that a loss is not, and is below what
is allowed by as much.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lm.metrics.spread import clear, over_seeds
from lm.report.markdown import with_deviation

ENDED = 0.95  # of the answers, more are to end by themselves
LOST = 0.1  # of first questions, fewer are to be lost
Measures = Sequence[Mapping[str, Any]]  # measured.json of each seed


def more(
    measures: Measures, figure: tuple[str, str], than: tuple[str, str]
) -> tuple[float, float | None]:
    """How far one policy's figure is above another one, and its spread over the seeds."""
    return over_seeds([one[figure[0]][figure[1]] - one[than[0]][than[1]] for one in measures])


def claims(measures: Measures) -> dict[str, tuple[bool, str]]:
    """Of each claim whether it is shown, and what was found."""
    mixture, second = "chat/sft", ("chat/2/ppo", "gold")
    history = more(measures, (mixture, "follow_up"), (mixture, "no_history"))
    follow = more(measures, (mixture, "follow_up"), ("single", "follow_up"))
    lost = more(measures, ("single", "first"), (mixture, "first"))
    kept = over_seeds([LOST + one[mixture]["first"] - one["single"]["first"] for one in measures])
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
            clear(*follow) and clear(*kept) and not clear(*lost),
            f"above single turns it has {with_deviation(*follow)} of follow-ups, and of first "
            f"questions {with_deviation(*lost)} less, at most {LOST} is allowed",
        ),
        "C5, the second round": (
            clear(*rounds) and clear(*longer),
            f"its gold score is above the first's by {with_deviation(*rounds)}, and above the "
            f"first's for as long by {with_deviation(*longer)}",
        ),
    }


def verdict(measures: Measures) -> list[str]:
    """A line of each claim."""
    return [
        f"- {name}: {'shown' if shown else 'not shown'}: {found}."
        for name, (shown, found) in claims(measures).items()
    ]
