"""Find out why a file does not decode: truncated, corrupt, or of a format that is not supported.

All of this is called only after decoding has failed, so a mistake changes the status of a row, never its pixels.
"""

import io
import struct
import zlib
from typing import BinaryIO

from PIL import TiffImagePlugin, UnidentifiedImageError

from inception_cli.errors import one_line
from inception_cli.images import heif
from inception_cli.images.discovery import RAW, UNSUPPORTED_SUFFIXES
from inception_cli.images.failure import Unreadable, printable

UNSUPPORTED_SIGNATURES = {  # first bytes → format, for files with the suffix of another format
    b"8BPS": "Photoshop",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"<svg": "SVG",
    b"FUJIFILM": RAW,
    b"PF\n": "colour PFM",
    b"PF ": "colour PFM",
    b"PF\r": "colour PFM",
    b"P7\n": "PAM",
    b"v/1\x01": "OpenEXR",
    b"#?RGBE": "Radiance HDR",
    b"#?RADIANCE": "Radiance HDR",
    b"II\xbc\x01": "JPEG XR",
    b"DDS ": "DDS",
}
UNSUPPORTED_BMP = ("Unsupported BMP compression", "Unsupported BMP pixel depth")  # errors of Pillow
JPEG_SIGNATURE, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TIFF_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # bytes of a value
STRIPS, TILES = (273, 279), (324, 325)  # TIFF tags: offsets, byte counts
AVIF_HEADER_SIZE = 65_536  # bytes; the boxes of the header come first, and are short
MAX_STRIPPED_SIZE = 256_000_000  # bytes; larger files are not decoded a second time without their metadata


class TrackedFile(io.BufferedReader):
    """An open file that records how far decoding came."""

    header_read = False  # set by the decoder
    read_past_end = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size and size > 0 and not data:
            self.read_past_end = True
        return data

    def size(self) -> int:
        """Return the number of bytes; the position is at the end then."""
        return self.seek(0, io.SEEK_END)


def diagnose(file: TrackedFile, suffix: str, error: Exception, max_pixels: int) -> Unreadable:
    """Return what is wrong with a file for which a decoder raised `error`."""
    file.seek(0)
    start = file.read(64)
    unidentified = isinstance(error, UnidentifiedImageError)
    format_name = _unsupported_format(start) or UNSUPPORTED_SUFFIXES.get(suffix)
    if unidentified and format_name and not (format_name == heif.FORMAT and heif.is_installed()):
        return unsupported(format_name)
    if str(error).startswith(UNSUPPORTED_BMP):
        return unsupported(str(error).removeprefix("Unsupported "))
    if start[4:8] == b"ftyp" and (pixels := _avif_pixels(file)) > max_pixels:
        return too_large(str(pixels), max_pixels)
    if _ends_early(file, start, error):
        return truncated()
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return Unreadable("corrupt", "an HTML page, not an image")
    if unidentified:
        return Unreadable("corrupt", "not an image, or its header is damaged")
    if isinstance(error, OSError) and error.errno is not None:
        return Unreadable("corrupt", "damaged image: it refers to data outside the file")
    return Unreadable("corrupt", f"damaged image: {printable(one_line(error))}")


def unsupported(format_name: str) -> Unreadable:
    """Return the error for a format that is not supported, or not without pillow-heif."""
    remedy = f"{format_name} files are not supported; convert it to JPEG or PNG"
    return Unreadable("unsupported", heif.REMEDY if format_name == heif.FORMAT else remedy)


def truncated() -> Unreadable:
    """Return the error for a file that ends too early."""
    return Unreadable("truncated", "the file ends before the image is complete")


def too_large(size: str, max_pixels: int) -> Unreadable:
    """Return the error for an image of more than `max_pixels`; `size` is a number of pixels, or width × height."""
    return Unreadable("too_large", f"{size} pixels, more than max_pixels ({max_pixels})")


def strip_metadata(file: TrackedFile) -> bytes | None:
    """Return a JPEG, PNG or AVIF without the metadata that decoders fail on; None if that changes nothing."""
    size = file.size()
    file.seek(0)
    start = file.read(12)
    if size > MAX_STRIPPED_SIZE or not (start.startswith((JPEG_SIGNATURE, PNG_SIGNATURE)) or start[4:8] == b"ftyp"):
        return None
    data = start + file.read()
    if start.startswith(JPEG_SIGNATURE):
        return _strip_jpeg(data)
    if start.startswith(PNG_SIGNATURE):
        return _strip_png(data)
    boxes, mdat, pixels = data.partition(b"mdat")
    return boxes.replace(b"Exif", b"none") + mdat + pixels if b"Exif" in boxes else None


def _unsupported_format(start: bytes) -> str | None:
    """Return the name of an unsupported format by the first bytes of a file."""
    if heif.is_heif(start):
        return heif.FORMAT
    return next((name for signature, name in UNSUPPORTED_SIGNATURES.items() if start.startswith(signature)), None)


def _ends_early(file: TrackedFile, start: bytes, error: Exception) -> bool:
    """Return whether the data end after a valid header.

    Most decoders read on demand, so they have read past the end. For those that load the file whole, the sizes and
    offsets in the container are compared with the size of the file.
    """
    size = file.size()
    if start[:4] == b"RIFF" and len(start) >= 30:  # WebP, whose frame header takes 30 bytes
        return 8 + int(struct.unpack("<I", start[4:8])[0]) > size
    if start[4:8] == b"ftyp":  # AVIF
        return _avif_ends_early(file, size)
    if start.startswith((b"II*\0", b"MM\0*")):
        return _tiff_ends_early(file, start, size)
    icon = start.startswith(b"\0\0\1\0") and len(start) >= 22  # which is decoded while its header is read
    if not (file.header_read or icon):
        return False
    jpeg_2000 = start.startswith((b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  "))  # which has JPEG's end marker
    is_jpeg = start.startswith(JPEG_SIGNATURE)  # which is decoded from memory
    # The data of a PNG can end before the file does.
    if (is_jpeg or start.startswith(PNG_SIGNATURE)) and str(error).startswith("image file is truncated"):
        return True
    if jpeg_2000 or (is_jpeg and str(error).startswith("broken data stream")):
        file.seek(-2, io.SEEK_END)
        return file.read(2) != JPEG_END
    return file.read_past_end or str(error) == "not enough image data"


def _avif_ends_early(file: BinaryIO, size: int) -> bool:
    """Return whether the boxes of an AVIF extend past the end of the file, and `meta`, its header, does not."""
    position, kinds = 0, [b""]
    while position + 8 <= size:
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length < 8:  # 0: to the end of the file; 1: a length of 64 bits follows
            return False
        position += length
        if position > size:
            break
        kinds.append(kind)
    return b"meta" in kinds and (position != size or kinds[-1] == b"meta")


def _tiff_ends_early(file: BinaryIO, start: bytes, size: int) -> bool:
    """Return whether a TIFF's directory, a value that it refers to, or a part of the image is past the file's end."""
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(start[:8])
        file.seek(directory.next)
        count = int.from_bytes(file.read(2), "little" if start[:1] == b"I" else "big")
        entries = file.read(12 * count)
        if len(entries) < max(1, count) * 12:
            return True
        file.seek(directory.next)
        directory.load(file)
        parts: list[tuple[int, int]] = []  # offset, bytes
        for offsets, byte_counts in (STRIPS, TILES):
            parts += zip(directory.get(offsets, ()), directory.get(byte_counts, ()), strict=False)
        for kind, count, offset in struct.iter_unpack("<2xHII" if start[:1] == b"I" else ">2xHII", entries):
            length = TIFF_TYPE_SIZES.get(kind, 0) * count
            parts.append((offset, length if length > 4 else -offset))  # up to 4 bytes are in the entry itself
        return any(offset + length > size for offset, length in parts)
    except Exception:
        return False


def _avif_pixels(file: BinaryIO) -> int:
    """Return the largest number of pixels in an AVIF's header: its decoder does not say that an image is too large."""
    file.seek(0)
    header = file.read(AVIF_HEADER_SIZE)
    sizes = [struct.unpack(">II", size) for box in header.split(b"ispe")[1:] if len(size := box[4:12]) == 8]
    return max((width * height for width, height in sizes), default=0)


def _strip_jpeg(data: bytes) -> bytes | None:
    """Remove ICC profiles and the like (APP2), and application segments that are too short to hold anything."""
    kept, position = [data[:2]], 2
    while data[position : position + 1] == b"\xff" and position + 4 <= len(data) and data[position + 1] != 0xDA:
        marker = data[position + 1]
        length = 1 if marker == 0xFF else 2 + int.from_bytes(data[position + 2 : position + 4])  # 1: a fill byte
        if marker != 0xE2 and not (0xE0 <= marker <= 0xEF and length < 16):
            kept.append(data[position : position + length])
        position += length
    kept.append(data[position:])
    stripped = b"".join(kept)
    return stripped if len(stripped) < len(data) else None


def _strip_png(data: bytes) -> bytes | None:
    """Keep the chunks that pixels depend on, and EXIF data whose checksum is right."""
    kept, position = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while position < len(data):
        length, kind = int.from_bytes(data[position : position + 4]), data[position + 4 : position + 8]
        chunk = data[position : position + 12 + length]
        valid_exif = kind == b"eXIf" and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])
        if kind[:1].isupper() or kind == b"tRNS" or valid_exif:
            kept.append(chunk)
        position += 12 + length
    stripped = b"".join(kept)
    return stripped if len(stripped) < len(data) else None
