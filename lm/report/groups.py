"""Runs that differ by their seed alone, as one: mean and deviation of their final figures."""

from collections.abc import Sequence

from lm.metrics.spread import over_seeds
from lm.report.record import Record, is_number
from lm.report.text import label, number, table

SEED = "seed"
NO_SCORES = ("step", "steps", "tokens", "seconds", "parameters", "tokens_per_second", "mfu")


def seeds_table(records: Sequence[Record]) -> str:
    """An HTML table of the groups with a row each; "" where no two runs differ by their seed alone.

    A row is named by the bindings in which the groups differ. Of runs of one seed, which are no
    more than one, the first counts; one that has not ended, and has no final figures, does not.
    """
    records = [record for record in records if record.summary]
    groups: dict[tuple[tuple[str, str], ...], dict[str | None, Record]] = {}
    for record in records:
        rest = tuple(item for item in record.history().items() if item[0] != SEED)
        groups.setdefault(rest, {}).setdefault(record.bindings.get(SEED), record)
    if all(len(members) == 1 for members in groups.values()):
        return ""
    bound = dict.fromkeys(name for rest in groups for name, _ in rest)
    differing = [name for name in bound if len({dict(rest).get(name) for rest in groups}) > 1]
    figures = dict.fromkeys(
        name
        for record in records
        for name, value in record.final().items()
        if is_number(value) and name not in NO_SCORES
    )
    rows = []
    for rest, seeds in groups.items():
        members = list(seeds.values())
        names = [f"{name} = {dict(rest).get(name, '-')}" for name in differing]
        cells = [
            _told([m.final()[name] for m in members if name in m.final()], len(members))
            for name in figures
        ]
        rows.append([", ".join(names) or members[0].name, str(len(members)), *cells])
    return table(["runs", "seeds", *map(label, figures)], rows)


def _told(values: Sequence[float], seeds: int) -> str:
    if not values:
        return ""
    mean, deviation = over_seeds(values)
    told = number(mean) if deviation is None else f"{number(mean)} ± {number(deviation)}"
    return told if len(values) == seeds else f"{told} (of {len(values)})"
