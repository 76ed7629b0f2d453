"""Batches in flight and batches of a fixed size: one prediction per input, in order. Simulated on a CPU."""

import multiprocessing
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from running import Inception
from torch import Tensor
from torch.utils.data import DataLoader

from inception_cli.config import LoaderConfig, Plan, RunConfig, Settings
from inception_cli.images import worker_pool
from inception_cli.images.dataset import Batch, load_batches
from inception_cli.images.discovery import Discovery
from inception_cli.inference.predictor import BatchResult, DevicePredictor
from inception_cli.inference.resolve import resolve
from inception_cli.network.cuda_pipeline import (
    HostToDevice,
    PendingResult,
    copy_to_host,
    deadline,
    keep_in_flight,
    map_ahead,
    pad_batch,
)
from inception_cli.predictions.prediction import Prediction
from inception_cli.storage.input_list import InputList


@pytest.fixture
def run(stub: str) -> RunConfig:
    settings = Settings((stub,), batch_size=10, workers=0, device="cpu", precision="fp32")
    return resolve(settings, Plan(threads=torch.get_num_threads()))


@pytest.fixture
def paths(photos: Path) -> InputList:
    """Twenty-four photos and a missing file."""
    return InputList.of([*Discovery([str(photos)]), "nowhere.jpg"])


class SimulatedGpu:
    """Make predictors behave as on a GPU with `in_flight` batches, and record what they do."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, in_flight: int, max_images: int = 100, graph_size: int = 0
    ) -> None:
        self.steps: list[str] = []  # "start" and "finish" of batches
        self.sizes: list[int] = []  # of the batches that go through the network
        original_init, original_start = DevicePredictor.__init__, DevicePredictor._start
        original_finish, original_network = DevicePredictor._result, DevicePredictor._best_classes

        def init(predictor: DevicePredictor, run: RunConfig) -> None:
            original_init(predictor, run)
            predictor._in_flight, predictor._graph_size = in_flight, graph_size

        def start(predictor: DevicePredictor, pixels: Tensor) -> PendingResult:
            self.steps.append("start")
            return original_start(predictor, pixels)

        def finish(predictor: DevicePredictor, paths: InputList, batch: Batch, pending: PendingResult) -> BatchResult:
            self.steps.append("finish")
            return original_finish(predictor, paths, batch, pending)

        def network(predictor: DevicePredictor, pixels: Tensor) -> tuple[Tensor, ...]:
            size = len(pad_batch(pixels, predictor._graph_size))
            self.sizes.append(size)
            if size > max_images:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return original_network(predictor, pixels)

        monkeypatch.setattr(DevicePredictor, "__init__", init)
        monkeypatch.setattr(DevicePredictor, "_start", start)
        monkeypatch.setattr(DevicePredictor, "_result", finish)
        monkeypatch.setattr(DevicePredictor, "_best_classes", network)


def predict(paths: InputList, run: RunConfig) -> list[BatchResult]:
    return list(DevicePredictor(run).predict(paths, [range(len(paths))]))


def all_predictions(results: list[BatchResult]) -> list[Prediction]:
    return [prediction for result in results for prediction in result.predictions]


def without_scores(predictions: list[Prediction]) -> list[tuple[object, ...]]:
    return [(prediction.path, prediction.status, prediction.classes) for prediction in predictions]


def test_next_batch_is_started_before_the_predictions_of_the_last_are_made(
    paths: InputList, run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = predict(paths, run)
    gpu = SimulatedGpu(monkeypatch, in_flight=1)

    results = predict(paths, run)

    assert gpu.steps == ["start", "start", "finish", "start", "finish", "finish"]
    assert results == expected
    assert len(all_predictions(results)) == 25


def test_batch_that_does_not_fit_is_split_while_another_is_in_flight(
    paths: InputList, run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = all_predictions(predict(paths, run))
    gpu = SimulatedGpu(monkeypatch, in_flight=1, max_images=3)

    results = predict(paths, run)

    assert gpu.sizes == [10, 5] + [2] * 12 + [1]
    assert [result.reduced_batch for result in results] == [2, 2, 2]
    assert without_scores(all_predictions(results)) == without_scores(expected)


def test_padding_of_the_last_batch_has_no_predictions(
    paths: InputList, run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = all_predictions(predict(paths, run))
    gpu = SimulatedGpu(monkeypatch, in_flight=1, graph_size=10)

    predictions = all_predictions(predict(paths, run))

    assert gpu.sizes == [10, 10, 10]
    assert without_scores(predictions) == without_scores(expected)
    for actual, unpadded in zip(predictions, expected, strict=True):
        assert actual.scores == pytest.approx(unpadded.scores, abs=1e-5)


def test_padding_has_no_classes_and_scores(run: RunConfig) -> None:
    predictor = DevicePredictor(run)
    side = run.pixels.preset.size
    predictor._graph_size = 4

    classes, scores = predictor(torch.zeros(3, 1, side, side, 3, dtype=torch.uint8))

    assert classes.shape == scores.shape == (3, 5)


def test_padded_batch_that_does_not_fit_is_halved(
    paths: InputList, run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = SimulatedGpu(monkeypatch, in_flight=1, max_images=5, graph_size=10)

    predictions = all_predictions(predict(paths, run))

    assert gpu.sizes == [10] + [5] * 5
    assert [prediction.path for prediction in predictions] == list(paths)


def test_items_in_flight_are_yielded_before_the_error_of_the_next_item() -> None:
    def failing() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("three")

    items = keep_in_flight(failing(), 1)

    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="three"):
        next(items)


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_items_in_flight_are_complete_and_in_order(count: int) -> None:
    started: list[int] = []
    items = keep_in_flight((started.append(item) or item for item in range(5)), count)  # type: ignore[func-returns-value]

    assert next(items) == 0
    assert len(started) == min(5, count + 1)
    assert [*items] == [1, 2, 3, 4]


def test_map_ahead_computes_the_next_result_in_a_thread() -> None:
    calls, may_continue = [], threading.Event()

    def negate(item: int) -> int:
        calls.append((item, threading.current_thread() is threading.main_thread()))
        if item == 2:
            assert may_continue.wait(10)
        return -item

    results = map_ahead(range(5), negate, 1)

    assert [next(results), next(results)] == [0, -1]  # while the thread waits in the call for 2
    may_continue.set()
    assert [*results] == [-2, -3, -4]
    assert calls == [(item, False) for item in range(5)]


def test_map_ahead_yields_the_results_before_an_error() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("the disk is gone")

    results = map_ahead(items(), lambda item: item, 1)

    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="gone"):
        next(results)


def test_pad_batch_appends_zeros() -> None:
    batch = torch.randint(1, 256, (3, 1, 4, 4, 3), dtype=torch.uint8)

    padded = pad_batch(batch, 5)

    assert padded.shape == (5, 1, 4, 4, 3)
    assert padded.dtype == torch.uint8
    assert torch.equal(padded[:3], batch)
    assert not padded[3:].any()
    assert pad_batch(batch, 0) is batch
    assert pad_batch(batch, 3) is batch


def test_nothing_is_copied_on_a_cpu() -> None:
    pixels = torch.zeros(2, 1, 4, 4, 3, dtype=torch.uint8)
    classes, scores = torch.tensor([[3, 1]]), torch.tensor([[0.6, 0.4]])

    assert HostToDevice("cpu")(pixels) is pixels
    assert copy_to_host(classes, scores)()[0] is classes
    assert copy_to_host(classes, scores)()[1] is scores
    assert copy_to_host(classes, scores, pixels)()[2] is pixels


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_for_a_gpu_are_in_pinned_memory(
    workers: int, paths: InputList, run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DataLoader pins where there is a device, by the same method; without workers `load_batches` calls it."""
    pinned: list[int] = []
    pin_memory_arguments: list[bool] = []

    def pin(batch: Batch) -> Batch:
        pinned.append(batch.first)
        return batch

    def recording_loader(*arguments: object, pin_memory: bool, **options: object) -> object:
        pin_memory_arguments.append(pin_memory)
        return DataLoader(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Batch, "pin_memory", pin)
    monkeypatch.setattr(worker_pool, "DataLoader", recording_loader)

    batches = load_batches(paths, run.pixels, LoaderConfig(10, workers), range(3), pin=True)

    assert [batch.first for batch in batches] == [0, 10, 20]
    assert (pinned, pin_memory_arguments) == (([], [True]) if workers else ([0, 10, 20], []))


def miss_a_deadline() -> None:
    with deadline("cpu", 0.1), deadline("cuda:0", 60):
        time.sleep(0.2)
    with deadline("cuda:0", 0.1):
        pass
    time.sleep(0.2)  # a timer that was not cancelled would end the process here
    print("in time", flush=True)
    with deadline("cuda:0", 0.5):
        time.sleep(60)


def test_a_gpu_that_gives_no_result_ends_the_process_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    process = multiprocessing.get_context("fork").Process(target=miss_a_deadline)
    process.start()
    process.join()

    out, err = capfd.readouterr()
    assert (process.exitcode, out) == (1, "in time\n")
    (line,) = err.splitlines()
    assert line.startswith("error: cuda:0: no result within 0.5 seconds; ")
    assert line.endswith("--timeout; the same command resumes")


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")  # warnings of torch's compiler
@pytest.mark.parametrize("compiled", ["off", "on"])
@pytest.mark.parametrize("workers", [0, 2])
def test_gpu_and_cpu_predict_the_same_classes(
    workers: int, compiled: str, inception: Inception, photos: Path, tmp_path: Path
) -> None:
    arguments = ("classify", photos, "-w", "demo", "-b", 10, "-j", workers, "--precision", "fp32")
    assert inception(*arguments, "--device", "cpu", "-o", tmp_path / "cpu.csv").code == 0

    gpu = inception(*arguments, "--device", "cuda:0", "--compile", compiled, "-o", tmp_path / "gpu.csv")

    assert gpu.code == 0
    expected, actual = ((tmp_path / name).read_text().splitlines() for name in ("cpu.csv", "gpu.csv"))
    assert len(expected) == len(actual) == 25
    assert [line.split(",")[:3] for line in expected] == [line.split(",")[:3] for line in actual]


@pytest.mark.gpu
def test_copy_from_a_gpu_keeps_every_value() -> None:
    every = torch.rand(64, 1000, device="cuda")
    scores, classes = every.topk(5)

    copied_classes, copied_scores, copied_every, copied_half = copy_to_host(classes, scores, every, scores.half())()

    assert torch.equal(copied_classes, classes.cpu())
    assert torch.equal(copied_scores, scores.cpu())
    assert torch.equal(copied_every, every.cpu())
    assert torch.equal(copied_half, scores.cpu().half())
