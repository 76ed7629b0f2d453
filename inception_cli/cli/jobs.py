"""Connect inference, evaluation and report for the commands: where predictions go, what is printed and written."""

import json as jsonlib
import posixpath
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from inception_cli.cli.outputs import PER_CLASS_MARKER, REPORT_MARKER, OutputFile, check_outputs
from inception_cli.cli.usage import require_predictions
from inception_cli.config import NO_THRESHOLDS, Settings, Thresholds
from inception_cli.errors import ExitCode, UsageError
from inception_cli.files.remote import is_remote, local_copy
from inception_cli.files.streams import ClosedPipe
from inception_cli.predictions.text import harmless

if TYPE_CHECKING:
    from rich.console import Console

    from inception_cli.evaluation.evaluate import Evaluation, EvaluationSettings
    from inception_cli.inference.runner import Outcome
    from inception_cli.storage.store import Manifest, RunStore

#: Inputs of which `classify --json` prints the predictions, where they are written to no file.
MAX_JSON_INPUTS = 1000


@dataclass(frozen=True)
class Output:
    """How much is printed, in which form, and the extra files of an evaluation."""

    json: bool
    quiet: bool
    verbose: bool = False
    per_class: str | None = None
    report: str | None = None

    def check(self, out: str | None, inputs: Iterable[str | None], force: bool) -> None:
        """Check the output files of an evaluation; see check_outputs."""
        outputs = [
            OutputFile("--out", out),
            OutputFile("--report", self.report, REPORT_MARKER),
            OutputFile("--per-class", self.per_class, PER_CLASS_MARKER),
        ]
        check_outputs(outputs, inputs, force)


def report_path(rows: str) -> str:
    """Return the suggested file for a report: beside the predictions, or here for those in an object store."""
    return str(Path(posixpath.basename(rows.rstrip("/")) if is_remote(rows) else rows).with_suffix(".html"))


def _open_store(out: str, settings: Settings, restart: bool, force: bool) -> "RunStore":
    """Return the store for a file, or with Ray for a folder."""
    if settings.engine == "ray":
        if out == "-" or Path(out).suffix.lower() in (".csv", ".jsonl", ".parquet"):
            raise UsageError(f"--out {out}: --engine ray writes a folder of Parquet files: give the name of a folder")
        from inception_cli.storage.folder_store import FolderStore

        return FolderStore.open(out, restart=restart, force=force)
    from inception_cli.storage.file_store import FileStore

    return FileStore.open(Path(out), restart=restart, force=force)


def _stream_store(
    inputs: list[str], out: str | None, settings: Settings, json: bool, terminal: "Console"
) -> "RunStore":
    """Return the store that prints predictions: as CSV, JSON or lines, or as bars for a single photo in a terminal."""
    from inception_cli.cli import console
    from inception_cli.storage.stream_store import CsvStream, JsonStream, StreamStore

    if settings.engine == "ray":
        raise UsageError("--engine ray writes a folder: give --out FOLDER")
    if out == "-":
        return CsvStream()
    if json:
        return JsonStream(MAX_JSON_INPUTS)
    show = console.print_bars if console.is_single_photo(inputs) else console.print_predictions
    return StreamStore(lambda predictions: show(predictions, terminal))


def _require_input(inputs: list[str], store: "RunStore") -> None:
    """Raise InceptionError if no input of a new run exists: before torch is imported, which takes seconds."""
    from inception_cli.images.discovery import Discovery

    if store.manifest is None and not any(map(is_remote, inputs)):
        Discovery(inputs).require_input()


def classify(
    inputs: list[str], out: str | None, settings: Settings, restart: bool, force: bool, output: Output
) -> "Outcome":
    """Run a job and print its summary."""
    from inception_cli.cli import console
    from inception_cli.cli.progress import ProgressBar
    from inception_cli.storage.stream_store import JsonStream

    if output.json and out == "-":
        raise UsageError("--json and --out - both write to standard output: give a file name")
    streams = out in (None, "-")
    with ProgressBar("classify", output.quiet or (out == "-" and sys.stdout.isatty())) as bar:
        if out is None or out == "-":
            store = _stream_store(inputs, out, settings, output.json, bar.data)
        else:
            store = _open_store(out, settings, restart, force)
        with store:
            _require_input(inputs, store)
            bar.loading(settings.weights)
            from inception_cli.inference.runner import run_job

            outcome = run_job(inputs, settings, store, bar)
    if not output.quiet:
        console.print_notes(outcome, output.verbose)
        if output.json or out or output.verbose or not console.is_single_photo(inputs):
            console.print_outcome(outcome, None if streams else out, settings.engine)
    if output.json:
        predictions = store.to_json() if isinstance(store, JsonStream) else {}
        print(jsonlib.dumps(outcome.manifest.to_json() | predictions))
    return outcome


def evaluation_settings(*arguments: Any) -> "EvaluationSettings":
    """Return the settings of an evaluation; its module, which takes time to import, is imported here."""
    from inception_cli.evaluation.evaluate import EvaluationSettings

    return EvaluationSettings(*arguments)


def evaluate_folder(
    evaluation_settings: "EvaluationSettings",
    settings: Settings,
    out: str | None,
    restart: bool,
    force: bool,
    output: Output,
) -> "Evaluation":
    """Classify a folder of labelled images and score the predictions, which are kept if there is an `out`."""
    from inception_cli.cli import console
    from inception_cli.cli.progress import ProgressBar
    from inception_cli.evaluation.evaluate import check_before_run, record_sources

    val_dir = evaluation_settings.sources.val_dir
    if val_dir is None:
        raise UsageError("give --val-dir DIR with images in one folder per class, or --predictions FILE to score")
    sources = record_sources(evaluation_settings.sources)
    with tempfile.TemporaryDirectory() as folder:
        rows = out or str(Path(folder, "rows" if settings.engine == "ray" else "rows.csv"))
        with ProgressBar("evaluate", output.quiet) as bar, _open_store(rows, settings, restart, force) as store:
            _require_input([val_dir], store)
            bar.loading(settings.weights)
            from inception_cli.inference.runner import run_job

            check = partial(check_before_run, sources=sources, against=evaluation_settings.against)
            outcome = run_job([val_dir], settings, store, bar, sources, check)
        if not output.quiet:
            console.print_notes(outcome, output.verbose)
            console.print_outcome(outcome, out, settings.engine)
        if outcome.interrupted:
            raise typer.Exit(ExitCode.INTERRUPTED)
        with local_copy(rows) as file:
            return _evaluate(file, outcome.manifest, evaluation_settings, output)


def evaluate_predictions(
    predictions: str, only_classes: str | None, settings: "EvaluationSettings", output: Output
) -> "Evaluation":
    """Score existing predictions, without torch."""
    from inception_cli.evaluation.evaluate import require_same_only_classes
    from inception_cli.storage.store import read_manifest

    require_predictions(predictions)
    with local_copy(predictions) as file:
        manifest = read_manifest(file)
        if only_classes:
            require_same_only_classes(manifest, only_classes)
        return _evaluate(file, manifest, settings, output)


def _evaluate(rows: Path, manifest: "Manifest | None", settings: "EvaluationSettings", output: Output) -> "Evaluation":
    """Score a file of predictions, print the metrics and write the files that were requested."""
    from inception_cli.cli import tables
    from inception_cli.cli.progress import ProgressBar
    from inception_cli.evaluation.evaluate import evaluate, write_per_class

    with ProgressBar("evaluate", output.quiet) as bar:
        bar.working("scoring the predictions")
        evaluation = evaluate(rows, manifest, settings)
    if output.report:
        write_report(output.report, rows, manifest, evaluation, output.quiet, settings.thresholds)
    if output.per_class:
        write_per_class(Path(output.per_class), evaluation.metrics)
    with suppress(ClosedPipe):  # such as `| head`: the exit code still says whether the metrics are as expected
        if output.json:
            print(jsonlib.dumps(evaluation.to_json()))
        else:
            tables.print_evaluation(evaluation, output.verbose)
        sys.stdout.flush()
    evaluation.check(settings)
    return evaluation


def write_report(
    file: str,
    rows: Path,
    manifest: "Manifest | None",
    evaluation: "Evaluation | None",
    quiet: bool,
    thresholds: Thresholds = NO_THRESHOLDS,
) -> None:
    from inception_cli.cli import console
    from inception_cli.cli.progress import ProgressBar
    from inception_cli.images.thumbnail import thumbnail
    from inception_cli.report import build

    with ProgressBar("report", quiet) as bar:
        bar.working(f"writing {harmless(Path(file).name)}")
        written = build.write_report(Path(file), rows, manifest, evaluation, thumbnail, thresholds)
    if not quiet:
        console.print_report(written, file, manifest.directory if manifest else "")
