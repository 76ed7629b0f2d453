"""Batches come in order, with failures in their places; the same for any number of workers and any start method."""

import hashlib
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
import torch
from PIL import Image

from inception_cli.config import PRESETS, LoaderConfig, PixelConfig, images_per_batch
from inception_cli.images.dataset import Batch, load_batches, shared_memory_note
from inception_cli.images.decode import Failure, read
from inception_cli.images.preprocess import views
from inception_cli.storage.input_list import InputList, encode

PIXELS = PixelConfig(PRESETS["torchvision"])
ROOT = str(Path(__file__).parents[1])


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> InputList:
    """Return a list on disk of eleven paths: images, one truncated (3), an empty file (6), a missing file (10)."""
    folder = tmp_path_factory.mktemp("photos")
    names = [f"{folder}/{number:02}.png" for number in range(11)]
    rng = np.random.default_rng(0)
    for number, name in enumerate(names[:10]):
        noise = rng.integers(0, 256, (20 + 7 * number, 90 - 5 * number, 3), dtype=np.uint8)
        Image.fromarray(noise).save(name)
    Path(names[3]).write_bytes(Path(names[3]).read_bytes()[:900])
    Path(names[6]).write_bytes(b"")
    (folder / "list").write_bytes(b"".join(map(encode, names)))
    return InputList.open(folder / "list")


def loaded(paths: InputList, batch_size: int, workers: int = 0, batches: range | None = None) -> list[Batch]:
    return list(load_batches(paths, PIXELS, LoaderConfig(batch_size, workers), batches))


def test_a_batch_holds_its_images_in_order_and_failures_in_their_places(paths: InputList) -> None:
    first, second, third = loaded(paths, 4)
    assert [batch.first for batch in (first, second, third)] == [0, 4, 8]
    assert [len(batch.pixels) for batch in (first, second, third)] == [4, 4, 3]
    assert first.failures == ((3, Failure("truncated", "the file ends before the image is complete")),)
    assert second.failures == ((2, Failure("corrupt", "the file is empty")),)
    assert third.failures == ((2, Failure("missing", "no such file")),)
    for batch in (first, second, third):
        failed = dict(batch.failures)
        for offset, slot in enumerate(batch.pixels):
            image = read(paths[batch.first + offset], PIXELS)
            expected = np.zeros((1, 299, 299, 3)) if offset in failed else views(image, PIXELS)  # type: ignore[arg-type]
            assert np.array_equal(expected, slot.numpy()), batch.first + offset


def test_pixels_are_uint8_of_n_v_s_s_3(paths: InputList) -> None:
    (batch,) = loaded(paths, 64)
    assert batch.pixels.dtype == torch.uint8
    assert batch.pixels.shape == (11, 1, 299, 299, 3)
    assert batch.pixels.is_contiguous()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_any_number_of_workers_gives_the_same_batches(batch_size: int, workers: int, paths: InputList) -> None:
    expected, actual = loaded(paths, batch_size), loaded(paths, batch_size, workers)
    assert [(batch.first, batch.failures) for batch in expected] == [(batch.first, batch.failures) for batch in actual]
    for one, other in zip(expected, actual, strict=True):
        assert torch.equal(one.pixels, other.pixels)


@pytest.mark.parametrize("workers", [0, 2])
def test_only_the_batches_of_the_given_numbers_are_loaded(workers: int, paths: InputList) -> None:
    expected, actual = loaded(paths, 4)[1:], loaded(paths, 4, workers, range(1, 3))
    assert [batch.first for batch in actual] == [batch.first for batch in expected] == [4, 8]
    for one, other in zip(expected, actual, strict=True):
        assert torch.equal(one.pixels, other.pixels)
    assert [batch.first for batch in loaded(paths, 4, workers, range(0, 3, 2))] == [0, 8]
    assert loaded(paths, 11, workers, range(1, 1)) == []


def test_workers_start_before_the_first_batch_is_requested(paths: InputList) -> None:
    """The caller builds its network while they decode."""
    stream = load_batches(paths, PIXELS, LoaderConfig(4, workers=1))
    assert len(multiprocessing.active_children()) == 1
    assert len(list(stream)) == 3
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("batches", [range(3, 4), range(2, 5), range(-1, 2)])
def test_numbers_of_batches_outside_the_list_are_refused(batches: range, paths: InputList) -> None:
    with pytest.raises(ValueError, match="11 images make 3 batches of 4"):
        loaded(paths, 4, batches=batches)


def test_an_empty_list_has_no_batches() -> None:
    assert loaded(InputList.of([]), 4) == []


@pytest.mark.parametrize(("batch_size", "views", "images"), [(64, 1, 64), (64, 10, 6), (64, 144, 1), (1, 1, 1)])
def test_a_batch_size_counts_views(batch_size: int, views: int, images: int) -> None:
    assert images_per_batch(batch_size, views) == images


@pytest.mark.slow  # test_classifier.py spawns workers as well
def test_spawned_workers_give_the_same_batches(paths: InputList, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import hashlib, multiprocessing, sys, warnings\n"
        "from pathlib import Path\n"
        "from inception_cli.config import PRESETS, LoaderConfig, PixelConfig\n"
        "from inception_cli.images.dataset import load_batches\n"
        "from inception_cli.storage.input_list import InputList\n"
        "config = PixelConfig(PRESETS['torchvision'])\n"
        "if __name__ == '__main__':\n"
        "    warnings.simplefilter('error')\n"
        "    multiprocessing.set_start_method('spawn')\n"
        "    for batch in load_batches(InputList.open(Path(sys.argv[1])), config, LoaderConfig(6, 1)):\n"
        "        print(batch.first, len(batch.failures), hashlib.sha256(batch.pixels.numpy().tobytes()).hexdigest())\n"
    )
    expected = [
        f"{batch.first} {len(batch.failures)} {hashlib.sha256(batch.pixels.numpy().tobytes()).hexdigest()}"
        for batch in loaded(paths, 6)
    ]
    command = [sys.executable, str(script), str(paths._file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ROOT})
    assert (ended.stdout.splitlines(), ended.stderr) == (expected, "")


def test_a_list_of_paths_is_small_when_pickled_for_workers(paths: InputList) -> None:
    assert len(pickle.dumps(paths)) < 2000


def test_workers_ignore_ctrl_c(paths: InputList) -> None:
    many = InputList.of([*paths] * 20)
    stream = load_batches(many, PIXELS, LoaderConfig(4, workers=2))
    read_so_far = [next(stream)]
    for worker in multiprocessing.active_children():
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGINT)
    read_so_far += stream
    assert [batch.first for batch in read_so_far] == list(range(0, 220, 4))


def test_the_parent_is_interrupted_by_ctrl_c_and_its_workers_end(paths: InputList) -> None:
    stream = load_batches(InputList.of([*paths] * 500), PIXELS, LoaderConfig(4, workers=1))
    next(stream)
    timer = Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell may start background jobs with SIGINT ignored
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(stream)
    finally:
        signal.signal(signal.SIGINT, before)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": -1}, {"timeout": 0.0}])
def test_an_invalid_loader_config_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LoaderConfig(**{"batch_size": 1, **wrong})  # type: ignore[arg-type]


def test_too_little_shared_memory_is_a_note_for_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=64_000_000))

    note = shared_memory_note(PIXELS, LoaderConfig(128, 8), str(tmp_path))

    assert note is not None
    assert "64 MB" in note
    assert "549" in note  # 8 workers, 2 batches each, 128 images of 299 x 299 x 3
    assert shared_memory_note(PIXELS, LoaderConfig(16, 2), str(tmp_path)) is None
    assert shared_memory_note(PIXELS, LoaderConfig(128, 0), str(tmp_path)) is None
