"""Read the TIFFs that Pillow misreads or does not read, by their tags, as TIFF 6.0 (Adobe, 1992) defines them.

Pillow chooses a mode by the tags and leaves the rest undone: it does not scale 12-bit samples or invert 16-bit ones
whose zero is white, it misreads separate planes and compressed big-endian samples, and it takes colour maps of 8-bit
values for black. `_pillow_reads` says what it reads correctly.
"""

import io
import math
import struct
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from PIL.TiffImagePlugin import PREFIXES, ImageFileDirectory_v2

from inception_cli.files.streams import stderr_muted
from inception_cli.images.colour import WHITE, from_16_bits, over_white, to_16_bits, unpacked_bits
from inception_cli.images.corruption import STRIPS, TILES, TrackedFile, too_large, truncated, unsupported

BIG_ENDIAN_BIG_TIFF = b"MM\0\x2b"
# Tags.
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
SAMPLES, ROWS_PER_STRIP, PLANAR, PREDICTOR, COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT = 277, 278, 284, 317, 320, 322, 323
INK_SET, DOT_RANGE, EXTRA_SAMPLES, SAMPLE_FORMAT = 332, 336, 338, 339
YCBCR_COEFFICIENTS, YCBCR_SUBSAMPLING, REFERENCE_BLACK_WHITE = 529, 530, 532
# Values of PHOTOMETRIC, and how many samples of a pixel are its colour.
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
OTHER_COLOURS = {4: "transparency mask", 8: "LAB", 9: "LAB", 10: "LAB", 32803: "sensor data", 34892: "sensor data"}
# Values of COMPRESSION.
UNCOMPRESSED, CCITT, JPEG, PACKBITS = 1, (2, 3, 4, 32771), 7, 32773
WITH_PREDICTOR = (5, 8, 32946, 34925, 50000)  # LZW, deflate (two numbers), LZMA, Zstandard
OF_BYTES = (UNCOMPRESSED, PACKBITS, *WITH_PREDICTOR)
OF_PIXELS = (*CCITT, 6, JPEG, 32809)  # with the old JPEG and ThunderScan
OTHER_COMPRESSIONS = {34712: "JPEG 2000", 34887: "LERC", 34934: "JPEG XR", 50001: "WebP", 50002: "JPEG XL"}
# Values of PREDICTOR, EXTRA_SAMPLES and SAMPLE_FORMAT.
DIFFERENCES, FLOAT_DIFFERENCES = 2, 3
ASSOCIATED, UNASSOCIATED = 1, 2  # alpha by which the colours are multiplied already, or not
UNSIGNED, SIGNED, FLOAT = "unsigned", "signed", "floating-point"
KINDS = {1: UNSIGNED, 2: SIGNED, 3: FLOAT, 4: UNSIGNED}  # 4 is undefined, which is to be read as unsigned (page 80)
LETTERS = {UNSIGNED: "u", SIGNED: "i", FLOAT: "f"}  # of NumPy
WHOLE_BYTES = (8, 16, 32, 64)


@dataclass(frozen=True)
class Layout:
    """How the samples of an image are stored."""

    width: int
    height: int
    photometric: int
    samples: int  # of a pixel
    bits: tuple[int, ...]  # of each sample
    formats: tuple[int, ...]
    extra: tuple[int, ...]  # meaning of the samples after the colours
    compression: int
    predictor: int
    planar: bool  # the samples of each kind are stored together
    reversed_bits: bool  # the first pixel of a byte is in its lowest bits
    byte_order: Literal["<", ">"]  # of NumPy

    @property
    def kind(self) -> str:
        """Unsigned, signed or floating-point."""
        return KINDS.get(self.formats[0], "complex")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest type that holds a sample."""
        return np.dtype(f"{LETTERS[self.kind]}{max(1, 2 ** (self.bits[0] - 1).bit_length() // 8)}")

    @property
    def alpha(self) -> int | None:
        """The position of alpha in a pixel."""
        colours = COLOURS[self.photometric]
        kinds = enumerate(self.extra[: self.samples - colours], colours)
        return next((index for index, kind in kinds if kind in (ASSOCIATED, UNASSOCIATED)), None)

    @property
    def associated(self) -> bool:
        """Whether the colours are multiplied by alpha."""
        return self.alpha is not None and self.extra[self.alpha - COLOURS[self.photometric]] == ASSOCIATED


def read(file: TrackedFile, max_pixels: int) -> Image.Image | None:
    """Return the first image of a TIFF as RGB, upright; None if Pillow reads it correctly, or it is no TIFF.

    Raises Unreadable for what is not supported, any other exception for damaged data.
    """
    if not file.peek(4).startswith(tuple(PREFIXES)):
        return None
    if file.peek(4).startswith(BIG_ENDIAN_BIG_TIFF):  # of which Pillow reads only the signature
        raise unsupported("TIFF (big-endian BigTIFF)")
    try:
        tags = _directory(file)
        layout = _layout(tags)
    except (KeyError, ValueError, TypeError, struct.error):  # a damaged directory, on which Pillow reports
        return None
    finally:
        file.seek(0)
    if feature := _unsupported_feature(layout, tags):
        raise unsupported(f"TIFF ({feature})")
    if _pillow_reads(layout, tags):
        return None
    if layout.width * layout.height > max_pixels:
        raise too_large(f"{layout.width} × {layout.height}", max_pixels)
    with stderr_muted():  # libtiff prints a line for each damaged strip
        samples = _samples(file, layout, tags)
    image = from_16_bits(_rgb(samples, layout, tags))
    image.getexif()[ExifTags.Base.Orientation] = tags.get(ExifTags.Base.Orientation, 1)
    ImageOps.exif_transpose(image, in_place=True)  # as Pillow does with every TIFF
    return image


def _directory(file: TrackedFile) -> ImageFileDirectory_v2:
    """Return the tags of the first image."""
    header = file.read(16)
    is_big = header[2] == 43  # BigTIFF
    tags = ImageFileDirectory_v2(header if is_big else header[:8])
    file.seek(tags.next)
    count_size, entry_size = (8, 20) if is_big else (2, 12)
    count = int.from_bytes(file.read(count_size), "big" if tags.prefix == b"MM" else "little")
    if tags.next + count_size + count * entry_size > file.size():
        raise truncated()
    file.seek(tags.next)
    tags.load(file)
    return tags


def _layout(tags: ImageFileDirectory_v2) -> Layout:
    def number(tag: int, default: int | None = None) -> int:
        value = tags[tag] if default is None else tags.get(tag, default)
        if not isinstance(value, int):
            raise TypeError(f"tag {tag} is {value!r}")
        return value

    samples, compression = number(SAMPLES, 1), number(COMPRESSION, UNCOMPRESSED)
    # Without PHOTOMETRIC libtiff takes CCITT for white is zero, other grey for black is zero, three samples for RGB.
    default = WHITE_IS_ZERO if compression in CCITT else RGB if samples >= 3 else BLACK_IS_ZERO
    photometric = YCBCR if compression == 6 else number(PHOTOMETRIC, default)
    bits = tuple(tags.get(BITS, (1,)))[:samples]
    if len(bits) not in (1, samples):
        raise ValueError(f"{samples} samples and {len(bits)} depths")
    extra = tuple(tags.get(EXTRA_SAMPLES, ()))
    if not extra and photometric == RGB and samples == 4:
        extra = (UNASSOCIATED,)  # missing from some files; Pillow reads them so
    return Layout(
        width=number(WIDTH),
        height=number(HEIGHT),
        photometric=photometric,
        samples=samples,
        bits=bits,
        formats=tuple(tags.get(SAMPLE_FORMAT, (1,)))[:samples],
        extra=extra,
        compression=compression,
        predictor=number(PREDICTOR, 1) if compression in WITH_PREDICTOR else 1,
        planar=number(PLANAR, 1) == 2,
        reversed_bits=number(FILL_ORDER, 1) == 2,
        byte_order=">" if tags.prefix == b"MM" else "<",
    )


def _unsupported_feature(layout: Layout, tags: ImageFileDirectory_v2) -> str | None:
    """Return what neither Pillow reads correctly nor this module, for an error message."""
    bits, kind, predictor = layout.bits[0], layout.kind, layout.predictor
    if layout.photometric not in COLOURS or (layout.compression == JPEG and PHOTOMETRIC not in tags):
        return f"colours: {OTHER_COLOURS.get(layout.photometric, layout.photometric)}"
    if layout.compression not in (*OF_BYTES, *OF_PIXELS):
        return f"{OTHER_COMPRESSIONS.get(layout.compression, layout.compression)} compression"
    if len({*layout.bits}) > 1 or len({*layout.formats}) > 1:
        return "samples of different kinds"
    if not _has_supported_samples(layout):
        return f"{bits}-bit {kind} samples{', JPEG' if layout.compression == JPEG else ''}"
    if layout.photometric == YCBCR and layout.compression == UNCOMPRESSED:  # Pillow ignores these tags
        subsampled = tags.get(YCBCR_SUBSAMPLING, (2, 2)) != (1, 1)
        if subsampled or layout.planar or YCBCR_COEFFICIENTS in tags or REFERENCE_BLACK_WHITE in tags:
            return "uncompressed YCbCr"
    if layout.photometric == CMYK:
        dots = tuple(tags.get(DOT_RANGE, ()))[:2]  # the samples of no ink and of full ink
        if tags.get(INK_SET, 1) != 1 or dots not in ((), (0, 2**bits - 1)):
            return "inks other than CMYK"
    if layout.associated and layout.photometric not in (BLACK_IS_ZERO, RGB):
        return "associated alpha without RGB"  # what is multiplied by alpha then, TIFF 6.0 does not say
    if (predictor == DIFFERENCES and bits not in WHOLE_BYTES) or (predictor == FLOAT_DIFFERENCES and kind != FLOAT):
        return f"predictor {predictor} for {bits}-bit {kind} samples"
    return None


def _has_supported_samples(layout: Layout) -> bool:
    """Return whether the samples are numbers that Pillow or this module reads."""
    bits = layout.bits[0]
    if layout.compression in OF_PIXELS or layout.photometric in (PALETTE, YCBCR):
        largest = 16 if layout.photometric == PALETTE and layout.compression in OF_BYTES else 8
        return layout.kind == UNSIGNED and bits <= largest
    match layout.kind:
        case "unsigned":
            return bits <= 16 or bits in WHOLE_BYTES
        case "floating-point":
            return bits in (16, 32, 64)
    # What is black in signed samples, TIFF 6.0 does not say. With 32 bits they are 16-bit grey that Pillow has saved.
    return layout.kind == SIGNED and bits == 32 and layout.samples == 1 and layout.photometric == BLACK_IS_ZERO


def _pillow_reads(layout: Layout, tags: ImageFileDirectory_v2) -> bool:
    """Return whether Pillow reads an image correctly."""
    if layout.compression in OF_PIXELS or layout.photometric == YCBCR:
        return True
    if layout.planar or layout.reversed_bits or layout.formats[0] != 1 or PHOTOMETRIC not in tags:
        return False
    if len(layout.extra) != layout.samples - COLOURS[layout.photometric]:
        return False
    kind = layout.photometric, layout.samples, layout.bits[0]
    if layout.photometric == PALETTE and max(tags[COLOUR_MAP]) < 256:  # Pillow takes such a map for black
        return False
    small = [(grey, 1, bits) for grey in (WHITE_IS_ZERO, BLACK_IS_ZERO, PALETTE) for bits in (1, 2, 4, 8)]
    return kind in (*small, (BLACK_IS_ZERO, 1, 16), (RGB, 3, 8), (RGB, 3, 16), (RGB, 4, 8), (CMYK, 4, 8))


def _samples(file: TrackedFile, layout: Layout, tags: ImageFileDirectory_v2) -> NDArray[Any]:
    """Return the colours of all pixels, and their alpha behind them: (height, width, samples)."""
    kept = [*range(COLOURS[layout.photometric]), *([] if layout.alpha is None else [layout.alpha])]
    tiled = TILES[0] in tags
    if tiled:
        width, height = tags[TILE_WIDTH], tags[TILE_HEIGHT]
    else:
        width, height = layout.width, min(tags.get(ROWS_PER_STRIP, layout.height), layout.height)
    offsets, byte_counts = (tags.get(tag, ()) for tag in (TILES if tiled else STRIPS))
    corners = product(range(0, layout.height, height), range(0, layout.width, width))
    planes = [[index] for index in range(layout.samples)] if layout.planar else [kept]
    samples = np.empty((layout.height, layout.width, len(kept)), layout.dtype)
    size = file.size()
    for index, (plane, (top, left)) in enumerate(product(planes, corners)):
        if layout.planar and plane[0] not in kept:
            continue
        rows = height if tiled else min(height, layout.height - top)
        stored = 1 if layout.planar else layout.samples
        row_size = math.ceil(width * stored * layout.bits[0] / 8)
        byte_count = rows * row_size if layout.compression == UNCOMPRESSED else byte_counts[index]
        if offsets[index] + byte_count > size:
            raise truncated()
        file.seek(offsets[index])
        block = _unpacked(_decompressed(file.read(byte_count), layout, rows, row_size), layout, (rows, width, stored))
        block = block[: layout.height - top, : layout.width - left]
        target = samples[top : top + rows, left : left + width]
        if layout.planar:
            target[..., kept.index(plane[0])] = block[..., 0]
        else:
            target[...] = block[..., kept]
    return samples


def _decompressed(data: bytes, layout: Layout, rows: int, row_size: int) -> NDArray[np.uint8]:
    """Return the bytes of a strip or tile, (rows, row_size)."""
    if layout.compression == UNCOMPRESSED:
        stored = np.frombuffer(data, np.uint8).reshape(rows, row_size)
        return np.packbits(np.unpackbits(stored, axis=1), axis=1, bitorder="little") if layout.reversed_bits else stored
    # To libtiff, the bytes are an 8-bit grey image.
    tags = {WIDTH: row_size, HEIGHT: rows, BITS: 8, COMPRESSION: layout.compression, PHOTOMETRIC: BLACK_IS_ZERO}
    tags |= {FILL_ORDER: 2 if layout.reversed_bits else 1, STRIPS[0]: 8, SAMPLES: 1, ROWS_PER_STRIP: rows}
    tags |= {STRIPS[1]: len(data)}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = b"II*\0" + struct.pack("<I", 8 + len(data))
    tiff = io.BytesIO(header + data + struct.pack("<H", len(tags)) + directory + bytes(4))
    return np.asarray(Image.open(tiff, formats=("TIFF",)))


def _unpacked(stored: NDArray[np.uint8], layout: Layout, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Return the samples in the bytes of a strip or tile, of a shape (rows, columns, samples)."""
    rows, columns, samples = shape
    bits = layout.bits[0]
    if layout.predictor == FLOAT_DIFFERENCES:  # of bytes; each row holds first the highest bytes of all its samples
        summed = stored.reshape(rows, -1, samples).cumsum(axis=1, dtype=np.uint8)
        values = summed.reshape(rows, bits // 8, -1).transpose(0, 2, 1)
        return np.ascontiguousarray(values).view(f">f{bits // 8}").reshape(shape)
    if bits in WHOLE_BYTES:
        unsigned = np.dtype(f"u{bits // 8}")
        values = stored.view(unsigned.newbyteorder(layout.byte_order)).reshape(shape)
        if layout.predictor == DIFFERENCES:
            values = values.cumsum(axis=1, dtype=unsigned)
        return values.astype(unsigned).view(layout.dtype)
    return unpacked_bits(stored, columns * samples, bits).reshape(shape)


def _rgb(samples: NDArray[Any], layout: Layout, tags: ImageFileDirectory_v2) -> NDArray[np.uint16]:
    """Return 16-bit grey or RGB, (height, width, 1 or 3), over white."""
    bits = layout.bits[0]
    colours: NDArray[np.uint16]
    if layout.photometric == PALETTE:
        colour_map = np.array(tags[COLOUR_MAP], np.uint16).reshape(3, -1).T
        # libtiff's rule (checkcmap in tif_getimage.c): if no value needs more than 8 bits, the map is one of 8 bits.
        colours = (colour_map * 257 if colour_map.max() < 256 else colour_map)[samples[..., 0]]
    else:
        colours = to_16_bits(samples[..., : COLOURS[layout.photometric]], bits)
    if layout.photometric == WHITE_IS_ZERO:
        colours = WHITE - colours
    if layout.photometric == CMYK:  # as Pillow converts it: each ink, and black, leaves its share of the light
        light = (WHITE - colours).astype(np.uint32)
        colours = ((light[..., :3] * light[..., 3:] + WHITE // 2) // WHITE).astype(np.uint16)
    if layout.alpha is None:
        return colours
    alpha = to_16_bits(samples[..., -1:], bits)
    if layout.associated:
        return np.asarray(np.minimum(colours, alpha) + (WHITE - alpha))
    return over_white(colours, alpha)
