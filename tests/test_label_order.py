"""The label order check finds a wrong numbering of the classes, and nothing where the labels are right."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_metrics import table_of

from inception_cli.config import Classes
from inception_cli.evaluation.class_numbering import numbers_to_indices
from inception_cli.evaluation.label_order import check_label_order
from inception_cli.evaluation.labels import Labels, labels_from_file, labels_from_folders
from inception_cli.predictions.classes import imagenet, synsets
from inception_cli.predictions.prediction import Prediction
from inception_cli.predictions.table import to_frame

FORTY = Classes(tuple(f"{'zyxwvutsrq'[index % 10]}{index}" for index in range(40)))
ALPHABETICAL = sorted(range(40), key=FORTY.names.__getitem__)


def predictions(right: list[int], classes: Classes, share: float = 0.75) -> pd.DataFrame:
    """Return predictions of a model that is right for `share` of the images, and guesses the others."""
    rng = np.random.default_rng(3)
    top = [index if rng.random() < share else int(rng.integers(len(classes))) for index in right]
    return table_of([(index,) for index in top], classes=classes)


def folders(names: list[str], classes: Classes, format: str | None = None) -> Labels:
    """Return labels of images in folders of these names."""
    return labels_from_folders([f"val/{name}/{row}.jpg" for row, name in enumerate(names)], "val", classes, format)


@pytest.mark.parametrize(
    ("format", "cause"),
    [
        ("minus-1", "the labels are numbered from 1"),
        ("plus-1", "the model has a background class before the others"),
        ("rank", "the model was trained on folders 0, 1, 2, … sorted as strings"),
        ("rank-1", "the model was trained on folders 1, 2, 3, … sorted as strings"),
        ("sorted", "the labels number folders 0, 1, 2, … that were sorted as strings"),
        ("skip-13", "class 13 (w13) had no folder when the labels were numbered"),
    ],
)
def test_labels_numbered_in_another_way_are_found(format: str, cause: str) -> None:
    meant = {number: index for number, index in enumerate(numbers_to_indices(format, 40)) if index >= 0}
    numbers = [number for number in meant for _ in range(5)]
    table = predictions([meant[number] for number in numbers], FORTY)

    finding = check_label_order(table, folders([str(number) for number in numbers], FORTY))

    assert finding is not None
    assert (finding.cause, finding.remedy) == (cause, f"--label-format {format}")
    assert finding.given < 40
    assert 70 < finding.explained < 85
    corrected = folders([str(number) for number in numbers], FORTY, format)
    assert check_label_order(table, corrected) is None


def test_ilsvrc_ids_taken_for_indices_are_found() -> None:
    ids = list(range(1, 1000))
    table = predictions([numbers_to_indices("ilsvrc", 1000)[number] for number in ids], imagenet())

    finding = check_label_order(table, folders([str(number) for number in ids], imagenet()))

    assert finding is not None
    assert finding.given < 0.5
    assert 70 < finding.explained < 80
    assert finding.sentence == (
        f"{finding.given:.1f} % as given; {finding.explained:.1f} % if the labels are ILSVRC2012 ids: "
        "use --label-format ilsvrc"
    )


def test_indices_taken_for_ilsvrc_ids_are_found(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("".join(f"{index}\n" for index in range(1, 1000)))
    paths = [f"ILSVRC2012_val_{n:08d}.JPEG" for n in range(1, 1000)]

    finding = check_label_order(
        predictions(list(range(1, 1000)), imagenet()), labels_from_file(file, paths, imagenet())
    )

    assert finding is not None
    assert finding.remedy == "--label-format number"


@pytest.mark.parametrize(
    ("classes", "model", "cause"),
    [
        (FORTY, [ALPHABETICAL.index(index) for index in range(40)], "the model's classes are in alphabetical order"),
        (FORTY, [*range(1, 40), 39], "the model has one more class before the first"),
        (FORTY, [0, *range(39)], "the model lacks the first class"),
        (
            imagenet(),
            [synset.ilsvrc2012_id - 1 for synset in synsets()],
            "the model's classes are in the order of ILSVRC2012 ids",
        ),
    ],
)
def test_a_model_with_classes_in_another_order_than_their_names_is_found(
    classes: Classes, model: list[int], cause: str
) -> None:
    right = [index for index in range(len(classes)) for _ in range(4)]

    finding = check_label_order(
        predictions([model[index] for index in right], classes), folders([classes.names[i] for i in right], classes)
    )

    assert finding is not None
    assert (finding.cause, finding.remedy) == (cause, "--classes with the names in that order, in a new run")


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.9])
@pytest.mark.parametrize("named", [False, True])
def test_nothing_is_found_where_the_labels_are_right(share: float, named: bool) -> None:
    right = [index for index in range(40) for _ in range(10)]

    labels = folders([FORTY.names[index] if named else str(index) for index in right], FORTY)

    assert check_label_order(predictions(right, FORTY, share), labels) is None


def test_a_few_images_are_not_enough_evidence() -> None:
    table = predictions([1, 2, 3, 4, 5], FORTY, share=1)

    assert check_label_order(table, folders(["2", "3", "4", "5", "6"], FORTY)) is None


def test_images_without_a_prediction_are_not_evidence() -> None:
    table = to_frame([Prediction("val/1/0.jpg", "corrupt", error="no image")], 1)

    assert check_label_order(table, folders(["1"], FORTY)) is None


def test_a_gain_of_exactly_ten_points_is_reported() -> None:
    true = [1 + row % 30 for row in range(600)]
    top = [*true[:50], *(index - 1 for index in true[50:160]), *[39] * 440]  # 50 right as given, 110 if counted from 1
    table = table_of([(index,) for index in top], classes=FORTY)

    finding = check_label_order(table, folders([str(index) for index in true], FORTY))

    assert finding
    assert finding.explained < finding.given + 10  # in floating point
    assert finding.remedy == "--label-format minus-1"
