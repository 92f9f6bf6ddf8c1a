"""The sets of questions about images, by name: real ones from a folder of data, and drawn ones.

Every set is split in train and valid: as published, or by image, so that no image is in both; NLVR
by statement, each of which is about several images that no other is about.
"""

import zlib
from collections.abc import Callable
from pathlib import Path

from lm.core.errors import DataError
from lm.data.visual import charts, lettering, oddities
from lm.data.visual.easy import CAPTION, easy_captions, easy_talks, easy_vqa
from lm.data.visual.example import Example, Stored, asked
from lm.data.visual.files import field, held_out, question, rows
from lm.data.visual.layouts import Part

Reader = Callable[[Path, Part], list[Example]]


def flickr8k(root: Path, part: Part) -> list[Example]:
    """Flickr8k's photographs (Hodosh et al. 2013), of each one of its five captions to learn."""
    folder = root / "flickr8k_subset"
    path, found = folder / "captions.jsonl.gz", []
    for row in rows(path):
        image = field(row, "image")
        captions = row.values.get("captions")
        if not isinstance(captions, list) or not captions:
            raise DataError(f"{row.where}: {image} has no captions")
        if held_out(image, part):
            told = tuple(str(caption).removesuffix(".").strip().lower() for caption in captions)
            picture = Stored(str(folder / "images.tar"), image)
            shown = told if part == "valid" else (told[zlib.crc32(image.encode()) % len(told)],)
            found.append(
                Example(id=image, parts=asked(CAPTION, picture), answers=shown, match="caption")
            )
    return found


def nlvr(root: Path, part: Part) -> list[Example]:
    """NLVR's statements over boxes of shapes (Suhr et al. 2017), true or false."""
    folder = root / "nlvr1"
    path, images = folder / "dev.jsonl.gz", folder / "dev_images.tar"
    return [
        question(f"nlvr-{number}", row, images, "label", "sentence")
        for number, row in enumerate(rows(path))
        if held_out(field(row, "sentence"), part)
    ]


def receipts(root: Path, part: Part) -> list[Example]:
    """SROIE's scanned receipts (Huang et al. 2019): company, date and total."""
    folder = root / "sroie_receipts"
    path, found = folder / "labels.jsonl.gz", []
    for row in rows(path):
        image, fields = field(row, "image"), row.values.get("fields")
        if not isinstance(fields, dict):
            raise DataError(f"{row.where}: {image} has no fields")
        for kind in ("company", "date", "total"):
            if isinstance(fields.get(kind), str) and held_out(image, part):
                picture = Stored(str(folder / "images.tar"), image)
                parts = asked(f"What is the {kind} of this receipt?", picture)
                answer = (fields[kind].lower(),)
                found.append(Example(id=f"{image}-{kind}", parts=parts, answers=answer, kind=kind))
    return found


def chartqa(root: Path, part: Part) -> list[Example]:
    """A sample of ChartQA (Masry et al. 2022), as published; numbers may be 5 % off."""
    folder = root / "chartqa_sample"
    name = "train" if part == "train" else "val"
    path, images = folder / f"{name}_qa.jsonl.gz", str(folder / f"{name}_images.tar")
    return [
        Example(
            id=f"chartqa-{number}",
            parts=asked(field(row, "question"), Stored(images, field(row, "image"))),
            answers=(field(row, "answer"),),
            match="relaxed",
        )
        for number, row in enumerate(rows(path))
    ]


SETS: dict[str, Reader] = {
    "easy_vqa": easy_vqa,
    "easy_captions": easy_captions,
    "easy_talks": easy_talks,
    "flickr8k": flickr8k,
    "nlvr": nlvr,
    "receipts": receipts,
    "chartqa": chartqa,
    "strings": lambda root, part: lettering.strings(part),
    "screens": lambda root, part: lettering.screens(part),
    "screen_texts": lambda root, part: lettering.screen_texts(part),
    "charts": lambda root, part: charts.charts(part),
    "chart_tables": lambda root, part: charts.chart_tables(part),
    "oddities": lambda root, part: oddities.oddities(part),
}
