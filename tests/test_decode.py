"""Decoding gives an image or a status: formats, truncation, damage, decompression bombs, paths that are no file."""

import errno
import hashlib
import io
import os
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from formats import FORMATS, drawn, lengths_of_cuts, png_header, saved
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from inception_cli.config import PRESETS, PixelConfig
from inception_cli.images.decode import Failure, read
from inception_cli.images.discovery import UNSUPPORTED_SUFFIXES
from inception_cli.images.failure import FailureStatus

PIXELS = PixelConfig(PRESETS["torchvision"])


def status(result: Image.Image | Failure) -> str:
    """Return the status of a result of `read`; the error of a failure is one line."""
    if isinstance(result, Image.Image):
        assert result.mode == "RGB"
        return "ok"
    assert result.error.isprintable()
    assert 5 < len(result.error) < 200
    return result.status


# --- Formats.


@pytest.fixture(params=FORMATS)
def kind(request: pytest.FixtureRequest) -> str:
    """Return the name of a format."""
    return str(request.param)


def test_every_format_decodes_to_the_pixels_that_pillow_converts(kind: str, tmp_path: Path) -> None:
    suffix, data, _ = FORMATS[kind]
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(data)
    expected = Image.open(io.BytesIO(data))
    result = read(str(path), PIXELS)
    assert isinstance(result, Image.Image)
    assert np.array_equal(np.asarray(expected.convert("RGB")), np.asarray(result))


def test_a_cut_file_is_truncated(kind: str, tmp_path: Path) -> None:
    suffix, data, _ = FORMATS[kind]
    path = tmp_path / f"photo{suffix}"
    for length in lengths_of_cuts(kind, 12):
        path.write_bytes(data[:length])
        assert status(read(str(path), PIXELS)) == "truncated", length


def test_a_file_cut_in_its_header_is_corrupt(kind: str, tmp_path: Path) -> None:
    suffix, data, header = FORMATS[kind]
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(data[: min(header - 1, 6)])
    assert status(read(str(path), PIXELS)) == "corrupt"


def test_a_file_cut_anywhere_has_a_status(kind: str, tmp_path: Path) -> None:
    suffix, data, _ = FORMATS[kind]
    path = tmp_path / f"photo{suffix}"
    for length in {*range(1, 64), *np.linspace(64, len(data) - 1, 60).astype(int)}:
        path.write_bytes(data[:length])
        assert status(read(str(path), PIXELS)) in ("ok", "truncated", "corrupt", "too_large")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=9))
def test_a_damaged_file_has_a_status(kind: str, flips: list[tuple[float, int]], tmp_path: Path) -> None:
    suffix, data, _ = FORMATS[kind]
    damaged = bytearray(data)
    for place, bits in flips:
        damaged[int(place * len(damaged))] ^= bits
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(damaged)
    bounded = PixelConfig(PRESETS["torchvision"], max_pixels=1_000_000)
    assert status(read(str(path), bounded)) in ("ok", "truncated", "corrupt", "too_large", "unsupported")


def test_a_damaged_tiff_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff itself prints to file descriptor 2."""
    path = tmp_path / "photo.tif"
    _, data, _ = FORMATS["tiff fax"]
    path.write_bytes(data[:100] + b"\xa5" * 400 + data[500:])
    assert status(read(str(path), PIXELS)) in ("ok", "corrupt")
    os.write(2, b"not muted")
    assert capfd.readouterr() == ("", "not muted")


# --- Files that are no images.


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"\0" * 1000, "not an image"),
        (b"not a picture\n" * 9, "not an image"),
        (b"\n<!DOCTYPE html><html>404</html>", "HTML page"),
        (b"\xff\xd8\xff", "not an image"),
        (b"\x9c\x02\xe1\x7f", "not an image"),
    ],
)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".ico"])
def test_a_file_that_is_no_image_is_corrupt(data: bytes, word: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(data)
    result = read(str(path), PIXELS)
    assert status(result) == "corrupt"
    assert isinstance(result, Failure)
    assert word in result.error


@pytest.mark.parametrize("suffix", [suffix for suffix, name in UNSUPPORTED_SUFFIXES.items() if name != "HEIC"])
def test_unsupported_formats_are_named_by_suffix(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo{suffix.upper()}"
    path.write_bytes(b"some other format" * 9)
    result = read(str(path), PIXELS)
    assert result == Failure(
        "unsupported", f"{UNSUPPORTED_SUFFIXES[suffix]} files are not supported; convert it to JPEG or PNG"
    )


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"8BPS\0\1", "Photoshop"),
        (b"\xff\x0a\xfa", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"<svg xmlns=''>", "SVG"),
    ],
)
def test_unsupported_formats_are_named_by_signature(start: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(start + bytes(200))
    result = read(str(path), PIXELS)
    assert isinstance(result, Failure)
    assert (result.status, result.error.split(" files")[0]) == ("unsupported", name)


def test_the_thumbnail_in_a_raw_file_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "photo.nef"
    path.write_bytes(saved(drawn(16, 12), "TIFF"))
    assert status(read(str(path), PIXELS)) == "unsupported"


@pytest.mark.parametrize("suffix", [".png", ".heic", ".txt", ""])
def test_an_image_with_a_wrong_suffix_is_decoded(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(FORMATS["jpeg"][1])
    assert status(read(str(path), PIXELS)) == "ok"


def test_lab_colours_are_unsupported(tmp_path: Path) -> None:
    Image.new("LAB", (8, 8)).save(tmp_path / "lab.tif")
    assert status(read(str(tmp_path / "lab.tif"), PIXELS)) == "unsupported"


# --- Paths that are no readable file.


def test_paths_that_do_not_exist_are_missing(tmp_path: Path) -> None:
    (tmp_path / "file.jpg").write_bytes(FORMATS["jpeg"][1])
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    for name in (
        "gone.jpg",
        "dangling.jpg",
        "loop.jpg",
        "file.jpg/x.jpg",
        "file.jpg/",
        "x" * 300,
        "a\0b.jpg",
        "\ud800.jpg",
    ):
        assert status(read(f"{tmp_path}/{name}", PIXELS)) == "missing", name


def test_files_that_are_not_regular_are_unsupported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's address is short
    os.mkfifo("pipe.jpg")
    Path("folder.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.jpg")
        errors = [read(name, PIXELS) for name in ("pipe.jpg", "folder.jpg", "socket.jpg", "/dev/null")]
    assert errors == [
        Failure("unsupported", f"{kind}, not a file") for kind in ("a named pipe", "a folder", "a socket", "a device")
    ]


def test_opening_does_not_wait_for_a_pipe_that_has_replaced_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(FORMATS["jpeg"][1])
    regular = path.stat()
    path.unlink()
    os.mkfifo(path)
    system_stat = os.stat
    monkeypatch.setattr(
        os, "stat", lambda name, **kwargs: regular if name == str(path) else system_stat(name, **kwargs)
    )
    assert read(str(path), PIXELS) == Failure("unsupported", "a named pipe, not a file")


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.EACCES, "denied"), (errno.EPERM, "denied"), (errno.ENOENT, "missing"), (errno.EIO, "failed")],
)
def test_errors_of_the_operating_system_have_a_status(
    number: int, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: root may read everything. ENOENT: the file is deleted between two system calls."""

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "photo.jpg"
    path.write_bytes(FORMATS["jpeg"][1])
    monkeypatch.setattr(os, "open", refuse)
    assert status(read(str(path), PIXELS)) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EIO, "Input/output error"), "failed"),
        (OSError(errno.EINVAL, "Invalid argument"), "corrupt"),
        (MemoryError(), "failed"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "failed"),
        (OSError("out of memory error when reading image file"), "failed"),  # Pillow for code -9 of a decoder
        (RecursionError(), "corrupt"),
        (SyntaxError("broken\nat \x1b[31m line 2 " + 300 * "x"), "corrupt"),
        (struct.error("unpack requires 4 bytes"), "corrupt"),
        (Image.DecompressionBombError(), "too_large"),
    ],
)
def test_any_exception_of_a_decoder_has_a_status(
    error: Exception, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise error

    path = tmp_path / "photo.png"
    path.write_bytes(FORMATS["png"][1])
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    assert status(read(str(path), PIXELS)) == expected


def test_reading_changes_no_file_and_closes_it(tmp_path: Path) -> None:
    def state() -> list[tuple[str, int, str]]:
        files = sorted(tmp_path.iterdir())
        return [(f.name, f.stat().st_mtime_ns, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files]

    for name, (suffix, data, _) in FORMATS.items():
        (tmp_path / f"{name}{suffix}").write_bytes(data)
        (tmp_path / f"{name} cut{suffix}").write_bytes(data[: len(data) // 2])
    before, opened = state(), len(list(Path("/dev/fd").iterdir()))
    for path in sorted(tmp_path.iterdir()):
        read(str(path), PIXELS)
    assert state() == before
    assert len(list(Path("/dev/fd").iterdir())) == opened


# --- Too large.


@pytest.mark.parametrize(
    "data",
    [
        png_header(30_000, 30_000),
        png_header(2**31 - 1, 2**31 - 1),
        saved(drawn(), "GIF")[:6] + struct.pack("<HH", 60_000, 60_000) + saved(drawn(), "GIF")[10:],
        saved(drawn(), "BMP")[:18] + struct.pack("<ii", 30_000, 30_000) + saved(drawn(), "BMP")[26:],
        b"P6 40000 40000 255\n",
        b"qoif" + struct.pack(">IIBB", 40_000, 40_000, 3, 0) + bytes(20),
    ],
    ids=["png", "huge png", "gif", "bmp", "ppm", "qoi"],
)
def test_a_decompression_bomb_is_too_large_by_its_header(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_: object) -> None:
        raise AssertionError("decoded")

    path = tmp_path / "bomb.png"
    path.write_bytes(data)
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    result = read(str(path), PIXELS)
    assert status(result) == "too_large"
    assert isinstance(result, Failure)
    assert result.error.endswith("pixels, more than max_pixels (500000000)")
    assert int(result.error.split()[0]) > 500_000_000


def test_max_pixels_holds_for_an_image_inside_an_icon(tmp_path: Path) -> None:
    """The icon's header says 64 × 64, and it holds a PNG of 100 × 100."""
    path = tmp_path / "photo.ico"
    inner = saved(drawn(100, 100), "PNG")
    path.write_bytes(struct.pack("<3H4B2H2I", 0, 1, 1, 64, 64, 0, 0, 1, 32, len(inner), 22) + inner)
    assert status(read(str(path), PIXELS)) == "ok"
    result = read(str(path), PixelConfig(PRESETS["torchvision"], max_pixels=5000))
    assert result == Failure("too_large", "10000 pixels, more than max_pixels (5000)")


@pytest.mark.parametrize(("bound", "expected"), [(62, "too_large"), (63, "too_large"), (64, "ok"), (65, "ok")])
@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "TIFF"])
def test_max_pixels_is_exact(bound: int, expected: str, format: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(saved(drawn(8, 8), format))
    assert status(read(str(path), PixelConfig(PRESETS["torchvision"], max_pixels=bound))) == expected


def test_global_settings_of_pillow_have_no_effect_and_are_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    _, data, _ = FORMATS["jpeg"]
    (tmp_path / "whole.jpg").write_bytes(data)
    (tmp_path / "cut.jpg").write_bytes(data[:1000])
    paths = [str(tmp_path / name) for name in ("whole.jpg", "cut.jpg")] * 40
    with ThreadPoolExecutor(4) as threads:
        statuses = list(threads.map(lambda path: status(read(path, PIXELS)), paths))
    assert statuses == ["ok", "truncated"] * 40
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == (100, True)


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("gone.jpg", "missing", "no such file"),
        ("gone[1].jpg", "missing", "no such file"),
        ("s3://bucket/a[1].jpg", "unsupported", "files in an object store are read with --engine ray"),
    ],
)
def test_the_error_of_a_file_that_is_not_here_says_what_to_check(path: str, status: FailureStatus, error: str) -> None:
    assert read(path, PixelConfig(PRESETS["torchvision"])) == Failure(status, error)
