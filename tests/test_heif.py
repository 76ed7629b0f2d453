"""HEIC: read by pillow-heif, turned once, with the statuses of any other file; without it the row says what to do."""

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

from inception_cli.images import heif
from inception_cli.images.decode import TURNS, Failure, read
from inception_cli.images.preprocess import PRESETS, Pixels

EXACT = Pixels(PRESETS["torchvision"])


def heic(image: Image.Image, orientation: int = 1, thumbnail: bool = False) -> bytes:
    """A HEIC file; libheif writes the turn of the EXIF data into the container as well, as cameras do."""
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


def picture(file: Path, pixels: Pixels = EXACT) -> Image.Image:
    found = read(str(file), pixels)
    assert isinstance(found, Image.Image), found
    return found


def apart(one: Image.Image, other: Image.Image) -> float:
    """Mean difference, of 255; infinite between sizes."""
    if one.size != other.size:
        return float("inf")
    return float(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).mean())


@pytest.mark.parametrize("name", ["photo.heic", "PHOTO.HEIF", "photo.jpg", "photo"])
def test_it_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(heic(drawn()))

    assert picture(tmp_path / name).mode == "RGB"
    assert apart(picture(tmp_path / name), drawn()) < 2


@pytest.mark.parametrize("exif", [True, False])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_once(tmp_path: Path, orientation: int, exif: bool) -> None:
    file = tmp_path / "photo.heic"
    file.write_bytes(heic(drawn(), orientation))
    turn = TURNS.get(orientation)
    upright = drawn() if turn is None else drawn().transpose(turn)

    found = picture(file, Pixels(PRESETS["torchvision"], exif=exif))  # the container's turn is no EXIF data

    assert apart(found, upright) < 2
    assert orientation == 1 or apart(found, drawn()) > 10


def test_alpha_is_over_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (64, 64), (200, 0, 0, 0))
    (tmp_path / "clear.heic").write_bytes(heic(clear))

    assert apart(picture(tmp_path / "clear.heic"), Image.new("RGB", (64, 64), "white")) < 2


def test_fast_takes_no_thumbnail_for_the_photo(file: Path) -> None:
    file.write_bytes(heic(drawn(900, 600), thumbnail=True))
    fast = Pixels(replace(PRESETS["torchvision"], size=30, resize=40), decode="fast")

    assert picture(file, fast).size == (900, 600)
    assert apart(picture(file, fast), picture(file)) == 0


def test_a_bound_holds(file: Path) -> None:
    assert read(str(file), Pixels(PRESETS["torchvision"], max_pixels=59_999)) == Failure(
        "too_large", "300 × 200 pixels, over the bound of 59999 (--max-pixels)"
    )


def test_one_cut_short_is_truncated(file: Path) -> None:
    whole = file.read_bytes()
    for size in range(len(whole) // 4, len(whole), len(whole) // 7):
        file.write_bytes(whole[:size])
        assert read(str(file), EXACT) == Failure("truncated", "the file ends before the picture does")


def test_one_with_damage_is_corrupt(file: Path) -> None:
    whole = file.read_bytes()
    for damaged in (whole[:40] + b"\xff" * 200 + whole[240:], b"no picture"):
        file.write_bytes(damaged)
        found = read(str(file), EXACT)
        assert isinstance(found, Failure)
        assert found.status == "corrupt"
        assert "\n" not in found.error


def test_without_the_extra_the_row_says_which(
    file: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heif, "find_spec", lambda name: None)
    text, other = file.with_name("text.heic"), file.with_name("other.jpg")
    text.write_text("no picture")
    other.write_bytes(file.read_bytes())

    ended = inception("classify", file, text, other, "-w", "demo", "-j", 0, "-o", "-")

    assert ended.code == 3
    rows = [line for line in ended.out.splitlines()[1:] if line]
    assert all(",unsupported," in row and "pip install 'inception-cli[heif]'" in row for row in rows)
    assert len(rows) == 3


def test_pillow_heif_is_imported_for_such_a_file_alone(file: Path, photos: Path) -> None:
    program = (
        "import sys; from inception_cli.images.decode import read\n"
        "from inception_cli.images.preprocess import PRESETS, Pixels\n"
        "for path in sys.argv[1:]:\n"
        "    assert read(path, Pixels(PRESETS['timm'])).size\n"
        "    print('pillow_heif' in sys.modules)"
    )
    paths = [str(photos / "a/00.jpg"), str(file)]

    ended = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)

    assert ended.stdout.splitlines() == ["False", "True"]
