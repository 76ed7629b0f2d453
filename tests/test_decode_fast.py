"""`--decode fast`: JPEGs at a fraction of their size and the crop's window alone show what `exact` does."""

import io
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from draw import picture
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo
from running import Inception

from inception_cli.errors import UsageError
from inception_cli.images.decode import TURNS, Failure, read
from inception_cli.images.frame import Frame
from inception_cli.images.preprocess import CROPS, PRESETS, Pixels, views

EXACT = Pixels(PRESETS["torchvision"])
FAST = replace(EXACT, decode="fast")
ORIENTATION = 0x0112
# A quarter of 3003 × 2742 is no whole number; of 1369 × 1414 the resized photo is a row longer than that of its half;
# an eighth of 5473 × 5479 leaves one column and seven rows of a block.
LARGE = [(3003, 2742), (2742, 3003), (1369, 1414), (5473, 5479)]
SMALL = [(500, 375), (375, 500), (299, 299), (342, 800), (341, 343), (40, 900), (900, 40), (3, 2), (1, 1)]


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A drawn picture with faint stripes over it, so that a step to the side shows."""
    drawn = picture("apple", 3, (400, 300))
    striped = drawn.copy()
    pen = ImageDraw.Draw(striped)
    for x in range(0, 400, 8):
        pen.line((x, 0, x + 20, 300), "white" if x % 16 else "navy", 3)
    return Image.blend(drawn, striped, 0.3)


def saved(folder: Path, image: Image.Image, orientation: int = 1, format: str = "JPEG", **options: Any) -> str:
    """The path of a file with the picture in it."""
    exif, path = Image.Exif(), folder / f"photo.{format.lower()}"
    exif[ORIENTATION] = orientation
    image.save(path, format, exif=exif, **options)
    return str(path)


def seen(path: str, pixels: Pixels) -> NDArray[np.int64]:
    """The views of a file that decodes."""
    image = read(path, pixels)
    assert isinstance(image, Image.Image)
    return views(image, pixels).astype(int)


def decoded_size(path: str, pixels: Pixels) -> tuple[int, int]:
    """How large the picture is that was decoded."""
    image = read(path, pixels)
    assert isinstance(image, Image.Image)
    return image.size


# --- The scale.


@pytest.mark.parametrize(
    ("size", "crops", "decoded"),
    [
        ((1367, 1400), 1, (1367, 1400)),  # half of it is less than twice 342
        ((1368, 1400), 1, (684, 700)),
        ((2735, 4000), 1, (1368, 2000)),
        ((4000, 2736), 1, (1000, 684)),
        ((5472, 5481), 1, (684, 686)),
        ((5472, 5481), 10, (684, 686)),
        ((5472, 5481), 144, (1368, 1371)),  # its largest short side is 470
        ((9000, 100), 1, (9000, 100)),
    ],
)
def test_the_scale_is_the_smallest_with_twice_the_pixels(
    size: tuple[int, int], crops: int, decoded: tuple[int, int], tmp_path: Path
) -> None:
    path = saved(tmp_path, Image.new("RGB", size, "teal"))

    assert decoded_size(path, replace(FAST, crops=crops)) == decoded
    assert decoded_size(path, EXACT) == size
    assert views(read(path, replace(FAST, crops=crops)), FAST).shape == (1, 299, 299, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", LARGE)
def test_large_jpegs_show_what_exact_does(size: tuple[int, int], photo: Image.Image, tmp_path: Path) -> None:
    path = saved(tmp_path, photo.resize(size, Image.Resampling.BICUBIC))
    expected, actual = seen(path, EXACT), seen(path, FAST)

    assert decoded_size(path, FAST)[0] < size[0]
    assert abs(expected - actual).mean() <= 0.6
    for axis in (1, 2):  # one pixel to the side would be seen
        assert abs(expected - np.roll(actual, 1, axis)).mean() > 3


@pytest.mark.parametrize(
    ("mode", "options"),
    [("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}), ("RGB", {"subsampling": 0, "quality": 30})],
)
def test_every_kind_of_jpeg_shows_what_exact_does(
    mode: str, options: dict[str, Any], photo: Image.Image, tmp_path: Path
) -> None:
    path = saved(tmp_path, photo.resize((1501, 1399)).convert(mode), **options)

    assert decoded_size(path, FAST) == (751, 700)
    assert abs(seen(path, EXACT) - seen(path, FAST)).mean() <= 0.6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_shows_what_exact_does(orientation: int, photo: Image.Image, tmp_path: Path) -> None:
    path = saved(tmp_path, photo.resize((1501, 1399)), orientation)

    assert decoded_size(path, FAST) == ((751, 700) if orientation < 5 else (700, 751))
    assert abs(seen(path, EXACT) - seen(path, FAST)).mean() <= 0.6


@pytest.mark.parametrize("turn", TURNS.values())
def test_a_frame_turns_with_its_picture(turn: Image.Transpose) -> None:
    stored = Image.new("L", (7, 5))
    stored.paste(255, (0, 0, 6, 3))
    upright = stored.transpose(turn)

    frame = Frame(60, 30, (0, 0, 6, 3)).turned(turn, stored.size)

    assert frame.box == upright.getbbox()
    assert (frame.width > frame.height) == (upright.width > upright.height)


@pytest.mark.parametrize("crops", CROPS)
def test_every_protocol_shows_what_exact_does(crops: int, photo: Image.Image, tmp_path: Path) -> None:
    path = saved(tmp_path, photo.resize((2000, 2101)), 6)
    exact, fast = replace(EXACT, crops=crops), replace(FAST, crops=crops)

    assert decoded_size(path, fast) == (1051, 1000)
    assert abs(seen(path, exact) - seen(path, fast)).mean() <= 0.6


# --- The window.


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.antialias])
@pytest.mark.parametrize("size", SMALL)
def test_the_window_alone_shows_what_exact_does(
    size: tuple[int, int], name: str, photo: Image.Image, tmp_path: Path
) -> None:
    exact, fast = (Pixels(PRESETS[name], decode=decode) for decode in ("exact", "fast"))
    for format, orientation in (("JPEG", 1), ("JPEG", 8), ("PNG", 1)):
        path = saved(tmp_path, photo.resize(size), orientation, format)
        difference = abs(seen(path, exact) - seen(path, fast))
        assert difference.max() <= 2  # Pillow may go down before across
        assert difference.mean() <= 0.3


def test_what_a_file_says_of_a_frame_is_not_believed(photo: Image.Image, tmp_path: Path) -> None:
    told = PngInfo()
    told.add_text("frame", "9 × 9")
    path = saved(tmp_path, photo, format="PNG", pnginfo=told)

    assert seen(path, FAST).shape == (1, 299, 299, 3)


def test_presets_without_antialias_take_exact(photo: Image.Image, tmp_path: Path) -> None:
    path = saved(tmp_path, photo.resize((3000, 2400)), 6)
    exact, fast = (Pixels(PRESETS["mmpretrain"], decode=decode) for decode in ("exact", "fast"))

    assert decoded_size(path, fast) == (2400, 3000)
    assert np.array_equal(seen(path, exact), seen(path, fast))


# --- Statuses; a small preset, so that small files are scaled.

TINY = replace(PRESETS["torchvision"], size=20, resize=23)


def outcome(path: Path, data: bytes, decode: str) -> str | Failure:
    path.write_bytes(data)
    result = read(str(path), Pixels(TINY, decode=decode))
    return result if isinstance(result, Failure) else "ok"


@pytest.mark.parametrize(
    ("format", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "CMYK", {"restart_marker_blocks": 4}),
        ("JPEG", "L", {}),
        ("MPO", "RGB", {"save_all": True, "append_images": [Image.new("RGB", (50, 50))]}),
    ],
)
def test_damaged_files_have_the_status_that_exact_gives(
    format: str, mode: str, options: dict[str, Any], tmp_path: Path
) -> None:
    stream, path, rng = io.BytesIO(), tmp_path / "photo.jpg", random.Random(1)
    picture("apple", 3, (211, 203)).convert(mode).save(stream, format, **options)
    data = stream.getvalue()
    ends = [*range(200, len(data) - 60, len(data) // 50), *range(len(data) - 60, len(data) + 1)]
    damaged = [data[:end] for end in ends]
    for _ in range(100):
        flipped = bytearray(data)
        flipped[rng.randrange(1000)] ^= rng.randint(1, 255)
        damaged.append(bytes(flipped))
    path.write_bytes(data)
    assert decoded_size(str(path), Pixels(TINY, decode="fast")) == (53, 51)

    expected = [outcome(path, each, "exact") for each in damaged]

    assert [outcome(path, each, "fast") for each in damaged] == expected
    assert {each if each == "ok" else each.status for each in expected} >= {"ok", "truncated", "corrupt"}  # type: ignore[union-attr]


def test_the_bound_on_pixels_is_on_those_of_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("RGB", (2000, 1500)))

    result = read(path, replace(FAST, max_pixels=2_999_999))

    assert isinstance(result, Failure)
    assert result.status == "too_large"


# --- The option.


def test_an_unknown_word_is_a_usage_error(inception: Inception) -> None:
    with pytest.raises(UsageError, match="--decode slow: choose from fast, exact"):
        replace(EXACT, decode="slow")

    ended = inception("classify", "sample_images", "-w", "demo", "--decode", "slow")

    assert ended.code == 2
    assert "--decode slow: choose from fast, exact" in ended.err


@pytest.mark.parametrize(("command", "decode"), [("classify", "fast"), ("evaluate", "exact")])
def test_classify_is_fast_and_evaluate_exact(command: str, decode: str, inception: Inception, tmp_path: Path) -> None:
    (tmp_path / "apple").mkdir()
    picture("apple", 1, (90, 80)).save(tmp_path / "apple" / "1.jpg")
    named = [str(tmp_path)] if command == "classify" else ["--val-dir", str(tmp_path)]

    ended = inception(command, *named, "-w", "demo", "-j", "0", "--out", str(tmp_path / "rows.csv"))

    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "rows.csv.json").read_text())["run"]["pixels"]["decode"] == decode
