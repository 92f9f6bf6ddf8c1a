"""What GPT-1 answers before any fine-tuning: its zero-shot heuristics (Radford et al. 2018,
section 5 and figure 2, right).

    cola               mean log-probability of the sentence's tokens, above a threshold
    sst2               "very" behind the text: is "positive" or "negative" likelier after it?
    winograd(e)        each referent in the pronoun's place: mean log-probability of what follows,
                       words that all referents end with included
    multiple choice    mean log-probability of the answer after context and question

The report does not say where CoLA's threshold comes from: here it is the best one on the training
items. Nothing else is fitted.
"""

from collections.abc import Sequence

import numpy as np

from lm.core.errors import ConfigError
from lm.data.records import Choice, Classification, Record
from lm.data.tasks import Task
from lm.data.tasks.task import Part
from lm.evals.scorer import Request, Scorer
from lm.evals.tasks import Answers
from lm.metrics.score import score

SENTIMENT = ("negative", "positive")  # in the order of SST-2's labels
Pieces = tuple[str, str]  # what comes before, and what is scored


def answer_untrained(scorer: Scorer, task: Task, part: Part) -> Answers:
    """Answers to every item of a part of a task, and its metrics where all have labels.

    Raises:
      ConfigError: a task for which the report has no heuristic.
      DataError: an answer that alone is longer than the model's context.
    """
    if task.name not in ("cola", "sst2") and task.kind != "choice":
        raise ConfigError(
            f"GPT-1 has no zero-shot heuristic for {task.name}: name cola, sst2 or a task of "
            "multiple choice, or fine-tune the run first"
        )
    records, references = task.records(part), task.references(part)
    if task.name == "cola":
        said = fluency(scorer, records)
        threshold = best_threshold(fluency(scorer, task.train), np.array(task.references("train")))
        answers = (said > threshold).astype(int).tolist()
    elif task.name == "sst2":
        answers = likeliest(scorer, [sentiment(record) for record in records])
    else:
        answers = likeliest(scorer, [candidates(task, record) for record in records])
    figures = {} if None in references else score(task.metrics, answers, references)
    return Answers(tuple(record.id for record in records), answers, figures)


def fluency(scorer: Scorer, records: Sequence[Record]) -> np.ndarray:
    """Mean log-probability of each text's tokens, in nats. [N]"""
    texts = [record.text for record in records if isinstance(record, Classification)]
    scores = scorer.scores([Request("", text) for text in texts])
    return np.array([one.log_likelihood / one.tokens for one in scores])


def best_threshold(values: np.ndarray, label: np.ndarray) -> float:
    """The threshold above which class 1 is best told from class 0, by Matthews' correlation.

    It lies halfway between two values, or below or above all of them. [N] floats, [N] 0 or 1
    """
    order = np.argsort(values)
    values, label = values[order], label[order]
    below = np.arange(len(label) + 1)  # items at or below each threshold
    positives, missed = label.sum(), np.append(0, np.cumsum(label))
    above, hits = len(label) - below, positives - missed
    covariance = hits * len(label) - above * positives
    spread = np.sqrt(1.0 * above * below * positives * (len(label) - positives))
    matthews = covariance / np.maximum(spread, 1)
    cuts = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    possible = np.append(True, np.append(values[1:] > values[:-1], True))  # equals stay together
    return float(cuts[np.argmax(np.where(possible, matthews, -1))])


def sentiment(record: Record) -> list[Pieces]:
    """SST-2's two continuations of a text."""
    assert isinstance(record, Classification)
    return [(f"{record.text.strip()} very", f" {word}") for word in SENTIMENT]


def candidates(task: Task, record: Record) -> list[Pieces]:
    """What stands before each choice, and the choice; of referents what they have in common."""
    assert isinstance(record, Choice)
    before = f"{record.context} {record.question}".strip()
    if not task.form.referents:
        return [(before, f" {choice}") for choice in record.choices]
    words = [choice.split() for choice in record.choices]
    same = shared_end(words)
    return [
        (" ".join([before, *row[: len(row) - same]]), f" {' '.join(row[len(row) - same :])}")
        for row in words
    ]


def shared_end(rows: Sequence[Sequence[str]]) -> int:
    """How many words all rows have in common at their ends."""
    count = 0
    while count < min(map(len, rows)) and len({row[-count - 1] for row in rows}) == 1:
        count += 1
    return count


def likeliest(scorer: Scorer, items: Sequence[Sequence[Pieces]]) -> list[int]:
    """Which of each item's continuations has the highest mean log-probability a token."""
    scores = scorer.scores([Request(*pieces) for item in items for pieces in item])
    means = iter([one.log_likelihood / one.tokens for one in scores])
    return [int(np.argmax([next(means) for _ in item])) for item in items]
