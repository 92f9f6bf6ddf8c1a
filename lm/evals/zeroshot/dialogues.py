"""Questions about a passage in a dialogue: CoQA (Radford et al. 2019, section 3.5; Reddy et al.
2019).

The passage, the questions and answers so far, and the question, then "A:"; greedy. The turns so far
have their right answers, and the oldest are left out where all do not fit. F1 is the official one:
an answer is compared with all references but one, each in turn left out, so that it stands beside
people, who have one reference fewer than there are.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lm.core.errors import DataError
from lm.data.reading import content
from lm.evals.incontext import Item, Style, fit
from lm.evals.scorer import Scorer
from lm.evals.zeroshot.figure import Figure, ratio_of
from lm.evals.zeroshot.prompts import counted, written
from lm.metrics.answers import left_out_f1

TOKENS = 24


@dataclasses.dataclass(frozen=True)
class Dialogue:
    passage: str
    turns: tuple[Item, ...]  # in order; the first answer is the one that is shown


def read_coqa(path: Path) -> list[Dialogue]:
    """The dialogues of `coqa-dev-v1.0.json`.

    Raises:
      DataError: not of that form, and where.
    """
    try:
        stories = json.loads(content(path))["data"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: not CoQA's JSON ({error!r}): expected data[]") from None
    found = []
    for number, story in enumerate(stories):
        try:
            more = story.get("additional_answers", {}).values()
            answers = [story["answers"], *more]
            turns = [
                turn(asked["input_text"], [each[n]["input_text"] for each in answers])
                for n, asked in enumerate(story["questions"])
            ]
            found.append(Dialogue(story["story"].strip(), tuple(turns)))
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            raise DataError(f"{path}: data[{number}] is no dialogue ({error!r})") from None
    if not any(dialogue.turns for dialogue in found):
        raise DataError(f"no questions in {path}")
    return found


def turn(question: str, answers: Sequence[str]) -> Item:
    return Item(
        contexts=(f"Q: {question.strip()}\nA:",),
        completions=tuple(f" {answer.strip()}" for answer in answers),
    )


def dialogue_figures(scorer: Scorer, dialogues: Sequence[Dialogue]) -> list[Figure]:
    """F1 of all questions; its error is over dialogues, and so is its number of items.

    Raises:
      DataError: no question fits the context.
    """
    fitted, owners = [], []
    for number, dialogue in enumerate(dialogues):
        style = Style(between="\n", description=dialogue.passage)
        for place, item in enumerate(dialogue.turns):
            prompt = fit(
                item, dialogue.turns[:place], style, scorer.tokenizer, length=scorer.length,
                answer=TOKENS,
            )  # fmt: skip
            if prompt is not None:
                fitted.append(prompt)
                owners.append(number)
    scores = np.zeros((2, len(dialogues)))
    answered = written(scorer, fitted, TOKENS)
    for owner, (prompt, text) in zip(owners, answered, strict=True):
        scores[:, owner] += left_out_f1(text, prompt.item.completions), 1
    asked = scores[:, scores[1] > 0]
    figure = ratio_of("f1", asked[0].tolist(), asked[1].astype(int).tolist())
    return counted([figure], answered, sum(len(dialogue.turns) for dialogue in dialogues))
