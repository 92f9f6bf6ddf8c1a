"""The text tasks of GPT-4's table 2 that are at hand, with its numbers of examples (OpenAI 2023).

The report says how many examples there are and not how they are written: texts are those that
GPT-3's paper has for the task, GSM8K's those of its own authors, HumanEval's the bare prompts.
MMLU's rows are not at hand.
"""

import re
from dataclasses import replace

from lm.evals.fewshot.task import Task, Values
from lm.evals.fewshot.tasks import TASKS as GPT3
from lm.evals.fewshot.tasks import text
from lm.evals.incontext import Item
from lm.evals.protocols import Program, Write

CALCULATED = re.compile(r"<<[^>]*>>")  # marks for a calculator, which is not there


def gsm8k(row: Values) -> Item:
    """A question and its solution, which ends with "#### " and the number (Cobbe et al. 2021)."""
    solution = CALCULATED.sub("", text(row, "answer"))
    if "#### " not in solution:
        raise ValueError("the solution has no #### before its answer")
    return Item(
        contexts=(f"Question: {text(row, 'question')}\nAnswer:",), completions=(f" {solution}",)
    )


def humaneval(row: Values) -> Item:
    """The head of a function, to be gone on with; right is what ends behind it without an error."""
    name, tests = text(row, "entry_point"), row["test"]
    return Item(
        id=text(row, "task_id"),
        contexts=(row["prompt"],),
        completions=(row["canonical_solution"],),
        answers=((f"{tests}\ncheck({name})\n",),),
    )


NAMED = {task.name: task for task in GPT3}
TASKS = (
    replace(NAMED["hellaswag"], shots=10),
    replace(NAMED["arc_challenge"], shots=25),
    replace(NAMED["winogrande"], shots=5),
    Task(
        name="humaneval", shots=0, protocol=Program(), item=humaneval, whole=164,
        files=("humaneval/HumanEval.jsonl",),
        remark="greedy, one program a problem; the report does not say how it drew",
    ),
    replace(NAMED["drop"], shots=3),
    Task(
        name="gsm8k", shots=5, item=gsm8k, whole=1319,
        protocol=Write(tokens=256, beams=1, stop=("\n\n", "Question:"), compare="number"),
        files=("gsm8k/test.jsonl", "gsm8k/train.jsonl"), examples=("gsm8k/train.jsonl",),
        remark="training rows where there is no test set; a part of them was in GPT-4's training",
    ),
)  # fmt: skip
