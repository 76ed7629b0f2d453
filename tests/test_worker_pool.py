"""Workers that die, hang or lack memory: every image gets its result, and only the cause is `failed`."""

import ctypes
import errno
import gc
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache, wraps
from multiprocessing.connection import Connection
from multiprocessing.heap import Heap
from pathlib import Path
from threading import Event, Thread
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.multiprocessing import reductions

from inception_cli.config import PRESETS, LoaderConfig, PixelConfig
from inception_cli.errors import os_reason
from inception_cli.images import dataset, decode, worker_pool
from inception_cli.images.dataset import Batch, load_batches, shared_memory_note
from inception_cli.images.decode import Failure
from inception_cli.images.failure import OUT_OF_MEMORY
from inception_cli.storage.input_list import InputList

PIXELS = PixelConfig(PRESETS["torchvision"])
#: unshare(2): a process gets its own mounts.
CLONE_NEWNS = 0x20000


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> InputList:
    """Return the paths of twenty small images."""
    folder = tmp_path_factory.mktemp("photos")
    names = [f"{folder}/{number:02}.png" for number in range(20)]
    random = np.random.default_rng(0)
    for name in names:
        Image.fromarray(random.integers(0, 256, (50, 60, 3), np.uint8)).save(name)
    return InputList.of(names)


@pytest.fixture(autouse=True)
def _poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "POLL_SECONDS", 0.1)


def loaded(paths: InputList, workers: int = 2, timeout: float = 30.0) -> list[Batch]:
    return list(load_batches(paths, PIXELS, LoaderConfig(3, workers, timeout)))


@cache
def loaded_without_workers(paths: tuple[str, ...]) -> list[Batch]:
    return loaded(InputList.of(paths), workers=0)


def failures(loaded: list[Batch]) -> dict[int, Failure]:
    return {batch.first + offset: failure for batch in loaded for offset, failure in batch.failures}


def assert_equal_except(failed: set[int], actual: list[Batch], paths: InputList) -> None:
    """Assert that all images but the failed ones equal those loaded without workers, and that no worker is left."""
    expected = loaded_without_workers(tuple(paths))
    assert [batch.first for batch in actual] == [batch.first for batch in expected]
    for one, other in zip(expected, actual, strict=True):
        for offset in range(len(one.pixels)):
            if one.first + offset in failed:
                assert not other.pixels[offset].any()
            else:
                assert torch.equal(one.pixels[offset], other.pixels[offset]), one.first + offset
    assert multiprocessing.active_children() == []


def in_worker(monkeypatch: pytest.MonkeyPatch, name: str, act: object) -> None:
    """Make workers call `act` before they read the image of that name."""
    real, parent = decode.read, os.getpid()

    def read(path: str, pixels: PixelConfig) -> object:
        if Path(path).stem == name and os.getpid() != parent:
            act()  # type: ignore[operator]
        return real(path, pixels)

    monkeypatch.setattr(decode, "read", read)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("number", [1, 2])
def test_an_image_that_kills_its_worker_is_failed_and_the_others_are_loaded(
    number: int, paths: InputList, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_worker(monkeypatch, "07", die)

    batches = loaded(paths, number)

    assert failures(batches) == {7: Failure("failed", "the worker process died while reading it")}
    assert_equal_except({7}, batches, paths)


def test_several_images_that_kill_their_workers_are_failed(paths: InputList, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("00", "01", "19"):
        in_worker(monkeypatch, name, die)

    batches = loaded(paths)

    assert sorted(failures(batches)) == [0, 1, 19]
    assert_equal_except({0, 1, 19}, batches, paths)


def test_an_image_whose_worker_died_once_is_loaded_again(
    paths: InputList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = tmp_path / "died"

    def die_once() -> None:
        if not died.exists():
            died.touch()
            die()

    in_worker(monkeypatch, "07", die_once)

    batches = loaded(paths)

    assert died.exists()
    assert failures(batches) == {}
    assert_equal_except(set(), batches, paths)


def test_a_worker_killed_from_outside_is_replaced_without_failures(
    paths: InputList, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "PREFETCH", 1)
    many = InputList.of([*paths] * 3)
    stream = load_batches(many, PIXELS, LoaderConfig(3, 2, 30.0))
    batches = [next(stream)]
    for child in multiprocessing.active_children():
        child.kill()
    batches += stream

    assert failures(batches) == {}
    assert_equal_except(set(), batches, many)


@pytest.mark.parametrize("error", [ConnectionResetError, ConnectionRefusedError, EOFError])
def test_a_worker_that_dies_while_it_sends_a_batch_is_replaced_without_failures(
    error: type[Exception], paths: InputList, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, parent = reductions.rebuild_storage_fd, os.getpid()
    calls: list[object] = []

    @wraps(real)
    def rebuild(*args: object) -> object:
        if os.getpid() == parent and len(calls) < 2:
            calls.append(args)
            if len(calls) == 2:
                raise error
        return real(*args)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(reductions, "rebuild_storage_fd", rebuild)

    assert_equal_except(set(), loaded(paths), paths)
    assert len(calls) == 2


def test_the_death_of_a_worker_does_not_interrupt_the_parent(paths: InputList) -> None:
    """DataLoader's own handler would raise a RuntimeError in the middle of what runs, such as writing a row."""
    stream = load_batches(paths, PIXELS, LoaderConfig(3, 1, 30.0))
    batches = [next(stream)]
    (child,) = multiprocessing.active_children()
    child.kill()
    child.join()
    time.sleep(0.05)  # SIGCHLD has arrived by now
    batches += stream

    assert_equal_except(set(), batches, paths)


def test_an_image_that_exceeds_the_timeout_is_failed(paths: InputList, monkeypatch: pytest.MonkeyPatch) -> None:
    in_worker(monkeypatch, "07", lambda: time.sleep(600))

    batches = loaded(paths, timeout=0.5)

    assert failures(batches) == {7: Failure("failed", "reading it took longer than the timeout of 0.5 seconds")}
    assert_equal_except({7}, batches, paths)


def test_workers_that_die_before_they_read_a_file_blame_none(paths: InputList, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "_init_worker", lambda *_: os._exit(3))

    with pytest.raises(worker_pool.WorkersNotStarted, match="before they read a file"):
        loaded(paths)


def test_a_slow_disk_fails_no_image(paths: InputList, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of three takes longer than the timeout, but none of its images does."""
    real = decode.read

    def slow(path: str, pixels: PixelConfig) -> object:
        time.sleep(0.3)
        return real(path, pixels)

    monkeypatch.setattr(decode, "read", slow)
    few = InputList.of(paths[:6])

    assert failures(loaded(few, workers=1, timeout=0.6)) == {}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("module", [decode, dataset], ids=["decoding", "resizing"])
def test_an_image_that_does_not_fit_into_memory_is_failed(
    module: ModuleType, workers: int, paths: InputList, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "_read_image" if module is decode else "views"
    real, target = getattr(module, name), Image.open(paths[7]).convert("RGB").tobytes()

    def call(*arguments: object) -> object:
        image: Any = real(*arguments) if module is decode else arguments[0]
        if image.tobytes() == target:
            raise MemoryError
        return image if module is decode else real(*arguments)

    monkeypatch.setattr(module, name, call)

    batches = loaded(paths, workers)

    assert failures(batches) == {7: Failure("failed", "out of memory")}
    monkeypatch.undo()
    assert_equal_except({7}, batches, paths)


def test_an_image_that_fits_into_memory_while_no_other_worker_runs_is_loaded(
    paths: InputList, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, parent = decode.read, os.getpid()

    def read(path: str, pixels: PixelConfig) -> object:
        siblings = len(Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
        if Path(path).stem in ("07", "08", "19") and os.getpid() != parent and siblings > 1:
            return OUT_OF_MEMORY
        return real(path, pixels)

    monkeypatch.setattr(decode, "read", read)

    batches = loaded(paths)

    assert failures(batches) == {}
    assert_equal_except(set(), batches, paths)


def test_memory_that_is_short_between_two_images_fails_none(paths: InputList, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(batch: Batch) -> Batch:
        raise MemoryError

    monkeypatch.setattr(Batch, "to_shared_memory", no_memory)
    few = InputList.of(paths[:8])  # workers are replaced for each of the three batches

    assert_equal_except(set(), loaded(few), few)


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("multiprocessing.heap.Arena.__init__", OSError(errno.EROFS, os.strerror(errno.EROFS))),
        ("multiprocessing.Lock", FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))),
        ("multiprocessing.Lock", PermissionError(errno.EACCES, os.strerror(errno.EACCES))),
        ("os.fork", BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))),
        ("os.fork", OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))),
    ],
    ids=str,
)
def test_workers_that_cannot_start_are_an_error_of_one_line(
    target: str, error: OSError, paths: InputList, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("multiprocessing.heap.BufferWrapper._heap", Heap())  # nothing is left of an earlier arena
    monkeypatch.setattr(target, fail)

    with pytest.raises(worker_pool.WorkersNotStarted) as raised:
        loaded(paths)
    text = str(raised.value)
    assert text.startswith(f"worker processes cannot start: {os_reason(error)}: ")
    assert "--workers 0" in text
    assert capfd.readouterr() == ("", "")
    if target != "os.fork":
        assert len(loaded(paths, workers=0)) == 7


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_workers_have_as_many_open_files_as_they_need(
    workers: int, paths: InputList, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is raised as far as the system allows; below that there is one line."""
    limits: list[tuple[int, int]] = []
    allowed = len(os.listdir("/dev/fd")) + 15 + 8 * workers  # noqa: PTH208
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (16, allowed))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))

    with pytest.raises(worker_pool.WorkersNotStarted, match=rf"{allowed} open files .*{workers} workers.*ulimit -n"):
        loaded(paths, workers)
    assert limits == []

    monkeypatch.undo()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed - 8, before[1]))
        batches = load_batches(InputList.of([*paths] * 3), PIXELS, LoaderConfig(3, workers, 5.0))
        assert sum(len(batch) for batch in batches) == 60
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > allowed - 8
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_workers_live_on_when_their_terminal_is_closed(paths: InputList) -> None:
    stream = load_batches(InputList.of([*paths] * 5), PIXELS, LoaderConfig(3, 2, 30.0))
    batches = [next(stream)]
    children = multiprocessing.active_children()
    for child in children:
        assert child.pid
        os.kill(child.pid, signal.SIGHUP)
    batches += [next(stream) for _ in range(10)]
    assert [child.is_alive() for child in children] == [True, True]
    stream.close()  # type: ignore[attr-defined]


def test_workers_do_not_collect_the_garbage_of_their_parent(monkeypatch: pytest.MonkeyPatch, paths: InputList) -> None:
    gc.unfreeze()  # what conftest.py has frozen

    def failure(source: object, config: object) -> Failure:
        return Failure("corrupt", f"{gc.get_freeze_count()}")

    monkeypatch.setattr(decode, "read", failure)
    few = InputList.of(paths[:4])  # counting takes 0.1 s for each
    counts = {int(failure.error) for failure in failures(loaded(few)).values()}

    assert min(counts) > 1000
    assert gc.get_freeze_count() == 0


def test_workers_run_at_the_lowest_priority(
    paths: InputList, worker_niceness: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The network then has the processor first, and workers use what it leaves."""
    monkeypatch.setattr(worker_pool, "WORKER_NICENESS", worker_niceness)
    measured = tmp_path / "niceness.txt"
    in_worker(monkeypatch, "01", lambda: measured.write_text(str(os.getpriority(os.PRIO_PROCESS, 0))))

    assert failures(loaded(paths)) == {}

    assert measured.read_text() == "19"


def test_an_exception_in_a_worker_is_raised_in_the_parent(paths: InputList, monkeypatch: pytest.MonkeyPatch) -> None:
    in_worker(monkeypatch, "07", lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        loaded(paths)


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """An empty folder outside /dev/shm, which a test hides."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_batches_that_do_not_fit_into_shared_memory_are_loaded(
    paths: InputList, disk_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Batches of 0.8 MB, and 0.5 MB of shared memory; without the right to mount, share_memory_ is made to fail."""
    for path in paths:
        shutil.copy(path, disk_path)
    paths = InputList.of(sorted(map(str, disk_path.iterdir())))
    process = multiprocessing.get_context("fork").Process(target=load_with_small_memory, args=(paths,))
    process.start()
    process.join()

    expected = [f"{batch.first} {int(batch.pixels.sum())}" for batch in loaded(paths, workers=0)]
    out, err = capfd.readouterr()
    assert (process.exitcode, out.splitlines(), err) == (0, expected, "")


def load_with_small_memory(paths: InputList) -> None:
    """Print the sum of each batch; hide /dev/shm of the other processes behind a small one, where that is allowed."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", "/dev/shm"]
    own_mounts = ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0
    private = own_mounts and not subprocess.run(["mount", "--make-rprivate", "/"], check=False).returncode
    if private and not subprocess.run(mount, check=False).returncode:
        assert shared_memory_note(PIXELS, LoaderConfig(3, 2))
    else:
        torch.Tensor.share_memory_ = full  # type: ignore[method-assign]
    for batch in load_batches(paths, PIXELS, LoaderConfig(3, 2)):
        print(batch.first, int(batch.pixels.sum()), flush=True)


def full(tensor: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("No space left on device")


@pytest.mark.parametrize("method", ["fork", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_workers_exit_when_their_parent_is_killed(method: str, paths: InputList) -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    run = multiprocessing.get_context("fork").Process(target=hold_workers, args=(paths, method, sender))
    run.start()
    pids = receiver.recv()
    run.kill()
    run.join()

    assert len(pids) == 2
    until = time.monotonic() + 60
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert [pid for pid in pids if alive(pid)] == []


def hold_workers(paths: InputList, method: str, sender: Connection) -> None:
    """Start two workers, send their process ids, and wait."""
    multiprocessing.set_start_method(method, force=True)
    stream = load_batches(paths, PIXELS, LoaderConfig(2, 2))
    next(stream)
    sender.send([child.pid for child in multiprocessing.active_children()])
    time.sleep(600)


def alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_two_threads_that_start_processes_leave_the_main_module_as_it_was() -> None:
    main, first_is_in, second_is_in, first_is_out = sys.modules["__main__"], Event(), Event(), Event()
    before = getattr(main, "__file__", None), main.__spec__

    def start_second() -> None:
        first_is_in.wait()
        with worker_pool.without_main_module():
            second_is_in.set()
            first_is_out.wait()

    second = Thread(target=start_second)
    second.start()
    with worker_pool.without_main_module():
        first_is_in.set()
        overlapped = second_is_in.wait(0.1)
    first_is_out.set()
    second.join()

    assert not overlapped
    assert (getattr(main, "__file__", None), main.__spec__) == before
