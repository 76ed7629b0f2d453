"""Rows on standard output: as CSV, as lines, or a single photo's as bars."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inception_cli import display

if TYPE_CHECKING:
    from inception_cli.results.rows import Prediction
    from inception_cli.session import Begin, Write
    from inception_cli.settings import Run


def one_photo(named: Sequence[str]) -> bool:
    """Whether somebody at a terminal asks about a single photo, and wants an answer rather than a file."""
    return len(named) == 1 and Path(named[0]).is_file() and display.output().is_terminal


def writer(named: Sequence[str], out: str, json: bool) -> "Begin":
    """How the rows of what was named are written: with --json alone not at all, for the manifest is what is printed."""
    if out:
        return _csv
    if json:
        return lambda run: lambda rows: None
    return _bars if one_photo(named) else _lines


def _csv(run: "Run") -> "Write":
    """CSV, header first."""
    from inception_cli.results.rows import csv_header, to_csv

    def put(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    put(csv_header(run.top_k))
    return lambda rows: put(to_csv(rows, run.top_k))


def _lines(run: "Run") -> "Write":
    console = display.output()

    def write(rows: "Sequence[Prediction]") -> None:
        for row in rows:
            console.print(display.row_line(row))

    return write


def _bars(run: "Run") -> "Write":
    def write(rows: "Sequence[Prediction]") -> None:
        for row in rows:
            display.answer(row)

    return write
