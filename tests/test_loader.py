"""Batches: in order, failures in their places, the same at any number of workers and under any start method."""

import hashlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
import torch
from PIL import Image

from inception_cli.images.decode import Failure, read
from inception_cli.images.inputs import PathList, encode
from inception_cli.images.loader import Batch, Loading, batches, images_per_batch
from inception_cli.images.preprocess import PRESETS, Pixels, views

PIXELS = Pixels(PRESETS["torchvision"])
ROOT = str(Path(__file__).parents[1])


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> PathList:
    """Eleven names in a list on disk: photos of many shapes, a cut one (3), an empty one (6) and none (10)."""
    folder = tmp_path_factory.mktemp("photos")
    names = [f"{folder}/{number:02}.png" for number in range(11)]
    rng = np.random.default_rng(0)
    for number, name in enumerate(names[:10]):
        noise = rng.integers(0, 256, (20 + 7 * number, 90 - 5 * number, 3), dtype=np.uint8)
        Image.fromarray(noise).save(name)
    Path(names[3]).write_bytes(Path(names[3]).read_bytes()[:900])
    Path(names[6]).write_bytes(b"")
    (folder / "list").write_bytes(b"".join(map(encode, names)))
    return PathList.open(folder / "list")


def loaded(paths: PathList, batch_size: int, workers: int = 0, start: int = 0) -> list[Batch]:
    return list(batches(paths, PIXELS, Loading(batch_size, workers), start))


def test_a_batch_holds_its_images_in_order_and_failures_in_their_places(paths: PathList) -> None:
    first, second, third = loaded(paths, 4)
    assert [batch.first for batch in (first, second, third)] == [0, 4, 8]
    assert [len(batch.pixels) for batch in (first, second, third)] == [4, 4, 3]
    assert first.failures == ((3, Failure("truncated", "the file ends before the picture does")),)
    assert second.failures == ((2, Failure("corrupt", "the file is empty")),)
    assert third.failures == ((2, Failure("missing", "no such file")),)
    for batch in (first, second, third):
        failed = dict(batch.failures)
        for offset, slot in enumerate(batch.pixels):
            image = read(paths[batch.first + offset], PIXELS)
            expected = np.zeros((1, 299, 299, 3)) if offset in failed else views(image, PIXELS)  # type: ignore[arg-type]
            assert np.array_equal(expected, slot.numpy()), batch.first + offset


def test_pixels_are_uint8_of_n_v_s_s_3(paths: PathList) -> None:
    (batch,) = loaded(paths, 64)
    assert batch.pixels.dtype == torch.uint8
    assert batch.pixels.shape == (11, 1, 299, 299, 3)
    assert batch.pixels.is_contiguous()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_workers_change_nothing(batch_size: int, workers: int, paths: PathList) -> None:
    expected, actual = loaded(paths, batch_size), loaded(paths, batch_size, workers)
    assert [(batch.first, batch.failures) for batch in expected] == [(batch.first, batch.failures) for batch in actual]
    for one, other in zip(expected, actual, strict=True):
        assert torch.equal(one.pixels, other.pixels)


@pytest.mark.parametrize("workers", [0, 2])
def test_it_goes_on_where_a_run_stopped(workers: int, paths: PathList) -> None:
    expected, actual = loaded(paths, 4)[1:], loaded(paths, 4, workers, start=4)
    assert [batch.first for batch in actual] == [batch.first for batch in expected] == [4, 8]
    assert torch.equal(expected[0].pixels, actual[0].pixels)
    assert loaded(paths, 11, workers, start=11) == []


def test_workers_start_before_the_first_batch_is_asked_for(paths: PathList) -> None:
    """So a caller builds its network while they decode."""
    stream = batches(paths, PIXELS, Loading(4, workers=1))
    assert len(multiprocessing.active_children()) == 1
    assert len(list(stream)) == 3
    assert multiprocessing.active_children() == []


def test_it_never_starts_within_a_batch(paths: PathList) -> None:
    with pytest.raises(ValueError, match="start 3 is not a multiple of 4"):
        loaded(paths, 4, start=3)


def test_no_image_is_no_batch() -> None:
    assert loaded(PathList.of([]), 4) == []


@pytest.mark.parametrize(("batch_size", "views", "images"), [(64, 1, 64), (64, 10, 6), (64, 144, 1), (1, 1, 1)])
def test_views_count_towards_a_batch(batch_size: int, views: int, images: int) -> None:
    assert images_per_batch(batch_size, views) == images


def test_workers_that_are_spawned_give_the_same(paths: PathList, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import hashlib, multiprocessing, sys, warnings\n"
        "from pathlib import Path\n"
        "from inception_cli.images.inputs import PathList\n"
        "from inception_cli.images.loader import Loading, batches\n"
        "from inception_cli.images.preprocess import PRESETS, Pixels\n"
        "if __name__ == '__main__':\n"
        "    warnings.simplefilter('error')\n"
        "    multiprocessing.set_start_method('spawn')\n"
        "    for batch in batches(PathList.open(Path(sys.argv[1])), Pixels(PRESETS['torchvision']), Loading(6, 1)):\n"
        "        print(batch.first, len(batch.failures), hashlib.sha256(batch.pixels.numpy().tobytes()).hexdigest())\n"
    )
    expected = [
        f"{batch.first} {len(batch.failures)} {hashlib.sha256(batch.pixels.numpy().tobytes()).hexdigest()}"
        for batch in loaded(paths, 6)
    ]
    command = [sys.executable, str(script), str(paths._file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ROOT})
    assert (ended.stdout.splitlines(), ended.stderr) == (expected, "")


def test_what_a_worker_is_sent_is_small(paths: PathList) -> None:
    assert len(pickle.dumps(paths)) < 2000


def test_ctrl_c_does_not_reach_the_workers(paths: PathList) -> None:
    many = PathList.of([*paths] * 20)
    stream = batches(many, PIXELS, Loading(4, workers=2))
    read_so_far = [next(stream)]
    for worker in multiprocessing.active_children():
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGINT)
    read_so_far += stream
    assert [batch.first for batch in read_so_far] == list(range(0, 220, 4))


def test_ctrl_c_still_reaches_the_parent(paths: PathList) -> None:
    stream = batches(PathList.of([*paths] * 500), PIXELS, Loading(4, workers=1))
    next(stream)
    timer = Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in the background
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(stream)
    finally:
        signal.signal(signal.SIGINT, before)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": -1}, {"timeout": 0.0}])
def test_loading_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Loading(**{"batch_size": 1, **wrong})  # type: ignore[arg-type]
