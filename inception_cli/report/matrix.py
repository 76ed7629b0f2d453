"""The confusion matrix of a report: its cells, shaded by their share of the row."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imports numpy
    from inception_cli.evaluation.confusion_matrix import ConfusionMatrix

#: Classes that are shown; of more those that take part in most confusions.
CLASSES = 40
#: Shades of cells.
SHADES = 4
OTHERS = "other classes"


@dataclass(frozen=True)
class Cell:
    """The photos of a label with one prediction."""

    count: int
    kind: str  # its CSS class: "right" or "wrong"
    shade: int  # from 1 to SHADES, by the share of the row


@dataclass(frozen=True)
class Row:
    """The photos of one label."""

    name: str
    support: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class MatrixTable:
    """The matrix of the classes that are shown."""

    of: int  # classes that have a photo or are predicted
    names: tuple[str, ...]
    columns: tuple[str, ...]  # the names, and where not all classes are shown OTHERS
    rows: tuple[Row, ...]


def matrix_table(matrix: "ConfusionMatrix") -> MatrixTable:
    """Return the confusion matrix of at most CLASSES classes."""
    shown = matrix.most_confused(CLASSES)
    counts = matrix.rows(shown).tolist()
    names, of = tuple(matrix.classes.names[index] for index in shown), len(matrix.occurring())
    others = of > len(shown)
    support = {index: int(matrix.counts[matrix.true == index].sum()) for index in shown.tolist()}
    rows = [
        _row(name, support[index], row, place, others)
        for place, (name, index, row) in enumerate(zip(names, shown.tolist(), counts, strict=True))
    ]
    return MatrixTable(of, names, (*names, OTHERS) if others else names, tuple(rows))


def _row(name: str, support: int, counts: list[int], diagonal: int, others: bool) -> Row:
    cells = [*counts, support - sum(counts)] if others else counts
    return Row(
        name,
        support,
        tuple(
            Cell(count, "right" if place == diagonal else "wrong", -(-SHADES * count // max(1, support)))
            for place, count in enumerate(cells)
        ),
    )
