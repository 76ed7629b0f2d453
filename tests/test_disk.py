"""A disk that is full while a run writes: one line, whole rows, and the same command goes on when there is room."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from running import Inception
from torch import Tensor

from inception_cli.predict import Networks


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that cost nothing."""

    def best(self: Networks, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return torch.arange(5).repeat(len(pixels), 1), torch.full((len(pixels), 5), 0.2)

    monkeypatch.setattr(Networks, "_best", best)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow over `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_costs_no_row(workers: int, inception: Inception, photos: Path, tmp_path: Path) -> None:
    words = ("classify", *[photos / "a"] * 6, "-w", "demo", "-j", workers, "-b", 7, "--precision", "fp32")
    quiet = inception(*words, "-o", tmp_path / "quiet.csv")
    whole = (tmp_path / "quiet.csv").read_bytes()
    full = tmp_path / "full.csv"

    with room_for(len(whole) // 2):
        stopped = inception(*words, "-o", full)

    assert quiet.code == 0
    assert stopped.code == 1
    (line,) = stopped.err.strip().splitlines()
    assert str(full) in line
    assert "the same command goes on" in line
    part = full.with_name("full.csv.part").read_bytes()
    assert whole.startswith(part)
    assert part.endswith(b"\n")
    assert len(part) > len(whole) // 3
    assert not full.exists()
    assert inception(*words, "-o", full).code == 0
    assert full.read_bytes() == whole


def test_a_folder_that_is_gone_is_told_at_once(inception: Inception, photos: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"

    ended = inception("classify", photos, "-w", "demo", "-j", 0, "-o", gone / "p.csv")

    assert ended.code == 1
    assert str(gone) in ended.err
    assert "no such folder" in ended.err


def test_rows_on_standard_output_that_is_full_are_told(
    inception: Inception, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:

        class Full:
            buffer = full

            def flush(self) -> None:
                pass

        monkeypatch.setattr("sys.stdout", Full())
        ended = inception("classify", photos, "-w", "demo", "-j", 0, "-o", "-")

    assert ended.code == 1
    assert "No space left" in ended.err
    assert "Traceback" not in ended.err
