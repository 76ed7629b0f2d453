"""Image files written byte by byte as the specifications define them, so that tests do not depend on Pillow."""

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def packed(rows: Array, bits: int) -> bytes:
    """Return rows of numbers as bits, the highest first; each row begins at a byte."""
    ones = (rows.astype(np.uint32)[..., None] >> np.arange(bits - 1, -1, -1, dtype=np.uint32)) & 1
    return np.packbits(ones.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


# --- TIFF 6.0 (Adobe, 1992).

TIFF_TYPES = {"H": 3, "I": 4}  # struct's letters → numbers of TIFF 6.0, page 15


def tiff(
    samples: Array,  # (height, width, samples of a pixel)
    photometric: int,
    bits: int,
    order: str = "<",
    *,
    compression: int = 1,
    predictor: int = 1,
    planar: int = 1,
    fill_order: int = 1,
    rows_per_strip: int = 1000,
    tile: int = 0,
    tags: dict[int, Sequence[int]] | None = None,
) -> bytes:
    """Return a TIFF; the dtype of the samples says whether they are unsigned, signed or floating point."""
    height, width, count = samples.shape
    planes = [samples] if planar == 1 else [samples[:, :, [index]] for index in range(count)]
    blocks = [block for plane in planes for block in _blocks(plane, rows_per_strip, tile)]
    stored = [_compressed(_encoded(block, bits, order, predictor), compression, fill_order) for block in blocks]
    offsets = [8 + sum(map(len, stored[:index])) for index in range(len(stored))]
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    fields: dict[int, Sequence[int]] = {256: [width], 257: [height], 258: [bits] * count, 259: [compression]}
    fields |= {262: [photometric], 266: [fill_order], 277: [count], 284: [planar], 339: [kind] * count}
    if tile:
        fields |= {322: [tile], 323: [tile], 324: offsets, 325: [len(data) for data in stored]}
    else:
        fields |= {273: offsets, 278: [rows_per_strip], 279: [len(data) for data in stored]}
    fields |= {317: [predictor] if predictor > 1 else [], **(tags or {})}
    present = {tag: values for tag, values in fields.items() if values}
    return _directory(present, order, b"".join(stored))


def _blocks(plane: Array, rows_per_strip: int, tile: int) -> Iterable[Array]:
    """Return the strips, or the tiles filled up with zeros, of an image or of one of its planes."""
    height, width, count = plane.shape
    if not tile:
        return [plane[top : top + rows_per_strip] for top in range(0, height, rows_per_strip)]
    filled = np.zeros((height + tile, width + tile, count), plane.dtype)
    filled[:height, :width] = plane
    return [
        filled[y : y + tile, x : x + tile] for y in range(0, height, tile) for x in range(0, width, tile)
    ]  # fmt: skip


def _encoded(block: Array, bits: int, order: str, predictor: int) -> bytes:
    """Return the bytes of a strip or tile before compression."""
    rows = block.reshape(len(block), -1)
    if predictor == 2:  # page 64: each sample is stored as its difference to the one before
        unsigned = np.ascontiguousarray(block).view(f"u{bits // 8}")
        differences = np.diff(unsigned, axis=1, prepend=np.zeros_like(unsigned[:, :1]))  # they wrap around
        return differences.astype(f"{order}u{bits // 8}").tobytes()
    if predictor == 3:  # Adobe's Technical Note 3: the bytes of a row by significance, then their differences
        size, count = bits // 8, block.shape[2]
        by_significance = rows.astype(f">f{size}").view(np.uint8).reshape(len(rows), -1, size).transpose(0, 2, 1)
        whole = by_significance.reshape(len(rows), -1, count)
        return np.diff(whole, axis=1, prepend=np.zeros_like(whole[:, :1])).tobytes()
    if bits in (8, 16, 32, 64):
        return rows.astype(f"{order}{rows.dtype.kind}{bits // 8}").tobytes()
    return packed(rows, bits)


#: Each byte with its bits in reverse order.
REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _compressed(data: bytes, compression: int, fill_order: int) -> bytes:
    if compression == 5:  # LZW: codes of 9 bits, and the table cleared before they would need 10
        codes = [code for start in range(0, len(data), 200) for code in (256, *data[start : start + 200])]
        data = packed(np.array([[*codes, 257]]), 9)
    elif compression in (8, 32946):
        data = zlib.compress(data)
    elif compression == 32773:  # PackBits
        data = b"".join(bytes([len(data[i : i + 128]) - 1]) + data[i : i + 128] for i in range(0, len(data), 128))
    return data.translate(REVERSED_BITS) if fill_order == 2 else data


def _directory(fields: dict[int, Sequence[int]], order: str, data: bytes) -> bytes:
    """Return the header, the data and the directory, whose entries are in ascending order."""
    position = 8 + len(data)
    values_at = position + 2 + 12 * len(fields) + 4
    entries = values = b""
    for tag, numbers in sorted(fields.items()):
        letter = "I" if tag in (256, 257, 273, 278, 279, 324, 325) else "H"
        value = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        entries += struct.pack(f"{order}HHI", tag, TIFF_TYPES[letter], len(numbers))
        if len(value) <= 4:
            entries += value.ljust(4, b"\0")
        else:
            entries += struct.pack(f"{order}I", values_at + len(values))
            values += value
    header = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, position)
    return header + data + struct.pack(f"{order}H", len(fields)) + entries + bytes(4) + values


# --- PNG, third edition (W3C, 2025).

ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))  # 8.1


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    samples: Array,  # (height, width, samples of a pixel)
    colour_type: int,
    bits: int,
    *,
    interlaced: bool = False,
    palette: Array | None = None,
    transparency: bytes = b"",
    before: bytes = b"",  # chunks between the header and the palette
    behind: bytes = b"",  # chunks between the pixels and the end
) -> bytes:
    """Return a PNG whose rows are not filtered."""
    height, width, _ = samples.shape
    passes = [samples[y::dy, x::dx] for y, x, dy, dx in ADAM7] if interlaced else [samples]
    rows = (row for image in passes if image.size for row in image.reshape(len(image), 1, -1))
    data = b"".join(b"\0" + (row.astype(">u2").tobytes() if bits == 16 else packed(row, bits)) for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlaced)
    chunks = chunk(b"IHDR", header) + before
    chunks += chunk(b"PLTE", palette.astype(np.uint8).tobytes()) if palette is not None else b""
    chunks += chunk(b"tRNS", transparency) if transparency else b""
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IDAT", zlib.compress(data)) + behind + chunk(b"IEND", b"")


# --- BMP (Microsoft, BITMAPINFOHEADER to BITMAPV5HEADER).


def bmp(
    pixels: Array,  # (height, width), numbers of `bits` bits
    bits: int,
    *,
    palette: Array | None = None,  # (colours, 3)
    masks: Sequence[int] = (),
    header: int = 40,
    compression: int = 0,
    downwards: bool = False,
) -> bytes:
    """Return a BMP; without masks 16 bits are 5-5-5, and 24 and 32 bits are blue, green, red."""
    height, width = pixels.shape
    colours = 0 if palette is None else len(palette)
    mask_bytes = struct.pack(f"<{len(masks)}I", *masks)
    entries = b"" if palette is None else np.pad(palette[:, ::-1], ((0, 0), (0, 1))).astype(np.uint8).tobytes()
    rows = pixels if downwards else pixels[::-1]
    if bits < 8:
        row_bytes = [packed(row[None], bits) for row in rows]
    else:
        row_bytes = [b"".join(int(pixel).to_bytes(bits // 8, "little") for pixel in row) for row in rows]
    data = b"".join(row + bytes(-len(row) % 4) for row in row_bytes)
    info = struct.pack("<IiiHHI", header, width, -height if downwards else height, 1, bits, compression)
    info += struct.pack("<IiiII", len(data), 2835, 2835, colours, 0)
    info = (info + mask_bytes).ljust(header, b"\0") + entries
    return struct.pack("<2sIHHI", b"BM", 14 + len(info) + len(data), 0, 0, 14 + len(info)) + info + data


# --- TGA (Truevision, version 2.0).


def tga(
    pixels: Array,  # (height, width), numbers of `bits` bits
    bits: int,
    attribute_bits: int,
    attributes_type: int | None = None,
) -> bytes:
    """Return an uncompressed TGA of true colours, from top to bottom; with an extension area if it has such a type."""
    height, width = pixels.shape
    data = b"".join(int(pixel).to_bytes(bits // 8, "little") for pixel in pixels.ravel())
    file = struct.pack("<BBB5xHHHHBB", 0, 0, 2, 0, 0, width, height, bits, 0x20 | attribute_bits) + data
    if attributes_type is None:
        return file
    extension = struct.pack("<H492xB", 495, attributes_type)
    return file + extension + struct.pack("<II", len(file), 0) + b"TRUEVISION-XFILE.\0"


# --- GIF (CompuServe, 89a).


def gif(
    pixels: Array,  # (height, width), indices of the palette
    palette: Array,  # (2, 4 … 256 colours, 3)
    screen: tuple[int, int],
    corner: tuple[int, int] = (0, 0),
    transparent: int | None = None,
    background: int = 0,
) -> bytes:
    """Return a GIF of one frame, whose upper left corner is at (x, y) of the screen (width, height)."""
    height, width = pixels.shape
    depth = (len(palette) - 1).bit_length()
    header = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80 | (depth - 1), background, 0)
    control = b"" if transparent is None else struct.pack("<BBBBHBB", 0x21, 0xF9, 4, 1, 0, transparent, 0)
    size = max(2, depth)
    codes = []  # LZW of size + 1 bits: the table is cleared before each pair of pixels, so that it never grows
    flat = pixels.ravel().tolist()
    for start in range(0, len(flat), 2):
        codes += [1 << size, *flat[start : start + 2]]
    bits = "".join(f"{code:0{size + 1}b}"[::-1] for code in [*codes, (1 << size) + 1])
    data = bytes(int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8))
    blocks = b"".join(bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255))
    frame = struct.pack("<BHHHHB", 0x2C, *corner, width, height, 0)
    return header + palette.astype(np.uint8).tobytes() + control + frame + bytes([size]) + blocks + b"\0;"
