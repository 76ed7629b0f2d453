"""Hostile files, drawn up: for each kind what it is, what its row says (DESIGN section 5), and how it is made.

python tests/hostile.py DIR   # a folder of them, each between two good pictures
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

from inception_cli.images.inputs import FOREIGN_SUFFIXES

Make = Callable[[Path], object]
DAMAGED = ("ok", "truncated", "corrupt", "too_large", "unsupported")  # what may become of any bytes


@dataclass(frozen=True)
class Kind:
    """A kind of hostile file."""

    what: str  # in words
    name: str  # of the file, within a folder of its own
    statuses: tuple[str, ...]  # those that its row may have; none: it has no row
    make: bytes | Make  # its content, or what puts it there
    call: str = ""  # open or stat:
    befalls: Callable[[str], AbstractContextManager[None]] | None = None  # what befalls it while that is called


def kinds() -> list[Kind]:
    """All of them, always the same."""
    groups = cut, flipped, bombs, no_pictures, wrong_suffixes, shapes, jpegs, odd_headers, names, no_files, in_flight
    metadata = [Kind(f"metadata: {what}", f"m{suffix}", ("ok",), data) for what, suffix, data in broken_metadata()]
    return [*(kind for group in groups for kind in group()), *metadata]


def write(folder: Path) -> list[tuple[str, Kind | None]]:
    """The kinds into `folder`, a good picture before and after each: (path, its kind), in the order of the rows."""
    folder.mkdir()
    (folder / "!.jpg").write_bytes(good(0))
    rows: list[tuple[str, Kind | None]] = [(f"{folder}/!.jpg", None)]
    for number, kind in enumerate(kinds()):
        own = folder / f"{number:03}"
        path = own / kind.name
        path.parent.mkdir(parents=True)
        if callable(kind.make):
            kind.make(path)
        else:
            path.write_bytes(kind.make)
        own.with_suffix(".jpg").write_bytes(good(number + 1))
        rows += [(str(path), kind)] if kind.statuses else []
        rows.append((f"{own}.jpg", None))
    return rows


def good(number: int) -> bytes:
    """One of the pictures that have nothing to do with each other."""
    number %= GOOD_PICTURES
    if number not in GOOD:
        rng = np.random.default_rng(number)
        grid = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        GOOD[number] = saved(grid.resize((100 + number, 90), Image.Resampling.BICUBIC), "JPEG", quality=90)
    return GOOD[number]


GOOD_PICTURES = 37
GOOD: dict[int, bytes] = {}
JPEG, PNG = FORMATS["jpeg"][1], FORMATS["png"][1]


# --- Bytes that are wrong.


def cut() -> Iterator[Kind]:
    """Every format cut at ten places: once in its header, nine times behind it."""
    for what, (suffix, data, header) in FORMATS.items():
        length = min(header - 1, 6)
        yield Kind(f"{what} cut at {length}", f"cut{suffix}", ("corrupt",), data[:length])
        for length in lengths_of_cuts(what, 9):
            yield Kind(f"{what} cut at {length}", f"cut{suffix}", ("truncated",), data[:length])


def flipped() -> Iterator[Kind]:
    """Every format once with bytes that are wrong."""
    for seed in range(len(FORMATS)):
        suffix, data = fuzzed(seed)
        yield Kind(f"bytes flipped by seed {seed}", f"flipped{suffix}", DAMAGED, data)


def fuzzed(seed: int) -> tuple[str, bytes]:
    """A suffix, and a file of that format with some damage: bytes flipped, blanked, left out, doubled, cut or added."""
    rng = random.Random(seed)
    suffix, whole, header = list(FORMATS.values())[seed % len(FORMATS)]
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(min(len(data), header + 20) if rng.random() < 0.5 else len(data))  # the header breaks more
        run = slice(at, at + rng.choice((1, 2, 4, 8, 64, 700)))
        match rng.randrange(10):
            case 0:
                data[run] = bytes(len(data[run]))
            case 1:
                data[run] = b"\xff" * len(data[run])
            case 2:
                del data[run]
            case 3:
                data[at:at] = data[run]
            case 4:
                data[at:at] = rng.randbytes(rng.choice((1, 4, 64)))
            case 5:
                del data[max(at, 8) :]
            case _:
                data[at] ^= rng.randrange(1, 256)
        if not data:
            break
    return suffix, bytes(data)


def bombs() -> Iterator[Kind]:
    """Headers of 30,000 × 30,000 and more."""
    for what, suffix, data in bomb_files():
        yield Kind(f"bomb: {what}", f"bomb{suffix}", ("too_large",), data)


def bomb_files() -> Iterator[tuple[str, str, bytes]]:
    """What, suffix and bytes of small files that would be giants, all over the default bound of 500 million pixels."""
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
    """A little-endian TIFF that says it is so wide and so high."""
    changed = bytearray(data)
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, at)[0] in (256, 257):
            struct.pack_into("<HII", changed, at + 2, 4, 1, side)
    return bytes(changed)


def no_pictures() -> Iterator[Kind]:
    """What is no picture, under the names of pictures."""
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("photo.jpg", JPEG)
    contents = {
        "nothing": b"",
        "one byte": b"\xff",
        "a line end": b"\n",
        "zeros": bytes(5000),
        "ones": b"\xff" * 5000,
        "noise": random.Random(0).randbytes(5000),
        "text": b"This is not a photo.\n" * 50,
        "UTF-16": "not a photo".encode("utf-16"),
        "HTML": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "HTML behind blank lines": b"\n\n  <html><title>Sign in</title></html>",
        "JSON": b'{"error": "rate limit"}',
        "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n",
        "a ZIP archive": archive.getvalue(),
        "gzip": zlib.compress(JPEG, wbits=31),
        "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n",
        "a film": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(99),
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run quit\n",
        "an executable": b"\x7fELF\x02\x01\x01" + bytes(99),
        "a shell script": b"#!/bin/sh\ntouch hacked\n",
        "a pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        "a resource fork": b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(99),
        "terminal escapes": b"\x1b]0;owned\x07\x1b[2J" * 20,
        "SOI alone": b"\xff\xd8",
        "SOI and EOI": b"\xff\xd8\xff\xd9",
        "a signature of PNG alone": PNG[:8],
        "a photo behind a line of text": b"HTTP/1.1 200 OK\r\n\r\n" + JPEG,
        "a photo in base64": b"/9j/4AAQSkZJRgABAQ==",
        "a photo, line ends changed": PNG.replace(b"\r\n", b"\n"),
    }
    for what, data in contents.items():
        yield Kind(f"{what} named .jpg", "x.jpg", ("corrupt",), data)
    for suffix in (".png", ".gif", ".tif", ".webp", ".tga", ".ico"):
        yield Kind(f"nothing named {suffix}", f"x{suffix}", ("corrupt",), b"")
        yield Kind(f"zeros named {suffix}", f"x{suffix}", ("corrupt",), bytes(999))
    either = ("unsupported", "corrupt")  # as pillow-heif is not installed, or is
    for suffix, kind in FOREIGN_SUFFIXES.items():
        statuses = either if kind == "HEIC" else ("unsupported",)
        yield Kind(f"another format, {suffix}", f"x{suffix}", statuses, b"what we do not read " * 9)
    for what, start in {"HEIC": b"\0\0\0\x18ftypheic", "PSD": b"8BPS\0\1", "SVG": b"<svg>", "JXL": b"\xff\x0a"}.items():
        statuses = either if what == "HEIC" else ("unsupported",)
        yield Kind(f"{what} named .jpg", "x.jpg", statuses, start + bytes(99))


def wrong_suffixes() -> Iterator[Kind]:
    """Every format named otherwise: read by its signature, where it has one."""
    for what, (suffix, data, _) in FORMATS.items():
        wrong = ".png" if suffix in (".jpg", ".jpeg") else ".JPG"
        signed = not what.startswith(("tga", "dib"))
        yield Kind(f"{what} named {wrong}", f"x{wrong}", ("ok",) if signed else ("corrupt",), data)
    yield Kind("JPEG named .heic", "x.heic", ("ok",), JPEG)
    yield Kind("TIFF named .dng", "x.dng", ("unsupported",), FORMATS["tiff"][1])
    yield Kind("JPEG named .tga", "x.tga", ("ok",), JPEG)


def shapes() -> Iterator[Kind]:
    """Extreme shapes."""
    for width, height in ((1, 1), (1, 2), (3, 1), (1, 20_000), (20_000, 1), (2, 65_000), (65_000, 2)):
        image = drawn(width, height)
        for format in ("PNG", "JPEG", "TIFF"):
            yield Kind(f"{format} of {width} × {height}", f"x.{format.lower()}", ("ok",), saved(image, format))


# Two of 32 × 24, made by libjpeg-turbo's `jpegtran -arithmetic` and `-arithmetic -progressive`: Pillow writes none.
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


def jpegs() -> Iterator[Kind]:
    """JPEGs that a camera seldom writes."""
    progressive = FORMATS["progressive"][1]
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    frame = JPEG.index(b"\xff\xc0\0\x11")
    tables = JPEG.index(b"\xff\xc4")
    coded = ARITHMETIC["arithmetic"]
    length = 65_536 - coded.index(b"\xff\xda") - 40  # of a block that puts the 65,536th byte within the scan
    block = struct.pack(">HH", 0xFFEF, length - 2) + bytes(length - 4)
    ok = {
        **ARITHMETIC,
        "progressive": progressive,
        "its last scan a hundred times": progressive[:-2] + scan * 100 + b"\xff\xd9",
        "CMYK": saved(drawn().convert("CMYK"), "JPEG"),
        "grey": saved(drawn().convert("L"), "JPEG"),
        "restart markers": saved(drawn(), "JPEG", restart_marker_blocks=1),
        "arithmetic across two blocks of reading": coded[:2] + block + coded[2:],
        "junk behind its end": JPEG + b"<?php system($_GET['x']) ?>" * 99,
        "a second photo behind its end": JPEG + JPEG,
        "comments that a terminal would obey": saved(drawn(), "JPEG", comment=b"\x1b[2J\x1b]0;owned\x07[bold]"),
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
        yield from (Kind(f"JPEG, {what}", "x.jpg", (status,), data) for what, data in some.items())
    for what, data in ARITHMETIC.items():
        yield Kind(f"JPEG, {what}, cut", "x.jpg", ("truncated",), data[: len(data) - 40])


def odd_headers() -> Iterator[Kind]:
    """Headers that lie in other ways, or say what is seldom said."""
    gif, bmp, tiff = (FORMATS[name][1] for name in ("gif", "bmp", "tiff"))
    (directory,) = struct.unpack_from("<I", tiff, 4)
    frames = [drawn(), drawn().rotate(180)]
    yield Kind("PNG of no width", "x.png", ("corrupt",), png_header(0, 10))
    yield Kind("PNG with a wrong checksum", "x.png", ("corrupt",), PNG[:29] + b"\0\0\0\0" + PNG[33:])
    yield Kind(
        "PNG with text of 60 MB", "x.png", DAMAGED, png_with(b"zTXt", b"x\0\0" + zlib.compress(bytes(60_000_000)))
    )
    yield Kind("PNG, a film", "x.png", ("ok",), saved(frames[0], "PNG", save_all=True, append_images=frames[1:]))
    yield Kind("GIF, a film", "x.gif", ("ok",), saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    yield Kind("WebP, a film", "x.webp", ("ok",), saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    yield Kind("GIF without a picture", "x.gif", ("corrupt", "truncated"), gif[:6] + b"\x08\0\x08\0\0\0\0;")
    yield Kind("GIF of no size", "x.gif", ("ok",), gif[:6] + bytes(4) + gif[10:])
    yield Kind("BMP, top first", "x.bmp", ("ok",), bmp[:22] + struct.pack("<i", -60) + bmp[26:])
    yield Kind("BMP of the lowest height", "x.bmp", ("too_large",), bmp[:22] + struct.pack("<i", -(2**31)) + bmp[26:])
    yield Kind("BMP whose pixels lie nowhere", "x.bmp", ("truncated",), bmp[:10] + b"\xff\xff\xff\x7f" + bmp[14:])
    yield Kind("TIFF whose directory is nowhere", "x.tif", ("truncated",), tiff[:4] + b"\xf0\xff\xff\xff" + tiff[8:])
    yield Kind("TIFF whose directory is its header", "x.tif", ("corrupt", "truncated"), tiff[:4] + bytes(4) + tiff[8:])
    at = tiff.index(struct.pack("<HHI", 277, 3, 1)) + 8
    yield Kind("TIFF of 211 samples a pixel", "x.tif", ("corrupt",), tiff[:at] + b"\xd3" + tiff[at + 1 :])
    looped = tiff[: directory + 2 + 12 * tiff[directory]] + struct.pack("<I", directory)
    yield Kind("TIFF whose directories loop", "x.tif", ("ok", "truncated"), looped + tiff[len(looped) :])
    yield Kind("PPM of a maximum of 0", "x.ppm", ("corrupt",), b"P6 4 4 0\n" + bytes(48))
    yield Kind("PPM of letters", "x.ppm", ("corrupt",), b"P6 four 4 255\n" + bytes(48))
    yield Kind("PPM of 400 digits", "x.ppm", ("corrupt", "too_large"), b"P6 " + b"9" * 400 + b" 4 255\n")
    yield Kind("PFM of no numbers", "x.pfm", ("ok",), b"Pf 8 8 -1.0\n" + struct.pack("<64f", *[float("nan")] * 64))
    yield Kind("ICO without a picture", "x.ico", ("corrupt", "truncated"), b"\0\0\1\0\0\0" + bytes(99))
    icon = struct.pack("<3H4B2H2I", 0, 1, 1, 8, 8, 0, 0, 1, 32, 400, 0)
    yield Kind("ICO that holds itself", "x.ico", ("corrupt", "truncated"), icon + bytes(400))
    yield Kind("LAB colours", "x.tif", ("unsupported",), saved(Image.new("LAB", (8, 8)), "TIFF"))


# --- Metadata that is broken: the picture is whole.


def broken_metadata() -> Iterator[tuple[str, str, bytes]]:
    """What, suffix and bytes of whole pictures with broken EXIF or ICC data."""
    six = struct.pack("<HHII", 0x112, 3, 1, 6)

    def directory(*entries: bytes, after: int = 0) -> bytes:
        return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", after)

    exif = {
        "nothing": b"",
        "noise": random.Random(1).randbytes(80),
        "a header alone": b"II*\0\x08\0\0\0",
        "another byte order": b"XX*\0\x08\0\0\0" + directory(six)[8:],
        "a directory that is nowhere": b"II*\0\xff\xff\xff\x7f" + directory(six)[8:],
        "a directory cut": directory(six)[:14],
        "orientation 0": directory(struct.pack("<HHII", 0x112, 3, 1, 0)),
        "orientation 9": directory(struct.pack("<HHII", 0x112, 3, 1, 9)),
        "orientation 65535": directory(struct.pack("<HHII", 0x112, 3, 1, 65_535)),
        "orientation as text": directory(struct.pack("<HHI4s", 0x112, 2, 4, b"six\0")),
        "orientation as 1 / 0": directory(struct.pack("<HHII", 0x112, 5, 1, 26)) + struct.pack("<II", 1, 0),
        "orientation of an unknown type": directory(struct.pack("<HHII", 0x112, 99, 1, 6)),
        "orientation that lies nowhere": directory(struct.pack("<HHII", 0x112, 3, 2**30, 0x7FFFFFF0)),
        "orientation -6": directory(struct.pack("<HHIi", 0x112, 9, 1, -6)),
    }
    for what, block in exif.items():
        yield f"EXIF, {what}", ".jpg", jpeg_with(0xE1, b"Exif\0\0" + block)
        yield f"EXIF of PNG, {what}", ".png", png_with(b"eXIf", block)
    for what in ("noise", "orientation 9", "a directory cut"):
        yield f"EXIF of WebP, {what}", ".webp", saved(drawn(), "WEBP", exif=exif[what])
    make = directory(struct.pack("<HHI4s", 0x10F, 2, 4, b"abc\0"))
    yield "EXIF of AVIF, noise", ".avif", saved(drawn(), "AVIF", exif=make).replace(make, exif["noise"][: len(make)])
    yield "XMP, noise", ".jpg", jpeg_with(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta \xff\xfe")
    yield "XMP, orientation 9", ".jpg", jpeg_with(0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="9"/>')
    for what, block in {
        "nothing": b"",
        "noise": b"\1\1" + random.Random(2).randbytes(500),
        "the second of one": b"\2\1" + bytes(99),
        "none of none": b"\0\0" + bytes(99),
        "cut": b"\1",
    }.items():
        yield f"ICC, {what}", ".jpg", jpeg_with(0xE2, b"ICC_PROFILE\0" + block)
    for what, block in {
        "noise": b"x\0\0" + random.Random(3).randbytes(99),
        "nothing": b"",
        "another compression": b"x\0\7" + zlib.compress(bytes(9)),
        "a bomb": b"x\0\0" + zlib.compress(bytes(60_000_000)),
        "no name's end": b"x" * 99,
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
    """A good JPEG with a block of metadata at its start."""
    return JPEG[:2] + struct.pack(">BBH", 0xFF, marker, len(block) + 2) + block + JPEG[2:]


def png_with(kind: bytes, block: bytes) -> bytes:
    """A good PNG with a chunk behind its header."""
    chunk = struct.pack(">I", len(block)) + kind + block + struct.pack(">I", zlib.crc32(kind + block))
    return PNG[:33] + chunk + PNG[33:]


# --- Names, and what is no file.


def names() -> Iterator[Kind]:
    """Good pictures under names that shells, spreadsheets, CSV, terminals and Rich take for something else."""
    stems = {
        "a newline": b"new\nline",
        "a carriage return": b"carriage\rreturn",
        "both": b"both\r\nof them",
        "a tab": b"a\ttab",
        "quotes": b'\'single\' "double" ""',
        "a quote alone": b'"',
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
        "a colour": b"\x1b[31mred",
        "a cleared screen": b"\x1b[2J\x1b[H",
        "a title": b"\x1b]0;owned\x07",
        "C1 controls": "\x9b31m\x85".encode(),
        "a bell and a backspace": b"\x07\x08\x7f",
        "Rich markup": b"[bold red]x[/] [link=http:x]y",
        "markup that is not closed": b"[/bold]",
        "an emoji's code": b":boom:",
        "no UTF-8": b"\xff\xfe\x80",
        "Latin-1": "Käse".encode("latin-1"),
        "a cut UTF-8": b"\xe2\x82",
        "a surrogate in UTF-8": b"\xed\xb2\x80",
        "an escape spelt out": b"\\xff\\n",
        "percent codes": b"%00%2e%s%n",
        "a direction turned": "gpj.\u202efdp".encode(),
        "no width": "a\u200bb\ufeff".encode(),
        "line separators": "a\u2028b\u2029c".encode(),
        "combining marks": ("e" + "\u0301" * 80).encode(),
        "emoji": "👩‍👩‍👧 🍌".encode(),
        "Arabic": "صورة".encode(),
        "shell": b"$(touch hacked) `x` | & ; > y",
        "a glob": b"*[a-z]?{1,2}",
        "a name of a device": b"CON",
        "255 bytes": b"x" * 251,
        "255 bytes of é": "é".encode() * 125 + b"e",
        "a comment": b"#",
        "a tilde": b"~",
    }
    for what, stem in stems.items():
        yield Kind(f"a name with {what}", os.fsdecode(stem + b".jpg"), ("ok",), JPEG)
    yield Kind("a folder whose name is hostile", '\x1b[31m,\n\udcff"/=x.jpg', ("ok",), JPEG)
    yield Kind("a suffix in mixed case", "x.JpEg", ("ok",), JPEG)
    yield Kind("two suffixes", "x.txt.jpg", ("ok",), JPEG)
    yield Kind("a suffix that a terminal would obey", "x.\x1b[2J", (), b"no picture")


def linked(to: str) -> Make:
    return lambda path: path.symlink_to(to)


def no_files() -> Iterator[Kind]:
    """Links, folders, pipes and the like."""
    yield Kind("a link that leads nowhere", "x.jpg", ("missing",), linked("gone.jpg"))
    yield Kind("a link to an empty name below a file", "x.jpg", ("missing",), linked("/dev/null/x.jpg"))
    yield Kind("a link to itself", "x.jpg", ("missing",), linked("x.jpg"))
    yield Kind("a link through another to itself", "x.jpg", ("missing",), looping)
    yield Kind("a link to more links than are followed", "x.jpg", ("missing",), chained)
    yield Kind("a link of hostile letters", "x.jpg", ("missing",), linked("\x1b[2J\n.jpg"))
    yield Kind("a link to the folder above", "x.jpg", (), linked(".."))
    yield Kind("a link to its own folder", "x.jpg", (), linked("."))
    yield Kind("a link to a photo", "x.jpg", ("ok",), lambda path: path.symlink_to(hidden(path)))
    yield Kind("a hard link", "x.jpg", ("ok",), lambda path: path.hardlink_to(path.with_name(hidden(path))))
    yield Kind("a link to a device", "x.jpg", ("unsupported",), linked("/dev/zero"))
    yield Kind("a link to the terminal", "x.jpg", ("unsupported",), linked("/dev/tty"))
    yield Kind("a folder with a photo", "x.jpg/x.jpg", ("ok",), JPEG)
    yield Kind("a folder with nothing", "x.jpg", (), lambda path: path.mkdir())
    yield Kind("a named pipe", "x.jpg", ("unsupported",), os.mkfifo)
    yield Kind("a socket", "x.jpg", ("unsupported",), socket_at)
    yield Kind("a hidden file", ".x.jpg", (), JPEG)
    if Path("/proc/self/mem").exists():
        yield Kind("a file that cannot be read", "x.jpg", ("failed",), linked("/proc/self/mem"))


def hidden(path: Path) -> str:
    """A photo beside `path` that no walk lists; its name."""
    path.with_name(".photo.jpg").write_bytes(JPEG)
    return ".photo.jpg"


def looping(path: Path) -> None:
    path.symlink_to(".other.jpg")
    path.with_name(".other.jpg").symlink_to("x.jpg")


def chained(path: Path) -> None:
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


# --- Files that are denied, or vanish, or are replaced between two calls.


@contextmanager
def gone(path: str) -> Iterator[None]:
    """Nothing is at `path`."""
    aside = Path(path).rename(f"{path} aside")
    try:
        yield
    finally:
        aside.rename(path)


@contextmanager
def replaced(make: Make, path: str) -> Iterator[None]:
    """Something else is at `path`."""
    with gone(path):
        make(Path(path))
        try:
            yield
        finally:
            (os.rmdir if make is os.mkdir else os.unlink)(path)


@contextmanager
def refused(number: int, path: str) -> Iterator[None]:
    """The system says no: root is denied nothing, so it is said here."""
    raise OSError(number, os.strerror(number), path)
    yield


def in_flight() -> Iterator[Kind]:
    """Files that are denied, or that something befalls between the system calls of one reading."""
    for number in (errno.EACCES, errno.EPERM):
        for call in ("stat", "open"):
            yield Kind(f"{call}: {os.strerror(number)}", "x.jpg", ("denied",), JPEG, call, partial(refused, number))
    for number in (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOMEM):
        yield Kind(f"open: {os.strerror(number)}", "x.jpg", ("failed",), JPEG, "open", partial(refused, number))
    for call in ("stat", "open"):
        yield Kind(f"it vanishes before {call}", "x.jpg", ("missing",), JPEG, call, gone)
    others: dict[str, tuple[str, Make]] = {
        "a named pipe": ("unsupported", os.mkfifo),
        "a folder": ("unsupported", os.mkdir),
        "a socket": ("unsupported", socket_at),
        "a link to itself": ("missing", linked("x.jpg")),
        "nothing but a name": ("corrupt", Path.touch),
        "text": ("corrupt", lambda path: path.write_text("no photo")),
    }
    for what, (status, make) in others.items():
        yield Kind(f"{what} takes its place", "x.jpg", (status,), JPEG, "open", partial(replaced, make))


def befallen(call: str, rows: list[tuple[str, Kind | None]]) -> Callable[..., Any]:
    """os.open or os.stat, while it befalls the files what their kinds say."""
    system = getattr(os, call)
    befalls = {path: kind.befalls for path, kind in rows if kind and kind.befalls and kind.call == call}

    def asked(path: Any, *words: Any, **named: Any) -> Any:
        befall = befalls.get(path) if isinstance(path, str) else None
        with befall(path) if befall else nullcontext():
            return system(path, *words, **named)

    return asked


if __name__ == "__main__":
    print(f"{len(write(Path(sys.argv[1])))} rows")
