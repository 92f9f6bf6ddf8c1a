"""Scores by the names that tasks give them."""

import difflib
import math
from collections.abc import Sequence
from typing import Any

from lm.core.errors import ConfigError, DataError
from lm.metrics.answers import (
    answer_f1,
    exact_match,
    has_answer_exact,
    has_answer_f1,
    no_answer_exact,
)
from lm.metrics.classes import accuracy, f1, macro_f1, matthews, tag_accuracy
from lm.metrics.correlation import pearson, spearman
from lm.metrics.entities import entity_f1

# Each takes as many predictions as references and returns one number. Classes and choices are
# indices, similarities numbers, answers strings for tuples of strings, tags lists of their names.
METRICS = {
    "accuracy": accuracy,
    "f1": f1,  # of the second of two classes
    "macro_f1": macro_f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
    "exact_match": exact_match,
    "answer_f1": answer_f1,
    "has_answer_exact": has_answer_exact,
    "has_answer_f1": has_answer_f1,
    "no_answer_exact": no_answer_exact,
    "entity_f1": entity_f1,
    "tag_accuracy": tag_accuracy,
}


def score(
    metric_names: Sequence[str], predictions: Sequence[Any], references: Sequence[Any]
) -> dict[str, float]:
    """The metrics of those names, as fractions. One that no item counts in is left out.

    Raises:
      ConfigError: an unknown name.
      DataError: another number of predictions than of references, none, or one without a label.
    """
    if len(predictions) != len(references):
        raise DataError(f"{len(predictions)} predictions for {len(references)} references")
    unlabelled = sum(reference is None for reference in references)
    if unlabelled:
        raise DataError(f"{unlabelled} of {len(references)} items have no label to score against")
    found = {name: metric(name)(predictions, references) for name in metric_names}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def metric(name: str):
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"unknown metric {name!r}; {hint}known: {', '.join(METRICS)}")
    return METRICS[name]
