"""Questions about a passage, in the texts of GPT-3's appendix G: QuAC, RACE, SQuADv2, CoQA, DROP.

Each set is read in the form in which it was published. A question of QuAC, RACE, SQuADv2 and CoQA
stands behind those before it on the same passage, with their right answers (figures G.1, G.3, G.18
and G.28). How the paper writes that there is no answer is not printed: here it is the word of the
set's own, and "unanswerable" for SQuADv2.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lm.core.errors import DataError
from lm.data.reading import content
from lm.data.tasks import rows as files
from lm.data.tasks.config import numbered
from lm.data.tasks.race import questions
from lm.data.tasks.rows import Problem, Row
from lm.evals.fewshot.task import Passed, Values
from lm.evals.incontext import Item
from lm.metrics.answers import NO_ANSWER, answer_f1

QUAC_NO_ANSWER = "CANNOTANSWER"  # the data's own word, which also ends each of its passages
AGREED = 0.4  # F1 among people, below which QuAC's evaluation leaves a question out


def words(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'"{name}" is {value!r:.40}, expected text')
    return value.strip()


# -------------------------------------------------------------------- readers


def turns(path: Path) -> Iterator[Row | Problem]:
    """Questions of SQuAD's layout (QuAC's as well), each with those before it on its passage."""
    place, before = "", list[Values]()
    for row in files.squad(path):
        if isinstance(row, Problem):
            yield row
            continue
        values = row.values
        here = row.where.rpartition(".qas")[0]
        if here != place:
            place, before = here, list[Values]()
        yield Row(row.where, row.name, values | {"before": list(before), "group": place})
        before.append(values)


def coqa(path: Path) -> Iterator[Row | Problem]:
    """`coqa-dev-v1.0.json`: a question a row, with those before it."""
    for where, story in stories(path):
        try:
            more = [story["additional_answers"][key] for key in story.get("additional_answers", {})]
            asked = [
                {
                    "question": question["input_text"],
                    "answers": [each[n]["input_text"] for each in [story["answers"], *more]],
                }
                for n, question in enumerate(story["questions"])
            ]
            passage = story["story"]
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            yield Problem(where, f"no dialogue of CoQA ({error!r})")
            continue
        for n, values in enumerate(asked):
            named = {"story": passage, "before": asked[:n], "group": where}
            yield Row(f"{where}.questions[{n}]", f"{where}:{n}", values | named)


def drop(path: Path) -> Iterator[Row | Problem]:
    """`drop_dataset_dev.json`: an object of passages, each with its questions."""
    found = whole(path)
    if not isinstance(found, dict):
        raise DataError(f"{path}: not DROP's JSON: expected an object of passages")
    for name, entry in found.items():
        where = f"{path}: {name}"
        try:
            passage, pairs = entry["passage"], entry["qa_pairs"]
            for n, pair in enumerate(pairs):
                identity = str(pair.get("query_id", f"{name}:{n}"))
                values = {"passage": passage, "group": name, **pair}
                yield Row(f"{where}.qa_pairs[{n}]", identity, values)
        except (KeyError, TypeError, AttributeError) as error:
            yield Problem(where, f"no passage of DROP ({error!r})")


def race(folder: Path) -> Iterator[Row | Problem]:
    """`RACE/test/high`: a file a passage, with its questions, options and letters."""
    paths = sorted(folder.glob("*.txt"), key=numbered)
    if not paths:
        raise DataError(f"{folder} has no .txt files: it is not a folder of RACE")
    for path in paths:
        before = list[Values]()
        for row in questions(path):
            if isinstance(row, Problem):
                yield row
                continue
            more = {"before": list(before), "group": path.name}
            yield Row(row.where, row.name, row.values | more)
            before.append(row.values)


def stories(path: Path) -> Iterator[tuple[str, Any]]:
    found = whole(path)
    if not isinstance(found, dict) or not isinstance(found.get("data"), list):
        raise DataError(f"{path}: not CoQA's JSON: expected data[]")
    yield from ((f"{path}: data[{n}]", story) for n, story in enumerate(found["data"]))


def whole(path: Path) -> Any:
    try:
        return json.loads(content(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); copy it again") from None


# ---------------------------------------------------------------------- texts


def dialogue(
    head: str, row: Values, shown: Callable[[Values], str], references: Sequence[str]
) -> Item:
    """A passage, the questions before with their answers, and the question."""
    said = [
        f"Q: {words(turn['question'], 'question')}\n\nA: {shown(turn)}\n\n"
        for turn in row["before"]
    ]
    return Item(
        contexts=(f"{head}\n\n{''.join(said)}Q: {words(row['question'], 'question')}\n\nA:",),
        completions=tuple(f" {answer}" for answer in references),
        group=str(row["group"]),
    )


def squad2(row: Values, none: str = NO_ANSWER) -> Item:
    """`none`: how it is written that there is no answer."""
    title, passage = words(row["title"], "title"), words(row["context"], "context")
    head = f"Title: {title.replace('_', ' ')}\n\nBackground: {passage}"
    return dialogue(
        head, row, lambda turn: squad2_answers(turn, none)[0], squad2_answers(row, none)
    )


def squad2_answers(row: Values, none: str) -> list[str]:
    if row.get("is_impossible"):
        return [none]
    return list(dict.fromkeys(words(answer["text"], "text") for answer in row["answers"]))


def quac(row: Values, none: str = QUAC_NO_ANSWER) -> Item:
    """`none`: how it is written that there is no answer.

    The references are the official evaluation's (Choi et al. 2018): spans where most people gave
    one, otherwise that there is no answer; questions on which people disagree are left out.
    """
    references = quac_answers(row, none)
    if len(references) > 1:
        each = [
            answer_f1([one], [references[:n] + references[n + 1 :]])
            for n, one in enumerate(references)
        ]
        if sum(each) / len(each) < AGREED:
            raise Passed
    passage = words(row["context"], "context").removesuffix(QUAC_NO_ANSWER).strip()
    title, section = words(row["title"], "title"), words(row["section"], "section_title")
    head = f"TITLE: {title} -- {section}\nPARAGRAPH: {passage}"
    return dialogue(head, row, lambda turn: quac_shown(turn, none), references)


def quac_shown(row: Values, none: str) -> str:
    """The answer that the dialogue went on from."""
    original = row.get("orig_answer")
    shown = words(original["text"], "text") if original else quac_answers(row, none)[0]
    return none if shown == QUAC_NO_ANSWER else shown


def quac_answers(row: Values, none: str) -> list[str]:
    found = [words(answer["text"], "text") for answer in row["answers"]]
    spans = [text for text in found if text != QUAC_NO_ANSWER]
    return spans if len(spans) > len(found) - len(spans) else [none]


def coqa_item(row: Values) -> Item:
    references = [words(answer, "input_text") for answer in row["answers"]]
    return dialogue(
        words(row["story"], "story"), row, lambda turn: words(turn["answers"][0], "input_text"),
        references,
    )  # fmt: skip


def drop_item(row: Values) -> Item:
    """Its references are spans: a number, a date, or one or several pieces of the passage."""
    given = [row["answer"], *row.get("validated_answers", ())]
    references = [spans for spans in map(drop_spans, given) if spans[0].strip()]
    shown = list(dict.fromkeys(", ".join(spans) for spans in references))
    passage, question = words(row["passage"], "passage"), words(row["question"], "question")
    return Item(
        contexts=(f"Passage: {passage}\nQuestion: {question}\nAnswer:",),
        completions=tuple(f" {text}" for text in shown),
        answers=tuple(references),
        group=str(row["group"]),
    )


def drop_spans(answer: Values) -> tuple[str, ...]:
    if str(answer.get("number", "")):
        return (str(answer["number"]),)
    if answer.get("spans"):
        return tuple(map(str, answer["spans"]))
    date = answer.get("date") or {}
    return (" ".join(str(date.get(part, "")) for part in ("day", "month", "year")).strip(),)


def race_item(row: Values) -> Item:
    said = [
        f"Q: {words(turn['question'], 'question')}\n\nA: {race_options(turn)[letter(turn)]}\n\n"
        for turn in row["before"]
    ]
    head = f"Article:\n{words(row['article'], 'article')}\n\n{''.join(said)}"
    return Item(
        contexts=(f"{head}Q: {words(row['question'], 'question')}\n\nA:",),
        completions=tuple(f" {option}" for option in race_options(row)),
        gold=letter(row),
        group=str(row["group"]),
    )


def race_options(row: Values) -> list[str]:
    return [words(option, "options") for option in row["options"]]


def letter(row: Values) -> int:
    return "ABCD".index(words(row["answer"], "answers"))
