"""The batch that fills a GPU, on simulated ones."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inception_cli.network import saturation
from inception_cli.network.optimize import Plan
from inception_cli.network.saturation import Measure, batch_size, remembered_in, saturating
from inception_cli.settings import Settings, resolve

GB = 10**9


def device(half: float, room: int = 100 * GB, each: int = GB // 50) -> Measure:
    """A device whose rate is half of its best at `half` images, and that has room for so many bytes."""

    def measure(number: int) -> tuple[float, int]:
        if number * each > room:
            raise MemoryError
        return 1000 * number / (number + half), number * each

    return measure


@pytest.mark.parametrize(
    ("half", "room", "best"),
    [
        (0.1, 100 * GB, 32),  # full from the start
        (8, 100 * GB, 256),  # 512 would gain 1.5 %
        (1000, 1000 * GB, 1024),  # never full: the bound
        (1000, 3 * GB, 128),  # 128 take 2.56 GB; 256 would not fit
        (1000, GB // 2, 32),  # not even the first fits: the runs halve it
    ],
)
def test_it_is_doubled_until_it_gains_nothing_or_finds_no_room(half: float, room: int, best: int) -> None:
    assert saturating(device(half, room), 1000 * GB) == best


def test_more_than_the_free_memory_is_not_even_tried() -> None:
    tried = []
    measure = device(1000)

    def noted(number: int) -> tuple[float, int]:
        tried.append(number)
        return measure(number)

    assert saturating(noted, 3 * GB) == 64  # 128 take 2.56 GB of 3
    assert tried == [32, 64]


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], list[int]]:
    """A GPU by name; the batches that were measured on it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100 * GB, 100 * GB))

    def on(name: str) -> list[int]:
        measured: list[int] = []
        measure = device(8)

        def noted(number: int) -> tuple[float, int]:
            measured.append(number)
            return measure(number)

        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
        monkeypatch.setattr(saturation, "_measure", lambda plan, size, classes: noted)
        return measured

    return on


def test_it_is_measured_once(count: Callable[[str], list[int]]) -> None:
    plan = Plan("cuda", "bf16")
    first = count("A")
    assert batch_size(plan, 299, 1000) == 256
    assert first == [32, 64, 128, 256, 512]

    again = count("A")
    assert batch_size(plan, 299, 1000) == 256
    assert again == []

    for name, size, other in (("B", 299, plan), ("A", 176, plan), ("A", 299, replace(plan, precision="fp32"))):
        measured = count(name)
        assert batch_size(other, size, 1000) == 256
        assert measured, (name, size, other)


@pytest.mark.parametrize(
    "damage", ["", "{", "[1]", '{"KEY": "many"}', '{"KEY": true}', '{"KEY": -1}', '{"KEY": 1000000}']
)
def test_a_damaged_file_is_measured_anew(damage: str, count: Callable[[str], list[int]]) -> None:
    plan = Plan("cuda", "bf16")
    count("A")
    batch_size(plan, 299, 1000)
    (key,) = json.loads(remembered_in().read_text())
    remembered_in().write_text(damage.replace("KEY", key))
    measured = count("A")

    assert batch_size(plan, 299, 1000) == 256
    assert measured
    assert json.loads(remembered_in().read_text()) == {key: 256}


def test_a_folder_that_cannot_be_written_costs_the_memory_alone(
    count: Callable[[str], list[int]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    count("A")

    assert batch_size(Plan("cuda", "bf16"), 299, 1000) == 256


@pytest.mark.parametrize(("images", "expected"), [(40, 128), (50_000, 256)])
def test_auto_is_measured_where_it_pays(
    images: int, expected: int, count: Callable[[str], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    count("A")
    settings = Settings(("demo",), device="cuda", precision="bf16", compile="off")

    assert resolve(settings, images=images).loading.batch_size == expected
    assert resolve(replace(settings, batch_size=7), images=images).loading.batch_size == 7


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    number = batch_size(Plan("cuda", "fp16"), 299, 1000)

    assert 32 <= number <= 1024
    assert batch_size(Plan("cuda", "fp16"), 299, 1000, measure=None) == number
