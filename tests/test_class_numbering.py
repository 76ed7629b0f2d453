"""How the text of a label identifies a class, and the subsets of ImageNet's classes."""

from pathlib import Path

import pytest

from inception_cli.config import Classes
from inception_cli.errors import InceptionError, UsageError
from inception_cli.evaluation.class_numbering import NUMBER_FORMATS, label_lookup, numbers_to_indices
from inception_cli.predictions.classes import imagenet, recognise, synsets
from inception_cli.predictions.tree import find_classes

FRUIT = Classes(("Apple", "Red pear", "kiwi"))
TWELVE = Classes(tuple("abcdefghijkl"))


@pytest.mark.parametrize(
    ("format", "indices"),
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
def test_numbers_mean_the_indices_of_their_format(format: str, indices: list[int]) -> None:
    assert numbers_to_indices(format, 12) == indices
    assert [label_lookup(format, TWELVE)(str(number)) for number in range(13)] == indices


def test_ilsvrc_ids_are_those_of_the_devkit() -> None:
    indices = numbers_to_indices("ilsvrc", 1000)

    assert [indices[number] for number in (0, 1, 490, 361, 171, 822)] == [-1, 278, 65, 970, 230, 809]
    assert sorted(indices[1:]) == list(range(1000))


def test_rank_undoes_sorted() -> None:
    assert [numbers_to_indices("sorted", 1000)[index] for index in numbers_to_indices("rank", 1000)[:1000]] == list(
        range(1000)
    )


@pytest.mark.parametrize("label", ["", "-1", "1.5", "²", "x", "99999999999999999999"])
def test_text_that_is_not_the_number_of_a_class_has_no_index(label: str) -> None:
    assert {label_lookup(format, imagenet())(label) for format in NUMBER_FORMATS} == {-1}


def test_case_and_underscores_of_names_make_no_difference_where_names_stay_distinct() -> None:
    lookup = label_lookup("name", Classes(("Red pear", "Crane", "crane")))

    assert [lookup(name) for name in ("Red pear", "red_pear", "RED PEAR", "Crane", "crane", "CRANE", "pear")] == [
        *(0, 0, 0, 1, 2, -1, -1),
    ]


@pytest.mark.parametrize(
    ("labels", "classes", "format"),
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
def test_the_format_is_recognised(labels: list[str], classes: Classes, format: str | None) -> None:
    assert recognise(labels, classes) == format


@pytest.mark.parametrize(
    ("format", "message"),
    [
        ("nmae", "choose from wnid, name, number"),
        ("skip-", "choose from wnid"),
        ("skip-N", "choose from wnid"),
        ("wnid", "for ImageNet's"),
        ("ilsvrc", "for ImageNet's"),
    ],
)
def test_an_unknown_or_unsuitable_format_is_refused(format: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        label_lookup(format, FRUIT)


def test_subsets_of_imagenet_have_two_hundred_classes_each() -> None:
    a, r = find_classes("a", imagenet()), find_classes("r", imagenet())

    assert (len(a), a[:3], len(r), r[-3:]) == (200, (6, 11, 13), 200, (981, 983, 988))
    with pytest.raises(UsageError, match="for ImageNet's"):
        find_classes("a", FRUIT)


@pytest.mark.parametrize(
    "lines", [("n01443537", "n01440764"), ("goldfish", "tench"), ("1", "0", "1")], ids=["wnid", "name", "number"]
)
def test_a_file_selects_the_classes_that_it_names(tmp_path: Path, lines: tuple[str, ...]) -> None:
    file = tmp_path / "only.txt"
    file.write_text("\n".join(lines) + "\n")

    assert find_classes(str(file), imagenet()) == (0, 1)
    assert synsets()[0].name == "tench"


@pytest.mark.parametrize(
    ("text", "message"),
    [("tench\nunicorn\n", "unicorn is not a class"), ("", "the file is empty; give one wnid, name or index per line")],
)
def test_a_file_with_an_unknown_class_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "only.txt"
    file.write_text(text)

    with pytest.raises(InceptionError, match=message):
        find_classes(str(file), imagenet())


def test_a_subset_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InceptionError, match="give a, r, or a file"):
        find_classes(str(tmp_path / "b"), imagenet())
