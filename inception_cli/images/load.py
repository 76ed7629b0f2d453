"""Load the pixels of an image that Pillow has opened, and do what Pillow leaves undone in some formats."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.IcoImagePlugin import IcoImageFile
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from inception_cli.images.colour import from_16_bits, is_invisible, over_white, to_rgb
from inception_cli.images.corruption import PNG_SIGNATURE, TrackedFile, unsupported
from inception_cli.images.failure import PILLOW_DECODES_IT, Unreadable

PNG_BITS = {"1": 1, "L;2": 2, "L;4": 4, "L": 8, "I;16B": 16, "RGB": 8, "RGB;16B": 16}  # of a sample, by raw mode
WEBP_ANIMATION = 0x02  # flag in the header of a WebP
JPEG_2000_SIZE = b"\xff\x4f\xff\x51"  # start of the codestream, and the marker of the segment with the depths
JPEG_2000_HEADER = 1_000_000  # bytes in which to look for it: an XMP box may be before
READ_SIZE = 1 << 20  # bytes
SECTOR = 512  # bytes: the least that file systems and downloads leave unwritten
QOI_END = bytes(7) + b"\1"
TGA_FOOTER = b"TRUEVISION-XFILE.\0"
TGA_ALPHA, TGA_PREMULTIPLIED_ALPHA = 3, 4  # values of the extension area's attributes type; lower: no alpha


def load_rgb(image: ImageFile, file: TrackedFile) -> Image.Image:
    """Return an image as RGB, loaded from its file; white is behind transparent parts and around smaller frames."""
    match image:
        case PngImageFile():
            return _png(image, file)
        case WebPImageFile():
            return _webp(image, file)
        case ImageFile(format="GIF"):
            return _gif(image)
    image.load()
    match image:
        case ImageFile(format="TGA"):
            return _tga(image, file)
        case ImageFile(format="QOI"):
            _require_qoi_end(file)
        case ImageFile(format="JPEG2000"):
            return _jpeg_2000(image, file)
        case IcoImageFile():
            return _icon(image, file)
        case ImageFile(format="BMP" | "DIB") if is_invisible(image):
            return image.convert("RGB")  # the fourth byte is not alpha then: Windows shows such files as opaque
    return to_rgb(image)


def _png(image: PngImageFile, file: TrackedFile) -> Image.Image:
    """Return a PNG as RGB, with the depth of its alpha and of its transparent colour."""
    if any(chunk[0] == b"CgBI" for chunk in image.private_chunks):
        raise unsupported("CgBI (PNG for iOS)")
    raw_mode = image.tile[0].args if image.tile else None
    # The first image is as large as the whole animation, whatever its frame says (PNG, 3rd edition, 11.3.6.2).
    image.tile = [tile._replace(extents=(0, 0, *image.size)) for tile in image.tile]
    transparency = image.info.get("transparency")  # before loading: libpng too ignores a tRNS chunk behind the pixels
    image.load()
    _require_png_checksums(file, 0)
    image.info.pop("transparency", None)
    if image.mode == "P":
        image.info |= {} if transparency is None else {"transparency": transparency}
        return to_rgb(image)
    if raw_mode in ("RGBA;16B", "LA;16B") and image.getchannel("A").getextrema() != (255, 255):
        samples = _png_samples(image, file, raw_mode)
        return from_16_bits(over_white(samples[..., :-1], samples[..., -1:]))
    rgb = to_rgb(image)
    if transparency is None or raw_mode not in PNG_BITS:
        return rgb
    largest = 2 ** PNG_BITS[raw_mode] - 1
    colour = np.atleast_1d(transparency) & largest  # further bits are ignored (PNG, 3rd edition, 11.3.2.1)
    values = _png_samples(image, file, raw_mode) if raw_mode == "RGB;16B" else np.atleast_3d(np.asarray(image))
    scale = 255 // largest if largest < 255 else 1  # Pillow has scaled the pixels, and not the transparent colour
    pixels = np.array(rgb)
    pixels[(values == colour * scale).all(axis=2)] = 255
    return Image.fromarray(pixels)


def _require_png_checksums(file: TrackedFile, start: int) -> None:
    """Raise Unreadable if the checksum of an IDAT chunk is wrong, as of a file whose rest was filled with zeros.

    `start` is the position of the PNG. zlib can decode zeros, and Pillow compares no checksum of the pixels: neither
    the CRC of their chunks nor the Adler-32 of the whole.
    """
    file.seek(start + len(PNG_SIGNATURE))
    seen = False
    while len(header := file.read(8)) == 8:
        left, kind = int.from_bytes(header[:4]), header[4:]
        if kind != b"IDAT":
            if seen:  # all IDAT chunks follow each other
                return
            file.seek(left + 4, io.SEEK_CUR)
            continue
        seen, checksum = True, zlib.crc32(kind)
        while left and (data := file.read(min(left, READ_SIZE))):
            checksum, left = zlib.crc32(data, checksum), left - len(data)
        stored = file.read(4)
        if len(stored) == 4 and int.from_bytes(stored) != checksum:  # else the file ends in the chunk
            raise _damaged("the checksum of its pixels is wrong")


def _png_samples(loaded: PngImageFile, file: TrackedFile, raw_mode: str) -> NDArray[np.uint16]:
    """Return the 16-bit samples of a PNG, (height, width, samples), of which Pillow returns the high bytes."""
    file.seek(0)
    image = Image.open(file, formats=("PNG",))
    assert isinstance(image, PngImageFile)
    # The same bytes in another raw mode: grey with alpha as four bytes, RGB with the high and low bytes exchanged.
    other = "RGBA" if raw_mode == "LA;16B" else raw_mode.replace("16B", "16L")
    image.tile = [tile._replace(extents=(0, 0, *image.size), args=other) for tile in image.tile]
    low = np.asarray(image)
    if raw_mode == "LA;16B":
        return low.view(">u2").astype(np.uint16)
    samples: NDArray[np.uint16] = np.asarray(loaded, np.uint16) * 256 + low
    return samples


def _webp(image: WebPImageFile, file: TrackedFile) -> Image.Image:
    """Return a WebP as RGB; an animation without alpha is transparent where its first frame leaves it free."""
    file.seek(0)
    header = file.read(21)
    if image.rawmode == "RGBX" and header[12:16] == b"VP8X" and header[20] & WEBP_ANIMATION:
        image._mode = image.rawmode = "RGBA"
    image.load()
    _require_webp_data(file, *image.size)
    return to_rgb(image)


def _require_webp_data(file: TrackedFile, width: int, height: int) -> None:
    """Raise Unreadable if zeros have overwritten data of a lossy WebP, as of a file whose rest was filled with them.

    They decode without an error. Plain areas are zeros, too: libwebp codes a macroblock of 16 × 16 pixels in up to 0.72
    bytes of them (measured with all its methods at quality 100), so a byte for each is allowed.
    """
    most = SECTOR + -(-width // 16) * -(-height // 16)  # zero bytes
    position, size = 12, file.size()
    while position + 8 <= size:
        file.seek(position)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind == b"VP8 ":
            if bytes(most + 1) in file.read(min(length, size)):
                raise _damaged("a part of its data was overwritten with zeros")
            return
        position += 8 + length + length % 2


def _gif(image: ImageFile) -> Image.Image:
    """Return a GIF as RGB, white where the first frame leaves the screen free, as browsers on a white page show it.

    GIF89a has a background colour for these pixels, which no browser paints.
    """
    frame = image.tile[0].extents if image.tile else None
    image.load()
    rgb = to_rgb(image)
    if frame in (None, (0, 0, *rgb.size)):
        return rgb
    screen = Image.new("RGB", rgb.size, "white")
    screen.paste(rgb.crop(frame), frame)
    return screen


def _tga(image: ImageFile, file: TrackedFile) -> Image.Image:
    """Return a TGA as RGB; it has alpha only if its header and its extension area say so, and some pixel is visible."""
    file.seek(17)
    attribute_bits = file.read(1)[0] & 0x0F
    file.seek(max(0, file.size() - 26))
    footer = file.read(26)
    extension = int.from_bytes(footer[:4], "little") if footer.endswith(TGA_FOOTER) else 0
    file.seek(extension + 494)
    alpha = int.from_bytes(file.read(1)) if extension else TGA_ALPHA
    if attribute_bits == 0 or alpha < TGA_ALPHA or is_invisible(image):
        return image.convert("RGB")
    if alpha == TGA_PREMULTIPLIED_ALPHA:
        rgba = np.asarray(image.convert("RGBA"))
        return Image.fromarray(np.minimum(rgba[..., :3], rgba[..., 3:]) + (255 - rgba[..., 3:]))
    return to_rgb(image)


def _icon(image: IcoImageFile, file: TrackedFile) -> Image.Image:
    """Return an icon as RGB; the mask behind its pixels counts if no pixel would be visible by its alpha."""
    entry = image.ico.entry[0]
    file.seek(entry.offset)
    is_png = file.read(8) == PNG_SIGNATURE
    if is_png:
        _require_png_checksums(file, entry.offset)
    if is_png or not is_invisible(image):
        return to_rgb(image)
    width, height = image.size
    row_size = (width + 31) // 32 * 4
    pixels = np.array(image.convert("RGB"))
    file.seek(entry.offset + entry.size - height * row_size)
    stored = np.frombuffer(file.read(height * row_size), np.uint8).reshape(height, row_size)
    mask = np.unpackbits(stored, axis=1)[::-1, :width].astype(bool)  # upwards; ones are transparent
    if entry.size >= 40 + height * (4 * width + row_size) and not mask.all():
        pixels[mask] = 255
    return Image.fromarray(pixels)


def _require_qoi_end(file: TrackedFile) -> None:
    """Raise Unreadable if zeros follow the data of a QOI in place of its end marker: zeros code pixels, too."""
    file.seek(max(0, file.size() - len(QOI_END)))
    if any(file.read()):
        return
    file.seek(0)
    if not file.read().rstrip(b"\0").endswith(QOI_END):
        raise _damaged("zeros are in place of its end")


def _damaged(problem: str) -> Unreadable:
    return Unreadable("corrupt", f"damaged image: {problem} ({PILLOW_DECODES_IT})")


def _jpeg_2000(image: ImageFile, file: TrackedFile) -> Image.Image:
    """Return a JPEG 2000 as RGB; samples of fewer than 8 bits, which Pillow only shifts, are scaled."""
    file.seek(0)
    size = file.read(JPEG_2000_HEADER).partition(JPEG_2000_SIZE)[2]
    count = int.from_bytes(size[36:38])
    depths = [(depth & 0x7F) + 1 for depth in size[38 : 38 + 3 * count : 3]]
    if min(depths, default=8) >= 8:
        return to_rgb(image)
    if image.mode not in ("L", "LA", "RGB", "RGBA") or len(depths) != len(image.getbands()):
        raise unsupported("JPEG 2000 (samples of fewer than 8 bits)")
    tables: list[Any] = []
    for bits in (min(depth, 8) for depth in depths):
        tables += [(value >> (8 - bits)) * 255 // (2**bits - 1) for value in range(256)]
    return to_rgb(image.point(tables))
