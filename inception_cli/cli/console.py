"""What the commands print: progress bars, tables, messages. Control characters in names are escaped here."""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.bar import Bar
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from inception_cli.predictions.text import harmless

if TYPE_CHECKING:
    from inception_cli.config import Engine
    from inception_cli.evaluation.compare import Comparison
    from inception_cli.evaluation.evaluate import Evaluation
    from inception_cli.evaluation.labels import Labels
    from inception_cli.images.decode import Failure
    from inception_cli.inference.runner import Outcome, RunProgress
    from inception_cli.predictions.prediction import Prediction
    from inception_cli.report.build import Written
    from inception_cli.training.train import EpochResult

#: Width in characters of the bar of a score of 100 %.
BAR_WIDTH = 30
#: Names that are listed before "…".
MAX_NAMES = 8


def stderr() -> Console:
    """Return the console for progress, summaries and problems."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def stdout() -> Console:
    """Return the console for data."""
    return Console(highlight=False, soft_wrap=True)


def print_line(line: str, style: str = "") -> None:
    """Print one line on standard error."""
    stderr().print(Text(harmless(line), style))


def print_error(message: str) -> None:
    """Print the one line of an error."""
    stderr().print(Text.assemble(("error: ", "bold red"), harmless(" ".join(message.split()))))


# ── Predictions ──────────────────────────────────────────────────────────────────────────────────────────────────────


def is_single_photo(inputs: Sequence[str]) -> bool:
    """Return whether a single file is classified in a terminal."""
    return len(inputs) == 1 and Path(inputs[0]).is_file() and stdout().is_terminal


def print_predictions(predictions: "Sequence[Prediction]") -> None:
    """Print a line for each prediction."""
    console = stdout()
    for prediction in predictions:
        console.print(prediction_line(prediction))


def print_bars(predictions: "Sequence[Prediction]") -> None:
    """Print the classes of each prediction with bars for their scores; of a failure the reason."""
    for prediction in predictions:
        if prediction.status != "ok":
            stdout().print(prediction_line(prediction))
            continue
        bars = Table.grid(padding=(0, 2))
        for place, (label, score) in enumerate(zip(prediction.labels, prediction.scores, strict=True)):
            colour = ("green" if score >= 0.5 else "yellow") if place == 0 else "bright_black"
            name = Text(harmless(label), "bold" if place == 0 else "")
            bars.add_row(Text(f"{score:7.1%}"), Bar(1, 0, score, width=BAR_WIDTH, color=colour), name)
        stdout().print(bars)


def prediction_line(prediction: "Prediction") -> Text:
    """Return a line with score, label and path, or with the status and the reason of a failure."""
    path = harmless(prediction.path)
    if prediction.status == "ok":
        score = Text(f"{prediction.scores[0]:7.1%}", "bold green" if prediction.scores[0] >= 0.5 else "yellow")
        return Text.assemble(score, f"  {harmless(prediction.labels[0]):<28}  {path}")
    return Text.assemble((f"{'–':>7}  {prediction.status:<28}", "red"), f"  {path}: {harmless(prediction.error)}")


class ProgressBar(AbstractContextManager["ProgressBar"]):
    """A progress bar on standard error, only in a terminal: bytes of a download, then images."""

    def __init__(self, description: str, quiet: bool) -> None:
        self.description = description
        self.console = stderr()
        self.hidden = quiet or not self.console.is_terminal
        self.progress: Progress | None = None
        self.task = TaskID(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress:
            self.progress.stop()

    def downloading(self, name: str, done: int, total: int) -> None:
        """Show the bytes of a download."""
        if self.hidden:
            return
        if self.progress is None:
            self._show([DownloadColumn(), TransferSpeedColumn()], f"downloading {name}")
        self._update(completed=done, total=total or None)

    def update(self, progress: "RunProgress") -> None:
        """Show the images of a run: their number, rate, remaining time and failures."""
        if self.hidden:
            return
        if self.progress is None or self.progress.tasks[0].description != self.description:
            rate, not_ok = TextColumn("{task.fields[rate]:.1f} images/s"), TextColumn("[red]{task.fields[not_ok]}")
            self._show([MofNCompleteColumn(), rate, TimeRemainingColumn(), not_ok], self.description)
        not_ok_so_far = f"{progress.not_ok} without prediction" if progress.not_ok else ""
        self._update(total=progress.total, completed=progress.done, rate=progress.images_per_s, not_ok=not_ok_so_far)

    def _show(self, columns: list[ProgressColumn], description: str) -> None:
        self.__exit__()
        bar = [TextColumn("{task.description}", markup=False), BarColumn()]
        self.progress = Progress(*bar, *columns, console=self.console, transient=True)
        self.task = self.progress.add_task(description, total=None, rate=0.0, not_ok="")
        self.progress.start()

    def _update(self, **fields: Any) -> None:
        if self.progress:
            self.progress.update(self.task, **fields)


def print_notes(outcome: "Outcome", verbose: bool) -> None:
    """Print the assumptions of a run, and with `verbose` its configuration."""
    for line in (*outcome.notes, *(outcome.details if verbose else ())):
        print_line(line, "dim")


def print_outcome(outcome: "Outcome", out: str | None, engine: "Engine") -> None:
    """Print the end of a run: rows by status, images per second, the file, skipped and added files."""
    progress = outcome.progress
    resumed = f" ({progress.resumed:,} of them from the interrupted run)" if progress.resumed else ""
    statuses = ", ".join(f"{number:,} {status}" for status, number in progress.counts.most_common())
    rows = f"{progress.done:,} {'row' if progress.done == 1 else 'rows'}"
    print_line(f"{rows}{resumed}: {statuses}; {progress.images_per_s:.1f} images/s", "bold")
    if out:
        part = ".part" if outcome.interrupted and engine == "local" else ""
        print_line(f"{'rows so far are in' if outcome.interrupted else 'written to'} {out}{part}")
    _print_skipped(outcome.skipped)
    if folders := outcome.manifest.unreadable_folders:
        examples = "; ".join(outcome.manifest.unreadable_examples[:MAX_NAMES])
        print_line(f"{folders:,} {'folder' if folders == 1 else 'folders'} could not be read: {examples}", "yellow")
    for path in outcome.added[:MAX_NAMES]:
        print_line(f"skipped: added after the run started: {path}", "yellow")
    if len(outcome.added) > MAX_NAMES:
        rest = len(outcome.added) - MAX_NAMES
        print_line(f"… and {rest:,} more that were added; classify them into another file", "yellow")
    if progress.not_ok:
        print_line("see the column error for the reasons; --allow-failures makes the exit code 0", "dim")


def _print_skipped(counts: Mapping[str, int]) -> None:
    """Print the files in the folders that are not images, by suffix."""
    if counts:
        most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{number} {suffix}" for suffix, number in most[:MAX_NAMES])
        print_line(f"skipped: {listed}{', …' if len(most) > MAX_NAMES else ''}", "dim")


def print_report_hint(rows: str, report: str) -> None:
    """Print the command that writes a report of these rows."""
    print_line(f"to view them: inception report {shlex.quote(rows)} --out {shlex.quote(report)}", "dim")


def print_report(written: "Written", file: str) -> None:
    """Print where a report is, and how many photos it lacks."""
    print_line(
        f"report written to {file}: {len(written.page) / 1e6:.1f} MB, {written.photos:,} photos; open it in a browser"
    )
    if written.without_picture:
        print_line(
            f"{written.without_picture:,} of them could not be read: relative paths belong to the folder in which the "
            "photos were classified; write the report there",
            "yellow",
        )


# ── info ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def print_info(description: Mapping[str, Any]) -> None:
    """Print the weights, the stages of the network, three ways of counting its operations, and this machine."""
    _print_weights(description["weights"])
    _print_stages(description["stages"], description["params"], description["macs"])
    console = stdout()
    params, params_aux = description["params"], description["params_aux"]
    console.print(f"{params:,} parameters; {params_aux:,} with the auxiliary classifier, which only training uses")
    console.print(
        f"{description['mmpretrain_count'] / 1e9:.2f} G    mmpretrain's count: {description['mmpretrain_count']:,}"
    )
    console.print(f"{description['macs'] / 1e9:.2f} GMACs   convolutions and classifier: {description['macs']:,}")
    console.print(f"{description['flops'] / 1e9:.2f} GFLOPs  2 × MACs: {description['flops']:,}")
    for weights in description["weights"]:
        if "sha256" in weights:
            console.print(Text(_weights_details(weights)))
    console.print(f"this machine: {description['device']}, {description['precision']}")


def _print_weights(entries: Sequence[Mapping[str, Any]]) -> None:
    table = _table("Weights", "Params (M)", "Flops (G)", "Top-1 (%)", "Top-5 (%)", "Preset", "Cached")
    for entry in entries:
        size = f"{entry['params'] / 1e6:.2f}", f"{entry['mmpretrain_count'] / 1e9:.2f}"
        figures = [*size, *map(_percent, (entry["top1"], entry["top5"]))]
        name = Text(harmless(Path(entry["name"]).name), no_wrap=True)
        table.add_row(name, *figures, entry["preset"], "yes" if entry["cached"] else "–")
    stdout().print(table)
    for entry in entries:
        if entry["cached"]:
            stdout().print(Text(harmless(f"{entry['name']}: {entry['path']}")))


def _print_stages(stages: Sequence[Mapping[str, Any]], params: int, macs: int) -> None:
    table = _table("Stage", "Output (C × H × W)", "Params", "MACs", "Share (%)")
    for stage in stages:
        shape = " × ".join(map(str, stage["shape"]))
        share = f"{100 * stage['macs'] / macs:.2f}"
        table.add_row(stage["name"], shape, f"{stage['params']:,}", f"{stage['macs']:,}", share)
    table.add_section()
    table.add_row("sum", "", f"{params:,}", f"{macs:,}", "100.00", style="bold")
    stdout().print(table)


def _weights_details(weights: Mapping[str, Any]) -> str:
    """Return the classes, the preset, the hash and the notes of weights that were given by name or file."""
    preset, names = weights["preset_resolved"], [harmless(name) for name in weights["classes"]]
    low, high = preset["input_range"][0]
    lines = [
        f"{harmless(weights['name'])}: {len(names)} classes: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}",
        f"  preset {preset['name']}: short side {preset['resize']}, {preset['filter']}"
        f"{'' if preset['antialias'] else ' without antialias'}, centre {preset['size']}; "
        f"red from {low} to {high} at the first convolution (so there is no transform_input)",
        f"  sha256 {weights['sha256']}",
        *(f"  {harmless(note)}" for note in weights["notes"]),
    ]
    return "\n".join(lines)


def _table(first: str, *others: str) -> Table:
    table = Table()
    table.add_column(first, min_width=11)  # in a narrow terminal headings wrap, names do not
    for heading in others:
        table.add_column(heading, justify="left" if heading in ("Preset", "Cached") else "right")
    return table


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")


# ── evaluate ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def print_evaluation(evaluation: "Evaluation", verbose: bool) -> None:
    """Print the measured accuracy beside the published figures, and what belongs to it."""
    console = stdout()
    for result in evaluation.results:
        if result.labels.warning:
            console.print(Text(harmless(result.labels.warning), "bold yellow"))
    console.print(_metrics_table(evaluation))
    for result in evaluation.results:
        console.print(Text(harmless(result.labels.description)))
        _print_label_problems(result.labels)
        for note in result.metrics.notes:
            console.print(Text(harmless(note)))
        if result.finding:
            console.print(Text(harmless(result.finding.sentence), "bold yellow"))
    metrics = evaluation.metrics
    if metrics.not_ok:
        top5 = "" if metrics.top5_not_ok_as_wrong is None else f" / {metrics.top5_not_ok_as_wrong:.2f}"
        console.print(
            f"{metrics.not_ok:,} labelled photos have no prediction and are not in n; "
            f"counted as wrong: {metrics.top1_not_ok_as_wrong:.2f}{top5} %"
        )
    console.print(f"expected calibration error {metrics.calibration_error:.2f} % (15 bins)")
    if verbose:
        for confusion in metrics.confusions:
            pair = f"{confusion.count:>6,} × {confusion.true_label} predicted as {confusion.predicted_label}"
            console.print(Text(harmless(pair)))
    if evaluation.comparison:
        _print_comparison(evaluation.comparison)


def _metrics_table(evaluation: "Evaluation") -> Table:
    table = _table("Model", "Params (M)", "Flops (G)", "Top-1 (%)", "Top-5 (%)")
    for row in evaluation.table_rows():
        size = [f"{value / unit:.2f}" if value else "–" for value, unit in ((row.params, 1e6), (row.macs, 1e9))]
        accuracies = [_with_interval(row.top1, row.top1_ci), _with_interval(row.top5, row.top5_ci)]
        table.add_row(Text(harmless(row.name)), *size, *accuracies)
    return table


def _with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    """Return a measured figure with the half-width of its 95 % Wilson interval, a published one as it is."""
    if value is None or interval is None:
        return _percent(value)
    return f"{value:.2f} ± {(interval[1] - interval[0]) / 2:.2f}"


def _print_label_problems(labels: "Labels") -> None:
    """Print photos without a label, labels that are no class, and names without a photo: the number and examples."""
    kinds = (
        (labels.unlabelled, "photos have no label"),
        (labels.unknown, "labels are no class"),
        (labels.unused, "names in the label file match no photo"),
    )
    for examples, problem in kinds:
        if examples.count:
            names = ", ".join(harmless(name) for name in examples.names)
            more = ", …" if examples.count > len(examples.names) else ""
            stdout().print(Text(f"{examples.count:,} {problem}: {names}{more}"))


def _print_comparison(comparison: "Comparison") -> None:
    console = stdout()
    console.print(
        f"compared with the other predictions, n = {comparison.n:,}: "
        f"top-1 {comparison.top1:.2f} %, theirs {comparison.other_top1:.2f} %"
    )
    flips = f"{comparison.gained:,} photos correct only here, {comparison.lost:,} correct only there"
    console.print(f"{flips}; McNemar's exact p = {comparison.p:.3g}")
    if comparison.missing:
        console.print(f"{comparison.missing:,} photos have no row there")


# ── train ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class TrainingProgress(ProgressBar):
    """The progress of a training: a download bar, then a line per epoch."""

    def __init__(self, quiet: bool) -> None:
        super().__init__("train", quiet)
        self.quiet = quiet

    def epoch(self, epoch: "EpochResult", epochs: int) -> None:
        """Print the loss, the accuracy, the speed and the remaining time of an epoch."""
        self.__exit__()
        if self.quiet:
            return
        best = " *" if epoch.best else "  "
        print_line(
            f"epoch {epoch.number:>3}/{epochs}{best} {epoch.crop_size:>3} px  loss {epoch.loss:.4f}  "
            f"top-1 {epoch.top1:5.1f} %  class average {epoch.class_average:5.1f} %  "
            f"{epoch.images_per_s:.0f} images/s  "
            f"{epoch.seconds_left / 60:.0f} min left"
        )


def print_unreadable(skipped: Mapping[str, "Failure"]) -> None:
    """Print the training images that could not be read."""
    if not skipped:
        return
    print_line(f"{len(skipped):,} images cannot be read and are left out:", "yellow")
    for path, failure in [*skipped.items()][:MAX_NAMES]:
        print_line(f"  {path}: {failure.status}, {failure.error}", "yellow")


def print_trained(record: Mapping[str, Any], out: str) -> None:
    """Print the result of a training, and how to use the weights."""
    print_line(f"written to {out}: epoch {record['best_epoch']} of {record['epochs']}, the best one")
    n, top1, average = record["val_photos"], record["val_top1"], record["val_class_average"]
    print_line(f"on {n:,} validation images: top-1 {top1:.1f} %, class average {average:.1f} %", "bold")
    print_line(f"to use them: inception classify PHOTOS --weights {out} --out preds.csv", "dim")
