"""A small file of every format that is read, and headers of images that are larger than the file."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def drawn(width: int = 90, height: int = 60) -> Image.Image:
    """Return a gradient with noise: large enough when compressed to be cut in many places."""
    rng = np.random.default_rng(1)
    slope = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 100, width))[:, :, None]
    return Image.fromarray((slope + rng.integers(0, 30, (height, width, 3))).astype(np.uint8))


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


# For each format: suffix, bytes, and how many of them are a header without which a cut file is no image.

FORMATS = {
    "jpeg": (".jpg", saved(drawn(), "JPEG"), 623),
    "progressive": (".jpeg", saved(drawn(), "JPEG", progressive=True), 330),
    "mpo": (".mpo", saved(drawn(), "MPO", save_all=True, append_images=[drawn()]), 800),
    "png": (".png", saved(drawn(), "PNG"), 41),
    "png palette": (".png", saved(drawn().quantize(), "PNG"), 821),
    "gif": (".gif", saved(drawn().quantize(), "GIF"), 800),
    "webp": (".webp", saved(drawn(), "WEBP"), 30),
    "webp lossless": (".webp", saved(drawn(), "WEBP", lossless=True), 30),
    "tiff": (".tif", saved(drawn(), "TIFF"), 200),
    "tiff lzw": (".tiff", saved(drawn(), "TIFF", compression="tiff_lzw"), 8),
    "tiff deflate": (".tiff", saved(drawn(), "TIFF", compression="tiff_adobe_deflate"), 8),
    "tiff jpeg": (".tiff", saved(drawn(), "TIFF", compression="jpeg"), 8),
    "tiff fax": (".tiff", saved(drawn().convert("1"), "TIFF", compression="group4"), 8),
    "bmp": (".bmp", saved(drawn(), "BMP"), 54),
    "dib": (".dib", saved(drawn(), "DIB"), 40),
    "ppm": (".ppm", saved(drawn(), "PPM"), 15),
    "pgm": (".pgm", saved(drawn().convert("L"), "PPM"), 15),
    "jp2": (".jp2", saved(drawn(), "JPEG2000"), 250),
    "j2k": (".j2k", saved(drawn(), "JPEG2000", no_jp2=True), 200),
    "avif": (".avif", saved(drawn(), "AVIF"), 400),
    "tga": (".tga", saved(drawn(), "TGA"), 18),
    "tga rle": (".tga", saved(drawn().quantize(16), "TGA", compression="tga_rle"), 100),
    "ico": (".ico", saved(drawn(64, 64), "ICO", sizes=[(64, 64)]), 100),
    "ico bmp": (".ico", saved(drawn(64, 64), "ICO", sizes=[(64, 64)], bitmap_format="bmp"), 100),
    "qoi": (".qoi", saved(drawn(), "QOI"), 14),
}


def lengths_of_cuts(kind: str, places: int) -> list[int]:
    """Return lengths to which a file of a format can be cut so that its header stays and the image is incomplete."""
    _, data, header = FORMATS[kind]
    last = len(data) // 2 - 40 if kind == "mpo" else len(data) - 40  # the second image of an MPO is not read
    return [int(length) for length in np.linspace(header, last, places)]


def png_header(width: int, height: int) -> bytes:
    """Return a PNG whose header has such a size, and which has no pixels."""
    data = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + data + struct.pack(">I", zlib.crc32(data)) + b"\0\0\0\x01IDAT"
