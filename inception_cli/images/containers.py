"""What a damaged file's container tells, and Pillow does not; a wrong answer costs a word, not a picture."""

import struct
import zlib
from typing import BinaryIO

from PIL import TiffImagePlugin

TIFF_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # bytes of a field, by type
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
AVIF_HEADER = 65_536  # bytes; its boxes come first, and are short
LARGEST_PLAIN = 256_000_000  # bytes; a larger file gets no second look


def boxes_end_early(file: BinaryIO, size: int) -> bool:
    """Whether an AVIF's boxes go on past the end of the file, and its `meta` does not."""
    position, kinds = 0, [b""]
    while position + 8 <= size:
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length < 8:  # 0: to the end of the file; 1: a length of 64 bits
            return False
        position += length
        if position > size:
            break
        kinds.append(kind)
    return b"meta" in kinds and (position != size or kinds[-1] == b"meta")


def tiff_ends_early(file: BinaryIO, start: bytes, size: int) -> bool:
    """Whether a TIFF's directory, what it points to, or a part of its picture lies past the end of the file."""
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(start[:8])
        file.seek(directory.next)
        count = int.from_bytes(file.read(2), "little" if start[:1] == b"I" else "big")
        entries = file.read(12 * count)
        if len(entries) < max(1, count) * 12:
            return True
        file.seek(directory.next)
        directory.load(file)
        parts = [*zip(directory.get(273, ()), directory.get(279, ()), strict=False)]  # strips: offset, bytes
        parts += zip(directory.get(324, ()), directory.get(325, ()), strict=False)  # tiles
        for kind, length, offset in struct.iter_unpack("<2xHII" if start[:1] == b"I" else ">2xHII", entries):
            width = TIFF_WIDTHS.get(kind, 0) * length
            parts.append((offset, width if width > 4 else -offset))  # up to 4 bytes stand in the entry itself
        return any(offset + length > size for offset, length in parts)
    except Exception:
        return False


def avif_pixels(file: BinaryIO) -> int:
    """How many pixels an AVIF says that it has; its decoder refuses the large ones without a word about that."""
    file.seek(0)
    header = file.read(AVIF_HEADER)
    sizes = [struct.unpack(">II", size) for box in header.split(b"ispe")[1:] if len(size := box[4:12]) == 8]
    return max((width * height for width, height in sizes), default=0)


def plain(file: BinaryIO, size: int) -> bytes | None:
    """The whole of a JPEG, PNG or AVIF, less the metadata that decoders stumble over; None: it would be no other.

    One whose entropy coding is arithmetic is the same whole: its decoder cannot wait for the next block of a file.
    """
    file.seek(0)
    start = file.read(12)
    if size > LARGEST_PLAIN or not (start.startswith((b"\xff\xd8", PNG_SIGNATURE)) or start[4:8] == b"ftyp"):
        return None
    data = start + file.read()
    if start.startswith(b"\xff\xd8"):
        return _plain_jpeg(data)
    if start.startswith(PNG_SIGNATURE):
        return _plain_png(data)
    boxes, mdat, pixels = data.partition(b"mdat")
    return boxes.replace(b"Exif", b"none") + mdat + pixels if b"Exif" in boxes else None


def _plain_jpeg(data: bytes) -> bytes | None:
    """Without ICC profiles and the like (APP2), and application data too short to say anything."""
    kept, position, arithmetic = [data[:2]], 2, False
    while data[position : position + 1] == b"\xff" and position + 4 <= len(data) and data[position + 1] != 0xDA:
        marker = data[position + 1]
        length = 1 if marker == 0xFF else 2 + int.from_bytes(data[position + 2 : position + 4])  # 1: a fill byte
        if marker != 0xE2 and not (0xE0 <= marker <= 0xEF and length < 16):
            kept.append(data[position : position + length])
        arithmetic |= marker in (0xC9, 0xCA)
        position += length
    kept.append(data[position:])
    without = b"".join(kept)
    return without if arithmetic or len(without) < len(data) else None


def _plain_png(data: bytes) -> bytes | None:
    """With what makes the pixels alone, and EXIF data whose checksum is right."""
    kept, position = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while position < len(data):
        length, kind = int.from_bytes(data[position : position + 4]), data[position + 4 : position + 8]
        chunk = data[position : position + 12 + length]
        checked = kind == b"eXIf" and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])
        if kind[:1].isupper() or kind == b"tRNS" or checked:
            kept.append(chunk)
        position += 12 + length
    without = b"".join(kept)
    return without if len(without) < len(data) else None
