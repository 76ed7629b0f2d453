"""The files of the command `train`: its log, and the checks before the training."""

import fcntl
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from running import Inception
from tiny_training import draw

from inception_cli.errors import InceptionError
from inception_cli.training import resolve
from inception_cli.training.log import write_log
from inception_cli.training.train import Trainer
from inception_cli.weights.training_record import EpochResult

RESULTS = [
    EpochResult(1, 2, 75, 0.02, 1.4995512, 15.625, 500 / 12, 40.0, True, 1.81413, 70.7634, 71.0),
    EpochResult(2, 2, 80, 0.0244504, 1.46227, 28.125, 100 / 3, 100 / 3, False, 60.4551, 2.39771),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with the class folders `photos`; no weights may be requested."""
    draw(tmp_path / "photos", {"blue": 6, "green": 5, "red": 5})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resolve, "find_weights", lambda *_, **__: pytest.fail("weights before the check"))
    return tmp_path


def test_the_log_has_a_line_for_each_epoch_that_pandas_reads(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"

    write_log(file, RESULTS)

    frame = pd.read_csv(file)
    assert frame.to_dict("records") == [
        {
            "epoch": 1,
            "learning_rate": 0.02,
            "crop_size": 75,
            "loss": 1.49955,
            "train_top1": 15.625,
            "val_top1": 41.6667,
            "val_class_average": 40.0,
            "best": True,
            "images_per_s": 1.81413,
            "seconds": 70.7634,
        },
        {
            "epoch": 2,
            "learning_rate": 0.0244504,
            "crop_size": 80,
            "loss": 1.46227,
            "train_top1": 28.125,
            "val_top1": 33.3333,
            "val_class_average": 33.3333,
            "best": False,
            "images_per_s": 60.4551,
            "seconds": 2.39771,
        },
    ]
    assert [str(kind) for kind in frame.dtypes] == [
        "int64",
        "float64",
        "int64",
        *["float64"] * 4,
        "bool",
        *["float64"] * 2,
    ]


def test_the_log_of_a_resumed_training_has_each_epoch_once(tmp_path: Path) -> None:
    file, whole = tmp_path / "log.csv", tmp_path / "whole.csv"
    write_log(whole, RESULTS)
    for history in ([], RESULTS[:1], RESULTS[:1], RESULTS):
        write_log(file, history)
        assert len(pd.read_csv(file)) == len(history)

    assert file.read_bytes() == whole.read_bytes()
    assert {*tmp_path.iterdir()} == {file, whole}


@pytest.mark.parametrize("content", ["my diary\n", "", "epoch,learning_rate\n"])
def test_only_the_log_of_the_same_training_is_replaced(content: str, tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    write_log(file, [replace(RESULTS[0], loss=9.0)])
    other = content or file.read_text()
    file.write_text(other)

    with pytest.raises(InceptionError, match=r"log\.csv: not the log of this training; move it away, or give another"):
        write_log(file, RESULTS)

    assert file.read_text() == other


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--report gone/x.html", 1, "gone: no such folder; create it, or give another name to --report"),
        ("--log gone/x.csv", 1, "gone: no such folder; create it, or give another name to --log"),
        ("--report link.html", 2, "--report link.html: it would overwrite m.safetensors, which this command uses"),
        ("--log part.csv", 2, "--log part.csv: it would overwrite m.safetensors.part, which this command uses"),
        ("--report photos.html --log photos.html", 2, "--log photos.html: it is written as CSV; give a name that ends"),
        ("--report x.csv", 2, "--report x.csv: the report is an .html file; give a name that ends in .html"),
        ("--log x.html", 2, "--log x.html: it is written as CSV; give a name that ends in .csv"),
        ("--report photos", 1, "photos is a folder; name a file in it, such as photos/report.html"),
        ("--log folder.csv", 1, "folder.csv is a folder; name a file in it for --log"),
        ("--report diary.html", 1, "diary.html exists and was not written by inception; give another name to --report"),
        ("--log diary.csv", 1, "diary.csv exists and was not written by inception; give another name to --log"),
        ("--report s3://b/x.html", 2, "--report s3://b/x.html: give a file on this machine"),
        ("--log s3://b/x.csv", 2, "--log s3://b/x.csv: give a file on this machine"),
        ("--report -", 2, "--report -: the report is an .html file"),
        ("--log -", 2, "--log -: it is written as CSV"),
        ("--report pipe.html", 1, "pipe.html: not a regular file; give another name to --report"),
        ("--log pipe.csv", 1, "pipe.csv: not a regular file; give another name to --log"),
    ],
)
@pytest.mark.usefixtures("here")
def test_files_that_cannot_be_written_are_named_before_the_training(
    words: str, code: int, said: str, inception: Inception
) -> None:
    for name in ("diary.html", "diary.csv"):
        Path(name).write_text("dear diary")
    for name in ("pipe.html", "pipe.csv"):
        os.mkfifo(name)
    for link, output in (("link.html", "m.safetensors"), ("part.csv", "m.safetensors.part")):
        Path(link).symlink_to(output)
    Path("folder.csv").mkdir()

    ended = inception("train", "photos", "-o", "m.safetensors", *words.split())

    assert (ended.code, len(ended.err.splitlines())) == (code, 1), ended.err
    assert said in ended.err
    assert Path("diary.html").read_text() == Path("diary.csv").read_text() == "dear diary"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("option", "file"), [("--report", "private/x.html"), ("--log", "private/x.csv")])
def test_a_folder_without_permission_is_named_before_the_training(
    option: str, file: str, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("private").mkdir()
    allowed: Callable[..., bool] = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "private" and allowed(path, mode))

    ended = inception("train", "photos", "-o", "m.safetensors", option, file)

    assert (ended.code, ended.err) == (
        1,
        f"error: private: not a writable folder; give another name to {option}\n",
    )


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("option", "file"), [("--report", "mine/x.html"), ("--log", "./mine/logs/x.csv")])
def test_a_file_in_the_folder_of_the_weights_is_refused_before_the_training(
    option: str, file: str, inception: Inception
) -> None:
    Path("mine").mkdir()

    ended = inception("train", "photos", "-o", "mine", option, file)

    assert (ended.code, ended.err) == (
        2,
        f"error: {option} {file}: is in mine, which has to be empty; give another folder\n",
    )


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("seed", [2**63, 2**64])
def test_a_seed_that_torch_does_not_take_is_wrong_usage(seed: int, inception: Inception) -> None:
    ended = inception("train", "photos", "-o", "m.safetensors", "--from", "scratch", "--seed", seed)

    assert (ended.code, ended.err) == (
        2,
        f"error: seed must be at least 0 and at most 9223372036854775807, not {seed}\n",
    )


def test_a_class_name_that_weights_cannot_hold_is_refused_before_the_training(here: Path, inception: Inception) -> None:
    (here / "photos" / "red").rename(here / "photos" / os.fsdecode(b"caf\xe9"))

    ended = inception("train", "photos", "-o", "m.safetensors")

    assert (ended.code, ended.err) == (
        1,
        "error: photos/caf\\xe9: the name of a class has to be UTF-8; rename the folder\n",
    )


@pytest.mark.parametrize("name", [" ", "\u2003", "\t"])
def test_a_blank_class_name_is_refused_before_the_training(name: str, here: Path, inception: Inception) -> None:
    (here / "photos" / "red").rename(here / "photos" / name)

    ended = inception("train", "photos", "-o", "m.safetensors", "--from", "scratch", "--epochs", 1)

    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert ended.err.startswith("error: photos: the class folder '")
    assert ended.err.endswith("' has a name that weights cannot hold; rename it\n")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("size", [7500, 90_000])
def test_an_input_resolution_that_weights_cannot_hold_is_refused_before_the_training(
    size: int, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "__init__", lambda *_: pytest.fail("the training began"))

    ended = inception("train", "photos", "-o", "m.safetensors", "--from", "scratch", "--size", size)

    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert ended.err.startswith(f"error: --size {size}: preset")
    assert ended.err.endswith("; choose another input resolution\n")


@pytest.mark.parametrize("out", ["m.safetensors", "mine/"])
def test_a_second_training_with_the_same_output_is_refused(
    out: str, here: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object) -> None:
        raise BlockingIOError

    monkeypatch.setattr(fcntl, "lockf", locked)
    part = Path(f"{out.rstrip('/')}.part")
    part.write_bytes(b"of the first training")

    ended = inception("train", "photos", "-o", out, "--from", "scratch")

    assert (ended.code, ended.err) == (
        1,
        f"error: .{part}.lock: another run is writing it; wait until it ends, or choose another output file\n",
    )
    assert part.read_bytes() == b"of the first training"
