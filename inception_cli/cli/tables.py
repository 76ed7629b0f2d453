"""The tables of `info` and `evaluate`, and the lines below them. No figure is cut in a terminal of 60 columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from inception_cli.cli.console import stdout
from inception_cli.cli.training_lines import training_lines
from inception_cli.errors import plural
from inception_cli.predictions.intervals import percent
from inception_cli.predictions.text import harmless
from inception_cli.weights.registry import HUB_PREFIX

if TYPE_CHECKING:
    from inception_cli.evaluation.compare import Comparison
    from inception_cli.evaluation.decisions import Answered, DecisionMetrics
    from inception_cli.evaluation.evaluate import Evaluation
    from inception_cli.evaluation.labels import Labels

#: Class names that are listed before "…".
CLASS_NAMES = 3
#: Thresholds of a curve that are printed.
CURVE_ROWS = 5


@dataclass(frozen=True)
class Column:
    """A column of figures, or of text; `unit` goes to a second line where there is little room."""

    heading: str
    unit: str = ""
    text: bool = False
    optional: bool = False  # left out where there is too little room


Row = Sequence[str | Text]
PARAMS, FLOPS = Column("Params", "(M)"), Column("Flops", "(G)")
TOP1, TOP5 = Column("Top-1", "(%)"), Column("Top-5", "(%)")


def print_table(columns: Sequence[Column], rows: Sequence[Row], total: Row | None = None) -> None:
    """Print the widest form of a table that the terminal has room for; in the narrowest one texts wrap."""
    console = stdout()
    for table in _forms(columns, rows, total):
        unlimited = console.options.update(width=10_000)
        if console.measure(table, options=unlimited).maximum <= console.width:
            break
    console.print(table)


def _forms(columns: Sequence[Column], rows: Sequence[Row], total: Row | None) -> Iterator[Table]:
    """Return the forms of a table, the widest first: a frame, no frame, fewer columns, smaller gaps."""
    kept = list(range(len(columns)))
    for frame, unit_below in ((box.HEAVY_HEAD, False), (box.HEAVY_HEAD, True), (box.SIMPLE_HEAD, True)):
        yield _form(columns, rows, total, kept, frame, unit_below)
    for place in reversed(kept):
        if columns[place].optional:
            kept = [each for each in kept if each != place]
            yield _form(columns, rows, total, kept, box.SIMPLE_HEAD, unit_below=True)
    yield _form(columns, rows, total, kept, box.SIMPLE_HEAD, unit_below=True, padding=0)


def _form(
    columns: Sequence[Column],
    rows: Sequence[Row],
    total: Row | None,
    kept: Sequence[int],
    frame: box.Box,
    unit_below: bool,
    padding: int = 1,
) -> Table:
    framed = frame is box.HEAVY_HEAD
    table = Table(box=frame, show_edge=framed, pad_edge=framed, collapse_padding=not framed, padding=(0, padding))
    for place in kept:
        column = columns[place]
        heading = ("\n" if unit_below else " ").join(filter(None, (column.heading, column.unit)))
        table.add_column(heading, justify="left" if column.text or not place else "right", no_wrap=bool(place))
    for row in rows:
        table.add_row(*(row[place] for place in kept))
    if total:
        table.add_section()
        table.add_row(*(total[place] for place in kept), style="bold")
    return table


# ── info ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def print_info(description: Mapping[str, Any], trained: bool) -> None:
    """Print the weights, the stages of the network, three ways of counting its operations, and this machine.

    With `trained` also how the weights were trained, where their file says it.
    """
    console = stdout()
    _print_weights(console, description["weights"])
    _print_stages(description["stages"], description["params"], description["macs"])
    params, params_aux = description["params"], description["params_aux"]
    console.print(f"{params:,} parameters; in training {params_aux:,}, with the auxiliary classifier")
    console.print(
        f"{description['mmpretrain_count'] / 1e9:.2f} G    mmpretrain's count: {description['mmpretrain_count']:,}"
    )
    console.print(f"{description['macs'] / 1e9:.2f} GMACs   convolutions and classifier: {description['macs']:,}")
    console.print(f"{description['flops'] / 1e9:.2f} GFLOPs  2 × MACs: {description['flops']:,}")
    protocol = description["protocol"]
    _print_protocol(console, protocol["networks"], protocol["views"], protocol["total"])
    for weights in description["weights"]:
        if "sha256" in weights:
            console.print(Text(_weights_details(weights)))
            for line in training_lines(weights["trained"] if trained else {}, weights["classes"]):
                console.print(Text(f"  {harmless(line)}"))
    for note in description["notes"]:
        console.print(Text(harmless(note), "yellow"))
    console.print(f"this machine: {description['device']}, {description['precision']}")


def _print_protocol(console: Console, networks: int, views: int, total: Mapping[str, int]) -> None:
    """Print the counts of all networks and views for one photo, unless it is one network that sees one view."""
    if networks * views > 1:
        counted = f"{plural(networks, 'network')} × {plural(views, 'view')}"
        params, operations = total["params"] / 1e6, total["mmpretrain_count"] / 1e9
        console.print(f"{counted}: {params:.2f} M parameters, {operations:.2f} G for a photo")
        one = params / networks, operations / (networks * views)
        console.print(f"one network, one view: {one[0]:.2f} M parameters, {one[1]:.2f} G")


def _print_weights(console: Console, entries: Sequence[Mapping[str, Any]]) -> None:
    preset, cached = Column("Preset", text=True, optional=True), Column("Cached", text=True, optional=True)
    rows = []
    for entry in entries:
        size = f"{entry['params'] / 1e6:.2f}", f"{entry['mmpretrain_count'] / 1e9:.2f}"
        figures = [*size, *map(_percent, (entry["top1"], entry["top5"]))]
        name = Text(harmless(Path(entry["name"]).name))
        rows.append([name, *figures, Text(harmless(entry["preset"])), "yes" if entry["cached"] else "–"])
    print_table([Column("Weights", text=True), PARAMS, FLOPS, TOP1, TOP5, preset, cached], rows)
    for entry in entries:
        if entry["cached"]:
            console.print(Text(harmless(f"{entry['name']}: {entry['path']}")))


def _print_stages(stages: Sequence[Mapping[str, Any]], params: int, macs: int) -> None:
    columns = [Column("Stage", text=True), Column("Output", "(C×H×W)"), Column("Params"), Column("MACs")]
    rows = []
    for stage in stages:
        shape, share = "×".join(map(str, stage["shape"])), f"{100 * stage['macs'] / macs:.2f}"
        rows.append([stage["name"], shape, f"{stage['params']:,}", f"{stage['macs']:,}", share])
    print_table([*columns, Column("Share", "(%)")], rows, ["sum", "", f"{params:,}", f"{macs:,}", "100.00"])


def _weights_details(weights: Mapping[str, Any]) -> str:
    """Return the classes, the preset, the hash and the notes of weights that were given by name or file."""
    preset, names = weights["preset_resolved"], [harmless(name) for name in weights["classes"]]
    low, high = preset["input_range"][0]
    listed = ", ".join([*names[:CLASS_NAMES], *(["…"] if len(names) > CLASS_NAMES else [])])
    lines = [
        f"{harmless(weights['name'])}: {plural(len(names), 'class', 'classes')}: {listed}",
        f"  preset {harmless(preset['name'])}: short side {preset['resize']}, {preset['filter']}"
        f"{'' if preset['antialias'] else ' without antialias'}, centre {preset['size']}",
        f"  red from {low} to {high} at the first convolution (there is no transform_input)",
        f"  sha256 {weights['sha256']}",
        *([f"  from {harmless(weights['source'])}"] if weights["name"].startswith(HUB_PREFIX) else []),
        *(f"  {harmless(note)}" for note in weights["notes"]),
    ]
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")


# ── evaluate ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def print_evaluation(evaluation: "Evaluation", verbose: bool) -> None:
    """Print the measured accuracy beside the published figures, and what belongs to it."""
    console = stdout()
    for result in evaluation.results:
        if result.labels.warning:
            console.print(Text(harmless(result.labels.warning), "yellow"))
    _print_metrics(evaluation)
    console.print("below a measured figure: its 95 % interval (Wilson)")
    if protocol := evaluation.protocol:
        _print_protocol(console, protocol.networks, protocol.views, asdict(protocol.total))
    for result in evaluation.results:
        console.print(Text(harmless(result.labels.description)))
        _print_label_problems(console, result.labels)
        for note in result.metrics.notes:
            console.print(Text(harmless(note)))
        if result.finding:
            console.print(Text(harmless(result.finding.sentence), "yellow"))
    metrics = evaluation.metrics
    if metrics.not_ok:
        top5 = "" if metrics.top5_not_ok_as_wrong is None else f" / {percent(metrics.top5_not_ok_as_wrong, 2)}"
        photos = plural(metrics.not_ok, "labelled photo has", "labelled photos have")
        console.print(f"{photos} no prediction and {'is' if metrics.not_ok == 1 else 'are'} not in n;")
        console.print(f"  counted as wrong: {percent(metrics.top1_not_ok_as_wrong, 2)}{top5} %")
    if macro := metrics.macro:
        console.print(
            f"macro averages of {plural(macro.classes, 'class', 'classes')} with photos: precision "
            f"{percent(macro.precision, 2)} %, recall {percent(macro.recall, 2)} %, F1 {percent(macro.f1, 2)} %"
        )
    console.print(f"expected calibration error {metrics.calibration_error:.2f} % (15 bins)")
    if evaluation.decisions:
        _print_decisions(console, evaluation.decisions)
    if verbose:
        for confusion in metrics.confusions:
            pair = f"{confusion.count:>6,} × {confusion.true_label} predicted as {confusion.predicted_label}"
            console.print(Text(harmless(pair)))
    if evaluation.comparison:
        _print_comparison(console, evaluation.comparison)


def _print_metrics(evaluation: "Evaluation") -> None:
    rows: list[Row] = []
    for row in evaluation.table_rows():
        size = [f"{value / unit:.2f}" if value else "–" for value, unit in ((row.params, 1e6), (row.macs, 1e9))]
        accuracies = [_with_interval(row.top1, row.top1_ci), _with_interval(row.top5, row.top5_ci)]
        rows.append([Text(harmless(row.name)), *size, *accuracies])
    print_table([Column("Model", text=True), PARAMS, FLOPS, TOP1, TOP5], rows)


def _with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    """Return a measured figure with the bounds of its 95 % Wilson interval below it, a published one as it is."""
    if value is None or interval is None:
        return _percent(value)
    return f"{percent(value, 2)}\n{interval[0]:.2f} – {interval[1]:.2f}"


def _print_label_problems(console: Console, labels: "Labels") -> None:
    """Print photos without a label, labels that are no class, and names without a photo: the number and examples."""
    kinds = (
        (labels.unlabelled, "photo has no label", "photos have no label"),
        (labels.unknown, "label is no class", "labels are no class"),
        (labels.unused, "name in the label file matches no photo", "names in the label file match no photo"),
    )
    for examples, one, many in kinds:
        if examples.count:
            names = ", ".join(harmless(name) for name in examples.names)
            more = ", …" if examples.count > len(examples.names) else ""
            console.print(Text(f"{plural(examples.count, one, many)}: {names}{more}"))


def _print_decisions(console: Console, decisions: "DecisionMetrics") -> None:
    """Print how many photos get a label and how many of these are right: as requested, and by threshold."""
    answered, given = decisions.answered, decisions.thresholds
    line = f"with {given}, {percent(answered.coverage)} % of {plural(decisions.photos, 'photo')} get a label"
    if answered.accuracy is not None and decisions.accuracy_ci:
        low, high = decisions.accuracy_ci
        line += f", which is right for {percent(answered.accuracy)} % of these (95 %: {low:.1f} – {high:.1f})"
    console.print(line)
    if given.rollup is not None and decisions.classes_per_label is not None:
        console.print(f"a label stands for {decisions.classes_per_label:.2f} classes on average")
    rows = [_answered_row(each) for each in decisions.curve[:: len(decisions.curve) // CURVE_ROWS]]
    print_table([Column("--min-score"), Column("Get a label", "(%)"), Column("Right", "(%)")], rows)
    if (proposal := decisions.proposal) and proposal.accuracy is not None:
        console.print(
            f"--min-score {proposal.min_score:g} would be right on {percent(proposal.accuracy)} % of the "
            f"{percent(proposal.coverage)} % of photos that get a label: the lowest for {decisions.wanted:g} %"
        )
    elif decisions.wanted:
        console.print(
            f"no --min-score up to 0.99 would be right on {decisions.wanted:g} % of the photos that get a label"
        )


def _answered_row(answered: "Answered") -> Row:
    right = "–" if answered.accuracy is None else percent(answered.accuracy)
    return [f"{answered.min_score:g}", percent(answered.coverage), right]


def _print_comparison(console: Console, comparison: "Comparison") -> None:
    console.print(
        f"compared with the other predictions, n = {comparison.n:,}: "
        f"top-1 {percent(comparison.top1, 2)} %, theirs {percent(comparison.other_top1, 2)} %"
    )
    gained = f"{plural(comparison.gained, 'photo')} correct only here"
    console.print(f"{gained}, {comparison.lost:,} correct only there; McNemar's exact p = {comparison.p:.3g}")
    if comparison.missing:
        console.print(f"{plural(comparison.missing, 'photo has', 'photos have')} no row there")
