"""The confusion matrix: how often photos of a class were predicted as each of the classes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inception_cli.config import Classes
from inception_cli.files.atomic import replacing
from inception_cli.predictions.formats import quote
from inception_cli.predictions.text import escape_bytes

#: First cell of the CSV file: rows are labels, columns predictions.
CORNER = "label\\predicted"


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """The cells that are not zero, by row and then by column: of a thousand classes few pairs occur."""

    classes: Classes
    true: NDArray[np.int64]  # (M,) rows: the classes of the labels
    predicted: NDArray[np.int64]  # (M,) columns: the top-1 classes
    counts: NDArray[np.int64]  # (M,) photos

    @classmethod
    def of(cls, classes: Classes, true: NDArray[np.int64], predicted: NDArray[np.int64]) -> "ConfusionMatrix":
        """Return the matrix of photos with the classes `true` and `predicted`, both (N,)."""
        pairs, counts = np.unique(true * len(classes) + predicted, return_counts=True)
        return cls(classes, pairs // len(classes), pairs % len(classes), counts)

    def rows(self, shown: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the counts among some classes, (len(shown), len(shown))."""
        place = np.full(len(self.classes), -1)
        place[shown] = np.arange(len(shown))
        rows, columns = place[self.true], place[self.predicted]
        among = (rows >= 0) & (columns >= 0)
        matrix = np.zeros((len(shown), len(shown)), np.int64)
        matrix[rows[among], columns[among]] = self.counts[among]
        return matrix

    def occurring(self) -> NDArray[np.int64]:
        """Return the classes that have a photo or are predicted, ascending."""
        return np.union1d(self.true, self.predicted)

    def most_confused(self, limit: int) -> NDArray[np.int64]:
        """Return the occurring classes, ascending; of more than `limit` those that take part in most confusions."""
        occurring = self.occurring()
        if len(occurring) <= limit:
            return occurring
        wrong = self.true != self.predicted
        confusions = np.zeros(len(self.classes), np.int64)
        for classes in (self.true, self.predicted):
            np.add.at(confusions, classes[wrong], self.counts[wrong])
        return np.sort(occurring[np.argsort(-confusions[occurring], kind="stable")[:limit]])


def write_confusion_matrix(file: Path, matrix: ConfusionMatrix) -> None:
    """Write the matrix of all classes as CSV, with their names on both sides; rows are labels, columns predictions."""
    names = [quote(escape_bytes(name)) for name in matrix.classes.names]
    starts = np.searchsorted(matrix.true, np.arange(len(names) + 1)).tolist()
    with replacing(file) as stream:
        stream.write((",".join([CORNER, *names]) + "\n").encode())
        for index, name in enumerate(names):  # row by row: the matrix of 10,000 classes has 100 million cells
            cells = np.zeros(len(names), np.int64)
            cells[matrix.predicted[starts[index] : starts[index + 1]]] = matrix.counts[
                starts[index] : starts[index + 1]
            ]
            stream.write((",".join([name, *map(str, cells.tolist())]) + "\n").encode())
