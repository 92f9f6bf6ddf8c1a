"""What the report shows of answered questions."""

import json

import numpy as np
import pytest
from PIL import Image

from lm.data.visual import Example
from lm.data.visual.example import Drawn, asked
from lm.evals import gallery
from lm.evals.visual import Answered
from lm.models.gpt_vision import GptVisionConfig
from lm.models.vision import VisionConfig
from lm.text.byte import ByteTokenizer
from tests.models.gpt_test import small


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (5, 5), (12, 12), (30, 12)])
def test_of_few_examples_each_is_shown_once_and_of_many_twelve_that_are_spread(
    tmp_path, monkeypatch, count, shown
):
    monkeypatch.setattr(
        gallery, "attention", lambda config, params, tokens, *_: np.ones(tokens.shape)
    )
    eye = VisionConfig(image=8, patch=4, layers=1, width=16, heads=2)
    config = GptVisionConfig(text=small(length=64, vocab=257), vision=eye, image_id=256)
    examples = [
        Example(
            id=str(n), parts=asked(f"{n}?", Drawn(Image.new, ("RGB", (8, 8)))), answers=("yes",)
        )
        for n in range(count)
    ]
    answered = Answered(examples, tuple(str(n) for n in range(count)))
    gallery.write_gallery(tmp_path, config, None, ByteTokenizer(), answered)
    rows = [json.loads(line) for line in (tmp_path / gallery.NAME).read_text().splitlines()]
    told = [int(row["answer"]) for row in rows]
    assert len(told) == len(set(told)) == shown and told[0] == 0
    assert told[-1] >= count - 1 - count // 12
