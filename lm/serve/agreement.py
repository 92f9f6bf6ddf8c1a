"""How far labelers agree: pairs ordered alike, with an interval, and Krippendorff's alpha."""

import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from lm.evals.published import figures

RESAMPLED = 1000


def agreement(records: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What can be said of rankings, given those of each (item, labeler) that count.

    Pairs: two labelers order two answers of an item; they agree where both prefer the same one or
    both see a tie. The interval is of 95 %, by drawing items anew with replacement, since pairs of
    one item are not independent; of one item alone there is none. Alphas: nominal of preferences,
    whichever answer is stored first, and ordinal of the quality ratings.
    """
    by_item: dict[tuple[str, tuple[str, ...]], dict[str, dict[str, Any]]] = {}
    for record in records:
        if record["kind"] == "ranking":
            answers = record["item"], tuple(record["answers"])  # they may have been drawn anew
            by_item.setdefault(answers, {})[record["labeler"]] = record
    labelers = sorted({name for own in by_item.values() for name in own})
    counts, preferences, ratings = [], [], []
    between: dict[tuple[str, str], list[int]] = {}
    for own in by_item.values():
        orders = {name: preferred(record["ranks"]) for name, record in own.items()}
        agreed = total = 0
        for first, second in itertools.combinations(sorted(orders), 2):
            same = [a == b for a, b in zip(orders[first], orders[second], strict=True)]
            agreed, total = agreed + sum(same), total + len(same)
            pair = between.setdefault((first, second), [0, 0])
            pair[0], pair[1] = pair[0] + sum(same), pair[1] + len(same)
        if total:
            counts.append((agreed, total))
        preferences += list(zip(*orders.values(), strict=True))
        rows = [record.get("ratings") or [] for record in own.values()]
        for column in itertools.zip_longest(*rows):
            ratings.append([value for value in column if value is not None])
    told: dict[str, Any] = {
        "items": len(by_item), "shared_items": len(counts), "labelers": labelers,
        "pairs": int(sum(total for _, total in counts)),
        "agreement": None, "interval": None,
        "alpha_preference": preference_alpha(preferences),
        "alpha_rating": krippendorff(ratings, "ordinal"),
        "between": [
            {"labelers": list(pair), "agreement": same / total, "pairs": total}
            for pair, (same, total) in sorted(between.items())
        ],
    }  # fmt: skip
    if counts:
        table = np.array(counts, float)
        told["agreement"] = float(table[:, 0].sum() / table[:, 1].sum())
    if len(counts) > 1:
        drawn = np.random.default_rng(0).integers(0, len(table), (RESAMPLED, len(table)))
        shares = table[drawn].sum(axis=1)
        low, high = np.quantile(shares[:, 0] / shares[:, 1], [0.025, 0.975])
        told["interval"] = [float(low), float(high)]
    return told


def published() -> list[dict[str, Any]]:
    """How far InstructGPT's labelers agreed: of other people, prompts and answers than ours."""
    names = ("system", "value", "error", "source")
    return [
        {name: row[name] for name in names}
        for row in figures()
        if (row["family"], row["metric"]) == ("instructgpt", "agreement")
    ]


def preferred(ranks: Sequence[int]) -> list[int]:
    """Of each pair of answers: -1 the first is better, 1 the second, 0 a tie."""
    return [int(np.sign(a - b)) for a, b in itertools.combinations(ranks, 2)]


def preference_alpha(units: Iterable[Sequence[int]]) -> float | None:
    """Krippendorff's nominal alpha of preferences, each -1, 0 or 1, where it says nothing which of
    two answers stands first: each unit counts together with its mirror.

    A unit and its mirror disagree alike. By chance, two of all n values disagree as they do in the
    mean when each is turned at random: a tie and a preference always, two preferences half of the
    time. Of the n (n - 1) ordered pairs of values, of which m are no ties, that is
    2 (n - m) m + m (m - 1) / 2. A value and its own mirror are no such pair, so n is the number of
    values before they are mirrored. Without ties, alpha is twice the agreement less one.

    Returns:
      As `krippendorff`; None where there is nothing to compare, or nobody prefers anything.
    """
    pairable = [list(unit) for unit in units if len(unit) >= 2]
    count = sum(map(len, pairable))
    preferring = sum(value != 0 for unit in pairable for value in unit)
    expected = 2 * (count - preferring) * preferring + preferring * (preferring - 1) / 2
    if expected == 0:
        return None
    observed = sum(
        sum(a != b for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1)
        for unit in pairable
    )
    return 1 - (count - 1) * observed / expected


def krippendorff(units: Iterable[Sequence[Hashable]], level: str) -> float | None:
    """Krippendorff's alpha (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability").

    Args:
      units: the values that each unit was given; units with fewer than two count for nothing.
      level: "nominal", "ordinal" or "interval".

    Returns:
      1 for perfect agreement, 0 for that of chance; None where there is nothing to compare, or
      every value is the same.
    """
    pairable = [list(unit) for unit in units if len(unit) >= 2]
    values = sorted({value for unit in pairable for value in unit})  # type: ignore[type-var]
    place = {value: n for n, value in enumerate(values)}
    coincidences = np.zeros((len(values), len(values)))
    for unit in pairable:
        for a, b in itertools.permutations(unit, 2):
            coincidences[place[a], place[b]] += 1 / (len(unit) - 1)
    totals = coincidences.sum(axis=1)
    distance = np.zeros_like(coincidences)
    apart = DISTANCES[level]
    for a, b in itertools.permutations(range(len(values)), 2):
        distance[a, b] = apart(values, totals, min(a, b), max(a, b))
    expected = float(totals @ distance @ totals)
    if expected == 0:
        return None
    observed = float((coincidences * distance).sum())
    return 1 - (totals.sum() - 1) * observed / expected


DISTANCES: dict[str, Callable[[Any, np.ndarray, int, int], float]] = {
    "nominal": lambda values, totals, a, b: 1.0,
    "ordinal": lambda values, totals, a, b: float(
        (totals[a : b + 1].sum() - (totals[a] + totals[b]) / 2) ** 2
    ),
    "interval": lambda values, totals, a, b: float((values[a] - values[b]) ** 2),
}
