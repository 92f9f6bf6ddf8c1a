import numpy as np
import pytest

from lm.core.errors import ConfigError, DataError
from lm.metrics.score import METRICS, score


def test_each_kind_of_task_is_scored_by_the_names_of_its_metrics():
    classes = np.array([1, 0, 1, 1])
    assert score(("f1", "accuracy"), classes, [1, 0, 0, 1]) == {"f1": 0.8, "accuracy": 0.75}
    assert list(score(("matthews", "accuracy"), classes, [1, 0, 1, 1]).values()) == [1, 1]
    similar = score(("spearman", "pearson"), [1.0, 2.0, 4.0], [1.0, 2.0, 3.0])
    assert similar["spearman"] == pytest.approx(1) and similar["pearson"] < 0.99
    assert score(("exact_match", "answer_f1"), ["a cat"], [("cat",)])["exact_match"] == 1
    assert score(("entity_f1",), [["B-X", "O"]], [["B-X", "O"]]) == {"entity_f1": 1}


def test_a_metric_that_no_item_counts_in_is_left_out():
    names = ("answer_f1", "has_answer_f1", "no_answer_exact")
    assert score(names, ["x"], [("x",)]) == {"answer_f1": 1, "has_answer_f1": 1}


def test_an_unknown_metric_is_answered_with_the_nearest_and_the_list():
    with pytest.raises(ConfigError, match=r"unknown metric 'acuracy'; did you mean accuracy\?"):
        score(("acuracy",), [1], [1])


def test_items_without_a_label_and_lengths_that_differ_are_refused():
    with pytest.raises(DataError, match="2 of 3 items have no label"):
        score(("accuracy",), [1, 1, 1], [1, None, None])
    for name in METRICS:
        with pytest.raises(DataError):
            score((name,), [1], [1, 2])
        with pytest.raises(DataError):
            score((name,), [], [])
