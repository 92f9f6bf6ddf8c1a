"""RACE (Lai et al. 2017): questions of English examinations for schools, each with four answers.

A file is a passage, `RACE/train/high/1023.txt`: one JSON object with the columns `questions`,
`options` and `answers`, letters. `middle` and `high` are the schools; the paper's RACE is both.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from lm.data.tasks.choices import choice
from lm.data.tasks.forms import Form, Values
from lm.data.tasks.rows import Problem, Row, lines, stem

COLUMNS = ("questions", "options", "answers")
LETTERS = tuple("ABCD")


def questions(path: Path) -> Iterator[Row | Problem]:
    """A question a row: id, as `high1023:0`, article, question, options, answer.

    Problems stand at their question, or at the file: files of this kind are one line.
    """
    text = list(lines(path))
    unreadable = next((line for _, line in text if isinstance(line, Problem)), None)
    if unreadable:
        yield unreadable
        return
    try:
        entry = json.loads("\n".join(str(line) for _, line in text))
        article, columns = entry["article"], [entry[name] for name in COLUMNS]
        if not all(isinstance(column, list) for column in columns):
            raise ValueError(f"{', '.join(COLUMNS)} must be lists")
        asked = list(zip(*columns, strict=True))
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        yield Problem(f"{path}", f"no passage of RACE ({error!r})")
        return
    for number, (question, options, answer) in enumerate(asked):
        name = f"{stem(path)}:{number}"
        values = {
            "id": path.parent.name + name, "article": article,
            "question": question, "options": options, "answer": answer,
        }  # fmt: skip
        yield Row(f"{path}: questions[{number}]", name, values)


def restated(row: Values) -> Values:
    question, options, answer = row["question"], row["options"], row["answer"]
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"question is {question!r:.40}, expected text")
    return {
        "id": row["id"],
        "context": row["article"],
        "question": question,
        "choices": options,
        "label": LETTERS.index(answer) if answer else None,
        "document": row["article"],  # its questions are held out together
    }


def race(school: str) -> Form:
    """`school`: "middle", "high", or "*" for both."""
    parts = ("train", "dev", "test")
    train, valid, test = ((f"{part}/{school}/*.txt",) for part in parts)
    return choice(restated, ("RACE", "race"), train, valid, test)


RACE_TASKS: dict[str, Form] = {
    "race": race("*"), "race_middle": race("middle"), "race_high": race("high"),
}  # fmt: skip
