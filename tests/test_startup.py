"""What a command shows before torch is imported, which takes seconds."""

from pathlib import Path
from typing import Any

import pytest
from fresh import FreshProcesses
from running import Inception
from terminal import run_in_terminal

from inception_cli.errors import InceptionError
from inception_cli.images.dataset import Batch
from inception_cli.inference.predictor import DevicePredictor

COMMANDS: list[tuple[str, ...]] = [
    ("classify", "nowhere", "--out", "preds.csv"),
    ("evaluate", "--val-dir", "nowhere"),
    ("train", "nowhere", "--out", "mine.safetensors"),
]


@pytest.mark.parametrize("words", COMMANDS)
def test_missing_folder_is_reported_before_torch_is_imported(
    words: tuple[str, ...], fresh: FreshProcesses, tmp_path: Path
) -> None:
    ended = fresh.run(*words, folder=tmp_path)

    assert ended.code == 1
    assert ended.err.startswith("error: nowhere: ")
    assert ended.out == ""
    assert "torch" not in ended.modules
    assert not any(tmp_path.iterdir())


def test_missing_folder_of_an_interrupted_run_does_not_keep_it_from_resuming(
    inception: Inception, photos: Path, stub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "classify", photos, "-w", stub, "-j", 0, "-b", 8, "-q", "-o", tmp_path / "preds.csv"
    predict = DevicePredictor._predictions

    def fail_at_the_second_batch(predictor: DevicePredictor, paths: list[str], batch: Batch, *rest: Any) -> Any:
        if batch.first:
            raise InceptionError("stopped")
        return predict(predictor, paths, batch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(DevicePredictor, "_predictions", fail_at_the_second_batch)
        assert inception(*words).err == "error: stopped\n"
    moved = photos.rename(photos.with_name("moved"))
    try:
        ended = inception(*words)
    finally:
        moved.rename(photos)

    assert ended.code == 3
    assert (tmp_path / "preds.csv").read_text().count("no such file") == 24 - 8


def test_spinner_names_what_is_loaded_and_goes_away(photos: Path, stub: str) -> None:
    words = "classify", photos / "a", "-w", stub, "-j", 0

    shown = run_in_terminal(*words)

    assert f"loading PyTorch and {stub}" in shown.sent
    assert not any("loading" in line for line in shown.lines)
    assert len([line for line in shown.lines if "%" in line]) == 8
    assert "loading" not in run_in_terminal(*words, "--quiet").sent


def test_nothing_moves_where_standard_error_is_no_terminal(inception: Inception, photos: Path, stub: str) -> None:
    assert "loading" not in inception("classify", photos / "a", "-w", stub, "-j", 0).err
