"""Some answered questions as the report shows them: the image, and where the answer looked."""

import base64
import io
import json
from typing import Any

import jax
import numpy as np

from lm.core.mesh import everywhere, fetch
from lm.data.images import pillow
from lm.data.visual.rows import VisualRows, encode
from lm.evals.visual import Answered
from lm.models.gpt_vision import GptVisionConfig
from lm.models.layers import attention_to_slots
from lm.text.tokenizer import Tokenizer

SHOWN = 12
NAME = "gallery.jsonl"  # what lm/report/record.py reads

attention = jax.jit(attention_to_slots, static_argnums=0)


def gallery(config: GptVisionConfig, params: Any, tokenizer: Tokenizer, answered: Answered) -> str:
    """The text of the file `NAME`: the images of up to `SHOWN` examples, each with attention over
    its slots. Those that the context has no room for with their answers are not chosen; empty where
    none is, or where an image cannot be read."""
    pairs = encode(answered.examples, tokenizer, config.image_id, config.slots)
    chosen = [
        n for n, one in enumerate(pairs) if one.pictures and len(one.ids) <= config.text.length
    ]
    shown = min(SHOWN, len(chosen))
    chosen = [chosen[place * len(chosen) // shown] for place in range(shown)]
    examples = [answered.examples[n] for n in chosen]
    if not examples:
        return ""
    rows = VisualRows(
        examples, tokenizer, image_id=config.image_id, slots=config.slots,
        side=config.vision.image, length=config.text.length, seed=0,
    )  # fmt: skip
    batch, wrong = rows.take(np.arange(rows.count), 0)
    if not everywhere(np.array([not wrong])).all():
        return ""  # what is shown has to be what was answered
    looked = fetch(attention(config, params, batch.tokens, batch.images, batch.prefix))
    lines = []
    for number, place in enumerate(chosen):
        one, count = answered.examples[place], rows.images[number]
        slots = np.flatnonzero(batch.tokens[number] == config.image_id)
        shares = looked[number, slots].reshape(count, config.slots)
        row = {
            "images": [encoded(image) for image in batch.images[number, :count]],
            "attention": [[round(float(share), 4) for share in each] for each in shares],
            "question": one.question, "answer": answered.answers[place],
            "truth": " / ".join(one.answers),
        }  # fmt: skip
        lines.append(json.dumps(row) + "\n")
    return "".join(lines)


def encoded(image: np.ndarray) -> str:
    """Pixels [R R 3] as a PNG in base64."""
    out = io.BytesIO()
    pillow().fromarray(image).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()
