"""Predictions of one device: a batch that does not fit into memory is halved until it does, and no row is lost."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from records import run_config
from running import Inception
from stub_network import WEIGHTS
from torch import Tensor

from inception_cli.errors import InceptionError
from inception_cli.inference.predictor import BatchResult, DevicePredictor
from inception_cli.predictions.formats import read_predictions
from inception_cli.predictions.prediction import Prediction


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A device with memory for three images; the list holds the sizes of the batches that were tried."""
    best_classes, tried = DevicePredictor._best_classes, []

    def limited(self: DevicePredictor, pixels: Tensor) -> tuple[Tensor, ...]:
        tried.append(len(pixels))
        if len(pixels) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return best_classes(self, pixels)

    monkeypatch.setattr(DevicePredictor, "_best_classes", limited)
    return tried


@pytest.fixture
def predictor(stub: str) -> DevicePredictor:
    """The stub network with batches of four."""
    return DevicePredictor(replace(run_config(batch_size=4, top_k=5), weights=(WEIGHTS,)))


def rows(results: list[BatchResult]) -> list[Prediction]:
    return [row for result in results for row in result.predictions]


def test_results_are_batches_of_the_pending_inputs_in_order(predictor: DevicePredictor, photos: Path) -> None:
    paths = [*map(str, sorted(photos.rglob("*.jpg"))[:9]), "gone.jpg"]

    whole = [*predictor.predict(paths, [range(10)])]
    some = [*predictor.predict(paths, [range(4), range(8, 10)])]

    assert [(result.first, len(result.predictions)) for result in whole] == [(0, 4), (4, 4), (8, 2)]
    assert [row.path for row in rows(whole)] == paths
    assert [row.status for row in rows(whole)] == ["ok"] * 9 + ["missing"]
    assert some == [whole[0], whole[2]]
    assert [*predictor.predict(paths, [])] == []


def test_the_networks_are_loaded_when_the_first_batch_is_needed(photos: Path, stub: str) -> None:
    run = replace(run_config(), weights=(replace(WEIGHTS, name="gone", file="gone.safetensors"),))
    predictor = DevicePredictor(run)

    assert [*predictor.predict([], [])] == []
    with pytest.raises(InceptionError, match=r"gone\.safetensors"):
        next(predictor.predict(["a.jpg"], [range(1)]))


def test_a_batch_that_does_not_fit_is_halved(
    little_memory: list[int], stub: str, inception: Inception, photos: Path, tmp_path: Path
) -> None:
    options = ("classify", photos, "-w", stub, "-j", 0, "--precision", "fp32")

    ended = inception(*options, "-b", 10, "-o", tmp_path / "halved.csv")

    assert ended.code == 0
    assert little_memory == [10, 5] + [2] * 12  # the size that fits is used from then on
    assert "2 images at once instead of 10" in ended.err
    assert json.loads((tmp_path / "halved.csv.json").read_text())["reduced_batch"] == 2
    inception(*options, "-b", 2, "-o", tmp_path / "plain.csv")
    halved, plain = ([*read_predictions(tmp_path / f"{name}.csv")] for name in ("halved", "plain"))
    assert [row.path for row in halved] == [row.path for row in plain]
    assert len({row.classes[0] for row in plain}) >= 8
    for one, other in zip(halved, plain, strict=True):
        assert one.classes == other.classes
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_results_give_the_reduced_batch(little_memory: list[int], predictor: DevicePredictor, photos: Path) -> None:
    paths = [*map(str, sorted(photos.rglob("*.jpg"))[:9])]

    results = [*predictor.predict(paths, [range(9)])]

    assert [result.reduced_batch for result in results] == [2, 2, 2]
    assert [row.path for row in rows(results)] == paths


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("std::bad_alloc"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=str,
)
def test_a_batch_that_does_not_fit_into_the_memory_of_the_processor_is_halved(
    error: Exception, predictor: DevicePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    best_classes = DevicePredictor._best_classes

    def limited(self: DevicePredictor, pixels: Tensor) -> tuple[Tensor, ...]:
        if len(pixels) > 2:
            raise error
        return best_classes(self, pixels)

    pixels = torch.randint(256, (4, 1, 75, 75, 3), dtype=torch.uint8)
    expected = predictor(pixels)
    monkeypatch.setattr(DevicePredictor, "_best_classes", limited)

    classes, scores = predictor(pixels)

    assert predictor.reduced_batch == 2
    assert torch.equal(classes, expected[0])
    assert torch.allclose(scores, expected[1])


def test_a_device_without_memory_for_one_image_is_an_error_of_one_line(
    stub: str, inception: Inception, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_fits(self: DevicePredictor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(DevicePredictor, "_best_classes", none_fits)

    ended = inception("classify", photos, "-w", stub, "-j", 0, "-o", tmp_path / "p.csv")

    assert ended.code == 1
    assert "not enough memory for one image" in ended.err
    assert ended.err.count("\n") == 1


def test_another_error_of_the_network_is_not_taken_for_a_lack_of_memory(
    stub: str, inception: Inception, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: DevicePredictor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(DevicePredictor, "_best_classes", broken)

    ended = inception("classify", photos, "-w", stub, "-j", 0, "-o", "-")

    assert ended.code == 1
    assert "shapes cannot be multiplied" in ended.err


def test_scores_that_are_not_numbers_are_no_prediction(
    predictor: DevicePredictor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best_classes = DevicePredictor._best_classes

    def overflow(self: DevicePredictor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        classes, scores = best_classes(self, pixels)
        return classes, torch.where(torch.tensor([[False], [True], [False]]), torch.nan, scores)

    monkeypatch.setattr(DevicePredictor, "_best_classes", overflow)

    predictions = rows([*predictor.predict([*map(str, sorted(photos.rglob("*.jpg"))[:3])], [range(3)])])

    assert [row.status for row in predictions] == ["ok", "failed", "ok"]
    assert "--precision fp32" in predictions[1].error
