"""Files that try to break the program: what each is, the statuses that its row may have, and how it is made.

python tests/helpers/hostile.py DIR   # write them into a folder, each between two good images
"""

import errno
import os
import random
import socket
import struct
import sys
import zipfile
import zlib
from base64 import b85decode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from formats import FORMATS, drawn, lengths_of_cuts, png_header, saved
from PIL import Image

from inception_cli.images.discovery import UNSUPPORTED_SUFFIXES

Create = Callable[[Path], object]
DAMAGED = ("ok", "truncated", "corrupt", "too_large", "unsupported")  # statuses that random bytes may have


@dataclass(frozen=True)
class Hostile:
    """A hostile file."""

    description: str
    name: str  # in a folder of its own
    statuses: tuple[str, ...]  # that its row may have; empty: it has no row
    content: bytes | Create  # its bytes, or a function that creates it
    call: str = ""  # the system call, open or stat, during which `interference` changes the file
    interference: Callable[[str], AbstractContextManager[None]] | None = None


def hostile_files() -> list[Hostile]:
    """Return all of them, always the same."""
    groups = [without_memory, cut, flipped, bombs, no_images, wrong_suffixes, shapes, jpegs, odd_headers]
    groups += [names, no_files, changing]
    metadata = [Hostile(f"metadata: {what}", f"m{suffix}", ("ok",), data) for what, suffix, data in broken_metadata()]
    return [*(file for group in groups for file in group()), *metadata]


def write(folder: Path) -> list[tuple[str, Hostile | None]]:
    """Write the hostile files into `folder`, a good image before and after each.

    Returns (path, hostile file; None for a good image) in the order of the rows.
    """
    folder.mkdir()
    (folder / "!.jpg").write_bytes(good(0))
    rows: list[tuple[str, Hostile | None]] = [(f"{folder}/!.jpg", None)]
    for number, file in enumerate(hostile_files()):
        own = folder / f"{number:03}"
        path = own / file.name
        path.parent.mkdir(parents=True)
        if callable(file.content):
            file.content(path)
        else:
            path.write_bytes(file.content)
        own.with_suffix(".jpg").write_bytes(good(number + 1))
        rows += [(str(path), file)] if file.statuses else []
        rows.append((f"{own}.jpg", None))
    return rows


def good(number: int) -> bytes:
    """Return one of GOOD_IMAGES different images as a JPEG."""
    number %= GOOD_IMAGES
    if number not in GOOD:
        rng = np.random.default_rng(number)
        grid = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        GOOD[number] = saved(grid.resize((100 + number, 90), Image.Resampling.BICUBIC), "JPEG", quality=90)
    return GOOD[number]


GOOD_IMAGES = 37
GOOD: dict[int, bytes] = {}
JPEG, PNG = FORMATS["jpeg"][1], FORMATS["png"][1]


# --- Wrong bytes.


def cut() -> Iterator[Hostile]:
    """Yield every format cut at ten places: once in its header, nine times after it."""
    for what, (suffix, data, header) in FORMATS.items():
        length = min(header - 1, 6)
        yield Hostile(f"{what} cut at {length}", f"cut{suffix}", ("corrupt",), data[:length])
        for length in lengths_of_cuts(what, 9):
            yield Hostile(f"{what} cut at {length}", f"cut{suffix}", ("truncated",), data[:length])


def flipped() -> Iterator[Hostile]:
    """Yield every format with wrong bytes."""
    for seed in range(len(FORMATS)):
        suffix, data = fuzzed(seed)
        yield Hostile(f"bytes flipped by seed {seed}", f"flipped{suffix}", DAMAGED, data)


def fuzzed(seed: int) -> tuple[str, bytes]:
    """Return a suffix and a damaged file of that format: bytes flipped, zeroed, removed, repeated, cut off or added."""
    rng = random.Random(seed)
    suffix, whole, header = list(FORMATS.values())[seed % len(FORMATS)]
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        # Damage to the header has more effects.
        at = rng.randrange(min(len(data), header + 20) if rng.random() < 0.5 else len(data))
        span = slice(at, at + rng.choice((1, 2, 4, 8, 64, 700)))
        match rng.randrange(10):
            case 0:
                data[span] = bytes(len(data[span]))
            case 1:
                data[span] = b"\xff" * len(data[span])
            case 2:
                del data[span]
            case 3:
                data[at:at] = data[span]
            case 4:
                data[at:at] = rng.randbytes(rng.choice((1, 4, 64)))
            case 5:
                del data[max(at, 8) :]
            case _:
                data[at] ^= rng.randrange(1, 256)
        if not data:
            break
    return suffix, bytes(data)


def bombs() -> Iterator[Hostile]:
    """Yield files whose headers say 30,000 × 30,000 pixels and more."""
    for what, suffix, data in bomb_files():
        yield Hostile(f"bomb: {what}", f"bomb{suffix}", ("too_large",), data)


def bomb_files() -> Iterator[tuple[str, str, bytes]]:
    """Yield description, suffix and bytes of small files with more pixels than the default max_pixels, 500 million."""
    side = 30_000

    def patched(data: bytes, at: int, form: str, *sides: int) -> bytes:
        size = struct.pack(form, *(sides or (side, side)))
        return data[:at] + size + data[at + len(size) :]

    yield "PNG", ".png", png_header(side, side)
    yield "PNG of the largest sides", ".png", png_header(2**31 - 1, 2**31 - 1)
    yield "PNG, one row", ".png", png_header(2**31 - 1, 1)
    yield "PNG under .jpg", ".jpg", png_header(side, side)
    for what in ("jpeg", "progressive"):
        data = FORMATS[what][1]
        at = data.index(b"\xff\xc2\0\x11" if what == "progressive" else b"\xff\xc0\0\x11") + 5
        yield what, ".jpg", patched(data, at, ">HH")
    yield "JPEG of 65,000", ".jpg", patched(JPEG, JPEG.index(b"\xff\xc0\0\x11") + 5, ">HH", 65_000, 65_000)
    yield "GIF", ".gif", patched(FORMATS["gif"][1], 6, "<HH")
    yield "GIF of 65,535", ".gif", patched(FORMATS["gif"][1], 6, "<HH", 65_535, 65_535)
    yield "BMP", ".bmp", patched(FORMATS["bmp"][1], 18, "<ii")
    yield "BMP, top first", ".bmp", patched(FORMATS["bmp"][1], 18, "<ii", side, -side)
    yield "DIB", ".dib", patched(FORMATS["dib"][1], 4, "<ii")
    yield "PPM", ".ppm", b"P6 30000 30000 255\n"
    yield "plain PPM", ".ppm", b"P3 30000 30000 255\n1 2 3\n"
    yield "PBM", ".pbm", b"P4 99999999 99999999\n"
    yield "QOI", ".qoi", patched(FORMATS["qoi"][1], 4, ">II")
    yield "TGA", ".tga", patched(FORMATS["tga"][1], 12, "<HH")
    yield "TGA in runs", ".tga", patched(FORMATS["tga rle"][1], 12, "<HH", 65_535, 65_535)
    jp2 = FORMATS["jp2"][1]
    yield "JPEG 2000", ".jp2", patched(jp2, jp2.index(b"ihdr") + 4, ">II")
    j2k = FORMATS["j2k"][1]
    yield "JPEG 2000, bare", ".j2k", patched(j2k, 8, ">II")
    yield "WebP", ".webp", struct.pack("<4sI4s4sI", b"RIFF", 22, b"WEBP", b"VP8X", 10) + bytes(4) + b"\x2f\x75\0" * 2
    for what in ("tiff", "tiff lzw", "tiff jpeg", "tiff fax"):
        yield what, ".tif", tiff_resized(FORMATS[what][1], side)
    inner = png_header(side, side)
    yield "ICO", ".ico", struct.pack("<3H4B2H2I", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(inner), 22) + inner
    avif = FORMATS["avif"][1]
    yield "AVIF", ".avif", patched(avif, avif.index(b"ispe") + 8, ">II")


def tiff_resized(data: bytes, side: int) -> bytes:
    """Return a little-endian TIFF whose header says that it is so wide and so high."""
    changed = bytearray(data)
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, at)[0] in (256, 257):
            struct.pack_into("<HII", changed, at + 2, 4, 1, side)
    return bytes(changed)


def no_images() -> Iterator[Hostile]:
    """Yield files that are no images but have their suffixes."""
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("photo.jpg", JPEG)
    contents = {
        "an empty file": b"",
        "one byte": b"\xff",
        "a newline": b"\n",
        "zeros": bytes(5000),
        "ones": b"\xff" * 5000,
        "noise": random.Random(0).randbytes(5000),
        "text": b"This is not a photo.\n" * 50,
        "UTF-16": "not a photo".encode("utf-16"),
        "HTML": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "HTML after blank lines": b"\n\n  <html><title>Sign in</title></html>",
        "JSON": b'{"error": "rate limit"}',
        "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n",
        "a ZIP archive": archive.getvalue(),
        "gzip": zlib.compress(JPEG, wbits=31),
        "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n",
        "a video": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(99),
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run quit\n",
        "an executable": b"\x7fELF\x02\x01\x01" + bytes(99),
        "a shell script": b"#!/bin/sh\ntouch hacked\n",
        "a pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        "a resource fork": b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(99),
        "terminal escapes": b"\x1b]0;owned\x07\x1b[2J" * 20,
        "only SOI": b"\xff\xd8",
        "SOI and EOI": b"\xff\xd8\xff\xd9",
        "only the signature of PNG": PNG[:8],
        "a JPEG after lines of text": b"HTTP/1.1 200 OK\r\n\r\n" + JPEG,
        "a JPEG in base64": b"/9j/4AAQSkZJRgABAQ==",
        "a PNG with changed line ends": PNG.replace(b"\r\n", b"\n"),
    }
    for what, data in contents.items():
        yield Hostile(f"{what} named .jpg", "x.jpg", ("corrupt",), data)
    for suffix in (".png", ".gif", ".tif", ".webp", ".tga", ".ico"):
        yield Hostile(f"an empty file named {suffix}", f"x{suffix}", ("corrupt",), b"")
        yield Hostile(f"zeros named {suffix}", f"x{suffix}", ("corrupt",), bytes(999))
    heic = ("unsupported", "corrupt")  # without and with pillow-heif
    for suffix, format_name in UNSUPPORTED_SUFFIXES.items():
        statuses = heic if format_name == "HEIC" else ("unsupported",)
        yield Hostile(f"an unsupported format, {suffix}", f"x{suffix}", statuses, b"some other format " * 9)
    for what, start in {"HEIC": b"\0\0\0\x18ftypheic", "PSD": b"8BPS\0\1", "SVG": b"<svg>", "JXL": b"\xff\x0a"}.items():
        statuses = heic if what == "HEIC" else ("unsupported",)
        yield Hostile(f"{what} named .jpg", "x.jpg", statuses, start + bytes(99))


def wrong_suffixes() -> Iterator[Hostile]:
    """Yield every format with a wrong suffix; a format with a signature is recognised by that."""
    for what, (suffix, data, _) in FORMATS.items():
        wrong = ".png" if suffix in (".jpg", ".jpeg") else ".JPG"
        has_signature = not what.startswith(("tga", "dib"))
        yield Hostile(f"{what} named {wrong}", f"x{wrong}", ("ok",) if has_signature else ("corrupt",), data)
    yield Hostile("JPEG named .heic", "x.heic", ("ok",), JPEG)
    yield Hostile("TIFF named .dng", "x.dng", ("unsupported",), FORMATS["tiff"][1])
    yield Hostile("JPEG named .tga", "x.tga", ("ok",), JPEG)


def shapes() -> Iterator[Hostile]:
    """Yield images of extreme shapes."""
    for width, height in ((1, 1), (1, 2), (3, 1), (1, 20_000), (20_000, 1), (2, 65_000), (65_000, 2)):
        image = drawn(width, height)
        for format in ("PNG", "JPEG", "TIFF"):
            yield Hostile(f"{format} of {width} × {height}", f"x.{format.lower()}", ("ok",), saved(image, format))


# 32 × 24 pixels, made by libjpeg-turbo's `jpegtran -arithmetic` and `-arithmetic -progressive`: Pillow writes none.
ARITHMETIC = {
    "arithmetic": b85decode(
        "|JeWF01!$>Nk#wx0RR9200961|JwjV00;&K2L=TQ2L}fU2?z=d6b%du3k(?&6Au&}8Xq1V8XO!TBrYc)A}k{u94I#_EHE)NG&CP4IXyT"
        "sJT5adGXL8ELjeg12@DGi7!3^=G9erxGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBW?k01*fP7yu"
        "vx0U`hb5di}c0sqVZ3IGrg1pyEd1^?Or3<CiG0ucid06zf#0JWHYlU#H@V{e_P_9&%XpcE<Rx2oxA^AlP~Te4NtCe^{$I6*#$<U%(hT>"
        "&&6BdQLEh#*CUyp&a0SEJ3)ZQYovaP3L1|Je"
    ),
    "arithmetic and progressive": b85decode(
        "|JeWF01!$>Nk#wx0RR9200961|JwjV00;&K2L=TQ2L}fU2?z=d6b%du3k(?&6Au&}8Xq1V8XO!TBrYc)A}k{u94I#_EHE)NG&CP4IXyT"
        "sJT5adGXL8ELjeg12@DGi7!3^=G9erxGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBW?l01*fP7yu"
        "vx0U`hb5di}c0sqVZ1^^HN5dYc$3<CiG0uTcb000610Bo4^`ZYQI-`1?m);|e$J>O+#u>Z^e1P}%P+5iXv0RRC70uuY`M}kS!K>y4D1Q"
        "7-Q+5iXv0|5a)0TpZD#fnH25dX{o1Q7-Q+5iXv0s#R(0XXv9nGXT$Y2*LQ00a;P|Jncu0RaF8KLWu2%m4%s1^?Or2mt{A0Y4$8H_ZtI|"
        "Jncy0|5X600RI301&D9-T%x01Q7-Q+5iXv0|5a)5KtS6EdR^^1Q7-Q+5iXv0s#R(5Fw_~2Y~;~00a;P|Jncu0RaF3KM+hULoic7|Je"
    ),
}


def jpegs() -> Iterator[Hostile]:
    """Yield JPEGs of kinds that cameras rarely write."""
    progressive = FORMATS["progressive"][1]
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    frame = JPEG.index(b"\xff\xc0\0\x11")
    tables = JPEG.index(b"\xff\xc4")
    coded = ARITHMETIC["arithmetic"]
    length = 65_536 - coded.index(b"\xff\xda") - 40  # of a segment that moves the 65,536th byte into the scan
    block = struct.pack(">HH", 0xFFEF, length - 2) + bytes(length - 4)
    ok = {
        **ARITHMETIC,
        "progressive": progressive,
        "its last scan a hundred times": progressive[:-2] + scan * 100 + b"\xff\xd9",
        "CMYK": saved(drawn().convert("CMYK"), "JPEG"),
        "grey": saved(drawn().convert("L"), "JPEG"),
        "restart markers": saved(drawn(), "JPEG", restart_marker_blocks=1),
        "arithmetic, read in two blocks": coded[:2] + block + coded[2:],
        "junk after its end": JPEG + b"<?php system($_GET['x']) ?>" * 99,
        "a second JPEG after its end": JPEG + JPEG,
        "comments with terminal escapes": saved(drawn(), "JPEG", comment=b"\x1b[2J\x1b]0;owned\x07[bold]"),
        "fill bytes between its markers": JPEG[:2] + b"\xff" * 200 + JPEG[2:],
        "60 kB of unknown markers": JPEG[:2] + b"\xff\xef\xfd\xe8" + bytes(64998) + JPEG[2:],
    }
    corrupt = {
        "lossless": JPEG[: frame + 1] + b"\xc3" + JPEG[frame + 2 :],
        "of a width of 0": JPEG[: frame + 7] + b"\0\0" + JPEG[frame + 9 :],
        "of 200 components": JPEG[: frame + 9] + b"\xc8" + JPEG[frame + 10 :],
        "its Huffman tables damaged": JPEG[: tables + 5] + b"\xff" * 16 + JPEG[tables + 21 :],
        "its frame twice": JPEG[:frame] + JPEG[frame : frame + 19] + JPEG[frame:],
    }
    for status, some in (("ok", ok), ("corrupt", corrupt)):
        yield from (Hostile(f"JPEG, {what}", "x.jpg", (status,), data) for what, data in some.items())
    for what, data in ARITHMETIC.items():
        yield Hostile(f"JPEG, {what}, cut", "x.jpg", ("truncated",), data[: len(data) - 40])


def odd_headers() -> Iterator[Hostile]:
    """Yield headers with other wrong or rare values."""
    gif, bmp, tiff = (FORMATS[name][1] for name in ("gif", "bmp", "tiff"))
    (directory,) = struct.unpack_from("<I", tiff, 4)
    frames = [drawn(), drawn().rotate(180)]
    yield Hostile("PNG of width 0", "x.png", ("corrupt",), png_header(0, 10))
    yield Hostile("PNG with a wrong checksum", "x.png", ("corrupt",), PNG[:29] + b"\0\0\0\0" + PNG[33:])
    yield Hostile(
        "PNG with text of 60 MB", "x.png", DAMAGED, png_with(b"zTXt", b"x\0\0" + zlib.compress(bytes(60_000_000)))
    )
    yield Hostile("PNG, animated", "x.png", ("ok",), saved(frames[0], "PNG", save_all=True, append_images=frames[1:]))
    yield Hostile("GIF, animated", "x.gif", ("ok",), saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    yield Hostile(
        "WebP, animated", "x.webp", ("ok",), saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    )
    yield Hostile("GIF without an image", "x.gif", ("corrupt", "truncated"), gif[:6] + b"\x08\0\x08\0\0\0\0;")
    yield Hostile("GIF of size 0", "x.gif", ("ok",), gif[:6] + bytes(4) + gif[10:])
    yield Hostile("BMP, top first", "x.bmp", ("ok",), bmp[:22] + struct.pack("<i", -60) + bmp[26:])
    yield Hostile(
        "BMP of the lowest possible height", "x.bmp", ("too_large",), bmp[:22] + struct.pack("<i", -(2**31)) + bmp[26:]
    )
    yield Hostile(
        "BMP whose pixels are outside the file", "x.bmp", ("truncated",), bmp[:10] + b"\xff\xff\xff\x7f" + bmp[14:]
    )
    yield Hostile(
        "TIFF whose directory is outside the file", "x.tif", ("truncated",), tiff[:4] + b"\xf0\xff\xff\xff" + tiff[8:]
    )
    yield Hostile(
        "TIFF whose directory is its header", "x.tif", ("corrupt", "truncated"), tiff[:4] + bytes(4) + tiff[8:]
    )
    at = tiff.index(struct.pack("<HHI", 277, 3, 1)) + 8
    yield Hostile("TIFF of 211 samples per pixel", "x.tif", ("corrupt",), tiff[:at] + b"\xd3" + tiff[at + 1 :])
    looped = tiff[: directory + 2 + 12 * tiff[directory]] + struct.pack("<I", directory)
    yield Hostile("TIFF whose directories loop", "x.tif", ("ok", "truncated"), looped + tiff[len(looped) :])
    yield Hostile("PPM of a maximum of 0", "x.ppm", ("corrupt",), b"P6 4 4 0\n" + bytes(48))
    yield Hostile("PPM with letters for a width", "x.ppm", ("corrupt",), b"P6 four 4 255\n" + bytes(48))
    yield Hostile(
        "PPM with a width of 400 digits", "x.ppm", ("corrupt", "too_large"), b"P6 " + b"9" * 400 + b" 4 255\n"
    )
    yield Hostile("PFM of NaN", "x.pfm", ("ok",), b"Pf 8 8 -1.0\n" + struct.pack("<64f", *[float("nan")] * 64))
    yield Hostile("ICO without an image", "x.ico", ("corrupt", "truncated"), b"\0\0\1\0\0\0" + bytes(99))
    icon = struct.pack("<3H4B2H2I", 0, 1, 1, 8, 8, 0, 0, 1, 32, 400, 0)
    yield Hostile("ICO that contains itself", "x.ico", ("corrupt", "truncated"), icon + bytes(400))
    yield Hostile("LAB colours", "x.tif", ("unsupported",), saved(Image.new("LAB", (8, 8)), "TIFF"))


# --- Broken metadata of intact images.


def broken_metadata() -> Iterator[tuple[str, str, bytes]]:
    """Yield description, suffix and bytes of intact images with broken EXIF or ICC data."""
    six = struct.pack("<HHII", 0x112, 3, 1, 6)

    def directory(*entries: bytes, after: int = 0) -> bytes:
        return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", after)

    exif = {
        "empty": b"",
        "noise": random.Random(1).randbytes(80),
        "only a header": b"II*\0\x08\0\0\0",
        "another byte order": b"XX*\0\x08\0\0\0" + directory(six)[8:],
        "a directory outside the file": b"II*\0\xff\xff\xff\x7f" + directory(six)[8:],
        "a truncated directory": directory(six)[:14],
        "orientation 0": directory(struct.pack("<HHII", 0x112, 3, 1, 0)),
        "orientation 9": directory(struct.pack("<HHII", 0x112, 3, 1, 9)),
        "orientation 65535": directory(struct.pack("<HHII", 0x112, 3, 1, 65_535)),
        "orientation as text": directory(struct.pack("<HHI4s", 0x112, 2, 4, b"six\0")),
        "orientation as 1 / 0": directory(struct.pack("<HHII", 0x112, 5, 1, 26)) + struct.pack("<II", 1, 0),
        "orientation of an unknown type": directory(struct.pack("<HHII", 0x112, 99, 1, 6)),
        "orientation outside the file": directory(struct.pack("<HHII", 0x112, 3, 2**30, 0x7FFFFFF0)),
        "orientation -6": directory(struct.pack("<HHIi", 0x112, 9, 1, -6)),
    }
    for what, block in exif.items():
        yield f"EXIF, {what}", ".jpg", jpeg_with(0xE1, b"Exif\0\0" + block)
        yield f"EXIF of PNG, {what}", ".png", png_with(b"eXIf", block)
    for what in ("noise", "orientation 9", "a truncated directory"):
        yield f"EXIF of WebP, {what}", ".webp", saved(drawn(), "WEBP", exif=exif[what])
    make = directory(struct.pack("<HHI4s", 0x10F, 2, 4, b"abc\0"))
    yield "EXIF of AVIF, noise", ".avif", saved(drawn(), "AVIF", exif=make).replace(make, exif["noise"][: len(make)])
    yield "XMP, noise", ".jpg", jpeg_with(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta \xff\xfe")
    yield "XMP, orientation 9", ".jpg", jpeg_with(0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="9"/>')
    for what, block in {
        "empty": b"",
        "noise": b"\1\1" + random.Random(2).randbytes(500),
        "the second of one": b"\2\1" + bytes(99),
        "none of none": b"\0\0" + bytes(99),
        "cut": b"\1",
    }.items():
        yield f"ICC, {what}", ".jpg", jpeg_with(0xE2, b"ICC_PROFILE\0" + block)
    for what, block in {
        "noise": b"x\0\0" + random.Random(3).randbytes(99),
        "empty": b"",
        "another compression": b"x\0\7" + zlib.compress(bytes(9)),
        "a bomb": b"x\0\0" + zlib.compress(bytes(60_000_000)),
        "a name without end": b"x" * 99,
    }.items():
        yield f"ICC of PNG, {what}", ".png", png_with(b"iCCP", block)
    for kind in (b"iCCP", b"eXIf"):
        chunk = png_with(kind, bytes(20))
        yield f"{kind.decode()} of PNG, a wrong checksum", ".png", chunk[:61] + b"\xff" + chunk[62:]
    for format in ("WEBP", "TIFF", "AVIF"):
        yield f"ICC of {format}, noise", f".{format.lower()}", saved(drawn(), format, icc_profile=b"noise" * 30)
    for marker, block in ((0xE2, b"MPF\0" + bytes(9)), (0xED, b"Photoshop 3.0\0008BIM\4\4\0"), (0xEE, b"Adobe")):
        yield f"marker {marker:x}, broken", ".jpg", jpeg_with(marker, block)


def jpeg_with(marker: int, block: bytes) -> bytes:
    """Return a good JPEG with a segment of metadata at its start."""
    return JPEG[:2] + struct.pack(">BBH", 0xFF, marker, len(block) + 2) + block + JPEG[2:]


def png_with(kind: bytes, block: bytes) -> bytes:
    """Return a good PNG with another chunk after its header."""
    chunk = struct.pack(">I", len(block)) + kind + block + struct.pack(">I", zlib.crc32(kind + block))
    return PNG[:33] + chunk + PNG[33:]


# --- Names, and paths that are no regular file.


def names() -> Iterator[Hostile]:
    """Yield good images with names that shells, spreadsheets, CSV, terminals and Rich would misinterpret."""
    stems = {
        "a newline": b"new\nline",
        "a carriage return": b"carriage\rreturn",
        "both": b"both\r\nof them",
        "a tab": b"a\ttab",
        "quotes": b'\'single\' "double" ""',
        "a single quote character": b'"',
        "commas": b",a,,b,",
        "semicolons": b";a;b",
        "=": b"=1+1",
        "a formula": b'=HYPERLINK("http:\\\\x.example","x")',
        "-": b"-1",
        "an option": b"--force",
        "@": b"@SUM(A1)",
        "+": b"+1",
        "spaces": b"  two  spaces  ",
        "a trailing dot": b"dot.",
        "an escape that sets the colour": b"\x1b[31mred",
        "an escape that clears the screen": b"\x1b[2J\x1b[H",
        "an escape that sets the title": b"\x1b]0;owned\x07",
        "C1 controls": "\x9b31m\x85".encode(),
        "a bell and a backspace": b"\x07\x08\x7f",
        "Rich markup": b"[bold red]x[/] [link=http:x]y",
        "unbalanced markup": b"[/bold]",
        "an emoji code": b":boom:",
        "bytes that are not UTF-8": b"\xff\xfe\x80",
        "Latin-1": "Käse".encode("latin-1"),
        "truncated UTF-8": b"\xe2\x82",
        "a surrogate in UTF-8": b"\xed\xb2\x80",
        "a literal escape sequence": b"\\xff\\n",
        "percent codes": b"%00%2e%s%n",
        "right-to-left override": "gpj.\u202efdp".encode(),
        "zero-width characters": "a\u200bb\ufeff".encode(),
        "line separators": "a\u2028b\u2029c".encode(),
        "combining marks": ("e" + "\u0301" * 80).encode(),
        "emoji": "👩‍👩‍👧 🍌".encode(),
        "Arabic": "صورة".encode(),
        "shell": b"$(touch hacked) `x` | & ; > y",
        "a glob": b"*[a-z]?{1,2}",
        "a device name of Windows": b"CON",
        "255 bytes": b"x" * 251,
        "255 bytes of é": "é".encode() * 125 + b"e",
        "a comment": b"#",
        "a tilde": b"~",
    }
    for what, stem in stems.items():
        yield Hostile(f"a name with {what}", os.fsdecode(stem + b".jpg"), ("ok",), JPEG)
    yield Hostile("a folder with a hostile name", '\x1b[31m,\n\udcff"/=x.jpg', ("ok",), JPEG)
    yield Hostile("a suffix in mixed case", "x.JpEg", ("ok",), JPEG)
    yield Hostile("two suffixes", "x.txt.jpg", ("ok",), JPEG)
    yield Hostile("a suffix with a terminal escape", "x.\x1b[2J", (), b"not an image")


def link(to: str) -> Create:
    return lambda path: path.symlink_to(to)


def no_files() -> Iterator[Hostile]:
    """Yield links, folders, pipes and the like."""
    yield Hostile("a dangling link", "x.jpg", ("missing",), link("gone.jpg"))
    yield Hostile("a link to a path below a file", "x.jpg", ("missing",), link("/dev/null/x.jpg"))
    yield Hostile("a link to itself", "x.jpg", ("missing",), link("x.jpg"))
    yield Hostile("a link through another to itself", "x.jpg", ("missing",), circular_links)
    yield Hostile("a link to more links than the system follows", "x.jpg", ("missing",), long_chain)
    yield Hostile("a link with hostile characters", "x.jpg", ("missing",), link("\x1b[2J\n.jpg"))
    yield Hostile("a link to the folder above", "x.jpg", (), link(".."))
    yield Hostile("a link to its own folder", "x.jpg", (), link("."))
    yield Hostile("a link to a photo", "x.jpg", ("ok",), lambda path: path.symlink_to(hidden_image(path)))
    yield Hostile("a hard link", "x.jpg", ("ok",), lambda path: path.hardlink_to(path.with_name(hidden_image(path))))
    yield Hostile("a link to a device", "x.jpg", ("unsupported",), link("/dev/zero"))
    yield Hostile("a link to the terminal", "x.jpg", ("unsupported",), link("/dev/tty"))
    yield Hostile("a folder with a photo", "x.jpg/x.jpg", ("ok",), JPEG)
    yield Hostile("an empty folder", "x.jpg", (), lambda path: path.mkdir())
    yield Hostile("a named pipe", "x.jpg", ("unsupported",), os.mkfifo)
    yield Hostile("a socket", "x.jpg", ("unsupported",), socket_at)
    yield Hostile("a hidden file", ".x.jpg", (), JPEG)
    if Path("/proc/self/mem").exists():
        yield Hostile("a file that cannot be read", "x.jpg", ("failed",), link("/proc/self/mem"))


def hidden_image(path: Path) -> str:
    """Create a hidden image beside `path`, which is not listed; return its name."""
    path.with_name(".photo.jpg").write_bytes(JPEG)
    return ".photo.jpg"


def circular_links(path: Path) -> None:
    path.symlink_to(".other.jpg")
    path.with_name(".other.jpg").symlink_to("x.jpg")


def long_chain(path: Path) -> None:
    path.symlink_to(".0.jpg")
    for number in range(60):
        path.with_name(f".{number}.jpg").symlink_to(f".{number + 1}.jpg")
    path.with_name(".60.jpg").write_bytes(JPEG)


def socket_at(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # the address of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(before)


# --- Files that are denied, deleted or replaced between two system calls.


@contextmanager
def moved_away(path: str) -> Iterator[None]:
    """Move the file away."""
    aside = Path(path).rename(f"{path} aside")
    try:
        yield
    finally:
        aside.rename(path)


@contextmanager
def replaced(create: Create, path: str) -> Iterator[None]:
    """Put something else in place of the file."""
    with moved_away(path):
        create(Path(path))
        try:
            yield
        finally:
            (os.rmdir if create is os.mkdir else os.unlink)(path)


@contextmanager
def failing(number: int, path: str) -> Iterator[None]:
    """Raise the error of a system call: root may read everything, so it is simulated."""
    raise OSError(number, os.strerror(number), path)
    yield


def without_memory() -> Iterator[Hostile]:
    """Yield a file that there is no memory to open.

    All workers are killed then. No other worker may be reading one of `changing` at that moment, which would stay
    moved away: so this file is far from those.
    """
    number = errno.ENOMEM
    yield Hostile(f"open: {os.strerror(number)}", "x.jpg", ("failed",), JPEG, "open", partial(failing, number))


def changing() -> Iterator[Hostile]:
    """Yield files that are denied, or that change between the system calls that read them."""
    for number in (errno.EACCES, errno.EPERM):
        for call in ("stat", "open"):
            yield Hostile(f"{call}: {os.strerror(number)}", "x.jpg", ("denied",), JPEG, call, partial(failing, number))
    for number in (errno.EIO, errno.ESTALE, errno.EMFILE):
        yield Hostile(f"open: {os.strerror(number)}", "x.jpg", ("failed",), JPEG, "open", partial(failing, number))
    for call in ("stat", "open"):
        yield Hostile(f"it is deleted before {call}", "x.jpg", ("missing",), JPEG, call, moved_away)
    others: dict[str, tuple[str, Create]] = {
        "a named pipe": ("unsupported", os.mkfifo),
        "a folder": ("unsupported", os.mkdir),
        "a socket": ("unsupported", socket_at),
        "a link to itself": ("missing", link("x.jpg")),
        "an empty file": ("corrupt", Path.touch),
        "text": ("corrupt", lambda path: path.write_text("not an image")),
    }
    for what, (status, create) in others.items():
        yield Hostile(f"it is replaced by {what}", "x.jpg", (status,), JPEG, "open", partial(replaced, create))


def with_interference(call: str, rows: list[tuple[str, Hostile | None]]) -> Callable[..., Any]:
    """Return os.open or os.stat with the interference of the hostile files."""
    system = getattr(os, call)
    interferences = {path: file.interference for path, file in rows if file and file.call == call}

    def called(path: Any, *args: Any, **kwargs: Any) -> Any:
        interference = interferences.get(path) if isinstance(path, str) else None
        with interference(path) if interference else nullcontext():
            return system(path, *args, **kwargs)

    return called


if __name__ == "__main__":
    print(f"{len(write(Path(sys.argv[1])))} rows")
