"""Resize and crop RGB images to the views that the network sees, as the publishers of the presets do.

N images, V views, S the side of a view in pixels. Everything is uint8 here; mean and std are applied by the network.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from inception_cli.config import PixelConfig, Preset
from inception_cli.images.scaled_image import scale_info

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
MIRRORED = (12, 144)  # numbers of crops whose mirrored views are made on the device
MAX_RESIZED = 64_000_000  # pixels; if the whole resized image had more, only the window of a view is resized
VIEWS_OF_SQUARE, CENTRE = 6, 4  # views of a square if the whole one is among them, and the centre's index among these
CV2_ONE = 2048  # cv2's weights are integers of 11 bits


def short_sides(config: PixelConfig) -> list[int]:
    """Return the short sides that an image is resized to.

    The paper does not give those of 144 crops for a side of 299: these are GoogLeNet's four for 224, in proportion.
    """
    preset = config.preset
    if config.crops == 144:
        return [round(preset.size * short / 224) for short in (256, 288, 320, 352)]
    return [preset.resize]


def shipped_views(crops: int) -> int:
    """Return how many views of an image go to the device: one of each mirrored pair that is made there."""
    return crops // 2 if crops in MIRRORED else crops


def central_view(config: PixelConfig) -> int:
    """Return the index among the views of `views` of the one that is nearest to a single crop.

    Of 10 and 12 crops it is the centre, at most a pixel beside that of a single crop; of 144 the centre of the middle
    square at the short side nearest to the preset's.
    """
    if config.crops == 1:
        return 0
    sides = short_sides(config)
    nearest = min(range(len(sides)), key=lambda place: abs(sides[place] - config.preset.resize))
    square = 3 * nearest + 1 if config.crops == 144 else 0
    return square * VIEWS_OF_SQUARE + CENTRE


def views(image: Image.Image, config: PixelConfig) -> NDArray[np.uint8]:
    """Return the views of an RGB image: uint8 (V, S, S, 3); for 12 and 144 without mirrored views, (V / 2, S, S, 3).

    1 crop: the centre. 10: torchvision's TenCrop (AlexNet's) of the centre square of the resized image; its mirrored
    centre is one pixel beside the mirrored view of its centre, so all ten are made here. 12: corners and centre of
    that square and the whole square, mirrored. 144 (GoogLeNet, arXiv:1409.4842): four short sides, at each the left,
    centre and right (or top, centre and bottom) square, of each of these six views.
    """
    preset, size = config.preset, config.preset.size
    if config.crops == 1:
        scale = scale_info(image)
        resized, left, top = centre_crop(scale.width, scale.height, preset)
        return np.stack([_cropper(image, resized, preset, window_only=config.fast)(left, top, size)])
    if config.crops == 144:
        squares = [square for short in short_sides(config) for square in _squares(image, short, preset)]
    else:
        squares = [_squares(image, preset.resize, preset)[1]]
    if config.crops == 10:
        squares.append(ImageOps.mirror(squares[0]))
    return np.stack([view for square in squares for view in _views_of_square(square, preset, config.crops > 10)])


def centre_crop(width: int, height: int, preset: Preset) -> tuple[tuple[int, int], int, int]:
    """Return the (width, height) that an image is resized to, and the left and the top of its centre crop."""
    resized = resized_size(width, height, preset.resize)
    return resized, centre_offset(resized[0], preset.size), centre_offset(resized[1], preset.size)


def visible_box(image: Image.Image, preset: Preset) -> tuple[float, float, float, float]:
    """Return the part of an image that a single crop shows: left, top, right, bottom as shares of its sides."""
    scale = scale_info(image)
    (width, height), left, top = centre_crop(scale.width, scale.height, preset)
    return left / width, top / height, (left + preset.size) / width, (top + preset.size) / height


def centre_offset(side: int, size: int) -> int:
    """Return where a centre crop starts, rounded half to even as the three publishers do."""
    return round((side - size) / 2)


def resized_size(width: int, height: int, short: int) -> tuple[int, int]:
    """Return (width, height) with short side `short`, the long side rounded down as torchvision, timm and mmcv do."""
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def _squares(image: Image.Image, short: int, preset: Preset) -> list[Image.Image]:
    """Return the first, middle and last square along the long side of the image, resized to a short side of `short`."""
    scale = scale_info(image)
    width, height = resized_size(scale.width, scale.height, short)
    crop = _cropper(image, (width, height), preset)
    corners = [(round(share * (width - short) / 2), round(share * (height - short) / 2)) for share in (0, 1, 2)]
    return [Image.fromarray(crop(left, top, short)) for left, top in corners]


def _views_of_square(square: Image.Image, preset: Preset, whole: bool) -> Iterator[NDArray[np.uint8]]:
    """Yield the four corners and the centre, each uint8 (S, S, 3), and the whole square resized to S if `whole`."""
    size, end = preset.size, square.width - preset.size
    for left, top in ((0, 0), (end, 0), (0, end), (end, end), (centre_offset(square.width, size),) * 2):
        yield _crop(square, left, top, size)
    if whole:
        yield _cropper(square, (size, size), preset)(0, 0, size)


def _cropper(
    image: Image.Image, size: tuple[int, int], preset: Preset, window_only: bool = False
) -> Callable[[int, int, int], NDArray[np.uint8]]:
    """Return a function (left, top, side) → that square of the image resized to `size`: uint8 (side, side, 3).

    With `window_only` nothing outside the square is resized; the values then differ by up to two from those of the
    whole resized image.
    """
    if not preset.antialias:
        return partial(_resize_as_cv2, image, size)
    width, height = size
    largest = width * max(height, image.height)  # pixels in memory: Pillow resizes horizontally, then vertically
    if window_only or largest > MAX_RESIZED:
        return partial(_resize_window, image, size, preset)
    return partial(_crop, image.resize(size, FILTERS[preset.filter], box=scale_info(image).box))


def _crop(resized: Image.Image, left: int, top: int, side: int) -> NDArray[np.uint8]:
    """Return a square of the resized image: uint8 (side, side, 3)."""
    return np.asarray(resized.crop((left, top, left + side, top + side)))


def _resize_window(
    image: Image.Image, size: tuple[int, int], preset: Preset, left: int, top: int, side: int
) -> NDArray[np.uint8]:
    """Return the same square, resized from its own window of the image."""
    first_x, first_y, last_x, last_y = scale_info(image).box
    scale_x, scale_y = (last_x - first_x) / size[0], (last_y - first_y) / size[1]
    right, bottom = first_x + (left + side) * scale_x, first_y + (top + side) * scale_y
    box = (first_x + left * scale_x, first_y + top * scale_y, min(right, image.width), min(bottom, image.height))
    return np.asarray(image.resize((side, side), FILTERS[preset.filter], box=box))


def _resize_as_cv2(image: Image.Image, size: tuple[int, int], left: int, top: int, side: int) -> NDArray[np.uint8]:
    """Return the same square, equal to that of cv2.resize with INTER_LINEAR.

    cv2 weights two columns, then two rows, in integers: weights of 11 bits, 4 bits dropped after the columns, 16 and 2
    after the rows (VResizeLinear in OpenCV's modules/imgproc/src/resize.cpp). Only the window of the crop is read.
    """
    columns, x_weights = _taps(image.width, size[0], left, side)
    rows, y_weights = _taps(image.height, size[1], top, side)
    corner = columns[0, 0], rows[0, 0]
    window = np.asarray(image.crop((*corner, columns[1, -1] + 1, rows[1, -1] + 1)))
    near, far = np.take(window, rows - corner[1], axis=0)  # uint8 (S, width of the window, 3) each
    near, far = (_blend(lines, columns - corner[0], x_weights) >> 4 for lines in (near, far))
    blended = (near * y_weights[0, :, None, None] >> 16) + (far * y_weights[1, :, None, None] >> 16)
    return ((blended + 2) >> 2).astype(np.uint8)


def _blend(lines: NDArray[np.uint8], columns: NDArray[np.int64], weights: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return lines (S, width, 3) resized horizontally by their taps (2, S): int32 (S, S, 3)."""
    blended: NDArray[np.int32] = np.take(lines, columns[0], axis=1) * weights[0, :, None]
    blended += np.take(lines, columns[1], axis=1) * weights[1, :, None]
    return blended


def _taps(source: int, target: int, first: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the two source pixels of each of `count` pixels of a resized line, and their weights: (2, count) each."""
    scale = 1 / (target / source)  # cv2 inverts the inverse, and continues in 32 bits
    position = ((np.arange(first, first + count) + 0.5) * scale - 0.5).astype(np.float32)
    near = np.floor(position)
    fraction = position - near
    weights = np.rint(np.stack([1 - fraction, fraction]) * np.float32(CV2_ONE)).astype(np.int32)
    return np.stack([near, near + 1]).astype(np.int64).clip(0, source - 1), weights
