"""What the commands print on a line: errors, predictions, summaries. Control characters in names are escaped here."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from inception_cli.errors import excerpt, plural
from inception_cli.predictions.decision import UNKNOWN
from inception_cli.predictions.text import harmless, shell_path

if TYPE_CHECKING:
    from inception_cli.actions.export_onnx import Exported
    from inception_cli.actions.sort import Sorted
    from inception_cli.actions.tag import Tagged
    from inception_cli.config import Engine
    from inception_cli.inference.runner import Outcome, RunProgress
    from inception_cli.predictions.prediction import Prediction
    from inception_cli.report.build import Written
    from inception_cli.storage.store import Manifest

#: Width in characters of the bar of a score of 100 %; in a terminal narrower than NARROW bars and gaps are shorter.
BAR_WIDTH, SHORT_BAR_WIDTH, NARROW = 30, 12, 80
#: Width of the column of labels, in a terminal narrower than WIDE and elsewhere.
SHORT_LABEL_WIDTH, LABEL_WIDTH, WIDE = 16, 28, 100
#: Longest error in characters; its beginning, which names the file, and its end, the remedy, are kept.
MAX_ERROR = 300
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
    """Print an error as one line of at most MAX_ERROR characters."""
    label = "error: "
    text = excerpt(harmless(" ".join(message.split())), MAX_ERROR - len(label))
    stderr().print(Text.assemble((label, "bold red"), text))


# ── Predictions ──────────────────────────────────────────────────────────────────────────────────────────────────────


def is_single_photo(inputs: Sequence[str]) -> bool:
    """Return whether a single file is classified in a terminal."""
    return len(inputs) == 1 and os.path.isfile(inputs[0]) and stdout().is_terminal  # noqa: PTH113 - may be too long


def print_predictions(predictions: "Sequence[Prediction]", console: Console) -> None:
    """Print a line for each prediction."""
    for prediction in predictions:
        console.print(prediction_line(prediction, console))


def print_bars(predictions: "Sequence[Prediction]", console: Console) -> None:
    """Print the classes of each prediction with bars for their scores; of a failure the reason."""
    width = BAR_WIDTH if console.width >= NARROW else SHORT_BAR_WIDTH
    for prediction in predictions:
        if prediction.status != "ok":
            console.print(prediction_line(prediction, console))
            continue
        bars = Table.grid(padding=(0, 2))
        for place, (label, score) in enumerate(zip(prediction.labels, prediction.scores, strict=True)):
            colour = ("green" if score >= 0.5 else "yellow") if place == 0 else "bright_black"
            name = Text(harmless(label), "bold" if place == 0 else "")
            bars.add_row(Text(f"{score:7.1%}"), Bar(1, 0, score, width=width, color=colour), name)
        if prediction.decision:
            console.print(decision_line(prediction))
        console.print(bars)


def decision_line(prediction: "Prediction") -> Text:
    """Return the label of a photo with its score, and the best class where that is another: dog › Siberian husky."""
    decision = prediction.decision
    if decision is None:
        return Text()
    best = f"{harmless(prediction.labels[0])} ({100 * prediction.scores[0]:.0f} %)"
    if decision.reason == "top1":
        return Text(best, "bold green")
    if decision.reason == "rollup":
        return Text.assemble((f"{harmless(decision.label)} ({100 * decision.score:.0f} %)", "bold green"), f" › {best}")
    return Text.assemble((UNKNOWN, "bold yellow"), f" ({decision.reason.replace('_', ' ')}) › {best}")


def prediction_line(prediction: "Prediction", console: Console) -> Text:
    """Return a line with score, label and path, or with the status and the reason of a failure.

    In a terminal that is too narrow for both the path and the reason, the reason is on a second line.
    """
    path, reason = harmless(prediction.path), harmless(prediction.error)
    label_width = SHORT_LABEL_WIDTH if console.is_terminal and console.width < WIDE else LABEL_WIDTH
    if prediction.status == "ok":
        decision = prediction.decision
        label, number = (decision.label, decision.score) if decision else (prediction.labels[0], prediction.scores[0])
        score = Text(f"{number:7.1%}", "bold green" if number >= 0.5 and label != UNKNOWN else "yellow")
        return Text.assemble(score, f"  {harmless(label):<{label_width}}  {path}")
    status = Text(f"{'–':>7}  {prediction.status:<{label_width}}", "red")
    line = Text.assemble(status, f"  {path}: {reason}")
    if console.is_terminal and line.cell_len > console.width:
        return Text.assemble(status, f"  {path}\n{'':>7}  {reason}")
    return line


def print_notes(outcome: "Outcome", verbose: bool) -> None:
    """Print the assumptions of a run, and with `verbose` its configuration."""
    for line in (*outcome.notes, *(outcome.details if verbose else ())):
        print_line(line, "dim")


def print_outcome(outcome: "Outcome", out: str | None, engine: "Engine", arrays: Iterable[str] = ()) -> None:
    """Print the end of a run: rows by status, images per second, the output files, skipped and added files."""
    progress = outcome.progress
    rows = (
        f"{progress.done:,} of {plural(progress.total, 'row')}" if outcome.interrupted else plural(progress.done, "row")
    )
    resumed = f" ({progress.resumed:,} of them from the interrupted run)" if progress.resumed else ""
    statuses = ", ".join(f"{number:,} {status}" for status, number in progress.counts.most_common())
    rate = f"; {progress.images_per_s:.1f} images/s" if progress.seconds else ""
    print_line(f"{rows}{resumed}: {statuses or 'none yet'}{rate}", "bold")
    if out:
        part = ".part" if outcome.interrupted and engine == "local" else ""
        names = ", ".join(f"{name}{part}" for name in (out, *arrays))
        print_line(f"{'rows so far are in' if outcome.interrupted else 'written to'} {names}")
    _print_skipped(outcome.skipped)
    print_unreadable_folders(outcome.manifest)
    for path in outcome.added[:MAX_NAMES]:
        print_line(f"skipped: added after the run started: {path}", "yellow")
    if len(outcome.added) > MAX_NAMES:
        rest = len(outcome.added) - MAX_NAMES
        print_line(f"… and {rest:,} more added; classify them into another file", "yellow")
    if outcome.could_tell_unfamiliar and not outcome.interrupted:
        name = outcome.manifest.run.weights[0].name
        print_line(f"{name} can tell photos that are unlike its training photos: --familiar 0.95", "dim")
    if progress.not_ok:
        _print_reasons(progress)
        each = "each reason is in the column error; " if out else ""
        print_line(f"{each}--allow-failures makes the exit code 0", "dim")


def print_unreadable_folders(manifest: "Manifest") -> None:
    """Print the folders that a run could not read, and patterns without a match: they have no row with the reason."""
    if folders := manifest.unreadable_folders:
        examples = "; ".join(manifest.unreadable_examples[:MAX_NAMES])
        print_line(
            f"{plural(folders, 'folder or pattern', 'folders or patterns')} could not be read: {examples}", "yellow"
        )


def _print_reasons(progress: "RunProgress") -> None:
    """Print why inputs have no prediction, the most frequent reasons first."""
    for (status, reason), number in progress.reasons.most_common(MAX_NAMES):
        print_line(f"{number:,} {status}: {reason}", "yellow")
    known = progress.reasons.total()
    if others := known - sum(n for _, n in progress.reasons.most_common(MAX_NAMES)):
        print_line(f"{others:,} for other reasons", "yellow")
    if earlier := progress.not_ok - known:
        print_line(f"{earlier:,} without prediction in the interrupted run", "yellow")


def _print_skipped(counts: Mapping[str, int]) -> None:
    """Print the files in the folders that are not images, by suffix."""
    if counts:
        most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{number} {suffix}" for suffix, number in most[:MAX_NAMES])
        print_line(f"skipped: {listed}{', …' if len(most) > MAX_NAMES else ''}", "dim")


def print_report_hint(rows: str, report: str) -> None:
    """Print the command that writes a report of these rows."""
    print_line(f"to view them: inception report {shell_path(rows)} --out {shell_path(report)}", "dim")


def print_report(written: "Written", file: str, folder: str) -> None:
    """Print where a report is, and how many photos it lacks; `folder` is where they were classified, "" if unknown."""
    size, photos = f"{len(written.page) / 1e6:.1f} MB", plural(written.photos, "photo")
    maps = "" if written.heat_maps is None else f", {written.heat_maps:,} with a heat map"
    print_line(f"report written to {file}: {size}, {photos}{maps}; open it in a browser")
    if written.unreadable:
        print_line(
            f"{plural(written.unreadable, 'photo')} could not be read; if their paths are relative, run this "
            f"command in {excerpt(folder, 100) or 'the folder in which they were classified'}",
            "yellow",
        )
    if written.over_limit:
        photos = plural(written.over_limit, "photo is", "photos are")
        print_line(f"{photos} shown without a picture, as the page has reached its size limit", "yellow")
    if written.changed:
        photos = plural(written.changed, "photo has", "photos have")
        print_line(f"{photos} changed since the run (another score than in the row), and no heat map", "yellow")


# ── export ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def print_exported(exported: "Exported", verbose: bool) -> None:
    """Print the assumptions about the weights, the file, and with `verbose` whether it was checked."""
    for note in exported.weights.notes:
        print_line(f"{exported.weights.name}: {note}", "dim")
    size, classes = exported.weights.preset.size, plural(len(exported.weights.classes), "class", "classes")
    print_line(f"written to {exported.file}: {_size(exported.bytes)}, {size} x {size} pixels, {classes}", "bold")
    if verbose and (check := exported.check):
        runtime, difference = f"ONNX Runtime {check.onnxruntime}", f"largest difference {check.max_difference:.1g}"
        print_line(f"checked: {runtime} gives our scores on {check.pictures} drawn pictures ({difference})", "dim")
    elif verbose:
        print_line("not checked, for lack of ONNX Runtime: pip install onnxruntime", "dim")


# ── sort ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

_PAST = {"copy": "copied", "link": "linked", "move": "moved"}


def print_sort_plan(result: "Sorted") -> None:
    """Print on standard output what a sort would do: files by folder, other names, space."""
    tally, console = result.tally, stdout()
    width = max(map(len, (f"{number:,}" for number in tally.photos.values())), default=0)
    for folder, number in sorted(tally.photos.items()):
        console.print(Text(f"{number:>{width},}  {harmless(folder)}{'  (new)' if folder in tally.new_folders else ''}"))
    files = plural(tally.steps, "file")
    sidecars = f", {plural(tally.sidecars, 'XMP sidecar')} of them" if tally.sidecars else ""
    folders = plural(len(tally.photos), "folder")
    console.print(Text(f"{result.method} {files}{sidecars} into {folders} of {harmless(str(result.into))}"))
    free = "" if result.free is None else f"; {_size(result.free)} are free"
    console.print(Text(f"needs {_size(tally.bytes)}{free}"))
    for line in _sort_notes(result):
        console.print(Text(harmless(line)))


def print_sorted(result: "Sorted", into: str) -> None:
    """Print the end of a sort, and how to undo it."""
    before = f" ({result.found:,} before)" if result.found else ""
    files = plural(result.done + result.found, "file") if result.folders else "no file"
    folders = f"{plural(len(result.folders), 'folder')} of " if result.folders else ""
    print_line(f"{files} {_PAST[result.method]}{before} into {folders}{into}", "bold")
    for line in _sort_notes(result):
        print_line(line, "dim")
    print_line(f"to undo it: inception sort --undo {shell_path(into)}", "dim")


def print_undone(result: "Sorted", into: str) -> None:
    """Print the end of an undo."""
    done = {"move": "moved back", "copy": "removed", "link": "removed"}[result.method]
    print_line(f"{plural(result.done, 'file') if result.done else 'no file'} of {into} {done}", "bold")


def print_left(files: Sequence[tuple[str, str]], number: int) -> None:
    """Print the files that a sort or an undo has left as they are, with the reasons."""
    for path, reason in files:
        print_line(f"left as it is: {path}: {reason}", "yellow")
    if number > len(files):
        print_line(f"… and {number - len(files):,} more", "yellow")


def print_gone(result: "Sorted") -> None:
    """Print the moved files that an undo has not found, and how it ends."""
    for target, source in result.gone_files:
        print_line(f"gone: {target}, which came from {source}", "yellow")
    if result.gone > len(result.gone_files):
        print_line(f"… and {result.gone - len(result.gone_files):,} more", "yellow")
    if result.gone and result.ended:
        print_line(
            f"nothing is left to undo, except {plural(result.gone, 'file that is', 'files that are')} gone", "bold"
        )
    elif result.gone:
        print_line(
            "move what is gone back there and undo again; if it is deleted, the next undo ends without it", "dim"
        )


def _sort_notes(result: "Sorted") -> Iterator[str]:
    """Yield what a plan leaves where it is, and which photos get other names."""
    tally = result.tally
    if tally.not_ok:
        statuses = ", ".join(f"{number:,} {status}" for status, number in Counter(tally.not_ok).most_common())
        yield f"{plural(sum(tally.not_ok.values()), 'row')} without a prediction: {statuses}"
    for reason, number in Counter(tally.left).most_common(MAX_NAMES):
        yield f"{plural(number, 'photo')} left in place: {reason}"
    if tally.left:
        yield f"such as {', '.join(tally.left_examples)}"
    if tally.in_place:
        yield f"{plural(tally.in_place, 'photo')} already in place"
    if tally.twice:
        yield f"{plural(tally.twice, 'row')} of a photo that an earlier row has"
    if tally.same:
        yield f"{plural(tally.same, 'photo')} left in place, the same as another of that name and class:"
        yield from (f"  {photo} is {other}" for photo, other in tally.same_examples)
        yield from ["  …"][: tally.same > len(tally.same_examples)]
    if tally.renamed:
        yield f"{plural(tally.renamed, 'photo')} with another name, as theirs is taken:"
        yield from (f"  {photo} → {name}" for photo, name in tally.renamed_examples)
        yield from ["  …"][: tally.renamed > len(tally.renamed_examples)]


def _size(number: int) -> str:
    """Return a number of bytes in MB, or from a gigabyte on in GB."""
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.1f} MB"


# ── tag ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def print_tagged(result: "Tagged", rows: str, undo: bool) -> None:
    """Print what happened to the sidecars, and how to undo it."""
    counts = (("written", result.written), ("removed", result.removed), ("unchanged", result.unchanged))
    parts = ", ".join(f"{number:,} {what}" for what, number in counts if number) or "none"
    print_line(f"XMP sidecars: {parts}", "bold")
    if result.not_ok:
        statuses = ", ".join(f"{number:,} {status}" for status, number in result.not_ok.most_common())
        print_line(f"{plural(sum(result.not_ok.values()), 'row')} without a prediction: {statuses}", "dim")
    if result.written and not undo:
        print_line(f"to undo it: inception tag --undo {shell_path(rows)}", "dim")


def print_untagged(result: "Tagged") -> None:
    """Print the photos that could not be tagged, with the reasons."""
    for path, reason in result.left_files:
        print_line(f"left as it is: {path}: {reason}", "yellow")
    if result.left > len(result.left_files):
        print_line(f"… and {result.left - len(result.left_files):,} more", "yellow")
