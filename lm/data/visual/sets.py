"""The sets of questions about images, by name: real ones from a folder of data, and drawn ones.

Every set is split in train and valid: as published, or by image, so that no image is in both; NLVR
by statement, each of which is about several images that no other is about.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lm.core.errors import DataError
from lm.data.visual import charts, lettering, oddities
from lm.data.visual.example import Example, Picture, Stored, asked
from lm.data.visual.layouts import Part

Reader = Callable[[Path, Part], list[Example]]
CAPTION = "What is in the image?"
FORMS = ("circle", "rectangle", "triangle")  # of easy-VQA, and its colours
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
HELD_OUT = 8  # one image of so many, of a set that was published in one part


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a .jsonl or .jsonl.gz. Raises DataError with file and line."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; --set data.root names the folder of data")
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise DataError(f"{path}:{number}: no JSON object: {line[:60]!r}")
            yield row


def field(row: dict[str, Any], name: str, path: Path) -> str:
    value = row.get(name)
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise DataError(f'{path}: a row has no text "{name}": {json.dumps(row)[:80]}')
    return str(value)


def held_out(name: str, part: Part) -> bool:
    """Whether an image, or a statement, is of this part, by a hash of its name."""
    return (zlib.crc32(name.encode()) % HELD_OUT == 0) == (part == "valid")


def easy_vqa(root: Path, part: Part) -> list[Example]:
    """easy-VQA (Zhou 2019): a coloured shape on a pale ground; 13 answers, as published."""
    name = "train" if part == "train" else "test"
    folder = root / "easy_vqa"
    path, images = folder / f"{name}_questions.jsonl.gz", folder / f"{name}_images.zip"
    return [
        question(f"easy_vqa-{number}", row, path, images, "answer")
        for number, row in enumerate(rows(path))
    ]


def easy_captions(root: Path, part: Part) -> list[Example]:
    """What the questions and answers about each image of easy-VQA tell of it: "a blue circle".

    A caption says at once what several questions do, most of which are answered yes or no.
    """
    told: dict[str, dict[str, str]] = {}
    pictures = {}
    for one in easy_vqa(root, part):
        (picture,) = one.pictures
        pictures[repr(picture)] = picture
        known = told.setdefault(repr(picture), {})
        words = one.question.rstrip("?").split()
        if one.kind == "open":
            known["form" if one.answers[0] in FORMS else "colour"] = one.answers[0]
        elif (one.kind == "yes") != bool({"no", "not"} & set(words)):
            named = next((word for word in words if word in FORMS + COLOURS), None)
            if named:
                known["form" if named in FORMS else "colour"] = named
    return [
        Example(
            id=f"easy_captions-{number}",
            parts=asked(CAPTION, pictures[image]),
            answers=(f"a {known['colour']} {known['form']}",),
            kind="caption",
        )
        for number, (image, known) in enumerate(told.items())
        if len(known) == 2
    ]


def question(
    name: str, row: dict[str, Any], path: Path, images: Path, answer: str, text: str = "question"
) -> Example:
    picture = Stored(str(images), field(row, "image", path))
    reply = field(row, answer, path)
    kind = reply if reply in ("yes", "no") else "open"
    parts = asked(field(row, text, path), picture)
    return Example(id=name, parts=parts, answers=(reply,), kind=kind)


def flickr8k(root: Path, part: Part) -> list[Example]:
    """Flickr8k's photographs (Hodosh et al. 2013), of each one of its five captions to learn."""
    folder = root / "flickr8k_subset"
    path, found = folder / "captions.jsonl.gz", []
    for row in rows(path):
        image = field(row, "image", path)
        captions = row.get("captions")
        if not isinstance(captions, list) or not captions:
            raise DataError(f"{path}: {image} has no captions")
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
        question(f"nlvr-{number}", row, path, images, "label", "sentence")
        for number, row in enumerate(rows(path))
        if held_out(field(row, "sentence", path), part)
    ]


def receipts(root: Path, part: Part) -> list[Example]:
    """SROIE's scanned receipts (Huang et al. 2019): company, date and total."""
    folder = root / "sroie_receipts"
    path, found = folder / "labels.jsonl.gz", []
    for row in rows(path):
        image, fields = field(row, "image", path), row.get("fields", {})
        for kind in ("company", "date", "total"):
            if kind in fields and held_out(image, part):
                picture = Stored(str(folder / "images.tar"), image)
                parts = asked(f"What is the {kind} of this receipt?", picture)
                answer = (str(fields[kind]).lower(),)
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
            parts=asked(field(row, "question", path), Stored(images, field(row, "image", path))),
            answers=(field(row, "answer", path),),
            match="relaxed",
        )
        for number, row in enumerate(rows(path))
    ]


def written(path: Path) -> list[Example]:
    """Examples of a .jsonl of one's own.

    A row is {"parts": [{"image": "a.png"}, {"text": "..."}, ...], "answer": "..."}, or shorter
    {"image": "a.png", "question": "...", "answer": "..."}; images are named from the file's folder.
    """
    found = []
    for number, row in enumerate(rows(path)):
        name = f"{path.name}-{number}"
        if "parts" not in row:
            found.append(question(name, row, path, path.parent, "answer"))
            continue
        parts = interleaved(row["parts"], path, number + 1)
        found.append(Example(id=name, parts=parts, answers=(field(row, "answer", path),)))
    return found


def interleaved(given: Any, path: Path, line: int) -> tuple[str | Picture, ...]:
    """The parts of a prompt in a file."""
    parts: list[str | Picture] = []
    part: Any
    for part in given if isinstance(given, list) and given else [None]:
        named = isinstance(part, dict) and len(part) == 1 and not set(part) - {"image", "text"}
        if not named or not all(isinstance(value, str) for value in part.values()):
            raise DataError(
                f'{path}:{line}: a part is {{"image": FILE}} or {{"text": WORDS}}, not '
                f"{json.dumps(part)[:60]}"
            )
        for kind, value in part.items():
            parts.append(Stored(str(path.parent), value) if kind == "image" else value)
    return tuple(parts)


def prompted(row: dict[str, Any], path: Path, line: int) -> Example:
    """The prompt alone of a row as `written` reads them, with no right answer."""
    if "parts" in row:
        parts = interleaved(row["parts"], path, line)
    else:
        picture = Stored(str(path.parent), field(row, "image", path))
        parts = asked(field(row, "question", path), picture)
    return Example(id=f"{path.name}-{line}", parts=parts, answers=())


SETS: dict[str, Reader] = {
    "easy_vqa": easy_vqa,
    "easy_captions": easy_captions,
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
