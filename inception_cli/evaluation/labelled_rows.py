"""Copy the rows of predictions with their labels, to look at mistakes in a spreadsheet or with pandas."""

from collections.abc import Iterator
from pathlib import Path

from inception_cli.evaluation.labels import Labels
from inception_cli.files.atomic import replacing
from inception_cli.predictions.formats import csv_header, quote, read_columns, read_predictions, to_csv
from inception_cli.predictions.text import escape_bytes

#: Columns behind those of the predictions. Not `label`: a file of predictions may have that column.
COLUMNS = "true_label,correct"
#: Between the names of several correct classes.
SEPARATOR = "|"


def write_labelled_rows(file: Path, rows: Path, labels: Labels) -> None:
    """Write the rows of a file of predictions as CSV with two more columns: the label, and whether top-1 is correct.

    Both are empty for a photo without a label; `correct` is empty without a prediction.
    """
    with replacing(file) as stream:
        for line in _lines(rows, labels):
            stream.write(line)


def _lines(rows: Path, labels: Labels) -> Iterator[bytes]:
    k, decided = read_columns(rows)
    yield csv_header(k, decided).removesuffix(b"\n") + f",{COLUMNS}\n".encode()
    for number, prediction in enumerate(read_predictions(rows)):
        correct = labels.of(number)
        names = SEPARATOR.join(labels.classes.names[index] for index in correct)
        scored = bool(correct) and prediction.status == "ok"
        right = str(prediction.classes[0] in correct).lower() if scored else ""
        line = to_csv([prediction], k, decided).removesuffix(b"\n")
        yield line + f",{quote(escape_bytes(names))},{right}\n".encode()
