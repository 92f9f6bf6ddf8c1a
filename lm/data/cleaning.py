"""From raw documents to those worth training on, in GPT-3's order (Brown et al. 2020, appendices A
and C): by quality, without copies, without what the test sets hold.

Two passes over files, one document at a time; what is held is about 1,200 bytes a document that
stays, where copies go, and the grams of the test sets. The folder appears whole or not at all, with
`report.json`: what each step took. Until then it is `<folder>.part`: what was killed goes on after
its last full file, and ends with the same bytes.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lm.core.config import require, require_positive
from lm.core.errors import AccessError, ConfigError, DataError
from lm.core.paths import write_whole
from lm.data.bookmarks import Bookmarks, alone
from lm.data.cleaning_passes import Progress, cut_out, sift
from lm.data.contamination import held_out_files, held_out_texts
from lm.data.overlap import WORDS, GramIndex
from lm.data.sources import OnError, documents, files, refuse_among

SETTINGS = "settings.json"  # of what a folder was begun with
WHOLE = "whole"  # what will be the folder, in that of the work


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


def say(line: str) -> None:
    """At once, into a pipe too: what is killed has told how far it was."""
    print(line, flush=True)


def clean(
    config: CleaningConfig, out: Path, report: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Writes the documents that stay into `out`, and returns what is in its `report.json`.

    Raises:
      DataError: `out` exists or lies among the texts, a text cannot be read, no document stays,
        another process is at it, or what was begun is not of these settings and texts.
      AccessError: a file cannot be read or written now; what was begun stays.
    """
    if out.exists():
        raise DataError(f"{out} exists: remove it, or choose another folder")
    refuse_among([config.input, config.curated, config.raw, config.against, config.held_out], out)
    try:
        return made(config, out, Progress(report or say))
    except OSError as error:  # those of reading are AccessErrors already
        raise AccessError(
            f"cannot write {out}: {error.strerror or error}; make room there, or choose another "
            "folder"
        ) from None


def made(config: CleaningConfig, out: Path, progress: Progress) -> dict[str, Any]:
    """`clean` into a folder that can be written, or goes on with what was begun."""
    work = out.with_name(out.name + ".part")
    work.mkdir(parents=True, exist_ok=True)
    with alone(work):
        begun(config, work)
        try:
            figures = cleaned(config, work, progress)
            if not figures["output"]["documents"]:
                raise DataError(f"nothing of {config.input} stays: {json.dumps(figures)}")
        except AccessError:
            raise
        except (ConfigError, DataError):  # as it would be again; what else ends it may be mended
            shutil.rmtree(work)
            raise
        (work / WHOLE / "report.json").write_text(json.dumps(figures, indent=1) + "\n")
        os.rename(work / WHOLE, out)
        shutil.rmtree(work)
    return figures


def begun(config: CleaningConfig, work: Path) -> None:
    """Writes down of what a folder is made, or compares it with what is written there."""
    told = json.dumps({"settings": dataclasses.asdict(config), "files": found_files(config)})
    path = work / SETTINGS
    if path.exists() and path.read_text() != told:
        raise DataError(
            f"{work} was begun with other settings or texts: remove it, or choose another folder"
        )
    write_whole(path, told)


def found_files(config: CleaningConfig) -> list[tuple[str, int, int]]:
    """Path, bytes and time of change of every file that is read; none of one that is not there,
    which whoever reads it will say."""
    specs = (config.input, config.curated, config.raw, config.against)
    try:
        paths = [path for spec in specs if spec for path in files(spec)]
        paths += held_out_files(config.held_out) if config.held_out else []
    except DataError:
        return []
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]


def cleaned(config: CleaningConfig, work: Path, progress: Progress) -> dict[str, Any]:
    """Both passes, with the files of the last one in `work/WHOLE`."""
    figures: dict[str, Any] = {"settings": dataclasses.asdict(config)}
    folder, marks = work / WHOLE, Bookmarks(work / "bookmarks")
    # what is cut has 13 words; the 8 to 13 of a test set are for measuring (appendix C)
    index = GramIndex(held_out_texts(config.held_out), shortest=WORDS) if config.held_out else None
    kept = work / "kept" if index else folder
    shards = sift(config, kept, index, marks, figures, progress)
    if index:
        shards = cut_out(config, kept, folder, index, marks, figures, progress)
    figures["output"] = {"documents": shards.documents, "characters": shards.characters}
    return figures
