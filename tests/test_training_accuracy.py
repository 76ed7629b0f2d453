"""What the accuracies of a training say: their intervals, chance, overfitting."""

from dataclasses import replace

import pytest

from inception_cli.evaluation.training import describe_accuracy, describe_chance, describe_gap
from inception_cli.predictions.intervals import binomial_tail, images_of_class_average, least_difference
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


@pytest.mark.parametrize(
    ("right", "n", "share", "probability"),
    [  # scipy.stats.binom.sf(right - 1, n, share)
        (4, 10, 0.1, 0.0127951984),
        (12, 12, 1 / 3, 1.8816764231589195e-06),
        (25_400, 50_000, 0.5, 0.000176250729400744),
        (0, 3, 0.5, 1.0),
        (3, 3, 1.0, 1.0),
    ],
)
def test_the_probability_of_so_many_right_images_is_that_of_the_binomial_distribution(
    right: int, n: int, share: float, probability: float
) -> None:
    assert binomial_tail(right, n, share) == pytest.approx(probability, rel=1e-6)


def test_the_mean_accuracy_of_classes_has_the_variance_of_fewer_images() -> None:
    assert images_of_class_average([10, 0, 5]) == pytest.approx(40 / 3)  # 2² / (1 / 10 + 1 / 5)
    assert images_of_class_average([4, 4, 4]) == 12
    assert images_of_class_average([10, 10, 10]) == 30  # not 29.999999999999996


@pytest.mark.parametrize(
    ("n", "right", "beginning"),
    [
        ([4, 4, 4], [4, 0, 0], "no better than chance: "),
        ([4, 4, 4], [1, 1, 1], "no better than chance: "),
        ([4, 4, 4], [3, 2, 3], "not clearly better than chance: "),  # 8 of 12: 1.9 % by chance, in each of 2 epochs
        ([4, 4, 4], [3, 3, 3], ""),  # 9 of 12: 0.4 %
        ([40, 40, 40], [18, 18, 19], ""),  # 45.8 %: 0.3 %
        ([95, 5], [95, 0], "no better than chance: "),
        ([95, 5], [90, 4], ""),  # 94 % of all, 87.4 % of the classes, as 16 of 19 with a probability of 1/2: 0.2 %
        ([1, 1], [1, 1], "not clearly better than chance: "),  # two of two is a coin twice
        ([0, 6, 6], [0, 5, 2], "not clearly better than chance: "),
        ([50, 0], [50, 0], "no better than chance: "),  # the images of one class show nothing
    ],
)
def test_an_accuracy_that_may_be_chance_is_called_that(n: list[int], right: list[int], beginning: str) -> None:
    sentence = describe_chance(record(n, right), CLASSES)

    assert sentence.partition(": ")[0] == beginning.removesuffix(": ")


def test_the_best_of_many_epochs_must_be_further_above_chance() -> None:
    nine_of_twelve, ten_of_twelve = record([4, 4, 4], [3, 3, 3]), record([4, 4, 4], [3, 3, 4])

    assert describe_chance(replace(nine_of_twelve, epochs=1), CLASSES) == ""
    assert describe_chance(replace(nine_of_twelve, epochs=15), CLASSES).startswith("not clearly better than chance: ")
    assert describe_chance(replace(ten_of_twelve, epochs=15), CLASSES) == ""


def test_few_right_images_of_many_classes_may_be_chance() -> None:
    """Test ten classes with an image each: in the best of 30 epochs, chance gets four or more right in one of three."""
    four, six = ([1] * right + [0] * (10 - right) for right in (4, 6))

    assert describe_chance(record([1] * 10, four, epochs=30), ["apple"] * 10).startswith("not clearly better than")
    assert describe_chance(record([1] * 10, six, epochs=30), ["apple"] * 10) == ""


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
