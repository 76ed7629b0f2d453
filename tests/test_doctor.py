"""The label doctor finds the order of classes that was missed, and nothing where there is none."""

from pathlib import Path

import numpy as np
import pytest
from test_scores import rows_of

from inception_cli.results.classes import Classes, imagenet, synsets
from inception_cli.results.columns import Columns
from inception_cli.results.doctor import diagnose
from inception_cli.results.labels import numbering
from inception_cli.results.rows import Prediction
from inception_cli.results.truth import Truth, from_file, from_folders

FORTY = Classes(tuple(f"{'zyxwvutsrq'[index % 10]}{index}" for index in range(40)))
ALPHABETICAL = sorted(range(40), key=FORTY.names.__getitem__)


def photos(right: list[int], classes: Classes, share: float = 0.75) -> Columns:
    """Rows of a model that finds the right class for `share` of the photos, and else any."""
    rng = np.random.default_rng(3)
    best = [index if rng.random() < share else int(rng.integers(len(classes))) for index in right]
    return rows_of([(index,) for index in best], classes=classes)


def folders(names: list[str], classes: Classes, form: str | None = None) -> Truth:
    return from_folders([f"val/{name}/{row}.jpg" for row, name in enumerate(names)], "val", classes, form)


@pytest.mark.parametrize(
    ("form", "cause"),
    [
        ("minus-1", "the labels are numbered from 1"),
        ("plus-1", "the model has a background class before the others"),
        ("rank", "the model was trained on folders 0, 1, 2, … sorted as strings"),
        ("rank-1", "the model was trained on folders 1, 2, 3, … sorted as strings"),
        ("sorted", "the labels number folders 0, 1, 2, … that were sorted as strings"),
        ("skip-13", "class 13 (w13) had no folder when the labels were numbered"),
    ],
)
def test_numbers_that_mean_something_else_are_found(form: str, cause: str) -> None:
    meant = {number: index for number, index in enumerate(numbering(form, 40)) if index >= 0}
    numbers = [number for number in meant for _ in range(5)]
    rows = photos([meant[number] for number in numbers], FORTY)

    finding = diagnose(rows, folders([str(number) for number in numbers], FORTY))

    assert finding is not None
    assert (finding.cause, finding.cure) == (cause, f"--label-form {form}")
    assert finding.given < 40
    assert 70 < finding.explained < 85
    assert diagnose(rows, folders([str(number) for number in numbers], FORTY, form)) is None  # the cure mends it


def test_ilsvrc_ids_taken_for_indices_are_found() -> None:
    ids = list(range(1, 1000))
    rows = photos([numbering("ilsvrc", 1000)[number] for number in ids], imagenet())

    finding = diagnose(rows, folders([str(number) for number in ids], imagenet()))

    assert finding is not None
    assert finding.given < 0.5
    assert 70 < finding.explained < 80
    assert finding.sentence == (
        f"{finding.given:.1f} % as given; {finding.explained:.1f} % if the labels are ILSVRC2012 ids: "
        "use --label-form ilsvrc"
    )


def test_indices_taken_for_ilsvrc_ids_are_found(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("".join(f"{index}\n" for index in range(1, 1000)))
    paths = [f"ILSVRC2012_val_{n:08d}.JPEG" for n in range(1, 1000)]

    finding = diagnose(photos(list(range(1, 1000)), imagenet()), from_file(file, paths, imagenet()))

    assert finding is not None
    assert finding.cure == "--label-form number"


@pytest.mark.parametrize(
    ("classes", "model", "cause"),
    [
        (FORTY, [ALPHABETICAL.index(index) for index in range(40)], "the model's classes are in alphabetical order"),
        (FORTY, [*range(1, 40), 39], "the model has a class before the first that is named"),
        (FORTY, [0, *range(39)], "the model lacks the first class that is named"),
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

    finding = diagnose(
        photos([model[index] for index in right], classes), folders([classes.names[i] for i in right], classes)
    )

    assert finding is not None
    assert (finding.cause, finding.cure) == (cause, "--classes with its names in that order")


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.9])
@pytest.mark.parametrize("named", [False, True])
def test_nothing_is_found_where_labels_are_right(share: float, named: bool) -> None:
    right = [index for index in range(40) for _ in range(10)]

    truth = folders([FORTY.names[index] if named else str(index) for index in right], FORTY)

    assert diagnose(photos(right, FORTY, share), truth) is None


def test_few_photos_are_no_evidence() -> None:
    rows = photos([1, 2, 3, 4, 5], FORTY, share=1)

    assert diagnose(rows, folders(["2", "3", "4", "5", "6"], FORTY)) is None


def test_photos_that_all_failed_are_no_evidence() -> None:
    rows = Columns.of([Prediction("val/1/0.jpg", "corrupt", error="no image")], 1)

    assert diagnose(rows, folders(["1"], FORTY)) is None
