"""Images in the files of easy-VQA, squares of three colours, and a tiny run that learns them."""

import gzip
import io
import json
import random
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from lm.models.gpt import GptConfig
from lm.models.gpt_vision import GptVisionConfig
from lm.models.vision import VisionConfig
from lm.train.optimizer import AdamWConfig
from lm.train.session import LoopConfig
from lm.train.visual import VisualTuning

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}


def write_squares(root: Path, held_out: int = 12) -> Path:
    """48 images to learn from and those that are held out, each with the question of its colour."""
    folder, draw = root / "easy_vqa", random.Random(0)
    folder.mkdir()
    for part, count in (("train", 48), ("test", held_out)):
        rows = []
        with zipfile.ZipFile(folder / f"{part}_images.zip", "w") as archive:
            for number in range(count):
                colour = draw.choice(list(COLOURS))
                image = Image.new("RGB", (16, 16), "white")
                corner = draw.randrange(4), draw.randrange(4)
                box = (*corner, corner[0] + 10, corner[1] + 10)
                ImageDraw.Draw(image).rectangle(box, COLOURS[colour])
                out = io.BytesIO()
                image.save(out, "PNG")
                archive.writestr(f"{number}.png", out.getvalue())
                rows.append({"image": f"{number}.png", "question": "colour?", "answer": colour})
        with gzip.open(folder / f"{part}_questions.jsonl.gz", "wt") as file:
            file.write("\n".join(map(json.dumps, rows)))
    return root


def config(data: Path, **changes: Any) -> VisualTuning:
    """50 steps, after which every held-out colour is named."""
    made = VisualTuning(
        model=GptVisionConfig(
            text=GptConfig(layers=1, width=32, heads=2, length=48, vocab=269, unroll=1),
            vision=VisionConfig(image=16, patch=8, layers=1, width=32, heads=2),
            image_id=268,
            mask="prefix",
        ),
        optim=AdamWConfig(peak_lr=1e-2, b2=0.99, weight_decay=0.0),
        length=32,
        batch=16,
        steps=50,
        answer_tokens=6,
        loop=LoopConfig(log_every=20, evaluate_every=50, save_every=25),
    )
    made = replace(made, data=replace(made.data, root=str(data)))
    return replace(made, **changes)
