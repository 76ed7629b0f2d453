"""Choose what a report shows: counts of all predictions, and a bounded sample of photos, in one pass."""

import heapq
import random
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from inception_cli.predictions.prediction import Prediction

if TYPE_CHECKING:  # imports numpy and pandas
    from inception_cli.evaluation.labels import Labels

BINS = 20  # of confidence, from 0 to 1
GALLERY = 1_800  # photos at most, of all classes together; with the lists below no more than 2,000
LEAST_CONFIDENT = MISTAKES = 48  # photos at most
CONFUSIONS, PER_CONFUSION = 12, 6  # most frequent confusions, and photos of each
NOT_OK = 1_000  # rows at most


class Sample(NamedTuple):
    """A row that a report shows; `labels` are model indices, () without ground truth."""

    number: int  # of the row in its file, from 0
    prediction: Prediction
    labels: tuple[int, ...] = ()

    @property
    def group(self) -> int | str:
        """The group in the gallery: the label of the decision, else the top-1 class."""
        return self.prediction.decision.label if self.prediction.decision else self.prediction.classes[0]

    @property
    def score(self) -> float:
        """The score of `group`, which its card shows."""
        return self.prediction.decision.score if self.prediction.decision else self.prediction.scores[0]

    @property
    def correct(self) -> bool | None:
        """Whether the top-1 class is one of the labels; None without a label."""
        return self.prediction.classes[0] in self.labels if self.labels else None


@dataclass
class Samples:
    """Counts of all rows, and the rows that are shown."""

    statuses: Counter[str] = field(default_factory=Counter)
    classes: Counter[int] = field(default_factory=Counter)  # rows by top-1 class
    class_names: dict[int, str] = field(default_factory=dict)  # of the top-1 classes
    confidence: Counter[tuple[int, bool | None]] = field(default_factory=Counter)  # rows by bin and `Sample.correct`
    labels: Counter[str] = field(default_factory=Counter)  # rows by the label of their decision
    gallery: dict[int | str, list[Sample]] = field(default_factory=dict)  # by top-1 class or label; see `group`
    per_class: int = 0  # photos of one class or label in the gallery at most
    least_confident: list[Sample] = field(default_factory=list)
    mistakes: list[Sample] = field(default_factory=list)  # the most confident first
    confused: dict[tuple[int, int], list[Sample]] = field(default_factory=dict)  # by label and top-1 class
    not_ok: list[Sample] = field(default_factory=list)  # the first rows without prediction

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.statuses.total()

    @property
    def ok(self) -> int:
        """Number of rows with a prediction."""
        return self.statuses["ok"]

    @property
    def confident(self) -> int:
        """Number of photos with a confidence of at least 50 %."""
        return sum(n for (place, _), n in self.confidence.items() if place >= BINS // 2)

    def by_confidence(self, *correct: bool | None) -> list[int]:
        """Return the number of photos in each bin of confidence whose `Sample.correct` is one of `correct`."""
        return [sum(self.confidence[place, each] for each in correct) for place in range(BINS)]

    def shown(self) -> list[Sample]:
        """Return every photo of the page, the most important first; a photo may occur several times."""
        confused = [sample for group in self.confused.values() for sample in group]
        gallery = [sample for group in self.gallery.values() for sample in group]
        return [*self.mistakes, *confused, *self.least_confident, *gallery]


def collect_samples(
    predictions: Iterable[Prediction], labels: "Labels | None" = None, confusions: Collection[tuple[int, int]] = ()
) -> Samples:
    """Read `predictions` once; with the `labels` of the same rows, collect mistakes and photos of `confusions` too.

    `confusions` are pairs of label and predicted class, as model indices.
    """
    samples, gallery = Samples(), _Gallery(GALLERY)
    least_confident, mistakes = _Largest(LEAST_CONFIDENT), _Largest(MISTAKES)
    confused = {pair: _Largest(PER_CONFUSION) for pair in confusions}
    for number, prediction in enumerate(predictions):
        sample = Sample(number, prediction, labels.of(number) if labels else ())
        samples.statuses[prediction.status] += 1
        if prediction.status != "ok":
            if len(samples.not_ok) < NOT_OK:
                samples.not_ok.append(sample)
            continue
        top1, score, correct = prediction.classes[0], prediction.scores[0], sample.correct
        samples.classes[top1] += 1
        samples.class_names.setdefault(top1, prediction.labels[0])
        samples.confidence[min(BINS - 1, int(score * BINS)), correct] += 1
        if prediction.decision:
            samples.labels[prediction.decision.label] += 1
        gallery.add(sample.group, sample)
        least_confident.add(-score, sample)
        if correct is False:
            mistakes.add(score, sample)
            pair = sample.labels[0], top1
            if len(sample.labels) == 1 and pair in confused:
                confused[pair].add(score, sample)
    samples.gallery, samples.per_class = gallery.by_class(), gallery.per_class
    samples.least_confident, samples.mistakes = least_confident.sorted(), mistakes.sorted()
    samples.confused = {pair: largest.sorted() for pair, largest in confused.items()}
    return samples


class _Largest:
    """The `size` samples with the largest keys; of equal keys the first samples."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.heap: list[tuple[float, int, Sample]] = []

    def add(self, key: float, sample: Sample) -> bool:
        """Add the sample if its key is large enough; return whether the number of samples has grown."""
        if len(self.heap) < self.size:
            heapq.heappush(self.heap, (key, -sample.number, sample))
            return True
        if self.heap and key > self.heap[0][0]:
            heapq.heapreplace(self.heap, (key, -sample.number, sample))
        return False

    def shrink(self, size: int) -> None:
        """Keep at most `size` samples from now on."""
        self.size = size
        while len(self.heap) > size:
            heapq.heappop(self.heap)

    def sorted(self) -> list[Sample]:
        """Return the samples, the largest key first."""
        return [sample for _, _, sample in sorted(self.heap, reverse=True)]


class _Gallery:
    """A random sample with an equal share for each class: at most `per_class` photos of each, `limit` in all.

    Each photo draws a random number, and a class keeps the photos with the largest numbers. So a class can be cut back
    at any time and is still a random sample; and since `per_class` only decreases, at most twice the limit are kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = self.per_class = limit
        self.random = random.Random(0).random  # a fixed seed: the same rows give the same gallery
        self.classes: defaultdict[int | str, _Largest] = defaultdict(lambda: _Largest(self.per_class))
        self.size = 0

    def add(self, index: int | str, sample: Sample) -> None:
        if self.classes[index].add(self.random(), sample):
            self.size += 1
            if self.size >= 2 * self.limit:
                self.shrink()

    def shrink(self) -> None:
        """Lower `per_class` to meet the limit; of more classes than the limit the first ones keep one photo each."""
        sizes = [len(largest.heap) for largest in self.classes.values()]
        choices = range(1, self.per_class + 1)
        fitting = bisect_right(choices, self.limit, key=lambda n: sum(min(n, size) for size in sizes))
        self.per_class = max(1, fitting)
        for place, largest in enumerate(self.classes.values()):
            largest.shrink(self.per_class if place < self.limit else 0)
        self.size = sum(len(largest.heap) for largest in self.classes.values())

    def by_class(self) -> dict[int | str, list[Sample]]:
        """Return the samples of each class or label, the highest score first."""
        if self.size > self.limit:
            self.shrink()
        kept = {index: largest.sorted() for index, largest in self.classes.items() if largest.heap}
        return {index: sorted(group, key=lambda sample: -sample.score) for index, group in kept.items()}
