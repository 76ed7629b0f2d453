"""Hostile files have the right status, other files keep their predictions, and nothing else happens."""

import csv
import hashlib
import multiprocessing
import os
import re
import shutil
import struct
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from formats import FORMATS, png_header
from hostile import (
    ARITHMETIC,
    GOOD_IMAGES,
    JPEG,
    Hostile,
    bomb_files,
    broken_metadata,
    fuzzed,
    hostile_files,
    jpeg_with,
    png_with,
    with_interference,
    write,
)
from PIL import Image
from running import Inception, code_of
from torch import Tensor, nn

from inception_cli.config import PRESETS, LoaderConfig, PixelConfig
from inception_cli.images.dataset import load_batches
from inception_cli.images.decode import Failure, read
from inception_cli.images.preprocess import views
from inception_cli.inference import predictor
from inception_cli.predictions.formats import read_predictions
from inception_cli.predictions.prediction import STATUSES, Prediction
from inception_cli.predictions.text import escape_bytes
from inception_cli.storage.input_list import InputList

PIXELS = PixelConfig(PRESETS["torchvision"])
BOUNDED = replace(PIXELS, max_pixels=1_000_000)
CLASSIFY = ("classify", "-w", "demo", "-b", 16, "--precision", "fp32", "--max-pixels", BOUNDED.max_pixels)
Rows = list[tuple[str, Hostile | None]]
State = dict[str, object]  # of the folder's files, by path


class TinyNetwork(nn.Module):
    """A network that takes a millisecond: logits of ten classes from 100 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = 2 * torch.randn(300, 10, generator=torch.Generator().manual_seed(0))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, 10) of images (N, 3, S, S) uint8."""
        side = images.shape[-1] // 10
        return (images[:, :, ::side, ::side][:, :, :10, :10].flatten(1).float() / 255 - 0.5) @ self.classifier


@dataclass(frozen=True)
class FinishedRun:
    """A run over the hostile folder: its inputs, file and exit code, and the state of the folder before and after."""

    inputs: Rows
    out: Path
    code: int
    before: State
    after: State

    def rows(self) -> list[Prediction]:
        return list(read_predictions(self.out))


def state(rows: Rows) -> State:
    """Return modification time and sha256 of each file, link and folder, and the open files."""
    changed = {str(Path(path).parent) for path, file in rows if file and file.interference}  # by the test itself

    def content(path: Path) -> bytes:
        if path.is_symlink():
            return os.fsencode(path.readlink())
        return path.read_bytes() if path.is_file() else b""

    files: State = {
        str(path): (path.lstat().st_mtime_ns, hashlib.sha256(content(path)).hexdigest())
        for path in Path("hostile").rglob("*")
        if str(path) not in changed
    }
    opened = (str(file.readlink()) for file in [*Path("/dev/fd").iterdir()] if file.is_symlink())
    return files | {"open files": sorted(file for file in opened if "hostile" in file)}


def differences(state: State, other: State) -> dict[str, tuple[object, object]]:
    """Return what differs between two states: short where a test fails."""
    return {
        name: (state.get(name), other.get(name))
        for name in state.keys() | other.keys()
        if state.get(name) != other.get(name)
    }


@pytest.fixture(scope="module", params=["tiny", pytest.param("demo", marks=pytest.mark.slow)])
def hostile(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rows]:
    """Write the folder `hostile` into the working directory, with interference, and use a tiny network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("here"))
        rows = write(Path("hostile"))
        for call in ("open", "stat"):
            patch.setattr(os, call, with_interference(call, rows))
        start = multiprocessing.get_start_method()
        multiprocessing.set_start_method("fork", force=True)  # so that workers have the interference too
        if request.param == "tiny":
            patch.setattr(predictor, "load_network", lambda _: None)
            patch.setattr(predictor, "optimize", lambda *_: TinyNetwork())
        yield rows
        multiprocessing.set_start_method(start, force=True)


@pytest.fixture(scope="module")
def finished(hostile: Rows) -> FinishedRun:
    """Classify the folder without workers."""
    out, before = Path("finished.csv").absolute(), state(hostile)
    code = code_of(*CLASSIFY, "hostile", "-j", 0, "-o", out)
    return FinishedRun(hostile, out, code, before, state(hostile))


# --- The whole folder, with the command.


def test_there_are_hundreds_of_different_hostile_files() -> None:
    files = hostile_files()
    contents = [file.content for file in files if isinstance(file.content, bytes) and file.content != JPEG]
    assert len(files) >= 500
    assert len({file.description for file in files}) == len(files)
    assert len(set(contents)) > 0.8 * len(contents)
    assert {status for file in files if len(file.statuses) == 1 for status in file.statuses} == set(STATUSES)


def test_each_hostile_file_has_the_right_status(finished: FinishedRun) -> None:
    rows = finished.rows()
    assert [row.path for row in rows] == [escape_bytes(path) for path, _ in finished.inputs]
    wrong = [
        (file, row.status, row.error)
        for row, (_, file) in zip(rows, finished.inputs, strict=True)
        if row.status not in (file.statuses if file else ("ok",))
    ]
    assert wrong == []
    assert all(row.error.isprintable() and bool(row.error) == (row.status != "ok") for row in rows)


def test_good_images_between_hostile_files_have_their_own_predictions(finished: FinishedRun) -> None:
    good = [path for path, file in finished.inputs if file is None]
    code = code_of(*CLASSIFY, *good[:GOOD_IMAGES], "-j", 0, "-o", "good.csv")
    alone, among = list(read_predictions(Path("good.csv"))), [row for row in finished.rows() if row.path in set(good)]
    assert (code, finished.code, len(among)) == (0, 3, len(good))
    for number, row in enumerate(among):
        own = alone[number % GOOD_IMAGES]
        assert row.classes == own.classes
        assert row.scores == pytest.approx(own.scores, abs=1e-5)
    assert len({row.scores for row in alone}) == GOOD_IMAGES  # so another image's prediction would be noticed
    assert len({row.classes[0] for row in alone}) >= 4


def test_workers_write_the_same_bytes(finished: FinishedRun) -> None:
    assert code_of(*CLASSIFY, "hostile", "-j", 2, "-o", "workers.csv", "--allow-failures") == 0
    assert Path("workers.csv").read_bytes() == finished.out.read_bytes()


def test_no_input_changes_and_nothing_stays_open(finished: FinishedRun) -> None:
    assert differences(finished.after, finished.before) == {}
    assert differences(state(finished.inputs), finished.before) == {}  # not by workers either
    assert not list(Path().rglob("hacked"))


def test_the_output_is_valid_csv(finished: FinishedRun) -> None:
    with finished.out.open(encoding="utf-8", newline="") as file:
        _, *fields = csv.reader(file, strict=True)
    assert [(row[0], row[1], row[-1]) for row in fields] == [
        (row.path, row.status, row.error) for row in finished.rows()
    ]
    assert len(fields) == len(finished.inputs)


def control_characters(text: str) -> set[str]:
    """Return the characters that a terminal would interpret, or that are invisible."""
    return {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")} - {"\n"}


def test_terminal_output_has_no_control_characters(hostile: Rows, inception: Inception) -> None:
    ended = inception(*CLASSIFY, "hostile", "-j", 2, "-v")
    assert ended.code == 3
    assert len(ended.out.splitlines()) == len(hostile)
    assert control_characters(ended.out + ended.err) == set()
    assert "Traceback" not in ended.err
    assert len(ended.err.splitlines()) < 16  # eight reasons at most
    for name in ("new\\nline.jpg", "\\x1b[2J\\x1b[H.jpg", "[bold red]x[/] [link=http:x]y.jpg", ":boom:.jpg"):
        assert ended.out.count(f"/{name}\n") == 1, name


def test_coloured_terminal_output_has_no_other_escapes(
    hostile: Rows, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "500")  # a reason that fits is on the line of its path
    paths = [path for path, file in hostile if file and "name" in file.description]
    output = inception(*CLASSIFY, *paths, "-j", 0, "-q").out
    assert "\x1b[" in output
    assert control_characters(re.sub(r"\x1b\[[0-9;]*m", "", output)) == set()
    assert len(output.splitlines()) == len(paths) > 100


# --- One file at a time.


@pytest.mark.parametrize(
    ("description", "suffix", "data"), [pytest.param(*each, id=each[0]) for each in broken_metadata()]
)
def test_broken_metadata_do_not_change_the_pixels(description: str, suffix: str, data: bytes, tmp_path: Path) -> None:
    plain = next(data for other, data, _ in FORMATS.values() if other == suffix.replace("tiff", "tif"))
    for name, content in (("plain", plain), ("broken", data)):
        (tmp_path / f"{name}{suffix}").write_bytes(content)
    expected, actual = (read(str(tmp_path / f"{name}{suffix}"), PIXELS) for name in ("plain", "broken"))
    assert isinstance(expected, Image.Image)
    assert isinstance(actual, Image.Image)
    assert np.array_equal(np.asarray(actual), np.asarray(expected))


SIX = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIII", 0x112, 3, 1, 6, 0)  # EXIF: rotated by a quarter


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        (".jpg", jpeg_with(0xE2, b"ICC_PROFILE\0").replace(JPEG[2:], jpeg_with(0xE1, b"Exif\0\0" + SIX)[2:])),
        (".png", png_with(b"eXIf", SIX)[:-12] + png_with(b"iCCP", b"")[33:45] + png_with(b"eXIf", b"")[-12:]),
        (".png", png_with(b"eXIf", SIX)[:33] + png_with(b"iCCP", b"")[33:45] + png_with(b"eXIf", SIX)[33:]),
    ],
)
def test_exif_orientation_is_applied_despite_a_broken_icc_profile(suffix: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(data)
    image = read(str(path), PIXELS)
    assert isinstance(image, Image.Image), image
    assert image.size == (60, 90)


def test_a_bomb_with_a_broken_icc_profile_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    bomb, profile = png_header(30_000, 30_000), png_with(b"iCCP", b"")[33:45]
    path.write_bytes(bomb[:33] + profile + bomb[33:])
    assert read(str(path), PIXELS) == Failure("too_large", "900000000 pixels, more than max_pixels (500000000)")


@pytest.mark.parametrize("what", ARITHMETIC)
def test_jpegs_with_arithmetic_coding_are_decoded(what: str, tmp_path: Path) -> None:
    """In the original, red grows by 8 to the right and green by 10 downwards."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(ARITHMETIC[what])
    image = read(str(path), PIXELS)
    assert isinstance(image, Image.Image)
    down, right = np.indices((24, 32))
    original = np.stack([8 * right, 10 * down, 255 - 4 * right - 4 * down], -1)
    assert np.abs(np.asarray(image).astype(int) - original).mean() < 6


READ_ALL = """
import resource, sys
from pathlib import Path
from inception_cli.config import PRESETS, PixelConfig
from inception_cli.images.decode import read

def statuses(folder):
    results = [read(str(path), PixelConfig(PRESETS["torchvision"])) for path in sorted(Path(folder).iterdir())]
    return {getattr(result, "status", "ok") for result in results}

for folder in sys.argv[1:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(*statuses(folder))
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown // (1_000_000 if sys.platform == "darwin" else 1_000))
"""


def read_in_subprocess(*folders: Path) -> list[list[str]]:
    """Return the statuses of each folder's files, and by how many MB the last folder made the process grow."""
    ended = subprocess.run(
        [sys.executable, "-c", READ_ALL, *folders],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(predictor.__file__).parents[2])},
    )
    assert ended.stderr == ""
    return [line.split() for line in ended.stdout.splitlines()]


def in_folder(folder: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """Write files of these suffixes and contents into a folder."""
    folder.mkdir()
    for number, (suffix, data) in enumerate(files):
        (folder / f"{number:03}{suffix}").write_bytes(data)
    return folder


def test_decompression_bombs_take_no_memory(tmp_path: Path) -> None:
    small = in_folder(
        tmp_path / "small", [(suffix, data) for suffix, data, _ in FORMATS.values()]
    )  # which loads the decoders
    bombs = in_folder(tmp_path / "bombs", [(suffix, data) for _, suffix, data in bomb_files()])
    assert len(list(bombs.iterdir())) > 20
    *statuses, (grown,) = read_in_subprocess(small, bombs)
    assert statuses == [["ok"], ["too_large"]]
    assert int(grown) < 40  # the smallest of the bombs would take 1,500


def test_no_decoder_prints_on_standard_error(tmp_path: Path) -> None:
    """Nor does Pillow through logging, which pytest captures in this process."""
    files = [(Path(each.name).suffix, each.content) for each in hostile_files() if isinstance(each.content, bytes)]
    (statuses, _) = read_in_subprocess(in_folder(tmp_path / "all", files))
    assert set(statuses) == {"ok", "truncated", "corrupt", "too_large", "unsupported"}


def shrink(path: Path) -> None:
    os.truncate(path, 9000)  # more than the header, so that a part of the image is there


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(9000))


def exchange(path: Path) -> None:
    shutil.copy(path.with_name("1.png"), path.with_name("new"))
    path.with_name("new").rename(path)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "it is cut short": (shrink, "truncated"),
    "it is emptied": (lambda path: os.truncate(path, 0), "truncated"),
    "it is deleted": (Path.unlink, "ok"),
    "it is replaced": (exchange, "ok"),
    "it grows": (grow, "ok"),
}


@pytest.mark.parametrize("event", CHANGES)
def test_a_file_that_changes_while_it_is_read_affects_only_its_own_result(
    event: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changes after its header is read and before its pixels are."""
    change, status = CHANGES[event]
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (80, 120, 3), dtype=np.uint8)).save(path)
    expected = [views(Image.open(path).convert("RGB"), PIXELS) for path in paths]
    opened: list[object] = []
    pillow_open = Image.open

    def open_and_change(file: object, **kwargs: object) -> Image.Image:
        image = pillow_open(file, **kwargs)  # type: ignore[arg-type]
        opened.append(image)
        if len(opened) == 2:
            change(Path(paths[1]))
        return image

    monkeypatch.setattr(Image, "open", open_and_change)
    (batch,) = load_batches(InputList.of(paths), PIXELS, LoaderConfig(4))
    assert [(offset, failure.status) for offset, failure in batch.failures] == ([] if status == "ok" else [(1, status)])
    for offset in (0, 2, *([1] if status == "ok" else [])):
        assert np.array_equal(batch.pixels[offset].numpy(), expected[offset])


# --- Fuzz.


def fuzz(seeds: range, folder: Path) -> int:
    """Read the damaged file of each seed; return the number of bytes of all files."""
    total = 0
    for seed in seeds:
        suffix, data = fuzzed(seed)
        path = folder / f"photo{suffix}"
        path.write_bytes(data)
        result = read(str(path), BOUNDED)
        if isinstance(result, Failure):
            assert result.status in {"truncated", "corrupt", "too_large", "unsupported"}, (seed, result)
            assert result.error.isprintable()
        else:
            assert (result.mode, views(result, PIXELS).shape) == ("RGB", (1, 299, 299, 3)), seed
        total += len(data)
    return total


def test_a_thousand_damaged_files_have_a_status(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opened = len(list(Path("/dev/fd").iterdir()))
    total = fuzz(range(1000), tmp_path)
    assert total > 3_000_000
    assert len(list(Path("/dev/fd").iterdir())) == opened
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 100_000, 9900))
def test_a_hundred_thousand_damaged_files_have_a_status(
    start: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    total = fuzz(range(start, start + 9900), tmp_path)
    assert total > 30_000_000
    assert capfd.readouterr() == ("", "")
