"""Connect inference, evaluation and report for the commands: where predictions go, what is printed and written."""

import json as jsonlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from inception_cli.cli.outputs import (
    CONFUSION_MARKER,
    LABELLED_ROWS_MARKER,
    PER_CLASS_MARKER,
    REPORT_MARKER,
    OutputFile,
    check_outputs,
)
from inception_cli.cli.usage import require_predictions
from inception_cli.config import NO_THRESHOLDS, Settings, Thresholds
from inception_cli.errors import ExitCode, UsageError
from inception_cli.files.remote import is_remote, local_copy, page_beside
from inception_cli.files.streams import ClosedPipe
from inception_cli.predictions.text import harmless
from inception_cli.storage.label_sources import LabelSources

if TYPE_CHECKING:
    from rich.console import Console

    from inception_cli.actions.sort_plan import Method
    from inception_cli.config import Classes
    from inception_cli.evaluation.evaluate import Evaluation, EvaluationSettings
    from inception_cli.inference.runner import Outcome
    from inception_cli.predictions.prediction import Prediction
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
    confusion: str | None = None
    rows_with_labels: str | None = None

    def check(self, out: str | None, inputs: Iterable[str | None], force: bool) -> None:
        """Check the output files of an evaluation; see check_outputs."""
        outputs = [
            OutputFile("--out", out),
            OutputFile("--report", self.report, REPORT_MARKER),
            OutputFile("--per-class", self.per_class, PER_CLASS_MARKER),
            OutputFile("--confusion", self.confusion, CONFUSION_MARKER),
            OutputFile("--rows-with-labels", self.rows_with_labels, LABELLED_ROWS_MARKER),
        ]
        check_outputs(outputs, inputs, force)


def _open_store(
    out: str, settings: Settings, restart: bool, force: bool, arrays: Mapping[str, str] | None = None
) -> "RunStore":
    """Return the store for a file and arrays (by name), or with Ray for a folder."""
    if settings.engine == "ray":
        if out == "-" or Path(out).suffix.lower() in (".csv", ".jsonl", ".parquet"):
            raise UsageError(f"--out {out}: --engine ray writes a folder of Parquet files: give the name of a folder")
        from inception_cli.storage.folder_store import FolderStore

        return FolderStore.open(out, restart=restart, force=force)
    from inception_cli.storage.file_store import FileStore

    files = {name: Path(file) for name, file in (arrays or {}).items()}
    return FileStore.open(Path(out), restart=restart, force=force, arrays=files)


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
    inputs: list[str],
    out: str | None,
    arrays: Mapping[str, str],
    settings: Settings,
    restart: bool,
    force: bool,
    output: Output,
    check: "Callable[[Sequence[str], Classes], None] | None" = None,
) -> "Outcome":
    """Run a job and print its summary; `arrays` are the files of arrays by name, `check` is that of `run_job`."""
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
            store = _open_store(out, settings, restart, force, arrays)
        with store:
            _require_input(inputs, store)
            bar.loading(settings.weights)
            from inception_cli.inference.runner import run_job

            outcome = run_job(inputs, settings, store, bar, check=check)
    if output.quiet:
        console.print_unreadable_folders(outcome.manifest)
    else:
        console.print_notes(outcome, output.verbose)
        if output.json or out or output.verbose or not console.is_single_photo(inputs):
            console.print_outcome(outcome, None if streams else out, settings.engine, arrays.values())
    if output.json:
        predictions = store.to_json() if isinstance(store, JsonStream) else {}
        print(jsonlib.dumps(outcome.manifest.to_json() | predictions))
    return outcome


def report_classified(manifest: "Manifest", out: str | None, report: str | None, quiet: bool) -> None:
    """Write the report of a run, or print the command that does."""
    from inception_cli.cli import console

    if report and out:
        with local_copy(out) as rows:
            write_report(report, rows, manifest, None, quiet)
    elif out and out != "-" and not quiet:
        console.print_report_hint(out, page_beside(out))


def evaluation_settings(*arguments: Any) -> "EvaluationSettings":
    """Return the settings of an evaluation; its module, which takes time to import, is imported here."""
    from inception_cli.evaluation.evaluate import EvaluationSettings

    return EvaluationSettings(*arguments)


def evaluate(
    predictions: str | None,
    evaluation_settings: "EvaluationSettings",
    settings: Settings,
    out: str | None,
    restart: bool,
    force: bool,
    output: Output,
) -> "Evaluation":
    """Score existing predictions, or classify a folder of labelled images and score these predictions."""
    if predictions:
        return evaluate_predictions(predictions, settings.only_classes, evaluation_settings, output)
    return evaluate_folder(evaluation_settings, settings, out, restart, force, output)


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
        if output.quiet:
            console.print_unreadable_folders(outcome.manifest)
        else:
            console.print_notes(outcome, output.verbose)
            console.print_outcome(outcome, out, settings.engine)
        if outcome.interrupted:
            raise typer.Exit(ExitCode.INTERRUPTED)
        with local_copy(rows) as file:
            return _evaluate(file, outcome.manifest, evaluation_settings, output)


def _require_one_source(sources: LabelSources) -> None:
    """Raise UsageError for two sources of the labels of saved rows, of which one would have no effect."""
    if sources.val_dir and sources.labels:
        raise UsageError("--val-dir has no effect beside --labels, which gives the labels of saved rows; leave one out")


def evaluate_predictions(
    predictions: str, only_classes: str | None, settings: "EvaluationSettings", output: Output
) -> "Evaluation":
    """Score existing predictions, without torch."""
    from inception_cli.evaluation.evaluate import require_same_only_classes
    from inception_cli.storage.store import read_manifest

    _require_one_source(settings.sources)
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
    from inception_cli.evaluation.confusion_matrix import write_confusion_matrix
    from inception_cli.evaluation.evaluate import evaluate, write_per_class
    from inception_cli.evaluation.labelled_rows import write_labelled_rows

    with ProgressBar("evaluate", output.quiet) as bar:
        bar.working("scoring the predictions")
        evaluation = evaluate(rows, manifest, settings)
    if output.report:
        write_report(output.report, rows, manifest, evaluation, output.quiet, settings.thresholds)
    if output.per_class:
        write_per_class(Path(output.per_class), evaluation.metrics)
    if output.confusion:
        write_confusion_matrix(Path(output.confusion), evaluation.results[0].confusion_matrix)
    if output.rows_with_labels:
        write_labelled_rows(Path(output.rows_with_labels), rows, evaluation.results[0].labels)
    with suppress(ClosedPipe):  # such as `| head`: the exit code still says whether the metrics are as expected
        if output.json:
            print(jsonlib.dumps(evaluation.to_json()))
        else:
            tables.print_evaluation(evaluation, output.verbose)
        sys.stdout.flush()
    evaluation.check(settings)
    return evaluation


def report(
    rows: str, out: str, sources: LabelSources, thresholds: Thresholds, quiet: bool, explain: bool = False
) -> None:
    """Write the report of existing predictions; with labels, from `sources` or the manifest, they are scored."""
    from inception_cli.storage.store import read_manifest

    _require_one_source(sources)
    with local_copy(rows) as file:
        manifest = read_manifest(file)
        evaluation = None
        if sources or (manifest and manifest.labels):
            from inception_cli.evaluation.evaluate import EvaluationSettings, evaluate

            evaluation = evaluate(file, manifest, EvaluationSettings(sources, thresholds=thresholds))
        write_report(out, file, manifest, evaluation, quiet, thresholds, explain)


def write_report(
    file: str,
    rows: Path,
    manifest: "Manifest | None",
    evaluation: "Evaluation | None",
    quiet: bool,
    thresholds: Thresholds = NO_THRESHOLDS,
    explain: bool = False,
) -> None:
    from inception_cli.cli import console, heat_maps
    from inception_cli.cli.progress import ProgressBar
    from inception_cli.images.thumbnail import thumbnail
    from inception_cli.report import build

    with ProgressBar("heat maps" if explain else "report", quiet) as bar:
        maps = heat_maps.explain_rows(rows.name, manifest, bar) if explain else None
        pictures = partial(thumbnail, exif=not (explain and manifest) or manifest.run.pixels.exif)
        bar.working(f"writing {harmless(Path(file).name)}")
        written = build.write_report(Path(file), rows, manifest, evaluation, pictures, thresholds, maps)
    if not quiet:
        console.print_report(written, file, manifest.directory if manifest else "")


def _folder_of_paths(manifest: "Manifest | None") -> Path:
    """Return the folder to which the relative paths of predictions belong: this one if the run has left no manifest."""
    return Path((manifest and manifest.directory) or Path.cwd())


def sort(predictions: str, into: str, method: "Method", thresholds: Thresholds, dry_run: bool, quiet: bool) -> bool:
    """Sort photos into a folder per class; return whether a photo could not be sorted."""
    from inception_cli.actions import sort as actions
    from inception_cli.cli import console
    from inception_cli.cli.progress import ProgressBar
    from inception_cli.storage.store import classes_of, read_manifest

    if is_remote(into):
        raise UsageError(f"--into {into}: give a folder on this machine")
    with local_copy(predictions) as file:
        manifest = read_manifest(file)
        directory = _folder_of_paths(manifest)
        classes = classes_of(manifest)
        if dry_run:
            result = actions.dry_run(file, Path(into), method, directory, thresholds, classes)
            console.print_sort_plan(result)
            return result.incomplete
        with ProgressBar("sort", quiet) as bar:
            name = predictions if is_remote(predictions) else str(Path(predictions).absolute())
            result = actions.sort(file, name, Path(into), method, directory, bar.files, thresholds, classes)
    if not quiet:
        console.print_sorted(result, into)
    console.print_left(result.left_files, result.left)
    return result.incomplete


def undo_sort(into: str, quiet: bool) -> bool:
    """Put back what a sort has done; return whether a file stays."""
    from inception_cli.actions import sort as actions
    from inception_cli.cli import console
    from inception_cli.cli.progress import ProgressBar

    with ProgressBar("undo", quiet) as bar:
        result = actions.undo(Path(into), bar.files)
    if not quiet:
        console.print_undone(result, into)
    console.print_left(result.left_files, result.left)
    console.print_gone(result)
    return result.left > 0 or result.gone > 0


def _names_above(manifest: "Manifest | None") -> "Callable[[Prediction], Sequence[str]]":
    """Return the function for the names above a decision; without a manifest only those of ImageNet's classes."""
    from inception_cli.predictions.classes import imagenet
    from inception_cli.predictions.tree import tree_of
    from inception_cli.storage.store import classes_of

    tree, names = tree_of(classes_of(manifest)), imagenet().names

    def names_above(prediction: "Prediction") -> Sequence[str]:
        classes = zip(prediction.classes, prediction.labels, strict=True)
        known = manifest is not None or all(names[index : index + 1] == (label,) for index, label in classes)
        return tree.names_above(prediction.decision.label) if tree and prediction.decision and known else ()

    return names_above


def tag(predictions: str, thresholds: Thresholds, undo: bool, quiet: bool) -> bool:
    """Write labels into sidecars, or remove them; return whether a photo could not be tagged."""
    from inception_cli.actions import tag as actions
    from inception_cli.cli import console
    from inception_cli.cli.progress import ProgressBar
    from inception_cli.predictions.retune import read_decided
    from inception_cli.storage.store import classes_of, read_manifest

    with local_copy(predictions) as file, ProgressBar("tag", quiet) as bar:
        manifest = read_manifest(file)
        directory = _folder_of_paths(manifest)
        total = manifest.n if manifest else 0
        result = actions.tag(
            read_decided(file, thresholds, classes_of(manifest)),
            directory,
            undo,
            _names_above(manifest),
            lambda done: bar.files(done, max(done, total)),
        )
    if not quiet:
        console.print_tagged(result, predictions, undo)
    console.print_untagged(result)
    return result.left > 0
