"""Find the scans of a JPEG by its markers, without decoding them, and zeros that have overwritten their data.

Section numbers are those of the JPEG standard, ITU-T T.81. A JPEG is a list of segments that begin with a marker. The
data of the image are in one scan or several, each after its SOS segment; restart markers may divide the data of a scan
into intervals, which are decoded independently of each other.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from inception_cli.images.corruption import JPEG_END

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


@dataclass(frozen=True)
class Scan:
    """A scan: the tables before it, its SOS segment and its data."""

    tables: bytes
    header: bytes
    data: bytes
    mcus: int  # groups of blocks that are coded together; in a scan of one component a block each
    interval: int  # MCUs between restart markers; 0: there are none
    refines: bool  # it has the next bit of coefficients that have arrived
    long_zero_run: bool  # of bytes in its Huffman codes: damage if the data also hold more than the image's blocks
    overwritten: bool  # by zeros that no image has; always False for a refinement scan

    @property
    def is_dc(self) -> bool:
        """Whether it has the DC coefficients alone."""
        return self.header[-2] == 0


@dataclass
class Jpeg:
    """The parts of a JPEG that its coefficients depend on."""

    frame: int = 0  # its SOF marker
    size: tuple[int, int] = (0, 0)  # width, height
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)  # by component: horizontal and vertical factor
    interval: int = 0  # MCUs between restart markers; 0: there are none
    bits: dict[int, list[int]] = field(default_factory=dict)  # by component: the lowest bit of each coefficient so far
    zero_codes: dict[int, int] = field(default_factory=STANDARD_ZERO_CODES.copy)  # by AC table: symbol of the zero bits
    scans: list[Scan] = field(default_factory=list)
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
        refines = header[-1] >> 4 > 0
        long_zero_run = self.frame not in ARITHMETIC and ZEROS in data.rstrip(b"\0")
        codes = [self.zero_codes.get(table & 15, END_OF_BLOCK) for table in tables_of]
        count = last - max(first, 1) + 1  # coefficients of a block in this scan, without DC
        # Bits of a refinement scan correct coefficients: an image saved again at a higher quality has many zeros there.
        overwritten = long_zero_run and last > 0 and not refines and any(_never_repeats(code, count) for code in codes)
        mcus = self._mcus(components)
        self.scans.append(Scan(tables, header, data, mcus, self.interval, refines, long_zero_run, overwritten))

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


def _never_repeats(code: int, coefficients: int) -> bool:
    """Return whether no whole image has a long run of a symbol, `code`, that is coded as zero bits, as is its value.

    `coefficients` is how many of each block the scan has. The end of a block can repeat: a plain area. So can one or
    two coefficients with the same negative value in each block: stripes or a gradient, in a scan of few coefficients.
    """
    if code & 15 == 0:
        return code == ZERO_RUN  # other symbols are the ends of blocks
    per_block, rest = divmod(coefficients, (code >> 4) + 1)
    return rest > 0 or per_block > 2


def parse(data: bytes) -> Jpeg:
    """Return the scans of a JPEG, up to the one that completes the image or to the end of its valid segments."""
    jpeg, tables = Jpeg(), b""
    for marker, start, end in segments(data):
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


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment, up to the first that is none; other bytes are skipped."""
    position = 2
    while (match := MARKER.search(data, position)) and match.end() < len(data):
        start, marker = match.start(), data[match.end()]
        length = int.from_bytes(data[start + 2 : start + 4]) if marker in SEGMENTS else 0
        position = start + 2 + length
        if position > len(data) or not (length or marker == END):
            return
        yield marker, start, position
