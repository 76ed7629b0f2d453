"""Build the report: predictions, metrics and thumbnails as one HTML file that needs nothing else.

File and class names come from users. The template escapes every value, and the page's content security policy allows
only its own style and script.
"""

import base64
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from markupsafe import Markup

from inception_cli import __version__
from inception_cli.config import NO_THRESHOLDS, Thresholds
from inception_cli.files.atomic import replacing
from inception_cli.predictions.prediction import Prediction
from inception_cli.predictions.retune import for_saved_rows, read_decided
from inception_cli.predictions.text import existing_path, harmless, unescape_bytes
from inception_cli.predictions.tree import Tree, tree_of
from inception_cli.report import groups, plots
from inception_cli.report.groups import tree_contents
from inception_cli.report.heat_maps import Explain, HeatMaps, choose_photos, page_data
from inception_cli.report.matrix import matrix_table
from inception_cli.report.samples import CONFUSIONS, Sample, Samples, collect_samples
from inception_cli.report.template import environment, read
from inception_cli.storage.store import Manifest, classes_of

if TYPE_CHECKING:  # imports numpy and pandas
    from inception_cli.evaluation.evaluate import Evaluation
    from inception_cli.evaluation.labels import Labels

THUMBNAIL_BYTES = 17_000_000  # of all thumbnails as base64, so that the page stays below 20 MB
CLASS_BARS = 40  # classes that are visible at once; the others unfold
INPUTS_LISTED = 20


@dataclass(frozen=True)
class Description:
    """How the predictions were made: a sentence, and facts by name."""

    lead: str
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """The page of a report, and the number of photos that it shows."""

    page: bytes
    photos: int
    unreadable: int  # of them: without a picture, as the file cannot be read
    over_limit: int  # of them: without a picture, as the page is full
    heat_maps: int | None = None  # photos with one; None: not requested
    changed: int = 0  # photos without a heat map, as they have changed since the run


def write_report(
    file: Path,
    rows: Path,
    manifest: Manifest | None,
    evaluation: "Evaluation | None",
    thumbnail: Callable[[str], bytes],
    thresholds: Thresholds = NO_THRESHOLDS,
    explain: Explain | None = None,
) -> Written:
    """Write the report of the predictions in `rows`; an older `file` is replaced when the new one is complete.

    With `thresholds` the rows are decided again, else they keep the decisions that they have.

    `thumbnail` returns the JPEG of a path, b"" if it cannot be read; it is called from several threads, for at most
    2,000 photos. `explain` returns the heat maps of at most 500 predictions; it is called once.
    """
    description = describe(
        rows, manifest, evaluation, for_saved_rows(thresholds, manifest.run.thresholds if manifest else NO_THRESHOLDS)
    )
    link = partial(file_link, folder=file.absolute().parent)
    classes = classes_of(manifest)
    predictions = read_decided(rows, thresholds, classes)
    written = build_page(predictions, description, evaluation, thumbnail, link, tree_of(classes), explain)
    with replacing(file) as new:
        new.write(written.page)
    return written


def describe(
    rows: Path, manifest: Manifest | None, evaluation: "Evaluation | None", thresholds: Thresholds = NO_THRESHOLDS
) -> Description:
    """Return what the manifest says about inputs, weights, preprocessing and machine, and how labels are decided."""
    facts = {"Ground truth": evaluation.results[0].labels.description} if evaluation else {}
    facts |= {"Labels": str(thresholds)} if thresholds else {}
    if manifest is None:
        return Description(f"Predictions in {rows.name}; the file has no manifest that describes the run.", facts)
    run = manifest.run
    preset = run.pixels.preset
    inputs = ["standard input" if name == "-" else name for name in manifest.inputs]
    more = f", … ({len(inputs):,} in all)" if len(inputs) > INPUTS_LISTED else ""
    speed = f", {manifest.images_per_s:.1f} images/s" if manifest.images_per_s is not None else ""
    facts |= {
        "Inputs": ", ".join(inputs[:INPUTS_LISTED]) + more,
        "Weights": ", ".join(f"{weights.name} (sha256 {weights.sha256})" for weights in run.weights),
        "Preprocessing": f"preset {preset.name}: {preset.size} × {preset.size}, crops: {run.pixels.crops}",
        "Inference": f"{run.plan.device}, {run.plan.precision}{speed}",
        "Versions": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    }
    networks = " and ".join(Path(weights.name).name for weights in run.weights)
    others = f" and {len(inputs) - 1:,} more" if len(inputs) > 1 else ""
    return Description(f"Inception V3 with the weights {networks}, on {inputs[0]}{others}.", facts)


def build_page(
    predictions: Iterable[Prediction],
    description: Description,
    evaluation: "Evaluation | None",
    thumbnail: Callable[[str], bytes],
    link: Callable[[str], str] = lambda path: "",
    tree: Tree | None = None,
    explain: Explain | None = None,
) -> Written:
    """Return the page of a report; `predictions` are read once, and `evaluation` is of the same rows.

    `link` returns the URL of a path, "" for none. `tree` orders the labels of decisions. `explain` returns heat maps.
    """
    labels, metrics = (evaluation.results[0].labels, evaluation.metrics) if evaluation else (None, None)
    confusions = metrics.confusions[:CONFUSIONS] if metrics else ()
    samples = collect_samples(predictions, labels, [(each.true_class, each.predicted_class) for each in confusions])
    explained = choose_photos(samples) if explain else []
    maps = explain([sample.prediction for sample in explained]) if explain and explained else None
    thumbnails, over_limit = _thumbnails(samples, thumbnail)
    unreadable = {number for number, picture in thumbnails.items() if not picture} - over_limit
    by_label = tree_contents(samples.labels, tree)
    gallery = {sample.number for group in samples.gallery.values() for sample in group}
    page = (
        environment()
        .get_template("page.html.j2")
        .render(
            description=description,
            evaluation=evaluation,
            samples=samples,
            confusions=confusions,
            matrix=matrix_table(evaluation.results[0].confusion_matrix) if evaluation else None,
            thumbnails=thumbnails,
            contents=_contents(samples, evaluation),
            groups=groups.by_label(samples, by_label) if samples.labels else groups.by_class(samples),
            by_label=by_label,
            decision_plot=plots.decisions(evaluation.decisions) if evaluation and evaluation.decisions else None,
            confidence_plot=plots.confidence(samples.by_confidence(True, None), samples.by_confidence(False)),
            calibration_plot=plots.calibration(metrics.reliability if metrics else ()),
            plots=plots,
            class_bars_shown=CLASS_BARS,
            gallery_unreadable=len(gallery & unreadable),
            gallery_over_limit=len(gallery & over_limit),
            maps=maps,
            data=_data(samples, labels, link) | _map_data(explained, maps),
            style=Markup(read("page.css")),
            script=Markup(read("page.js")),
            version=__version__,
            date=date.today().isoformat(),
        )
    )
    drawn = sum(each is not None for each in maps.maps) if maps else 0
    return Written(
        page.encode(),
        len(thumbnails),
        len(unreadable),
        len(over_limit),
        drawn if explain else None,
        maps.changed if maps else 0,
    )


def _contents(samples: Samples, evaluation: "Evaluation | None") -> dict[str, str]:
    """Return the sections of the page in order: the name of each by its anchor."""
    evaluated = evaluation is not None
    sections = (
        ("accuracy", "Accuracy", evaluated),
        ("decisions", "Labels", evaluation is not None and evaluation.decisions is not None),
        ("per-class", "Per class", evaluated),
        ("confusion-matrix", "Matrix", evaluation is not None and evaluation.metrics.macro is not None),
        ("confusions", "Confusions", bool(samples.confused)),
        ("mistakes", "Mistakes", bool(samples.mistakes)),
        ("calibration", "Calibration", evaluated),
        ("classes", "Classes", bool(samples.ok)),
        ("confidence", "Confidence", bool(samples.ok)),
        ("gallery", "Gallery", bool(samples.ok)),
        ("least-confident", "Least confident", bool(samples.ok)),
        ("not-ok", "Not ok", bool(samples.not_ok)),
        ("about", "About", True),
    )
    return {anchor: name for anchor, name, present in sections if present}


def _thumbnails(samples: Samples, thumbnail: Callable[[str], bytes]) -> tuple[dict[int, str], set[int]]:
    """Return the thumbnail of each photo as base64 by row number, "" for none, and the photos that have no room."""
    shown = samples.shown()
    uses = Counter(sample.number for sample in shown)
    paths = {sample.number: sample.prediction.path for sample in shown}
    thumbnails, over_limit, room = {}, set(), THUMBNAIL_BYTES
    pictures = encoded_thumbnails(paths.values(), partial(_thumbnail_of, thumbnail=thumbnail))
    for number, encoded in zip(paths, pictures, strict=True):
        room -= len(encoded) * uses[number]
        thumbnails[number] = encoded if room >= 0 else ""
        if encoded and room < 0:
            over_limit.add(number)
    return thumbnails, over_limit


def encoded_thumbnails(paths: Iterable[str], thumbnail: Callable[[str], bytes]) -> Iterator[str]:
    """Yield the thumbnail of each path as base64, "" for one that has none."""
    with ThreadPoolExecutor() as pool:  # decoding releases the GIL
        for picture in pool.map(thumbnail, paths):
            yield base64.b64encode(picture).decode()


def _thumbnail_of(path: str, thumbnail: Callable[[str], bytes]) -> bytes:
    r"""Return the thumbnail of a row's path; a file of predictions holds bytes that are not UTF-8 as `\xNN`."""
    if picture := thumbnail(path):
        return picture
    raw = unescape_bytes(path)
    return thumbnail(raw) if raw != path else b""


def file_link(path: str, folder: Path) -> str:
    r"""Return the URL of a row's file, relative to the page's folder so that both can move; "" for a remote file.

    Relative paths belong to the working directory, and `\xNN` to a byte that is not UTF-8, as for thumbnails.
    """
    if "://" in path:
        return ""
    return quote(os.fsencode(os.path.relpath(existing_path(path), folder)))


def _data(samples: Samples, labels: "Labels | None", link: Callable[[str], str]) -> dict[str, object]:
    """Return the data of the page's script: photos by row number, and the names of their classes by index."""
    photos: dict[int, object] = {}
    classes: dict[int, str] = {}
    for sample in samples.shown():
        prediction = sample.prediction
        url = link(prediction.path)
        label = harmless(prediction.decision.label) if prediction.decision else ""
        shown = (
            harmless(prediction.path),
            prediction.classes,
            prediction.scores,
            sample.labels,
            url,
            label,
            sample.score,
        )
        photos[sample.number] = shown
        classes.update(zip(prediction.classes, map(harmless, prediction.labels), strict=True))
        if labels:
            classes.update((index, harmless(labels.classes.names[index])) for index in sample.labels)
    return {"classes": classes, "photos": photos}


def _map_data(explained: Sequence[Sample], maps: HeatMaps | None) -> dict[str, object]:
    """Return the heat maps for the page's script, if there are any."""
    return {"maps": page_data([sample.number for sample in explained], maps)} if maps else {}
