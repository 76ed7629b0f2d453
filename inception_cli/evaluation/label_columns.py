"""Find the column of labels in a CSV: the one whose values are classes of the model."""

from collections.abc import Sequence
from dataclasses import dataclass

from inception_cli.config import Classes
from inception_cli.errors import excerpt
from inception_cli.evaluation.class_numbering import is_number_format, label_lookup
from inception_cli.predictions.classes import is_number, recognise

LABEL_COLUMNS = (
    *("wnid", "synset", "index", "class_index", "class_id", "label", "target", "truth"),
    *("class", "category", "name", "class_name"),
)


@dataclass(frozen=True)
class Column:
    """A column that may hold the labels."""

    position: int
    title: str
    indices: list[int]  # the class that each row means, -1 for none
    by_number: bool  # whether its values are numbers of classes, rather than names or wnids
    is_id: bool  # whether it numbers the rows: each number occurs once

    @property
    def known(self) -> int:
        """Number of rows whose value is a class."""
        return sum(index >= 0 for index in self.indices)

    @property
    def complete(self) -> bool:
        """Whether every value is a class."""
        return self.known == len(self.indices)


def find_label_column(
    titles: Sequence[str], rows: Sequence[Sequence[str]], path: int, classes: Classes, format: str | None
) -> int:
    """Return the position of the column of labels; `path` is that of the paths, `format` that of the labels if given.

    Names go before numbers, which may be counted from 1. Columns with a title in LABEL_COLUMNS are considered; without
    names among them others that hold nothing but names of classes, too. ValueError if there is no column of labels, or
    if two columns contradict each other.
    """
    listed = [titles.index(title) for title in LABEL_COLUMNS if title in titles and titles.index(title) != path]
    columns = [_column(position, titles, rows, classes, format) for position in listed]
    if not any(column.known and not column.by_number for column in columns):
        others = [position for position in range(len(titles)) if position != path and position not in listed]
        added = (_column(position, titles, rows, classes, format) for position in others)
        columns += [column for column in added if rows and column.complete and not column.by_number]
    if not columns:
        raise ValueError(
            f"its first line ({', '.join(titles)[:80]}) has no column called {', '.join(LABEL_COLUMNS)}, "
            "and no other column holds names of the classes"
        )
    columns = [column for column in columns if column.known] or columns[:1]
    if any(2 * column.known >= len(rows) and not column.is_id for column in columns):
        columns = [column for column in columns if not column.is_id]
    names = _best([column for column in columns if not column.by_number], rows, path)
    numbers = _best([column for column in columns if column.by_number], rows, path)
    best = _better(names, numbers, rows, path) if names and numbers else names or numbers
    assert best is not None  # there is a column
    return best.position


def _column(
    position: int, titles: Sequence[str], rows: Sequence[Sequence[str]], classes: Classes, format: str | None
) -> Column:
    texts = [row[position].strip() if position < len(row) else "" for row in rows]
    distinct = set(texts)
    kind = format or recognise(distinct, classes) or "name"
    lookup = label_lookup(kind, classes)
    index = {text: lookup(text) for text in distinct}
    is_id = len(texts) > 1 and len(distinct) == len(texts) and all(map(is_number, distinct))
    return Column(position, titles[position], [index[text] for text in texts], is_number_format(kind), is_id)


def _best(columns: Sequence[Column], rows: Sequence[Sequence[str]], path: int) -> Column | None:
    """Return the column of one kind with the most classes; ValueError if another is complete, too, and contradicts."""
    best = max(columns, key=lambda column: column.known, default=None)
    for column in columns:
        if best and column.complete and (row := _contradiction(best, column)) is not None:
            raise _contradict(best, column, rows[row][path])
    return best


def _better(names: Column, numbers: Column, rows: Sequence[Sequence[str]], path: int) -> Column:
    """Return the column with more classes if names and numbers agree, else the names if the numbers are another count.

    Numbers of another count (from 1, or in another order) always go with the same name.
    """
    row = _contradiction(names, numbers)
    if row is None:
        return max(names, numbers, key=lambda column: column.known)
    pairs = {pair for pair in zip(names.indices, numbers.indices, strict=True) if min(pair) >= 0}
    one_to_one = len(pairs) == len({name for name, _ in pairs}) == len({number for _, number in pairs})
    is_other_count = one_to_one or (names.title in LABEL_COLUMNS and not numbers.complete)
    if is_other_count and 2 * names.known >= len(names.indices):
        return names
    raise _contradict(names, numbers, rows[row][path])


def _contradiction(one: Column, other: Column) -> int | None:
    """Return the first row in which two columns name different classes."""
    pairs = enumerate(zip(one.indices, other.indices, strict=True))
    return next((row for row, pair in pairs if min(pair) >= 0 and pair[0] != pair[1]), None)


def _contradict(one: Column, other: Column, path: str) -> ValueError:
    return ValueError(
        f"the columns {one.title} and {other.title} contradict each other (first at {excerpt(path)}); keep one of them"
    )
