"""Scenes of like shapes in which one is wrong on purpose: what is odd here?"""

import random
from typing import Any

from lm.data.visual.example import Drawn, Example, asked
from lm.data.visual.layouts import Part, drawing, layout

SCENES = {"train": 8_000, "valid": 300}
COLOURS = ("red", "green", "blue", "orange", "purple")
FORMS = ("circle", "square", "triangle")
LAYOUTS = {
    "rows": (2, 3),
    "columns": (2, 3),
    "paper": ("white", "ivory", "lightgray"),
    "size": (11, 13, 15),
    "jitter": (0, 2),
}


def oddity(draw: random.Random) -> dict[str, str]:
    """The common form and colour, and those of the odd one, which differs in one of the two."""
    form, other = draw.sample(FORMS, 2)
    colour, tint = draw.sample(COLOURS, 2)
    kind = draw.choice(("colour", "form"))
    odd = {"colour": (form, tint), "form": (other, colour)}[kind]
    return {"form": form, "colour": colour, "kind": kind, "odd form": odd[0], "odd colour": odd[1]}


def draw_scene(part: Part, number: int) -> Any:
    """A Pillow image, 64 x 64."""
    from PIL import Image, ImageDraw

    draw = drawing("scene", part, number)
    told, chosen = oddity(draw), layout(draw, part, LAYOUTS)
    image = Image.new("RGB", (64, 64), chosen["paper"])
    ink = ImageDraw.Draw(image)
    count = chosen["rows"] * chosen["columns"]
    odd = draw.randrange(count)
    for place in range(count):
        row, column = divmod(place, chosen["columns"])
        middle = [
            64 * (n + 0.5) / of + draw.randint(-chosen["jitter"], chosen["jitter"])
            for n, of in ((column, chosen["columns"]), (row, chosen["rows"]))
        ]
        form = told["odd form"] if place == odd else told["form"]
        colour = told["odd colour"] if place == odd else told["colour"]
        put(ink, form, middle[0], middle[1], chosen["size"] / 2, colour)
    return image


def put(ink: Any, form: str, x: float, y: float, half: float, colour: str) -> None:
    if form == "circle":
        ink.ellipse((x - half, y - half, x + half, y + half), fill=colour)
    elif form == "square":
        ink.rectangle((x - half, y - half, x + half, y + half), fill=colour)
    else:
        corners = ((x, y - half), (x - half, y + half), (x + half, y + half))
        ink.polygon(corners, fill=colour)


def oddities(part: Part) -> list[Example]:
    """Each scene with the question what is odd, or what the others are."""
    found = []
    for number in range(SCENES[part]):
        told = oddity(drawing("scene", part, number))
        kind = ("odd", "others")[number % 2]
        question, answer = {
            "odd": ("What is odd here?", f"one is a {told['odd colour']} {told['odd form']}"),
            "others": ("What are the others?", f"{told['colour']} {told['form']}s"),
        }[kind]
        parts = asked(question, Drawn(draw_scene, (part, number)))
        found.append(
            Example(id=f"scene-{part}-{number}", parts=parts, answers=(answer,), kind=kind)
        )
    return found
