"""Perplexity of a corpus per word of its own count, however the model cuts it into tokens.

Radford et al. 2019, section 3.1: the text is detokenised, read with context carried from window to
window so that each token is scored once, and the sum of its nats divided by the words, or bytes, of
the original. Words are what stands between white space; ends of lines are none, and `<unk>` is
spelled out. (The report says neither how ends of lines count nor how far windows overlap: here each
scores half the context, after half a context or more.)
"""

import dataclasses
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from lm.core.errors import DataError
from lm.data.reading import content
from lm.data.sources import utf8
from lm.evals.scorer import Request, Scorer
from lm.evals.zeroshot.figure import Figure, perplexity, ratio_of
from lm.text.detokenizer import MARK, ONE_BILLION, PTB, WIKITEXT, Detokenizer


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Where a corpus is kept, and what is said of it."""

    files: tuple[str, ...]  # under the root; the first that is there is read
    form: Detokenizer | None = None  # None: read as it stands
    words: bool = True  # per word as well as per byte
    apart: bool = False  # its lines were shuffled: each is a text by itself
    tail: int | None = None  # bytes at the end that are the test part
    remark: str = ""


CORPORA = {
    "wikitext2": Corpus(
        ("wikitext2/wiki.test.tokens", "wikitext2/test.txt", "wikitext2/valid.txt"),
        WIKITEXT,
        remark="the report has the test part",
    ),
    "wikitext103": Corpus(("wikitext103/wiki.test.tokens", "wikitext103/test.txt"), WIKITEXT),
    "ptb": Corpus(("ptb/ptb.test.txt",), PTB),
    "lm1b": Corpus(
        ("lm1b/news.en.heldout-00000-of-00050", "lm1b/heldout.txt"), ONE_BILLION, apart=True
    ),
    "enwik8": Corpus(("enwik8/enwik8",), words=False, tail=5_000_000),
    "text8": Corpus(("text8/text8",), words=False, tail=5_000_000),
}


def corpus_text(corpus: Corpus, path: Path) -> str:
    """Its test part, in its own form."""
    data = content(path)
    if corpus.tail is not None:
        data = data[-corpus.tail :]
        while data and data[0] & 0xC0 == 0x80:  # the rest of a character that was cut
            data = data[1:]
    return utf8(data, path, "stop")


def as_read(corpus: Corpus, lines: Iterable[str]) -> list[str]:
    """Lines in the form in which a model reads them."""
    return [corpus.form.write(line) if corpus.form else line for line in lines]


def first_lines(text: str, limit: int | None) -> tuple[list[str], int]:
    """The lines of a text up to the last of so many with words, and how many of all have words."""
    lines = list(io.StringIO(text))
    full = [n for n, line in enumerate(lines) if line.strip()]
    return (lines if limit is None else lines[: full[:limit][-1] + 1] if full else []), len(full)


def corpus_figures(
    scorer: Scorer, corpus: Corpus, text: str, limit: int | None = None
) -> list[Figure]:
    """Perplexity per original word and bits per original byte; errors are over lines.

    Only LF ends a line: the other characters that Unicode calls line ends occur in text. Of lines
    that are texts by themselves, no byte counts that is not scored.

    Args:
      text: in the corpus's own form.
      limit: of its lines with words, the first so many.

    Raises:
      DataError: there is no text.
    """
    (lines, full), remarks = first_lines(text, limit), []
    if not full:
        raise DataError("the corpus has no words")
    if limit is not None and limit < full:
        remarks.append(f"the first {limit:,} of {full:,} lines with words")
    if corpus.apart:
        lines = [line for line in lines if line.strip()]
    texts = as_read(corpus, lines)
    if corpus.apart:
        nats = apart(scorer, [text.strip() for text in texts])
    else:
        nats = by_line(scorer, texts)
    sizes = [len((line.strip() if corpus.apart else line).encode()) for line in lines]
    figures = [ratio_of("bits_per_byte", [float(n) / math.log(2) for n in nats], sizes)]
    if corpus.words:
        words = [len(line.split()) for line in lines]
        figures.insert(0, perplexity("word_perplexity", nats, words))
    if corpus.form is not None and corpus.form.edges and (told := foreign(lines, texts)):
        remarks.append(told)
    return [dataclasses.replace(figure, remark="; ".join(remarks)) for figure in figures]


def text_figures(scorer: Scorer, texts: Sequence[str]) -> tuple[dict[str, int], list[Figure]]:
    """How many texts, tokens and bytes there are; the loss and the perplexity of a token, and bits
    a byte, where the vocabulary gives every text back. Each text begins anew.

    Raises:
      DataError: there is no text.
    """
    tokens = [len(ids) for ids in scorer.tokenizer.encode_batch(texts)]
    if not sum(tokens):
        raise DataError("there is no text to measure on: name a file that holds some")
    nats, sizes = apart(scorer, texts), [len(text.encode()) for text in texts]
    figures = [ratio_of("loss", nats, tokens), perplexity("perplexity", nats, tokens)]
    if scorer.tokenizer.lossless:
        figures.append(ratio_of("bits_per_byte", [n / math.log(2) for n in nats], sizes))
    return {"texts": len(texts), "tokens": sum(tokens), "bytes": sum(sizes)}, figures


def foreign(lines: Sequence[str], texts: Sequence[str]) -> str:
    """What is said where more than a hundredth of the lines lack the edges of the corpus's form:
    each is then read behind a mark, whose nats no word accounts for. "" where fewer do."""
    marked = sum(text.startswith(f"{MARK} ") for text in texts)
    if marked <= len(lines) / 100:
        return ""
    ends = " (they end in \\r\\n)" if any(line.endswith("\r\n") for line in lines) else ""
    return (
        f"{marked:,} of {len(lines):,} lines do not begin and end with a blank as the published "
        f"file's do{ends}: the value is too high; read the file as it was published"
    )


def by_line(scorer: Scorer, lines: Sequence[str]) -> list[float]:
    """Nats of each line of one text that is read from end to end. A token that spans the end of a
    line is of the line in which it ends."""
    ids = scorer.tokenizer.encode("".join(lines))
    nats = scorer.rolling(ids)
    ends = np.cumsum([len(scorer.tokenizer.decode_bytes([i])) for i in ids])
    bounds = np.cumsum([len(line.encode()) for line in lines])
    # where an end falls on a bound, the token is still of the line before it
    of = np.minimum(np.searchsorted(bounds, ends), len(lines) - 1)
    return np.bincount(of, nats, len(lines)).tolist()


def apart(scorer: Scorer, texts: Sequence[str]) -> list[float]:
    """Nats of texts that have nothing to do with one another."""
    sizes = [len(ids) for ids in scorer.tokenizer.encode_batch(texts)]
    short = [n for n, size in enumerate(sizes) if 0 < size <= scorer.length]
    nats = [0.0] * len(texts)
    for n, score in zip(short, scorer.scores([Request("", texts[n]) for n in short]), strict=True):
        nats[n] = -score.log_likelihood
    for n in set(range(len(texts))) - set(short):
        nats[n] = float(scorer.rolling(scorer.tokenizer.encode(texts[n])).sum())
    return nats
