"""The commands: build the settings, call, print. Heavy modules are imported by the command that needs them."""

import json as jsonlib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from inception_cli import __version__
from inception_cli.cli import evaluation_options as e
from inception_cli.cli import heat_maps, jobs
from inception_cli.cli import options as o
from inception_cli.cli.export import export
from inception_cli.cli.outputs import REPORT_MARKER, OutputFile, check_outputs, outputs_of_classify
from inception_cli.cli.usage import Command, Group, check_predictions, require_predictions
from inception_cli.config import ArrayName, Settings, Thresholds
from inception_cli.errors import ExitCode, UsageError
from inception_cli.files.remote import page_beside
from inception_cli.predictions.text import shell_path
from inception_cli.storage.label_sources import LabelSources
from inception_cli.training.settings import TrainSettings

HELP = """Classify folders of photos with Inception V3, and measure the accuracy.

\b
inception classify photo.jpg                 predict the class of one photo
inception classify ./photos --out preds.csv  write a row for every photo
inception report preds.csv --out preds.html  view the predictions in a browser
inception sort preds.csv --into ./sorted     copy photos into class folders
inception tag preds.csv                      write keywords into XMP files
inception classify ./photos --weights demo   ten grocery classes, no download

Run a command with --help for its options and more examples.
"""

app = typer.Typer(
    name="inception",
    cls=Group,
    help=HELP,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"inception {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command(cls=Command)
def classify(
    context: typer.Context,
    inputs: o.Inputs,
    out: o.Out = None,
    weights: o.WeightsNames = ["torchvision"],  # noqa: B006 - Typer copies it
    preset: o.Preset = None,
    classes: o.ClassesFile = None,
    top_k: o.TopK = 5,
    only_classes: o.OnlyClasses = None,
    min_score: o.MinScore = None,
    rollup: o.Rollup = None,
    familiar: o.Familiar = None,
    features: o.Features = None,
    scores: o.Scores = None,
    array_type: o.TypeOfArrays = "float32",
    crops: o.NumberOfCrops = 1,
    batch_size: o.BatchSize = "auto",
    workers: o.Workers = "auto",
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    decode: o.DecodeMethod = "fast",
    exif: o.Exif = True,
    compile: o.Compile = "auto",
    timeout: o.Timeout = 60,
    max_pixels: o.MaxPixels = "auto",
    engine: o.EngineName = "local",
    ray_address: o.RayAddress = None,
    actors: o.Actors = "auto",
    restart: o.Restart = False,
    force: o.Force = False,
    allow_failures: o.AllowFailures = False,
    report: o.ReportFile = None,
    explain: heat_maps.ExplainFile = None,
    explain_class: heat_maps.ExplainClass = None,
    offline: o.Offline = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    debug: o.Debug = False,
) -> None:
    """Classify photos, with one row for every input.

    \b
    inception classify photo.jpg
    inception classify ./photos --out preds.csv
    inception classify ./photos --out preds.csv --report preds.html

    The same command resumes an interrupted run.
    """
    arrays, output, map_of = _arrays(context), jobs.Output(json, quiet, verbose), heat_maps.photo_request(context)
    check_outputs(outputs_of_classify(out, report, arrays, explain), [*inputs, *weights, classes, only_classes], force)
    outcome = jobs.classify(
        inputs, out, arrays, _settings(context), restart, force, output, map_of.check if map_of else None
    )
    if outcome.interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)
    jobs.report_classified(outcome.manifest, out, report, quiet)
    if map_of:
        map_of.write(outcome.manifest.run, quiet)
    _end(outcome.incomplete and not allow_failures)


@app.command(cls=Command)
def evaluate(
    context: typer.Context,
    val_dir: e.ValDir = None,
    predictions: e.Predictions = None,
    labels: e.LabelFiles = [],  # noqa: B006
    label_format: e.LabelFormatName = None,
    exclude: e.Exclude = None,
    per_class: e.PerClass = None,
    confusion: e.ConfusionFile = None,
    rows_with_labels: e.RowsWithLabels = None,
    against: e.Against = None,
    expect_top1: e.ExpectTop1 = None,
    tolerance: e.Tolerance = 0.0,
    out: o.RowsOut = None,
    weights: o.WeightsNames = ["torchvision"],  # noqa: B006
    preset: o.Preset = None,
    classes: o.ClassesFile = None,
    top_k: o.TopK = 5,
    only_classes: o.OnlyClasses = None,
    min_score: o.MinScore = None,
    rollup: o.Rollup = None,
    familiar: o.Familiar = None,
    crops: o.NumberOfCrops = 1,
    batch_size: o.BatchSize = "auto",
    workers: o.Workers = "auto",
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    decode: o.DecodeMethod = "exact",
    exif: o.ExifOrPreset = None,
    compile: o.Compile = "auto",
    timeout: o.Timeout = 60,
    max_pixels: o.MaxPixels = "auto",
    engine: o.EngineName = "local",
    ray_address: o.RayAddress = None,
    actors: o.Actors = "auto",
    restart: o.Restart = False,
    force: o.Force = False,
    allow_failures: o.AllowFailures = False,
    report: o.ReportFile = None,
    offline: o.Offline = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: e.Verbose = False,
    debug: o.Debug = False,
) -> None:
    """Measure top-1 and top-5 accuracy against labels, beside the published figures.

    \b
    inception evaluate --val-dir imagenet/val --weights mmpretrain --out rows.csv
    inception evaluate --predictions rows.csv --labels labels.csv
    """
    sources, thresholds = LabelSources(val_dir, tuple(labels), label_format, exclude), Thresholds(min_score, rollup)
    settings = jobs.evaluation_settings(sources, against, expect_top1, tolerance, thresholds)
    output = jobs.Output(json, quiet, verbose, per_class, report, confusion, rows_with_labels)
    output.check(out, [predictions, *labels, exclude, against, *weights, classes, only_classes], force)
    check_predictions(context, predictions, against)
    evaluation = jobs.evaluate(predictions, settings, _settings(context), out, restart, force, output)
    _end(evaluation.incomplete and not allow_failures)


@app.command(name="report", cls=Command)
def report_command(
    rows: o.Rows,
    out: o.ReportOut = None,
    val_dir: e.ValDir = None,
    labels: e.LabelFiles = [],  # noqa: B006
    min_score: o.MinScore = None,
    rollup: o.Rollup = None,
    explain: heat_maps.ExplainReport = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Write an HTML report of existing predictions: photos by class, failures and, with labels, the mistakes.

    \b
    inception report preds.csv --out preds.html
    inception report preds.csv --out preds.html --val-dir ./photos-by-class
    """
    if not out:
        require_predictions(rows)
        raise UsageError(f"--out FILE is missing: give --out {page_beside(rows)}, for example")
    check_outputs([OutputFile("--out", out, REPORT_MARKER)], [rows, *labels], force)
    require_predictions(rows)
    jobs.report(rows, out, LabelSources(val_dir, tuple(labels)), Thresholds(min_score, rollup), quiet, explain)


@app.command(cls=Command)
def sort(
    rows: o.SortedRows = None,
    into: o.Into = None,
    copy: o.Copy = False,
    link: o.Link = False,
    move: o.Move = False,
    min_score: o.MinScore = None,
    rollup: o.Rollup = None,
    dry_run: o.DryRun = False,
    undo: o.Undo = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Sort photos into a folder per predicted class: copy, link or move them.

    \b
    inception sort preds.csv --into ./sorted --dry-run
    inception sort preds.csv --into ./sorted
    inception sort --undo ./sorted

    The same command resumes an interrupted sort, or undo. Nothing is overwritten.
    Labels of --min-score and --rollup are folders, too; photos that are unknown go to the folder unknown.
    """
    thresholds = Thresholds(min_score, rollup)
    if undo and (rows or into or copy or link or move or dry_run or thresholds):
        raise UsageError(f"--undo takes no other argument: inception sort --undo {shell_path(undo)}")
    if copy + link + move > 1:
        raise UsageError("--copy, --link and --move exclude each other: give one of them")
    if undo:
        incomplete = jobs.undo_sort(undo, quiet)
    elif rows and into:
        require_predictions(rows)
        incomplete = jobs.sort(rows, into, "link" if link else "move" if move else "copy", thresholds, dry_run, quiet)
    else:
        raise UsageError(f"{'--into DIR' if rows else 'FILE'} is missing: inception sort preds.csv --into ./sorted")
    _end(incomplete)


@app.command(cls=Command)
def tag(
    rows: o.Rows,
    min_score: o.MinScore = None,
    rollup: o.Rollup = None,
    undo: o.UndoTags = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Write labels as keywords into XMP sidecars, which darktable and digiKam read.

    \b
    inception tag preds.csv
    inception tag --undo preds.csv

    The sidecar of photo.jpg is photo.jpg.xmp. An existing one is merged; photos are never changed.
    Labels of --min-score and --rollup get the nodes above them as parents; unknown is no keyword.
    """
    thresholds = Thresholds(min_score, rollup)
    if undo and thresholds:
        raise UsageError(f"--undo takes no threshold: inception tag --undo {shell_path(rows)}")
    require_predictions(rows)
    _end(jobs.tag(rows, thresholds, undo, quiet))


@app.command(cls=Command)
def train(
    context: typer.Context,
    train_dir: o.TrainDir,
    out: o.WeightsOut = None,
    start: o.From = "torchvision",
    val_dir: o.TrainValDir = None,
    size: o.Size = "auto",
    epochs: o.Epochs = 30,
    seed: o.Seed = 0,
    batch_size: o.TrainBatchSize = "auto",
    workers: o.Workers = "auto",
    device: o.Device = "auto",
    precision: o.TrainPrecision = "auto",
    report: o.TrainReport = None,
    log: o.TrainLog = None,
    offline: o.Offline = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Train a network on your own classes, from one folder of images per class.

    \b
    inception train ./my-photos --out mine.safetensors
    inception classify ./photos --weights mine.safetensors --out preds.csv

    The same command resumes an interrupted training, also with more --epochs.
    """
    from inception_cli.cli import training
    from inception_cli.training.dataset import find_classes

    if not out:
        raise UsageError("--out is missing: give --out mine.safetensors, or a folder: --out mine/")
    output = training.TrainOutput(report, log, json, quiet)
    output.check(out, [start, train_dir, val_dir])
    find_classes(Path(train_dir))  # an error is reported before torch is imported, which takes seconds
    _end(training.train(TrainSettings(**_values_of(TrainSettings, context)), output))


app.command(cls=Command)(export)


@app.command(cls=Command)
def info(
    weights: o.DescribedWeights = [],  # noqa: B006
    preset: o.Preset = None,
    classes: o.ClassesFile = None,
    crops: o.NumberOfCrops = 1,
    device: o.Device = "auto",
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Show the network, the available weights, and this machine.

    \b
    inception info
    inception info --weights mine.safetensors
    """
    from inception_cli.cli import tables
    from inception_cli.cli.progress import ProgressBar

    with ProgressBar("info", quiet=False) as bar:
        bar.loading(weights)
        from inception_cli.weights.describe import describe

        description = describe(weights, preset, classes, device, crops)
    if json:
        print(jsonlib.dumps(description))
    else:
        tables.print_info(description, trained=bool(weights))


def _values_of(record: type[Settings | TrainSettings], context: typer.Context) -> dict[str, Any]:
    """Return the options of a command that are fields of the record."""
    return {field.name: context.params[field.name] for field in fields(record) if field.name in context.params}


def _settings(context: typer.Context) -> Settings:
    """Return the settings of a run that the options of a command give."""
    values = _values_of(Settings, context)
    return Settings(**values | {"weights": tuple(values["weights"]), "arrays": tuple(_arrays(context))})


def _arrays(context: typer.Context) -> dict[str, str]:
    """Return the files of the arrays that the options of a command give, by name."""
    return {name: context.params[name] for name in get_args(ArrayName) if context.params.get(name)}


def _end(some_failed: bool) -> None:
    """End a command with the exit code that says whether everything could be read or done."""
    if some_failed:
        raise typer.Exit(ExitCode.SOME_FAILED)
