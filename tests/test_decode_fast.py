"""`--decode fast`: JPEGs decoded at a reduced scale, and only the crop resized, give nearly the pixels of `exact`."""

import io
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from draw import picture
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo
from running import Inception

from inception_cli.config import PRESETS, Crops, Decode, PixelConfig
from inception_cli.errors import UsageError
from inception_cli.images.decode import TRANSPOSITIONS, Failure, read
from inception_cli.images.preprocess import views
from inception_cli.images.scaled_image import INFO_KEY, ScaleInfo

EXACT = PixelConfig(PRESETS["torchvision"])
FAST = replace(EXACT, decode="fast")
ORIENTATION = 0x0112
# A quarter of 3003 × 2742 is no whole number; of 1369 × 1414 the resized image is a row longer than that of its half;
# an eighth of 5473 × 5479 leaves one column and seven rows of a DCT block.
LARGE = [(3003, 2742), (2742, 3003), (1369, 1414), (5473, 5479)]
SMALL = [(500, 375), (375, 500), (299, 299), (342, 800), (341, 343), (40, 900), (900, 40), (3, 2), (1, 1)]


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """Return an image with faint stripes, which make an offset of one pixel visible."""
    drawn = picture("apple", 3, (400, 300))
    striped = drawn.copy()
    pen = ImageDraw.Draw(striped)
    for x in range(0, 400, 8):
        pen.line((x, 0, x + 20, 300), "white" if x % 16 else "navy", 3)
    return Image.blend(drawn, striped, 0.3)


def saved(folder: Path, image: Image.Image, orientation: int = 1, format: str = "JPEG", **options: Any) -> str:
    """Save an image to a file and return its path."""
    exif, path = Image.Exif(), folder / f"photo.{format.lower()}"
    exif[ORIENTATION] = orientation
    image.save(path, format, exif=exif, **options)
    return str(path)


def seen(path: str, pixels: PixelConfig) -> NDArray[np.int64]:
    """Return the views of a file that decodes."""
    image = read(path, pixels)
    assert isinstance(image, Image.Image)
    return views(image, pixels).astype(int)


def decoded_size(path: str, pixels: PixelConfig) -> tuple[int, int]:
    """Return the size of the decoded image."""
    image = read(path, pixels)
    assert isinstance(image, Image.Image)
    return image.size


# --- The scale.


@pytest.mark.parametrize(
    ("size", "crops", "decoded"),
    [
        ((1367, 1400), 1, (1367, 1400)),  # half of it is smaller than twice 342
        ((1368, 1400), 1, (684, 700)),
        ((2735, 4000), 1, (1368, 2000)),
        ((4000, 2736), 1, (1000, 684)),
        ((5472, 5481), 1, (684, 686)),
        ((5472, 5481), 10, (684, 686)),
        ((5472, 5481), 144, (1368, 1371)),  # its largest short side is 470
        ((9000, 100), 1, (9000, 100)),
    ],
)
def test_the_scale_is_the_smallest_with_at_least_twice_the_pixels(
    size: tuple[int, int], crops: int, decoded: tuple[int, int], tmp_path: Path
) -> None:
    path = saved(tmp_path, Image.new("RGB", size, "teal"))

    assert decoded_size(path, replace(FAST, crops=crops)) == decoded
    assert decoded_size(path, EXACT) == size
    assert views(read(path, replace(FAST, crops=crops)), FAST).shape == (1, 299, 299, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", LARGE)
def test_large_jpegs_equal_exact_within_a_level(size: tuple[int, int], photo: Image.Image, tmp_path: Path) -> None:
    path = saved(tmp_path, photo.resize(size, Image.Resampling.BICUBIC))
    expected, actual = seen(path, EXACT), seen(path, FAST)

    assert decoded_size(path, FAST)[0] < size[0]
    assert abs(expected - actual).mean() <= 0.6
    for axis in (1, 2):  # an offset of one pixel would be noticed
        assert abs(expected - np.roll(actual, 1, axis)).mean() > 3


@pytest.mark.parametrize(
    ("mode", "options"),
    [("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}), ("RGB", {"subsampling": 0, "quality": 30})],
)
def test_all_kinds_of_jpeg_equal_exact_within_a_level(
    mode: str, options: dict[str, Any], photo: Image.Image, tmp_path: Path
) -> None:
    path = saved(tmp_path, photo.resize((1501, 1399)).convert(mode), **options)

    assert decoded_size(path, FAST) == (751, 700)
    assert abs(seen(path, EXACT) - seen(path, FAST)).mean() <= 0.6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_of_any_orientation_equal_exact_within_a_level(
    orientation: int, photo: Image.Image, tmp_path: Path
) -> None:
    path = saved(tmp_path, photo.resize((1501, 1399)), orientation)

    assert decoded_size(path, FAST) == ((751, 700) if orientation < 5 else (700, 751))
    assert abs(seen(path, EXACT) - seen(path, FAST)).mean() <= 0.6


@pytest.mark.parametrize("operation", TRANSPOSITIONS.values())
def test_scale_info_is_transposed_with_its_image(operation: Image.Transpose) -> None:
    stored = Image.new("L", (7, 5))
    stored.paste(255, (0, 0, 6, 3))
    upright = stored.transpose(operation)

    scale = ScaleInfo(60, 30, (0, 0, 6, 3)).transposed(operation, stored.size)

    assert scale.box == upright.getbbox()
    assert (scale.width > scale.height) == (upright.width > upright.height)


@pytest.mark.parametrize("crops", get_args(Crops))
def test_any_number_of_crops_equals_exact_within_a_level(crops: int, photo: Image.Image, tmp_path: Path) -> None:
    path = saved(tmp_path, photo.resize((2000, 2101)), 6)
    exact, fast = replace(EXACT, crops=crops), replace(FAST, crops=crops)

    assert decoded_size(path, fast) == (1051, 1000)
    assert abs(seen(path, exact) - seen(path, fast)).mean() <= 0.6


# --- Only the crop is resized.


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.antialias])
@pytest.mark.parametrize("size", SMALL)
def test_resizing_only_the_crop_equals_exact_within_two_levels(
    size: tuple[int, int], name: str, photo: Image.Image, tmp_path: Path
) -> None:
    exact, fast = (PixelConfig(PRESETS[name], decode=decode) for decode in ("exact", "fast"))
    for format, orientation in (("JPEG", 1), ("JPEG", 8), ("PNG", 1)):
        path = saved(tmp_path, photo.resize(size), orientation, format)
        difference = abs(seen(path, exact) - seen(path, fast))
        assert difference.max() <= 2  # Pillow may resize vertically first
        assert difference.mean() <= 0.3


def test_metadata_of_a_file_are_not_taken_for_scale_info(photo: Image.Image, tmp_path: Path) -> None:
    text = PngInfo()
    text.add_text(INFO_KEY, "9 × 9")
    path = saved(tmp_path, photo, format="PNG", pnginfo=text)

    assert seen(path, FAST).shape == (1, 299, 299, 3)


def test_presets_without_antialias_are_decoded_exactly(photo: Image.Image, tmp_path: Path) -> None:
    path = saved(tmp_path, photo.resize((3000, 2400)), 6)
    exact, fast = (PixelConfig(PRESETS["mmpretrain"], decode=decode) for decode in ("exact", "fast"))

    assert decoded_size(path, fast) == (2400, 3000)
    assert np.array_equal(seen(path, exact), seen(path, fast))


# --- Statuses, with a small preset, so that small files are decoded at a reduced scale.

TINY = replace(PRESETS["torchvision"], size=20, resize=23)


def outcome(path: Path, data: bytes, decode: Decode) -> str | Failure:
    path.write_bytes(data)
    result = read(str(path), PixelConfig(TINY, decode=decode))
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
def test_damaged_files_have_the_same_status_as_with_exact(
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
    assert decoded_size(str(path), PixelConfig(TINY, decode="fast")) == (53, 51)

    expected = [outcome(path, each, "exact") for each in damaged]

    assert [outcome(path, each, "fast") for each in damaged] == expected
    assert {each if each == "ok" else each.status for each in expected} >= {"ok", "truncated", "corrupt"}  # type: ignore[union-attr]


def test_max_pixels_limits_the_original_size(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("RGB", (2000, 1500)))

    result = read(path, replace(FAST, max_pixels=2_999_999))

    assert isinstance(result, Failure)
    assert result.status == "too_large"


# --- The option.


def test_an_unknown_decode_mode_is_a_usage_error(inception: Inception) -> None:
    make: Callable[..., PixelConfig] = replace
    with pytest.raises(UsageError, match="decode 'slow': choose from fast, exact"):
        make(EXACT, decode="slow")

    ended = inception("classify", "sample_images", "-w", "demo", "--decode", "slow")

    assert ended.code == 2
    assert "Invalid value for '--decode': 'slow' is not one of 'fast', 'exact'" in ended.err


@pytest.mark.parametrize(("command", "decode"), [("classify", "fast"), ("evaluate", "exact")])
def test_classify_is_fast_and_evaluate_exact(command: str, decode: str, inception: Inception, tmp_path: Path) -> None:
    (tmp_path / "apple").mkdir()
    picture("apple", 1, (90, 80)).save(tmp_path / "apple" / "1.jpg")
    inputs = [str(tmp_path)] if command == "classify" else ["--val-dir", str(tmp_path)]

    ended = inception(command, *inputs, "-w", "demo", "-j", "0", "--out", str(tmp_path / "rows.csv"))

    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "rows.csv.json").read_text())["run"]["pixels"]["decode"] == decode
