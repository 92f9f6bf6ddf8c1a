"""The tasks of GPT-3's paper (Brown et al. 2020, section 3 and appendix G) over local files.

Texts, examples K and normalisations are the paper's. Where a row of our files has not what the
paper's text needs, or the paper prints no example, the text is our choice, and said where it
stands. The file is long because it is a table: each task beside how its rows become text, so that
all of them can be held against the appendix at once.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace

from lm.data.arithmetic import OPERATIONS, problems
from lm.data.scrambles import SCRAMBLES, scrambled
from lm.data.tasks import choices
from lm.evals.fewshot import options, reading, translation
from lm.evals.fewshot.task import Task, Values
from lm.evals.incontext import Item, Style
from lm.evals.options import ChooseName, Verify
from lm.evals.protocols import Choose, Predict, Write

LINES = Style(between="\n")
ABOVE_ANSWER = Choose(rule="unconditional", answer_context="Answer:")
ANSWER = Write(tokens=32)  # names and dates
MADE = 2000  # items of a task whose file is not there: of arithmetic as many as the paper has


def text(values: Values, name: str) -> str:
    """A column that has to be text."""
    value = values[name]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'"{name}" is {value!r:.40}, expected text')
    value.encode()  # JSON can spell half a surrogate pair, which is no text
    return value.strip()


def texts(values: Values, name: str) -> list[str]:
    """A column that has to be some texts."""
    value = values[name]
    if not isinstance(value, list) or not value:
        raise ValueError(f'"{name}" is {value!r:.40}, expected some texts')
    return [text({name: each}, name) for each in value]


def passage(text: str) -> str:
    """The group of what is asked of this text: its letters, since one text is printed with other
    marks and blanks in other rows."""
    return re.sub(r"\W+", "", text.lower())


# -------------------------------------------------------------- multiple choice


def choice(
    restated: Callable[[Values], Values], written: Callable[[str], str] = str.strip
) -> Callable[[Values], Item]:
    """A context, and what may follow it after a blank."""

    def item(row: Values) -> Item:
        values = restated(row)
        return Item(
            contexts=(written(text(values, "context")),),
            completions=tuple(f" {answer}" for answer in texts(values, "choices")),
            gold=int(values["label"]),
        )

    return item


def question(stem: str) -> str:
    """ARC's text."""
    return f"Question: {stem.removeprefix('Question: ')}\nAnswer:"


def schema(row: Values) -> Item:
    """Winograd's: what follows the pronoun, after each of the things it may stand for. Its twin,
    which goes on otherwise and means the other thing, is of the same group."""
    contexts = tuple(texts(row, "context_options"))
    return Item(
        contexts=contexts,
        completions=(f" {text(row, 'continuation')}",),
        gold=int(row["gold"]),
        group=passage("".join(sorted(contexts))),
    )


def arc(row: Values) -> Values:
    return {"context": row["query"], "choices": row["choices"], "label": row["gold"]}


# ------------------------------------------------------------------ label words


def labelled(
    words: dict[str, str], written: Callable[[Values], str], shared: str = ""
) -> Callable[[Values], Item]:
    """A text, and a word for each label; `shared` is the column that several rows may have alike,
    such as a passage."""

    def item(row: Values) -> Item:
        label = row["label"]
        name = label if isinstance(label, str) else json.dumps(label)
        return Item(
            contexts=(written(row),),
            completions=tuple(f" {word}" for word in words.values()),
            gold=list(words).index(name),
            group=passage(text(row, shared)) if shared else "",
        )

    return item


YES_NO = {"false": "no", "true": "yes"}


def boolq(row: Values) -> str:
    return f"{text(row, 'passage')}\nquestion: {text(row, 'question')}?\nanswer:"


def rte(row: Values) -> str:
    premise, hypothesis = text(row, "sentence1"), text(row, "sentence2")
    return f"{premise}\nquestion: {hypothesis} True or False?\nanswer:"


def cb(row: Values) -> str:
    premise, hypothesis = text(row, "premise"), text(row, "hypothesis")
    return f"{premise}\nquestion: {hypothesis}. true, false, or neither?\nanswer:"


def wic(row: Values) -> str:
    sentences = f"{text(row, 'sentence1')}\n{text(row, 'sentence2')}"
    word = text(row, "word")
    return (
        f"{sentences}\nquestion: Is the word '{word}' used in the same way in the two sentences "
        "above?\nanswer:"
    )


def marked(row: Values) -> tuple[str, str]:
    """The passage of a row of WSC with its pronoun between stars, and the pronoun."""
    words, target = text(row, "text").split(" "), row["target"]
    pronoun, place = text(target, "span2_text"), int(target["span2_index"])
    places = [n for n, word in enumerate(words) if re.sub(r"['’]s\W*$|\W", "", word) == pronoun]
    if not places:
        raise ValueError(f'the passage has no word "{pronoun}"')
    nearest = min(places, key=lambda n: abs(n - place))  # double blanks move the numbers of words
    words[nearest] = words[nearest].replace(pronoun, f"*{pronoun}*")
    return " ".join(words), pronoun


def wsc(row: Values) -> str:
    """The paper lets the model write the noun; here it is asked whether the noun is meant."""
    shown, pronoun = marked(row)
    return (
        f'Passage: {shown}\nQuestion: In the passage above, does the pronoun "*{pronoun}*" refer '
        f"to {text(row['target'], 'span1_text')}?\nAnswer:"
    )


# -------------------------------------------------------------------- free form


def asked(question: str, answers: list[str]) -> Item:
    return Item(
        contexts=(f"Q: {question}\n\nA:",),
        completions=tuple(f" {answer}" for answer in dict.fromkeys(answers)),
    )


def triviaqa(row: Values) -> Item:
    context = text(row, "context").removeprefix("Question: ").removesuffix("\nAnswer:")
    return asked(context, [text(row, "answer"), *texts(row, "aliases")])


def natural_question(row: Values) -> Item:
    return asked(f"{text(row, 'question')}?", texts(row, "answer"))


def web_question(row: Values) -> Item:
    return asked(text(row, "qText"), texts(row, "answers"))


def lambada(row: Values) -> Item:
    before, blank, last = text(row, "text").rpartition(" ")
    if not blank:
        raise ValueError("a text of one word")
    return Item(contexts=(before,), completions=(f" {last}",))


def cloze(row: Values) -> Item:
    """LAMBADA's form with examples: the word is asked for by a blank and an arrow (figure G.21)."""
    item = lambada(row)
    return Item(contexts=(f"{item.contexts[0]} ____. ->",), completions=item.completions)


def released(row: Values) -> Item:
    """A row of the files released with the paper; the newlines before it stand between examples."""
    context, completion = row["context"].lstrip("\n"), row["completion"]
    if not context or not completion.startswith(" "):
        raise ValueError("expected a context and a completion that begins with a blank")
    return Item(contexts=(context,), completions=(completion,))


def made(name: str) -> Callable[[], list[Item]]:
    """Of a task of arithmetic or of words."""

    def items() -> list[Item]:
        if name in SCRAMBLES:
            rows = scrambled(name, MADE, seed=0)
        else:
            rows = [problem.row for problem in problems(name, MADE, seed=0)]
        return [Item(**(vars(released(row)) | {"id": f"{name}:{n}"})) for n, row in enumerate(rows)]

    return items


# -------------------------------------------------------------------- the tasks

SHOWN_SET = "the paper measures on its test set"

CHOICES = (
    Task(
        name="hellaswag", shots=20, protocol=Choose(), item=choice(choices.hellaswag), whole=10_042,
        files=("hellaswag/val.jsonl", "hellaswag/hellaswag_val.jsonl"),
        examples=("hellaswag/train.jsonl", "hellaswag/hellaswag_train.jsonl"),
    ),
    Task(
        name="storycloze", shots=70, protocol=Choose(), item=choice(choices.storycloze), whole=1871,
        files=("storycloze/cloze_test_test__spring2016.csv",),
        examples=("storycloze/cloze_test_val__spring2016.csv",),
    ),
    Task(
        name="piqa", shots=50, protocol=Choose(), item=choice(choices.piqa), whole=1838,
        files=("piqa/valid.jsonl", "piqa/dev.jsonl"), examples=("piqa/train.jsonl",),
    ),
    Task(
        name="arc_easy", shots=50, protocol=ABOVE_ANSWER, item=choice(arc, question), whole=2376,
        files=("arc_easy/arc_easy.jsonl",), examples=("arc_easy/train.jsonl",),
    ),
    Task(
        name="arc_challenge", shots=50, protocol=ABOVE_ANSWER, item=choice(arc, question),
        files=("arc_challenge/arc_challenge.jsonl",), examples=("arc_challenge/train.jsonl",),
        whole=1172,
    ),
    Task(
        name="openbookqa", shots=100, protocol=ABOVE_ANSWER, whole=500,
        item=choice(choices.openbookqa),  # the bare stem, without ARC's marks (figure G.8)
        files=("openbookqa/test.tsv", "openbookqa/dev.tsv", "openbookqa/dev.jsonl"),
        examples=("openbookqa/train.tsv", "openbookqa/train.jsonl"),
        remark="dev set where there is no test set; " + SHOWN_SET,
    ),
    Task(
        name="winograd", shots=7, protocol=Choose(), item=schema, whole=273,
        files=("winograd_wsc273/winograd_wsc273.jsonl",),
    ),
    Task(
        name="winogrande", shots=50, protocol=Choose(), item=schema, whole=1267,
        files=("winogrande/winogrande.jsonl",), examples=("winogrande/train.jsonl",),
    ),
    Task(
        name="copa", shots=32, protocol=Choose(), item=choice(choices.copa), whole=100,
        files=("copa/val.jsonl", "copa/copa.jsonl"), examples=("copa/train.jsonl",),
    ),
    Task(
        name="sat_analogies", shots=20, protocol=Choose(), item=options.analogy, whole=374,
        files=("sat_analogies/test.jsonl",), examples=("sat_analogies/valid.jsonl",),
    ),
)  # fmt: skip

LABELS = (
    Task(
        name="rte", shots=32, protocol=Choose(), whole=277,
        item=labelled({"entailment": "True", "not_entailment": "False"}, rte, "sentence1"),
        files=("glue_rte/dev.tsv", "rte/dev.tsv", "glue_rte/train.tsv"),
        examples=("glue_rte/train.tsv", "rte/train.tsv"),
        remark="GLUE's training rows where there is no dev set",
    ),
    Task(
        name="cb", shots=32, protocol=Choose(metrics=("accuracy", "macro_f1")), whole=56,
        item=labelled(
            {"entailment": "true", "contradiction": "false", "neutral": "neither"}, cb, "premise"
        ),
        files=("superglue_cb/val.jsonl", "cb/val.jsonl"),
        examples=("superglue_cb/train.jsonl", "cb/train.jsonl"), remark=SHOWN_SET,
    ),
    Task(
        name="wic", shots=32, protocol=Choose(), item=labelled(YES_NO, wic), whole=638,
        files=("wic/val.jsonl",), examples=("wic/train.jsonl",), remark=SHOWN_SET,
    ),
    Task(
        name="wsc", shots=32, protocol=Choose(), item=labelled(YES_NO, wsc, "text"), whole=104,
        files=("superglue_wsc/val.jsonl",), examples=("superglue_wsc/train.jsonl",),
        remark=SHOWN_SET + " and lets the model write the noun; here it is yes or no",
    ),
    Task(
        name="boolq", shots=32, protocol=Choose(), item=labelled(YES_NO, boolq, "passage"),
        files=("boolq/val.jsonl",), examples=("boolq/train.jsonl",), whole=3270,
    ),
)  # fmt: skip

ANSWERS = (
    Task(
        name="triviaqa", shots=64, item=triviaqa, whole=7993,
        protocol=replace(ANSWER, compare="trivia"),
        files=("triviaqa_small/triviaqa_small.jsonl", "triviaqa/dev.jsonl"),
        examples=("triviaqa/train.jsonl",),
        remark="3,000 questions of unknown parts",
    ),
    Task(
        name="natural_questions", shots=64, protocol=ANSWER, item=natural_question, whole=3610,
        files=("nq_open/NQ-open.dev.jsonl",), examples=("nq_open/NQ-open.train.jsonl",),
    ),
    Task(
        name="webquestions", shots=64, protocol=ANSWER, item=web_question, whole=2032,
        files=("webquestions/test.jsonl", "webquestions/val.jsonl"),
        examples=("webquestions/trainmodel.jsonl",),
        remark="validation part where there is no test set; " + SHOWN_SET,
    ),
    Task(
        name="lambada", shots=15, protocol=Predict(), item=cloze, alone=lambada, whole=5153,
        style=Style(description="Fill in blank:"),  # of examples alone: the plain text has none
        files=("lambada_openai/lambada_test.jsonl",), examples=("lambada_openai/dev.jsonl",),
        remark="without the stop-word filter",
    ),
)  # fmt: skip

READING = (
    *(
        Task(
            name=f"race_{level}", shots=10, whole=whole, item=reading.race_item, rows=reading.race,
            protocol=Choose(rule="unconditional", answer_context="A:"),
            files=(f"RACE/test/{level}", f"race/test/{level}"),
            examples=(f"RACE/train/{level}", f"race/train/{level}"),
        )
        for level, whole in (("middle", 1436), ("high", 3498))
    ),
    Task(
        name="quac", shots=5, whole=7354, item=reading.quac, rows=reading.turns,
        protocol=Write(tokens=64, compare="left_out", metrics=("answer_f1",)),
        files=("quac/val_v0.2.json", "QuAC/val_v0.2.json"),
        examples=("quac/train_v0.2.json", "QuAC/train_v0.2.json"),
        remark="of the dev set, questions on which people agree, as its own evaluation has it",
    ),
    Task(
        name="squad2", shots=16, whole=11_873, item=reading.squad2, rows=reading.turns,
        protocol=Write(tokens=32, compare="squad2", metrics=("answer_f1", "exact_match")),
        files=("squad_v2.0/dev-v2.0.json", "squad2/dev-v2.0.json",
               "squad_xquad_en/xquad.en.part.json"),
        examples=("squad_v2.0/train-v2.0.json", "squad2/train-v2.0.json"),
        remark="where only XQuAD is there, its questions are of SQuAD 1.1 and all have an answer",
    ),
    Task(
        name="coqa", shots=5, whole=7983, item=reading.coqa_item, rows=reading.coqa,
        protocol=Write(tokens=32, compare="left_out", metrics=("answer_f1",)),
        files=("coqa/coqa-dev-v1.0.json",), examples=("coqa/coqa-train-v1.0.json",),
    ),
    Task(
        name="drop", shots=20, whole=9536, item=reading.drop_item, rows=reading.drop,
        protocol=Write(tokens=16, compare="drop", metrics=("answer_f1", "exact_match")),
        files=("drop/drop_dataset_dev.json",), examples=("drop/drop_dataset_train.json",),
        remark="what is written is one span, also where the answer has several",
    ),
    Task(
        name="multirc", shots=32, whole=953, item=options.multirc_item, rows=options.multirc,
        protocol=Verify(), style=Style(description="READING COMPREHENSION ANSWER KEY"),
        files=("MultiRC/val.jsonl", "multirc/val.jsonl"),
        examples=("MultiRC/train.jsonl", "multirc/train.jsonl"),
        remark=SHOWN_SET + ", and shows every question the same examples",
    ),
    Task(
        name="record", shots=32, whole=10_000, item=options.record_item, rows=options.record,
        protocol=ChooseName(), files=("ReCoRD/val.jsonl", "record/val.jsonl"),
        examples=("ReCoRD/train.jsonl", "record/train.jsonl"), remark=SHOWN_SET,
    ),
)  # fmt: skip

ARITHMETIC = tuple(
    Task(
        name=name, shots=50, protocol=Write(tokens=12, compare="verbatim"), item=released,
        files=(f"gpt3_synthetic/{name}.jsonl",), made=made(name), whole=2000,
    )
    for name in OPERATIONS
)  # fmt: skip

WORDS = tuple(
    Task(
        name=name, shots=100, protocol=Write(tokens=20, compare="verbatim"), item=released,
        files=(f"gpt3_synthetic/{name}.jsonl",), made=made(name), whole=10_000,
        remark="the most frequent words of Python's library where there is no file",
        style=Style(
            between="\n",
            description="Please unscramble the letters into a word, and write that word:",
        ),
    )
    for name in SCRAMBLES
)  # fmt: skip

TASKS = (*CHOICES, *LABELS, *ANSWERS, *READING, *translation.TASKS, *ARITHMETIC, *WORDS)
