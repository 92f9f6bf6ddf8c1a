"""What GPT-1 answers before any fine-tuning: its zero-shot heuristics (Radford et al. 2018,
section 5 and figure 2, right).

    cola               mean log-probability of the sentence's tokens, above a threshold
    sst2               "very" behind the text: is "positive" or "negative" likelier after it?
    winograd(e)        each referent in the pronoun's place: mean log-probability of what follows,
                       words that all referents end with included
    multiple choice    mean log-probability of the answer after context and question

The report does not say where CoLA's threshold comes from: here it is the best one on the training
items. Nothing else is fitted. An item of which a scored text alone is longer than the model's
context is refused: it has no answer, and no metric counts it.
"""

from collections.abc import Sequence

import numpy as np

from lm.core.errors import ConfigError
from lm.data.records import Choice, Classification, Record
from lm.data.tasks import Task
from lm.data.tasks.task import Part
from lm.evals.scorer import Request, Scorer
from lm.evals.tasks import Answers, measured

SENTIMENT = ("negative", "positive")  # in the order of SST-2's labels
Pieces = tuple[str, str]  # what comes before, and what is scored


def answer_untrained(scorer: Scorer, task: Task, part: Part) -> Answers:
    """Answers to every item of a part of a task, None to those refused, and its metrics.

    Raises:
      ConfigError: a task for which the report has no heuristic.
      DataError: an answer that is empty.
    """
    if task.name not in ("cola", "sst2") and task.kind != "choice":
        raise ConfigError(
            f"GPT-1 has no zero-shot heuristic for {task.name}: name cola, sst2 or a task of "
            "multiple choice, or fine-tune the run first"
        )
    records = task.records(part)
    answers: list[int | None]
    if task.name == "cola":
        pairs = zip(fluency(scorer, task.train), task.references("train"), strict=True)
        known = [(value, label) for value, label in pairs if value is not None]
        threshold = best_threshold(*np.array(known, float).reshape(-1, 2).T)
        said = fluency(scorer, records)
        answers = [None if value is None else int(value > threshold) for value in said]
    elif task.name == "sst2":
        answers = likeliest(scorer, [sentiment(record) for record in records])
    else:
        answers = likeliest(scorer, [candidates(task, record) for record in records])
    figures = measured(task, answers, task.references(part))
    return Answers(tuple(record.id for record in records), answers, figures)


def means(scorer: Scorer, requests: Sequence[Request]) -> list[float | None]:
    """Mean log-probability of each continuation's tokens, in nats; None of one that is longer than
    the model's context."""
    fits = scorer.fits(requests)
    scores = iter(scorer.scores([one for one, fit in zip(requests, fits, strict=True) if fit]))
    return [(one := next(scores)).log_likelihood / one.tokens if fit else None for fit in fits]


def fluency(scorer: Scorer, records: Sequence[Record]) -> list[float | None]:
    """`means` of the texts alone."""
    texts = [record.text for record in records if isinstance(record, Classification)]
    return means(scorer, [Request("", text) for text in texts])


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


def likeliest(scorer: Scorer, items: Sequence[Sequence[Pieces]]) -> list[int | None]:
    """Which continuation of each item has the highest of the `means`; None where one has none."""
    values = iter(means(scorer, [Request(*pieces) for item in items for pieces in item]))
    answers: list[int | None] = []
    for item in items:
        row = [next(values) for _ in item]
        read = [value for value in row if value is not None]
        answers.append(int(np.argmax(read)) if len(read) == len(row) else None)
    return answers
