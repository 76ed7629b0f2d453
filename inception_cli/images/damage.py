"""What a file that failed to decode tells of itself: whether its data ended early.

Asked of files that failed, so a wrong answer costs a word, not a picture.
"""

import io
import struct

from inception_cli.images.containers import boxes_end_early, tiff_ends_early


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
    length = size(file)
    if start[:4] == b"RIFF" and len(start) >= 30:  # WebP: its frame header takes 30 bytes
        return 8 + int(struct.unpack("<I", start[4:8])[0]) > length
    if start[4:8] == b"ftyp":  # AVIF: the header is the box `meta`
        return boxes_end_early(file, length)
    if start.startswith((b"II*\0", b"MM\0*")):
        return tiff_ends_early(file, start, length)
    icon = start.startswith(b"\0\0\1\0") and len(start) >= 22  # is decoded with its header
    if not (file.header_read or icon):
        return False
    ends_marked = start.startswith((b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  "))  # JPEG 2000
    if ends_marked or (start.startswith(b"\xff\xd8") and str(error).startswith("broken data stream")):
        file.seek(-2, io.SEEK_END)
        return file.read(2) != b"\xff\xd9"
    return file.ran_out or str(error) == "not enough image data"


def size(file: File) -> int:
    """Bytes of the file, which is at its end then."""
    return file.seek(0, io.SEEK_END)
