"""Multiple choice as published: a context and endings or answers, of which one is right."""

import os
import re
from collections.abc import Callable

from lm.data.tasks.forms import Form, Values

LETTERED = re.compile(r"\s*\([A-E1-5]\)\s+")  # "(A) fish (B) fowl"


def choice(
    restate: Callable[[Values], Values],
    folders: tuple[str, ...],
    train: tuple[str, ...],
    valid: tuple[str, ...],
    test: tuple[str, ...] = (),
    referents: bool = False,
) -> Form:
    return Form(
        kind="choice",
        metrics=("accuracy",),
        restate=restate,
        folders=folders,
        train=train,
        valid=valid,
        test=test,
        referents=referents,
    )


def swag(row: Values) -> Values:
    """A sentence, and how the next one, whose beginning is given, may end (Zellers et al. 2018)."""
    if "ending0" not in row:
        return row
    endings = [f"{row['sent2']} {row[f'ending{k}']}" for k in range(4)]
    return {"context": row["sent1"], "choices": endings, "label": row.get("label")}


def hellaswag(row: Values) -> Values:
    return {
        "context": row["ctx"],
        "choices": row["endings"],
        "label": row.get("label"),
    }


def piqa(row: Values) -> Values:
    return {
        "id": row.get("id"),
        "context": row["goal"],
        "choices": [row["sol1"], row["sol2"]],
        "label": row.get("label"),
    }


def copa(row: Values) -> Values:
    """SuperGLUE's rows, as one sentence (GPT-3, figure G.5), or ones that are so already."""
    if "query" in row:
        return {"context": row["query"], "choices": row["choices"], "label": row.get("gold")}
    connective = {"cause": "because", "effect": "therefore"}[row["question"]]
    return {
        "id": row.get("idx"),
        "context": f"{row['premise'].strip().removesuffix('.')} {connective}",
        "choices": [text[:1].lower() + text[1:] for text in (row["choice1"], row["choice2"])],
        "label": row.get("label"),
    }


def openbookqa(row: Values) -> Values:
    """A stem and its answers, by letters: of the TSV, or of the JSONL that ARC shares."""
    if "Question Stem" in row:
        stem, identity, key = row["Question Stem"], row["ID"], row.get("Answer Key")
        first, *answers = LETTERED.split(row["Choices"])
        if first:
            raise ValueError(f"choices begin with {first!r}, expected (A)")
        letters = [mark.strip(" ()") for mark in LETTERED.findall(row["Choices"])]
    else:
        stem, identity, key = row["question"]["stem"], row["id"], row.get("answerKey")
        answers = [answer["text"] for answer in row["question"]["choices"]]
        letters = [answer["label"] for answer in row["question"]["choices"]]
    label = letters.index(key) if key else None
    return {"id": identity, "context": stem, "choices": answers, "label": label}


def storycloze(row: Values) -> Values:
    """Four sentences of a story and two last ones (Mostafazadeh et al. 2016)."""
    right = row.get("AnswerRightEnding")
    return {
        "id": row["InputStoryid"],
        "context": " ".join(row[f"InputSentence{k}"] for k in (1, 2, 3, 4)),
        "choices": [row[f"RandomFifthSentenceQuiz{k}"] for k in (1, 2)],
        "label": int(right) - 1 if right else None,
    }


def winograd(row: Values) -> Values:
    """A sentence whose pronoun is put as each of two referents (Levesque et al. 2012).

    The choices begin where the two sentences part, or one word earlier where nothing is left.
    """
    if "context_options" not in row:
        return row
    sentences = [f"{option} {row['continuation']}".split() for option in row["context_options"]]
    first, second = (option.split() for option in row["context_options"])
    alike = len(os.path.commonprefix([first, second]))
    return {
        "context": " ".join(sentences[0][:alike]),
        "choices": [" ".join(sentence[alike:]) for sentence in sentences],
        "label": row.get("gold"),
    }


CHOICE_TASKS: dict[str, Form] = {
    "swag": choice(swag, ("swag", "SWAG"), ("train.csv",), ("val.csv", "valid.csv"), ("test.csv",)),
    "hellaswag": choice(
        hellaswag,
        ("hellaswag", "HellaSwag"),
        ("hellaswag_train.jsonl", "train.jsonl"),
        ("hellaswag_val.jsonl", "val.jsonl"),
        ("hellaswag_test.jsonl", "test.jsonl"),
    ),
    "piqa": choice(piqa, ("piqa", "PIQA"), ("train.jsonl",), ("valid.jsonl", "dev.jsonl")),
    "copa": choice(
        copa, ("copa", "COPA"), ("train.jsonl", "copa.jsonl"), ("val.jsonl",), ("test.jsonl",)
    ),
    "openbookqa": choice(
        openbookqa,
        ("openbookqa", "OpenBookQA"),
        ("train.jsonl", "train.tsv"),
        ("dev.jsonl", "dev.tsv"),
        ("test.jsonl", "test.tsv"),
    ),
    "winograd": choice(
        winograd,
        ("winograd", "winograd_wsc273"),
        ("train.jsonl",),
        ("winograd_wsc273.jsonl", "valid.jsonl"),
        ("winograd_wsc273.jsonl", "test.jsonl"),  # all of them: nobody trains on these
        referents=True,
    ),
    "winogrande": choice(
        winograd,
        ("winogrande", "WinoGrande"),
        ("train.jsonl",),
        ("winogrande.jsonl", "valid.jsonl"),
        ("winogrande.jsonl", "test.jsonl"),
        referents=True,
    ),
    # The training stories have no wrong endings: GPT-1 trains on the validation set.
    "storycloze": choice(
        storycloze,
        ("storycloze", "StoryCloze"),
        ("cloze_test_val__spring2016.csv",),
        ("valid.csv",),
        ("cloze_test_test__spring2016.csv",),
    ),
}
