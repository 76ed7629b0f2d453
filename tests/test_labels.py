"""Ground truth from folders and from label files of every layout, each with an accuracy calculated by hand."""

import json
from pathlib import Path

import pandas as pd
import pytest

from inception_cli.config import Classes
from inception_cli.errors import InceptionError
from inception_cli.evaluation.labels import Examples, Labels, exclude_images, labels_from_file, labels_from_folders
from inception_cli.evaluation.metrics import compute_metrics
from inception_cli.predictions.classes import imagenet, synsets
from inception_cli.predictions.prediction import Prediction
from inception_cli.predictions.table import to_frame

# Predictions for the first five images of ImageNet's validation set. Their labels are 65, 970, 230, 809 and 516: three
# of five are right. With ReaL's labels the second is right too, and the first is excluded: three of four.
VALIDATION = tuple(f"data/val/ILSVRC2012_val_{n:08d}.JPEG" for n in range(1, 6))
LABELS = (65, 970, 230, 809, 516)
PREDICTED = (65, 795, 230, 1, 516)
WNID = [synset.wnid for synset in synsets()]

FRUIT = Classes(("apple", "red pear", "kiwi"))


def table(paths: tuple[str, ...], predicted: tuple[int, ...], classes: Classes) -> pd.DataFrame:
    return to_frame(
        [
            Prediction(path, "ok", (index,), (classes.names[index],), (0.5,))
            for path, index in zip(paths, predicted, strict=True)
        ],
        1,
    )


def top1(labels: Labels, paths: tuple[str, ...], predicted: tuple[int, ...]) -> float:
    return compute_metrics(table(paths, predicted, labels.classes), labels).top1


DEVKIT = "490\n361\n171\n822\n297\n"
CAFFE = "".join(f"ILSVRC2012_val_{n:08d}.JPEG {label}\n" for n, label in enumerate(LABELS, start=1))
KAGGLE = "ImageId,PredictionString\n" + "".join(
    f"ILSVRC2012_val_{n:08d},{WNID[index]} 85 1 499 272 {WNID[index]} 1 2 3 4 \n"
    for n, index in reversed(list(enumerate(LABELS, start=1)))
)
CSV = "file,width,wnid\n" + "".join(f"{path},500,{WNID[i]}\n" for path, i in zip(VALIDATION, LABELS, strict=True))
REAL = json.dumps([[], [970, 795], [230, 231], [809], [516, 850]])


@pytest.mark.parametrize(
    ("name", "text", "format", "expected"),
    [
        ("ILSVRC2012_validation_ground_truth.txt", DEVKIT, "ilsvrc", 60.0),
        ("synset_labels.txt", "\n".join(WNID[index] for index in LABELS), "wnid", 60.0),
        ("val.txt", CAFFE, "number", 60.0),
        ("dos.txt", CAFFE.replace("\n", "\r\n"), "number", 60.0),
        ("paddle.txt", CAFFE.replace("ILSVRC", "val/ILSVRC"), "number", 60.0),
        ("png.txt", CAFFE.replace("JPEG", "png"), "number", 60.0),
        ("tabs.txt", CAFFE.replace(" ", "\t"), "number", 60.0),
        ("LOC_val_solution.csv", KAGGLE, "wnid", 60.0),
        ("renamed.txt", KAGGLE, "wnid", 60.0),
        ("mine.csv", CSV, "wnid", 60.0),
        ("marked.csv", "\ufeff" + CSV, "wnid", 60.0),
        ("mine.tsv", CSV.replace(",", "\t"), "wnid", 60.0),
        ("continental.csv", CSV.replace(",", ";"), "wnid", 60.0),
        ("real.json", REAL, "number", 75.0),
    ],
)
def test_label_files_of_every_layout_give_the_accuracy(
    tmp_path: Path, name: str, text: str, format: str, expected: float
) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8", newline="")

    labels = labels_from_file(file, VALIDATION, imagenet())

    assert labels.format == format
    assert top1(labels, VALIDATION, PREDICTED) == expected
    assert labels.description.startswith(f"{name}, ")


def test_real_has_sets_of_labels_and_excludes_images_with_none(tmp_path: Path) -> None:
    file = tmp_path / "real.json"
    file.write_text(REAL)

    labels = labels_from_file(file, VALIDATION, imagenet())

    assert [labels.of(row) for row in range(5)] == [(), (795, 970), (230, 231), (809,), (516, 850)]
    assert labels.excluded == Examples(1, (VALIDATION[0],))
    assert (labels.labelled, labels.unlabelled.count) == (4, 0)
    assert labels.description.endswith("4 of 5 photos have a label, 1 excluded")


def test_images_of_the_validation_set_match_by_their_number(tmp_path: Path) -> None:
    file = tmp_path / "val.txt"
    file.write_text(CAFFE)
    paths = (
        "b/ILSVRC2012_val_00000003.png",
        "a/b/ILSVRC2012_val_00000001_n01751748.JPEG",
        "c/ILSVRC2012_val_00000003.JPEG",
    )

    labels = labels_from_file(file, paths, imagenet())

    assert [labels.of(row) for row in range(3)] == [(230,), (65,), (230,)]
    assert labels.unused == Examples(
        3, ("ILSVRC2012_val_00000002.JPEG", "ILSVRC2012_val_00000004.JPEG", "ILSVRC2012_val_00000005.JPEG")
    )


FOLDERS = {
    "wnid": ("n01440764", "n01443537", "n01440764"),
    "name": ("tench", "Goldfish", "tench"),
    "number": ("0", "1", "0"),
}


@pytest.mark.parametrize("format", FOLDERS)
def test_class_folders_give_the_accuracy(format: str) -> None:
    paths = tuple(f"data/val/{folder}/{n}.jpg" for n, folder in enumerate(FOLDERS[format]))

    labels = labels_from_folders(paths, "data/val", imagenet())

    assert labels.format == format
    assert top1(labels, paths, (0, 1, 1)) == pytest.approx(200 / 3)


def test_numbered_folders_are_indices_and_not_ranks_in_a_sorted_list() -> None:
    paths = tuple(f"v2/{n}/x.jpeg" for n in (0, 1, 10, 100, 999))

    labels = labels_from_folders(paths, "v2", imagenet())

    assert list(labels.values) == [0, 1, 10, 100, 999]
    assert (
        labels.description
        == "labels from the folders in v2: numbers (--label-format number); 5 of 5 photos have a label"
    )


def test_two_hundred_folders_are_scored_over_a_thousand_classes() -> None:
    indices = [synset.index for synset in synsets() if synset.in_a]
    paths = tuple(f"imagenet-a/{WNID[index]}/x.jpg" for index in indices)

    assert top1(labels_from_folders(paths, "imagenet-a", imagenet()), paths, tuple(indices)) == 100


def test_a_missing_class_folder_does_not_shift_the_others() -> None:
    paths = ("val/apple/1.jpg", "val/kiwi/1.jpg")

    assert list(labels_from_folders(paths, "val", FRUIT).values) == [0, 2]


@pytest.mark.parametrize("val_dir", ["data/val", "data/val/", "./data/val", "data//val", "data/x/../val"])
def test_the_first_folder_below_val_dir_is_the_class(val_dir: str) -> None:
    paths = ("data/val/kiwi/apple/1.jpg", "data/val/red_pear/2.jpg", "data/val/3.jpg", "data/kiwi/4.jpg", "5.jpg")

    labels = labels_from_folders(paths, val_dir, FRUIT)

    assert [labels.of(row) for row in range(5)] == [(2,), (1,), (), (), ()]
    assert labels.unlabelled == Examples(3, paths[2:])
    assert labels.unknown.count == 0


@pytest.mark.parametrize("path", ["val//kiwi/1.jpg", "val/./kiwi//1.jpg", "./val/kiwi/1.jpg"])
@pytest.mark.parametrize("val_dir", ["val", "val/", "val//", None])
def test_a_path_may_be_spelled_in_another_way(path: str, val_dir: str | None) -> None:
    assert labels_from_folders((path,), val_dir, FRUIT).of(0) == (2,)


def test_a_folder_may_have_a_name_that_is_not_utf8() -> None:
    assert labels_from_folders((r"caf\xe9/kiwi/1.jpg",), "caf\udce9", FRUIT).of(0) == (2,)


def test_without_val_dir_the_folder_of_the_image_is_the_class() -> None:
    paths = ("data/kiwi/apple/1.jpg", "apple/2.jpg", "3.jpg", "/4.jpg")

    labels = labels_from_folders(paths, None, FRUIT)

    assert [labels.of(row) for row in range(4)] == [(0,), (0,), (), ()]


def test_folders_that_are_not_classes_are_named_and_their_images_counted() -> None:
    paths = ("val/apple/1.jpg", "val/plum/1.jpg", "val/plum/2.jpg", "val/fig/1.jpg")

    labels = labels_from_folders(paths, "val", FRUIT)

    assert labels.unknown == Examples(2, ("fig", "plum"))
    assert labels.unlabelled == Examples(3, paths[1:])
    assert labels.labelled == 1


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (
            ("val/plum/1.jpg", "val/fig/1.jpg"),
            "no class is called fig, plum; the classes are apple, red pear, kiwi",
        ),
        (("val/1.jpg",), "val has no class folders with photos; give the folder that holds them"),
        ((), "val has no class folders with photos; give the folder that holds them"),
        (("other/apple/1.jpg",), r"val: none of the photos is in this folder \(the first is other/apple/1.jpg\)"),
    ],
)
def test_folders_of_which_none_is_a_class_are_refused(paths: tuple[str, ...], message: str) -> None:
    with pytest.raises(InceptionError, match=message):
        labels_from_folders(paths, "val", FRUIT)


def test_the_label_format_can_be_given() -> None:
    paths = ("val/490/1.jpg", "val/361/1.jpg")

    labels = labels_from_folders(paths, "val", imagenet(), "ilsvrc")

    assert (labels.format, list(labels.values)) == ("ilsvrc", [65, 970])


def test_a_given_label_format_takes_precedence_over_that_of_the_layout(tmp_path: Path) -> None:
    file = tmp_path / "indices.txt"
    file.write_text("65\n970\n")

    labels = labels_from_file(file, VALIDATION[:2], imagenet(), "number")

    assert list(labels.values) == [65, 970]


def test_a_name_that_is_not_utf8_is_matched_by_its_escaped_form(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("path,label\nval/\\xff.jpg,kiwi\n")
    path = b"val/\xff.jpg".decode("utf-8", "surrogateescape")

    assert list(labels_from_file(file, (path,), FRUIT).values) == [2]
    assert list(labels_from_file(file, (r"val/\xff.jpg",), FRUIT).values) == [2]


COMPOSED, DECOMPOSED = "val/\u00e9t\u00e9.jpg", "val/e\u0301te\u0301.jpg"


@pytest.mark.parametrize("suffix", [".jpg", ""], ids=["with suffix", "no suffix"])
@pytest.mark.parametrize(("name", "path"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_name_matches_its_path_in_another_unicode_form(tmp_path: Path, name: str, path: str, suffix: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"path,label\n{name.removesuffix('.jpg')}{suffix},kiwi\n", encoding="utf-8")

    assert list(labels_from_file(file, (f"data/{path}",), FRUIT).values) == [2]


def test_two_photos_whose_names_differ_in_their_unicode_form_keep_their_own_labels(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"path,label\n{COMPOSED},kiwi\n{DECOMPOSED},apple\n", encoding="utf-8")

    labels = labels_from_file(file, (DECOMPOSED, COMPOSED), FRUIT)

    assert [labels.of(0), labels.of(1)] == [(0,), (2,)]


@pytest.mark.parametrize(("name", "label"), [("p\u00eache", "pe\u0302che"), ("pe\u0302che", "p\u00eache")])
def test_a_class_is_found_in_another_unicode_form(name: str, label: str) -> None:
    labels = labels_from_folders((f"val/{label}/1.jpg",), "val", Classes(("apple", name)))

    assert labels.of(0) == (1,)


@pytest.mark.parametrize(
    ("named", "excluded", "warning"),
    [
        (2, 0, "labels.csv, columns of paths and labels: only 2 of 5 photos have a label"),
        (3, 0, ""),
        (1, 1, "labels.csv, columns of paths and labels: only 1 of 4 photos have a label"),
        (2, 1, ""),
    ],
)
def test_ground_truth_of_fewer_than_half_of_the_photos_has_a_warning(
    tmp_path: Path, named: int, excluded: int, warning: str
) -> None:
    file, exclusions = tmp_path / "labels.csv", tmp_path / "excluded.txt"
    file.write_text("path,label\n" + "".join(f"{n}.jpg,kiwi\n" for n in range(named + excluded)))
    exclusions.write_text("0.jpg\n")
    paths = tuple(f"{n}.jpg" for n in range(5))

    labels = labels_from_file(file, paths, FRUIT)
    labels = exclude_images(labels, exclusions, paths) if excluded else labels

    assert labels.warning.startswith(warning)
    assert bool(labels.warning) == bool(warning)


# Flat lists of images that are not ImageNet's


@pytest.mark.parametrize(
    ("names", "paths", "sets"),
    [
        (("a.jpg", "b.jpg"), ("val/b.jpg", "val/a.jpg"), [(1,), (0,)]),
        (("a", "b"), ("val/b.jpg", "val/a.png"), [(1,), (0,)]),
        (("./x/a.jpg", "./y/a.jpg"), ("val/y/a.jpg", "val/x/a.jpg"), [(1,), (0,)]),
        (("/old/home/val/a.jpg", "/old/home/val/b.jpg"), ("val/b.jpg", "val/a.jpg"), [(1,), (0,)]),
        (("./a.jpg", "b.jpg"), ("val/b.jpg", "val/a.jpg"), [(1,), (0,)]),
        (("x/a.jpg", "b.jpg"), ("y/a.jpg", "y/b.jpg"), [(), (1,)]),
        (("a.jpg", "z.jpg"), ("a.jpg", "c.jpg", "a.jpg"), [(0,), (), (0,)]),
        (("a.jpg", "x/a.jpg"), ("val/x/a.jpg", "val/y/a.jpg"), [(1,), (0,)]),
    ],
    ids=["name", "no suffix", "folders", "moved", "dot", "other folder", "part", "longest"],
)
def test_images_are_matched_by_the_end_of_their_path(
    tmp_path: Path, names: tuple[str, ...], paths: tuple[str, ...], sets: list[tuple[int, ...]]
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("path,label\n" + "".join(f"{name},{index}\n" for index, name in enumerate(names)))

    labels = labels_from_file(file, paths, FRUIT)

    assert [labels.of(row) for row in range(len(paths))] == sets


def test_images_without_a_label_are_counted_and_never_guessed(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("path,label\na.jpg,0\nb.jpg,7\nz.jpg,1\n")

    labels = labels_from_file(file, ("val/a.jpg", "val/b.jpg", "val/c.jpg"), FRUIT)

    assert [labels.of(row) for row in range(3)] == [(0,), (), ()]
    assert labels.unlabelled == Examples(2, ("val/b.jpg", "val/c.jpg"))
    assert labels.unknown == Examples(1, ("7",))
    assert labels.unused == Examples(1, ("z.jpg",))
    assert labels.description == (
        "labels.csv, columns of paths and labels: numbers (--label-format number); 1 of 3 photos have a label"
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "both.csv",
            "path,label\na.jpg,0\n",
            "a.jpg matches both x/a.jpg and y/a.jpg; give names with their folders",
        ),
        (
            "suffix.csv",
            "path,label\na,0\n",
            "a matches both z/a.jpg and z/a.png; give names with their suffixes",
        ),
        ("none.csv", "path,label\nq.jpg,0\n", r"names none of these photos \(its first is q\.jpg\)"),
        ("empty.txt", "", "the file is empty"),
        ("titles.csv", "path,label\n", "names no photos"),
        ("list.json", "[]", "names no photos"),
        ("object.json", '{"a.jpg": 1}', "not a list of lists"),
        ("broken.json", "[[1,", "Expecting value"),
        ("columns.csv", "photo_name,kind\na.jpg,0\n", "has no column called path, file"),
        ("column.csv", "path,kind\na.jpg,0\n", "has no column called wnid"),
        ("headless.txt", "x/a.jpg,0\ny/a.jpg,1\n", "line 1 has no label; a label file has lines of `path label`"),
        ("short.txt", "x/a.jpg 0\ny/a.jpg\n", "line 2 has no label"),
        ("short.csv", "path,label\nx/a.jpg,\n", "x/a.jpg has no label"),
        ("torn.csv", 'path,label\n"x/a.jpg,1\n', "line 2: unexpected end of data"),
        ("twice.csv", "path,label\nx/a.jpg,0\nx/a.jpg,1\n", "x/a.jpg is labelled 0 and 1"),
        ("outside.csv", "path,label\nx/a.jpg,3\n", "no class is called 3; the classes are apple, red pear, kiwi"),
    ],
)
def test_a_file_without_labels_is_refused_in_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    file = tmp_path / name
    file.write_text(text)

    with pytest.raises(InceptionError, match=message) as error:
        labels_from_file(file, ("z/a.jpg", "z/a.png") if name == "suffix.csv" else ("x/a.jpg", "y/a.jpg"), FRUIT)

    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InceptionError, match=r"none\.txt: no such file .*; give a file of labels"):
        labels_from_file(tmp_path / "none.txt", VALIDATION, imagenet())


# Exclusions


@pytest.mark.parametrize(
    "text",
    ["2\n4\n", "ILSVRC2012_val_00000002.JPEG\nval/ILSVRC2012_val_00000004.JPEG\n"],
    ids=["numbers", "paths"],
)
def test_excluded_images_are_not_scored(tmp_path: Path, text: str) -> None:
    file, excluded = tmp_path / "val.txt", tmp_path / "excluded.txt"
    file.write_text(CAFFE)
    excluded.write_text(text)

    labels = exclude_images(labels_from_file(file, VALIDATION, imagenet()), excluded, VALIDATION)

    assert [labels.of(row) for row in range(5)] == [(65,), (), (230,), (), (516,)]
    assert labels.excluded == Examples(2, (VALIDATION[1], VALIDATION[3]))
    assert top1(labels, VALIDATION, PREDICTED) == 100
    assert labels.labelled == 3


def test_excluded_images_add_to_those_that_real_excludes(tmp_path: Path) -> None:
    file, excluded = tmp_path / "real.json", tmp_path / "excluded.txt"
    file.write_text(REAL)
    excluded.write_text("1\n2\n")

    labels = exclude_images(labels_from_file(file, VALIDATION, imagenet()), excluded, VALIDATION)

    assert labels.excluded == Examples(2, VALIDATION[:2])


def test_an_exclusion_list_of_other_images_is_refused(tmp_path: Path) -> None:
    file, excluded = tmp_path / "val.txt", tmp_path / "excluded.txt"
    file.write_text(CAFFE)
    excluded.write_text("40000\n")

    with pytest.raises(InceptionError, match="names none of these photos"):
        exclude_images(labels_from_file(file, VALIDATION, imagenet()), excluded, VALIDATION)
