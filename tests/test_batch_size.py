"""The batch size that fills a GPU, on simulated GPUs."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inception_cli.config import Plan, Settings
from inception_cli.inference.resolve import resolve, resolve_plan
from inception_cli.network import batch_size
from inception_cli.network.batch_size import Measure, cache_file, choose_batch_size, find_batch_size

GB = 10**9


def simulated_gpu(half_rate_size: float, memory: int = 100 * GB, image_bytes: int = GB // 50) -> Measure:
    """Return the measurements of a GPU that reaches half of its highest rate with batches of `half_rate_size`."""

    def measure(size: int) -> tuple[float, int]:
        if size * image_bytes > memory:
            raise MemoryError
        return 1000 * size / (size + half_rate_size), size * image_bytes

    return measure


@pytest.mark.parametrize(
    ("half_rate_size", "memory", "best", "limited"),
    [
        (0.1, 100 * GB, 32, False),  # the smallest size fills the GPU
        (8, 100 * GB, 256, False),  # 512 would gain 1.5 %
        (1000, 1000 * GB, 1024, False),  # never full: the largest size
        (1000, 3 * GB, 128, True),  # 128 take 2.56 GB; 256 would not fit
        (1000, GB // 2, 32, True),  # not even the smallest size fits: the run will halve it
    ],
)
def test_size_is_doubled_until_it_gains_nothing_or_does_not_fit(
    half_rate_size: float, memory: int, best: int, limited: bool
) -> None:
    assert choose_batch_size(simulated_gpu(half_rate_size, memory), 1000 * GB) == (best, limited)


def test_size_that_would_exceed_the_free_memory_is_not_measured() -> None:
    measured = []
    measure = simulated_gpu(1000)

    def recording(size: int) -> tuple[float, int]:
        measured.append(size)
        return measure(size)

    assert choose_batch_size(recording, 3 * GB) == (64, True)  # 128 take 2.56 GB of 3
    assert measured == [32, 64]


@pytest.fixture
def use_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], list[int]]:
    """Simulate a GPU by name; return the list that records the sizes measured on it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100 * GB, 100 * GB))

    def use(name: str) -> list[int]:
        measured: list[int] = []
        measure = simulated_gpu(8)

        def recording(size: int) -> tuple[float, int]:
            measured.append(size)
            return measure(size)

        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
        monkeypatch.setattr(batch_size, "_measure_on_gpu", lambda plan, side, num_classes: recording)
        return measured

    return use


def test_each_gpu_input_resolution_and_precision_is_measured_once(use_gpu: Callable[[str], list[int]]) -> None:
    plan = Plan("cuda", "bf16")
    first = use_gpu("A")
    assert find_batch_size(plan, 299, 1000) == 256
    assert first == [32, 64, 128, 256, 512]

    second = use_gpu("A")
    assert find_batch_size(plan, 299, 1000) == 256
    assert second == []

    for name, side, other in (("B", 299, plan), ("A", 176, plan), ("A", 299, replace(plan, precision="fp32"))):
        measured = use_gpu(name)
        assert find_batch_size(other, side, 1000) == 256
        assert measured, (name, side, other)


def test_a_size_that_memory_limited_is_measured_again(
    use_gpu: Callable[[str], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan("cuda", "bf16")
    use_gpu("A")
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * GB, 100 * GB))  # others use the rest
        assert find_batch_size(plan, 299, 1000) == 64
    use_gpu("A")

    assert find_batch_size(plan, 299, 1000) == 256


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"KEY": "many"}', '{"KEY": true}', '{"KEY": -1}', '{"KEY": 1000000}']
)
def test_damaged_cache_is_measured_again(content: str, use_gpu: Callable[[str], list[int]]) -> None:
    plan = Plan("cuda", "bf16")
    use_gpu("A")
    find_batch_size(plan, 299, 1000)
    (key,) = json.loads(cache_file().read_text())
    cache_file().write_text(content.replace("KEY", key))
    measured = use_gpu("A")

    assert find_batch_size(plan, 299, 1000) == 256
    assert measured
    assert json.loads(cache_file().read_text()) == {key: 256}
    assert sorted(file.name for file in cache_file().parent.iterdir()) == ["batch-sizes.json", "batch-sizes.json.lock"]


def test_cache_folder_that_is_not_writable_is_no_error(
    use_gpu: Callable[[str], list[int]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    use_gpu("A")

    assert find_batch_size(Plan("cuda", "bf16"), 299, 1000) == 256


@pytest.mark.parametrize(("images", "expected"), [(40, 128), (50_000, 256)])
def test_auto_is_measured_for_long_runs_only(
    images: int, expected: int, use_gpu: Callable[[str], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    use_gpu("A")
    settings = Settings(("demo",), device="cuda", precision="bf16", compile="off")
    plan = resolve_plan(settings, images=images)

    assert resolve(settings, plan, images=images).loader.batch_size == expected
    assert resolve(replace(settings, batch_size=7), plan, images=images).loader.batch_size == 7


@pytest.mark.gpu
def test_real_gpu_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    size = find_batch_size(Plan("cuda", "fp16"), 299, 1000)

    assert 32 <= size <= 1024
    assert find_batch_size(Plan("cuda", "fp16"), 299, 1000) == size
