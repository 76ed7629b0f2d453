"""The options of the command line, each described once: its names, its form, its help."""

from pathlib import Path
from typing import Annotated

import typer

from inception_cli import completion
from inception_cli.errors import InceptionError, UsageError
from inception_cli.results.formats import check_suffix


def number_or_auto(text: str) -> int:
    """A count; `auto` is -1 here, since a parser of Typer's must not give None."""
    if text == "auto":
        return -1
    if not text.isdigit():
        raise typer.BadParameter(f"{text!r} is neither a number nor auto")
    return int(text)


def or_auto(number: int) -> int | None:
    """What `number_or_auto` read, for settings: None is auto."""
    return None if number < 0 else number


def one_engine(name: str) -> str:
    """The engine's name, checked."""
    if name not in ("local", "ray"):
        raise UsageError(f"--engine {name}: choose local or ray")
    return name


def html_file(option: typer.CallbackParam, name: str) -> str:
    """The name of a report that can be written: said before a run that takes hours, not after it."""
    file, asked = Path(name), option.opts[0]
    if not name:
        return name
    if file.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{asked} {name}: the report is a file that ends in .html; name one")
    if not file.parent.is_dir():
        raise InceptionError(f"{file.parent}: no such folder; make it, or choose another {asked}")
    if file.is_dir():
        raise InceptionError(f"{file} is a folder; name a file in it, such as {file / 'report.html'}")
    return name


def rows_file(context: typer.Context, name: str) -> str:
    """The name of a file of rows that can be written; `classify` has them on standard output too."""
    if context.params.get("engine") == "ray":  # which writes a folder
        return name
    if name and not (name == "-" and context.info_name == "classify"):
        try:
            check_suffix(Path(name))
        except InceptionError as error:
            raise UsageError(f"--out {error}") from error
    return name


Inputs = Annotated[list[str], typer.Argument(metavar="INPUT", help="Folders, files, globs, or - for a path a line.")]
TrainDir = Annotated[str, typer.Argument(metavar="DIR", help="A folder of class folders with photos in them.")]

Rows = Annotated[
    str, typer.Argument(metavar="FILE", help="Rows that classify or evaluate wrote: a file, or a folder of parts.")
]

Out = Annotated[
    str,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE|FOLDER",
        callback=rows_file,
        help="A .csv, .jsonl or .parquet file; - for CSV on standard output; with --engine ray a folder.",
    ),
]
RowsOut = Annotated[
    str,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE|FOLDER",
        callback=rows_file,
        help="A .csv, .jsonl or .parquet file that keeps the rows; with --engine ray a folder.",
    ),
]
WeightsOut = Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="The .safetensors file to make.")]
ReportOut = Annotated[
    str, typer.Option("--out", "-o", metavar="FILE", callback=html_file, help="The .html file to make.")
]
ReportFile = Annotated[
    str, typer.Option("--report", metavar="FILE", callback=html_file, help="An .html file that shows the rows.")
]
Restart = Annotated[bool, typer.Option("--restart/--resume", help="Begin an interrupted run again.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite a finished file.")]
AllowFailures = Annotated[bool, typer.Option("--allow-failures", help="Exit with 0 though some images failed.")]

WEIGHTS = "Weights and pixels"
WeightsNames = Annotated[
    list[str],
    typer.Option(
        "--weights",
        "-w",
        metavar="NAME|FILE",
        autocompletion=completion.among(completion.WEIGHTS),
        help="A name (`inception info` lists them; demo needs no download) or a file. Several are an ensemble.",
        show_default="torchvision",
        rich_help_panel=WEIGHTS,
    ),
]
PresetName = Annotated[
    str,
    typer.Option(
        "--preset",
        metavar="NAME",
        autocompletion=completion.among(completion.PRESETS),
        help="Pixels as this publisher makes them.",
        rich_help_panel=WEIGHTS,
    ),
]
ClassesFile = Annotated[
    str,
    typer.Option("--classes", metavar="FILE", help="Class names in the model's order.", rich_help_panel=WEIGHTS),
]
Crops = Annotated[
    int,
    typer.Option(
        "--crops",
        metavar="1|10|12|144",
        autocompletion=completion.among(completion.CROPS),
        help="Views of a photo, averaged.",
        rich_help_panel=WEIGHTS,
    ),
]
TopK = Annotated[int, typer.Option("--top-k", "-k", metavar="N", min=1, help="Best classes in a row.")]
Decode = Annotated[
    str,
    typer.Option(
        "--decode",
        metavar="fast|exact|gpu",
        autocompletion=completion.among(completion.DECODES),
        help="fast: large JPEGs at a fraction of their size; exact: the publisher's pixels; gpu: JPEGs by a CUDA GPU.",
        rich_help_panel=WEIGHTS,
    ),
]
Exif = Annotated[
    bool, typer.Option("--exif/--no-exif", help="Turn photos as their camera says.", rich_help_panel=WEIGHTS)
]
ExifOrPreset = Annotated[
    bool | None,
    typer.Option(
        "--exif/--no-exif",
        help="Turn photos as their camera says.",
        show_default="as the preset's publisher does",
        rich_help_panel=WEIGHTS,
    ),
]
MaxPixels = Annotated[
    int,
    typer.Option(
        "--max-pixels",
        metavar="N",
        help="Larger pictures are not decoded.",
        show_default="500 million, or memory / 16 bytes",
        rich_help_panel=WEIGHTS,
    ),
]

MACHINE = "This machine"
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size",
        "-b",
        parser=number_or_auto,
        metavar="N|auto",
        help="Views that go through the network together.",
        rich_help_panel=MACHINE,
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        "-j",
        parser=number_or_auto,
        metavar="N|auto",
        help="Processes that decode.",
        rich_help_panel=MACHINE,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|cuda:N|mps",
        autocompletion=completion.among(completion.DEVICES),
        help="Where the network runs.",
        rich_help_panel=MACHINE,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="auto|fp32|bf16|fp16",
        autocompletion=completion.among(completion.PRECISIONS),
        help="Numbers of the network.",
        rich_help_panel=MACHINE,
    ),
]
Compile = Annotated[
    str,
    typer.Option(
        "--compile",
        metavar="auto|on|off",
        autocompletion=completion.among(completion.COMPILE),
        help="By torch.compile; auto: where it pays.",
        rich_help_panel=MACHINE,
    ),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", min=1, metavar="S", help="Seconds that one photo may take.", rich_help_panel=MACHINE),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="local|ray",
        callback=one_engine,
        is_eager=True,  # what --out may be depends on it
        help="ray: a cluster, which writes a folder.",
        rich_help_panel=MACHINE,
    ),
]
RayAddress = Annotated[
    str,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT",
        help="The cluster's head.",
        show_default="RAY_ADDRESS, else one of this machine alone",
        rich_help_panel=MACHINE,
    ),
]
Actors = Annotated[
    int,
    typer.Option(
        "--actors",
        min=0,
        metavar="N",
        help="Networks at work in the cluster.",
        show_default="one a GPU, else one a machine",
        rich_help_panel=MACHINE,
    ),
]
Offline = Annotated[
    bool,
    typer.Option("--offline", envvar="INCEPTION_OFFLINE", help="Fetch nothing.", rich_help_panel=MACHINE),
]

OUTPUT = "What is said"
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.", rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.", rich_help_panel=OUTPUT)]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say what was decided.", rich_help_panel=OUTPUT)]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=OUTPUT)]

TRUTH = "Ground truth"
ValDir = Annotated[
    str,
    typer.Option("--val-dir", metavar="DIR", help="Photos; the first folder is the class.", rich_help_panel=TRUTH),
]
Predictions = Annotated[
    str,
    typer.Option(
        "--predictions", metavar="FILE", help="Score rows that exist (a file or folder).", rich_help_panel=TRUTH
    ),
]
LabelFiles = Annotated[
    list[str],
    typer.Option("--labels", metavar="FILE", help="Right answers; repeatable.", rich_help_panel=TRUTH),
]
LabelForm = Annotated[
    str,
    typer.Option(
        "--label-form",
        metavar="FORM",
        autocompletion=completion.among(completion.LABEL_FORMS),
        help="How labels are to be read.",
        rich_help_panel=TRUTH,
    ),
]
Exclude = Annotated[
    str, typer.Option("--exclude", metavar="FILE", help="Photos that are not scored.", rich_help_panel=TRUTH)
]
OnlyClasses = Annotated[
    str,
    typer.Option(
        "--only-classes",
        metavar="a|r|FILE",
        help="The classes that may be answered: ImageNet-A's, -R's, or a file's.",
        rich_help_panel=TRUTH,
    ),
]

JUDGE = "Judgement"
PerClass = Annotated[
    str,
    typer.Option("--per-class", metavar="FILE", help="Precision, recall, F1 as CSV.", rich_help_panel=JUDGE),
]
Against = Annotated[
    str,
    typer.Option("--against", metavar="FILE", help="Other rows: flips, McNemar's p.", rich_help_panel=JUDGE),
]
ExpectTop1 = Annotated[
    float | None,
    typer.Option("--expect-top1", metavar="X", help="Exit with 5 below this top-1 (%).", rich_help_panel=JUDGE),
]
Tolerance = Annotated[
    float, typer.Option("--tolerance", metavar="T", min=0, help="Points below it that pass.", rich_help_panel=JUDGE)
]

From = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="NAME|FILE|scratch",
        autocompletion=completion.among(completion.STARTS),
        help="Weights that the training starts from.",
    ),
]
TrainValDir = Annotated[
    str,
    typer.Option("--val-dir", metavar="DIR", help="Photos that judge.", show_default="a tenth of the photos"),
]
Size = Annotated[
    int,
    typer.Option("--size", metavar="S", help="Pixels of the new weights' square.", show_default="the start's, or 176"),
]
Epochs = Annotated[int, typer.Option("--epochs", min=1, metavar="N", help="Times that every photo is seen.")]
Seed = Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Another seed, another training.")]
