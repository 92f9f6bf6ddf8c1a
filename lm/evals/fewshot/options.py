"""MultiRC, ReCoRD and SAT analogies, in the texts of GPT-3's appendix G (figures G.15, G.6, G.12).

MultiRC and ReCoRD are read in SuperGLUE's form. How MultiRC's examples show their options is not
printed: here each has all of its own, labelled, a line each.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lm.data.tasks import rows as files
from lm.data.tasks.rows import Problem, Row
from lm.evals.fewshot.reading import words
from lm.evals.fewshot.task import Values
from lm.evals.incontext import Item
from lm.evals.options import option_line
from lm.metrics.answers import normalized

PLACEHOLDER = "@placeholder"
HIGHLIGHT = re.compile(r"\s*@highlight\s*")
LABELS = {1: "True", 0: "False"}


def questions(path: Path, name: str) -> Iterator[Row | Problem]:
    """A question a row, from rows of a passage with its questions under this name, there or beside
    the passage."""
    for row in files.jsonl(path):
        if isinstance(row, Problem):
            yield row
            continue
        try:
            passage = row.values["passage"]
            found = passage.get(name) or row.values[name]
            for number, question in enumerate(found):
                identity = f"{row.values.get('idx', row.name)}:{question.get('idx', number)}"
                values = {"passage": passage, "group": row.where, **question}
                yield Row(f"{row.where}: {name}[{number}]", identity, values)
        except (KeyError, TypeError, AttributeError) as error:
            yield Problem(row.where, f"no passage with {name} ({error!r})")


def multirc(path: Path) -> Iterator[Row | Problem]:
    return questions(path, "questions")


def record(path: Path) -> Iterator[Row | Problem]:
    return questions(path, "qas")


def multirc_item(row: Values) -> Item:
    """A passage and a question; its options stand behind it with their labels."""
    options = tuple(words(answer["text"], "text") for answer in row["answers"])
    labels = tuple(LABELS[answer["label"]] for answer in row["answers"])
    shown = "".join(map(option_line, labels, options))
    passage, question = words(row["passage"]["text"], "text"), words(row["question"], "question")
    return Item(
        contexts=(f"{passage}\n\n{question}",),
        completions=(shown,),
        answers=(options, labels),
        group=str(row["group"]),
    )


def record_item(row: Values) -> Item:
    """A news story with its highlights, and the next one with each name of the story in its gap."""
    passage, query = row["passage"], words(row["query"], "query")
    story = words(passage["text"], "text")
    if PLACEHOLDER not in query:
        raise ValueError(f"the query has no {PLACEHOLDER}")
    # a place is told by its first and last character
    found = (passage["text"][one["start"] : one["end"] + 1] for one in passage["entities"])
    names = tuple(dict.fromkeys(name.strip() for name in found if name.strip()))
    right = tuple(dict.fromkeys(words(answer["text"], "text") for answer in row["answers"]))
    wanted = set(map(normalized, right))
    gold = [n for n, name in enumerate(names) if normalized(name) in wanted]
    if not gold:
        raise ValueError(f"no name of the story is the answer {right[0]!r}")
    return Item(
        contexts=(HIGHLIGHT.sub("\n- ", story),),
        completions=tuple(f"\n- {query.replace(PLACEHOLDER, name)}" for name in names),
        gold=gold[0],
        answers=(names, right),
        group=str(row["group"]),
    )


def analogy(row: Values) -> Item:
    """A pair of words, and five others of which one is to each other alike."""
    stem, *choices = [related(pair) for pair in (row["stem"], *row["choice"])]
    return Item(
        contexts=(f"{stem} as",),
        completions=tuple(f" {choice}" for choice in choices),
        gold=int(row["answer"]),
    )


def related(pair: Any) -> str:
    one, other = (words(word, "a word of a pair") for word in pair)
    return f"{one} is to {other}"
