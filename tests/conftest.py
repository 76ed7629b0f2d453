"""What many tests share: a lively checkpoint, a folder of drawn pictures, and the command, run in this process."""

import os
from pathlib import Path

import pytest
from draw import pictures
from lively import lively
from running import Ended, Inception, code_of

from inception_cli import weights
from inception_cli.images.preprocess import PRESETS
from inception_cli.results.classes import imagenet


def pytest_configure(config: pytest.Config) -> None:
    """A core for each of pytest-xdist's workers: their networks would wait for one another's threads."""
    number = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if number and hasattr(os, "sched_setaffinity"):
        allotted = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allotted[int(number) % len(allotted)]})


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of lively weights with ImageNet's 1000 classes, in this project's own dialect."""
    file = tmp_path_factory.mktemp("weights") / "lively.safetensors"
    weights.save(file, lively(), imagenet().names, PRESETS["torchvision"], {})
    return file


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 drawn pictures of many shapes, some in folders below it."""
    folder = tmp_path_factory.mktemp("drawn") / "photos"
    for number, picture in enumerate(pictures(24)):
        place = folder / ("a", "b/c", ".")[number % 3]
        place.mkdir(parents=True, exist_ok=True)
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
