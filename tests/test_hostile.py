"""Hostile files: each gets the row that it deserves, its neighbours theirs, and nothing else happens."""

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
    GOOD_PICTURES,
    JPEG,
    Kind,
    befallen,
    bomb_files,
    broken_metadata,
    fuzzed,
    jpeg_with,
    kinds,
    png_with,
    write,
)
from PIL import Image
from running import Inception, code_of
from torch import Tensor, nn

from inception_cli import predict, weights
from inception_cli.images.decode import Failure, read
from inception_cli.images.inputs import PathList
from inception_cli.images.loader import Loading, batches
from inception_cli.images.preprocess import PRESETS, Pixels, views
from inception_cli.results.rows import STATUSES, Prediction, read_csv, written

PIXELS = Pixels(PRESETS["torchvision"])
BOUNDED = replace(PIXELS, max_pixels=1_000_000)
CLASSIFY = ("classify", "-w", "demo", "-b", 16, "--precision", "fp32", "--max-pixels", BOUNDED.max_pixels)
Rows = list[tuple[str, Kind | None]]


class Glance(nn.Module):
    """A network of a millisecond: logits of ten classes from 100 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = 2 * torch.randn(300, 10, generator=torch.Generator().manual_seed(0))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, S, S) uint8 → (N, 10)."""
        side = images.shape[-1] // 10
        return (images[:, :, ::side, ::side][:, :, :10, :10].flatten(1).float() / 255 - 0.5) @ self.classifier


@dataclass(frozen=True)
class Ran:
    """A run over the hostile folder: its inputs, its file, its exit code; the state before and after."""

    inputs: Rows
    out: Path
    code: int
    before: object
    after: object

    def rows(self) -> list[Prediction]:
        return list(read_csv(self.out))


def state(rows: Rows) -> dict[str, object]:
    """Modification time and sha256 of each file, link and folder; how many files are open."""
    moved = {str(Path(path).parent) for path, kind in rows if kind and kind.befalls}  # a move out and in is ours

    def content(path: Path) -> bytes:
        if path.is_symlink():
            return os.fsencode(path.readlink())
        return path.read_bytes() if path.is_file() else b""

    found: dict[str, object] = {
        str(path): (path.lstat().st_mtime_ns, hashlib.sha256(content(path)).hexdigest())
        for path in Path("hostile").rglob("*")
        if str(path) not in moved
    }
    opened = (str(file.readlink()) for file in [*Path("/dev/fd").iterdir()] if file.is_symlink())
    return found | {"open files": sorted(file for file in opened if "hostile" in file)}


@pytest.fixture(scope="module", params=["glance", pytest.param("demo", marks=pytest.mark.slow)])
def hostile(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rows]:
    """The folder `hostile` here, its files as befallen as they should be, and a network that only glances."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("here"))
        rows = write(Path("hostile"))
        for call in ("open", "stat"):
            patch.setattr(os, call, befallen(call, rows))
        start = multiprocessing.get_start_method()
        multiprocessing.set_start_method("fork", force=True)  # so that workers are befallen too
        if request.param == "glance":
            patch.setattr(weights, "load", lambda _: None)
            patch.setattr(predict, "optimize", lambda *_: Glance())
        yield rows
        multiprocessing.set_start_method(start, force=True)


@pytest.fixture(scope="module")
def quiet(hostile: Rows) -> Ran:
    """Classified without workers."""
    out, before = Path("quiet.csv").absolute(), state(hostile)
    code = code_of(*CLASSIFY, "hostile", "-j", 0, "-o", out)
    return Ran(hostile, out, code, before, state(hostile))


# --- The folder, through the command.


def test_there_are_a_hundred_kinds_and_each_is_another() -> None:
    every = kinds()
    contents = [kind.make for kind in every if isinstance(kind.make, bytes) and kind.make != JPEG]
    assert len(every) >= 500
    assert len({kind.what for kind in every}) == len(every)
    assert len(set(contents)) > 0.8 * len(contents)
    assert {status for kind in every if len(kind.statuses) == 1 for status in kind.statuses} == set(STATUSES)


def test_each_kind_has_the_row_that_it_deserves(quiet: Ran) -> None:
    rows = quiet.rows()
    assert [row.path for row in rows] == [written(path) for path, _ in quiet.inputs]
    wrong = [
        (kind, row.status, row.error)
        for row, (_, kind) in zip(rows, quiet.inputs, strict=True)
        if row.status not in (kind.statuses if kind else ("ok",))
    ]
    assert wrong == []
    assert all(row.error.isprintable() and bool(row.error) == (row.status != "ok") for row in rows)


def test_the_neighbours_of_a_hostile_file_have_their_own_rows(quiet: Ran) -> None:
    good = [path for path, kind in quiet.inputs if kind is None]
    code = code_of(*CLASSIFY, *good[:GOOD_PICTURES], "-j", 0, "-o", "good.csv")
    alone, among = list(read_csv(Path("good.csv"))), [row for row in quiet.rows() if row.path in set(good)]
    assert (code, quiet.code, len(among)) == (0, 3, len(good))
    for number, row in enumerate(among):
        own = alone[number % GOOD_PICTURES]
        assert row.classes == own.classes
        assert row.scores == pytest.approx(own.scores, abs=1e-5)
    assert len({row.scores for row in alone}) == GOOD_PICTURES  # so a neighbour's row would be seen
    assert len({row.classes[0] for row in alone}) >= 4


def test_workers_give_the_same_bytes(quiet: Ran) -> None:
    assert code_of(*CLASSIFY, "hostile", "-j", 2, "-o", "workers.csv", "--allow-failures") == 0
    assert Path("workers.csv").read_bytes() == quiet.out.read_bytes()


def test_no_input_changes_and_nothing_stays_open(quiet: Ran) -> None:
    assert quiet.after == quiet.before
    assert state(quiet.inputs) == quiet.before  # by workers neither
    assert not list(Path().rglob("hacked"))


def test_the_file_is_what_any_reader_of_csv_reads(quiet: Ran) -> None:
    with quiet.out.open(encoding="utf-8", newline="") as file:
        _, *fields = csv.reader(file, strict=True)
    assert [(row[0], row[1], row[-1]) for row in fields] == [(row.path, row.status, row.error) for row in quiet.rows()]
    assert len(fields) == len(quiet.inputs)


def obeyed(text: str) -> set[str]:
    """What a terminal would obey, or a reader not see."""
    return {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")} - {"\n"}


def test_a_terminal_has_nothing_to_obey(hostile: Rows, inception: Inception) -> None:
    ended = inception(*CLASSIFY, "hostile", "-j", 2, "-v")
    assert ended.code == 3
    assert len(ended.out.splitlines()) == len(hostile)
    assert obeyed(ended.out + ended.err) == set()
    assert "Traceback" not in ended.err
    assert len(ended.err.splitlines()) < 9
    for name in ("new\\nline.jpg", "\\x1b[2J\\x1b[H.jpg", "[bold red]x[/] [link=http:x]y.jpg", ":boom:.jpg"):
        assert ended.out.count(f"/{name}\n") == 1, name


def test_a_terminal_in_colour_obeys_our_colours_alone(
    hostile: Rows, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    named = [path for path, kind in hostile if kind and "name" in kind.what]
    shown = inception(*CLASSIFY, *named, "-j", 0, "-q").out
    assert "\x1b[" in shown
    assert obeyed(re.sub(r"\x1b\[[0-9;]*m", "", shown)) == set()
    assert len(shown.splitlines()) == len(named) > 100


# --- One file at a time.


@pytest.mark.parametrize(("what", "suffix", "data"), [pytest.param(*each, id=each[0]) for each in broken_metadata()])
def test_broken_metadata_leaves_the_picture_as_it_is(what: str, suffix: str, data: bytes, tmp_path: Path) -> None:
    plain = next(data for other, data, _ in FORMATS.values() if other == suffix.replace("tiff", "tif"))
    for name, content in (("plain", plain), ("broken", data)):
        (tmp_path / f"{name}{suffix}").write_bytes(content)
    expected, found = (read(str(tmp_path / f"{name}{suffix}"), PIXELS) for name in ("plain", "broken"))
    assert isinstance(expected, Image.Image)
    assert isinstance(found, Image.Image)
    assert np.array_equal(np.asarray(found), np.asarray(expected))


SIX = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIII", 0x112, 3, 1, 6, 0)  # EXIF: to be turned by a quarter


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        (".jpg", jpeg_with(0xE2, b"ICC_PROFILE\0").replace(JPEG[2:], jpeg_with(0xE1, b"Exif\0\0" + SIX)[2:])),
        (".png", png_with(b"eXIf", SIX)[:-12] + png_with(b"iCCP", b"")[33:45] + png_with(b"eXIf", b"")[-12:]),
        (".png", png_with(b"eXIf", SIX)[:33] + png_with(b"iCCP", b"")[33:45] + png_with(b"eXIf", SIX)[33:]),
    ],
)
def test_a_broken_profile_leaves_the_turn_of_exif(suffix: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(data)
    found = read(str(path), PIXELS)
    assert isinstance(found, Image.Image), found
    assert found.size == (60, 90)


def test_a_broken_profile_hides_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    bomb, profile = png_header(30_000, 30_000), png_with(b"iCCP", b"")[33:45]
    path.write_bytes(bomb[:33] + profile + bomb[33:])
    assert read(str(path), PIXELS) == Failure(
        "too_large", "900000000 pixels, over the bound of 500000000 (--max-pixels)"
    )


@pytest.mark.parametrize("what", ARITHMETIC)
def test_an_arithmetic_jpeg_is_the_picture_that_was_coded(what: str, tmp_path: Path) -> None:
    """It was drawn so: red grows by 8 to the right, green by 10 downwards."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(ARITHMETIC[what])
    found = read(str(path), PIXELS)
    assert isinstance(found, Image.Image)
    down, right = np.indices((24, 32))
    drawn = np.stack([8 * right, 10 * down, 255 - 4 * right - 4 * down], -1)
    assert np.abs(np.asarray(found).astype(int) - drawn).mean() < 6


READ_ALL = """
import resource, sys
from pathlib import Path
from inception_cli.images.decode import read
from inception_cli.images.preprocess import PRESETS, Pixels

def statuses(folder):
    found = [read(str(path), Pixels(PRESETS["torchvision"])) for path in sorted(Path(folder).iterdir())]
    return {getattr(each, "status", "ok") for each in found}

for folder in sys.argv[1:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(*statuses(folder))
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown // (1_000_000 if sys.platform == "darwin" else 1_000))
"""


def read_elsewhere(*folders: Path) -> list[list[str]]:
    """The statuses of each folder's files in a process of its own, and by how many MB the last one made it grow."""
    ended = subprocess.run(
        [sys.executable, "-c", READ_ALL, *folders],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(predict.__file__).parents[1])},
    )
    assert ended.stderr == ""
    return [line.split() for line in ended.stdout.splitlines()]


def in_folder(folder: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """A folder with files of these suffixes and contents."""
    folder.mkdir()
    for number, (suffix, data) in enumerate(files):
        (folder / f"{number:03}{suffix}").write_bytes(data)
    return folder


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    small = in_folder(tmp_path / "small", [(suffix, data) for suffix, data, _ in FORMATS.values()])  # loads decoders
    bombs = in_folder(tmp_path / "bombs", [(suffix, data) for _, suffix, data in bomb_files()])
    assert len(list(bombs.iterdir())) > 20
    *statuses, (grown,) = read_elsewhere(small, bombs)
    assert statuses == [["ok"], ["too_large"]]
    assert int(grown) < 40  # the least of the bombs would be 1,500


def test_no_decoder_complains_on_standard_error(tmp_path: Path) -> None:
    """Nor Pillow by way of logging, which pytest would keep from it here."""
    files = [(Path(kind.name).suffix, kind.make) for kind in kinds() if isinstance(kind.make, bytes)]
    (statuses, _) = read_elsewhere(in_folder(tmp_path / "all", files))
    assert set(statuses) == {"ok", "truncated", "corrupt", "too_large", "unsupported"}


def shrink(path: Path) -> None:
    os.truncate(path, 9000)  # more than the header, so that some of the picture is there


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(9000))


def exchange(path: Path) -> None:
    shutil.copy(path.with_name("1.png"), path.with_name("new"))
    path.with_name("new").rename(path)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "it is cut short": (shrink, "truncated"),
    "it is emptied": (lambda path: os.truncate(path, 0), "truncated"),
    "it vanishes": (Path.unlink, "ok"),
    "another takes its name": (exchange, "ok"),
    "it grows": (grow, "ok"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_file_that_changes_while_it_is_read_changes_its_own_row_alone(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its header and its pixels."""
    change, status = CHANGES[what]
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (80, 120, 3), dtype=np.uint8)).save(path)
    expected = [views(Image.open(path).convert("RGB"), PIXELS) for path in paths]
    seen: list[object] = []
    opened = Image.open

    def open_and_change(file: object, **how: object) -> Image.Image:
        image = opened(file, **how)  # type: ignore[arg-type]
        seen.append(image)
        if len(seen) == 2:
            change(Path(paths[1]))
        return image

    monkeypatch.setattr(Image, "open", open_and_change)
    (batch,) = batches(PathList.of(paths), PIXELS, Loading(4))
    assert [(offset, failure.status) for offset, failure in batch.failures] == ([] if status == "ok" else [(1, status)])
    for offset in (0, 2, *([1] if status == "ok" else [])):
        assert np.array_equal(batch.pixels[offset].numpy(), expected[offset])


# --- Fuzz.


def fuzz(seeds: range, folder: Path) -> int:
    """Read what each seed makes; how many bytes that were."""
    total = 0
    for seed in seeds:
        suffix, data = fuzzed(seed)
        path = folder / f"photo{suffix}"
        path.write_bytes(data)
        found = read(str(path), BOUNDED)
        if isinstance(found, Failure):
            assert found.status in {"truncated", "corrupt", "too_large", "unsupported"}, (seed, found)
            assert found.error.isprintable()
        else:
            assert (found.mode, views(found, PIXELS).shape) == ("RGB", (1, 299, 299, 3)), seed
        total += len(data)
    return total


def test_a_thousand_damaged_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opened = len(list(Path("/dev/fd").iterdir()))
    total = fuzz(range(1000), tmp_path)
    assert total > 3_000_000
    assert len(list(Path("/dev/fd").iterdir())) == opened
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 100_000, 9900))
def test_a_hundred_thousand_damaged_files(start: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    total = fuzz(range(start, start + 9900), tmp_path)
    assert total > 30_000_000
    assert capfd.readouterr() == ("", "")
