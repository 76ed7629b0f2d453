"""A photo, small, as the bytes of a JPEG: what a report shows of it."""

import io
from dataclasses import replace

from PIL import Image

from inception_cli.images.decode import Failure, read
from inception_cli.images.preprocess import PRESETS, Pixels
from inception_cli.images.remote import fetched

SIDE = 176  # pixels of the longer side: sharp at the size of a report's cards, 5 KB or so
QUALITY = 70
MAX_PIXELS = 150_000_000  # a picture without a small scale, such as a PNG, is decoded whole: half a gigabyte at most
_SMALL = replace(PRESETS["torchvision"], size=SIDE, resize=SIDE)
_PIXELS = Pixels(_SMALL, decode="fast", exif=True, max_pixels=MAX_PIXELS)


def thumbnail(path: str) -> bytes:
    """A photo, here or in a store, as a JPEG with sides of at most SIDE pixels, upright.

    b"" when it cannot be read (any more). A JPEG is decoded at a small DCT scale: a twelve-megapixel photo at 1/8 of
    its sides.
    """
    picture = read(fetched([path])[0], _PIXELS)
    if isinstance(picture, Failure):
        return b""
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, optimize=True, comment="")  # nothing of the file but its look
    return file.getvalue()
