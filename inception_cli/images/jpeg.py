"""Decode JPEGs, and tell damaged ones from whole ones by the warnings of libjpeg, which Pillow discards.

Section numbers are those of the JPEG standard, ITU-T T.81.
"""

import io
import re
import threading
from collections.abc import Iterator

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from inception_cli.images.corruption import JPEG_END, JPEG_SIGNATURE, MAX_STRIPPED_SIZE, TrackedFile, truncated
from inception_cli.images.failure import PILLOW_DECODES_IT, Failure, Unreadable, printable
from inception_cli.images.jpeg_scans import (
    ARITHMETIC,
    END,
    MISSING,
    PROGRESSIVE,
    RESTART,
    RESTARTS,
    SEQUENTIAL,
    SOS,
    ZEROS,
    Jpeg,
    Scan,
    parse,
    segments,
)

# Warnings of libjpeg (jerror.h). Others are harmless: extraneous bytes before a marker, odd Adobe and JFIF markers.
DATA_MISSING = re.compile(r"premature end of data segment|found marker 0x(?!d[0-7])\w+ instead of RST")
OVERWRITTEN = "a part of the data was overwritten with zeros"  # not a warning of libjpeg
DATA_DAMAGED = re.compile(rf"bad Huffman code|bad arithmetic code|found marker 0xd[0-7] instead of RST|{OVERWRITTEN}")
EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
INCONSISTENT_PROGRESSION = "Inconsistent progression sequence"
#: By Pillow's mode: simplejpeg's name of the colours, Pillow's name of these bytes, bytes a pixel. Pillow stores RGB in
#: four bytes as well, so that it only copies them.
COLOURS = {"L": ("GRAY", "L", 1), "RGB": ("RGBX", "RGBX", 4)}

MAX_BYTES = MAX_STRIPPED_SIZE  # of a JPEG that is held in memory; damage to larger ones is not noticed
MAX_PIXELS = 26_000_000  # of a JPEG that simplejpeg decodes: its array takes 4 bytes a pixel beside Pillow's image
MAX_SCANS = 64  # that are decoded one by one; encoders write up to twelve
MAX_INTERVALS = 50_000  # that are decoded one by one, in two or three seconds
MAX_ATTEMPTS = 3  # to remove the extraneous bytes of a scan; libjpeg counts a few too few
MAX_ADDED = 16  # bytes behind a DC scan with a long run of zeros that are no sign of damage
MAX_SIDE = 65_500  # pixels: libjpeg's limit


def read_bytes(file: TrackedFile) -> bytes | None:
    """Return the bytes of a JPEG; None for a file of another format or of more than MAX_BYTES."""
    if file.peek(2)[:2] != JPEG_SIGNATURE or file.size() > MAX_BYTES:
        file.seek(0)
        return None
    file.seek(0)
    return file.read()


def load(image: JpegImageFile, data: bytes, scaled: bool) -> Image.Image:
    """Return the pixels of a JPEG that Pillow has opened, in its own mode; `scaled`: at the scale of its draft.

    Raises Unreadable if the data are damaged. simplejpeg decodes ordinary JPEGs, to the pixels of Pillow; others are
    decoded by Pillow after a check.
    """
    try:
        if image.mode in COLOURS and image.width * image.height <= MAX_PIXELS:
            decoded = _decode(data, image, scaled)
            if decoded:
                return decoded
        whole = _check(data)
    except Unreadable as unreadable:
        raise _with_pillows_result(unreadable.failure, image) from None
    image.fp, image.decodermaxblock = io.BytesIO(whole), len(whole)  # one block: arithmetic coding needs that
    image.load()
    return image


def seems_whole(data: bytes) -> bool:
    """Return whether a JPEG is one whole scan and an end marker, as far as its markers tell; nothing is decoded."""
    jpeg = parse(data)
    whole = len(jpeg.scans) == 1 and jpeg.complete and data[jpeg.end :] == JPEG_END and _contiguous_header(data)
    return whole and not jpeg.scans[0].overwritten and not _restart_damage(jpeg.scans[0])


def _decode(data: bytes, image: JpegImageFile, scaled: bool) -> Image.Image | None:
    """Return the image, or None if libjpeg reports something that may be harmless; raise Unreadable for damage."""
    width, height = image.size
    colours, raw_mode, bytes_per_pixel = COLOURS[image.mode]
    smallest = {"min_width": width, "min_height": height} if scaled else {}
    memory = _memory.at_least(width * height * bytes_per_pixel)
    try:
        pixels = simplejpeg.decode_jpeg(data, colours, **smallest, buffer=memory)
    except ValueError as error:
        _raise_if_damaged(str(error))
        return None
    if _may_hide_damage(data, image.layers):
        _raise_if_incomplete(parse(data), suspicious=False)
    if pixels.shape[1::-1] != image.size:
        return None
    decoded = Image.new(image.mode, image.size, None)
    decoded.frombytes(pixels, "raw", raw_mode)
    return decoded


class _Memory(threading.local):
    """Memory for the pixels of one JPEG, kept by each thread: new memory each time takes a tenth of the time."""

    kept = np.empty(0, np.uint8)

    def at_least(self, size: int) -> NDArray[np.uint8]:
        """Return this memory, of at least so many bytes."""
        if size > len(self.kept):
            self.kept = np.empty(size, np.uint8)
        return self.kept


_memory = _Memory()


def _check(data: bytes) -> bytes:
    """Return a JPEG up to the end of its image, with an end marker; raise Unreadable if it is damaged.

    What libjpeg cannot decode is returned as it is.
    """
    jpeg = parse(data)
    if jpeg.frame not in SEQUENTIAL + PROGRESSIVE or not jpeg.scans:
        return data
    message = _warning(JPEG_SIGNATURE + b"".join(scan.tables + scan.header + scan.data for scan in jpeg.scans))
    suspicious = "extraneous bytes" in message or INCONSISTENT_PROGRESSION in message
    if suspicious:
        message = _later_warning(jpeg)
    if DATA_MISSING.search(message) and not jpeg.ended:
        raise truncated()
    _raise_if_damaged(message)
    if message:  # an error, not a warning
        return data
    _raise_if_incomplete(jpeg, suspicious)
    return data[: jpeg.end] + JPEG_END


def _with_pillows_result(failure: Failure, image: JpegImageFile) -> Unreadable:
    """Return the failure as an exception; its error says so if Pillow decodes the image."""
    try:
        image.load()
    except Exception:
        return Unreadable(failure.status, failure.error)
    return Unreadable(failure.status, f"{failure.error} ({PILLOW_DECODES_IT})")


def _contiguous_header(data: bytes) -> bool:
    """Return whether the segments up to the first scan follow each other without bytes in between."""
    end = len(JPEG_SIGNATURE)
    for marker, start, stop in segments(data):
        if start != end or marker == SOS:
            return start == end
        end = stop
    return False


def _may_hide_damage(data: bytes, components: int) -> bool:
    """Return whether a JPEG without a warning may be damaged: a long run of zeros, or a component without a scan."""
    if ZEROS not in data and bytes((0xFF, SOS, 0, 6 + 2 * components, components)) in data:
        return False
    for marker, start, end in segments(data):
        if marker == SOS:
            return data[start + 4] != components or data.find(ZEROS, end) >= 0
    return True


def _warning(jpeg: bytes) -> str:
    """Return the first warning or the error of libjpeg for a JPEG without its end marker; "" if there is none.

    It is decoded in grey at 1/8 of its size, which takes the least time.
    """
    try:
        simplejpeg.decode_jpeg(jpeg + JPEG_END, "GRAY", min_width=1, min_height=1)
    except ValueError as error:
        return str(error)
    return ""


def _later_warning(jpeg: Jpeg) -> str:
    """Return the first warning of damage, or "": libjpeg reports only its first warning, which was harmless.

    So the scans are decoded one after the other, without what caused the harmless warnings.
    """
    restart_damage = next(filter(None, map(_restart_damage, jpeg.scans)), "")
    if restart_damage:
        return restart_damage
    if jpeg.scans[0].interval and jpeg.frame in SEQUENTIAL and len(jpeg.scans) == 1:
        warnings = (_warning_and_data(before, data)[0] for before, data in _intervals(jpeg))
        return next(filter(_is_damage, warnings), "")
    kept = JPEG_SIGNATURE
    for scan in jpeg.scans[:MAX_SCANS]:
        kept += scan.tables
        message, data = _warning_and_data(kept + scan.header, scan.data)
        if _is_damage(message):
            return message
        surplus = scan.data[len(data) :].strip(b"\0")  # data after the last block, and not only padding
        # Behind the last refinement scan another program may have added bytes.
        may_be_whole = scan.refines and scan is jpeg.scans[-1]
        most = MAX_ADDED if scan.is_dc else 0  # the DC coefficients of a plain area are zeros, too
        if len(surplus) > most and scan.long_zero_run and jpeg.frame in PROGRESSIVE and not may_be_whole:
            return OVERWRITTEN
        if INCONSISTENT_PROGRESSION not in message:
            kept += scan.header + data
    return ""


def _warning_and_data(before: bytes, data: bytes) -> tuple[str, bytes]:
    """Return the first warning for a JPEG whose last data are `data`, and these data without extraneous bytes."""
    message = _warning(before + data)
    for _ in range(MAX_ATTEMPTS):
        match = EXTRANEOUS.search(message)
        if not match:
            break
        data = data[: -int(match[1])]
        content = data.rstrip(b"\0")
        if len(data) - len(content) >= len(ZEROS):  # they may take the place of lost data
            data = content + bytes(2)
        message = _warning(before + data)
    return message, data


def _intervals(jpeg: Jpeg) -> Iterator[tuple[bytes, bytes]]:
    """Yield header and data of each restart interval of a scan, as a JPEG that is one MCU high."""
    (scan,) = jpeg.scans
    horizontal, vertical = (8 * factor if len(jpeg.sampling) > 1 else 8 for factor in jpeg.largest_sampling())
    before, frame, after = scan.tables.partition(bytes((0xFF, jpeg.frame, 0, 8 + 3 * len(jpeg.sampling), 8)))
    left = scan.mcus
    for data in RESTART.split(scan.data)[: 2 * MAX_INTERVALS : 2]:
        width = horizontal * min(left, scan.interval)
        if not 0 < width <= MAX_SIDE:
            return
        size = vertical.to_bytes(2) + width.to_bytes(2)
        yield JPEG_SIGNATURE + before + frame + size + after[4:] + scan.header, data
        left -= scan.interval


def _restart_damage(scan: Scan) -> str:
    """Return libjpeg's warning if a restart marker of a scan is missing or not the next one; else ""."""
    if not scan.interval:
        return ""
    restarts = RESTART.findall(scan.data)
    for number in range((scan.mcus - 1) // scan.interval):
        marker = restarts[number][0] if number < len(restarts) else END
        if marker != RESTARTS[number % 8]:
            return f"Corrupt JPEG data: found marker 0x{marker:02x} instead of RST{number % 8}"
    return ""


def _is_damage(message: str) -> bool:
    return bool(DATA_MISSING.search(message) or DATA_DAMAGED.search(message))


def _raise_if_damaged(message: str) -> None:
    """Raise Unreadable if this is one of libjpeg's warnings of damage."""
    if DATA_MISSING.search(message):
        raise Unreadable("truncated", "a part of the image data is missing")
    if DATA_DAMAGED.search(message):
        raise Unreadable("corrupt", f"damaged image: {printable(message)}")


def _raise_if_incomplete(jpeg: Jpeg, suspicious: bool) -> None:
    """Raise Unreadable if data are missing or overwritten of which libjpeg does not warn.

    A JPEG without an end marker, or with a warning, is whole if all coefficients have arrived at full precision. Other
    JPEGs are whole if each component has a scan: "the spec does not require that all bits of all coefficients be
    transmitted" (libjpeg's jcmaster.c on section G.1.1.1). An arithmetic decoder reads zeros after the end of the data
    (section D.2.6), so it cannot tell whether some are missing: such a JPEG needs its end marker.
    """
    if any(scan.overwritten for scan in jpeg.scans):
        _raise_if_damaged(OVERWRITTEN)
    whole = MISSING not in (bits[0] for bits in jpeg.bits.values())
    if suspicious or not jpeg.ended:
        whole = jpeg.complete and (jpeg.ended or jpeg.frame not in ARITHMETIC)
    if not whole:
        raise truncated()
