"""The two passes of lm/data/cleaning.py; each goes on where its bookmark has it."""

import itertools
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lm.core.config import require
from lm.data.bookmarks import Bookmarks
from lm.data.contamination import cut
from lm.data.duplicates import HASHES, Duplicates
from lm.data.overlap import COMMON, GramIndex
from lm.data.quality import Quality, fit
from lm.data.shards import Shards

if TYPE_CHECKING:
    from lm.data.cleaning import CleaningConfig

MEASURED = 10  # a document in so many of the classifier's measures it, and is not learned from
TOLD = 5.0  # seconds between lines of progress


class Count:
    """Documents and their characters."""

    def __init__(self, documents: int = 0, characters: int = 0) -> None:
        self.documents, self.characters = documents, characters

    def add(self, text: str) -> None:
        self.documents += 1
        self.characters += len(text)

    def told(self, of: "Count | None" = None) -> dict[str, Any]:
        figures: dict[str, Any] = {"documents": self.documents, "characters": self.characters}
        if of is not None:
            figures["share_of_documents"] = self.documents / max(1, of.documents)
            figures["share_of_characters"] = self.characters / max(1, of.characters)
        return figures


class Progress:
    """A line now and then."""

    def __init__(self, report: Callable[[str], None]):
        self.report = report
        self.told = time.monotonic()

    def tell(self, line: str) -> None:
        if time.monotonic() - self.told > TOLD:
            self.told = time.monotonic()
            self.report(line)


def sift(
    config: "CleaningConfig", folder: Path, index: GramIndex | None, marks: Bookmarks,
    figures: dict[str, Any], progress: Progress,
) -> Shards:  # fmt: skip
    """The first pass: documents that are good enough and no copies. Counts of the others go into
    `figures`, and how many documents have each gram into `index`."""
    counts = {name: Count() for name in ("read", "low", "copied", "kept")}
    quality = learned(config, figures, marks) if config.curated else None
    copies = Duplicates() if config.copies else None
    shards, taken = Shards(folder), 0

    def state(ended: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        values = {"taken": taken, "ended": ended, "shards": shards.state()}
        values |= {"counts": {name: vars(count) for name, count in counts.items()}}
        values |= {"against": figures.get("against")}
        arrays = (
            {f"grams{n}": grams.documents for n, grams in index.lengths.items()} if index else {}
        )
        if copies:
            arrays["signatures"] = np.array(copies.signatures, np.uint64).reshape(-1, HASHES)
        return values, arrays

    shards.whole = lambda: marks.save("sift", *state(ended=False))
    mark = marks.load("sift")
    if mark:
        values, arrays = mark
        taken = values["taken"]
        shards.resume(values["shards"])
        counts = {name: Count(**count) for name, count in values["counts"].items()}
        for length, grams in (index.lengths if index else {}).items():
            grams.documents[:] = arrays[f"grams{length}"]
        for signature in arrays.get("signatures", ()):
            assert copies is not None
            copies.remember(signature)
        progress.report(f"going on after {taken:,} documents")
        if values["against"] is not None:
            figures["against"] = values["against"]
    elif copies and config.against:
        for text in config.texts(config.against):
            copies.seen(text)
        figures["against"] = {"documents": len(copies.signatures)}

    def keep(text: str) -> None:
        shards.write(text)
        if index:
            index.scan([text])

    if not (mark and mark[0]["ended"]):
        # the last document that was taken did not fit the file that is full: it is to be written
        texts = itertools.islice(config.texts(config.input), max(0, taken - 1), None)
        if mark:
            keep(next(texts))
        for text in texts:
            taken += 1
            counts["read"].add(text)
            progress.tell(f"read {taken:,} documents, kept {counts['kept'].documents:,}")
            if quality and not quality.keeps(text, config.seed):
                counts["low"].add(text)
            elif copies and copies.seen(text):
                counts["copied"].add(text)
            else:
                counts["kept"].add(text)
                keep(text)
        shards.close()
        marks.save("sift", *state(ended=True))
    figures["input"] = counts["read"].told()
    if quality:
        figures["quality"] |= counts["low"].told(counts["read"])
    if copies:
        figures["copies"] = counts["copied"].told(counts["read"])
    figures["kept"] = counts["kept"].told()
    return shards


def learned(config: "CleaningConfig", figures: dict[str, Any], marks: Bookmarks) -> Quality:
    """The classifier, and in `figures` how often it is right on documents it has not seen."""
    if mark := marks.load("quality"):
        figures["quality"] = mark[0]["figures"]
        return Quality(mark[1]["weights"], mark[0]["bias"])
    sides = []
    for spec in (config.curated, config.raw or config.input):
        texts = sampled(config.texts(str(spec)), config.sample, config.seed)
        sides.append((texts[::MEASURED], [t for n, t in enumerate(texts) if n % MEASURED]))
    require(
        all(learn for _, learn in sides),
        f"curated={config.curated} and the raw side need two documents each to learn from",
    )
    quality = fit(sides[0][1], sides[1][1])
    right = [
        sum((quality.score(text) > 0.5) == good for text in measure) / len(measure)
        for good, (measure, _) in zip((True, False), sides, strict=True)
    ]
    figures["quality"] = {
        "learned_from": [len(learn) for _, learn in sides],
        "right_on_curated": round(right[0], 4),
        "right_on_raw": round(right[1], 4),
    }
    values = {"figures": figures["quality"], "bias": quality.bias}
    marks.save("quality", values, {"weights": quality.weights})
    return quality


def sampled(texts: Iterable[str], size: int, seed: int) -> list[str]:
    """As many texts, each one as likely as any other (Vitter 1985, algorithm R)."""
    numbers = random.Random(seed)
    held: list[str] = []
    for count, text in enumerate(texts):
        if count < size:
            held.append(text)
        elif (place := numbers.randrange(count + 1)) < size:
            held[place] = text
    return held


def cut_out(
    config: "CleaningConfig", kept: Path, folder: Path, index: GramIndex, marks: Bookmarks,
    figures: dict[str, Any], progress: Progress,
) -> Shards:  # fmt: skip
    """The second pass: the documents without what the test sets hold; counts of what went in
    `figures`."""
    counts = {name: Count() for name in ("read", "touched", "dropped")}
    shards, gone, taken, written = Shards(folder), 0, 0, 0

    def save() -> None:
        values = {"taken": taken, "written": written, "gone": gone, "shards": shards.state()}
        values |= {"counts": {name: vars(count) for name, count in counts.items()}}
        marks.save("cut", values, {})

    shards.whole = save
    mark = marks.load("cut")
    if mark:
        values = mark[0]
        taken, written, gone = values["taken"], values["written"], values["gone"]
        shards.resume(values["shards"])
        counts = {name: Count(**count) for name, count in values["counts"].items()}
        progress.report(f"going on after {taken:,} documents that were kept")
    some = config.texts(str(kept)) if figures["kept"]["documents"] else iter(())
    for number, text in enumerate(itertools.islice(some, max(0, taken - 1), None)):
        spans = index.positions(text, most=COMMON)
        pieces = cut(text, spans)
        if number or not mark:  # the first one of a pass that goes on is counted already
            taken, written = taken + 1, 0
            counts["read"].add(text)
            if spans:
                counts["touched"].add(text)
                gone += len(text) - sum(map(len, pieces))
            if not pieces:
                counts["dropped"].add(text)
        progress.tell(f"cut {taken:,} documents")
        for piece in pieces[written:]:
            shards.write(piece)
            written += 1
    shards.close()
    figures["overlaps"] = {
        "test_texts": index.texts,
        "test_texts_without_a_gram": index.short,
        "grams": sum(len(grams.hashes) for grams in index.lengths.values()),
        "grams_found": sum(int((g.documents > 0).sum()) for g in index.lengths.values()),
        "grams_too_common": index.common(),
        "documents_touched": counts["touched"].documents,
        "documents_dropped": counts["dropped"].documents,
        "share_of_documents": counts["touched"].documents / max(1, counts["read"].documents),
        "characters": gone,
        "share_of_characters": gone / max(1, counts["read"].characters),
    }
    return shards
