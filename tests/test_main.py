"""Errors that no command expects end in one line with the remedy."""

import errno
import os
from pathlib import Path

import pytest
import torch
from running import Inception

from inception_cli.errors import InceptionError


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (MemoryError(), "choose a smaller --batch-size"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "photo.jpg"), "allow more open files (ulimit -n 1024)"),
        (OSError(errno.ENFILE, os.strerror(errno.ENFILE)), "allow more open files (ulimit -n 1024)"),
    ],
    ids=repr,
)
def test_a_machine_without_resources_is_an_error_of_one_line(
    error: Exception, remedy: str, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("inception_cli.cli.jobs.classify", fail)

    ended = inception("classify", "photo.jpg")

    assert ended.code == 1
    assert ended.err.startswith("error: ")
    assert remedy in ended.err
    assert "unexpected" not in ended.err
    assert ended.err.count("\n") == 1


def test_a_remedy_names_no_option_that_the_command_lacks(
    inception: Inception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("inception_cli.cli.jobs.tag", fail)
    (tmp_path / "rows.csv").touch()

    assert inception("tag", tmp_path / "rows.csv").err == "error: not enough memory; stop other programs\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=repr,
)
def test_a_training_that_does_not_fit_into_memory_names_its_options(
    error: Exception, inception: Inception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("inception_cli.cli.training.train", fail)
    for name in ("photos/a", "photos/b"):
        (tmp_path / name).mkdir(parents=True)

    ended = inception("train", tmp_path / "photos", "-o", tmp_path / "m.safetensors")

    assert (ended.code, ended.err) == (
        1,
        "error: not enough memory; stop other programs, or choose a smaller --batch-size or --size\n",
    )


def test_another_error_of_torch_is_unexpected(inception: Inception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("inception_cli.cli.jobs.classify", fail)

    assert "unexpected error" in inception("classify", "photo.jpg").err


@pytest.mark.parametrize("message", [f"{'d/' * 2000}preds.csv: no such file; give another name", "x" * 5000])
def test_an_error_line_has_at_most_300_characters(
    message: str, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise InceptionError(message)

    monkeypatch.setattr("inception_cli.cli.jobs.classify", fail)

    line = inception("classify", "photo.jpg").err.rstrip("\n")

    assert line.count("\n") == 0
    assert 250 < len(line) <= 300
    assert line.startswith(f"error: {message[:50]}")
    assert line.endswith(message[-50:])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("info", "interrupted"),
        ("report rows.csv -o page.html", "interrupted"),
        ("classify photo.jpg", "interrupted; with --out FILE the same command would resume the run"),
        ("classify photo.jpg -o -", "interrupted; with --out FILE the same command would resume the run"),
        ("classify photo.jpg -womo", "interrupted; with --out FILE the same command would resume the run"),
        ("classify photo.jpg -o rows.csv", "interrupted; the same command resumes the run"),
        ("classify photo.jpg -orows.csv", "interrupted; the same command resumes the run"),
        ("classify photo.jpg -qo rows.csv", "interrupted; the same command resumes the run"),
        ("classify photo.jpg --out=rows.csv", "interrupted; the same command resumes the run"),
    ],
)
def test_an_interruption_says_how_to_resume_what_can_be_resumed(
    words: str, line: str, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for function in ("cli.jobs.classify", "cli.commands.require_predictions", "weights.describe.describe"):
        monkeypatch.setattr(f"inception_cli.{function}", interrupt)

    ended = inception(*words.split())

    assert (ended.code, ended.err) == (130, f"{line}\n")
