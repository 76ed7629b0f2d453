"""What the accuracies of a training say, in sentences: how certain they are, chance, and overfitting."""

from collections.abc import Sequence
from statistics import fmean

from inception_cli.errors import plural
from inception_cli.predictions.intervals import (
    binomial_tail,
    images_of_class_average,
    least_difference,
    percent,
    wilson,
)
from inception_cli.weights.training_record import EpochResult, TrainingRecord

#: An accuracy that chance gives with at most this probability is better than chance.
CHANCE = 0.025


def describe_accuracy(record: TrainingRecord) -> str:
    """Return the accuracy of the epoch that was kept, with its 95 % interval, and that it was used to choose it."""
    low, high = accuracy_interval(record)
    sentence = f"top-1 {percent(record.val_top1)} % on {plural(record.val_photos, 'validation image')}"
    sentence += f" (95 % interval {low:.1f} to {high:.1f})"
    if percent(record.val_class_average) != percent(record.val_top1):
        sentence += f", mean of the classes {percent(record.val_class_average)} %"
    chosen = ["the epoch"] * (record.epochs > 1) + ["the last layer"] * record.last_layer_compared
    if chosen:
        sentence += f"; it also chose {' and '.join(chosen)}, so expect a little less on other images"
    return sentence


def accuracy_interval(record: TrainingRecord) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy on the validation images, in percent."""
    return wilson(round(record.val_top1 * record.val_photos / 100), record.val_photos)


def chance_level(record: TrainingRecord) -> float | None:
    """Return the share of the most frequent class among the validation images, in percent; None if it is unknown."""
    counts = record.val_per_class.n
    return 100 * max(counts) / sum(counts) if sum(counts) else None


def describe_chance(record: TrainingRecord, classes: Sequence[str]) -> str:
    """Return a sentence if the network may be no better than one that always predicts the most frequent class, else "".

    Such a network has the share of that class as its accuracy, and the same mean accuracy of the classes as guessing.
    A network is better if chance gives one of the two with a probability of at most 2.5 %, which is divided by the
    number of epochs, as the accuracy chose the epoch (Bonferroni); a last layer that was fitted again and compared
    counts as one more. Where most images are of one class, only the second one can show it. The probabilities are
    exact ones of the binomial distribution, since Wilson's interval is too narrow for this: of 10 images of 10 classes,
    chance gets 4 right in one of 78 epochs.
    """
    counts, level = record.val_per_class, chance_level(record)
    if level is None:
        return ""
    guessed, images = 1 / sum(n > 0 for n in counts.n), int(images_of_class_average(counts.n))
    probability = min(
        binomial_tail(sum(counts.right), sum(counts.n), level / 100),
        binomial_tail(int(round(record.val_class_average * images / 100, 6)), images, guessed),
    )
    if probability <= CHANCE / (record.epochs + record.last_layer_compared):
        return ""
    always = (
        f'always predicting "{classes[counts.n.index(max(counts.n))]}" is right for {percent(level)} % of these images'
    )
    published = "from published weights (without --from scratch), " if record.start == "scratch" else ""
    remedy = f"train with more epochs, {published}or with more images"
    if record.val_top1 <= level:
        return f"no better than chance: {always}; {remedy}"
    few = plural(record.val_photos, "image is", "images are")
    chosen = f" for the best of {record.epochs} epochs" if record.epochs > 1 else ""
    return f"not clearly better than chance: {always}, and {few} too few to tell{chosen}; {remedy}"


def describe_gap(record: TrainingRecord) -> str:
    """Return a sentence if the accuracy on training images has become higher than on validation images, else "".

    Compares the first third of the epochs with the last one, in which the 95 % interval of the gap must be above 0.
    """
    third = len(record.history) // 3
    if not third or not record.train_photos_measured:
        return ""
    before = _means(record.history[:third])
    training, validation = _means(record.history[-third:])
    gap, earlier = training - validation, before[0] - before[1]
    measured, images = record.train_photos_measured, record.val_photos
    least = least_difference(round(training * measured / 100), measured, round(validation * images / 100), images)
    if least <= 0 or gap <= earlier:
        return ""
    return (
        f"overfitting: in the last epochs {percent(training, 0)} % of the training images are right and "
        f"{percent(validation, 0)} % of the validation images, a gap of {gap:.0f} points after {earlier:.0f} in the "
        "first epochs; more images of each class help most"
    )


def _means(results: Sequence[EpochResult]) -> tuple[float, float]:
    """Return the mean accuracies on training and on validation images."""
    return fmean(each.train_top1 for each in results), fmean(each.top1 for each in results)
