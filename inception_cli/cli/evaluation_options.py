"""The options of an evaluation: ground truth and metrics, as options.py has those of runs."""

from typing import Annotated, get_args

import typer

from inception_cli.cli.options import OUTPUT
from inception_cli.cli.values import complete, csv_file, percent
from inception_cli.storage.label_sources import LabelFormat

GROUND_TRUTH = "Ground truth"
ValDir = Annotated[
    str | None,
    typer.Option("--val-dir", metavar="DIR", help="Images in one folder per class.", rich_help_panel=GROUND_TRUTH),
]
Predictions = Annotated[
    str | None,
    typer.Option(
        "--predictions",
        metavar="FILE",
        help="Score an existing file (or folder) of predictions.",
        rich_help_panel=GROUND_TRUTH,
    ),
]
LabelFiles = Annotated[
    list[str],
    typer.Option("--labels", metavar="FILE", help="File of labels; repeatable.", rich_help_panel=GROUND_TRUTH),
]
LabelFormatName = Annotated[
    str | None,
    typer.Option(
        "--label-format",
        "--label-form",
        metavar="FORMAT",
        autocompletion=complete(get_args(LabelFormat)),
        help="How labels identify classes, such as wnid, name or number.",
        show_default="detected",
        rich_help_panel=GROUND_TRUTH,
    ),
]
Exclude = Annotated[
    str | None,
    typer.Option(
        "--exclude", metavar="FILE", help="File that lists images not to score.", rich_help_panel=GROUND_TRUTH
    ),
]

METRICS = "Metrics"
PerClass = Annotated[
    str | None,
    typer.Option(
        "--per-class",
        metavar="FILE.csv",
        callback=csv_file,
        help="Write precision, recall and F1 of every class as CSV.",
        rich_help_panel=METRICS,
    ),
]
ConfusionFile = Annotated[
    str | None,
    typer.Option(
        "--confusion",
        metavar="FILE.csv",
        callback=csv_file,
        help="Write the confusion matrix as CSV: a row per label, a column per predicted class.",
        rich_help_panel=METRICS,
    ),
]
RowsWithLabels = Annotated[
    str | None,
    typer.Option(
        "--rows-with-labels",
        metavar="FILE.csv",
        callback=csv_file,
        help="Write a copy of the rows with the columns true_label and correct (top-1).",
        rich_help_panel=METRICS,
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against", metavar="FILE", help="Compare with other predictions (McNemar's test).", rich_help_panel=METRICS
    ),
]
ExpectTop1 = Annotated[
    float | None,
    typer.Option(
        "--expect-top1",
        metavar="X",
        callback=percent,
        help="Exit with 5 if top-1 is below X percent.",
        rich_help_panel=METRICS,
    ),
]
Tolerance = Annotated[
    float,
    typer.Option(
        "--tolerance",
        metavar="T",
        min=0,
        help="Percentage points below the expected top-1 that still pass.",
        rich_help_panel=METRICS,
    ),
]

Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Show the most frequent confusions and, of a run, the resolved configuration.",
        rich_help_panel=OUTPUT,
    ),
]
