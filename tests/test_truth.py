"""Ground truth in every form, each with a figure worked out by hand."""

import json
from pathlib import Path

import pytest

from inception_cli.errors import InceptionError
from inception_cli.results.classes import Classes, imagenet, synsets
from inception_cli.results.columns import Columns
from inception_cli.results.rows import Prediction
from inception_cli.results.scores import score
from inception_cli.results.truth import Some, Truth, exclude, from_file, from_folders

# The first five photos of ImageNet's validation set, and what a model made of them. Their labels are 65, 970, 230, 809
# and 516, so three of five are right; for ReaL the second is right too, and the first not to be scored: three of four.
VALIDATION = tuple(f"data/val/ILSVRC2012_val_{n:08d}.JPEG" for n in range(1, 6))
LABELS = (65, 970, 230, 809, 516)
PREDICTED = (65, 795, 230, 1, 516)
WNID = [synset.wnid for synset in synsets()]

FRUIT = Classes(("apple", "red pear", "kiwi"))


def rows(paths: tuple[str, ...], predicted: tuple[int, ...], classes: Classes) -> Columns:
    return Columns.of(
        [
            Prediction(path, "ok", (index,), (classes.names[index],), (0.5,))
            for path, index in zip(paths, predicted, strict=True)
        ],
        1,
    )


def top1(truth: Truth, paths: tuple[str, ...], predicted: tuple[int, ...]) -> float:
    return score(rows(paths, predicted, truth.classes), truth).top1


DEVKIT = "490\n361\n171\n822\n297\n"
CAFFE = "".join(f"ILSVRC2012_val_{n:08d}.JPEG {label}\n" for n, label in enumerate(LABELS, start=1))
KAGGLE = "ImageId,PredictionString\n" + "".join(
    f"ILSVRC2012_val_{n:08d},{WNID[index]} 85 1 499 272 {WNID[index]} 1 2 3 4 \n"
    for n, index in reversed(list(enumerate(LABELS, start=1)))
)
CSV = "file,width,wnid\n" + "".join(f"{path},500,{WNID[i]}\n" for path, i in zip(VALIDATION, LABELS, strict=True))
REAL = json.dumps([[], [970, 795], [230, 231], [809], [516, 850]])


@pytest.mark.parametrize(
    ("name", "text", "form", "expected"),
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
def test_a_file_of_labels_gives_its_figure(tmp_path: Path, name: str, text: str, form: str, expected: float) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8", newline="")

    truth = from_file(file, VALIDATION, imagenet())

    assert truth.form == form
    assert top1(truth, VALIDATION, PREDICTED) == expected
    assert truth.described.startswith(f"{name}, ")


def test_real_has_sets_of_answers_and_leaves_the_empty_ones_out(tmp_path: Path) -> None:
    file = tmp_path / "real.json"
    file.write_text(REAL)

    truth = from_file(file, VALIDATION, imagenet())

    assert [truth.answers(row) for row in range(5)] == [(), (795, 970), (230, 231), (809,), (516, 850)]
    assert truth.excluded == Some(1, (VALIDATION[0],))
    assert (truth.covered, truth.uncovered.count) == (4, 0)
    assert truth.described.endswith("4 of 5 photos have an answer, 1 excluded")


def test_only_the_number_of_an_imagenet_photo_counts(tmp_path: Path) -> None:
    file = tmp_path / "val.txt"
    file.write_text(CAFFE)
    paths = (
        "b/ILSVRC2012_val_00000003.png",
        "a/b/ILSVRC2012_val_00000001_n01751748.JPEG",
        "c/ILSVRC2012_val_00000003.JPEG",
    )

    truth = from_file(file, paths, imagenet())

    assert [truth.answers(row) for row in range(3)] == [(230,), (65,), (230,)]
    assert truth.unused == Some(
        3, ("ILSVRC2012_val_00000002.JPEG", "ILSVRC2012_val_00000004.JPEG", "ILSVRC2012_val_00000005.JPEG")
    )


FOLDERS = {
    "wnid": ("n01440764", "n01443537", "n01440764"),
    "name": ("tench", "Goldfish", "tench"),
    "number": ("0", "1", "0"),
}


@pytest.mark.parametrize("form", FOLDERS)
def test_class_folders_give_their_figure(form: str) -> None:
    paths = tuple(f"data/val/{folder}/{n}.jpg" for n, folder in enumerate(FOLDERS[form]))

    truth = from_folders(paths, "data/val", imagenet())

    assert truth.form == form
    assert top1(truth, paths, (0, 1, 1)) == pytest.approx(200 / 3)


def test_numbered_folders_are_numbers_and_not_places_in_a_sorted_list() -> None:
    paths = tuple(f"v2/{n}/x.jpeg" for n in (0, 1, 10, 100, 999))

    truth = from_folders(paths, "v2", imagenet())

    assert list(truth.values) == [0, 1, 10, 100, 999]
    assert truth.described == "folders below v2: numbers (--label-form number); 5 of 5 photos have an answer"


def test_two_hundred_folders_are_judged_over_a_thousand_classes() -> None:
    indices = [synset.index for synset in synsets() if synset.in_a]
    paths = tuple(f"imagenet-a/{WNID[index]}/x.jpg" for index in indices)

    assert top1(from_folders(paths, "imagenet-a", imagenet()), paths, tuple(indices)) == 100


def test_a_missing_folder_moves_no_other() -> None:
    paths = ("val/apple/1.jpg", "val/kiwi/1.jpg")

    assert list(from_folders(paths, "val", FRUIT).values) == [0, 2]


@pytest.mark.parametrize("val_dir", ["data/val", "data/val/", "./data/val", "data//val", "data/x/../val"])
def test_the_first_folder_below_val_dir_is_the_class(val_dir: str) -> None:
    paths = ("data/val/kiwi/apple/1.jpg", "data/val/red_pear/2.jpg", "data/val/3.jpg", "data/kiwi/4.jpg", "5.jpg")

    truth = from_folders(paths, val_dir, FRUIT)

    assert [truth.answers(row) for row in range(5)] == [(2,), (1,), (), (), ()]
    assert truth.uncovered == Some(3, paths[2:])
    assert truth.unknown.count == 0


def test_without_val_dir_the_folder_of_the_photo_is_the_class() -> None:
    paths = ("data/kiwi/apple/1.jpg", "apple/2.jpg", "3.jpg", "/4.jpg")

    truth = from_folders(paths, None, FRUIT)

    assert [truth.answers(row) for row in range(4)] == [(0,), (0,), (), ()]


def test_folders_that_are_no_class_are_named_and_their_photos_counted() -> None:
    paths = ("val/apple/1.jpg", "val/plum/1.jpg", "val/plum/2.jpg", "val/fig/1.jpg")

    truth = from_folders(paths, "val", FRUIT)

    assert truth.unknown == Some(2, ("fig", "plum"))
    assert truth.uncovered == Some(3, paths[1:])
    assert truth.covered == 1


@pytest.mark.parametrize(
    ("paths", "what"),
    [
        (
            ("val/plum/1.jpg", "val/fig/1.jpg"),
            "no class is called fig, plum; classes are such as apple, red pear, kiwi",
        ),
        (("val/1.jpg",), "folders below val: there are none"),
        ((), "folders below val: there are none"),
    ],
)
def test_folders_of_which_none_is_a_class_are_refused(paths: tuple[str, ...], what: str) -> None:
    with pytest.raises(InceptionError, match=what):
        from_folders(paths, "val", FRUIT)


def test_the_form_can_be_forced() -> None:
    paths = ("val/490/1.jpg", "val/361/1.jpg")

    truth = from_folders(paths, "val", imagenet(), "ilsvrc")

    assert (truth.form, list(truth.values)) == ("ilsvrc", [65, 970])


def test_a_forced_form_wins_over_that_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "indices.txt"
    file.write_text("65\n970\n")

    truth = from_file(file, VALIDATION[:2], imagenet(), "number")

    assert list(truth.values) == [65, 970]


def test_a_name_that_is_no_utf8_is_found(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(b"path,label\nval/\xff.jpg,kiwi\n")
    path = b"val/\xff.jpg".decode("utf-8", "surrogateescape")

    assert list(from_file(file, (path,), FRUIT).values) == [2]
    assert list(from_file(file, (r"val/\xff.jpg",), FRUIT).values) == [2]


# Flat lists of photos that are not ImageNet's


@pytest.mark.parametrize(
    ("names", "paths", "answers"),
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
def test_photos_are_matched_by_the_end_of_their_path(
    tmp_path: Path, names: tuple[str, ...], paths: tuple[str, ...], answers: list[tuple[int, ...]]
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("path,label\n" + "".join(f"{name},{index}\n" for index, name in enumerate(names)))

    truth = from_file(file, paths, FRUIT)

    assert [truth.answers(row) for row in range(len(paths))] == answers


def test_photos_without_a_label_are_counted_and_never_guessed(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("path,label\na.jpg,0\nb.jpg,7\nz.jpg,1\n")

    truth = from_file(file, ("val/a.jpg", "val/b.jpg", "val/c.jpg"), FRUIT)

    assert [truth.answers(row) for row in range(3)] == [(0,), (), ()]
    assert truth.uncovered == Some(2, ("val/b.jpg", "val/c.jpg"))
    assert truth.unknown == Some(1, ("7",))
    assert truth.unused == Some(1, ("z.jpg",))
    assert truth.described == (
        "labels.csv, columns of paths and labels: numbers (--label-form number); 1 of 3 photos have an answer"
    )


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("both.csv", "path,label\na.jpg,0\n", "a.jpg means both x/a.jpg and y/a.jpg; name photos with their folders"),
        ("none.csv", "path,label\nq.jpg,0\n", "names none of the photos, but such as q.jpg"),
        ("empty.txt", "", "it is empty"),
        ("titles.csv", "path,label\n", "names no photos"),
        ("list.json", "[]", "names no photos"),
        ("object.json", '{"a.jpg": 1}', "no list of lists"),
        ("broken.json", "[[1,", "Expecting value"),
        ("columns.csv", "photo_name,kind\na.jpg,0\n", "has no column called path, file"),
        ("column.csv", "path,kind\na.jpg,0\n", "has no column called wnid"),
        ("headless.txt", "x/a.jpg,0\ny/a.jpg,1\n", "line 1 has no label; --labels takes lines of `path label`"),
        ("short.txt", "x/a.jpg 0\ny/a.jpg\n", "line 2 has no label"),
        ("short.csv", "path,label\nx/a.jpg,\n", "x/a.jpg has no label"),
        ("torn.csv", 'path,label\n"x/a.jpg,1\n', "line 2: unexpected end of data"),
        ("twice.csv", "path,label\nx/a.jpg,0\nx/a.jpg,1\n", "x/a.jpg is labelled 0 and 1"),
        ("outside.csv", "path,label\nx/a.jpg,3\n", "no class is called 3; classes are such as apple, red pear, kiwi"),
    ],
)
def test_a_file_that_gives_no_truth_is_refused_with_a_line(tmp_path: Path, name: str, text: str, what: str) -> None:
    file = tmp_path / name
    file.write_text(text)

    with pytest.raises(InceptionError, match=what) as error:
        from_file(file, ("x/a.jpg", "y/a.jpg"), FRUIT)

    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InceptionError, match=r"none\.txt: No such file .*--labels takes a file"):
        from_file(tmp_path / "none.txt", VALIDATION, imagenet())


# Exclusions


@pytest.mark.parametrize(
    "text",
    ["2\n4\n", "ILSVRC2012_val_00000002.JPEG\nval/ILSVRC2012_val_00000004.JPEG\n"],
    ids=["numbers", "paths"],
)
def test_a_blacklist_takes_photos_out(tmp_path: Path, text: str) -> None:
    labels, blacklist = tmp_path / "val.txt", tmp_path / "blacklist.txt"
    labels.write_text(CAFFE)
    blacklist.write_text(text)

    truth = exclude(from_file(labels, VALIDATION, imagenet()), blacklist, VALIDATION)

    assert [truth.answers(row) for row in range(5)] == [(65,), (), (230,), (), (516,)]
    assert truth.excluded == Some(2, (VALIDATION[1], VALIDATION[3]))
    assert top1(truth, VALIDATION, PREDICTED) == 100
    assert truth.covered == 3


def test_a_blacklist_adds_to_what_real_leaves_out(tmp_path: Path) -> None:
    labels, blacklist = tmp_path / "real.json", tmp_path / "blacklist.txt"
    labels.write_text(REAL)
    blacklist.write_text("1\n2\n")

    truth = exclude(from_file(labels, VALIDATION, imagenet()), blacklist, VALIDATION)

    assert truth.excluded == Some(2, VALIDATION[:2])


def test_a_blacklist_of_other_photos_is_refused(tmp_path: Path) -> None:
    labels, blacklist = tmp_path / "val.txt", tmp_path / "blacklist.txt"
    labels.write_text(CAFFE)
    blacklist.write_text("40000\n")

    with pytest.raises(InceptionError, match="names none of the photos"):
        exclude(from_file(labels, VALIDATION, imagenet()), blacklist, VALIDATION)
