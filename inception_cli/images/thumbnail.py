"""Make the thumbnails of a report."""

import io
from dataclasses import replace

from PIL import Image

from inception_cli.config import PRESETS, PixelConfig
from inception_cli.images.decode import Failure, read
from inception_cli.images.fetch import fetch_remote

SIDE = 176  # pixels of the longer side: sharp at the size of a report's cards, about 5 KB
QUALITY = 70
MAX_PIXELS = 150_000_000  # formats other than JPEG are decoded at full size: half a gigabyte of memory at most
_PIXEL_CONFIG = PixelConfig(
    replace(PRESETS["torchvision"], size=SIDE, resize=SIDE), decode="fast", exif=True, max_pixels=MAX_PIXELS
)


def thumbnail(path: str, exif: bool = True) -> bytes:
    """Return an image, local or remote, as a JPEG with sides of at most SIDE pixels; b"" if it is unreadable.

    It is upright with `exif`, else as it is stored.

    A JPEG is decoded at a small DCT scale: one of twelve megapixels at 1/8 of its sides.
    """
    image = read(fetch_remote([path])[0], replace(_PIXEL_CONFIG, exif=exif))
    if isinstance(image, Failure):
        return b""
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True, comment="")  # without the metadata of the original
    return file.getvalue()
