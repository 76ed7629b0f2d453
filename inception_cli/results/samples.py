"""Rows → what a report needs of them: counts, and a bounded number of rows to show. One pass, whatever their number."""

import heapq
import random
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from inception_cli.results.rows import Prediction
from inception_cli.results.truth import Truth

BINS = 20  # of confidence, from 0 to 1
GALLERY = 1_800  # photos at most, of all classes together; with those below no more than 2,000
LEAST_SURE = MISTAKES = 48  # photos at most
PAIRS, PER_PAIR = 12, 6  # most confused pairs, and photos of each
FAILURES = 1_000  # rows at most


@dataclass(frozen=True)
class Shown:
    """A row that a report shows; `answers` are model indices, () where nothing is known."""

    number: int  # of the row in its file, from 0
    row: Prediction
    answers: tuple[int, ...] = ()

    @property
    def right(self) -> bool | None:
        """Whether the first class is a right answer; None: there is no answer."""
        return self.row.classes[0] in self.answers if self.answers else None


@dataclass
class Samples:
    """Counts of all rows, and the rows that are shown."""

    statuses: Counter[str] = field(default_factory=Counter)
    classes: Counter[int] = field(default_factory=Counter)  # rows by the class that came first
    labels: dict[int, str] = field(default_factory=dict)  # of the classes that came first
    confidence: Counter[tuple[int, bool | None]] = field(default_factory=Counter)  # rows by bin and whether right
    gallery: dict[int, list[Shown]] = field(default_factory=dict)  # by the class that came first, the surest first
    per_class: int = 0  # photos of one class in the gallery at most
    least_sure: list[Shown] = field(default_factory=list)
    mistakes: list[Shown] = field(default_factory=list)  # wrong, the surest first
    pairs: dict[tuple[int, int], list[Shown]] = field(default_factory=dict)  # (answer, predicted), the surest first
    failures: list[Shown] = field(default_factory=list)  # the first ones

    @property
    def rows(self) -> int:
        return self.statuses.total()

    @property
    def ok(self) -> int:
        return self.statuses["ok"]


class _Best:
    """The `size` rows of the largest keys; of equal ones the first."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.heap: list[tuple[float, int, Shown]] = []

    def offer(self, key: float, shown: Shown) -> None:
        if len(self.heap) < self.size:
            heapq.heappush(self.heap, (key, -shown.number, shown))
        elif self.heap and key > self.heap[0][0]:
            heapq.heapreplace(self.heap, (key, -shown.number, shown))

    def cut(self, size: int) -> None:
        """Keep no more than `size`, now and from now on."""
        self.size = size
        while len(self.heap) > size:
            heapq.heappop(self.heap)

    def sorted(self) -> list[Shown]:
        return [shown for _, _, shown in sorted(self.heap, reverse=True)]


class _Gallery:
    """An even sample: of each class all photos, or `level` drawn at random; `limit` photos in all.

    Each photo draws a number, and a class keeps those with the largest. So a class can be cut back at any moment and
    is still a fair sample; and since the level only falls as photos come, no more than twice the limit are kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = self.level = limit
        self.draw = random.Random(0).random  # the same rows, the same gallery
        self.kept: dict[int, _Best] = {}
        self.size = 0

    def offer(self, index: int, shown: Shown) -> None:
        best = self.kept.setdefault(index, _Best(self.level))
        before = len(best.heap)
        best.offer(self.draw(), shown)
        self.size += len(best.heap) - before
        if self.size >= 2 * self.limit:
            self.cut()

    def cut(self) -> None:
        """Lower the level until the limit is kept; of more classes than that the first ones have one photo each."""
        sizes = [len(best.heap) for best in self.kept.values()]
        self.level = next(
            (level for level in range(self.level, 1, -1) if sum(min(level, size) for size in sizes) <= self.limit), 1
        )
        for place, best in enumerate(self.kept.values()):
            best.cut(self.level if place < self.limit else 0)
        self.size = sum(len(best.heap) for best in self.kept.values())

    def shown(self) -> dict[int, list[Shown]]:
        """By class, the surest first."""
        if self.size > self.limit:
            self.cut()
        listed = {index: best.sorted() for index, best in self.kept.items() if best.heap}
        return {index: sorted(some, key=lambda shown: -shown.row.scores[0]) for index, some in listed.items()}


def gather(rows: Iterable[Prediction], truth: Truth | None = None, pairs: Collection[tuple[int, int]] = ()) -> Samples:
    """Read `rows` once; with `truth`, which is of the same rows, mistakes too, and photos of the `pairs` confused."""
    samples, gallery = Samples(), _Gallery(GALLERY)
    least_sure, mistakes = _Best(LEAST_SURE), _Best(MISTAKES)
    confused = {pair: _Best(PER_PAIR) for pair in pairs}
    for number, row in enumerate(rows):
        shown = Shown(number, row, truth.answers(number) if truth else ())
        samples.statuses[row.status] += 1
        if row.status != "ok":
            if len(samples.failures) < FAILURES:
                samples.failures.append(shown)
            continue
        first, score, right = row.classes[0], row.scores[0], shown.right
        samples.classes[first] += 1
        samples.labels.setdefault(first, row.labels[0])
        samples.confidence[min(BINS - 1, int(score * BINS)), right] += 1
        gallery.offer(first, shown)
        least_sure.offer(-score, shown)
        if right is False:
            mistakes.offer(score, shown)
            pair = shown.answers[0], first
            if len(shown.answers) == 1 and pair in confused:
                confused[pair].offer(score, shown)
    samples.gallery, samples.per_class = gallery.shown(), gallery.level
    samples.least_sure, samples.mistakes = least_sure.sorted(), mistakes.sorted()
    samples.pairs = {pair: best.sorted() for pair, best in confused.items()}
    return samples
