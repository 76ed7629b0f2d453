"""What many tests share: a lively checkpoint, a folder of drawn pictures, and the command, run in this process."""

import sys
from pathlib import Path

import pytest
from draw import pictures
from lively import lively
from running import Ended, Inception

from inception_cli import cli, weights
from inception_cli.images.preprocess import PRESETS
from inception_cli.results.classes import imagenet


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
def inception(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Inception:
    """The command `inception`, run in this process."""

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["inception", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return run
