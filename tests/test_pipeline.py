"""A batch in flight, batches of one size: every row once, in order. On a CPU, which does all of it at once."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from running import Inception
from torch import Tensor
from torch.utils.data import DataLoader

from inception_cli import predict
from inception_cli.images import workers
from inception_cli.images.inputs import Inputs, PathList
from inception_cli.images.loader import Batch, Loading, batches
from inception_cli.network.pipeline import Answer, Feed, ahead, behind, fetch, padded
from inception_cli.predict import Networks
from inception_cli.results.rows import Prediction
from inception_cli.settings import Run, Settings, resolve


@pytest.fixture
def run() -> Run:
    settings = Settings(("demo",), batch_size=10, workers=0, device="cpu", precision="fp32")
    return replace(resolve(settings), threads=torch.get_num_threads())


@pytest.fixture
def paths(photos: Path) -> PathList:
    """Twenty-four photos, and one that is not there."""
    return PathList.of([*Inputs([str(photos)]), "nowhere.jpg"])


class InFlight:
    """A device that is at so many batches; what it did, and in which order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, room: int = 100, fixed: int = 0) -> None:
        self.told: list[str] = []
        self.sizes: list[int] = []
        begin, rows, best, init = Networks.begin, Networks.rows, Networks._best, Networks.__init__

        def initialised(networks: Networks, run: Run) -> None:
            init(networks, run)
            networks.in_flight, networks.fixed = number, fixed

        def begun(networks: Networks, pixels: Tensor) -> Answer:
            self.told.append("begin")
            return begin(networks, pixels)

        def made(networks: Networks, paths: PathList, batch: Batch, answer: Answer) -> list[Prediction]:
            self.told.append("rows")
            return rows(networks, paths, batch, answer)

        def network(networks: Networks, pixels: Tensor) -> tuple[Tensor, Tensor]:
            seen = len(padded(pixels, networks.fixed))
            self.sizes.append(seen)
            if seen > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return best(networks, pixels)

        for name, replaced in (("__init__", initialised), ("begin", begun), ("rows", made), ("_best", network)):
            monkeypatch.setattr(Networks, name, replaced)


def test_a_batch_is_in_flight_while_rows_are_made(paths: PathList, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = list(predict.classify(paths, run))
    device = InFlight(monkeypatch, 1)

    found = list(predict.classify(paths, run))

    assert device.told == ["begin", "begin", "rows", "begin", "rows", "rows"]
    assert found == quiet
    assert sum(map(len, found)) == 25


def test_a_batch_that_does_not_fit_is_split_while_another_is_in_flight(
    paths: PathList, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = [row for rows in predict.classify(paths, run) for row in rows]
    device = InFlight(monkeypatch, 1, room=3)
    told: list[int] = []

    found = [row for rows in predict.classify(paths, run, split=told.append) for row in rows]

    assert device.sizes == [10, 5] + [2] * 12 + [1]
    assert told == [2]
    assert [(row.path, row.status, row.classes) for row in found] == [
        (row.path, row.status, row.classes) for row in quiet
    ]


def test_the_last_batch_is_filled_up_and_what_fills_it_has_no_row(
    paths: PathList, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = [row for rows in predict.classify(paths, run) for row in rows]
    device = InFlight(monkeypatch, 1, fixed=10)

    found = [row for rows in predict.classify(paths, run) for row in rows]

    assert device.sizes == [10, 10, 10]
    assert [(row.path, row.status, row.classes) for row in found] == [
        (row.path, row.status, row.classes) for row in quiet
    ]
    for one, other in zip(found, quiet, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_what_fills_a_batch_up_has_no_answer(run: Run) -> None:
    networks = Networks(run)
    side = run.pixels.preset.size
    networks.fixed = 4

    classes, scores = networks(torch.zeros(3, 1, side, side, 3, dtype=torch.uint8))

    assert classes.shape == scores.shape == (3, 5)


def test_a_filled_up_batch_that_does_not_fit_is_halved(
    paths: PathList, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = InFlight(monkeypatch, 1, room=5, fixed=10)

    found = [row for rows in predict.classify(paths, run) for row in rows]

    assert device.sizes == [10] + [5] * 5
    assert [row.path for row in found] == list(paths)


def test_rows_in_flight_come_before_the_error_of_the_next_batch() -> None:
    def failing() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("three")

    found = behind(failing(), 1)

    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ValueError, match="three"):
        next(found)


@pytest.mark.parametrize("number", [0, 1, 2, 9])
def test_what_is_behind_is_whole_and_in_order(number: int) -> None:
    made: list[int] = []
    items = (made.append(item) or item for item in range(5))  # type: ignore[func-returns-value]

    found = behind(items, number)

    assert next(found) == 0
    assert len(made) == min(5, number + 1)
    assert [*found] == [1, 2, 3, 4]


def test_a_thread_is_ahead_by_one() -> None:
    begun, may = [], threading.Event()

    def act(item: int) -> int:
        begun.append((item, threading.current_thread() is threading.main_thread()))
        if item == 2:
            assert may.wait(10)
        return -item

    found = ahead(range(5), act)

    assert [next(found), next(found)] == [0, -1]  # while the thread is at 2
    may.set()
    assert [*found] == [-2, -3, -4]
    assert begun == [(item, False) for item in range(5)]


def test_what_came_before_an_error_is_not_lost() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("the disk is gone")

    found = ahead(items(), lambda item: item)

    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="gone"):
        next(found)


def test_padding_is_zeros_after_the_images() -> None:
    images = torch.randint(1, 256, (3, 1, 4, 4, 3), dtype=torch.uint8)

    filled = padded(images, 5)

    assert filled.shape == (5, 1, 4, 4, 3)
    assert filled.dtype == torch.uint8
    assert torch.equal(filled[:3], images)
    assert not filled[3:].any()
    assert padded(images, 0) is images
    assert padded(images, 3) is images


def test_a_cpu_copies_nothing() -> None:
    pixels = torch.zeros(2, 1, 4, 4, 3, dtype=torch.uint8)
    classes, scores = torch.tensor([[3, 1]]), torch.tensor([[0.6, 0.4]])

    assert Feed("cpu")(pixels) is pixels
    assert fetch(classes, scores)()[0] is classes
    assert fetch(classes, scores)()[1] is scores


@pytest.mark.parametrize("number", [0, 1])
def test_batches_for_a_gpu_come_in_pinned_memory(
    number: int, paths: PathList, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DataLoader pins where there is a device, by the same method; without workers it is called here."""
    pinned: list[int] = []
    asked: list[bool] = []

    def pin(batch: Batch) -> Batch:
        pinned.append(batch.first)
        return batch

    def noted(*words: object, pin_memory: bool, **more: object) -> object:
        asked.append(pin_memory)
        return DataLoader(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Batch, "pin_memory", pin)
    monkeypatch.setattr(workers, "DataLoader", noted)

    found = [batch.first for batch in batches(paths, run.pixels, Loading(10, number), pin=True)]

    assert found == [0, 10, 20]
    assert (pinned, asked) == (([], [True]) if number else ([0, 10, 20], []))


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("compiled", ["off", "on"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_gives_the_rows_of_the_cpu(
    workers: int, compiled: str, inception: Inception, photos: Path, tmp_path: Path
) -> None:
    words = ("classify", photos, "-w", "demo", "-b", 10, "-j", workers, "--precision", "fp32")
    assert inception(*words, "--device", "cpu", "-o", tmp_path / "cpu.csv").code == 0

    gpu = inception(*words, "--device", "cuda:0", "--compile", compiled, "-o", tmp_path / "gpu.csv")

    assert gpu.code == 0
    one, other = ((tmp_path / name).read_text().splitlines() for name in ("cpu.csv", "gpu.csv"))
    assert len(one) == len(other) == 25
    assert [line.split(",")[:3] for line in one] == [line.split(",")[:3] for line in other]


@pytest.mark.gpu
@needs_gpu
def test_an_answer_comes_back_from_a_gpu_whole() -> None:
    scores, classes = torch.rand(64, 1000, device="cuda").topk(5)

    back = fetch(classes, scores)()

    assert torch.equal(back[0], classes.cpu())
    assert torch.equal(back[1], scores.cpu())
