"""What the report shows of answered questions."""

import base64
import io
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


def drawn(colour):
    return Drawn(Image.new, ("RGB", (8, 8), colour))


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setattr(
        gallery, "attention", lambda config, params, tokens, *_: np.cumsum(np.ones(tokens.shape), 1)
    )
    eye = VisionConfig(image=8, patch=4, layers=1, width=16, heads=2)
    return GptVisionConfig(text=small(length=64, vocab=270), vision=eye, image_id=269)


def shown_of(config, examples):
    answered = Answered(examples, tuple(str(n) for n in range(len(examples))))
    text = gallery.gallery(config, None, ByteTokenizer(), answered)
    return [json.loads(line) for line in text.splitlines()]


def test_every_image_of_an_example_is_shown_with_the_attention_over_it(config):
    parts = (drawn("red"), "and", drawn("blue"), "?")
    two, one = (Example(id="", parts=some, answers=("yes",)) for some in (parts, parts[2:]))
    first, second = shown_of(config, [two, one])
    colours = [
        Image.open(io.BytesIO(base64.b64decode(image))).getpixel((0, 0))
        for image in (*first["images"], *second["images"])
    ]
    assert colours == [(255, 0, 0), (0, 0, 255), (0, 0, 255)]
    assert first["attention"] == [[1, 2, 3, 4], [8, 9, 10, 11]]  # three letters are between them
    assert second["attention"] == [[1, 2, 3, 4]]


def test_an_example_that_is_too_long_leaves_the_others_in_the_gallery(config):
    examples = [
        Example(id="", parts=asked(text, drawn("red")), answers=("yes",))
        for text in ("?", 80 * "?", "what?")
    ]
    rows = shown_of(config, examples)
    assert [(row["question"], row["answer"]) for row in rows] == [("?", "0"), ("what?", "2")]


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (5, 5), (12, 12), (30, 12)])
def test_of_few_examples_each_is_shown_once_and_of_many_twelve_that_are_spread(
    config, count, shown
):
    examples = [
        Example(id=str(n), parts=asked(f"{n}?", drawn("red")), answers=("yes",))
        for n in range(count)
    ]
    told = [int(row["answer"]) for row in shown_of(config, examples)]
    assert len(told) == len(set(told)) == shown and told[0] == 0
    assert told[-1] >= count - 1 - count // 12
