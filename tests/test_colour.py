"""Colours and metadata: alpha, palettes, CMYK, deep greys, animations; EXIF orientation; broken metadata."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps

from inception_cli.config import PRESETS, PixelConfig
from inception_cli.images import decode
from inception_cli.images.decode import read


def drawn() -> Image.Image:
    """Return a gradient with noise, 90 × 60."""
    slope = np.add.outer(np.linspace(0, 120, 60), np.linspace(0, 100, 90))[:, :, None]
    return Image.fromarray((slope + np.random.default_rng(1).integers(0, 30, (60, 90, 3))).astype(np.uint8))


def pixels_of(path: Path, exif: bool = True) -> np.ndarray[Any, Any]:
    """Return the pixels of a file that decodes."""
    image = read(str(path), PixelConfig(PRESETS["torchvision"], exif=exif))
    assert isinstance(image, Image.Image), image
    assert image.mode == "RGB"
    return np.asarray(image)


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_8_bit_modes_equal_pillows_conversion(mode: str, format: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(saved(drawn().convert(mode), format))
    with Image.open(path) as image:
        assert image.mode == mode
        assert np.array_equal(np.asarray(image.convert("RGB")), pixels_of(path))


def test_ycck_equals_pillows_conversion(tmp_path: Path) -> None:
    """Adobe's marker says what the four channels are, in byte 11 after its name: 2 is YCCK."""
    path = tmp_path / "photo.jpg"
    data = bytearray(saved(drawn().convert("CMYK"), "JPEG"))
    data[data.index(b"Adobe") + 11] = 2
    path.write_bytes(data)
    with Image.open(path) as image:
        assert image.mode == "CMYK"
        assert np.array_equal(np.asarray(image.convert("RGB")), pixels_of(path))


def half_transparent(mode: str) -> Image.Image:
    """Return an image of 8 × 8: the left half red or grey, the right half transparent, with black as its colour."""
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((200, 0, 0, 255), (0, 0, 4, 8))
    return image if mode == "RGBA" else image.convert(mode)


TRANSPARENT = {
    "RGBA png": saved(half_transparent("RGBA"), "PNG"),
    "RGBA webp": saved(half_transparent("RGBA"), "WEBP", lossless=True),
    "RGBA avif": saved(half_transparent("RGBA"), "AVIF", quality=100),
    "LA png": saved(half_transparent("LA"), "PNG"),
    "LA tiff": saved(half_transparent("LA"), "TIFF"),
    "PA tiff": saved(half_transparent("RGBA").quantize(4).convert("PA"), "TIFF"),
    "palette png": saved(half_transparent("RGBA").quantize(4), "PNG"),
    "palette gif": saved(half_transparent("RGBA"), "GIF"),
    "RGB with a transparent colour": saved(half_transparent("RGBA").convert("RGB"), "PNG", transparency=(0, 0, 0)),
    "grey with a transparent value": saved(half_transparent("RGBA").convert("L"), "PNG", transparency=0),
    "one bit with a transparent value": saved(
        half_transparent("RGBA").convert("1", dither=Image.Dither.NONE), "PNG", transparency=0
    ),
}


@pytest.mark.parametrize("data", TRANSPARENT.values(), ids=TRANSPARENT)
def test_transparent_pixels_are_white(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    assert (pixels_of(path)[:, 6:] >= 254).all()


def test_half_transparent_pixels_are_blended_with_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (200, 100, 0, 128)).save(tmp_path / "photo.png")
    assert abs(pixels_of(tmp_path / "photo.png") - np.array([227, 177, 127])).max() <= 1


def test_a_palette_without_transparency_equals_pillows_conversion(tmp_path: Path) -> None:
    image = drawn().quantize(7)
    image.save(tmp_path / "photo.gif")
    assert np.array_equal(np.asarray(image.convert("RGB")), pixels_of(tmp_path / "photo.gif"))


def test_1_bit_images_are_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.eye(9, dtype=bool)).save(tmp_path / "photo.png")
    assert np.array_equal(np.eye(9) * 255, pixels_of(tmp_path / "photo.png")[:, :, 1])


RAMP = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)  # the 16-bit value of each 8-bit one


@pytest.mark.parametrize("name", ["photo.png", "photo.tif", "photo.pgm"])
def test_16_bit_grey_is_scaled(name: str, tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / name)
    assert np.array_equal(np.arange(256).reshape(16, 16), pixels_of(tmp_path / name)[:, :, 0])


def test_big_endian_16_bit_grey_is_scaled(tmp_path: Path) -> None:
    order = np.frombuffer(RAMP.astype(">u2").tobytes(), np.uint8)
    Image.frombytes("I;16B", (16, 16), order.tobytes()).save(tmp_path / "photo.tif")
    assert np.array_equal(np.arange(256).reshape(16, 16), pixels_of(tmp_path / "photo.tif")[:, :, 0])


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(0, 1, 256, dtype=np.float32),
        np.arange(256, dtype=np.float32),
        np.linspace(0, 65535, 256, dtype=np.float32),
        np.linspace(-7, 300_000, 256, dtype=np.float32),
        np.linspace(0, 65535, 256).astype(np.int32),
        np.linspace(-1000, 1_000_000, 256).astype(np.int32),
    ],
)
def test_floats_and_32_bit_integers_are_scaled(values: np.ndarray[Any, Any], tmp_path: Path) -> None:
    Image.fromarray(values.reshape(16, 16)).save(tmp_path / "photo.tif")
    actual = pixels_of(tmp_path / "photo.tif")[:, :, 0].ravel()
    assert abs(actual - np.arange(256)).max() <= 1


def test_a_constant_negative_float_is_decoded(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), -3, np.float32)).save(tmp_path / "photo.tif")
    assert not pixels_of(tmp_path / "photo.tif").any()


def test_nan_and_infinity_are_black(tmp_path: Path) -> None:
    Image.fromarray(np.array([[np.nan, np.inf, -np.inf, 1]], np.float32)).save(tmp_path / "photo.tif")
    assert pixels_of(tmp_path / "photo.tif")[0, :, 0].tolist() == [0, 0, 0, 255]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_the_first_frame_of_an_animation_is_decoded(format: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.gif"
    frames = [Image.new("RGB", (20, 20), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    path.write_bytes(saved(frames[0], format, save_all=True, append_images=frames[1:]))
    assert abs(pixels_of(path).astype(int) - [250, 0, 0]).max() <= 4


# --- EXIF and ICC.


def rotated_png(orientation: int) -> bytes:
    """Return the drawing as a camera held that way stores it, with the EXIF tag that says so."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = drawn()
    if undo := {6: 8, 8: 6}.get(orientation, orientation) - 1:
        stored = stored.transpose(decode.TRANSPOSITIONS[undo + 1])
    return saved(stored, "PNG", exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_orientations_decode_to_the_same_image(orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(rotated_png(orientation))
    assert np.array_equal(np.asarray(drawn()), pixels_of(path, exif=True))
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), pixels_of(path, exif=False))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "WEBP", "TIFF", "AVIF"])
def test_orientation_equals_pillows_exif_transpose(format: str, orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path.write_bytes(saved(drawn(), format, exif=exif))
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(ImageOps.exif_transpose(image).convert("RGB")), pixels_of(path))


BROKEN_EXIF = [
    b"Exif\0\0",
    b"Exif\0\0not EXIF at all",
    b"Exif\0\0II*\0\xff\xff\xff\xff",
    b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0",  # orientation 99
    b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x01x\0\0\0\0\0\0\0",  # orientation "x"
    b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" * 9,
]


@pytest.mark.parametrize("exif", BROKEN_EXIF)
def test_broken_exif_data_are_ignored(exif: bytes, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(saved(drawn(), "JPEG", exif=exif))
    expected = Image.open(io.BytesIO(saved(drawn(), "JPEG")))
    assert np.array_equal(np.asarray(expected), pixels_of(path))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    "profile",
    [b"no profile", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()[:99]],
    ids=["none", "cut"],  # a profile holds the time when it was made
)
def test_a_broken_icc_profile_is_ignored(format: str, profile: bytes, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(saved(drawn(), format, icc_profile=profile))
    assert pixels_of(path).shape == (60, 90, 3)
