"""The command line: parse, wire, print. Whatever is heavy is imported by the command that runs it."""

import json as jsonlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inception_cli import __version__
from inception_cli import options as o
from inception_cli.errors import ExitCode, UsageError
from inception_cli.stores import nearby, page_beside
from inception_cli.target import Target

if TYPE_CHECKING:
    from inception_cli.evaluation import Evaluation, Question
    from inception_cli.session import Outcome
    from inception_cli.settings import Settings

HELP = """Classify folders of photos with Inception V3, and measure how well.

\b
inception classify photo.jpg                    what is on it?
inception classify ./photos --out preds.csv     a row for every photo
inception report preds.csv --out preds.html     the same, for a browser
inception classify ./photos --weights demo      ten groceries; no download

Each command tells its options and more examples with --help.
"""

app = typer.Typer(
    name="inception",
    help=HELP,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


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
    context: typer.Context,
    inputs: o.Inputs,
    out: o.Out = "",
    weights: o.WeightsNames = ["torchvision"],  # noqa: B006 - Typer copies it
    preset: o.PresetName = "",
    classes: o.ClassesFile = "",
    top_k: o.TopK = 5,
    crops: o.Crops = 1,
    batch_size: o.BatchSize = "auto",  # type: ignore[assignment]  # number_or_auto makes it a number
    workers: o.Workers = "auto",  # type: ignore[assignment]
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    decode: o.Decode = "fast",
    exif: o.Exif = True,
    compile: o.Compile = "auto",
    timeout: o.Timeout = 60,
    max_pixels: o.MaxPixels = 0,
    engine: o.Engine = "local",
    ray_address: o.RayAddress = "",
    actors: o.Actors = 0,
    restart: o.Restart = False,
    force: o.Force = False,
    allow_failures: o.AllowFailures = False,
    report: o.ReportFile = "",
    offline: o.Offline = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    debug: o.Debug = False,
) -> None:
    """Classify photos: one row for each, always.

    \b
    inception classify photo.jpg
    inception classify ./photos --out preds.csv
    inception classify ./photos --weights demo --out preds.csv --report report.html

    Stopped? The same command goes on where it was.
    """
    from inception_cli import display

    voice = Voice(json, quiet, verbose)
    if report and out in ("", "-"):
        raise UsageError("--report is made from a file of rows: give --out FILE as well")
    outcome = _classify(inputs, _settings(context.params), Target.of(context.params), voice)
    if outcome.interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)
    if report:
        with nearby(out) as rows:
            _report(report, rows, outcome.manifest, None, voice)
    elif out not in ("", "-") and not quiet:
        display.try_report(out)
    if outcome.tally.failed and not allow_failures:
        raise typer.Exit(ExitCode.SOME_FAILED)


@app.command()
def evaluate(
    context: typer.Context,
    val_dir: o.ValDir = "",
    predictions: o.Predictions = "",
    labels: o.LabelFiles = [],  # noqa: B006
    label_form: o.LabelForm = "",
    exclude: o.Exclude = "",
    only_classes: o.OnlyClasses = "",
    per_class: o.PerClass = "",
    against: o.Against = "",
    expect_top1: o.ExpectTop1 = None,
    tolerance: o.Tolerance = 0.0,
    out: o.RowsOut = "",
    weights: o.WeightsNames = ["torchvision"],  # noqa: B006
    preset: o.PresetName = "",
    classes: o.ClassesFile = "",
    top_k: o.TopK = 5,
    crops: o.Crops = 1,
    batch_size: o.BatchSize = "auto",  # type: ignore[assignment]
    workers: o.Workers = "auto",  # type: ignore[assignment]
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    decode: o.Decode = "exact",
    exif: o.ExifOrPreset = None,
    compile: o.Compile = "auto",
    timeout: o.Timeout = 60,
    max_pixels: o.MaxPixels = 0,
    engine: o.Engine = "local",
    ray_address: o.RayAddress = "",
    actors: o.Actors = 0,
    restart: o.Restart = False,
    force: o.Force = False,
    allow_failures: o.AllowFailures = False,
    report: o.ReportFile = "",
    offline: o.Offline = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    debug: o.Debug = False,
) -> None:
    """Measure top-1 and top-5 against labels, beside the published figures.

    \b
    inception evaluate --val-dir ./photos-by-class --weights mine.safetensors
    inception evaluate --val-dir imagenet/val --weights mmpretrain --out rows.csv
    inception evaluate --predictions rows.csv --labels answers.csv
    """
    if not (val_dir or predictions):
        raise UsageError("name --val-dir DIR with photos by class, or --predictions FILE with rows that exist")
    target, voice = Target.of(context.params), Voice(json, quiet, verbose)
    if predictions:
        with nearby(predictions) as rows:
            found = _judge(rows, context.params, voice)
    else:
        found = _classify_and_judge(context.params, target, voice)
    if found.scores.failed and not allow_failures:
        raise typer.Exit(ExitCode.SOME_FAILED)


@app.command(name="report")
def report_command(
    rows: o.Rows,
    out: o.ReportOut = "",
    val_dir: o.ValDir = "",
    labels: o.LabelFiles = [],  # noqa: B006
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Make one HTML file of rows that exist, to look at: photos by class, failures; with a truth, mistakes.

    \b
    inception report preds.csv --out preds.html
    inception report preds.csv --out preds.html --val-dir ./photos-by-class
    """
    from inception_cli import evaluation

    if not out:
        raise UsageError(f"--out FILE is missing: give --out {page_beside(rows)}, say")
    with nearby(rows) as file:
        manifest = evaluation.read_manifest(file)
        judged = val_dir or labels or manifest.get("truth")
        question = evaluation.Question(val_dir=val_dir or None, labels=tuple(labels))
        found = evaluation.evaluate(file, manifest, question) if judged else None
        _report(out, file, manifest, found, Voice(json=False, quiet=quiet, verbose=False))


@app.command()
def train(
    context: typer.Context,
    folder: o.TrainDir,
    out: o.WeightsOut = "",
    start: o.From = "torchvision",
    val_dir: o.TrainValDir = "",
    size: o.Size = 0,
    epochs: o.Epochs = 30,
    seed: o.Seed = 0,
    batch_size: o.BatchSize = "auto",  # type: ignore[assignment]
    workers: o.Workers = "auto",  # type: ignore[assignment]
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    offline: o.Offline = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Learn classes of your own from one folder a class.

    \b
    inception train ./my-photos --out mine.safetensors
    inception classify ./photos --weights mine.safetensors --out preds.csv
    """
    if not out:
        raise UsageError("--out FILE is missing: give --out mine.safetensors, say, for the new weights")
    _train(context.params, Voice(json, quiet, verbose=False))


@app.command()
def info(
    weights: o.WeightsNames = [],  # noqa: B006 - Typer copies it
    preset: o.PresetName = "",
    classes: o.ClassesFile = "",
    device: o.Device = "auto",
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Show the network, the weights that can be had, and this machine.

    \b
    inception info
    inception info --weights mine.safetensors
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


def _settings(words: Mapping[str, Any]) -> "Settings":
    """The words of a command that a run is made of."""
    from inception_cli.settings import Settings

    asked = {field.name: words[field.name] for field in fields(Settings) if field.name in words}
    for name in ("preset", "classes", "max_pixels", "only_classes"):
        asked[name] = asked.get(name) or None
    asked |= {name: o.or_auto(words[name]) for name in ("batch_size", "workers")}
    return Settings(**asked | {"weights": tuple(words["weights"])})


def _classify(inputs: list[str], settings: "Settings", target: Target, voice: Voice) -> "Outcome":
    from inception_cli import display, session, stdout

    out = target.out
    if voice.json and out == "-":
        raise UsageError("--json and --out - both want standard output: name a file")
    with display.Bar("classify", voice.quiet) as bar:
        if target.streams:
            outcome = session.to_stream(inputs, settings, stdout.writer(inputs, out, voice.json), bar)
        else:
            outcome = target.write(inputs, settings, bar)
    if not voice.quiet:
        display.notes(outcome, voice.verbose)
        if voice.json or out or voice.verbose or not stdout.one_photo(inputs):
            display.outcome(outcome, out)
    if voice.json:
        print(jsonlib.dumps(outcome.manifest))
    return outcome


def _question(words: Mapping[str, Any]) -> "Question":
    from inception_cli.evaluation import Question

    asked = {name: words[name] or None for name in ("val_dir", "label_form", "exclude", "against")}
    return Question(
        **asked, labels=tuple(words["labels"]), expect_top1=words["expect_top1"], tolerance=words["tolerance"]
    )


def _classify_and_judge(words: Mapping[str, Any], target: Target, voice: Voice) -> "Evaluation":
    """Rows by a run of their own, kept where `--out` says; then judged."""
    from inception_cli import display

    question, settings = _question(words), _settings(words)
    truth = question.recorded()
    with tempfile.TemporaryDirectory() as folder, display.Bar("evaluate", voice.quiet) as bar:
        target = target if target.out else replace(target, out=str(Path(folder, "" if target.cluster else "rows.csv")))
        found = target.write([words["val_dir"]], settings, bar, truth)
        if not voice.quiet:
            display.notes(found, voice.verbose)
            display.outcome(found, words["out"])
        if found.interrupted:
            raise typer.Exit(ExitCode.INTERRUPTED)
        with nearby(target.out) as rows:
            return _judged(rows, found.manifest, words, voice)


def _judge(rows: Path, words: Mapping[str, Any], voice: Voice) -> "Evaluation":
    """Rows that exist, judged without torch."""
    from inception_cli import evaluation
    from inception_cli.results.labels import only_classes

    manifest = evaluation.read_manifest(rows)
    if words["only_classes"]:
        evaluation.require_same_mask(manifest, only_classes(words["only_classes"], evaluation.classes_of(manifest)))
    return _judged(rows, manifest, words, voice)


def _judged(rows: Path, manifest: Mapping[str, Any], words: Mapping[str, Any], voice: Voice) -> "Evaluation":
    from inception_cli import display, evaluation

    question = _question(words)
    found = evaluation.evaluate(rows, manifest, question)
    if words["report"]:
        _report(words["report"], rows, manifest, found, voice)
    if words["per_class"]:
        evaluation.write_per_class(Path(words["per_class"]), found.scores)
    if voice.json:
        print(jsonlib.dumps(found.to_json()))
    else:
        display.evaluation(found, voice.verbose)
    found.check(question)
    return found


def _report(name: str, rows: Path, manifest: Mapping[str, Any], found: "Evaluation | None", voice: Voice) -> None:
    from inception_cli import display, reporting

    written = reporting.write_report(Path(name), rows, manifest, found)
    if not voice.quiet:
        display.report(written, name)


def _train(words: Mapping[str, Any], voice: Voice) -> None:
    from inception_cli import display
    from inception_cli.settings import resolve_training
    from inception_cli.train import Training

    with display.Epochs(voice.quiet) as shown:
        asked: dict[str, Any] = {name: words[name] or None for name in ("val_dir", "size")}
        asked |= {name: words[name] for name in ("start", "epochs", "seed", "device", "precision", "offline")}
        asked |= {name: o.or_auto(words[name]) for name in ("batch_size", "workers")}
        training = Training(resolve_training(words["folder"], words["out"], **asked, report=shown.fetching))
        display.unreadable(training.skipped, voice.quiet)
        for epoch in training.epochs():
            shown.epoch(epoch, training.settings.epochs)
        trained = training.save()
    if not voice.quiet:
        display.trained(trained, str(training.settings.out))
    if voice.json:
        print(jsonlib.dumps(trained))
