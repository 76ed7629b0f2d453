"""HEIC is read with pillow-heif, rotated once, with the usual statuses; without it the row names the remedy."""

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from formats import drawn
from PIL import ExifTags, Image
from running import Inception

from inception_cli.config import PRESETS, PixelConfig
from inception_cli.images import heif
from inception_cli.images.decode import TRANSPOSITIONS, Failure, read

EXACT = PixelConfig(PRESETS["torchvision"])


def heic(image: Image.Image, orientation: int = 1, thumbnail: bool = False) -> bytes:
    """Return a HEIC file; libheif writes the EXIF orientation into the container as well, as cameras do."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(
        stream, quality=-1, chroma=444, exif=exif.tobytes(), thumbnails=[128] if thumbnail else []
    )
    return stream.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "photo.heic"
    file.write_bytes(heic(drawn(300, 200)))
    return file


def decoded(file: Path, config: PixelConfig = EXACT) -> Image.Image:
    image = read(str(file), config)
    assert isinstance(image, Image.Image), image
    return image


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return the mean difference of the values 0…255; infinite if the sizes differ."""
    if one.size != other.size:
        return float("inf")
    return float(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).mean())


@pytest.mark.parametrize("name", ["photo.heic", "PHOTO.HEIF", "photo.jpg", "photo"])
def test_heic_is_read_whatever_its_suffix(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(heic(drawn()))

    assert decoded(tmp_path / name).mode == "RGB"
    assert difference(decoded(tmp_path / name), drawn()) < 2


@pytest.mark.parametrize("exif", [True, False])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_rotation_is_applied_once(tmp_path: Path, orientation: int, exif: bool) -> None:
    file = tmp_path / "photo.heic"
    file.write_bytes(heic(drawn(), orientation))
    operation = TRANSPOSITIONS.get(orientation)
    upright = drawn() if operation is None else drawn().transpose(operation)

    image = decoded(file, PixelConfig(PRESETS["torchvision"], exif=exif))  # the container's rotation is no EXIF data

    assert difference(image, upright) < 2
    assert orientation == 1 or difference(image, drawn()) > 10


def test_transparent_pixels_are_white(tmp_path: Path) -> None:
    transparent = Image.new("RGBA", (64, 64), (200, 0, 0, 0))
    (tmp_path / "transparent.heic").write_bytes(heic(transparent))

    assert difference(decoded(tmp_path / "transparent.heic"), Image.new("RGB", (64, 64), "white")) < 2


def test_decode_fast_does_not_use_the_thumbnail(file: Path) -> None:
    file.write_bytes(heic(drawn(900, 600), thumbnail=True))
    fast = PixelConfig(replace(PRESETS["torchvision"], size=30, resize=40), decode="fast")

    assert decoded(file, fast).size == (900, 600)
    assert difference(decoded(file, fast), decoded(file)) == 0


def test_max_pixels_holds(file: Path) -> None:
    assert read(str(file), PixelConfig(PRESETS["torchvision"], max_pixels=59_999)) == Failure(
        "too_large", "300 × 200 pixels, more than max_pixels (59999)"
    )


def test_a_cut_file_is_truncated(file: Path) -> None:
    whole = file.read_bytes()
    for size in range(len(whole) // 4, len(whole), len(whole) // 7):
        file.write_bytes(whole[:size])
        assert read(str(file), EXACT) == Failure("truncated", "the file ends before the image is complete")


def test_a_damaged_file_is_corrupt(file: Path) -> None:
    whole = file.read_bytes()
    for damaged in (whole[:40] + b"\xff" * 200 + whole[240:], b"not an image"):
        file.write_bytes(damaged)
        failure = read(str(file), EXACT)
        assert isinstance(failure, Failure)
        assert failure.status == "corrupt"
        assert "\n" not in failure.error


def test_without_pillow_heif_the_row_says_how_to_install_it(
    file: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heif, "find_spec", lambda name: None)
    text, other = file.with_name("text.heic"), file.with_name("other.jpg")
    text.write_text("not an image")
    other.write_bytes(file.read_bytes())

    ended = inception("classify", file, text, other, "-w", "demo", "-j", 0, "-o", "-")

    assert ended.code == 3
    rows = [line for line in ended.out.splitlines()[1:] if line]
    assert all(",unsupported," in row and "pip install pillow-heif" in row for row in rows)
    assert len(rows) == 3


def test_pillow_heif_is_imported_only_for_a_heic_file(file: Path, photos: Path) -> None:
    program = (
        "import sys; from inception_cli.config import PRESETS, PixelConfig\n"
        "from inception_cli.images.decode import read\n"
        "for path in sys.argv[1:]:\n"
        "    assert read(path, PixelConfig(PRESETS['timm'])).size\n"
        "    print('pillow_heif' in sys.modules)"
    )
    paths = [str(photos / "a/00.jpg"), str(file)]

    ended = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)

    assert ended.stdout.splitlines() == ["False", "True"]
