"""Convert every colour mode of Pillow to RGB."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inception_cli.images.failure import Unreadable

WHITE = 65535  # of 16-bit values, which the functions here calculate with
EIGHT_BITS = ((np.arange(WHITE + 1) * 255 + WHITE // 2) // WHITE).astype(np.uint8)  # 16 bits → 8 bits, rounded


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image as RGB: alpha over white, deep greys scaled, the rest (palettes, CMYK) as Pillow converts it.

    So 8-bit greyscale, RGB and CMYK are what the publishers' `Image.convert("RGB")` gives. LAB raises Unreadable.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return from_16_bits(to_16_bits(np.asarray(image))[..., None])
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode == "LAB":
        raise Unreadable("unsupported", "LAB colours are not supported; convert it to RGB")
    return image.convert("RGB")


def is_invisible(image: Image.Image) -> bool:
    """Return whether no pixel of an image would be visible by its alpha."""
    return image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() == (0, 0)


def from_16_bits(colours: NDArray[np.uint16]) -> Image.Image:
    """Return 16-bit grey or RGB, (height, width, 1 or 3), as an RGB image of 8 bits."""
    values = to_8_bits(colours)
    return Image.fromarray(values) if values.shape[2] == 3 else Image.fromarray(values[..., 0]).convert("RGB")


def over_white(colours: NDArray[np.uint16], alpha: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return colours (height, width, samples), with alpha (height, width, 1), over white."""
    blended = colours.astype(np.uint32) * alpha + WHITE * (WHITE - alpha.astype(np.uint32))
    return ((blended + WHITE // 2) // WHITE).astype(np.uint16)


def to_8_bits(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return 16-bit values as 8-bit ones, rounded."""
    return np.take(EIGHT_BITS, values)


def to_16_bits(values: NDArray[Any], bits: int | None = None) -> NDArray[np.uint16]:
    """Return samples as 16-bit values of the same shape.

    White is the largest number of `bits` bits for unsigned integers. For signed ones it is 65,535, since Pillow saves
    16-bit grey with 32 signed bits, or else the largest 32-bit number; for floats it is 1, 255 or 65,535, the least
    that no value exceeds. If a signed integer is negative, or a float negative or larger, the range from the smallest
    to the largest value is scaled.
    """
    if values.dtype.kind == "u":
        bits = bits or values.dtype.itemsize * 8
        if bits >= 16:
            return np.asarray(values >> (bits - 16) if bits > 16 else values, np.uint16)
        largest = 2**bits - 1
        table = ((np.arange(2**bits) * 2 * WHITE + largest) // (2 * largest)).astype(np.uint16)
        scaled: NDArray[np.uint16] = table[values]
        return scaled
    whites = (1, 255, WHITE) if values.dtype.kind == "f" else (WHITE, 2**31 - 1)
    floats = np.nan_to_num(values.astype(np.promote_types(values.dtype, np.float32)), nan=0, posinf=0, neginf=0)
    low, high = float(floats.min()), float(floats.max())
    if low < 0 or high > whites[-1]:
        floats -= low
        white = high - low or 1
    else:
        white = next(white for white in whites if high <= white)
    floats *= WHITE / white
    floats += 0.5
    return np.asarray(np.minimum(floats, WHITE), np.uint16)


def unpacked_bits(rows: NDArray[np.uint8], count: int, bits: int) -> NDArray[np.unsignedinteger]:
    """Return `count` numbers of 1 to 16 bits from each row of bytes, the highest bits of a byte first."""
    first_bit = np.arange(count) * bits
    first = first_bit >> 3  # the first of the three bytes that hold a number
    padded = np.pad(rows, ((0, 0), (0, 2))).astype(np.uint32)
    windows = padded[:, first] << 16 | padded[:, first + 1] << 8 | padded[:, first + 2]
    shifted = windows >> (24 - bits - (first_bit & 7)).astype(np.uint32)
    return np.asarray(shifted & (2**bits - 1), np.uint8 if bits <= 8 else np.uint16)
