"""Files of images to the bytes that an encoder reads, and nothing else into memory.

PNG and JPEG alone are opened, the size is judged by the header before anything is decoded, and
whatever is wrong is one `DataError` that names the image.
"""

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np

from lm.core.errors import ConfigError, DataError

FORMATS = ("PNG", "JPEG")
PIXELS = 16_000_000  # of an image at most
GREY = 127  # what fills an image that is not square


def pillow() -> Any:
    """Pillow's Image module.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ConfigError("images need Pillow: pip install 'lm[images]'") from None
    return Image


def pixels(data: bytes, side: int, where: str) -> np.ndarray:
    """An image file as `side` x `side` bytes of red, green and blue. [side side 3] uint8

    As a viewer shows it: turned as its EXIF says, transparent parts white, 16 bits scaled to 8, of
    an animation the first frame. What is not square is fitted in and filled up with grey.

    Args:
      where: what an error calls the image.

    Raises:
      DataError: no PNG or JPEG, no pixels, too many of them, or a file that ends too early.
    """
    return fitted(upright(opened(data, where, side), where), side)


def moved(image: np.ndarray, right: int, down: int) -> np.ndarray:
    """An image [R R C] moved by so many pixels, the pixels of its edge continued."""
    side = np.arange(len(image))
    return image.take(side - down, axis=0, mode="clip").take(side - right, axis=1, mode="clip")


def opened(data: bytes, where: str, side: int | None = None) -> Any:
    """A Pillow image of which only the header has been read; `side`: what will be made of it."""
    Image = pillow()
    if not data:
        raise DataError(f"{where} is empty: give a PNG or JPEG file")
    try:
        silence(Image.DecompressionBombWarning)  # the limit below is lower
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise DataError(f"{where} says that it has over 179 million pixels: shrink it") from None
    except Image.UnidentifiedImageError:
        raise DataError(f"{where} is neither PNG nor JPEG: convert it") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise DataError(f"{where} is damaged: {error}") from None
    width, height = image.size
    if width < 1 or height < 1:
        raise DataError(f"{where} has {width} x {height} pixels: there is nothing to see")
    if width * height > PIXELS:
        raise DataError(
            f"{where} has {width} x {height} pixels, the limit is {PIXELS / 1e6:.0f} million: "
            "shrink it"
        )
    if side is not None and image.format == "JPEG":
        image.draft(image.mode, (2 * side, 2 * side))  # decodes an eighth of a photograph, or so
    return image


def silence(kind: type[Warning]) -> None:
    if not any(category is kind for _, _, category, _, _ in warnings.filters):
        warnings.simplefilter("ignore", kind)


def upright(image: Any, where: str) -> Any:
    """Decoded, turned and in RGB."""
    Image = pillow()
    from PIL import ImageOps

    try:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):  # 16 bits; Pillow would cut them off at 255
            image = Image.fromarray((np.asarray(image, np.int64) >> 8).clip(0, 255).astype("uint8"))
        if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise DataError(f"{where} is damaged: {error}") from None


def fitted(image: Any, side: int) -> np.ndarray:
    """An RGB image in the middle of a grey square (LLaVA-1.5 pads likewise). [side side 3] uint8"""
    Image = pillow()
    width, height = image.size
    longest = max(width, height)
    size = (max(1, round(width * side / longest)), max(1, round(height * side / longest)))
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    if size == (side, side):
        return np.asarray(image)
    square = Image.new("RGB", (side, side), (GREY, GREY, GREY))
    square.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2))
    return np.asarray(square)
