"""A run killed at any moment, and started again, ends with the bytes of the quiet run."""

import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

import pytest

ROOT = Path(__file__).parents[1]


class Process(Protocol):
    """A command that runs."""

    def wait(self, seconds: float | None) -> int | None:
        """Its exit code, None while it runs."""

    def kill(self) -> None: ...


Start = Callable[[list[str]], Process]


class Forked:
    """A command in a process whose imports are done: a fraction of a second, so many of them can be killed."""

    def __init__(self, words: list[str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["running", "inception_cli.session"])
        self._process: BaseProcess = context.Process(target=command, args=(words,))
        self._process.start()

    def wait(self, seconds: float | None) -> int | None:
        self._process.join(seconds)
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


class Fresh:
    """A command as a user starts it, from the first import on."""

    def __init__(self, words: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "inception_cli", *words], stderr=subprocess.DEVNULL, cwd=ROOT
        )

    def wait(self, seconds: float | None) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def command(words: list[str]) -> None:
    """What a forked process does."""
    from running import code_of

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    sys.exit(code_of(*words))


def killed(start: Start, words: list[str], out: Path, moments: int, seed: int) -> int:
    """Kill runs of a command at so many random moments; whenever one comes to its end, its rows are the quiet run's.

    Returns how many were killed.
    """
    quiet = out.with_name(f"quiet{out.suffix}")
    began = time.monotonic()
    assert start([*words, "-o", str(quiet)]).wait(None) == 0
    longest, kills, rng = time.monotonic() - began, 0, random.Random(seed)
    while kills < moments or not out.exists():
        run = start([*words, "-o", str(out)])
        code = run.wait(rng.uniform(0, longest) if kills < moments else None)
        if code is None:
            run.kill()
            kills += 1
        assert code in (None, 0), code
        if out.exists() and not out.with_name(out.name + ".part.json").exists():
            assert out.read_bytes() == quiet.read_bytes()
            assert counts(out) == counts(quiet)
            if kills < moments:
                for file in out.parent.glob(out.name + "*"):
                    file.unlink()
        elif out.exists():  # killed between the two names; the next start completes that
            assert start([*words, "-o", str(out)]).wait(None) == 0
            assert out.read_bytes() == quiet.read_bytes()
    left = sorted(file.name for file in out.parent.iterdir())
    assert left == sorted([out.name, f"{out.name}.json", quiet.name, f"{quiet.name}.json"])
    return kills


def counts(out: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads(out.with_name(out.name + ".json").read_text())["counts"]
    return found


def words(photos: Path, workers: int) -> list[str]:
    return ["classify", str(photos), "-w", "demo", "-b", "2", "-j", str(workers), "--precision", "fp32", "-q"]


@pytest.mark.parametrize(("workers", "suffix"), [(0, "csv"), (2, "jsonl"), (0, "parquet")])
def test_a_run_killed_at_random_moments_ends_with_the_quiet_bytes(
    workers: int, suffix: str, photos: Path, tmp_path: Path
) -> None:
    assert killed(Forked, words(photos / "a", workers), tmp_path / f"p.{suffix}", moments=3, seed=workers) == 3


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("workers", "suffix"), [(0, "csv"), (2, "csv"), (2, "jsonl"), (0, "parquet")])
def test_a_hundred_moments_from_the_first_import_to_the_publishing(
    workers: int, suffix: str, photos: Path, tmp_path: Path
) -> None:
    assert killed(Fresh, words(photos, workers), tmp_path / f"p.{suffix}", moments=100, seed=workers) == 100
