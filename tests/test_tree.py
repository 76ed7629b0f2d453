"""The tree above the classes: ImageNet's nodes and names, own trees, and subsets of classes by node."""

import csv
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from inception_cli.config import Classes, Thresholds
from inception_cli.errors import InceptionError, UsageError
from inception_cli.predictions.classes import imagenet, read_classes, synsets
from inception_cli.predictions.tree import file_before_node, find_classes, imagenet_tree, require_tree, tree_of

FRUIT = "name,parent\napple,pome\npear,pome\nplum,fruit\ncarton,\npome,fruit\n"


def test_the_tree_joins_imagenets_classes_by_wnid() -> None:
    rows = list(csv.DictReader(files("inception_cli").joinpath("data/imagenet_tree.csv").read_text().splitlines()))
    leaves = [row["wnid"] for row in rows if not row["name"]]

    assert sorted(leaves) == [synset.wnid for synset in synsets()]
    assert len(rows) - len(leaves) == len(imagenet_tree().names) == 372
    assert [row["wnid"] for row in rows if not row["parent"]] == ["n00001740"]
    assert all(row["hidden"] in ("", "1") for row in rows)


def test_displayed_names_are_unique_among_nodes_and_classes() -> None:
    names = Counter([*imagenet_tree().names.values(), *imagenet().names])

    assert [name for name, n in names.items() if n > 1] == []
    assert all(name.strip() == name and name for name in names)


def test_the_classes_under_nodes_are_those_of_imagenet() -> None:
    tree = imagenet_tree()

    # ImageNet's dogs are the classes 151 to 268, its snakes 52 to 68, its sharks 2 to 4.
    for node, name, expected in (
        ("n02084071", "dog", range(151, 269)),
        ("n01726692", "snake", range(52, 69)),
        ("n01482330", "shark", range(2, 5)),
    ):
        assert tree.name(node) == name
        assert tree.find_label(name) == node
        assert tree.classes_under(node).tolist() == [*expected]
    assert len(tree.classes_under("n00001740")) == 1000


def test_everyday_names_stand_for_cats_and_hidden_nodes_are_no_labels() -> None:
    tree = imagenet_tree()

    assert tree.name("n02121620") == "cat"
    assert {tree.name(node) for node in tree.hidden} >= {
        *("entity", "object", "whole", "artifact", "instrumentality", "matter", "domestic cat"),
    }
    assert [tree.name(node) for node in tree.ancestors("n02123045")] == ["animal", "mammal", "cat"]  # tabby


def test_own_classes_bring_a_tree(tmp_path: Path) -> None:
    file = tmp_path / "classes.csv"
    file.write_text(FRUIT)

    classes = read_classes(file)

    assert classes.names == ("apple", "pear", "plum", "carton")
    tree = tree_of(classes)
    assert tree
    assert tree.nodes == ("fruit", "pome")
    assert tree.classes_under("fruit").tolist() == [0, 1, 2]
    assert tree.ancestors("pear") == ["fruit", "pome"]


def test_own_classes_with_numbers_bring_a_tree(tmp_path: Path) -> None:
    file = tmp_path / "classes.csv"
    file.write_text("index,name,parent\n1,pear,pome\n0,apple,pome\n,pome,\n")

    assert read_classes(file) == Classes(("apple", "pear"), (("pear", "pome"), ("apple", "pome")))


def test_the_tree_is_of_the_column_of_names(tmp_path: Path) -> None:
    file = tmp_path / "classes.csv"
    file.write_text("label,class_name,parent\n1,dog,animal\n0,cat,animal\n,animal,thing\n")

    classes = read_classes(file)

    assert classes == Classes(("cat", "dog"), (("dog", "animal"), ("cat", "animal"), ("animal", "thing")))
    tree = tree_of(classes)
    assert tree
    assert tree.classes_under("thing").tolist() == [0, 1]


def test_every_leaf_of_a_tree_is_a_class() -> None:
    with pytest.raises(UsageError, match="'0' is in the tree, but is no class"):
        Classes(("cat", "dog"), (("0", "animal"), ("1", "animal")))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name,parent\na,b\nb,c\nc,b\n", "'b' is above itself"),
        (
            "name,parent\na,n0\n" + "".join(f"n{i},n{i + 1}\n" for i in range(100)),
            "'a' has more than 100 nodes above it",
        ),
        ("name,parent\na,x\nb,x\nx,y\nx,z\n", "'x' has two parents"),
        ("name,parent\na,unknown\n", "unknown is the label of photos without another one"),
        ("name,parent\na,x > y\n", "must not contain >"),
        ("name,parent\na,x\nb>c,\n", "'b>c': a name in a tree must not contain >"),
    ],
)
def test_a_damaged_tree_is_refused_in_one_line(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "classes.csv"
    file.write_text(text)

    with pytest.raises(InceptionError, match=rf"classes\.csv: .*{problem}.*; correct the column parent"):
        read_classes(file)


def test_classes_without_a_tree_refuse_rollup() -> None:
    assert tree_of(Classes(("a", "b"))) is None
    require_tree(Classes(("a", "b")), Thresholds(min_score=0.9))
    with pytest.raises(UsageError, match=r"rollup needs a tree above the classes, and a, b.*column parent"):
        require_tree(Classes(("a", "b")), Thresholds(rollup=0.9))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dog", [*range(151, 269)]),
        ("n02084071", [*range(151, 269)]),
        ("shark,snake", [*range(2, 5), *range(52, 69)]),
        ("n01440764, goldfish", [0, 1]),
        ("Tench", [0]),
    ],
)
def test_nodes_and_classes_select_classes(
    text: str, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert [*find_classes(text, imagenet())] == expected
    assert file_before_node(text, imagenet()) == ""


def test_classes_without_a_tree_are_selected_by_name() -> None:
    assert find_classes("pear,apple", Classes(("apple", "plum", "pear"))) == (0, 2)


@pytest.mark.parametrize("text", ["dog,,cat", "dog,", ","])
def test_a_comma_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="a name is missing beside a comma"):
        find_classes(text, imagenet())


def test_an_empty_file_of_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("\n")

    with pytest.raises(InceptionError, match=r"few\.txt: the file is empty; give one wnid, name or index per line"):
        find_classes(str(tmp_path / "few.txt"), imagenet())


@pytest.mark.parametrize("text", ["dgo", "dog,unicorn"])
def test_an_unknown_node_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no file and no class"):
        find_classes(text, imagenet())


def test_a_file_wins_over_a_node_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dog").write_text("tench\n")
    Path("mine").write_text("tench\n")

    assert find_classes("dog", imagenet()) == (0,)
    assert "the file dog is read" in file_before_node("dog", imagenet())
    assert file_before_node("mine", imagenet()) == ""


def test_the_licence_of_wordnet_is_beside_the_tree() -> None:
    text = files("inception_cli").joinpath("data/LICENSE").read_text()

    assert "WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved." in text
    assert "imagenet_tree.csv" in text
