"""What the accuracies of a training say: their intervals, chance, overfitting."""

from dataclasses import replace

import pytest

from inception_cli.evaluation.training import describe_accuracy, describe_chance, describe_gap
from inception_cli.predictions.intervals import best_of, class_average_interval, least_difference, wilson
from inception_cli.weights.training_record import ClassCounts, EpochResult, TrainingRecord

CLASSES = ["apple", "banana", "carton"]


def record(n: list[int], right: list[int], **fields: object) -> TrainingRecord:
    """Return the record of a training with these validation images and correct predictions of each class."""
    average = [100 * good / count for good, count in zip(right, n, strict=True) if count]
    top1 = 100 * sum(right) / sum(n)
    made = TrainingRecord(
        "scratch", 108, sum(n), top1, sum(average) / len(average), 2, 2, 0, 32, "cpu", "fp32", 9.0, "{}"
    )
    return replace(made, val_per_class=ClassCounts(n, right, right), **fields)  # type: ignore[arg-type]


def history(*accuracies: tuple[float, float]) -> tuple[EpochResult, ...]:
    """Return epochs with these accuracies on training and validation images."""
    return tuple(
        EpochResult(number, len(accuracies), 75, 0.04, 1.0, train, val, val, True, 9.0, 9.0)
        for number, (train, val) in enumerate(accuracies, 1)
    )


@pytest.mark.parametrize(("first", "second", "low"), [((56, 70), (48, 80), 5.24), ((9, 10), (3, 10), 17.05)])
def test_the_interval_of_a_difference_is_newcombes(first: tuple[int, int], second: tuple[int, int], low: float) -> None:
    assert least_difference(*first, *second) == pytest.approx(low, abs=0.01)  # his table II, method 10


def test_the_interval_of_the_mean_accuracy_of_classes_is_wilsons_for_fewer_images() -> None:
    # By hand: 90 and 60 %, mean 75 %; 2² / (1 / 10 + 1 / 5) = 13.33 images; a class without images is left out.
    # z² / n = 0.28811; (0.75 + 0.14406 ± 1.95996 · √(0.1875 / 13.333 + 3.8415 / 4 / 177.78)) / 1.28811
    assert class_average_interval([9, 0, 3], [10, 0, 5]) == pytest.approx((48.18, 90.64), abs=0.01)
    assert class_average_interval([2, 2, 3], [4, 4, 4]) == pytest.approx(wilson(7, 12))


@pytest.mark.parametrize(
    ("n", "right", "beginning"),
    [
        ([4, 4, 4], [4, 0, 0], "no better than chance: "),
        ([4, 4, 4], [1, 1, 1], "no better than chance: "),
        ([4, 4, 4], [2, 2, 3], "not clearly better than chance: "),  # 58.3 %, from 32.0 %
        ([4, 4, 4], [3, 2, 3], ""),  # 66.7 %, from 39.1 %
        ([40, 40, 40], [18, 18, 19], ""),  # 45.8 %, from 37.2 %
        ([95, 5], [95, 0], "no better than chance: "),
        ([95, 5], [90, 4], ""),  # 94 % of all, 87.4 % of the classes: from 66.4 %
        ([1, 1], [1, 1], "not clearly better than chance: "),  # two of two is a coin twice
        ([0, 6, 6], [0, 5, 2], "not clearly better than chance: "),
        ([50, 0], [50, 0], "no better than chance: "),  # the images of one class show nothing
    ],
)
def test_an_accuracy_that_may_be_chance_is_called_that(n: list[int], right: list[int], beginning: str) -> None:
    sentence = describe_chance(record(n, right), CLASSES)

    assert sentence.partition(": ")[0] == beginning.removesuffix(": ")


def test_the_best_of_many_epochs_must_be_further_above_chance() -> None:
    eight_of_twelve, ten_of_twelve = record([4, 4, 4], [3, 2, 3]), record([4, 4, 4], [3, 3, 4])

    assert best_of(1) == pytest.approx(1.959964)
    assert best_of(15) == pytest.approx(2.935199)  # the normal distribution's 99.8333rd percentile
    assert wilson(8, 12, best_of(15))[0] == pytest.approx(28.4, abs=0.1)
    assert describe_chance(replace(eight_of_twelve, epochs=1), CLASSES) == ""
    assert describe_chance(replace(eight_of_twelve, epochs=15), CLASSES).startswith("not clearly better than chance: ")
    assert describe_chance(replace(ten_of_twelve, epochs=15), CLASSES) == ""


def test_the_sentence_about_chance_gives_the_figures_and_a_remedy_that_can_be_followed() -> None:
    scratch = record([4, 4, 4], [2, 2, 3])
    start = (
        'not clearly better than chance: always predicting "apple" is right for 33.3 % of these images, and 12 images '
    )

    assert describe_chance(scratch, CLASSES) == (
        f"{start}are too few to tell for the best of 2 epochs; train with more epochs, from published weights "
        "(without --from scratch), or with more images"
    )
    assert describe_chance(replace(scratch, start="torchvision"), CLASSES) == (
        f"{start}are too few to tell for the best of 2 epochs; train with more epochs, or with more images"
    )
    assert describe_chance(replace(scratch, val_per_class=ClassCounts()), []) == ""  # a file of an earlier version


def test_the_accuracy_has_its_interval_and_says_that_it_chose_the_epoch() -> None:
    balanced = record([4, 4, 4], [3, 2, 3])

    assert describe_accuracy(balanced) == (
        "top-1 66.7 % on 12 validation images (95 % interval 39.1 to 86.2); it also chose the epoch, so expect a "
        "little less on other images"
    )
    assert describe_accuracy(replace(balanced, epochs=1)).endswith("to 86.2)")
    assert "to 97.2), mean of the classes 87.4 %" in describe_accuracy(record([95, 5], [90, 4]))


@pytest.mark.parametrize(
    ("accuracies", "measured", "says"),
    [
        ([(33, 33), (40, 42), (60, 50), (80, 58), (97, 58), (100, 58)], 32, True),
        ([(33, 33), (40, 42), (60, 50), (80, 58), (97, 58), (100, 58)], 3, False),  # too few training images
        ([(33, 33), (40, 42), (60, 58), (80, 75), (90, 92), (100, 92)], 32, False),  # no gap
        ([(90, 30), (95, 33), (95, 42), (97, 50), (100, 58), (100, 58)], 32, False),  # a gap that does not grow
        ([(33, 33), (100, 50)], 32, False),  # two epochs have no trend
        ([], 32, False),  # a file of an earlier version
    ],
)
def test_a_growing_gap_is_called_overfitting(accuracies: list[tuple[float, float]], measured: int, says: bool) -> None:
    trained = record([20, 20, 20], [12, 12, 11], history=history(*accuracies), train_photos_measured=measured)

    assert (describe_gap(trained) != "") == says
    if says:
        assert describe_gap(trained) == (
            "overfitting: in the last epochs 98 % of the training images are right and 58 % of the validation images, "
            "a gap of 40 points after -1 in the first epochs; more images of each class help most"
        )
