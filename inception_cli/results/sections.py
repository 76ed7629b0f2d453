"""The sections of a report, as HTML. Names of files and classes are anybody's: each goes through `text`."""

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from inception_cli.names import harmless
from inception_cli.results import plots
from inception_cli.results.samples import BINS, FAILURES, Samples, Shown
from inception_cli.results.scores import ClassScore, Confusion, Scores
from inception_cli.results.truth import Truth

BARS = 40  # classes with a bar at once; the others unfold
NO_PICTURE = '<span class="none">no picture</span>'

Pictures = Mapping[int, str]  # number of a row → its JPEG as base64, "" for none


@dataclass(frozen=True)
class Line:
    """A line of the published table; accuracies in percent, None where nothing is known."""

    name: str
    top1: float | None
    top5: float | None
    top1_ci: tuple[float, float] | None = None
    top5_ci: tuple[float, float] | None = None
    params: int | None = None
    macs: int | None = None  # in mmpretrain's way of counting


@dataclass(frozen=True)
class Judgement:
    """How the rows stand against their truth; the table's lines begin with this measurement."""

    truth: Truth
    scores: Scores
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()  # sentences that belong beside the figures
    finding: str = ""  # of the label doctor


@dataclass(frozen=True)
class Section:
    """A part of the page: its anchor, its name in the contents, its heading, what stands below it."""

    anchor: str
    name: str
    heading: str
    body: str

    @property
    def html(self) -> str:
        heading = f'<h2 id="{self.anchor}-heading">{self.heading}</h2>'
        return (
            f'<section id="{self.anchor}" aria-labelledby="{self.anchor}-heading">\n{heading}\n{self.body}\n</section>'
        )


def text(name: str) -> str:
    """Anybody's text as HTML: it stays text, between quotes as well, and hides nothing."""
    return html.escape(harmless(name))


def title(samples: Samples, judgement: Judgement | None) -> str:
    """What the page is about, in a line."""
    if judgement:
        return f"{judgement.scores.top1:.1f} % right on {photos(judgement.scores.n)}"
    return f"{photos(samples.rows)}, {counted(len(samples.classes), 'class', 'classes')}"


def tiles(samples: Samples, judgement: Judgement | None) -> Iterator[str]:
    """The figures at the top."""
    if judgement:
        scores = judgement.scores
        yield _tile(f"{scores.top1:.2f} %", f"top-1, 95 % interval {_interval(scores.top1_ci)}")
        if scores.top5 is not None and scores.top5_ci:
            yield _tile(f"{scores.top5:.2f} %", f"top-5, 95 % interval {_interval(scores.top5_ci)}")
        yield _tile(f"{scores.n:,}", "photos with an answer, read")
        yield _tile(f"{scores.calibration_error:.1f} %", "expected calibration error, 15 bins")
    else:
        sure = sum(number for (at, _), number in samples.confidence.items() if at >= BINS // 2)
        yield _tile(f"{samples.ok:,}", "photos classified")
        yield _tile(f"{len(samples.classes):,}", "classes found")
        yield _tile(f"{100 * sure / samples.ok:.0f} %" if samples.ok else "–", "of them at least 50 % sure")
    failed = samples.rows - samples.ok
    yield _tile(f"{failed:,}", "files failed" if failed != 1 else "file failed", bad=failed > 0)


def sections(
    samples: Samples, judgement: Judgement | None, confused: Sequence[Confusion], pictures: Pictures
) -> Iterator[Section]:
    """What the rows have to tell, in the order in which people ask."""
    names = judgement.truth.classes.names if judgement else ()
    if judgement:
        yield Section("result", "Result", "Published and measured", _result(judgement))
        yield Section("per-class", "Per class", "Class by class", _per_class(judgement.scores))
        if confused:
            yield Section("confused", "Confused", "Most confused", _confused(samples, confused, pictures, names))
        if samples.mistakes:
            yield Section("mistakes", "Mistakes", "Surest mistakes", _mistakes(samples, pictures, names))
        yield Section("reliability", "Reliability", "Is it as sure as it is right?", _reliability(judgement.scores))
    if samples.ok:
        yield Section("classes", "Classes", "What was found", _classes(samples))
        yield Section("confidence", "Confidence", "How sure it is", _confidence(samples))
        yield Section("gallery", "Gallery", "Gallery", _gallery(samples, pictures, names, judged=judgement is not None))
        yield Section("least-sure", "Least sure", "Least sure", _least_sure(samples, pictures, names))
    if samples.failures:
        yield Section("failed", "Failed", "Failed files", _failed(samples))


def counted(number: int, one: str, many: str) -> str:
    """A number and what it counts."""
    return f"{number:,} {one if number == 1 else many}"


def photos(number: int) -> str:
    """So many photos."""
    return counted(number, "photo", "photos")


def _tile(figure: str, what: str, bad: bool = False) -> str:
    kind = ' class="bad"' if bad else ""
    return f"<div{kind}><dt>{what}</dt><dd>{figure}</dd></div>"


def _note(sentence: str) -> str:
    return f'<p class="note">{sentence}</p>'


def _interval(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.2f}\N{NO-BREAK SPACE}–\N{NO-BREAK SPACE}{interval[1]:.2f}"


# ── Rows alone ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _classes(samples: Samples) -> str:
    most = samples.classes.most_common()
    bars = [_class_bar(samples, index, number, number / most[0][1]) for index, number in most]
    note = _note(f"{photos(samples.ok)} by the class that came first. A name leads to its photos.")
    rest = len(bars) - BARS
    folded = f"<details><summary>{rest:,} more</summary>{_list(bars[BARS:])}</details>" if rest > 0 else ""
    return note + _list(bars[:BARS]) + folded


def _list(bars: Sequence[str]) -> str:
    return f'<ul class="bars">{"".join(bars)}</ul>'


def _class_bar(samples: Samples, index: int, number: int, share: float) -> str:
    name = text(samples.labels[index])
    link = f'<a href="#class-{index}">{name}</a>' if index in samples.gallery else name
    part = f"{number:,}<small>{100 * number / samples.ok:.1f} %</small>"
    return (
        f'<li><span class="name" title="{name}">{link}</span>{plots.bar(share)}<span class="number">{part}</span></li>'
    )


def _confidence(samples: Samples) -> str:
    wrong = [samples.confidence[at, False] for at in range(BINS)]
    others = [samples.confidence[at, True] + samples.confidence[at, None] for at in range(BINS)]
    unknown = sum(number for (_, right), number in samples.confidence.items() if right is None)
    legend = _legend(bar="right, or without an answer" if unknown else "right", wrong="wrong") if any(wrong) else ""
    note = _note("Photos by the score of the class that came first, in steps of 5 %.")
    return f'{note}<figure class="plot">{plots.confidence(others, wrong)}{legend}</figure>'


def _legend(**kinds: str) -> str:
    items = (
        f'<li><svg aria-hidden="true"><rect class="{kind}" width="100%" height="100%"/></svg>{what}</li>'
        for kind, what in kinds.items()
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _gallery(samples: Samples, pictures: Pictures, names: Sequence[str], judged: bool) -> str:
    some = sum(map(len, samples.gallery.values()))
    if some == samples.ok:
        note = f"All {photos(some)} that were read."
    else:
        each = counted(samples.per_class, "photo", "photos")
        note = f"{some:,} of the {photos(samples.ok)} that were read: of each class all, or {each} drawn at random."
    blank = sum(not pictures[shown.number] for group in samples.gallery.values() for shown in group)
    if blank:
        note += f" {blank:,} of these are without a picture: {_BLANK}"
    order = [index for index, _ in samples.classes.most_common() if index in samples.gallery]
    groups = "\n".join(_group(samples, index, pictures, names) for index in order)
    mistakes = '<label><input type="checkbox" id="only-mistakes">Mistakes only</label>' if judged else ""
    return (
        f'{_note(note)}<div class="controls" role="search" hidden>'
        '<label>Search <input type="search" id="search" placeholder="file or class" autocomplete="off"></label>'
        '<label>Confidence from <input type="range" id="least" min="0" max="100" value="0"><b id="least-value">0 %</b>'
        f"</label>{mistakes}<output></output></div>\n{groups}\n"
        '<p class="empty" hidden>No photo here is like that.</p>'
    )


_BLANK = (
    "their files could not be read from here any more, or the page was full. Paths are as they were named, so make the "
    "report in the folder where the photos were classified."
)


def _group(samples: Samples, index: int, pictures: Pictures, names: Sequence[str]) -> str:
    group, number = samples.gallery[index], samples.classes[index]
    part = photos(number) if len(group) == number else f"{len(group):,} of {photos(number)}"
    heading = f"<h3>{text(samples.labels[index])}<small>{part}</small></h3>"
    return f'<div class="group" id="class-{index}">{heading}{_cards(group, pictures, names)}</div>'


def _least_sure(samples: Samples, pictures: Pictures, names: Sequence[str]) -> str:
    note = f"The {photos(len(samples.least_sure))} whose best class has the lowest score: look here first."
    return _note(note) + _cards(samples.least_sure, pictures, names)


def _failed(samples: Samples) -> str:
    failed = samples.rows - samples.ok
    kinds = ", ".join(f"{number:,} {status}" for status, number in samples.statuses.most_common() if status != "ok")
    note = f"{counted(failed, 'file has', 'files have')} a row without a class: {kinds}."
    if failed > FAILURES:
        note += f" The first {FAILURES:,} are listed."
    rows = "".join(
        f'<tr><td class="file">{text(each.row.path)}</td><td><span class="status">{text(each.row.status)}</span></td>'
        f'<td class="reason">{text(each.row.error)}</td></tr>'
        for each in samples.failures
    )
    head = "<thead><tr><th>File</th><th>Status</th><th>Reason</th></tr></thead>"
    return _note(note) + f'<div class="tall" tabindex="0"><table>{head}<tbody>{rows}</tbody></table></div>'


# ── Rows with an answer ──────────────────────────────────────────────────────────────────────────────────────────────


def _result(judgement: Judgement) -> str:
    head = "".join(f'<th class="n">{name}</th>' for name in ("Params (M)", "Flops (G)", "Top-1 (%)", "Top-5 (%)"))
    lines = "".join(_line(line, main=place == 0) for place, line in enumerate(judgement.lines))
    table = (
        f'<div class="scroll"><table><thead><tr><th>Model</th>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
    )
    finding = f'<p class="finding">{text(judgement.finding)}</p>' if judgement.finding else ""
    return finding + table + "".join(_note(text(note)) for note in judgement.notes)


def _line(line: Line, main: bool) -> str:
    size = [f"{value / unit:.2f}" if value else "–" for value, unit in ((line.params, 1e6), (line.macs, 1e9))]
    figures = [*size, _figure(line.top1, line.top1_ci), _figure(line.top5, line.top5_ci)]
    cells = "".join(f'<td class="n">{figure}</td>' for figure in figures)
    kind = ' class="main"' if main else ""
    return f"<tr{kind}><td>{text(line.name)}</td>{cells}</tr>"


def _figure(value: float | None, interval: tuple[float, float] | None) -> str:
    """Percent: with the half-width of its 95 % interval where measured, else as it was published."""
    if value is None:
        return "–"
    if interval is None:
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return f"{value:.2f} <small>± {(interval[1] - interval[0]) / 2:.2f}</small>"


def _per_class(scores: Scores) -> str:
    seen = [each for each in scores.per_class if each.support or each.predicted]
    rest = len(scores.per_class) - len(seen)
    note = "Precision: of the photos taken for a class, how many are of it. Recall: of its photos, how many are found."
    if rest:
        note += f" {counted(rest, 'class', 'classes')} without a photo and never predicted are left out."
    head = "".join(
        f'<th scope="col" aria-sort="none" class="{kind}"><button type="button">{name}</button></th>'
        for name, kind in (
            *(("Class", ""), ("Photos", "n"), ("Predicted", "n"), ("Right", "n")),
            *(("Precision (%)", "n"), ("Recall (%)", "n"), ("F1 (%)", "n")),
        )
    )
    rows = "".join(map(_class_row, seen))
    table = f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return _note(note) + f'<div class="tall" tabindex="0">{table}</div>'


def _class_row(each: ClassScore) -> str:
    counts = "".join(_cell(n, f"{n:,}") for n in (each.support, each.predicted, each.right))
    rates = "".join(
        _cell(rate, "–" if rate is None else f"{rate:.1f}") for rate in (each.precision, each.recall, each.f1)
    )
    return f"<tr><td>{text(each.label)}</td>{counts}{rates}</tr>"


def _cell(value: float | None, shown: str) -> str:
    return f'<td class="n" data-value="{"" if value is None else value}">{shown}</td>'


def _confused(samples: Samples, confused: Sequence[Confusion], pictures: Pictures, names: Sequence[str]) -> str:
    pairs = "".join(
        f'<div class="pair"><div><h3>{text(each.truth_label)} <em>taken for {text(each.predicted_label)}</em></h3>'
        f"<p>{photos(each.count)}</p></div>{_cards(samples.pairs[each.truth, each.predicted], pictures, names)}</div>"
        for each in confused
    )
    return _note("The mistakes that are made most often, and the surest photos of each.") + pairs


def _mistakes(samples: Samples, pictures: Pictures, names: Sequence[str]) -> str:
    note = "The wrong predictions with the highest scores. Often it is the label that is wrong: worth a look."
    return _note(note) + _cards(samples.mistakes, pictures, names)


def _reliability(scores: Scores) -> str:
    note = (
        "Accuracy of the photos in each step of confidence. On the diagonal scores are as sure as they are right; bars "
        "below it are too sure, those above it not sure enough. "
        f"Expected calibration error {scores.calibration_error:.2f} %."
    )
    legend = _legend(bar="right, as the scores say", more="right more often", less="right less often")
    return f'{_note(note)}<figure class="plot">{plots.reliability(scores.reliability)}{legend}</figure>'


# ── Photos ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _cards(some: Iterable[Shown], pictures: Pictures, names: Sequence[str]) -> str:
    return f'<div class="cards">{"".join(_card(each, pictures[each.number], names) for each in some)}</div>'


def _card(each: Shown, picture: str, names: Sequence[str]) -> str:
    """A photo that opens larger; a wrong one says how it is labelled."""
    row, wrong = each.row, each.right is False
    file = text(row.path.rstrip("/").rpartition("/")[2] or row.path)
    image = f'<img src="data:image/jpeg;base64,{picture}" alt="{file}" decoding="async">' if picture else NO_PICTURE
    answer = text(" or ".join(names[index] for index in each.answers))
    kind, labelled = ("card wrong", f'<span class="truth">labelled {answer}</span>') if wrong else ("card", "")
    return (
        f'<button type="button" class="{kind}" data-photo="{each.number}" '
        f'title="{text(row.path)}">{image}<span class="line">'
        f'<span class="label">{text(row.labels[0])}</span><span class="score">{100 * row.scores[0]:.1f} %</span></span>'
        f'{labelled}<span class="file">{file}</span></button>'
    )
