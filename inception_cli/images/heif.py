"""HEIC and HEIF, which pillow-heif reads (the extra `heif`): told to Pillow when the first such file is met.

A HEIF file says itself how its picture is to be turned and its reader does so; the orientation in its EXIF, which
repeats that, is passed over, by the standard. pillow-heif sets it to upright, so no picture is turned twice.
"""

from functools import cache
from importlib.util import find_spec

from inception_cli.images.damage import File

KIND = "HEIC"  # what people call it
BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"))
CURE = f"{KIND} files are read with pillow-heif: pip install 'inception-cli[heif]'"


def is_heif(start: bytes) -> bool:
    """Whether a file that begins so is one."""
    return start[4:8] == b"ftyp" and start[8:12] in BRANDS


def readable() -> bool:
    """Whether pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


def formats(file: File) -> tuple[str, ...]:
    """Pillow's name of the format, to be tried after its own ones, if the file is of it and can be read."""
    if not is_heif(file.peek(12)) or not readable():
        return ()
    _register()
    return ("HEIF",)


@cache
def _register() -> None:
    import pillow_heif

    # Workers share the cores already; and `--decode fast` would take a thumbnail for the photo.
    pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False)
