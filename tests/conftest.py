"""Fixtures of many tests: a lively checkpoint, a stub network, a folder of photos, the command in this process."""

import gc
import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from fresh import FreshProcesses, fresh_processes
from PIL import Image, ImageOps
from running import Ended, Inception, code_of

from inception_cli.config import PRESETS
from inception_cli.predictions.classes import imagenet

SAMPLES = Path(__file__).parents[1] / "sample_images"


#: A file system in memory, where there is one.
MEMORY = Path("/dev/shm")
#: Files whose tests fork this process, those that do so most at the beginning.
FORKING = ("test_worker_pool.py", "test_hostile.py", "test_dataset.py", "test_cuda_pipeline.py")


def pytest_configure(config: pytest.Config) -> None:
    """Keep temporary files in memory; give each worker of pytest-xdist one core.

    On a disk, replacing a file or fsync takes milliseconds. Networks of two workers would wait for each other's
    threads; torch counts the cores when it is imported, which is later: the process that starts the workers needs none.
    """
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 * 2**30:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    number = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if number and hasattr(os, "sched_setaffinity"):
        allotted = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allotted[int(number) % len(allotted)]})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that fork most, while this process is small: forking takes twice as long at 1.5 GB."""
    places = {name: place for place, name in enumerate(FORKING)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that need a GPU where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device here")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exempt what is imported from garbage collection, which takes 0.2 s each time with PyTorch."""
    gc.disable()
    result = yield
    gc.freeze()
    gc.enable()
    return result


@pytest.fixture(scope="session", autouse=True)
def worker_niceness() -> Iterator[int]:
    """Let workers run at normal priority, since on a busy machine they would hardly run; return their own niceness."""
    from inception_cli.images import worker_pool

    niceness = worker_pool.WORKER_NICENESS
    worker_pool.WORKER_NICENESS = 0
    yield niceness
    worker_pool.WORKER_NICENESS = niceness


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of lively weights with ImageNet's 1000 classes, as `inception train` would write it."""
    from lively import lively

    from inception_cli.weights.load import save_weights

    file = tmp_path_factory.mktemp("weights") / "lively.safetensors"
    save_weights(file, lively(), imagenet().names, PRESETS["torchvision"], {})
    return file


@pytest.fixture(scope="session")
def stub() -> Iterator[str]:
    """The name of weights whose network takes no time, for tests in which the logits do not matter."""
    import stub_network

    with pytest.MonkeyPatch.context() as patch:
        stub_network.install(patch)
        yield stub_network.NAME


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 photos of many shapes, some in subfolders; every other one is a negative, for more classes."""
    folder = tmp_path_factory.mktemp("drawn") / "photos"
    by_class = [sorted(each.glob("*.jpg")) for each in sorted(SAMPLES.iterdir())]
    varied = [file for files in zip(*by_class, strict=False) for file in files]
    for number, file in enumerate(varied[:24]):
        place = folder / ("a", "b/c", ".")[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:
            picture = ImageOps.invert(image) if number % 2 else image
            picture.save(place / f"{number:02}.jpg", quality=90)
    return folder


@pytest.fixture
def inception(capfd: pytest.CaptureFixture[str]) -> Inception:
    """The command `inception`, run in this process."""

    def run(*words: object) -> Ended:
        capfd.readouterr()
        code = code_of(*words)
        out, err = capfd.readouterr()
        return Ended(code, out, err)

    return run


@pytest.fixture(scope="session")
def fresh() -> Iterator[FreshProcesses]:
    """The command `inception` in new processes that have imported only the command line."""
    with fresh_processes() as processes:
        yield processes
