"""Drawn text to be read: strings of eight characters, and screenshots with a line to sum them up.

Both fit an image of 64 pixels, each letter in a cell 8 wide as on a screen in text mode. Strings
and layouts that are held out are never drawn for training.
"""

import random
import zlib
from typing import Any

from lm.data.visual.example import Drawn, Example, asked
from lm.data.visual.layouts import HELD_OUT, Part, drawing, font, layout, speckled

CHARACTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # none that looks like another
LENGTH = 8
STRINGS = {"train": 20_000, "valid": 500}
SCREENS = {"train": 6_000, "valid": 300}
READ = "What does it say?"
SIDE, CELL = 64, 8  # pixels of an image's side, and of a letter's cell
MONOSPACED = ("DejaVuSansMono", "DejaVuSansMono-Bold", "cmtt10")

TEXT_LAYOUTS = {
    "face": MONOSPACED,
    "size": (9, 10),
    "ink": ("black", "navy", "darkred", "darkgreen"),
    "paper": ("white", "ivory", "lavender", "honeydew"),
    "noise": (0, 8, 20),
}
SCREEN_LAYOUTS = {
    "face": MONOSPACED,
    "size": (9, 10),
    "bar": ("steelblue", "dimgray", "seagreen", "indianred"),
    "paper": ("white", "ivory", "aliceblue"),
    "pitch": (12, 13),  # pixels from a line to the next
    "top": (9, 10),  # of the first line's base
    "noise": (0, 8, 20),
}
NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Ida", "Jonas")
KINDS = ("Message", "Reminder", "Invoice", "Warning", "Booking")
TOPICS = ("garden", "rent", "server", "party", "dentist", "parcel", "boat")
DAYS = ("Monday", "Tuesday", "Thursday", "Friday", "Saturday")


def string(draw: random.Random, part: Part) -> str:
    """A string of this part: by its hash it is in one and never in the other."""
    while True:
        text = "".join(draw.choices(CHARACTERS, k=LENGTH))
        if (zlib.crc32(text.encode()) % HELD_OUT == 0) == (part == "valid"):
            return text


def draw_string(part: Part, number: int) -> Any:
    """A Pillow image, 64 x 64, of `string` number `number` at some height."""
    from PIL import Image, ImageDraw

    draw = drawing("string", part, number)
    text, chosen = string(draw, part), layout(draw, part, TEXT_LAYOUTS)
    image = Image.new("RGB", (SIDE, SIDE), chosen["paper"])
    ink, face = ImageDraw.Draw(image), font(chosen["face"], chosen["size"])
    _, top, _, bottom = ink.textbbox((0, 0), text, font=face)
    y = draw.randint(1, SIDE - 2 - int(bottom - top)) - top
    for place, letter in enumerate(text):
        ink.text((CELL * (place + 0.5), y), letter, fill=chosen["ink"], font=face, anchor="ma")
    return speckled(image, draw, chosen["noise"])


def strings(part: Part) -> list[Example]:
    """Each string to be written down exactly."""
    return [
        Example(
            id=f"string-{part}-{number}",
            parts=asked(READ, Drawn(draw_string, (part, number))),
            answers=(string(drawing("string", part, number), part),),
            kind="read",
        )
        for number in range(STRINGS[part])
    ]


def screen(draw: random.Random, part: Part) -> dict[str, str]:
    """What stands on a screenshot, from top to bottom."""
    subject = string(draw, part)
    return {
        "kind": draw.choice(KINDS), "name": draw.choice(NAMES), "day": draw.choice(DAYS),
        "topic": draw.choice(TOPICS), "code": subject[:4],
    }  # fmt: skip


def draw_screen(part: Part, number: int) -> Any:
    """A Pillow image, 64 x 64, of a window: its title in a bar, and four lines of text."""
    from PIL import Image, ImageDraw

    draw = drawing("screen", part, number)
    told, chosen = screen(draw, part), layout(draw, part, SCREEN_LAYOUTS)
    image = Image.new("RGB", (SIDE, SIDE), chosen["paper"])
    ink, face = ImageDraw.Draw(image), font(chosen["face"], chosen["size"])
    ink.rectangle((0, 0, SIDE, chosen["pitch"] - 1), fill=chosen["bar"])
    for row, line in enumerate(told.values()):
        colour, base = "black" if row else "white", chosen["top"] + row * chosen["pitch"]
        for place, letter in enumerate(line):
            ink.text((CELL * (place + 0.5), base), letter, fill=colour, font=face, anchor="ms")
    return speckled(image, draw, chosen["noise"])


def screens(part: Part) -> list[Example]:
    """Of each screenshot three fields to read, and a line that sums it up."""
    return [
        Example(
            id=f"screen-{part}-{number}-{kind}",
            parts=asked(question, Drawn(draw_screen, (part, number))),
            answers=(answer,),
            kind=kind,
        )
        for number in range(SCREENS[part])
        for kind, (question, answer) in about(screen(drawing("screen", part, number), part)).items()
    ]


def about(told: dict[str, str]) -> dict[str, tuple[str, str]]:
    """One question of each kind, and its answer."""
    return {
        "from": ("Who is it from?", told["name"]),
        "day": ("Which day does it name?", told["day"]),
        "code": ("What is the last line?", told["code"]),
        "summary": (
            "Sum it up in one line.",
            f"{told['kind']} from {told['name']} about the {told['topic']}",
        ),
    }


def screen_texts(part: Part) -> list[Example]:
    """All that stands on each screenshot, to be written down: one row teaches every field."""
    return [
        Example(
            id=f"screen_text-{part}-{number}",
            parts=asked(READ, Drawn(draw_screen, (part, number))),
            answers=(", ".join(screen(drawing("screen", part, number), part).values()),),
            kind="text",
        )
        for number in range(SCREENS[part])
    ]
