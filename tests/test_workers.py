"""Workers that die, hang or have no room: every image gets its row, and only a guilty one is `failed`."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import wraps
from pathlib import Path

import pytest
import torch
from draw import pictures
from torch.multiprocessing import reductions

from inception_cli.images import decode, loader, preprocess, workers
from inception_cli.images.decode import Failure
from inception_cli.images.inputs import PathList
from inception_cli.images.loader import Batch, Loading, batches, crowded
from inception_cli.images.preprocess import PRESETS, Pixels

PIXELS = Pixels(PRESETS["torchvision"])
ROOT = str(Path(__file__).parents[1])


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> PathList:
    """Twenty small photos."""
    folder = tmp_path_factory.mktemp("photos")
    names = [f"{folder}/{number:02}.png" for number in range(20)]
    for name, picture in zip(names, pictures(20), strict=True):
        picture.resize((60, 50)).save(name)
    return PathList.of(names)


@pytest.fixture(autouse=True)
def _fast_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "BEAT", 0.1)


def loaded(paths: PathList, workers: int = 2, timeout: float = 30.0) -> list[Batch]:
    return list(batches(paths, PIXELS, Loading(3, workers, timeout)))


def failures(found: list[Batch]) -> dict[int, Failure]:
    return {batch.first + offset: failure for batch in found for offset, failure in batch.failures}


def all_but(guilty: set[int], found: list[Batch], paths: PathList) -> None:
    """Assert that everything but the guilty images is as the quiet run has it."""
    expected = loaded(paths, workers=0)
    assert [batch.first for batch in found] == [batch.first for batch in expected]
    for one, other in zip(expected, found, strict=True):
        for offset in range(len(one.pixels)):
            if one.first + offset in guilty:
                assert not other.pixels[offset].any()
            else:
                assert torch.equal(one.pixels[offset], other.pixels[offset]), one.first + offset
    assert multiprocessing.active_children() == []


def in_worker(monkeypatch: pytest.MonkeyPatch, name: str, act: object) -> None:
    """In a worker that is about to read the photo of that name, call `act`."""
    real, parent = decode.read, os.getpid()

    def read(path: str, pixels: Pixels) -> object:
        if Path(path).stem == name and os.getpid() != parent:
            act()  # type: ignore[operator]
        return real(path, pixels)

    monkeypatch.setattr(decode, "read", read)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("number", [1, 2])
def test_a_photo_that_kills_its_reader_is_failed_and_the_rest_are_read(
    number: int, paths: PathList, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_worker(monkeypatch, "07", die)

    found = loaded(paths, number)

    assert failures(found) == {7: Failure("failed", "reading it brought its process down")}
    all_but({7}, found, paths)


def test_several_photos_that_kill_their_readers(paths: PathList, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("00", "01", "19"):
        in_worker(monkeypatch, name, die)

    found = loaded(paths)

    assert sorted(failures(found)) == [0, 1, 19]
    all_but({0, 1, 19}, found, paths)


def test_a_first_death_is_no_fault_of_the_photo(
    paths: PathList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = tmp_path / "died"

    def die_once() -> None:
        if not died.exists():
            died.touch()
            die()

    in_worker(monkeypatch, "07", die_once)

    found = loaded(paths)

    assert died.exists()
    assert failures(found) == {}
    all_but(set(), found, paths)


def test_a_worker_killed_from_outside_costs_nothing(paths: PathList, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "AHEAD", 1)
    many = PathList.of([*paths] * 3)
    stream = batches(many, PIXELS, Loading(3, 2, 30.0))
    found = [next(stream)]
    for child in multiprocessing.active_children():
        child.kill()
    found += stream

    assert failures(found) == {}
    all_but(set(), found, many)


@pytest.mark.parametrize("error", [ConnectionResetError, ConnectionRefusedError, EOFError])
def test_a_worker_that_dies_while_its_batch_is_taken_over_costs_nothing(
    error: type[Exception], paths: PathList, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, parent = reductions.rebuild_storage_fd, os.getpid()
    told: list[object] = []

    @wraps(real)
    def rebuild(*words: object) -> object:
        if os.getpid() == parent and len(told) < 2:
            told.append(words)
            if len(told) == 2:
                raise error
        return real(*words)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(reductions, "rebuild_storage_fd", rebuild)

    all_but(set(), loaded(paths), paths)
    assert len(told) == 2


def test_a_death_does_not_interrupt_what_the_parent_is_at(paths: PathList) -> None:
    """DataLoader would raise a RuntimeError here, in the middle of whatever runs: a row half written, say."""
    stream = batches(paths, PIXELS, Loading(3, 1, 30.0))
    found = [next(stream)]
    (child,) = multiprocessing.active_children()
    child.kill()
    child.join()
    time.sleep(0.05)  # the signal of its death has come by now
    found += stream

    all_but(set(), found, paths)


def test_a_photo_that_takes_for_ever_is_failed(paths: PathList, monkeypatch: pytest.MonkeyPatch) -> None:
    in_worker(monkeypatch, "07", lambda: time.sleep(600))

    found = loaded(paths, timeout=0.5)

    assert failures(found) == {7: Failure("failed", "reading it took longer than 0.5 seconds (--timeout)")}
    all_but({7}, found, paths)


def test_a_slow_disk_is_no_fault(paths: PathList, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of three takes longer than the patience, none of its photos does: it is not even tried again."""
    real = decode.read

    def slow(path: str, pixels: Pixels) -> object:
        time.sleep(0.3)
        return real(path, pixels)

    monkeypatch.setattr(decode, "read", slow)
    few = PathList.of(paths[:6])

    assert failures(loaded(few, workers=1, timeout=0.6)) == {}


def test_a_picture_that_memory_has_no_room_for_is_too_large(paths: PathList, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = preprocess.views, []

    def views(image: object, pixels: Pixels) -> object:
        asked.append(image)
        if len(asked) == 8:
            raise MemoryError
        return real(image, pixels)  # type: ignore[arg-type]

    monkeypatch.setattr(loader, "views", views)

    assert {offset: each.status for offset, each in failures(loaded(paths, workers=0)).items()} == {7: "too_large"}


def test_an_error_of_our_own_is_no_death(paths: PathList, monkeypatch: pytest.MonkeyPatch) -> None:
    in_worker(monkeypatch, "07", lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        loaded(paths)


@pytest.mark.skipif(not shutil.which("unshare"), reason="unshare (util-linux) makes the small /dev/shm")
def test_a_small_shared_memory_is_no_obstacle(paths: PathList, tmp_path: Path) -> None:
    """Batches of 0.8 MB where 0.5 MB fit; without the right to mount, the pipes are taken by force."""
    (tmp_path / "list").write_bytes(b"".join(os.fsencode(path) + b"\0" for path in paths))
    script = (
        "import sys, torch; from pathlib import Path\n"
        "from inception_cli.images.inputs import PathList\n"
        "from inception_cli.images.loader import Loading, batches, crowded\n"
        "from inception_cli.images.preprocess import PRESETS, Pixels\n"
        "paths, pixels = PathList.open(Path(sys.argv[1])), Pixels(PRESETS['torchvision'])\n"
        "if sys.argv[2] == 'forced':\n"
        "    def full(self): raise RuntimeError('No space left on device')\n"
        "    torch.Tensor.share_memory_ = full\n"
        "else:\n"
        "    assert crowded(pixels, Loading(3, 2))\n"
        "for batch in batches(paths, pixels, Loading(3, 2)): print(batch.first, int(batch.pixels.sum()))\n"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "list")]
    mount = "mount -t tmpfs -o size=512k tmpfs /dev/shm && exec"
    may_mount = not subprocess.run(["unshare", "-m", "sh", "-c", f"{mount} true"], check=False).returncode
    small = ["unshare", "-m", "sh", "-c", f'{mount} "$0" "$@"', *words, "small"] if may_mount else [*words, "forced"]

    ended = subprocess.run(small, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ROOT})

    expected = [f"{batch.first} {int(batch.pixels.sum())}" for batch in loaded(paths, workers=0)]
    assert (ended.stdout.splitlines(), ended.stderr) == (expected, "")


def test_little_shared_memory_is_told_in_a_plain_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=64_000_000))

    told = crowded(PIXELS, Loading(128, 8), str(tmp_path))

    assert told is not None
    assert "64 MB" in told
    assert "549" in told  # 8 workers, 2 batches each, 128 images of 299 x 299 x 3
    assert crowded(PIXELS, Loading(16, 2), str(tmp_path)) is None
    assert crowded(PIXELS, Loading(128, 0), str(tmp_path)) is None


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_the_workers_of_a_run_that_was_killed_end(method: str, paths: PathList, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"".join(os.fsencode(path) + b"\0" for path in paths))
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, sys, time\n"
        "from pathlib import Path\n"
        "from inception_cli.images.inputs import PathList\n"
        "from inception_cli.images.loader import Loading, batches\n"
        "from inception_cli.images.preprocess import PRESETS, Pixels\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method(sys.argv[2])\n"
        "    stream = batches(PathList.open(Path(sys.argv[1])), Pixels(PRESETS['torchvision']), Loading(2, 2))\n"
        "    next(stream)\n"
        "    print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "    time.sleep(600)\n"
    )
    words = [sys.executable, str(script), str(tmp_path / "list"), method]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ROOT}) as run:
        assert run.stdout is not None
        pids = run.stdout.readline().split()
        run.kill()

    assert len(pids) == 2
    until = time.monotonic() + 60
    while any(alive(int(pid)) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert [pid for pid in pids if alive(int(pid))] == []


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has asked for its exit code is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
