"""The options of the commands, each defined once: its names, its type, its help; see also evaluation_options.py."""

from typing import Annotated, Any, get_args

import typer

from inception_cli.cli.values import (
    CountOrAuto,
    array_file,
    complete,
    count_or_auto,
    crops,
    csv_file,
    familiar,
    html_file,
    min_score,
    onnx_file,
    positive_or_auto,
    predictions_file,
    rollup,
    weights_file,
)
from inception_cli.config import (
    ArrayType,
    CompileChoice,
    Crops,
    Decode,
    Engine,
    PrecisionChoice,
    PresetName,
    TrainPrecisionChoice,
)
from inception_cli.weights.registry import DEMO, FOLDER_PREFIX, HUB_PREFIX, PUBLISHED

WEIGHTS_NAMES = (*PUBLISHED, DEMO, HUB_PREFIX, FOLDER_PREFIX)
DEVICES = ("auto", "cpu", "cuda", "mps")

Inputs = Annotated[
    list[str],
    typer.Argument(metavar="INPUT", help="Folders, files, globs, or - for one path per line on standard input."),
]
TrainDir = Annotated[str, typer.Argument(metavar="DIR", help="Folder with one subfolder of images per class.")]
Rows = Annotated[
    str, typer.Argument(metavar="FILE", help="Predictions of classify or evaluate: a file, or a folder of shards.")
]

Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE|FOLDER",
        callback=predictions_file,
        help="A .csv, .jsonl or .parquet file; - for CSV on standard output; with --engine ray a folder.",
    ),
]
RowsOut = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE|FOLDER",
        callback=predictions_file,
        help="A .csv, .jsonl or .parquet file to keep the predictions in; with --engine ray a folder.",
    ),
]
WeightsOut = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE|DIR/",
        callback=weights_file,
        help="The .safetensors file to write, or a new folder in timm's layout for the Hugging Face hub.",
    ),
]
OnnxOut = Annotated[
    str | None, typer.Option("--out", "-o", metavar="FILE", callback=onnx_file, help="The .onnx file to write.")
]
ReportOut = Annotated[
    str | None, typer.Option("--out", "-o", metavar="FILE", callback=html_file, help="The .html file to write.")
]
ReportFile = Annotated[
    str | None,
    typer.Option("--report", metavar="FILE", callback=html_file, help="Also write an HTML report of the predictions."),
]
Features = Annotated[
    str | None,
    typer.Option("--features", metavar="FILE.npy", callback=array_file, help="Also write the network's features."),
]
Scores = Annotated[
    str | None,
    typer.Option("--scores", metavar="FILE.npy", callback=array_file, help="Also write the scores of all classes."),
]
TypeOfArrays = Annotated[ArrayType, typer.Option("--array-type", help="Number type of --features and --scores.")]
Restart = Annotated[bool, typer.Option("--restart/--resume", help="Start an interrupted run again, or resume it.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite an existing output file.")]
AllowFailures = Annotated[
    bool, typer.Option("--allow-failures", help="Exit with 0 even if some images could not be read.")
]

WEIGHTS = "Weights and preprocessing"


def _weights(text: str, default: str) -> Any:
    """Return the option --weights with the help and the default of a command."""
    return typer.Option(
        "--weights",
        "-w",
        metavar="NAME|FILE",
        autocompletion=complete(WEIGHTS_NAMES),
        help=text,
        show_default=default,
        rich_help_panel=WEIGHTS,
    )


_KINDS_OF_WEIGHTS = (
    "Published weights (see inception info; demo needs no download), a file, local-dir:DIR in timm's layout, or "
    "hf-hub:USER/MODEL, with @REVISION if needed."
)
WeightsNames = Annotated[list[str], _weights(f"{_KINDS_OF_WEIGHTS} Repeat for an ensemble.", default="torchvision")]
ExportedWeights = Annotated[list[str], _weights(_KINDS_OF_WEIGHTS, default="torchvision")]
DescribedWeights = Annotated[
    list[str],
    _weights(
        "Published weights, a file, hf-hub:USER/MODEL or local-dir:DIR. Repeat for an ensemble.",
        default="all published weights",
    ),
]
Preset = Annotated[
    PresetName | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="Preprocess images like this publisher: torchvision, mmpretrain, timm or timm-gluon.",
        show_default="the weights' own",
        rich_help_panel=WEIGHTS,
    ),
]
ClassesFile = Annotated[
    str | None,
    typer.Option(
        "--classes", metavar="FILE", help="Class names in the order of the model's outputs.", rich_help_panel=WEIGHTS
    ),
]
NumberOfCrops = Annotated[
    int,
    typer.Option(
        "--crops",
        parser=crops,
        metavar="1|10|12|144",
        autocompletion=complete(get_args(Crops)),
        help="Views per image; their scores are averaged.",
        rich_help_panel=WEIGHTS,
    ),
]
TopK = Annotated[int, typer.Option("--top-k", "-k", metavar="N", min=1, help="Number of classes per row.")]
DecodeMethod = Annotated[
    Decode,
    typer.Option(
        "--decode",
        help="fast: large JPEGs at a reduced scale. exact: at full size, as the publisher. gpu: JPEGs on a CUDA GPU.",
        rich_help_panel=WEIGHTS,
    ),
]
Exif = Annotated[bool, typer.Option("--exif/--no-exif", help="Apply the EXIF orientation.", rich_help_panel=WEIGHTS)]
ExifOrPreset = Annotated[
    bool | None,
    typer.Option(
        "--exif/--no-exif",
        help="Apply the EXIF orientation.",
        show_default="as the preset's publisher does",
        rich_help_panel=WEIGHTS,
    ),
]
MaxPixels = Annotated[
    CountOrAuto,
    typer.Option(
        "--max-pixels",
        parser=positive_or_auto,
        metavar="N|auto",
        help="Do not decode images with more pixels than this.",
        show_default="the smaller of 500 million and memory / 16 bytes",
        rich_help_panel=WEIGHTS,
    ),
]

LABELS = "Labels"
OnlyClasses = Annotated[
    str | None,
    typer.Option(
        "--only-classes",
        metavar="FILE|a|r|NAMES",
        help="Restrict predictions to these classes: those in a file, ImageNet-A's or -R's, or under nodes: dog,bird.",
        rich_help_panel=LABELS,
    ),
]
MinScore = Annotated[
    float | None,
    typer.Option(
        "--min-score",
        metavar="S",
        callback=min_score,
        help="Give each photo a label, which is unknown where its score is below S (0 to 1).",
        rich_help_panel=LABELS,
    ),
]
Rollup = Annotated[
    float | None,
    typer.Option(
        "--rollup",
        metavar="S",
        callback=rollup,
        help="Give each photo a label: the lowest node of the tree of classes whose scores sum to S (above 0.5).",
        rich_help_panel=LABELS,
    ),
]
Familiar = Annotated[
    float | None,
    typer.Option(
        "--familiar",
        metavar="S",
        callback=familiar,
        help="Give each photo a label: unknown if it is less like the training photos than a share S of these.",
        rich_help_panel=LABELS,
    ),
]

HARDWARE = "Hardware"


def _batch_size(text: str) -> Any:
    """Return the option --batch-size, with the help `text`."""
    return typer.Option(
        "--batch-size", "-b", parser=positive_or_auto, metavar="N|auto", help=text, rich_help_panel=HARDWARE
    )


BatchSize = Annotated[CountOrAuto, _batch_size("Views per batch: one per image, or one per crop.")]
TrainBatchSize = Annotated[
    CountOrAuto,
    _batch_size("Images per training step (auto: 32); the learning rate is proportional to it."),
]
Workers = Annotated[
    CountOrAuto,
    typer.Option(
        "--workers",
        "-j",
        parser=count_or_auto,
        metavar="N|auto",
        help="Workers that decode images.",
        rich_help_panel=HARDWARE,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|cuda:N|mps",
        autocompletion=complete(DEVICES),
        help="Where the network runs.",
        rich_help_panel=HARDWARE,
    ),
]
Precision = Annotated[
    PrecisionChoice, typer.Option("--precision", help="Inference precision.", rich_help_panel=HARDWARE)
]
TrainPrecision = Annotated[
    TrainPrecisionChoice, typer.Option("--precision", help="Training precision.", rich_help_panel=HARDWARE)
]
Compile = Annotated[
    CompileChoice,
    typer.Option("--compile", help="Use torch.compile; auto: where it saves time.", rich_help_panel=HARDWARE),
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        min=1,
        metavar="S",
        help="Seconds that one image may take; no limit with -j 0.",
        rich_help_panel=HARDWARE,
    ),
]
EngineName = Annotated[
    Engine,
    typer.Option(
        "--engine",
        is_eager=True,  # the check of --out depends on it
        help="ray: run on a Ray cluster and write a folder.",
        rich_help_panel=HARDWARE,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT",
        help="Address of the cluster.",
        show_default="RAY_ADDRESS, else a cluster on this machine",
        rich_help_panel=HARDWARE,
    ),
]
Actors = Annotated[
    CountOrAuto,
    typer.Option(
        "--actors",
        parser=positive_or_auto,
        metavar="N|auto",
        help="Number of Ray actors, each with a copy of the network.",
        show_default="one per GPU, else one per machine",
        rich_help_panel=HARDWARE,
    ),
]
Offline = Annotated[
    bool,
    typer.Option("--offline", envvar="INCEPTION_OFFLINE", help="Download nothing.", rich_help_panel=HARDWARE),
]

OUTPUT = "Output"
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.", rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no summary.", rich_help_panel=OUTPUT)]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show the resolved configuration.", rich_help_panel=OUTPUT)
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=OUTPUT)]

From = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="NAME|FILE|scratch",
        autocompletion=complete((*WEIGHTS_NAMES, "scratch")),
        help="Weights to start from, as for classify.",
    ),
]
TrainValDir = Annotated[
    str | None,
    typer.Option(
        "--val-dir",
        metavar="DIR",
        help="Validation images, one folder per class.",
        show_default="a tenth of the images",
    ),
]
Size = Annotated[
    CountOrAuto,
    typer.Option(
        "--size",
        parser=positive_or_auto,
        metavar="S|auto",
        help="Input resolution of the trained network.",
        show_default="that of the starting weights, or 176",
    ),
]
TrainReport = Annotated[
    str | None,
    typer.Option(
        "--report",
        metavar="FILE",
        callback=html_file,
        help="Also write an HTML report: learning curves, mistakes, settings.",
    ),
]
TrainLog = Annotated[
    str | None,
    typer.Option(
        "--log", metavar="FILE.csv", callback=csv_file, help="Also write a CSV file with a line for each epoch."
    ),
]
Epochs = Annotated[
    int, typer.Option("--epochs", min=1, metavar="N", help="Number of training epochs; may be more on resuming.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Random seed.")]

SortedRows = Annotated[
    str | None,
    typer.Argument(metavar="FILE", help="Predictions of classify or evaluate: a file, or a folder of shards."),
]
Into = Annotated[
    str | None, typer.Option("--into", metavar="DIR", help="The folder for the class folders; created if needed.")
]
Copy = Annotated[bool, typer.Option("--copy", help="Copy the photos; this is the default.")]
Link = Annotated[bool, typer.Option("--link", help="Make symbolic links to the photos.")]
Move = Annotated[bool, typer.Option("--move", help="Move the photos.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")]
Undo = Annotated[
    str | None, typer.Option("--undo", metavar="DIR", help="Put back what a sort into DIR has done; without FILE.")
]

UndoTags = Annotated[bool, typer.Option("--undo", help="Remove the keywords that this command has added.")]
