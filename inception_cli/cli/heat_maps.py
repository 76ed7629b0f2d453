"""The options --explain: a heat map over one photo, and the heat maps of a report."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inception_cli.config import Classes
from inception_cli.errors import InceptionError, UsageError
from inception_cli.files.file_kind import file_kind
from inception_cli.files.remote import is_remote
from inception_cli.predictions.text import harmless

if TYPE_CHECKING:
    from inception_cli.cli.progress import ProgressBar
    from inception_cli.config import RunConfig
    from inception_cli.predictions.prediction import Prediction
    from inception_cli.report.heat_maps import Explain
    from inception_cli.storage.store import Manifest

SUFFIXES = (".png", ".jpg", ".jpeg")
#: A photo has changed since its run if the score of its class differs by more. Without a change bf16 differs by at most
#: 0.01 and int8 by 0.34, measured on 611 photos.
SAME_SCORE, SAME_SCORE_INT8 = 0.1, 0.4


def _picture_file(name: str | None) -> str | None:
    """Check before a run that the picture can have this name."""
    if name and file_kind(name, "give another name to --explain") == "folder":
        raise InceptionError(f"{name} is a folder; name a file in it, such as {Path(name, 'heat.png')}")
    if name and Path(name).suffix.lower() not in SUFFIXES:
        raise UsageError(f"--explain {name}: the picture is a .png or .jpg file; give a name that ends in .png")
    if name and is_remote(name):
        raise UsageError(f"--explain {name}: give a file on this machine")
    return name


EXPLAIN = "Heat map"
ExplainFile = Annotated[
    str | None,
    typer.Option(
        "--explain",
        metavar="FILE",
        callback=_picture_file,
        help="Of one photo: draw which places count for its class, as .png or .jpg; computed in fp32.",
        rich_help_panel=EXPLAIN,
    ),
]
ExplainClass = Annotated[
    str | None,
    typer.Option(
        "--explain-class",
        metavar="NAME",
        help="The class of --explain: its name or number.",
        show_default="the best class",
        rich_help_panel=EXPLAIN,
    ),
]
ExplainReport = Annotated[
    bool, typer.Option("--explain", help="Show heat maps of at most 500 photos; needs the weights of the run.")
]


@dataclass(frozen=True)
class PhotoRequest:
    """What --explain of `classify` asks for: the heat map of one photo."""

    photo: str
    file: str
    class_name: str | None  # None: the best class

    def check(self, paths: Sequence[str], classes: Classes) -> None:
        """Raise UsageError for the name of no class, before the photo is classified."""
        from inception_cli.predictions.classes import find_class

        if self.class_name is not None:
            find_class(self.class_name, classes)

    def write(self, run: "RunConfig", quiet: bool) -> None:
        """Draw the map over the photo of a run that has ended, and say what it shows; a bad photo has none."""
        from inception_cli.cli.console import print_line
        from inception_cli.cli.progress import ProgressBar

        with ProgressBar("heat map", quiet) as bar:
            bar.working(f"drawing {harmless(Path(self.file).name)}")
            line = self._draw(run)
        if not quiet:
            print_line(line)

    def _draw(self, run: "RunConfig") -> str:
        """Write the picture, and return a line about it."""
        from inception_cli.files.atomic import replacing
        from inception_cli.images.decode import Failure
        from inception_cli.images.heat_picture import Legend, can_write, draw, encode, signed
        from inception_cli.inference.explain import Explainer, load_view
        from inception_cli.predictions.classes import find_class

        loaded = load_view(self.photo, run.pixels)
        if isinstance(loaded, Failure):
            return f"no heat map: {self.photo}: {loaded.status}, {loaded.error}"
        image, view = loaded
        classes = None if self.class_name is None else [find_class(self.class_name, run.classes)]
        (found,) = Explainer(run, run.plan.device).explain(view.pixels[None], classes)
        name = harmless(run.classes.names[found.index])
        share = f"{100 * found.score:.1f} %"
        total = f"mean {signed(found.values.mean())}, bias {signed(found.bias)}: logit {signed(found.logit)}"
        outside = ("Striped: not seen by the network, which gets the centre crop",) if view.partial else ()
        title = name if can_write(name) else f"class {found.index}"
        legend = Legend(f"{title}  {share}", "Contribution to the logit", (f"{total} (fp32)", *outside))
        (left, right) = found.edges
        picture = draw(image, found.values, view.visible, (left, left, right, right), legend)
        with replacing(Path(self.file), "give another name to --explain") as new:
            new.write(encode(picture, Path(self.file).suffix))
        other = "" if run.plan.precision == "fp32" else f", the prediction in {run.plan.precision}"
        return f"heat map of {name} ({share}) written to {self.file}: {total} (the map is in fp32{other})"


def photo_request(context: typer.Context) -> PhotoRequest | None:
    """Return what the options of `classify` ask for; UsageError for what has no heat map."""
    options: dict[str, Any] = context.params
    file, name, inputs = options["explain"], options["explain_class"], options["inputs"]
    if file is None:
        if name is not None:
            raise UsageError("--explain-class is the class of a heat map: give --explain FILE as well")
        return None
    photo = inputs[0]
    is_there, is_folder = os.path.exists(photo), os.path.isdir(photo)  # noqa: PTH110, PTH112 - may be too long
    several = photo == "-" or is_folder or (has_magic(photo) and not is_there)
    if len(inputs) > 1 or several or is_remote(photo):
        raise UsageError("--explain draws one photo: give one file, or for many inception report FILE --explain")
    if options["engine"] != "local":
        raise UsageError(f"--explain draws one photo on this machine: leave out --engine {options['engine']}")
    if len(options["weights"]) > 1:
        raise UsageError("--explain: a heat map is of one network, not of an ensemble; give one --weights")
    if options["crops"] > 1:
        raise UsageError(f"--explain: a heat map is of one view, not of {options['crops']}; leave out --crops")
    return PhotoRequest(photo, file, name)


def explain_rows(rows: str, manifest: "Manifest | None", bar: "ProgressBar") -> "Explain":
    """Return the function from predictions to their heat maps, once the weights of their run are loaded.

    Raises InceptionError for rows without a manifest, and for weights that are not those of the run; UsageError for an
    ensemble, or several crops.
    """
    if manifest is None:
        raise InceptionError(
            f"{rows}: it has no manifest, which names the weights; classify again, or leave out --explain"
        )
    bar.loading([weights.name for weights in manifest.run.weights])
    from inception_cli import machine
    from inception_cli.inference.explain import Explainer, explain_photos, find_weights_of_run, require_single_view
    from inception_cli.report.heat_maps import HeatMaps, quantise

    run = manifest.run
    try:
        require_single_view(run.pixels.crops, len(run.weights))
    except UsageError as error:
        raise UsageError(f"{rows}: {error}, or leave out --explain") from error
    run = replace(run, weights=(find_weights_of_run(run.weights[0], manifest.directory),))
    explainer = Explainer(run, machine.find_device("auto"))
    tolerance = SAME_SCORE_INT8 if run.plan.precision == "int8" else SAME_SCORE

    def explain(predictions: "Sequence[Prediction]") -> HeatMaps:
        photos = [(prediction.path, prediction.classes[0]) for prediction in predictions]
        maps, changed, edges = [], 0, (0.0, 1.0)
        for prediction, found in zip(predictions, explain_photos(explainer, photos, bar.files), strict=True):
            same = found is not None and abs(found[0].score - prediction.scores[0]) <= tolerance
            changed += found is not None and not same
            maps.append(quantise(found[0].values, found[1]) if found and same else None)
            edges = found[0].edges if found else edges
        return HeatMaps(maps, edges, changed, run.pixels.exif)

    return explain
