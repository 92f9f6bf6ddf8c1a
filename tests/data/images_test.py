"""Every kind of image that a user has: shown as a viewer shows it, or one line of error."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lm.core.errors import DataError
from lm.data.images import GREY, pixels

RED, GREEN = (255, 0, 0), (0, 255, 0)


def saved(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def halves(mode="RGB", size=(32, 32)):
    """The left half red, the right half green."""
    image = Image.new("RGB", size, RED)
    image.paste(GREEN, (size[0] // 2, 0, *size))
    return image.convert(mode)


def near(found, colour, tolerance=40):
    return (np.abs(found.astype(int) - np.array(colour)) <= tolerance).all()


def test_png_and_jpeg_become_the_square_of_the_encoder():
    for kind in ("PNG", "JPEG"):
        found = pixels(saved(halves(), kind), 8, "it")
        assert found.shape == (8, 8, 3) and found.dtype == np.uint8
        assert near(found[:, :3], RED) and near(found[:, 5:], GREEN)


def test_a_photograph_keeps_what_is_as_fine_as_the_encoder_sees():
    stripes = np.tile(np.arange(800) // 8 % 2 * 255, (800, 1)).astype(np.uint8)
    png, jpeg = (
        pixels(saved(Image.fromarray(stripes), kind), 200, "it").astype(int)
        for kind in ("PNG", "JPEG")
    )
    assert np.abs(png - jpeg).mean() < 10 < png.std() / 5


def test_what_is_not_square_is_fitted_into_grey():
    found = pixels(saved(halves(size=(32, 16))), 16, "it")
    assert near(found[4:12, :7], RED) and (found[:3] == GREY).all() and (found[13:] == GREY).all()


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP"])
def test_other_formats_are_refused(kind):
    with pytest.raises(DataError, match="a.img is neither PNG nor JPEG: convert it"):
        pixels(saved(halves(), kind), 8, "a.img")


def test_a_name_or_text_is_no_image():
    with pytest.raises(DataError, match="neither PNG nor JPEG"):
        pixels(b"<svg></svg>", 8, "a.png")
    with pytest.raises(DataError, match=r"a\.png is empty"):
        pixels(b"", 8, "a.png")


def test_cmyk_grey_palette_and_sixteen_bits_look_as_they_should():
    assert near(pixels(saved(halves("CMYK"), "JPEG"), 8, "it")[:, :3], RED, 60)
    assert near(pixels(saved(halves("P")), 8, "it")[:, :3], RED)
    assert near(pixels(saved(Image.new("L", (8, 8), 200)), 8, "it"), (200,) * 3, 1)
    assert near(pixels(saved(Image.new("1", (8, 8), 1)), 8, "it"), (255,) * 3, 1)
    deep = Image.fromarray(np.full((8, 8), 200 * 256, np.uint16))
    assert near(pixels(saved(deep), 8, "it"), (200,) * 3, 1)  # not cut off at 255


def test_transparent_parts_are_white():
    image = halves("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    assert near(pixels(saved(image), 8, "it"), (255,) * 3, 0)
    grey = Image.new("LA", (8, 8), (0, 128))
    assert near(pixels(saved(grey), 8, "it"), (127,) * 3, 2)
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([255, 0, 0] * 256)
    assert near(pixels(saved(palette, transparency=0), 8, "it"), (255,) * 3, 0)


def test_a_photograph_is_turned_as_its_exif_says():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    found = pixels(saved(halves(), "JPEG", exif=exif), 8, "it")
    assert near(found[:3], RED) and near(found[5:], GREEN)


def test_an_animation_shows_its_first_picture():
    image = halves()
    data = saved(image, save_all=True, append_images=[Image.new("RGB", image.size, "blue")])
    assert near(pixels(data, 8, "it")[:, :3], RED)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_that_ends_too_early_is_refused_wherever_it_is_cut(kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    data = saved(Image.fromarray(noise), kind)
    assert pixels(data, 8, "it").shape == (8, 8, 3)
    for length in (1, 7, 20, len(data) // 4, len(data) // 2):
        with pytest.raises(DataError, match="it is"):
            pixels(data[:length], 8, "it")


def png_claiming(width, height):
    """A PNG whose header says this size; there are no pixels behind it."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


def test_a_bomb_is_refused_by_its_header(recwarn):
    with pytest.raises(DataError, match="20000 x 20000 pixels|over 179 million"):
        pixels(png_claiming(20_000, 20_000), 8, "it")
    with pytest.raises(DataError, match="10000 x 10000 pixels, the limit is 16 million"):
        pixels(png_claiming(10_000, 10_000), 8, "it")
    with pytest.raises(DataError, match="5000 x 5000 pixels"):
        pixels(png_claiming(5_000, 5_000), 8, "it")
    # Pillow would warn of the second, in lines of its own
    assert Image.DecompressionBombWarning not in [one.category for one in recwarn]


def test_an_image_of_no_size_is_refused():
    with pytest.raises(DataError, match="it "):
        pixels(png_claiming(0, 8), 8, "it")


def test_any_bytes_give_pixels_or_one_line(hypothesis_seed=0):
    data = bytearray(saved(halves()))
    draw = np.random.default_rng(hypothesis_seed)
    for _ in range(300):
        broken = data.copy()
        for place in draw.integers(0, len(data), 3):
            broken[place] = draw.integers(0, 256)
        try:
            assert pixels(bytes(broken), 8, "it").shape == (8, 8, 3)
        except DataError as error:
            assert "\n" not in str(error)
