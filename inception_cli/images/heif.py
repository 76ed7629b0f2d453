"""Read HEIC and HEIF with pillow-heif, which is registered with Pillow for the first such file.

A HEIF file holds the rotation of its image, and its decoder applies it. The orientation in the EXIF data repeats that
and is ignored, as the standard says: pillow-heif sets it to 1, so no image is rotated twice.
"""

import io
from functools import cache
from importlib.util import find_spec

FORMAT = "HEIC"  # as users call it
BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"))
REMEDY = f"{FORMAT} files need pillow-heif: pip install pillow-heif"


def is_heif(start: bytes) -> bool:
    """Return whether the first 12 bytes of a file are those of a HEIF file."""
    return start[4:8] == b"ftyp" and start[8:12] in BRANDS


def is_installed() -> bool:
    """Return whether pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


def pillow_formats(file: io.BufferedReader) -> tuple[str, ...]:
    """Return Pillow's name of the format if the file is HEIF and can be read, to be tried after the other formats."""
    if not is_heif(file.peek(12)) or not is_installed():
        return ()
    _register()
    return ("HEIF",)


@cache
def _register() -> None:
    import pillow_heif

    # One thread: worker processes share the cores already. No thumbnails: at a reduced scale Pillow would use one.
    pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False)
