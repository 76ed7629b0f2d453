"""Read the BMPs that Pillow misreads or does not read: small palettes, and colours by bit masks."""

import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inception_cli.images.colour import from_16_bits, over_white, to_16_bits, unpacked_bits
from inception_cli.images.corruption import TrackedFile, too_large, truncated, unsupported

FILE_HEADER, LARGEST_HEADER = 14, 124  # bytes
HEADERS = (12, 40, 52, 56, 108, 124)  # sizes of the header behind it; 12 is of OS/2
UNCOMPRESSED, MASKS, MASKS_WITH_ALPHA = 0, 3, 6  # compressions
MASKS_AT = 54  # position in the file: in the header or behind it


def read(file: TrackedFile, max_pixels: int) -> Image.Image | None:
    """Return a BMP as RGB; None if Pillow reads it correctly, or it is no BMP.

    Raises Unreadable for masks that are not supported.
    """
    if not file.peek(2).startswith(b"BM"):
        return None
    start = file.read(FILE_HEADER + LARGEST_HEADER).ljust(FILE_HEADER + LARGEST_HEADER, b"\0")
    file.seek(0)
    pixels_at, header = struct.unpack_from("<II", start, 10)
    if header not in HEADERS:
        return None
    width, height, _, bits = struct.unpack_from("<HHHH" if header == 12 else "<iiHH", start, 18)
    compression, colours = (0, 0) if header == 12 else struct.unpack_from("<I12xI", start, 30)
    # Pillow takes every palette of black and white for one bit per pixel, and does not read two bits.
    by_palette = bits in (1, 2, 4, 8) and compression == UNCOMPRESSED
    by_masks = bits in (16, 32) and compression in (MASKS, MASKS_WITH_ALPHA)
    if width <= 0 or not (by_palette or by_masks):
        return None
    if width * abs(height) > max_pixels:
        raise too_large(f"{width} × {abs(height)}", max_pixels)
    if by_masks:
        has_alpha = header >= 56 or compression == MASKS_WITH_ALPHA
        masks = struct.unpack_from("<4I" if has_alpha else "<3I", start, MASKS_AT)
        rows = _rows(file, pixels_at, width * bits, height)
        return _by_masks(rows.view(f"<u{bits // 8}")[:, :width], masks) if any(masks[:3]) else None
    entry = 3 if header == 12 else 4
    palette = np.zeros((256, entry), np.uint8)
    count = min(colours or 256, 2**bits)
    file.seek(FILE_HEADER + header)
    stored = np.frombuffer(file.read(entry * count), np.uint8).reshape(-1, entry)
    palette[: len(stored)] = stored
    if pixels_at == FILE_HEADER + header:  # some files leave the palette out of this number
        pixels_at += entry * count
    rows = _rows(file, pixels_at, width * bits, height)
    return Image.fromarray(palette[unpacked_bits(rows, width, bits)][..., 2::-1])


def _rows(file: TrackedFile, position: int, bits: int, height: int) -> NDArray[np.uint8]:
    """Return the bytes of each row, from top to bottom; rows of `bits` bits are padded to four bytes."""
    row_size = (bits + 31) // 32 * 4
    file.seek(position)
    data = file.read(row_size * abs(height))
    if len(data) < row_size * abs(height):
        raise truncated()
    rows = np.frombuffer(data, np.uint8).reshape(-1, row_size)
    return rows if height < 0 else np.ascontiguousarray(rows[::-1])


def _by_masks(pixels: NDArray[np.unsignedinteger], masks: tuple[int, ...]) -> Image.Image:
    """Return an image whose red, green, blue and perhaps alpha are the bits of the masks.

    Alpha that is 0 throughout is ignored, as Windows does.
    """
    channels = []
    for mask in (mask for mask in masks if mask):
        shift = (mask & -mask).bit_length() - 1
        bits = (mask >> shift).bit_length()
        if mask >> shift != 2**bits - 1:
            raise unsupported("BMP (masks with gaps)")
        channels.append(to_16_bits((pixels & mask) >> shift, bits))
    if len(channels) < 3 or 0 in masks[:3]:
        raise unsupported("BMP (no mask for a colour)")
    colours = np.stack(channels[:3], axis=-1)
    if len(channels) == 4 and channels[3].any():
        colours = over_white(colours, channels[3][..., None])
    return from_16_bits(colours)
