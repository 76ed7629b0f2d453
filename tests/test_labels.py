"""Labels and the ways in which classes are numbered."""

from pathlib import Path

import pytest

from inception_cli.errors import InceptionError, UsageError
from inception_cli.results.classes import Classes, imagenet, synsets
from inception_cli.results.labels import NUMBERED, numbering, only_classes, reader, recognise

FRUIT = Classes(("Apple", "Red pear", "kiwi"))
TWELVE = Classes(tuple("abcdefghijkl"))


@pytest.mark.parametrize(
    ("form", "means"),
    [  # of the numbers 0…12, for twelve classes; sorted as strings: 0 1 10 11 2 3 … 9, and 1 10 11 12 2 3 … 9
        ("number", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, -1]),
        ("minus-1", [-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        ("plus-1", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, -1, -1]),
        ("rank", [0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3, -1]),
        ("rank-1", [-1, 0, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2, 3]),
        ("sorted", [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9, -1]),
        ("skip-4", [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, -1, -1]),
    ],
)
def test_numbers_mean_what_their_form_says(form: str, means: list[int]) -> None:
    assert numbering(form, 12) == means
    assert [reader(form, TWELVE)(str(number)) for number in range(13)] == means


def test_ilsvrc_ids_are_those_of_the_devkit() -> None:
    means = numbering("ilsvrc", 1000)

    assert (means[0], means[1], means[490], means[361], means[171], means[822]) == (-1, 278, 65, 970, 230, 809)
    assert sorted(means[1:]) == list(range(1000))


def test_rank_undoes_sorted() -> None:
    assert [numbering("sorted", 1000)[index] for index in numbering("rank", 1000)[:1000]] == list(range(1000))


@pytest.mark.parametrize("label", ["", "-1", "1.5", "²", "x", "99999999999999999999"])
def test_what_is_no_number_of_a_class_is_none(label: str) -> None:
    assert {reader(form, imagenet())(label) for form in NUMBERED} == {-1}


def test_names_are_read_loosely_where_that_is_safe() -> None:
    read = reader("name", Classes(("Red pear", "Crane", "crane")))

    assert [read(name) for name in ("Red pear", "red_pear", "RED PEAR", "Crane", "crane", "CRANE", "pear")] == [
        *(0, 0, 0, 1, 2, -1, -1),
    ]


@pytest.mark.parametrize(
    ("labels", "classes", "form"),
    [
        (["n01440764", "n15075141"], imagenet(), "wnid"),
        (["tench", "toilet_tissue"], imagenet(), "name"),
        (["0", "999", "12"], imagenet(), "number"),
        (["apple", "kiwi", "plum"], FRUIT, "name"),
        (["0", "1"], FRUIT, "number"),
        (["0", "1"], Classes(("2", "0", "1")), "name"),  # the names are numbers, and they win
        (["n01440764"], Classes(("n01440764", "n01443537")), "name"),
        (["plum", "3"], FRUIT, None),
    ],
)
def test_the_form_is_recognised(labels: list[str], classes: Classes, form: str | None) -> None:
    assert recognise(labels, classes) == form


@pytest.mark.parametrize(
    ("form", "what"),
    [
        ("nmae", "choose from wnid, name, number"),
        ("skip-", "choose from wnid"),
        ("skip-N", "choose from wnid"),
        ("wnid", "for ImageNet's"),
        ("ilsvrc", "for ImageNet's"),
    ],
)
def test_a_form_that_cannot_be_is_refused(form: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        reader(form, FRUIT)


def test_subsets_of_imagenet_are_two_hundred_classes_each() -> None:
    a, r = only_classes("a", imagenet()), only_classes("r", imagenet())

    assert (len(a), a[:3], len(r), r[-3:]) == (200, (6, 11, 13), 200, (981, 983, 988))
    with pytest.raises(UsageError, match="for ImageNet's"):
        only_classes("a", FRUIT)


@pytest.mark.parametrize(
    "lines", [("n01443537", "n01440764"), ("goldfish", "tench"), ("1", "0", "1")], ids=["wnid", "name", "number"]
)
def test_a_file_leaves_the_classes_that_it_names(tmp_path: Path, lines: tuple[str, ...]) -> None:
    file = tmp_path / "only.txt"
    file.write_text("\n".join(lines) + "\n")

    assert only_classes(str(file), imagenet()) == (0, 1)
    assert synsets()[0].name == "tench"


@pytest.mark.parametrize(
    ("text", "what"), [("tench\nunicorn\n", "unicorn is no class"), ("", r"\(nothing\) is no class")]
)
def test_a_file_that_names_no_class_is_refused(tmp_path: Path, text: str, what: str) -> None:
    file = tmp_path / "only.txt"
    file.write_text(text)

    with pytest.raises(InceptionError, match=what):
        only_classes(str(file), imagenet())


def test_a_subset_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InceptionError, match="takes a, r, or a file"):
        only_classes(str(tmp_path / "b"), imagenet())
