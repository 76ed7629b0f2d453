"""A run that is killed at any moment and started again ends with the bytes of an uninterrupted run."""

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
import stub_network

ROOT = Path(__file__).parents[1]


class Process(Protocol):
    """A running command."""

    def wait(self, seconds: float | None) -> int | None:
        """Return its exit code, or None while it runs."""

    def kill(self) -> None: ...


Start = Callable[[list[str]], Process]


class Forked:
    """A command in a process whose imports are done: it takes so little time that many of them can be killed."""

    def __init__(self, words: list[str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(stub_network.PRELOAD)
        self._process: BaseProcess = context.Process(target=run_command, args=(words,))
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


def run_command(words: list[str]) -> None:
    """Run a command with the stub network in a forked process."""
    from running import code_of

    multiprocessing.set_start_method("fork", force=True)  # workers start at once, as the imports are done
    stub_network.install(pytest.MonkeyPatch())
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    sys.exit(code_of(*words))


def kill_runs(start: Start, words: list[str], out: Path, moments: int, seed: int) -> None:
    """Kill so many runs of a command at random moments; whenever one finishes, its rows are those of `plain`.

    Runs go on until one finishes that was started after the last kill.
    """
    plain = out.with_name(f"plain{out.suffix}")
    assert start([*words, "-o", str(plain)]).wait(None) == 0  # the fork server starts
    began = time.monotonic()
    assert start([*words, "-fo", str(plain)]).wait(None) == 0
    longest, kills, rng = time.monotonic() - began, 0, random.Random(seed)
    while kills < moments or not out.exists():
        run = start([*words, "-o", str(out)])
        code = run.wait(rng.uniform(0, longest) if kills < moments else None)
        if code is None:
            run.kill()
            kills += 1
        assert code in (None, 0), code
        if out.exists() and not out.with_name(out.name + ".part.json").exists():
            assert out.read_bytes() == plain.read_bytes()
            assert counts(out) == counts(plain)
            if kills < moments:
                for file in out.parent.glob(out.name + "*"):
                    file.unlink()
        elif out.exists():  # killed between the two renames, which the next start completes
            assert start([*words, "-o", str(out)]).wait(None) == 0
            assert out.read_bytes() == plain.read_bytes()
    left = sorted(file.name for file in out.parent.iterdir())
    assert left == sorted([out.name, f"{out.name}.json", plain.name, f"{plain.name}.json"])


def counts(out: Path) -> dict[str, int]:
    """Return the rows by status in the manifest."""
    by_status: dict[str, int] = json.loads(out.with_name(out.name + ".json").read_text())["counts"]
    return by_status


def command(photos: Path, weights: str, workers: int) -> list[str]:
    return ["classify", str(photos), "-w", weights, "-b", "2", "-j", str(workers), "--precision", "fp32", "-q"]


@pytest.mark.parametrize(("workers", "suffix"), [(0, "csv"), (2, "jsonl"), (0, "parquet")])
def test_a_run_killed_at_random_moments_ends_with_the_bytes_of_an_uninterrupted_one(
    workers: int, suffix: str, photos: Path, stub: str, tmp_path: Path
) -> None:
    kill_runs(
        Forked,
        command(photos / "a", stub, workers),
        tmp_path / f"p.{suffix}",
        moments=2 if workers else 4,
        seed=workers,
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("workers", "suffix"), [(0, "csv"), (2, "csv"), (2, "jsonl"), (0, "parquet")])
def test_a_run_killed_at_a_hundred_moments_from_the_first_import_to_the_publishing(
    workers: int, suffix: str, photos: Path, tmp_path: Path
) -> None:
    kill_runs(Fresh, command(photos / "a", "demo", workers), tmp_path / f"p.{suffix}", moments=100, seed=workers)
