"""Layouts of drawn images: every combination of what may vary is of training or held out."""

import functools
import itertools
import random
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lm.core.errors import ConfigError

Part = Literal["train", "valid"]
HELD_OUT = 5  # one layout of so many
FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif", "DejaVuSansMono-Bold")


def drawing(name: str, part: Part, number: int) -> random.Random:
    """The source of chance of one drawing, which is a function of these three alone."""
    return random.Random(f"{name}-{part}-{number}")


def layout(draw: random.Random, part: Part, varied: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """One value of each, a combination that belongs to this part and never to the other."""
    known = layouts(part, tuple(map(tuple, varied.values())))
    return dict(zip(varied, draw.choice(known), strict=True))


@functools.cache
def layouts(part: Part, varied: tuple[tuple[Any, ...], ...]) -> list[tuple[Any, ...]]:
    """Every combination that belongs to this part."""
    return [
        values
        for values in itertools.product(*varied)
        if (zlib.crc32(repr(values).encode()) % HELD_OUT == 0) == (part == "valid")
    ]


@functools.lru_cache(maxsize=64)
def font(face: str, size: int) -> Any:
    """A font of matplotlib's, which are the same on every machine."""
    try:
        from PIL import ImageFont
    except ImportError:
        raise ConfigError("images need Pillow: pip install 'lm[images]'") from None
    import matplotlib

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{face}.ttf", size)


def speckled(image: Any, draw: random.Random, strength: int) -> Any:
    """The image with noise of up to so many grey levels on every pixel."""
    import numpy as np
    from PIL import Image

    if not strength:
        return image
    noise = np.random.default_rng(draw.getrandbits(32)).integers(
        -strength, strength + 1, (image.height, image.width, 1)
    )
    return Image.fromarray((np.asarray(image, int) + noise).clip(0, 255).astype(np.uint8))
