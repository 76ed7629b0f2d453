"""The command line: parse, wire, print. Whatever is heavy is imported by the command that runs it."""

import json as jsonlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from inception_cli import __version__
from inception_cli.errors import ExitCode, InceptionError, UsageError

if TYPE_CHECKING:
    from inception_cli.results.rows import Prediction
    from inception_cli.session import Outcome, Write
    from inception_cli.settings import Run, Settings

app = typer.Typer(
    name="inception",
    help="Classify folders of photos with Inception V3, and measure how well.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def number_or_auto(text: str) -> int:
    """A count; `auto` is -1 here, since a parser of Typer's must not give None."""
    if text == "auto":
        return -1
    if not text.isdigit():
        raise typer.BadParameter(f"{text!r} is neither a number nor auto")
    return int(text)


def _auto(number: int) -> int | None:
    return None if number < 0 else number


Inputs = Annotated[list[str], typer.Argument(metavar="INPUT...", help="Folders, files, globs, or - for a path a line.")]
Out = Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="A .csv file; - for standard output.")]
WeightsNames = Annotated[
    list[str], typer.Option("--weights", "-w", metavar="NAME|FILE", help="Repeatable: several are an ensemble.")
]
PresetName = Annotated[str, typer.Option("--preset", metavar="NAME", help="Pixels as this publisher makes them.")]
ClassesFile = Annotated[str, typer.Option("--classes", metavar="FILE", help="Class names in the model's order.")]
TopK = Annotated[int, typer.Option("--top-k", "-k", min=1, help="Best classes in a row.")]
BatchSize = Annotated[
    int, typer.Option("--batch-size", "-b", parser=number_or_auto, metavar="N|auto", help="Images a batch.")
]
Workers = Annotated[
    int, typer.Option("--workers", "-j", parser=number_or_auto, metavar="N|auto", help="Processes that decode.")
]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda|cuda:N|mps", help="Where the network runs.")]
Precision = Annotated[str, typer.Option("--precision", metavar="auto|fp32|bf16|fp16", help="Numbers of the network.")]
Decode = Annotated[str, typer.Option("--decode", metavar="exact", help="How pictures are decoded.")]
Exif = Annotated[bool, typer.Option("--exif/--no-exif", help="Turn photos as their camera says.")]
Timeout = Annotated[float, typer.Option("--timeout", min=1, metavar="S", help="Seconds that one photo may take.")]
MaxPixels = Annotated[int, typer.Option("--max-pixels", metavar="N", help="Larger pictures are not decoded. [auto]")]
Restart = Annotated[bool, typer.Option("--restart/--resume", help="Begin an interrupted run again.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite a finished file.")]
AllowFailures = Annotated[bool, typer.Option("--allow-failures", help="Exit with 0 though some images failed.")]
Offline = Annotated[bool, typer.Option("--offline", envvar="INCEPTION_OFFLINE", help="Fetch nothing.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say what was decided.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _version(asked: bool) -> None:
    if asked:
        print(f"inception {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


@app.command()
def classify(
    inputs: Inputs,
    out: Out = "",
    weights: WeightsNames = ["torchvision"],  # noqa: B006 - Typer copies it
    preset: PresetName = "",
    classes: ClassesFile = "",
    top_k: TopK = 5,
    batch_size: BatchSize = "auto",  # type: ignore[assignment]  # number_or_auto makes it a number
    workers: Workers = "auto",  # type: ignore[assignment]
    device: Device = "auto",
    precision: Precision = "auto",
    decode: Decode = "exact",
    exif: Exif = True,
    timeout: Timeout = 60,
    max_pixels: MaxPixels = 0,
    restart: Restart = False,
    force: Force = False,
    allow_failures: AllowFailures = False,
    offline: Offline = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Classify photos: one row for each, always.

    inception classify ./photos --out preds.csv
    """
    from inception_cli.settings import Settings

    settings = Settings(
        weights=tuple(weights),
        preset=preset or None,
        classes=classes or None,
        top_k=top_k,
        batch_size=_auto(batch_size),
        workers=_auto(workers),
        device=device,
        precision=precision,
        decode=decode,
        exif=exif,
        timeout=timeout,
        max_pixels=max_pixels or None,
        offline=offline,
    )
    outcome = _classify(inputs, settings, out, restart, force, Voice(json, quiet, verbose))
    if outcome.interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)
    if outcome.tally.failed and not allow_failures:
        raise typer.Exit(ExitCode.SOME_FAILED)


@app.command()
def info(
    weights: WeightsNames = [],  # noqa: B006 - Typer copies it
    preset: PresetName = "",
    classes: ClassesFile = "",
    device: Device = "auto",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the network, the weights that can be had, and this machine.

    inception info -w mine.safetensors
    """
    from inception_cli import about, display

    facts = about.facts(weights, preset or None, classes or None, device)
    if json:
        print(jsonlib.dumps(facts))
    else:
        display.info(facts)


@dataclass(frozen=True)
class Voice:
    """How much is said, and in which form."""

    json: bool
    quiet: bool
    verbose: bool


def _classify(inputs: list[str], settings: "Settings", out: str, restart: bool, force: bool, voice: Voice) -> "Outcome":
    from inception_cli import display, session

    if voice.json and out == "-":
        raise UsageError("--json and --out - both want standard output: name a file")
    with display.Bar("classify", voice.quiet) as bar:
        if out in ("", "-"):
            begin = _csv_writer if out else _nothing if voice.json else _line_writer
            outcome = session.to_stream(inputs, settings, begin, bar)
        else:
            outcome = session.to_file(inputs, settings, _csv_file(out), restart, force, bar)
    if not voice.quiet:
        display.outcome(outcome, out, voice.verbose)
    if voice.json:
        print(jsonlib.dumps(outcome.manifest))
    return outcome


def _csv_file(out: str) -> Path:
    if not out.lower().endswith(".csv"):
        raise UsageError(f"--out {out}: the file ends in .csv (or is - for standard output)")
    return Path(out)


def _csv_writer(run: "Run") -> "Write":
    """Rows as CSV on standard output, header first."""
    from inception_cli.results.rows import csv_header, to_csv

    def put(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    put(csv_header(run.top_k))
    return lambda rows: put(to_csv(rows, run.top_k))


def _line_writer(run: "Run") -> "Write":
    """Rows as lines for people."""
    from inception_cli import display

    console = display.output()

    def write(rows: "Sequence[Prediction]") -> None:
        for row in rows:
            console.print(display.row_line(row))

    return write


def _nothing(run: "Run") -> "Write":
    """No rows: with --json alone the manifest is what is printed."""
    return lambda rows: None


def main() -> None:
    """The command `inception`: whatever goes wrong is one line and an exit code; `--debug` shows the traceback."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(standalone_mode=False) or ExitCode.OK
        sys.stdout.flush()
    except BrokenPipeError:
        code = _closed_pipe()
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        code = _explain(error)
    if code == ExitCode.INTERRUPTED:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
    sys.exit(code)


def _explain(error: Exception) -> int:
    """Say in one line what happened; the exit code."""
    from inception_cli import display

    match error:
        case InceptionError():
            display.complain(str(error))
            return error.exit_code
        case typer.TyperException():  # Typer's own: a wrong option, a missing argument
            if message := error.format_message():
                display.complain(f"{message} (--help shows how)")
            return error.exit_code
        case _:
            display.complain(f"{type(error).__name__}: {error} (unforeseen: --debug shows where; please report it)")
            return ExitCode.ERROR


def _closed_pipe() -> int:
    """`| head` has seen enough: end quietly."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at its end
    return ExitCode.OK


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
