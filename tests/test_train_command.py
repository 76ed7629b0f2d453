"""The command `train`: its log, its report, and the checks of its files."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from running import Inception
from tiny_training import Tiny, draw

from inception_cli.errors import InceptionError
from inception_cli.report import training
from inception_cli.training import train
from inception_cli.training.log import write_log
from inception_cli.training.train import EpochProgress, Trainer
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
    monkeypatch.setattr(train, "find_weights", lambda *_, **__: pytest.fail("weights before the check"))
    return tmp_path


@pytest.fixture
def command(here: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch) -> Inception:
    """Return a function that trains a tiny network into m.safetensors, with more options."""
    monkeypatch.setattr(train, "InceptionV3", Tiny)
    monkeypatch.setattr(train, "cores", lambda: 1)
    words = "train photos --from scratch --size 80 -b 4 --device cpu -o m.safetensors"
    return lambda *more: inception(*words.split(), *more)


def interrupt(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt the next training in the epoch after so many."""
    run_epoch = Trainer._run_epoch

    def interrupted(trainer: Trainer, epoch: int, progress: EpochProgress) -> object:
        if epoch == after:
            raise KeyboardInterrupt
        return run_epoch(trainer, epoch, progress)

    monkeypatch.setattr(Trainer, "_run_epoch", interrupted)


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


def test_an_interrupted_training_goes_on_with_more_epochs(command: Inception, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt(2, patch)
        stopped = command("--epochs", 4, "--log", "log.csv")
    lines = Path("log.csv").read_text().splitlines()

    refused = command("--epochs", 1)
    ended = command("--epochs", 6, "--log", "log.csv")

    assert stopped.code == 130
    assert refused.err == (
        "error: --epochs 1: m.safetensors.part has 2 epochs already; give --epochs 2 to save the best of them, or more "
        "to train on\n"
    )
    assert refused.code == 2
    assert ended.code == 0
    assert "resuming after epoch 2 of 4: from here on learning rate and crop size follow the schedule of 6" in ended.err
    assert [line[:9] for line in ended.err.splitlines() if line.startswith("epoch")] == [
        f"epoch {n}/6" for n in range(3, 7)
    ]
    assert Path("log.csv").read_text().splitlines()[:3] == lines
    assert pd.read_csv("log.csv")["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert not Path("m.safetensors.part").exists()


def test_the_report_of_a_training_shows_its_validation_images(command: Inception) -> None:
    ended = command("--epochs", 2, "--report", "page.html")

    page = Path("page.html").read_text()
    assert ended.code == 0
    assert "report written to page.html; open it in a browser" in ended.err.splitlines()
    assert "<dt>Data</dt><dd>photos: 13 training images of 3 classes, 3 validation images</dd>" in page
    mistakes = page.count('class="card wrong" href="photos/')
    right = re.search(r"<h1>Training of m\.safetensors: ([\d.]+) % on 3 images</h1>", page)
    assert right
    assert float(right[1]) == pytest.approx(100 * (3 - mistakes) / 3, abs=0.1)
    assert page.count("data:image/jpeg;base64,") == mistakes


def test_a_report_that_cannot_be_written_leaves_a_training_that_resumes(
    command: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise InceptionError("page.html: no space left on device; free some disk space and run the same command again")

    with monkeypatch.context() as patch:
        patch.setattr(training, "write_training_report", full)
        failed = command("--epochs", 2, "--report", "page.html")
    assert Path("m.safetensors").exists()
    again = command("--epochs", 2, "--report", "page.html")

    assert failed.code == 1
    assert failed.err.splitlines()[-1].startswith("error: page.html: no space left")
    assert again.code == 0
    assert "resuming after epoch 2 of 2" in again.err
    assert Path("page.html").exists()
    assert not Path("m.safetensors.part").exists()


def test_an_accuracy_that_is_chance_ends_in_a_remedy_instead_of_the_next_command(command: Inception) -> None:
    ended = command("--epochs", 1)  # 3 images are too few to be better than chance, unless all are right

    *_, last = ended.err.splitlines()
    assert re.match('(no|not clearly) better than chance: always predicting "blue" is right for 33.3 % of', last)
    assert "classify" not in ended.err


def test_the_log_can_be_wanted_when_the_training_resumes(command: Inception, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt(1, patch)
        command("--epochs", 2)

    ended = command("--epochs", 2, "--log", "log.csv")

    assert ended.code == 0
    assert pd.read_csv("log.csv")["epoch"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--report gone/x.html", 1, "gone: no such folder; create it, or give another name to --report"),
        ("--log gone/x.csv", 1, "gone: no such folder; create it, or give another name to --log"),
        ("--report m.safetensors", 2, "--report m.safetensors: it would overwrite m.safetensors, which this command"),
        ("--log m.safetensors", 2, "--log m.safetensors: it would overwrite m.safetensors, which this command uses"),
        ("--log m.safetensors.part", 2, "it would overwrite m.safetensors.part, which this command uses"),
        ("--report x --log x", 2, "--log x: it would overwrite x, which this command uses; give another name"),
        ("--report photos", 2, "--report photos: it would overwrite photos, which this command uses"),
        ("--log .", 1, ". is a folder; name a file in it for --log"),
        ("--report diary", 1, "diary exists and was not written by inception; give another name to --report"),
        ("--log diary", 1, "diary exists and was not written by inception; give another name to --log"),
        ("--report s3://b/x.html", 2, "--report s3://b/x.html: give a file on this machine"),
    ],
)
@pytest.mark.usefixtures("here")
def test_files_that_cannot_be_written_are_named_before_the_training(
    words: str, code: int, said: str, inception: Inception
) -> None:
    Path("diary").write_text("dear diary")

    ended = inception("train", "photos", "-o", "m.safetensors", *words.split())

    assert (ended.code, len(ended.err.splitlines())) == (code, 1), ended.err
    assert said in ended.err
    assert Path("diary").read_text() == "dear diary"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("option", ["--report", "--log"])
def test_a_folder_without_permission_is_named_before_the_training(
    option: str, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("private").mkdir()
    allowed: Callable[..., bool] = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "private" and allowed(path, mode))

    ended = inception("train", "photos", "-o", "m.safetensors", option, "private/x")

    assert (ended.code, ended.err) == (
        1,
        f"error: private: not a writable folder; give another name to {option}\n",
    )
