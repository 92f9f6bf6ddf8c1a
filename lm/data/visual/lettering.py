"""Drawn text to be read: strings of eight characters, and screenshots with a line to sum them up.

A string fits an image of 64 pixels, each letter in a cell 8 wide as on a screen in text mode; a
screenshot, in proportional type too, has 128. Strings and layouts that are held out are never drawn
for training.
"""

import random
import zlib
from typing import Any

from lm.data.visual.example import Drawn, Example, asked
from lm.data.visual.layouts import FACES, HELD_OUT, Part, drawing, font, layout, speckled

CHARACTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # none that looks like another
LENGTH = 8
STRINGS = {"train": 20_000, "valid": 500}
SCREENS = {"train": 6_000, "valid": 300}
READ = "What does it say?"
SIDE, CELL = 64, 8  # pixels of an image of a string, and of a letter's cell
SCREEN = 128  # of a screenshot
MONOSPACED = ("DejaVuSansMono", "DejaVuSansMono-Bold", "cmtt10")

TEXT_LAYOUTS = {
    "face": MONOSPACED,
    "size": (9, 10),
    "ink": ("black", "navy", "darkred", "darkgreen"),
    "paper": ("white", "ivory", "lavender", "honeydew"),
    "noise": (0, 8, 20),
}
SCREEN_LAYOUTS = {
    "face": FACES[:4],
    "size": (9, 10, 11),
    "bar": ("steelblue", "dimgray", "seagreen", "indianred"),
    "paper": ("white", "ivory", "aliceblue"),
    "buttons": (0, 1, 2),
    "margin": (4, 7, 10),
}
NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Ida", "Jonas")
KINDS = ("Message", "Reminder", "Invoice", "Warning", "Invitation")
TOPICS = ("the garden", "the rent", "the server", "a party", "the dentist", "a parcel", "the boat")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")


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
    """A Pillow image, 128 x 128, of a window with a title, lines of text and buttons."""
    from PIL import Image, ImageDraw

    draw = drawing("screen", part, number)
    told, chosen = screen(draw, part), layout(draw, part, SCREEN_LAYOUTS)
    size, margin = chosen["size"], chosen["margin"]
    image = Image.new("RGB", (SCREEN, SCREEN), chosen["paper"])
    ink, face = ImageDraw.Draw(image), font(chosen["face"], size)
    ink.rectangle((0, 0, SCREEN, size + 7), fill=chosen["bar"])
    ink.text((margin, 3), told["kind"], fill="white", font=face)
    lines = (f"From: {told['name']}", f"On: {told['day']}", f"Re: {told['topic']}", told["code"])
    for place, line in enumerate(lines):
        ink.text((margin, size + 14 + place * (size + 5)), line, fill="black", font=face)
    for place in range(chosen["buttons"]):
        box = (margin + 54 * place, 108, margin + 54 * place + 44, 123)
        ink.rectangle(box, outline="gray", fill="gainsboro")
        ink.text((box[0] + 6, 110), ("OK", "Later")[place], fill="black", font=font(FACES[0], 10))
    return image


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
            f"{told['kind']} from {told['name']} about {told['topic']}",
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
