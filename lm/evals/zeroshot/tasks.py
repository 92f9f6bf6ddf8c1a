"""The zero-shot tasks of GPT-2's report over local files, each with its protocol."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lm.core.errors import DataError
from lm.data.tasks.rows import Problem, jsonl
from lm.evals import parallel
from lm.evals.incontext import Item
from lm.evals.scorer import Scorer
from lm.evals.zeroshot import cloze, dialogues, lambada, questions, summaries, translation
from lm.evals.zeroshot.corpora import CORPORA, Corpus, corpus_figures, corpus_text
from lm.evals.zeroshot.figure import Figure
from lm.metrics import bleu

Some = TypeVar("Some")
Run = Callable[[Scorer, Sequence[Path], int | None, int], list[Figure]]  # limit of items, seed


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroShot:
    """A task as data."""

    name: str
    files: tuple[tuple[str, ...], ...]  # each by its names below the root: the first there is
    run: Run  # with the files, in this order
    whole: int | None = None  # items of the published set that the report measured on
    remark: str = ""  # what is not as in the report
    needs: Callable[[], object] | None = None  # raises where a package is missing
    context: int = 16  # tokens that the model must be able to read
    spelled: bool = False  # asks how a text is spelled, which a lossy vocabulary does not keep
    version: int = 1  # raised where it is measured otherwise than before

    def paths(self, root: Path) -> list[Path]:
        """The task's files, gzipped or not.

        Raises:
          DataError: one is not there.
        """
        found = []
        for names in self.files:
            paths = [root / (name + end) for name in names for end in ("", ".gz")]
            there = [path for path in paths if path.is_file()]
            if not there:
                raise DataError(
                    f"no file of {self.name} in {root}: looked for {', '.join(names)}, also .gz; "
                    "leave the task out with --tasks, or name another --root"
                )
            found.append(there[0])
        return found


def some(items: Sequence[Some], limit: int | None) -> list[Some]:
    """All items, or some drawn by chance, always the same, in their order."""
    if limit is None or limit >= len(items):
        return list(items)
    chosen = np.random.default_rng(0).permutation(len(items))[:limit]
    return [items[n] for n in sorted(chosen)]


def read(path: Path, item: Callable[[dict[str, Any]], Some]) -> list[Some]:
    """The rows of a JSONL file as items.

    Raises:
      DataError: with file and line, of a row that is no item; or no rows.
    """
    items = []
    for row in jsonl(path):
        if isinstance(row, Problem):
            raise DataError(str(row))
        try:
            items.append(item(row.values))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise DataError(f"{row.where}: not a row of this task ({error!r}); mend it") from None
    if not items:
        raise DataError(f"no rows in {path}")
    return items


def text_of(values: dict[str, Any], name: str) -> str:
    value = values[name]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'"{name}" is {value!r:.40}, expected text')
    return value


# ------------------------------------------------------------------------ tasks


def corpus_task(name: str, corpus: Corpus) -> ZeroShot:
    def run(scorer: Scorer, paths: Sequence[Path], limit: int | None, seed: int) -> list[Figure]:
        return corpus_figures(scorer, corpus, corpus_text(corpus, paths[0]), limit)

    return ZeroShot(
        name=name, files=(corpus.files,), run=run, remark=corpus.remark, spelled=True,
        version=2,  # lines end at LF alone, and bytes that are not scored do not count
    )  # fmt: skip


def rows_task(
    name: str, files: tuple[str, ...], item: Callable[[dict[str, Any]], Some],
    figures: Callable[[Scorer, list[Some], int], list[Figure]], whole: int, context: int = 16,
    spelled: bool = False, version: int = 1,
) -> ZeroShot:  # fmt: skip
    """A task whose items are the rows of one file. `figures` is given the seed as well."""

    def run(scorer: Scorer, paths: Sequence[Path], limit: int | None, seed: int) -> list[Figure]:
        return figures(scorer, some(read(paths[0], item), limit), seed)

    return ZeroShot(
        name=name, files=(files,), run=run, whole=whole, context=context, spelled=spelled,
        version=version,
    )  # fmt: skip


def cbt_task(name: str, kind: str) -> ZeroShot:
    def run(scorer: Scorer, paths: Sequence[Path], limit: int | None, seed: int) -> list[Figure]:
        return cloze.cbt_figures(scorer, some(cloze.read_cbt(paths[0]), limit))

    files = tuple(f"cbt/{folder}cbtest_{kind}_valid_2000ex.txt" for folder in ("", "data/"))
    return ZeroShot(name=name, files=(files,), run=run, whole=2000)


def coqa(scorer: Scorer, paths: Sequence[Path], limit: int | None, seed: int) -> list[Figure]:
    """A limit counts dialogues."""
    return dialogues.dialogue_figures(scorer, some(dialogues.read_coqa(paths[0]), limit))


def schema(row: dict[str, Any]) -> cloze.Schema:
    contexts = tuple(text_of({"context": each}, "context") for each in row["context_options"])
    if not 0 <= int(row["gold"]) < len(contexts):
        raise ValueError(f"the right answer has number {row['gold']}, there are {len(contexts)}")
    return cloze.Schema(contexts, text_of(row, "continuation"), int(row["gold"]))


def article(row: dict[str, Any]) -> summaries.Article:
    name = "summary" if "summary" in row else "highlights"
    return summaries.Article(text_of(row, "article"), text_of(row, name))


def translation_task(
    name: str, sides: tuple[str, str], shown: tuple[str, str],
    plain: Callable[[str], str] = str.strip, remark: str = "",
) -> ZeroShot:  # fmt: skip
    """`sides` are what to translate and how it was; examples are drawn from `shown`."""

    def pairs(paths: Sequence[Path]) -> list[Item]:
        return [
            translation.pair(plain(source), plain(target))
            for _, source, target in parallel.pairs(*paths)
        ]

    def run(scorer: Scorer, paths: Sequence[Path], limit: int | None, seed: int) -> list[Figure]:
        pool = pairs(paths[2:])
        drawn = np.random.default_rng(seed).permutation(len(pool))[: translation.PAIRS]
        return translation.translation_figures(
            scorer, some(pairs(paths[:2]), limit), [pool[n] for n in drawn]
        )

    files = tuple((file,) for file in (*sides, *shown))
    return ZeroShot(
        name=name, files=files, run=run, remark=remark, needs=bleu.scorers,
        context=translation.TOKENS + 28, version=2,  # orders without a match are smoothed
    )  # fmt: skip


def wmt14(name: str, source: str, target: str) -> ZeroShot:
    sides = f"wmt14/newstest2014.{source}", f"wmt14/newstest2014.{target}"
    return translation_task(name, sides, (f"wmt14/train.{source}", f"wmt14/train.{target}"))


def multi30k(name: str, source: str, target: str) -> ZeroShot:
    sides = f"multi30k/test_2016_flickr.{source}", f"multi30k/test_2016_flickr.{target}"
    shown = f"multi30k/train.{source}", f"multi30k/train.{target}"
    return translation_task(name, sides, shown, remark="captions; the report has WMT-14")


def question(row: dict[str, Any]) -> Item:
    answers = [text_of({"answer": each}, "answer") for each in row["answer"]]
    return questions.question(text_of(row, "question"), answers)


def natural_questions(
    scorer: Scorer, paths: Sequence[Path], limit: int | None, seed: int
) -> list[Figure]:
    """The examples are questions of the same file, which are then not asked."""
    items = read(paths[0], question)
    order = np.random.default_rng(seed).permutation(len(items)).tolist()
    examples = [items[n] for n in order[: questions.PAIRS]]
    rest = [items[n] for n in sorted(order[questions.PAIRS :])]
    return questions.question_figures(scorer, some(rest, limit), examples)


LAMBADA = ("lambada_openai/lambada_test.jsonl",)
TASKS = (
    rows_task(
        "lambada_paper", LAMBADA, lambda row: text_of(row, "text"),
        lambda scorer, texts, seed: lambada.paper_figures(scorer, texts), 5153, spelled=True,
        version=2,  # the word alone, without the line ends before it
    ),
    rows_task(
        "lambada_harness", LAMBADA, lambda row: text_of(row, "text"),
        lambda scorer, texts, seed: lambada.harness_figures(scorer, texts), 5153,
    ),
    cbt_task("cbt_cn", "CN"),
    cbt_task("cbt_ne", "NE"),
    *(corpus_task(name, corpus) for name, corpus in CORPORA.items()),
    rows_task(
        "winograd", ("winograd_wsc273/winograd_wsc273.jsonl",), schema,
        lambda scorer, schemas, seed: cloze.winograd_figures(scorer, schemas), 273,
        version=2,  # twins are one part of the sample in the error
    ),
    ZeroShot(
        name="coqa", files=(("coqa/coqa-dev-v1.0.json",),), run=coqa, whole=500,
        context=dialogues.TOKENS + 28,
    ),
    rows_task(
        "cnn_dailymail", ("cnn_dailymail/test.jsonl", "cnndm_sample/val.jsonl"), article,
        summaries.summary_figures, 11_490, summaries.TOKENS + 28,
    ),
    wmt14("wmt14_en_fr", "en", "fr"),
    wmt14("wmt14_fr_en", "fr", "en"),
    multi30k("multi30k_en_fr", "en", "fr"),
    multi30k("multi30k_fr_en", "fr", "en"),
    translation_task(
        "wmt_en_de",
        ("wmt_ende_opennmt/src-val.txt", "wmt_ende_opennmt/targ-val.txt"),
        ("wmt_ende_opennmt/src-train.txt", "wmt_ende_opennmt/targ-train.txt"),
        parallel.unescaped, "newstest2013, not in the report",
    ),
    ZeroShot(
        name="natural_questions", files=(("nq_open/NQ-open.dev.jsonl",),),
        run=natural_questions, whole=3610, context=questions.TOKENS + 28,
    ),
)  # fmt: skip
