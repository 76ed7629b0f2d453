"""Standard streams that are closed, full, or in ASCII: data that is lost is an error, a lost message is none."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running import Inception

APPLE = Path(__file__).parents[1] / "sample_images/apple/apple-1.jpg"
LOST = ["closed", "/dev/full"]


@contextmanager
def redirected(target: str, *descriptors: int) -> Iterator[None]:
    """Close standard streams, or send them to a device that is full."""
    kept = {descriptor: os.dup(descriptor) for descriptor in descriptors}
    try:
        for descriptor in descriptors:
            os.close(descriptor)
            if target != "closed":
                assert os.open(target, os.O_WRONLY) == descriptor
        yield
    finally:
        for descriptor, original in kept.items():
            os.dup2(original, descriptor)
            os.close(original)


@pytest.mark.parametrize("target", LOST)
@pytest.mark.parametrize("words", [("--version",), ("train", "--help"), ("info", "--json"), ("info",), ()], ids=str)
def test_data_that_cannot_be_written_is_an_error_of_one_line(
    target: str, words: tuple[str, ...], inception: Inception
) -> None:
    with redirected(target, 1):
        ended = inception(*words)

    reason = "it is closed" if target == "closed" else "no space left on device"
    assert (ended.code, ended.err) == (
        1,
        f"error: standard output: {reason}; redirect it to a file that can be written\n",
    )


@pytest.mark.parametrize("target", LOST)
@pytest.mark.parametrize("options", [(), ("--out", "-"), ("--json",)], ids=str)
def test_rows_that_cannot_be_written_are_an_error(
    target: str, options: tuple[str, ...], stub: str, inception: Inception
) -> None:
    with redirected(target, 1):
        ended = inception("classify", APPLE, "-w", stub, "-j", 0, "-q", *options)

    assert ended.code == 1
    assert ended.err.startswith("error: standard output: ")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("target", LOST)
@pytest.mark.parametrize("descriptors", [(0,), (1,), (2,), (1, 2), (0, 1, 2)], ids=str)
def test_a_run_with_an_output_file_does_not_need_standard_streams(
    target: str, descriptors: tuple[int, ...], stub: str, inception: Inception, tmp_path: Path
) -> None:
    out = tmp_path / "preds.csv"

    with redirected(target, *descriptors):
        ended = inception("classify", APPLE, "nowhere.jpg", "-w", stub, "-j", 0, "-o", out)

    assert ended.code == 3
    assert [line.split(",")[1] for line in out.read_text().splitlines()] == ["status", "ok", "missing"]
    assert ended.out == ""


@pytest.mark.parametrize("target", LOST)
def test_messages_that_cannot_be_written_are_dropped(target: str, stub: str, inception: Inception) -> None:
    with redirected(target, 2):
        classified = inception("classify", APPLE, "nowhere.jpg", "-w", stub, "-j", 0)
        refused = inception("classify", "nowhere.jpg", "-w", stub)
        wrong = inception("classify", "--nonsense")

    assert classified.code == 3
    assert len(classified.out.splitlines()) == 2
    assert (refused.code, wrong.code) == (1, 2)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_characters_that_an_encoding_lacks_are_escaped(
    encoding: str, stub: str, inception: Inception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "яблоко.jpg"
    photo.write_bytes(APPLE.read_bytes())
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding))

    classified = inception("classify", photo, "нет.jpg", "-w", stub, "-j", 0)
    info = inception("info")

    assert (classified.code, info.code) == (3, 0)
    assert "\\u044f\\u0431" in classified.out
    assert "\\u2013" in info.out
    assert inception("classify", "нет.jpg").err.startswith("error: \\u043d\\u0435\\u0442.jpg")


@contextmanager
def pipe_without_reader() -> Iterator[None]:
    """Send standard output to a pipe that nobody reads, as `| head` leaves it."""
    reader, writer = os.pipe()
    os.close(reader)
    kept = os.dup(1)
    os.dup2(writer, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(writer)


def test_a_closed_pipe_ends_quietly(inception: Inception) -> None:
    with pipe_without_reader():
        ended = inception("info")

    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize("options", [(), ("--json",)], ids=str)
def test_a_closed_pipe_does_not_hide_that_metrics_are_below_expectation(
    options: tuple[str, ...], inception: Inception, tmp_path: Path
) -> None:
    rows, labels = tmp_path / "preds.csv", tmp_path / "labels.csv"
    header = "path,status,top1_index,top1_label,top1_score,error\n"
    rows.write_text(f"{header}a.jpg,ok,0,apple,0.5,\nb.jpg,ok,1,pear,0.5,\nc.jpg,corrupt,,,,damaged\n")
    labels.write_text("path,label\na.jpg,apple\nb.jpg,apple\nc.jpg,pear\n")

    with pipe_without_reader():
        below = inception("evaluate", "--predictions", rows, "--labels", labels, "--expect-top1", 90, *options)
        incomplete = inception("evaluate", "--predictions", rows, "--labels", labels, *options)

    assert (below.code, below.err.count("\n"), incomplete.code) == (5, 1, 3)


def test_a_process_without_standard_streams_exits_with_the_code_of_its_work(stub: str, tmp_path: Path) -> None:
    """What Python itself does at its end must not change the exit code; files must not take the numbers 1 and 2."""
    command = f'"{sys.executable}" -m inception_cli --version'

    def code(redirections: str) -> int:
        return subprocess.run(["sh", "-c", f"{command} {redirections}"], check=False, cwd=APPLE.parents[2]).returncode

    assert code(f">{tmp_path / 'out'} 2>&- <&-") == 0
    assert code(">/dev/full 2>/dev/full") == 1
    assert code(">&- 2>&-") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_a_run_before_its_first_row(
    number: signal.Signals, inception: Inception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr("inception_cli.cli.jobs.classify", lambda *_: signal.raise_signal(number))
    try:
        ended = inception("classify", APPLE, "-o", tmp_path / "preds.csv")
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)

    assert (ended.code, ended.err) == (130, "interrupted; the same command resumes the run\n")


def test_nohup_keeps_a_command_alive(inception: Inception, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert inception("--version").code == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
