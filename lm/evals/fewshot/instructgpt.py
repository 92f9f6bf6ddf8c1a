"""The automatic tasks of InstructGPT's paper (Ouyang et al. 2022, appendix D, figures 18 to 27).

An instruction, examples if any, and the question; what is written is greedy and ends with the line,
and choices are compared by their mean log-likelihood a token. Instructions and numbers of examples
are the paper's. Line ends between the parts, and how a pronoun is marked, are as GPT-3's paper has
them. Left out are TruthfulQA and RealToxicityPrompts, whose judges are not to be had, and the two
measures of bias, Winogender and CrowS-Pairs.
"""

from dataclasses import replace
from functools import partial

from lm.evals import parallel
from lm.evals.comparisons import Compare
from lm.evals.fewshot import reading
from lm.evals.fewshot.task import Task, Values
from lm.evals.fewshot.tasks import TASKS as GPT3
from lm.evals.fewshot.tasks import labelled, marked, passage, text
from lm.evals.incontext import Item, Style
from lm.evals.protocols import Choose, Write
from lm.metrics.bleu import scorers

BACKGROUND = "Answer each question using information in the preceding background paragraph."
NOT_IN_BACKGROUND = "Not in background"
UNKNOWN = "I don't know"


def greedy(tokens: int, compare: Compare, *metrics: str) -> Write:
    """T = 0, to the end of the line; how many tokens at most is our choice."""
    return Write(tokens=tokens, beams=1, compare=compare, metrics=metrics)


def unless(answer: str) -> Style:
    """The instruction for questions that may have no answer."""
    return Style(
        description=f"{BACKGROUND} If there is not enough information provided, answer with "
        f'"{answer}".'
    )


def rte(row: Values) -> str:
    premise, hypothesis = text(row, "sentence1"), text(row, "sentence2").removesuffix(".")
    return (
        f"Passage: {premise}\nQuestion: From this passage can one reasonably conclude that "
        f"{hypothesis}?\nAnswer:"
    )


def sst(row: Values) -> str:
    return f"Text: {text(row, 'sentence')}\nLabel:"


def wsc(row: Values) -> Item:
    """The noun is written; right is what names it where the row says that it is meant, and what
    does not where the row says that it is not."""
    shown, pronoun = marked(row)
    noun, label = text(row["target"], "span1_text"), str(row["label"]).lower()
    if label not in ("true", "false"):
        raise ValueError(f'"label" is {row["label"]!r:.40}, expected true or false')
    return Item(
        contexts=(
            f"Passage: {shown}\nQuestion: In the passage above, what does the pronoun "
            f'"*{pronoun}*" refer to?\nAnswer:',
        ),
        completions=(f" {noun}",),
        answers=((noun,), (label,)),
        group=passage(text(row, "text")),
    )


def french(row: Values) -> Item:
    return Item(
        contexts=(f"French: {row['source']}\nEnglish:",), completions=(f" {row['target']}",)
    )


def summarised(row: Values, body: tuple[str, ...], summary: tuple[str, ...]) -> Item:
    """A text and its summary, which is one line; columns by the first name that there is."""
    long, short = (next(name for name in names if name in row) for names in (body, summary))
    line = " ".join(text(row, short).split())
    return Item(contexts=(f"{text(row, long)}\n\nTL;DR:",), completions=(f" {line}",))


NAMED = {task.name: task for task in GPT3}
PAIRS = Style(description="Translate the following sentences from French into English.")
ROUGE = greedy(128, "rouge", "rougeL")
PRINTED = (
    "the paper does not say with how many examples, and prints the same figures for CNN/DM and for "
    "TL;DR"
)

TASKS = (
    replace(
        NAMED["squad2"], shots=4, style=unless(NOT_IN_BACKGROUND),
        item=partial(reading.squad2, none=NOT_IN_BACKGROUND),
        protocol=greedy(32, "squad2", "answer_f1", "exact_match"),
    ),
    replace(
        NAMED["drop"], shots=4, style=Style(description=BACKGROUND),
        protocol=greedy(16, "drop", "answer_f1", "exact_match"),
    ),
    replace(
        NAMED["quac"], shots=2, style=unless(UNKNOWN), whole=7306,
        item=partial(reading.quac, none=UNKNOWN), protocol=greedy(64, "left_out", "answer_f1"),
    ),
    replace(
        NAMED["hellaswag"], shots=15,
        style=Style(
            description="Complete each independent paragraph using common-sense reasoning."
        ),
    ),
    replace(
        NAMED["rte"], shots=15,
        item=labelled({"entailment": "Yes", "not_entailment": "No"}, rte, "sentence1"),
    ),
    Task(
        name="sst2", shots=15, protocol=Choose(), whole=872,
        item=labelled({"1": "positive", "0": "negative"}, sst),
        files=("glue_sst2/dev.tsv", "sst2/dev.tsv"),
        examples=("glue_sst2/train.tsv", "sst2/train.tsv"),
        style=Style(
            description="For each snippet of text, label the sentiment of the text as positive or "
            "negative."
        ),
    ),
    replace(
        NAMED["wsc"], shots=15, item=wsc, protocol=greedy(16, "noun", "accuracy"),
        shows=lambda item: item.answers[1] == ("true",),  # of others the noun is not known
        style=Style(
            description="Final Exam with Answer Key\n\nInstructions: Please carefully read the "
            "following passages. For each passage, you must identify which noun the pronoun "
            "marked in *bold* refers to."
        ),
        remark="examples are of rows that say which noun is meant; where a noun is not meant, all "
        "that does not name it is right, as often as the column of chance has it",
        version=2,  # a noun is named by words, not by letters
    ),
    *(
        Task(
            name=name, shots=15, protocol=greedy(100, "bleu", "bleu"), item=french, style=PAIRS,
            rows=parallel.reader("fr", "en"), files=(file,), examples=(examples,), whole=whole,
            needs=scorers, remark=remark,
        )
        for name, file, examples, whole, remark in (
            ("wmt15_fr_en", "wmt15/newsdiscusstest2015.fr", "wmt15/newsdiscussdev2015.fr", 1500,
             ""),
            ("multi30k_fr_en", "multi30k/test_2016_flickr.fr", "multi30k/train.fr", None,
             "captions of images, which the paper has not"),
        )
    ),
    Task(
        name="cnn_dailymail", shots=15, protocol=ROUGE, whole=2354, remark=PRINTED,
        item=partial(summarised, body=("article",), summary=("highlights", "summary")),
        files=("cnn_dailymail/test.jsonl", "cnndm_sample/val.jsonl"),
        examples=("cnn_dailymail/train.jsonl", "cnndm_sample/train.jsonl"),
    ),
    Task(
        name="tldr", shots=15, protocol=ROUGE, whole=2500, remark=PRINTED,
        item=partial(summarised, body=("post", "content"), summary=("summary",)),
        files=("tldr/test.jsonl",), examples=("tldr/train.jsonl",),
    ),
)  # fmt: skip
