"""Decode JPEGs, and tell damaged ones from whole ones by the warnings of libjpeg, which Pillow discards.

Section numbers are those of the JPEG standard, ITU-T T.81. A JPEG is a list of segments that begin with a marker. The
data of the image are in one scan or several, each after its SOS segment; restart markers may divide the data of a scan
into intervals, which are decoded independently of each other.
"""

import io
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from inception_cli.images.corruption import JPEG_END, JPEG_SIGNATURE, MAX_STRIPPED_SIZE, TrackedFile, truncated
from inception_cli.images.failure import PILLOW_DECODES_IT, Failure, Unreadable, printable

# Warnings of libjpeg (jerror.h). Others are harmless: extraneous bytes before a marker, odd Adobe and JFIF markers.
DATA_MISSING = re.compile(r"premature end of data segment|found marker 0x(?!d[0-7])\w+ instead of RST")
OVERWRITTEN = "a part of the data was overwritten with zeros"  # not a warning of libjpeg
DATA_DAMAGED = re.compile(rf"bad Huffman code|bad arithmetic code|found marker 0xd[0-7] instead of RST|{OVERWRITTEN}")
EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
INCONSISTENT_PROGRESSION = "Inconsistent progression sequence"
#: By Pillow's mode: simplejpeg's name of the colours, Pillow's name of these bytes, bytes a pixel. Pillow stores RGB in
#: four bytes as well, so that it only copies them.
COLOURS = {"L": ("GRAY", "L", 1), "RGB": ("RGBX", "RGBX", 4)}

# Markers: section B.1.1.3.
DHT, SOS, DRI, COM, END = 0xC4, 0xDA, 0xDD, 0xFE, JPEG_END[1]
RESTARTS, APPLICATION = range(0xD0, 0xD8), range(0xE0, 0xF0)
FRAMES = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, 0xCC}
SEQUENTIAL, PROGRESSIVE, ARITHMETIC = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA), (0xC9, 0xCA)
SEGMENTS = FRAMES | {DHT, 0xCC, *range(SOS, 0xE0), *APPLICATION, COM}  # markers that a length follows
MARKER = re.compile(rb"\xff(?![\x00\xff\xd0-\xd7])")  # not a restart marker; FF00 is a byte FF of a scan's data
RESTART = re.compile(rb"\xff([\xd0-\xd7])")

COEFFICIENTS = 64  # of a block of 8 × 8 pixels
MISSING = 255  # the lowest bit of a coefficient that has not arrived
END_OF_BLOCK, ZERO_RUN = 0x00, 0xF0  # symbols of AC tables that code no coefficient
STANDARD_ZERO_CODES = {0: 0x01, 1: END_OF_BLOCK}  # of the AC tables of section K.3.3, used where a JPEG has none
ZEROS = bytes(64)  # longer than two blocks of the standard tables whose coefficients are all coded as zero bits
MAX_BYTES = MAX_STRIPPED_SIZE  # of a JPEG that is held in memory; damage to larger ones is not noticed
MAX_PIXELS = 26_000_000  # of a JPEG that simplejpeg decodes: its array takes 4 bytes a pixel beside Pillow's image
MAX_SCANS = 64  # that are decoded one by one; encoders write up to twelve
MAX_INTERVALS = 50_000  # that are decoded one by one, in two or three seconds
MAX_ATTEMPTS = 3  # to remove the extraneous bytes of a scan; libjpeg counts a few too few
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
    jpeg = _parse(data)
    whole = len(jpeg.scans) == 1 and jpeg.complete and data[jpeg.end :] == JPEG_END and _contiguous_header(data)
    return whole and not jpeg.scans[0].zeroed and not _restart_damage(jpeg.scans[0])


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
        _raise_if_incomplete(_parse(data), suspicious=False)
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
    jpeg = _parse(data)
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


@dataclass(frozen=True)
class _Scan:
    """A scan: the tables before it, its SOS segment and its data."""

    tables: bytes
    header: bytes
    data: bytes
    mcus: int  # groups of blocks that are coded together; in a scan of one component a block each
    interval: int  # MCUs between restart markers; 0: there are none
    has_zeros: bool  # a long run of them in the data of a scan that has more than the DC coefficients
    zeroed: bool  # they code coefficients, so they are not of the image: data were overwritten


@dataclass
class _Jpeg:
    """The parts of a JPEG that its coefficients depend on."""

    frame: int = 0  # its SOF marker
    size: tuple[int, int] = (0, 0)  # width, height
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)  # by component: horizontal and vertical factor
    interval: int = 0  # MCUs between restart markers; 0: there are none
    bits: dict[int, list[int]] = field(default_factory=dict)  # by component: the lowest bit of each coefficient so far
    zero_codes: dict[int, int] = field(default_factory=STANDARD_ZERO_CODES.copy)  # by AC table: symbol of the zero bits
    scans: list[_Scan] = field(default_factory=list)
    end: int = 0  # where the data of the last scan end
    ended: bool = False  # by an end marker

    @property
    def complete(self) -> bool:
        """Whether all coefficients have arrived at full precision."""
        return bool(self.bits) and not any(map(any, self.bits.values()))

    def add_frame(self, marker: int, segment: bytes) -> None:
        self.frame = marker
        self.size = int.from_bytes(segment[7:9]), int.from_bytes(segment[5:7])
        self.bits = {component: [MISSING] * COEFFICIENTS for component in segment[10::3]}
        factors = ((byte >> 4 or 1, byte & 15 or 1) for byte in segment[11::3])
        self.sampling = dict(zip(segment[10::3], factors, strict=False))

    def add_huffman_tables(self, segment: bytes) -> None:
        position = 4
        while position + 17 < len(segment):
            table, symbols = segment[position], segment[position + 17 :]
            if table & 0x10:
                self.zero_codes[table & 15] = symbols[0]
            position += 17 + sum(segment[position + 1 : position + 17])

    def add_scan(self, tables: bytes, header: bytes, data: bytes) -> None:
        components, tables_of = header[5:-3:2], header[6:-3:2]
        if self.frame in SEQUENTIAL:
            header = header[:-3] + bytes((0, COEFFICIENTS - 1, 0))  # libjpeg warns of other values, and ignores them
        first, last, low = header[-3], header[-2], header[-1] & 15
        for component in self.bits.keys() & {*components}:
            self.bits[component][first : last + 1] = [low] * (last + 1 - first)
        has_zeros = last > 0 and self.frame not in ARITHMETIC and ZEROS in data.rstrip(b"\0")
        codes = [self.zero_codes.get(table & 15, END_OF_BLOCK) for table in tables_of]
        # Where zero bits code the end of a block, they are a plain area. Where they code a coefficient, so many zeros
        # are whole blocks of the same coefficients, which no image has.
        zeroed = has_zeros and any(code & 15 or code == ZERO_RUN for code in codes)
        self.scans.append(_Scan(tables, header, data, self._mcus(components), self.interval, has_zeros, zeroed))

    def largest_sampling(self) -> tuple[int, int]:
        """Return the largest horizontal and vertical sampling factor."""
        return max(h for h, _ in self.sampling.values()), max(v for _, v in self.sampling.values())

    def _mcus(self, components: bytes) -> int:
        """Return the number of MCUs of a scan of these components (sections A.1.1 and A.2)."""
        if not components or not self.sampling.keys() >= {*components}:
            return 0
        factors = self.sampling[components[0]] if len(components) == 1 else (1, 1)
        sides = zip(self.size, factors, self.largest_sampling(), strict=True)
        across, down = (-(-side * factor // (8 * largest)) for side, factor, largest in sides)
        return across * down


def _parse(data: bytes) -> _Jpeg:
    """Return the scans of a JPEG, up to the one that completes the image or to the end of its valid segments."""
    jpeg, tables = _Jpeg(), b""
    for marker, start, end in _segments(data):
        segment = data[start:end]
        if marker == END:
            jpeg.ended = True
            break
        if marker in FRAMES:
            if jpeg.frame:
                break
            jpeg.add_frame(marker, segment)
        elif marker == DHT:
            jpeg.add_huffman_tables(segment)
        elif marker == DRI:
            jpeg.interval = int.from_bytes(segment[4:6])
        elif marker == SOS:
            if len(segment) < 8 or len(segment) != 8 + 2 * segment[4]:
                break
            match = MARKER.search(data, end)
            jpeg.end = match.start() if match else len(data)
            jpeg.add_scan(tables, segment, data[end : jpeg.end])
            tables = b""
            if jpeg.complete:
                jpeg.ended = data[jpeg.end : jpeg.end + 2] == JPEG_END
                break
            continue
        if marker not in APPLICATION and marker != COM:
            tables += segment
    return jpeg


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment, up to the first that is none; other bytes are skipped."""
    position = 2
    while (match := MARKER.search(data, position)) and match.end() < len(data):
        start, marker = match.start(), data[match.end()]
        length = int.from_bytes(data[start + 2 : start + 4]) if marker in SEGMENTS else 0
        position = start + 2 + length
        if position > len(data) or not (length or marker == END):
            return
        yield marker, start, position


def _contiguous_header(data: bytes) -> bool:
    """Return whether the segments up to the first scan follow each other without bytes in between."""
    end = len(JPEG_SIGNATURE)
    for marker, start, stop in _segments(data):
        if start != end or marker == SOS:
            return start == end
        end = stop
    return False


def _may_hide_damage(data: bytes, components: int) -> bool:
    """Return whether a JPEG without a warning may be damaged: a long run of zeros, or a component without a scan."""
    if ZEROS not in data and bytes((0xFF, SOS, 0, 6 + 2 * components, components)) in data:
        return False
    for marker, start, end in _segments(data):
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


def _later_warning(jpeg: _Jpeg) -> str:
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
        # Encoders write a plain area of a progressive scan as one number of blocks, not as a run of zeros.
        if len(data) < len(scan.data) and scan.has_zeros and jpeg.frame in PROGRESSIVE:
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


def _intervals(jpeg: _Jpeg) -> Iterator[tuple[bytes, bytes]]:
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


def _restart_damage(scan: _Scan) -> str:
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


def _raise_if_incomplete(jpeg: _Jpeg, suspicious: bool) -> None:
    """Raise Unreadable if data are missing or overwritten of which libjpeg does not warn.

    A JPEG without an end marker, or with a warning, is whole if all coefficients have arrived at full precision. Other
    JPEGs are whole if each component has a scan: "the spec does not require that all bits of all coefficients be
    transmitted" (libjpeg's jcmaster.c on section G.1.1.1). An arithmetic decoder reads zeros after the end of the data
    (section D.2.6), so it cannot tell whether some are missing: such a JPEG needs its end marker.
    """
    if any(scan.zeroed for scan in jpeg.scans):
        _raise_if_damaged(OVERWRITTEN)
    whole = MISSING not in (bits[0] for bits in jpeg.bits.values())
    if suspicious or not jpeg.ended:
        whole = jpeg.complete and (jpeg.ended or jpeg.frame not in ARITHMETIC)
    if not whole:
        raise truncated()
