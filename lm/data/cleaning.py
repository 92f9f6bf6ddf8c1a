"""From raw documents to those worth training on, in GPT-3's order (Brown et al. 2020, appendices A
and C): by quality, without copies, without what the test sets hold.

Two passes over files, one document at a time; what is held is ten numbers a document and the grams
of the test sets. The folder appears whole or not at all, with `report.json`: what each step took.
"""

import dataclasses
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from lm.core.config import require, require_positive
from lm.core.errors import DataError
from lm.data.contamination import cut, held_out_texts
from lm.data.duplicates import Duplicates
from lm.data.overlap import COMMON, GramIndex
from lm.data.quality import Quality, fit
from lm.data.shards import Shards
from lm.data.sources import OnError, documents

MEASURED = 10  # a document in so many of the classifier's measures it, and is not learned from
TOLD = 5.0  # seconds between lines of progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class CleaningConfig:
    """Which text, and which steps; each text is named as lm/data/sources.py has it."""

    input: str
    curated: str | None = None  # what good text is like; no filter by quality where None
    raw: str | None = None  # what the crawl is like; the input itself where None
    copies: bool = True  # whether near copies of earlier documents go
    against: str | None = None  # documents whose near copies go as well
    held_out: str | None = None  # test sets; nothing is cut where None
    sample: int = 20_000  # documents of each side that the classifier learns from
    seed: int = 0
    on_error: OnError = "stop"

    def __post_init__(self) -> None:
        require_positive(self, "sample")
        require(
            self.raw is None or self.curated is not None,
            f"raw={self.raw} without curated: the filter needs both sides",
        )
        require(
            self.copies or self.against is None,
            f"against={self.against} with copies=False: nothing is compared",
        )

    def texts(self, spec: str) -> Iterator[str]:
        return (document.text for document in documents(spec, on_error=self.on_error))


def clean(
    config: CleaningConfig, out: Path, report: Callable[[str], None] = print
) -> dict[str, Any]:
    """Writes the documents that stay into `out`, and returns what is in its `report.json`.

    Raises:
      DataError: `out` exists, a text cannot be read, or no document stays.
    """
    if out.exists():
        raise DataError(f"{out} exists: remove it, or choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=out.name + ".", dir=out.parent))
    work.chmod(0o755)
    try:
        figures = cleaned(config, work, Progress(report))
        if not figures["output"]["documents"]:
            raise DataError(f"nothing of {config.input} stays: {json.dumps(figures)}")
        (work / "report.json").write_text(json.dumps(figures, indent=1) + "\n")
        os.rename(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return figures


def cleaned(config: CleaningConfig, folder: Path, progress: "Progress") -> dict[str, Any]:
    """Both passes, with the files of the second one in `folder`."""
    figures: dict[str, Any] = {"settings": dataclasses.asdict(config)}
    index = GramIndex(held_out_texts(config.held_out)) if config.held_out else None
    kept = folder / "kept" if index else folder
    with Shards(kept) as shards:
        for text in chosen(config, figures, progress):
            shards.write(text)
            if index:
                index.scan([text])
    if index:
        with Shards(folder) as shards:
            some = config.texts(str(kept)) if figures["kept"]["documents"] else iter(())
            for text in without_overlaps(some, index, figures):
                progress.tell(f"cut {shards.documents:,} documents")
                shards.write(text)
        shutil.rmtree(kept)
    figures["output"] = {"documents": shards.documents, "characters": shards.characters}
    figures["seconds"] = round(progress.seconds, 1)
    return figures


def chosen(config: CleaningConfig, figures: dict[str, Any], progress: "Progress") -> Iterator[str]:
    """The documents that are good enough and no copies; counts of the others in `figures`."""
    read, low, copied, kept = (Count() for _ in range(4))
    quality = learned(config, figures) if config.curated else None
    copies = Duplicates() if config.copies else None
    if copies and config.against:
        for text in config.texts(config.against):
            copies.seen(text)
        figures["against"] = {"documents": len(copies.signatures)}
    for text in config.texts(config.input):
        read.add(text)
        progress.tell(f"read {read.documents:,} documents, kept {kept.documents:,}")
        if quality and not quality.keeps(text, config.seed):
            low.add(text)
        elif copies and copies.seen(text):
            copied.add(text)
        else:
            kept.add(text)
            yield text
    figures["input"] = read.told()
    if quality:
        figures["quality"] |= low.told(read)
    if copies:
        figures["copies"] = copied.told(read)
    figures["kept"] = kept.told()


def learned(config: CleaningConfig, figures: dict[str, Any]) -> Quality:
    """The classifier, and in `figures` how often it is right on documents it has not seen."""
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


def without_overlaps(
    texts: Iterable[str], index: GramIndex, figures: dict[str, Any]
) -> Iterator[str]:
    """The documents without what the test sets hold; counts of what went in `figures`."""
    read, touched, dropped = Count(), Count(), Count()
    gone = 0
    for text in texts:
        read.add(text)
        spans = index.positions(text, most=COMMON)
        pieces = cut(text, spans)
        if spans:
            touched.add(text)
            gone += len(text) - sum(map(len, pieces))
        if not pieces:
            dropped.add(text)
        yield from pieces
    figures["overlaps"] = {
        "test_texts": index.texts,
        "test_texts_without_a_gram": index.short,
        "grams": sum(len(grams.hashes) for grams in index.lengths.values()),
        "grams_found": sum(int((g.documents > 0).sum()) for g in index.lengths.values()),
        "grams_too_common": index.common(),
        "documents_touched": touched.documents,
        "documents_dropped": dropped.documents,
        "share_of_documents": touched.documents / max(1, read.documents),
        "characters": gone,
        "share_of_characters": gone / max(1, read.characters),
    }


class Count:
    """Documents and their characters."""

    def __init__(self) -> None:
        self.documents = self.characters = 0

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
        self.began = self.told = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def tell(self, line: str) -> None:
        if time.monotonic() - self.told > TOLD:
            self.told = time.monotonic()
            self.report(line)
