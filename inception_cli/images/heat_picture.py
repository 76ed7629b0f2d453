"""Draw a heat map over its photo, with a legend, and encode it as PNG or JPEG."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from inception_cli.errors import excerpt
from inception_cli.images.colour_map import colours
from inception_cli.images.scaled_image import scale_info

Box = tuple[float, float, float, float]  # left, top, right, bottom

LONG_SIDE, LEAST_SHORT_SIDE, MOST = 1000, 240, 4000  # of the photo in the picture, in pixels
MIN_WIDTH = 640  # of the picture: a narrow photo has white beside it, so that the legend has room
OPACITY = 0.6  # of the map over the photo
GREY = (70, 185)  # what black and white of the photo become under the map, which then is legible in grey as well
HATCH = 14  # pixels between the lines over the part that the network does not see
MARGIN, LINE, BAR = 20, 30, 22  # of the legend, in pixels
SMALL = 0.7  # size of a text that would be too wide, before it is shortened
INK, SOFT, PAPER = (20, 20, 20), (90, 90, 90), (255, 255, 255)
#: Fonts of Linux and macOS with many scripts, by preference; Pillow's own has few characters.
FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "Arial.ttf")
#: What the beginning of each picture contains.
MARKER = "inception heat map"


@dataclass(frozen=True)
class Legend:
    """The texts of a picture: a title, the name of the scale, and lines below it."""

    title: str
    scale: str
    lines: tuple[str, ...]


def draw(image: Image.Image, values: NDArray[np.floating], visible: Box, cells: Box, legend: Legend) -> Image.Image:
    """Return an RGB image with a map over it and a legend below.

    `values` are (H, W), drawn from the colour of the lowest to that of the highest. `visible` is the part of the image
    that the network sees, and `cells` the part of that which the values cover; beyond it they go on as at the edge.
    """
    photo = _resized(image)
    left, top, right, bottom = _pixels(visible, photo.size)
    under = photo.crop((left, top, right, bottom))
    grey = GREY[0] + np.asarray(under.convert("L"), np.float64)[..., None] * (GREY[1] - GREY[0]) / 255
    smooth = interpolate(values, under.size, cells)
    low, high = float(values.min()), float(values.max())
    heat = colours((smooth - low) / (high - low or 1))
    seen = Image.fromarray(((1 - OPACITY) * grey + OPACITY * heat).round().astype(np.uint8))
    if under.size != photo.size:
        photo = _hatched(photo)
    photo.paste(seen, (left, top))
    if under.size != photo.size:
        ImageDraw.Draw(photo).rectangle((left - 1, top - 1, right, bottom), outline=PAPER)
    below = _draw_legend(max(MIN_WIDTH, photo.width), low, high, legend)
    picture = Image.new("RGB", (below.width, photo.height + below.height), PAPER)
    picture.paste(photo, ((below.width - photo.width) // 2, 0))
    picture.paste(below, (0, photo.height))
    return picture


def encode(picture: Image.Image, suffix: str) -> bytes:
    """Return a picture as PNG or JPEG, by the suffix of its file; MARKER is near the beginning."""
    file = io.BytesIO()
    if suffix.lower() == ".png":
        text = PngImagePlugin.PngInfo()
        text.add_text("Software", MARKER)
        picture.save(file, "PNG", pnginfo=text)
    else:
        picture.save(file, "JPEG", quality=92, comment=MARKER)
    return file.getvalue()


def interpolate(values: NDArray[np.floating], size: tuple[int, int], cells: Box) -> NDArray[np.floating]:
    """Return values (H, W) at each pixel of an area of `size` (width, height), linear between the centres of cells.

    `cells` is the part of the area that the cells cover, as shares of its sides.
    """
    width, height = size
    left, top, right, bottom = cells
    across = _weights(values.shape[1], width, left, right)
    down = _weights(values.shape[0], height, top, bottom)
    smooth: NDArray[np.floating] = down @ values @ across.T
    return smooth


def _weights(cells: int, pixels: int, first: float, last: float) -> NDArray[np.floating]:
    """Return the weight (pixels, cells) of each cell at each pixel of a line."""
    places = ((np.arange(pixels) + 0.5) / pixels - first) / (last - first) * cells - 0.5
    return np.stack([np.interp(places, np.arange(cells), cell) for cell in np.eye(cells)], 1)


def _resized(image: Image.Image) -> Image.Image:
    """Return the whole image at the size at which it is drawn."""
    scale = scale_info(image)
    short, long = sorted((scale.width, scale.height))
    factor = min(max(LONG_SIDE / long, LEAST_SHORT_SIDE / short), MOST / long)
    size = max(1, round(scale.width * factor)), max(1, round(scale.height * factor))
    return image.resize(size, Image.Resampling.BICUBIC, box=scale.box)


def _pixels(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return a box, given as shares, in whole pixels: at least one each way."""
    (left, top), (right, bottom) = (
        tuple(round(share * side) for share, side in zip(corner, size, strict=True)) for corner in (box[:2], box[2:])
    )
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _hatched(photo: Image.Image) -> Image.Image:
    """Return a photo in dark grey with slanted lines."""
    dark = photo.convert("L").point([round(0.45 * value) for value in range(256)]).convert("RGB")
    pen = ImageDraw.Draw(dark)
    for start in range(-dark.height, dark.width, HATCH):
        pen.line((start, dark.height, start + dark.height, 0), fill=SOFT)
    return dark


def _draw_legend(width: int, low: float, high: float, legend: Legend) -> Image.Image:
    """Return the title, the scale with its lowest and highest value and zero, and the lines below."""
    large, small = 26, 18
    height = 2 * MARGIN + large + 8 + BAR + 2 * LINE + LINE * len(legend.lines)
    picture = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(picture)
    y, end = MARGIN, width - MARGIN
    _write(pen, (MARGIN, y), legend.title, large, INK, width - 2 * MARGIN)
    y += large + 12
    ramp = colours(np.linspace(0, 1, end - MARGIN))
    picture.paste(Image.fromarray(np.broadcast_to(ramp, (BAR, *ramp.shape)).copy()), (MARGIN, y))
    y += BAR
    ticks = [(MARGIN, low, "la"), (end, high, "ra")]
    zero = MARGIN + (0 - low) / (high - low or 1) * (end - MARGIN)
    if MARGIN + 90 < zero < end - 90:
        ticks.append((round(zero), 0.0, "ma"))
    for x, value, anchor in ticks:
        pen.line((min(x, end - 1), y, min(x, end - 1), y + 5), fill=INK)
        _write(pen, (x, y + 8), signed(value), small, INK, width, anchor)
    y += LINE + 4
    for text in (legend.scale, *legend.lines):
        _write(pen, (MARGIN, y), text, small, INK if text == legend.scale else SOFT, width - 2 * MARGIN)
        y += LINE
    return picture


def signed(value: float) -> str:
    """Return a contribution as it is shown: with its sign, and three significant digits or one decimal."""
    return "0" if value == 0 else f"{value:+.1f}" if abs(value) >= 10 else f"{value:+.3g}"


def can_write(text: str) -> bool:
    """Return whether a font of this machine has all characters of a text."""
    return _font_for(text, 20)[1] == text


def _write(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    colour: tuple[int, int, int],
    width: float,
    anchor: str = "la",
) -> None:
    """Write a line of text in a font that has its characters, smaller and then shortened if it is too wide."""
    font, text = _font_for(text, size)
    if font.getlength(text) > width:
        font, text = _font_for(text, round(SMALL * size))
    while (length := font.getlength(text)) > width and len(text) > 4:
        text = excerpt(text, min(len(text) - 1, int(len(text) * width / length)))
    pen.text(place, text, fill=colour, font=font, anchor=anchor)


def _font_for(text: str, size: int) -> tuple[ImageFont.FreeTypeFont, str]:
    """Return the first font that has all characters of a text; without one, the last, and ? for what it lacks."""
    fonts = []
    for name in FONTS:
        try:
            fonts.append(ImageFont.truetype(name, size))
        except OSError:  # not on this machine
            continue
        if all(_has(fonts[-1], char) for char in text):
            return fonts[-1], text
    font = fonts[0] if fonts else ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font, "".join(char if _has(font, char) else "?" for char in text)


def _has(font: ImageFont.FreeTypeFont, char: str) -> bool:
    """Return whether a font has a character: it draws others as it draws U+FFFF, which no font has."""
    return char.isspace() or bytes(font.getmask(char)) != bytes(font.getmask("\uffff"))
