"""Rows, scores and counts → the terminal. Names of files and classes are made harmless here."""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.bar import Bar as ScoreBar
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

from inception_cli.names import harmless
from inception_cli.stores import page_beside

if TYPE_CHECKING:
    from inception_cli.evaluation import Evaluation
    from inception_cli.images.decode import Failure
    from inception_cli.results.against import Against
    from inception_cli.results.report import Written
    from inception_cli.results.rows import Prediction
    from inception_cli.results.truth import Truth
    from inception_cli.session import Outcome, Tally
    from inception_cli.train import Epoch

#: Characters that a score of 100 % takes.
BAR_WIDTH = 30
#: How many of a kind are named before "…".
NAMED = 8


def errors() -> Console:
    """Standard error: progress, summaries, problems."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def output() -> Console:
    """Standard output: data."""
    return Console(highlight=False, soft_wrap=True)


def say(line: str, style: str = "") -> None:
    """One line on standard error."""
    errors().print(Text(harmless(line), style))


def complain(line: str) -> None:
    """The one line for what went wrong."""
    errors().print(Text.assemble(("error: ", "bold red"), harmless(" ".join(line.split()))))


def row_line(row: "Prediction") -> Text:
    """One row of `classify` for the terminal: score, label, path; of a failure its status and reason."""
    if row.status == "ok":
        score = Text(f"{row.scores[0]:7.1%}", "bold green" if row.scores[0] >= 0.5 else "yellow")
        return Text.assemble(score, f"  {harmless(row.labels[0]):<28}  {harmless(row.path)}")
    return Text.assemble((f"{'–':>7}  {row.status:<28}", "red"), f"  {harmless(row.path)}: {harmless(row.error)}")


def answer(row: "Prediction") -> None:
    """One photo's row for the terminal: its best classes with bars for their scores; of a failure the reason."""
    if row.status != "ok":
        output().print(row_line(row))
        return
    bars = Table.grid(padding=(0, 2))
    for place, (label, score) in enumerate(zip(row.labels, row.scores, strict=True)):
        colour = ("green" if score >= 0.5 else "yellow") if place == 0 else "bright_black"
        name = Text(harmless(label), "bold" if place == 0 else "")
        bars.add_row(Text(f"{score:7.1%}"), ScoreBar(1, 0, score, width=BAR_WIDTH, color=colour), name)
    output().print(bars)


class Bar(AbstractContextManager["Bar"]):
    """Progress on standard error: bytes fetched, then images, their rate, time left, failures; only on a terminal."""

    def __init__(self, what: str, quiet: bool) -> None:
        self.what = what
        self.console = errors()
        self.silent = quiet or not self.console.is_terminal
        self.progress: Progress | None = None
        self.task = TaskID(0)

    def __enter__(self) -> Self:
        return self

    def fetching(self, name: str, done: int, total: int) -> None:
        """Bytes of a download."""
        if self.silent:
            return
        if self.progress is None:
            self._show([DownloadColumn(), TransferSpeedColumn()], f"fetching {name}")
        self._update(completed=done, total=total or None)

    def update(self, tally: "Tally") -> None:
        """Images of a run."""
        if self.silent:
            return
        if not isinstance(self.progress, Progress) or self.progress.tasks[0].description != self.what:
            rate, failed = TextColumn("{task.fields[rate]:.1f} images/s"), TextColumn("[red]{task.fields[failed]}")
            self._show([MofNCompleteColumn(), rate, TimeRemainingColumn(), failed], self.what)
        failed_so_far = f"{tally.failed} failed" if tally.failed else ""
        self._update(total=tally.total, completed=tally.done, rate=tally.images_per_s, failed=failed_so_far)

    def _show(self, columns: list[ProgressColumn], what: str) -> None:
        self.__exit__()
        bar = [TextColumn("{task.description}", markup=False), BarColumn()]
        self.progress = Progress(*bar, *columns, console=self.console, transient=True)
        self.task = self.progress.add_task(what, total=None, rate=0.0, failed="")
        self.progress.start()

    def _update(self, **fields: Any) -> None:
        if self.progress:
            self.progress.update(self.task, **fields)

    def __exit__(self, *_: object) -> None:
        if self.progress:
            self.progress.stop()


def notes(ended: "Outcome", verbose: bool) -> None:
    """What was taken for granted, and what was decided."""
    for note in ended.notes:
        say(note, "dim")
    if verbose:
        for detail in (_decided(ended.manifest["run"]), *ended.details):
            say(detail, "dim")


def outcome(ended: "Outcome", out: str) -> None:
    """The end of a run: counts by status, images/s, where the file is, what was passed over."""
    tally = ended.tally
    kept = f" ({ended.resumed:,} of them by the run that was interrupted)" if ended.resumed else ""
    statuses = ", ".join(f"{number:,} {status}" for status, number in tally.counts.most_common())
    say(f"{tally.done:,} rows{kept}: {statuses}; {tally.images_per_s:.1f} images/s", "bold")
    if out not in ("", "-"):
        part = ".part" if ended.interrupted and not ended.in_parts else ""
        say(f"{'so far in' if ended.interrupted else 'written to'} {out}{part}")
    _passed_over(ended.skipped)
    for path in ended.appeared[:NAMED]:
        say(f"not in this run, for it appeared since: {path}", "yellow")
    if len(ended.appeared) > NAMED:
        say(
            f"… and {len(ended.appeared) - NAMED:,} more that appeared since; classify them into another file", "yellow"
        )
    if tally.failed:
        say("the column error tells why some failed; --allow-failures makes that exit with 0", "dim")


def try_report(rows: str) -> None:
    """What to do with a file of rows."""
    say(f"look at it: inception report {shlex.quote(rows)} --out {shlex.quote(page_beside(rows))}", "dim")


def report(written: "Written", file: str) -> None:
    """Where a report is, and what it lacks."""
    size = f"{len(written.page) / 1e6:.1f} MB, {written.photos:,} photos shown"
    say(f"report written to {file}: {size}; open it in a browser")
    if written.without_picture:
        cure = "paths are as they were named, so make it in the folder where they were classified"
        say(f"{written.without_picture:,} of them without a picture: {cure}", "yellow")


def _decided(run: Mapping[str, Any]) -> str:
    """What was decided, in one line."""
    preset, plan, loading = run["pixels"]["preset"], run["plan"], run["loading"]
    return (
        f"preset {preset['name']} ({preset['resize']} / {preset['size']}, {preset['filter']}), "
        f"{plan['device']}, {plan['precision']}, batches of {loading['batch_size']}, {loading['workers']} workers"
    )


def _passed_over(counts: Mapping[str, int]) -> None:
    """What lay in the folders and is no image, by suffix."""
    if counts:
        most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        named = ", ".join(f"{number} {suffix}" for suffix, number in most[:NAMED])
        say(f"passed over: {named}{', …' if len(most) > NAMED else ''}", "dim")


def info(facts: Mapping[str, Any]) -> None:
    """The published page, the stages, three ways of counting, the weights that were named, and this machine."""
    weights_table(facts["weights"])
    stage_table(facts["stages"], facts["params"], facts["macs"])
    console = output()
    console.print(f"{facts['params']:,} parameters; {facts['params_aux']:,} with the auxiliary classifier of training")
    console.print(f"{facts['mmpretrain_count'] / 1e9:.2f} G    mmpretrain's count: {facts['mmpretrain_count']:,}")
    console.print(f"{facts['macs'] / 1e9:.2f} GMACs   convolutions and classifier: {facts['macs']:,}")
    console.print(f"{facts['flops'] / 1e9:.2f} GFLOPs  2 × MACs: {facts['flops']:,}")
    for weights in facts["weights"]:
        if "sha256" in weights:
            console.print(Text(_described(weights)))
    console.print(f"this machine: {facts['device']}, {facts['precision']}")


def _described(weights: Mapping[str, Any]) -> str:
    """Weights that were named: classes, pixels, hash, and what was taken for granted."""
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


def weights_table(entries: Sequence[Mapping[str, Any]]) -> None:
    """The published page: Params (M), Flops (G; mmpretrain's count), Top-1 (%), Top-5 (%), and where each lies."""
    table = _table("Weights", "Params (M)", "Flops (G)", "Top-1 (%)", "Top-5 (%)", "Preset", "Here")
    for entry in entries:
        size = f"{entry['params'] / 1e6:.2f}", f"{entry['mmpretrain_count'] / 1e9:.2f}"
        figures = [*size, *map(_percent, (entry["top1"], entry["top5"]))]
        here = "yes" if entry["cached"] else "–"
        name = Text(harmless(Path(entry["name"]).name), no_wrap=True)
        table.add_row(name, *figures, entry["preset"], here)
    output().print(table)
    for entry in entries:
        if entry["cached"]:
            output().print(Text(harmless(f"{entry['name']} lies at {entry['path']}")))


def stage_table(stages: Sequence[Mapping[str, Any]], params: int, macs: int) -> None:
    """Output shape, parameters, MACs and share of each stage, and their sums."""
    table = _table("Stage", "Output (C × H × W)", "Params", "MACs", "Share (%)")
    for stage in stages:
        shape = " × ".join(map(str, stage["shape"]))
        share = f"{100 * stage['macs'] / macs:.2f}"
        table.add_row(stage["name"], shape, f"{stage['params']:,}", f"{stage['macs']:,}", share)
    table.add_section()
    table.add_row("sum", "", f"{params:,}", f"{macs:,}", "100.00", style="bold")
    output().print(table)


def _table(first: str, *others: str) -> Table:
    table = Table()
    table.add_column(first, min_width=11)  # names are whole in a narrow terminal, whose headings wrap instead
    for heading in others:
        table.add_column(heading, justify="left" if heading in ("Preset", "Here") else "right")
    return table


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")


def evaluation(found: "Evaluation", verbose: bool) -> None:
    """The published table: this measurement, what the publisher gives, and the paper's row for the same protocol."""
    console = output()
    console.print(_measured(found))
    for judged in found.judged:
        console.print(Text(harmless(judged.truth.described)))
        _truth_gaps(judged.truth)
        for note in judged.scores.notes:
            console.print(Text(harmless(note)))
        if judged.finding:
            console.print(Text(harmless(judged.finding.sentence), "bold yellow"))
    scores = found.scores
    if scores.failed:
        top5 = "" if scores.top5_failed_as_wrong is None else f" / {scores.top5_failed_as_wrong:.2f}"
        wrong = f"{scores.top1_failed_as_wrong:.2f}{top5} % with them counted as wrong"
        console.print(f"{scores.failed:,} photos failed and are not in n; {wrong}")
    console.print(f"expected calibration error {scores.calibration_error:.2f} % (15 bins)")
    if verbose:
        for each in scores.confusions:
            pair = f"{each.count:>6,} × {each.truth_label} taken for {each.predicted_label}"
            console.print(Text(harmless(pair)))
    if found.against:
        _against(found.against)


def _measured(found: "Evaluation") -> Table:
    table = _table("Model", "Params (M)", "Flops (G)", "Top-1 (%)", "Top-5 (%)")
    network = found.manifest.get("network")
    size = [f"{network['params'] / 1e6:.2f}", f"{network['mmpretrain_count'] / 1e9:.2f}"] if network else ["–", "–"]
    for judged in found.judged:
        scores = judged.scores
        top5 = "–" if scores.top5 is None or scores.top5_ci is None else _with_interval(scores.top5, scores.top5_ci)
        measured = f"measured, n = {scores.n:,}"
        if len(found.judged) > 1:
            measured += f" ({harmless(judged.truth.source)})"
        table.add_row(Text(measured), *size, _with_interval(scores.top1, scores.top1_ci), top5)
    if given := found.published:
        table.add_row(f"published ({given['name']})", *size, _percent(given["top1"]), _percent(given["top5"]))
    if paper := found.paper:
        what = f"paper: {paper['networks']} × {paper['crops']} crops, {paper['n']:,} images"
        table.add_row(what, "", "", _percent(paper["top1"]), _percent(paper["top5"]))
    return table


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    """A figure in percent with the half-width of its 95 % Wilson interval."""
    return f"{value:.2f} ± {(interval[1] - interval[0]) / 2:.2f}"


def _truth_gaps(truth: "Truth") -> None:
    """Photos without an answer, labels that are no class, names without a photo: counted, some named, never guessed."""
    kinds = (
        (truth.uncovered, "photos have no answer"),
        (truth.unknown, "labels are no class"),
        (truth.unused, "labels name no photo here"),
    )
    for some, what in kinds:
        if some.count:
            names = ", ".join(harmless(name) for name in some.examples)
            output().print(Text(f"{some.count:,} {what}: {names}{', …' if some.count > len(some.examples) else ''}"))


def _against(other: "Against") -> None:
    console = output()
    console.print(f"against the other rows, n = {other.n:,}: top-1 {other.top1:.2f} %, there {other.other_top1:.2f} %")
    flips = f"{other.gained:,} photos right only here, {other.lost:,} right only there"
    console.print(f"{flips}; McNemar's exact p = {other.p:.3g}")
    if other.missing:
        console.print(f"{other.missing:,} photos have no row there")


class Epochs(Bar):
    """A training, epoch by epoch."""

    def __init__(self, quiet: bool) -> None:
        super().__init__("train", quiet)
        self.quiet = quiet

    def epoch(self, epoch: "Epoch", epochs: int) -> None:
        """One line: loss, accuracy, images/s, time left."""
        self.__exit__()
        if self.quiet:
            return
        kept = " *" if epoch.best else "  "
        say(
            f"epoch {epoch.number:>3}/{epochs}{kept} {epoch.side:>3} px  loss {epoch.loss:.4f}  "
            f"top-1 {epoch.top1:5.1f} %  class average {epoch.class_average:5.1f} %  "
            f"{epoch.images_per_s:.0f} images/s  "
            f"{epoch.seconds_left / 60:.0f} min left"
        )


def unreadable(skipped: Mapping[str, "Failure"], quiet: bool) -> None:
    """Photos that a training could not read."""
    if quiet or not skipped:
        return
    say(f"{len(skipped):,} photos cannot be read and are left out:", "yellow")
    for path, failure in [*skipped.items()][:NAMED]:
        say(f"  {path}: {failure.status}, {failure.error}", "yellow")


def trained(how: Mapping[str, Any], out: str) -> None:
    """What a training came to, and what to try next."""
    say(f"written to {out}: epoch {how['best_epoch']} of {how['epochs']}, the best of them")
    n, top1, average = how["val_photos"], how["val_top1"], how["val_class_average"]
    say(f"on {n:,} photos that it did not learn from: top-1 {top1:.1f} %, class average {average:.1f} %", "bold")
    say(f"try: inception classify PHOTOS --weights {out} --out preds.csv", "dim")
