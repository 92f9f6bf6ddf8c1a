"""easy-VQA (Zhou 2019): a coloured shape on a pale ground, asked about, described, talked about."""

import random
from pathlib import Path

from lm.core.errors import DataError
from lm.data.visual.example import Example, Picture, Said, asked
from lm.data.visual.files import question, rows
from lm.data.visual.layouts import Part

CAPTION = "What is in the image?"
FORMS = ("circle", "rectangle", "triangle")
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
TALKS = {"train": 4, "valid": 1}  # conversations that begin with an image


def easy_vqa(root: Path, part: Part) -> list[Example]:
    """easy-VQA (Zhou 2019): a coloured shape on a pale ground; 13 answers, as published."""
    name = "train" if part == "train" else "test"
    folder = root / "easy_vqa"
    path, images = folder / f"{name}_questions.jsonl.gz", folder / f"{name}_images.zip"
    return [question(f"easy_vqa-{number}", row, images) for number, row in enumerate(rows(path))]


def described(root: Path, part: Part) -> list[tuple[int, Picture, str, str]]:
    """What questions and answers tell of an image: its number, itself, its form, its colour."""
    told: dict[Picture, dict[str, str]] = {}
    for one in easy_vqa(root, part):
        (picture,) = one.pictures
        known = told.setdefault(picture, {})
        words = one.question.rstrip("?").split()
        if one.kind == "open":
            known["form" if one.answers[0] in FORMS else "colour"] = one.answers[0]
        elif (one.kind == "yes") != bool({"no", "not"} & set(words)):
            named = next((word for word in words if word in FORMS + COLOURS), None)
            if named:
                known["form" if named in FORMS else "colour"] = named
    return [
        (number, picture, known["form"], known["colour"])
        for number, (picture, known) in enumerate(told.items())
        if len(known) == 2
    ]


def easy_captions(root: Path, part: Part) -> list[Example]:
    """Each image described: "a blue circle".

    A caption says at once what several questions do, most of which are answered yes or no.
    """
    return [
        Example(
            id=f"easy_captions-{number}",
            parts=asked(CAPTION, picture),
            answers=(f"a {colour} {form}",),
            kind="caption",
        )
        for number, picture, form, colour in described(root, part)
    ]


def easy_talks(root: Path, part: Part) -> list[Example]:
    """Conversations about two images, in which what follows the first answer is about both.

    One of form and colour is asked of an image; whether another image is like it in the other one;
    and what that was in the first. The other image is alike every second time, and then shows it.

    Raises:
      DataError: fewer than two forms or colours.
    """
    known = [
        (picture, {"shape": form, "color": colour})
        for _, picture, form, colour in described(root, part)
    ]
    alike: dict[tuple[str, str], list[Picture]] = {}
    for picture, facts in known:
        for fact in facts.items():
            alike.setdefault(fact, []).append(picture)
    for kind in ("shape", "color"):
        if sum(name == kind for name, _ in alike) < 2:
            raise DataError(f"{root}/easy_vqa: all images have one {kind}: nothing to compare")
    found = []
    for number in range(TALKS[part] * len(known)):
        first, facts = known[number % len(known)]
        draw = random.Random(f"talk-{part}-{number}")
        one, other = draw.sample(("shape", "color"), 2)
        same = draw.random() < 0.5
        value = facts[other]
        if not same:
            value = draw.choice([name for kind, name in alike if kind == other and name != value])
        seconds = [image for image in alike[other, value] if image != first] or [first]
        parts = (
            *asked(f"What {one} is it?", first),
            Said(facts[one]),
            *asked(f"Is it the same {other}?", draw.choice(seconds)),
            Said("yes" if same else "no"),
            *asked(f"What {other} was the first?"),
        )
        found.append(Example(id=f"talk-{number}", parts=parts, answers=(facts[other],)))
    return found
