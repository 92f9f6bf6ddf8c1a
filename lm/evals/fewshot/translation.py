"""Translation as GPT-3 was asked for it (Brown et al. 2020, section 3.3; figures G.36 to G.41).

With examples a line is "sentence = translation"; without, a question asks for the translation. The
paper's are newstest2014 with French and newstest2016 with German and Romanian. BLEU is sacreBLEU's
over international tokens, as in table H.1 (table 3.4 has that of multi-bleu.perl).
"""

from collections.abc import Callable

from lm.evals import parallel
from lm.evals.fewshot.task import Task, Values
from lm.evals.incontext import Item, Style
from lm.evals.protocols import Write
from lm.metrics.bleu import scorers

LANGUAGES = {"en": "English", "de": "German", "fr": "French", "ro": "Romanian"}
TRANSLATED = Write(tokens=100, compare="bleu_intl", metrics=("bleu",))  # how many is our choice


def sides(row: Values) -> Item:
    return Item(contexts=(f"{row['source']} =",), completions=(f" {row['target']}",))


def asked(language: str) -> Callable[[Values], Item]:
    """Without an example."""

    def item(row: Values) -> Item:
        question = f"Q: What is the {language} translation of {row['source']}\n\nA:"
        return Item(contexts=(question,), completions=(f" {row['target']}",))

    return item


def task(
    name: str, source: str, target: str, files: tuple[str, ...], examples: tuple[str, ...],
    whole: int | None = None, remark: str = "",
) -> Task:  # fmt: skip
    """From a language to another; `files` are those of what is to be translated."""
    return Task(
        name=f"{name}_{source}_{target}", shots=64, protocol=TRANSLATED, item=sides,
        alone=asked(LANGUAGES[target]), rows=parallel.reader(source, target), files=files,
        examples=examples, style=Style(between="\n"), whole=whole, remark=remark, needs=scorers,
    )  # fmt: skip


def wmt(year: int, source: str, target: str, whole: int) -> Task:
    """A test set of WMT; with German another year's where only that is there."""
    files, examples = [f"wmt{year}/newstest20{year}.{source}"], [f"wmt{year}/train.{source}"]
    remark = ""
    if {source, target} == set(parallel.TOKENISED):
        side = parallel.TOKENISED[source]
        files.append(f"wmt_ende_opennmt/{side}val.txt")
        examples.append(f"wmt_ende_opennmt/{side}train.txt")
        remark = "newstest2013, its words put together again, where newstest2016 is not there"
    return task(f"wmt{year}", source, target, tuple(files), tuple(examples), whole, remark)


TASKS = (
    wmt(14, "en", "fr", 3003), wmt(14, "fr", "en", 3003),
    wmt(16, "en", "de", 2999), wmt(16, "de", "en", 2999),
    wmt(16, "en", "ro", 1999), wmt(16, "ro", "en", 1999),
    *(
        task(
            "multi30k", source, target, (f"multi30k/test_2016_flickr.{source}",),
            (f"multi30k/train.{source}",), remark="captions of images, which the paper has not",
        )
        for source, target in (("en", "fr"), ("fr", "en"))
    ),
)  # fmt: skip
