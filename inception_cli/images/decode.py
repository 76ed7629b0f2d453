"""A file → an RGB picture, or a status with one line for people. Nothing here raises for a bad file."""

import errno
import io
import logging
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from inception_cli.images import heif
from inception_cli.images.containers import avif_pixels, plain
from inception_cli.images.damage import File, ends_early, size
from inception_cli.images.frame import KEY, Frame
from inception_cli.images.inputs import FOREIGN_SUFFIXES, RAW, suffix_of
from inception_cli.images.preprocess import Pixels, short_sides

# Nothing that starts another program. MPO comes by way of JPEG.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF", "ICO", "QOI")
# Formats without a signature would take any damaged file for theirs: they are tried for their own suffix alone.
UNSIGNED_FORMATS = {".tga": "TGA", ".icb": "TGA", ".vda": "TGA", ".vst": "TGA", ".dib": "DIB"}
FOREIGN_STARTS = {  # what people call it, by the first bytes, for files under another's suffix
    b"8BPS": "Photoshop",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"<svg": "SVG",
    b"FUJIFILM": RAW,
}
TURNS = {  # EXIF orientation → how to set the picture upright, as in PIL.ImageOps.exif_transpose
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LONGEST_ERROR = 160  # characters
LARGEST_UNDECODED = 64_000_000  # bytes and pixels: larger JPEGs would take a GPU's memory from the network
EIGHT_BITS = ((np.arange(65536) * 255 + 32767) // 65535).astype(np.uint8)  # grey of 16 bits → of 8, rounded
DECODERS_ERRNO = (None, errno.EINVAL, errno.EOVERFLOW)  # of an OSError by a decoder, or by its seeking to nowhere

logging.getLogger("PIL").addHandler(logging.NullHandler())  # or Python writes its complaints to standard error


@dataclass(frozen=True)
class Failure:
    """Why a file has no prediction: a status of the row's, and one line for people."""

    status: str
    error: str


@dataclass(frozen=True)
class Fetched:
    """A file of another machine's, fetched: its bytes, or why there are none."""

    path: str
    data: bytes | Failure


Source = str | Fetched


@dataclass(frozen=True)
class Jpeg:
    """A JPEG as it is in its file, for another to decode: its bytes, how many pixels, and its EXIF orientation."""

    data: NDArray[np.uint8]
    pixels: int
    turn: int = 1


class _Unreadable(Exception):
    """A file that is given up; carries the Failure."""

    def __init__(self, status: str, error: str) -> None:
        super().__init__(error)
        self.failure = Failure(status, error)


def read(source: Source, pixels: Pixels) -> Image.Image | Failure:
    """The picture at a path, or in a file fetched from afar, as RGB, upright if `pixels.exif`, or why there is none.

    A large JPEG may come at a half, a quarter or an eighth of its size if `pixels.fast`: its `info` holds the Frame.
    """
    path = source if isinstance(source, str) else source.path
    try:
        with _open(source) as file:
            if not file.peek(1):
                return Failure("corrupt", "the file is empty")
            return _picture(file, suffix_of(path), pixels)
    except _Unreadable as unreadable:
        return unreadable.failure
    except OSError as error:
        return refused(error)
    except ValueError:  # a NUL in the path
        return Failure("missing", "no file can have this name")


def undecoded(source: Source, pixels: Pixels) -> Jpeg | None:
    """A file as a decoder of plain JPEGs takes it, by its header; None where `read` is to say more.

    Plain: baseline, of YCbCr or greyscale, whole to its last two bytes, up to LARGEST_UNDECODED.
    """
    try:
        with _open(source) as file, _strict(pixels.max_pixels):
            if file.peek(2)[:2] != b"\xff\xd8" or size(file) > LARGEST_UNDECODED:
                return None
            file.seek(0)
            data = file.read()
            image = Image.open(io.BytesIO(data), formats=("JPEG",))
            count = image.width * image.height
            rgb = image.info.get("adobe_transform") == 0 or [layer[0] for layer in image.layer] == [*b"RGB"]  # type: ignore[attr-defined]
            taken = image.mode == "L" or (image.mode == "RGB" and not rgb)
            if not taken or "progressive" in image.info or not data.endswith(b"\xff\xd9"):
                return None
            if count > min(pixels.max_pixels, LARGEST_UNDECODED):
                return None
            return Jpeg(np.frombuffer(data, np.uint8), count, _orientation(image) if pixels.exif else 1)
    except Exception:  # whatever it is, it comes again
        return None


def _open(source: Source) -> File:
    """A regular file, opened; a FIFO is never waited for, not even one that takes the file's place meanwhile."""
    if isinstance(source, Fetched):
        if isinstance(source.data, Failure):
            raise _Unreadable(source.data.status, source.data.error)
        return File(io.BytesIO(source.data))
    _check_regular(os.stat(source).st_mode)  # noqa: PTH116 - a Path would drop the slash of `x.jpg/`
    descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _check_regular(os.fstat(descriptor).st_mode)
        return File(io.FileIO(descriptor))
    except BaseException:
        os.close(descriptor)
        raise


def _check_regular(mode: int) -> None:
    """Refuse what is no regular file."""
    if stat.S_ISREG(mode):
        return
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    raise _Unreadable("unsupported", f"{kinds.get(stat.S_IFMT(mode), 'a device')}, not a file")


def refused(error: OSError) -> Failure:
    """What the operating system said, as a status."""
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return Failure("missing", "no such file")
        case errno.ELOOP:
            return Failure("missing", "a link that leads to itself")
        case errno.ENAMETOOLONG:
            return Failure("missing", "no file can have a name this long")
        case errno.ENXIO:  # a socket took the file's place
            return Failure("unsupported", "a socket or a device, not a file")
        case errno.EACCES | errno.EPERM:
            return Failure("denied", "no permission to read it")
        case _:
            return Failure("failed", f"the file could not be read: {_line(error.strerror or error)}")


def _picture(file: File, suffix: str, pixels: Pixels) -> Image.Image:
    """The picture in a file, RGB; raises _Unreadable, and OSError when the disk fails."""
    if FOREIGN_SUFFIXES.get(suffix) == RAW:  # most are TIFFs whose first picture is a thumbnail
        raise _unsupported(RAW)
    with _strict(pixels.max_pixels):
        try:
            return _decode(file, suffix, pixels)
        except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, RecursionError …
            first = _why(file, suffix, pixels, error)
        data = plain(file, size(file)) if first.failure.status in ("corrupt", "truncated") else None
        if data is None:
            raise first
        try:
            return _decode(File(io.BytesIO(data)), suffix, pixels, block=len(data))
        except Exception as error:
            second = _why(file, suffix, pixels, error)
            raise second if second.failure.status == "too_large" else first from None


def _why(file: File, suffix: str, pixels: Pixels, error: Exception) -> _Unreadable:
    """What a decoder's error means; raises an OSError of the disk."""
    match error:
        case _Unreadable():
            return error
        case Image.DecompressionBombError():
            count = re.search(r"\d+", str(error))
            return _too_large(count[0] if count else "more", pixels.max_pixels)
        case MemoryError():
            return _Unreadable("too_large", "not enough memory for it (a lower --max-pixels passes it over)")
        case OSError() if error.errno not in DECODERS_ERRNO:
            raise error
        case _:
            return _damage(file, suffix, pixels, error)


def _too_large(count: int | str, max_pixels: int) -> _Unreadable:
    return _Unreadable("too_large", f"{count} pixels, over the bound of {max_pixels} (--max-pixels)")


def _decode(file: File, suffix: str, pixels: Pixels, block: int = ImageFile.MAXBLOCK) -> Image.Image:
    """Header, bound, scale, pixels (read in blocks of so many bytes), RGB, upright."""
    image = Image.open(file, formats=(*_formats(suffix), *heif.formats(file)))
    file.header_read = True
    width, height = image.size
    if width * height > pixels.max_pixels:
        raise _Unreadable(
            "too_large", f"{width} × {height} pixels, over the bound of {pixels.max_pixels} (--max-pixels)"
        )
    enough = 2 * max(short_sides(pixels))  # from less, the resize would not see all that it should
    draft = image.draft(None, (enough, enough)) if pixels.fast else None  # None for all but JPEG
    image.decodermaxblock = block
    with _libtiff_muted() if image.format == "TIFF" else nullcontext():
        image.load()
    turn = TURNS.get(_orientation(image)) if pixels.exif else None
    rgb = to_rgb(image)
    frame = Frame(width, height, draft[1]) if draft else None
    if turn is not None:
        frame = frame and frame.turned(turn, rgb.size)
        rgb = rgb.transpose(turn)
    if frame:
        rgb.info[KEY] = frame
    return rgb


class _Strict:
    """Pillow's global switches as this module needs them, whatever the process had set, and then as they were.

    Its bound on pixels is the run's: it raises at twice MAX_IMAGE_PIXELS, for tiles and frames too, which a header
    hides. Half a picture is no picture. Metadata that it would warn about is passed over. Several threads may read at
    once: the first one in sets the switches, the last one out sets them back.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._readers = 0
        self._before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, warnings.catch_warnings()

    @contextmanager
    def __call__(self, max_pixels: int) -> Iterator[None]:
        with self._lock:
            if self._readers == 0:
                self._before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, warnings.catch_warnings()
                self._before[2].__enter__()
                warnings.simplefilter("ignore")
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = (max_pixels + 1) // 2, False
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if self._readers == 0:
                    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, warned = self._before
                    warned.__exit__(None, None, None)


@contextmanager
def _libtiff_muted() -> Iterator[None]:
    """Keep off the terminal what libtiff writes to standard error: dozens of lines for a damaged file."""
    with _stderr:  # one thread at a time, or the second would keep the first one's silence
        try:
            kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        except OSError:  # nothing to mute, or no descriptor left
            yield
            return
        os.dup2(null, 2)
        os.close(null)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


_strict = _Strict()
_stderr = Lock()


def _after_fork() -> None:
    """A forked worker begins alone: the threads that held a lock in its parent will never let go of it here."""
    global _strict, _stderr
    _strict, _stderr = _Strict(), Lock()


os.register_at_fork(after_in_child=_after_fork)


def _formats(suffix: str) -> tuple[str, ...]:
    """Pillow's names of the formats to try."""
    unsigned = UNSIGNED_FORMATS.get(suffix)
    return (*FORMATS, unsigned) if unsigned else FORMATS


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or the data is broken."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes as RGB: alpha over white, deep greys scaled, the rest (palettes, CMYK) as convert does.

    So 8-bit greyscale, RGB and CMYK are what a publisher's `Image.convert("RGB")` sees.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(scale_deep(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    if image.mode == "LAB":
        raise _Unreadable("unsupported", "a picture in LAB colours; save it as RGB")
    return image.convert("RGB")


def scale_deep(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey values of 16 bits, 32 bits or floats as uint8, shape kept.

    The white of 16 bits is 65,535; that of 32 bits too, and that of floats 1, 255 or 65,535, the least that holds them
    all. Values beyond, or below zero, are stretched from the least to the largest.
    """
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return np.take(EIGHT_BITS, values)
    whites = (1, 255, 65535) if values.dtype.kind == "f" else (65535,)
    floats = np.nan_to_num(values.astype(np.float32), copy=False, nan=0, posinf=0, neginf=0)
    low, high = float(floats.min()), float(floats.max())
    if low < 0 or high > whites[-1]:
        floats -= low
        white = high - low
    else:
        white = next(white for white in whites if high <= white)
    floats *= 255 / white
    floats += 0.5
    return floats.astype(np.uint8)


def _damage(file: File, suffix: str, pixels: Pixels, error: Exception) -> _Unreadable:
    """What is wrong with a file that did not decode."""
    file.seek(0)
    start = file.read(64)
    kind = _foreign(start) or FOREIGN_SUFFIXES.get(suffix)
    if isinstance(error, UnidentifiedImageError) and kind and not (kind == heif.KIND and heif.readable()):
        return _unsupported(kind)
    if start[4:8] == b"ftyp" and (count := avif_pixels(file)) > pixels.max_pixels:
        return _too_large(count, pixels.max_pixels)
    if ends_early(file, start, error):
        return _Unreadable("truncated", "the file ends before the picture does")
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return _Unreadable("corrupt", "a web page, not a picture")
    if isinstance(error, UnidentifiedImageError):
        return _Unreadable("corrupt", "not a picture, or its header is damaged")
    if isinstance(error, OSError) and error.errno is not None:
        return _Unreadable("corrupt", "damaged picture: it points outside of the file")
    return _Unreadable("corrupt", f"damaged picture: {_line(error)}")


def _foreign(start: bytes) -> str | None:
    """What people call an image format that is not read, by a file's first bytes."""
    if heif.is_heif(start):
        return heif.KIND
    return next((kind for head, kind in FOREIGN_STARTS.items() if start.startswith(head)), None)


def _unsupported(kind: str) -> _Unreadable:
    if kind == heif.KIND:
        return _Unreadable("unsupported", heif.CURE)
    return _Unreadable("unsupported", f"{kind} files are not read; convert it to JPEG or PNG")


def _line(message: object) -> str:
    """An error as one short line of printable characters."""
    text = " ".join(str(message).split()) or type(message).__name__
    return "".join(c if c.isprintable() else "?" for c in text)[:LONGEST_ERROR]
