"""What a fine-tuned model answers to a task's items, and how right it is."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lm.core.mesh import fetch, place_whole
from lm.core.paths import read_summary, writing
from lm.data.features import Encoded, TaskBatch, in_order
from lm.data.records import Choice, Record, Span, Tagging
from lm.data.tasks import Task
from lm.data.tasks.task import Part
from lm.evals.spans import SpanGuesses, SpanSearch, best_threshold, predictions, search_spans
from lm.losses.tasks import ABSENT
from lm.metrics.answers import answer_f1
from lm.metrics.score import score
from lm.text.tokenizer import Tokenizer

Scores = Callable[[Any, TaskBatch], jax.Array]  # (params, rows) -> what the head says; compiled


@dataclasses.dataclass(frozen=True)
class Answers:
    """One answer an item, and the task's metrics over the items that have a label."""

    ids: tuple[str, ...]
    answers: list[Any]  # an index, a number, a text, names of tags; None: the item was refused
    figures: dict[str, float]
    probabilities: np.ndarray | None = None  # of the classes, or the choices, of each item  [N C]
    spans: tuple[SpanGuesses, ...] = ()  # of a span task, each item's best answers

    def counts(self, task: Task, part: Part) -> dict[str, int]:
        """How many items there are, how many have a label, and how many were refused."""
        labelled = sum(right is not None for right in task.references(part))
        refused = sum(answer is None for answer in self.answers)
        return {"items": len(self.ids), "labelled": labelled, "refused": refused}

    def shown(self, task: Task, part: Part, most: int = 20) -> str:
        """The first items, a line each: the answer, and the right one where it is another."""
        lines = []
        records, references = task.records(part), task.references(part)
        for record, answer, right in zip(records, self.answers, references, strict=True):
            told, truth = named(task, answer), named(task, right)
            beside = "" if told == truth else f"   right: {truth}"
            lines.append(f"{first_text(record)[:80]}\n    {told}{beside}\n")
        return "".join(lines[:most])

    def write(self, path: Path, task: Task, part: Part) -> None:
        """One JSON object a line: the item's id, the answer and the right one, and beside them
        the probabilities of classes by name, or of choices in their order; of a span task the best
        answers (`guesses`: text, score, probability) and the odds of none (`null_odds`).

        Raises:
          ConfigError: the path cannot be written.
        """
        lines = []
        records, references = task.records(part), task.references(part)
        for k, (answer, right) in enumerate(zip(self.answers, references, strict=True)):
            row = {
                "id": self.ids[k],
                "answer": named(task, answer),
                "reference": named(task, right),
            }
            if self.probabilities is not None:
                row["probabilities"] = by_name(task, records[k], self.probabilities[k].tolist())
            if self.spans:
                row["guesses"] = [dataclasses.asdict(guess) for guess in self.spans[k].guesses]
                row["null_odds"] = self.spans[k].null_odds
            lines.append(json.dumps(row) + "\n")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines))


def told(counts: dict[str, int]) -> str:
    """What `Answers.counts` gave, in a line: items, and which of them no metric counts."""
    items, labelled, refused = counts["items"], counts["labelled"], counts["refused"]
    line = f"{items} items"
    if labelled < items:
        line += f"; the {labelled} with a label are measured" if labelled else "; none has a label"
    return line + (f"; {refused} refused, longer than the model's context" if refused else "")


def measured(task: Task, answers: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
    """The task's metrics over the items that have an answer and a label; none where none has."""
    both = [
        (answer, right)
        for answer, right in zip(answers, references, strict=True)
        if answer is not None and right is not None
    ]
    return score(task.metrics, [a for a, _ in both], [r for _, r in both]) if both else {}


def named(task: Task, answer: Any) -> Any:
    """An answer as it is told: a class by its name."""
    return task.labels[answer] if task.kind == "classification" and answer is not None else answer


def by_name(task: Task, record: Record, values: list[float]) -> dict[str, float] | list[float]:
    """One number a class by its name, or one a choice; rows of fewer choices are padded."""
    if isinstance(record, Choice):
        return values[: len(record.choices)]
    return dict(zip(task.labels, values, strict=True))


def first_text(record: Record) -> str:
    if isinstance(record, Tagging):
        return " ".join(record.words)
    if isinstance(record, Span):
        return record.question
    return record.context if isinstance(record, Choice) else record.text


def answer_task(
    scores: Scores,
    params: Any,
    encoded: Encoded,
    task: Task,
    part: Part,
    tokenizer: Tokenizer,
    mesh: jax.sharding.Mesh,
    rows: int,
    threshold: float | None = None,
) -> Answers:
    """Answers to every item of a part of a task; `rows` at a time.

    `threshold` of no answer is what the held-out part gave. None, which is for that part: the best
    one for these items, where they have labels.
    """
    said = np.concatenate(of_batches(scores, params, encoded.rows, mesh, rows))
    said = said[: len(encoded.rows.mask)].astype(np.float64)
    records, references = task.records(part), task.references(part)
    figures: dict[str, float] = {}
    probabilities: np.ndarray | None = None
    spans: tuple[SpanGuesses, ...] = ()
    answers: list[Any]
    if task.kind in ("classification", "choice"):
        if task.kind == "choice":
            said = np.where(encoded.rows.candidates, said, ABSENT)
        answers = said.argmax(-1).tolist()
        odds = np.exp(said - said.max(-1, keepdims=True))
        probabilities = odds / odds.sum(-1, keepdims=True)
    elif task.kind == "regression":
        answers = said[:, 0].tolist()
    elif task.kind == "tagging":
        assert encoded.words is not None
        tags = encoded.words.tags(said.argmax(-1))
        # a word without a token was never read: it is tagged as most words are
        answers = [[task.labels[max(0, tag)] for tag in item.tolist()] for item in tags]
    else:
        search = SpanSearch(null=task.form.no_answer)
        found = search_spans(said[..., 0], said[..., 1], encoded, tokenizer, search)
        if search.null and threshold is None and None not in references:
            given, none = (
                np.array([answer_f1([t], [r]) for t, r in zip(texts, references, strict=True)])
                for texts in ([item.text for item in found], [""] * len(found))
            )
            odds = np.array([item.null_odds for item in found])
            threshold, _ = best_threshold(odds, given, none)
            figures["null_threshold"] = threshold
        texts = predictions(found, (threshold or 0.0) if search.null else None)
        answers = [texts[record.id] for record in records]
        by_id = {item.id: item for item in found}
        spans = tuple(by_id[record.id] for record in records)
    figures = measured(task, answers, references) | figures
    return Answers(tuple(record.id for record in records), answers, figures, probabilities, spans)


def null_threshold(run: Path) -> float:
    """The odds above which a run gives no answer, found on its held-out items; 0 without any."""
    summary = read_summary(run / "summary.json") or {}
    return float(summary.get("null_threshold", 0.0))


def of_batches(
    found: Callable[[Any, Any], Any], params: Any, whole: Any, mesh: jax.sharding.Mesh, rows: int
) -> list[Any]:
    """`found(params, batch)`, on the host, of all rows in order, `rows` at a time."""
    batches = (place_whole(batch, mesh) for batch in in_order(whole, rows))
    return [jax.tree.map(fetch, found(params, batch)) for batch in batches]
