"""TIFFs of every depth, photometric interpretation, byte order and layout are what TIFF 6.0 says, or unsupported.

The files are written by hand and the values follow from the specification. ImageMagick 6.9.11 and tiff2rgba of libtiff
4.5.0 give the same values for all that they read, but for these, where the specification decides:
- ImageMagick does not invert samples whose zero is white if they have 2, 4, 6, 10, 12, 14 or 32 bits or are floats.
  "0 is imaged as white" (page 37) has no exception, and tiff2rgba inverts 2 and 4 bits.
- ImageMagick takes extra samples of no meaning (0) for alpha, tiff2rgba does so in RGB only. Page 31 calls 0
  unspecified data, and 1 and 2 alpha; Photoshop writes selections so.
- tiff2rgba shifts the last rows of 16-bit grey in tiles, which ImageMagick reads as here.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import Array, tiff
from PIL import Image

from inception_cli.config import PRESETS, PixelConfig
from inception_cli.images.decode import Failure, FetchedFile, read

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK = 0, 1, 2, 3, 5
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4}
LAYOUTS: dict[str, dict[str, Any]] = {
    "one strip": {},
    "strips": {"rows_per_strip": 6},
    "tiles": {"tile": 16},
    "lzw": {"compression": 5, "rows_per_strip": 6},
    "deflate tiles": {"compression": 8, "tile": 16},
    "packbits": {"compression": 32773},
    "planes": {"planar": 2, "rows_per_strip": 6},
    "planes of deflate": {"planar": 2, "compression": 8, "rows_per_strip": 6},
    "reversed bits": {"fill_order": 2},
    "reversed bits of lzw": {"fill_order": 2, "compression": 5},
}
ORDERS = ("<", ">")


def random_samples(bits: int, count: int, kind: str = "u") -> Array:
    """Return samples of 21 rows and 19 columns, with black and white among them."""
    rng = np.random.default_rng(bits + count)
    if kind == "f":
        samples = rng.random((21, 19, count)).astype(f"f{bits // 8}")
        samples[0, :2] = [[0], [1]]
        return samples
    dtype = np.dtype(f"u{max(8, 1 << (bits - 1).bit_length()) // 8}")
    samples = rng.integers(0, 2**bits - 1, (21, 19, count), dtype, endpoint=True)
    samples[0, :2] = [[0], [2**bits - 1]]
    return samples


def grey_or_rgb(samples: Array, photometric: int, bits: int) -> Array:
    """Return the values 0…255 of samples by TIFF 6.0: 0 and 2**bits - 1 are black and white, or white and black."""
    shares = samples / (1 if samples.dtype.kind == "f" else 2.0**bits - 1)
    if photometric == WHITE_IS_ZERO:
        shares = 1 - shares
    if photometric == CMYK:  # the naive conversion, as of Pillow and of the publishers
        shares = (1 - shares[..., :3]) * (1 - shares[..., 3:])
    return np.broadcast_to(255 * shares, (*shares.shape[:2], 3))


def decoded(data: bytes, **config: Any) -> Array:
    image = read(FetchedFile("photo.tif", data), PixelConfig(PRESETS["torchvision"], **config))
    assert isinstance(image, Image.Image), image
    assert image.mode == "RGB"
    return np.asarray(image)


def assert_close(data: bytes, expected: Array) -> None:
    """Assert that all values are within one level; the expected ones are not rounded."""
    assert np.abs(decoded(data) - expected).max() <= 1.0001


def refused(data: bytes) -> str:
    """Return the error of a file that is unsupported."""
    failure = read(FetchedFile("photo.tif", data), PixelConfig(PRESETS["torchvision"]))
    assert isinstance(failure, Failure)
    assert failure.status == "unsupported"
    assert failure.error.endswith("files are not supported; convert it to JPEG or PNG")
    return failure.error


# --- Grey, RGB, CMYK.


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 32, 64])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK])
def test_unsigned_samples_of_all_depths_are_scaled(photometric: int, bits: int, order: str) -> None:
    samples = random_samples(bits, COLOURS[photometric])
    for layout in LAYOUTS.values():
        assert_close(tiff(samples, photometric, bits, order, **layout), grey_or_rgb(samples, photometric, bits))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK])
def test_floats_from_0_to_1_are_scaled(photometric: int, bits: int, order: str) -> None:
    samples = random_samples(bits, COLOURS[photometric], "f")
    for layout in LAYOUTS.values():
        assert_close(tiff(samples, photometric, bits, order, **layout), grey_or_rgb(samples, photometric, bits))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("kind", "bits", "predictor"), [
    ("u", 8, 2), ("u", 16, 2), ("u", 32, 2), ("u", 64, 2), ("f", 32, 2), ("f", 16, 3), ("f", 32, 3), ("f", 64, 3),
])  # fmt: skip
@pytest.mark.parametrize("layout", ["lzw", "deflate tiles", "planes of deflate"])
@pytest.mark.parametrize("photometric", [BLACK_IS_ZERO, RGB])
def test_predictors_are_undone(photometric: int, layout: str, kind: str, bits: int, predictor: int, order: str) -> None:
    samples = random_samples(bits, COLOURS[photometric], kind)
    data = tiff(samples, photometric, bits, order, predictor=predictor, **LAYOUTS[layout])
    assert_close(data, grey_or_rgb(samples, photometric, bits))


def test_a_12_bit_white_is_white() -> None:
    """By hand: 0x000, 0x800 and 0xFFF in five bytes. Pillow reads them as 0, 2048 and 4095 of 65,535."""
    data = tiff(np.array([[[0], [0x800], [0xFFF]]], np.uint16), BLACK_IS_ZERO, 12)
    assert data[8:13] == b"\x00\x08\x00\xff\xf0"
    assert decoded(data)[0, :, 0].tolist() == [0, 128, 255]


def test_undefined_samples_are_unsigned() -> None:
    """TIFF 6.0, page 80: a reader would typically treat them as unsigned integers."""
    samples = random_samples(8, 1)
    assert_close(tiff(samples, BLACK_IS_ZERO, 8, tags={339: [4]}), grey_or_rgb(samples, BLACK_IS_ZERO, 8))


@pytest.mark.parametrize("photometric", [BLACK_IS_ZERO, RGB])
def test_without_a_photometric_interpretation_zero_is_black(photometric: int) -> None:
    """TIFF 6.0 requires the tag; libtiff (TIFFRGBAImageBegin) takes grey and RGB, and Pillow takes white for zero."""
    samples = random_samples(8, COLOURS[photometric])
    assert_close(tiff(samples, photometric, 8, tags={262: []}), grey_or_rgb(samples, photometric, 8))


@pytest.mark.parametrize("order", ORDERS)
def test_signed_32_bit_grey_is_what_pillow_saves(order: str) -> None:
    """Pillow saves 16-bit grey with 32 signed bits (mode I); ImageMagick takes the full range, and all is grey."""
    samples = random_samples(16, 1).astype(np.int32)
    assert_close(tiff(samples, BLACK_IS_ZERO, 32, order, compression=8), grey_or_rgb(samples, BLACK_IS_ZERO, 16))


# --- Palettes.


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("white", [255, 65535])
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8, 12, 16])
def test_palettes_hold_values_of_16_bits_or_of_8(bits: int, white: int, order: str) -> None:
    """TIFF 6.0, page 23: white is 65,535. Some writers use 255: what libtiff assumes if no value is larger.

    It does so in checkcmap of tif_getimage.c, and ImageMagick like it; Pillow shows such files in black.
    """
    colour_map = np.random.default_rng(bits).integers(0, white, (3, 2**bits), endpoint=True)
    colour_map[:, 0] = white
    samples = random_samples(bits, 1)
    for layout in list(LAYOUTS.values())[:: 1 if bits <= 8 else 4]:  # Pillow takes 0.1 s for 65,536 colours
        data = tiff(samples, PALETTE, bits, order, tags={320: colour_map.ravel().tolist()}, **layout)
        assert_close(data, 255 * colour_map[:, samples[:, :, 0]].transpose(1, 2, 0) / white)


def test_an_index_without_a_colour_is_corrupt() -> None:
    samples = random_samples(8, 1)
    data = tiff(samples, PALETTE, 8, tags={320: [9] * 30})
    failure = read(FetchedFile("photo.tif", data), PixelConfig(PRESETS["torchvision"]))
    assert isinstance(failure, Failure)
    assert failure.status == "corrupt"


# --- Alpha.


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("extra", [(0,), (1,), (2,), (0, 2), (2, 0), (0, 0, 0, 0, 1)])
@pytest.mark.parametrize("bits", [4, 8, 12, 16, 32])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK])
def test_alpha_is_blended_with_white(photometric: int, bits: int, extra: tuple[int, ...], order: str) -> None:
    """ExtraSamples, page 31: 1 is alpha by which the colours are multiplied, 2 is other alpha, 0 has no meaning."""
    count = COLOURS[photometric]
    samples = random_samples(bits, count + len(extra))
    alpha_at = next((count + index for index, kind in enumerate(extra) if kind), None)
    if alpha_at is not None and 1 in extra:
        samples[..., :count] = np.minimum(samples[..., :count], samples[..., [alpha_at]])
    files = [tiff(samples, photometric, bits, order, tags={338: extra}, **layout) for layout in LAYOUTS.values()]
    if 1 in extra and photometric in (WHITE_IS_ZERO, CMYK):  # what is multiplied then, is not defined
        assert "alpha" in refused(files[0])
        return
    expected = grey_or_rgb(samples[..., :count], photometric, bits)
    if alpha_at is not None:
        alpha = samples[..., [alpha_at]] / (2.0**bits - 1)
        expected = (expected if 1 in extra else expected * alpha) + 255 * (1 - alpha)
    for data in files:
        assert_close(data, expected)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_can_have_alpha(bits: int, order: str) -> None:
    colour_map = np.random.default_rng(bits).integers(0, 65535, (3, 2**bits), endpoint=True)
    samples = random_samples(bits, 2)
    alpha = samples[..., 1:] / (2.0**bits - 1)
    colours = 255 * colour_map[:, samples[:, :, 0]].transpose(1, 2, 0) / 65535
    data = tiff(samples, PALETTE, bits, order, tags={320: colour_map.ravel().tolist(), 338: [2]})
    assert_close(data, colours * alpha + 255 * (1 - alpha))


@pytest.mark.parametrize("extra", [(), (0,)])
def test_a_sample_without_a_meaning_is_ignored(extra: tuple[int, ...]) -> None:
    """Of two samples of grey, and of five of CMYK, with ExtraSamples or without; and ExtraSamples without a sample."""
    for photometric, count in ((BLACK_IS_ZERO, 2), (CMYK, 5), (RGB, 3)):
        samples = random_samples(8, count)
        expected = grey_or_rgb(samples[..., : COLOURS[photometric]], photometric, 8)
        assert_close(tiff(samples, photometric, 8, tags={338: extra}), expected)


# --- What is not supported.


@pytest.mark.parametrize(
    ("reason", "arguments"),
    [
        ("24-bit unsigned samples", {"bits": 24, "samples": random_samples(8, 3)}),
        ("8-bit signed samples", {"samples": random_samples(8, 1).view(np.int8)}),
        ("16-bit signed samples", {"samples": random_samples(16, 1).view(np.int16), "bits": 16}),
        ("complex samples", {"samples": random_samples(64, 1), "bits": 64, "tags": {339: [6]}}),
        ("samples of different kinds", {"photometric": RGB, "samples": random_samples(8, 3), "tags": {258: [8, 8, 4]}}),
        ("LAB", {"photometric": 8, "samples": random_samples(8, 3)}),
        ("transparency mask", {"photometric": 4, "bits": 1, "samples": random_samples(1, 1)}),
        ("sensor data", {"photometric": 32803, "bits": 16, "samples": random_samples(16, 1)}),
        ("WebP compression", {"tags": {259: [50001]}}),
        ("JPEG XL compression", {"tags": {259: [50002]}}),
        ("LERC compression", {"tags": {259: [34887]}}),
        ("12345 compression", {"tags": {259: [12345]}}),
        ("12-bit unsigned samples, JPEG", {"bits": 12, "samples": random_samples(12, 1), "tags": {259: [7]}}),
        ("inks other than CMYK", {"photometric": CMYK, "samples": random_samples(8, 4), "tags": {332: [2]}}),
        ("inks other than CMYK", {"photometric": CMYK, "samples": random_samples(8, 4), "tags": {336: [255, 0]}}),
        ("uncompressed YCbCr", {"photometric": 6, "samples": random_samples(8, 3)}),
        ("predictor 2", {"bits": 12, "samples": random_samples(12, 1), "tags": {259: [8], 317: [2]}}),
    ],
)  # fmt: skip
def test_what_is_not_read_is_unsupported(reason: str, arguments: dict[str, Any]) -> None:
    settings = {"photometric": BLACK_IS_ZERO, "bits": 8, "samples": random_samples(8, 1), **arguments}
    assert reason in refused(tiff(**settings))


def test_big_endian_bigtiffs_are_unsupported() -> None:
    assert "big-endian BigTIFF" in refused(b"MM\0\x2b\0\x08\0\0" + struct.pack(">Q", 16) + bytes(99))


# --- The rest of a TIFF.


def test_a_bigtiff_is_read() -> None:
    """By hand: BigTIFF has 8-byte numbers, and entries of 20 bytes. 12 bits: black, grey, white."""
    fields = {256: 3, 257: 1, 258: 12, 259: 1, 262: 1, 273: 16, 277: 1, 278: 1, 279: 5}
    entries = b"".join(struct.pack("<HHQQ", tag, 4, 1, value) for tag, value in fields.items())
    header = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 24)
    data = header + b"\x00\x08\x00\xff\xf0\0\0\0" + struct.pack("<Q", len(fields)) + entries + bytes(8)
    assert decoded(data)[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_as_pillow_does(orientation: int) -> None:
    samples = random_samples(8, 1)
    by_pillow = decoded(tiff(samples, BLACK_IS_ZERO, 8, tags={274: [orientation]}))
    wide = samples.astype(np.uint16) * 257
    assert np.array_equal(by_pillow, decoded(tiff(wide, BLACK_IS_ZERO, 16, tags={274: [orientation]})))


@pytest.mark.parametrize("bits", [8, 12, 32])
@pytest.mark.parametrize("compression", [1, 5, 8])
def test_a_cut_file_is_truncated(bits: int, compression: int) -> None:
    """Cut in the strips, whose directory is behind them, and in the directory."""
    data = tiff(random_samples(bits, 1), BLACK_IS_ZERO, bits, compression=compression, rows_per_strip=5)
    directory = int.from_bytes(data[4:8], "little")
    for length in (directory + 5, directory + 80, len(data) - 30):
        failure = read(FetchedFile("photo.tif", data[:length]), PixelConfig(PRESETS["torchvision"]))
        assert isinstance(failure, Failure)
        assert failure.status == "truncated", length


@pytest.mark.parametrize("compression", [5, 8])
def test_damaged_data_are_corrupt(compression: int) -> None:
    data = bytearray(tiff(random_samples(12, 1), BLACK_IS_ZERO, 12, compression=compression))
    data[8:300] = b"\xa5" * 292
    failure = read(FetchedFile("photo.tif", bytes(data)), PixelConfig(PRESETS["torchvision"]))
    assert isinstance(failure, Failure)
    assert failure.status == "corrupt"


def test_max_pixels_holds_before_decoding() -> None:
    data = tiff(random_samples(12, 1), BLACK_IS_ZERO, 12)
    assert decoded(data, max_pixels=399).shape == (21, 19, 3)
    failure = read(FetchedFile("photo.tif", data), PixelConfig(PRESETS["torchvision"], max_pixels=398))
    assert failure == Failure("too_large", "19 × 21 pixels, more than max_pixels (398)")


@pytest.mark.parametrize("name", ["photo.tif", "photo.png"])
def test_a_file_on_disk_is_read_like_one_in_memory(name: str, tmp_path: Path) -> None:
    data = tiff(random_samples(12, 3), RGB, 12, compression=8, rows_per_strip=6)
    (tmp_path / name).write_bytes(data)
    image = read(str(tmp_path / name), PixelConfig(PRESETS["torchvision"]))
    assert isinstance(image, Image.Image)
    assert np.array_equal(np.asarray(image), decoded(data))
