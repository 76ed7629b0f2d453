"""Decode a file to an RGB image, or say why it cannot be read. No file makes these functions raise."""

import errno
import io
import os
import re
import stat
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile

from inception_cli.config import PixelConfig
from inception_cli.files import remote
from inception_cli.files.streams import stderr_muted
from inception_cli.images import bmp, corruption, heif, jpeg, tiff
from inception_cli.images.colour import to_rgb
from inception_cli.images.corruption import TrackedFile
from inception_cli.images.discovery import RAW, UNSUPPORTED_SUFFIXES, suffix_of
from inception_cli.images.failure import NO_SUCH_FILE, OUT_OF_MEMORY, Failure, Unreadable, os_failure
from inception_cli.images.load import load_rgb
from inception_cli.images.pillow_settings import strict_pillow
from inception_cli.images.preprocess import short_sides
from inception_cli.images.scaled_image import INFO_KEY, ScaleInfo

__all__ = ["Failure", "FetchedFile", "Jpeg", "Source", "read", "read_jpeg"]

#: Pillow's names of the formats that are read; none of them starts another program. MPO is read as JPEG.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF", "ICO", "QOI")
#: Formats without a signature, which would accept many damaged files of other formats: only tried for their suffix.
UNSIGNED_FORMATS = {".tga": "TGA", ".icb": "TGA", ".vda": "TGA", ".vst": "TGA", ".dib": "DIB"}
EXIF_SEGMENT = re.compile(rb"(\xff\xe1..)Exif\0\0.{4}", re.DOTALL)  # of a JPEG: marker, length, name, header
TRANSPOSITIONS = {  # by EXIF orientation, as in PIL.ImageOps.exif_transpose
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MAX_JPEG = 64_000_000  # bytes and pixels of a JPEG that a GPU decodes: larger ones leave it too little memory
DECODER_ERRNO = (None, errno.EINVAL, errno.EOVERFLOW)  # of an OSError that a decoder raises, also by a wrong seek


@dataclass(frozen=True)
class FetchedFile:
    """A remote file that was fetched: its bytes, or why there are none."""

    path: str
    data: bytes | Failure


Source = str | FetchedFile


@dataclass(frozen=True)
class Jpeg:
    """A JPEG that is not decoded yet: the bytes of its file, its number of pixels and its EXIF orientation.

    The start of the EXIF segment is overwritten: some decoders would turn the image, even without `config.exif`.
    """

    data: NDArray[np.uint8]
    pixels: int
    orientation: int = 1


def read(source: Source, config: PixelConfig) -> Image.Image | Failure:
    """Return the image in a file as RGB, upright if `config.exif`, or why it cannot be read.

    With `config.fast` a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size; `scale_info` returns the original size.
    """
    path = source if isinstance(source, str) else source.path
    try:
        with _open(source) as file:
            if not file.peek(1):
                return Failure("corrupt", "the file is empty")
            return _read_image(file, suffix_of(path), config)
    except Unreadable as unreadable:
        return unreadable.failure
    except OSError as error:
        failure = os_failure(error)
        if failure == NO_SUCH_FILE and remote.is_remote(path):
            return Failure("unsupported", "files in an object store are read with --engine ray")
        return failure
    except ValueError:  # a NUL in the path
        return Failure("missing", "not a valid file name")
    except MemoryError:
        return OUT_OF_MEMORY


def read_jpeg(source: Source, config: PixelConfig) -> Jpeg | None:
    """Return the file undecoded if it is a plain JPEG, which a GPU can decode; else None: `read` it.

    Plain: baseline, YCbCr or greyscale, whole as far as its markers tell, and at most MAX_JPEG bytes and pixels.
    """
    try:
        with _open(source) as file, strict_pillow(config.max_pixels):
            if file.peek(2)[:2] != corruption.JPEG_SIGNATURE or file.size() > MAX_JPEG:
                return None
            file.seek(0)
            data = file.read()
            image = Image.open(io.BytesIO(data), formats=("JPEG",))
            pixels = image.width * image.height
            rgb = image.info.get("adobe_transform") == 0 or [layer[0] for layer in image.layer] == [*b"RGB"]  # type: ignore[attr-defined]
            plain = image.mode == "L" or (image.mode == "RGB" and not rgb)
            if not plain or "progressive" in image.info or not jpeg.seems_whole(data):
                return None
            if pixels > min(config.max_pixels, MAX_JPEG):
                return None
            orientation = _orientation(image) if config.exif else 1
            return Jpeg(np.frombuffer(EXIF_SEGMENT.sub(rb"\1" + bytes(10), data), np.uint8), pixels, orientation)
    except Exception:  # `read` raises the same and reports it
        return None


def _open(source: Source) -> TrackedFile:
    """Open a regular file. Opening never waits, not even for a named pipe that replaces the file meanwhile."""
    if isinstance(source, FetchedFile):
        if isinstance(source.data, Failure):
            raise Unreadable(source.data.status, source.data.error)
        return TrackedFile(io.BytesIO(source.data))
    _require_regular(os.stat(source).st_mode)  # noqa: PTH116 - a Path would drop the slash of `x.jpg/`
    descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _require_regular(os.fstat(descriptor).st_mode)
        return TrackedFile(io.FileIO(descriptor))
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(mode: int) -> None:
    """Raise Unreadable unless a file is regular."""
    if stat.S_ISREG(mode):
        return
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    raise Unreadable("unsupported", f"{kinds.get(stat.S_IFMT(mode), 'a device')}, not a file")


def _read_image(file: TrackedFile, suffix: str, config: PixelConfig) -> Image.Image:
    """Decode a file, a second time without its metadata if the first time fails.

    Raises Unreadable for a bad file, OSError for an error of the disk, MemoryError.
    """
    if UNSUPPORTED_SUFFIXES.get(suffix) == RAW:  # most are TIFFs whose first image is a thumbnail
        raise corruption.unsupported(RAW)
    with strict_pillow(config.max_pixels):
        try:
            return _decode(file, suffix, config)
        except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, RecursionError …
            first = _unreadable(file, suffix, config, error)
        data = corruption.strip_metadata(file) if first.failure.status in ("corrupt", "truncated") else None
        if data is None:
            raise first
        try:
            return _decode(TrackedFile(io.BytesIO(data)), suffix, config)
        except Exception as error:
            second = _unreadable(file, suffix, config, error)
            raise second if second.failure.status == "too_large" else first from None


def _unreadable(file: TrackedFile, suffix: str, config: PixelConfig, error: Exception) -> Unreadable:
    """Return what a decoder's error means; raise it if it is an error of the disk, or if memory is short."""
    match error:
        case Unreadable():
            return error
        case Image.DecompressionBombError():
            pixels = re.search(r"\d+", str(error))
            return corruption.too_large(pixels[0] if pixels else "too many", config.max_pixels)
        case MemoryError():
            raise error
        case OSError() if "out of memory" in str(error):  # Pillow's text for a decoder
            raise MemoryError from error
        case OSError() if error.errno not in DECODER_ERRNO:
            raise error
        case _:
            return corruption.diagnose(file, suffix, error, config.max_pixels)


def _decode(file: TrackedFile, suffix: str, config: PixelConfig) -> Image.Image:
    """Decode a file to an upright RGB image."""
    if special := tiff.read(file, config.max_pixels) or bmp.read(file, config.max_pixels):
        return special
    data = jpeg.read_bytes(file)
    image = Image.open(file if data is None else io.BytesIO(data), formats=_formats(file, suffix))
    file.header_read = True
    width, height = image.size
    if width * height > config.max_pixels:
        raise corruption.too_large(f"{width} × {height}", config.max_pixels)
    side = 2 * max(short_sides(config))  # with fewer pixels the resize would miss some detail
    draft = image.draft(None, (side, side)) if config.fast else None  # None for all but JPEG
    if data is not None and isinstance(image, JpegImageFile):
        rgb = to_rgb(jpeg.load(image, data, scaled=image.size != (width, height)))
    else:
        with stderr_muted() if image.format == "TIFF" else nullcontext():  # libtiff prints a line for a damaged strip
            rgb = load_rgb(image, file)
    transposition = TRANSPOSITIONS.get(_orientation(image)) if config.exif else None
    scale = ScaleInfo(width, height, draft[1]) if draft else None
    if transposition is not None:
        scale = scale and scale.transposed(transposition, rgb.size)
        rgb = rgb.transpose(transposition)
    if scale:
        rgb.info[INFO_KEY] = scale
    return rgb


def _formats(file: TrackedFile, suffix: str) -> tuple[str, ...]:
    """Return Pillow's names of the formats to try."""
    unsigned = UNSIGNED_FORMATS.get(suffix)
    return (*FORMATS, *([unsigned] if unsigned else []), *heif.pillow_formats(file))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if there is none or the EXIF data are broken."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1
