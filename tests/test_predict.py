"""A network without memory for a batch: the batch is halved until it fits, and every image keeps its row."""

import json
from pathlib import Path

import pytest
import torch
from running import Inception
from torch import Tensor

from inception_cli import predict
from inception_cli.predict import Networks
from inception_cli.results.rows import read_csv


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A device with room for three images; the sizes that it was asked for."""
    best, asked = Networks._best, []

    def limited(self: Networks, pixels: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(len(pixels))
        if len(pixels) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return best(self, pixels)

    monkeypatch.setattr(Networks, "_best", limited)
    return asked


def test_a_batch_that_does_not_fit_is_split_in_place(
    little_memory: list[int], inception: Inception, photos: Path, tmp_path: Path
) -> None:
    words = ("classify", photos, "-w", "demo", "-b", 10, "-j", 0, "--precision", "fp32")

    ended = inception(*words, "-o", tmp_path / "split.csv")

    assert ended.code == 0
    assert little_memory == [10, 5] + [2] * 12  # what fits is remembered
    assert "2 images at once instead of 10" in ended.err
    assert json.loads((tmp_path / "split.csv.json").read_text())["split_to"] == 2
    inception(*words[:5], 2, *words[6:], "-o", tmp_path / "quiet.csv")
    assert [row.path for row in read_csv(tmp_path / "split.csv")] == [
        row.path for row in read_csv(tmp_path / "quiet.csv")
    ]
    for one, other in zip(read_csv(tmp_path / "split.csv"), read_csv(tmp_path / "quiet.csv"), strict=True):
        assert one.classes == other.classes
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_a_device_without_room_for_one_image_is_told_in_a_line(
    inception: Inception, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_fits(self: Networks, pixels: Tensor) -> tuple[Tensor, Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(predict.Networks, "_best", none_fits)

    ended = inception("classify", photos, "-w", "demo", "-j", 0, "-o", tmp_path / "p.csv")

    assert ended.code == 1
    assert "not enough memory for one image" in ended.err
    assert "Traceback" not in ended.err


def test_another_error_of_the_network_is_not_taken_for_a_lack_of_memory(
    inception: Inception, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Networks, pixels: Tensor) -> tuple[Tensor, Tensor]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(predict.Networks, "_best", broken)

    ended = inception("classify", photos, "-w", "demo", "-j", 0, "-o", "-")

    assert ended.code == 1
    assert "shapes cannot be multiplied" in ended.err
