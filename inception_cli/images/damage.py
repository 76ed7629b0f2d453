"""What a file that failed to decode tells of itself: whether its data ended early.

Asked of files that failed, so a wrong answer costs a word, not a picture.
"""

import io
import os
import struct

from PIL import TiffImagePlugin

TIFF_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # bytes of a field, by type


class File(io.BufferedReader):
    """An open file that remembers how far it was good."""

    header_read = False
    ran_out = False  # whether more was asked for than there is

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size and size > 0 and not data:
            self.ran_out = True
        return data


def ends_early(file: File, start: bytes, error: Exception) -> bool:
    """Whether the data ended after a valid header.

    Decoders that pull their data ran past its end. Those that take a file whole are asked what its container promised.
    """
    size = os.fstat(file.fileno()).st_size
    if start[:4] == b"RIFF" and len(start) >= 30:  # WebP: its frame header takes 30 bytes
        return 8 + int(struct.unpack("<I", start[4:8])[0]) > size
    if start[4:8] == b"ftyp":  # AVIF: the header is the box `meta`
        return _boxes_end_early(file, size)
    if start.startswith((b"II*\0", b"MM\0*")):
        return _tiff_ends_early(file, start, size)
    icon = start.startswith(b"\0\0\1\0") and len(start) >= 22  # is decoded with its header
    if not (file.header_read or icon):
        return False
    if start.startswith((b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")):  # JPEG 2000 ends with an EOC marker
        file.seek(-2, io.SEEK_END)
        return file.read(2) != b"\xff\xd9"
    return file.ran_out or str(error) == "not enough image data"


def _boxes_end_early(file: File, size: int) -> bool:
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


def _tiff_ends_early(file: File, start: bytes, size: int) -> bool:
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
