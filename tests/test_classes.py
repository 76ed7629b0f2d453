"""Class names, and ImageNet's table."""

from pathlib import Path

import pytest

from inception_cli.config import Classes
from inception_cli.errors import InceptionError
from inception_cli.predictions.classes import imagenet, is_imagenet, read_classes, synsets


def test_imagenet_has_a_thousand_different_names() -> None:
    assert len(imagenet()) == len(set(imagenet().names)) == 1000
    assert (imagenet().names[0], imagenet().names[134], imagenet().names[517], imagenet().names[999]) == (
        *("tench", "crane bird", "crane", "toilet tissue"),
    )


def test_index_is_the_order_of_wnids_as_strings() -> None:
    wnids = [synset.wnid for synset in synsets()]

    assert wnids == sorted(wnids)
    assert [synset.index for synset in synsets()] == list(range(1000))


def test_devkit_ids_are_a_permutation_and_not_index_plus_one() -> None:
    ids = [synset.ilsvrc2012_id for synset in synsets()]

    assert sorted(ids) == list(range(1, 1001))
    assert sum(number == index + 1 for index, number in enumerate(ids)) < 10
    assert (ids[278], ids[65]) == (1, 490)  # kit fox; sea snake: the first image of the validation set


def test_subsets_equal_those_of_their_publishers() -> None:
    a = [synset.index for synset in synsets() if synset.in_a]
    r = [synset.index for synset in synsets() if synset.in_r]

    assert (len(a), len(r), len(set(a) & set(r))) == (200, 200, 86)
    assert (a[:8], r[:8]) == ([6, 11, 13, 15, 17, 22, 23, 27], [1, 2, 4, 6, 8, 9, 11, 13])
    assert (a[-4:], r[-4:]) == ([984, 986, 987, 988], [980, 981, 983, 988])


def test_imagenet_is_recognised_by_names_or_wnids_in_order() -> None:
    assert is_imagenet(imagenet())
    assert is_imagenet(Classes(tuple(synset.wnid for synset in synsets())))
    assert not is_imagenet(Classes(imagenet().names[::-1]))
    assert not is_imagenet(Classes(imagenet().names[:999]))


@pytest.mark.parametrize(
    ("names", "message"),
    [((), "no classes"), (("crane", "x", "crane"), "'crane' occurs twice"), (("a", " "), "class 1 has no name")],
)
def test_names_that_do_not_distinguish_classes_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classes(names)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lines.txt", "apple\nred pear\nkiwi\n"),
        ("dos.txt", "\ufeffapple\r\nred pear\r\nkiwi\r\n"),
        ("plain.csv", "apple\nred pear\nkiwi\n"),
        ("titled.csv", "name\napple\nred pear\nkiwi\n"),
        ("numbered.csv", "index,class\n2,kiwi\n0,apple\n1,red pear\n"),
        ("list.json", '["apple", "red pear", "kiwi"]'),
        ("numbered.json", '{"2": "kiwi", "0": "apple", "1": "red pear"}'),
        ("keras.json", '{"0": ["n1", "apple"], "1": ["n2", "red pear"], "2": ["n3", "kiwi"]}'),
    ],
)
def test_class_names_are_read_from_every_kind_of_file(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8", newline="")

    assert read_classes(file).names == ("apple", "red pear", "kiwi")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.txt", b"", "class 0 has no name"),
        ("gap.txt", b"apple\n\nkiwi\n", "class 1 has no name"),
        ("twice.txt", b"apple\napple\n", "occurs twice"),
        ("latin.txt", b"p\xeache\n", "can't decode"),
        ("columns.csv", b"a,b\n1,2\n", "no column is called name, label, class"),
        ("hole.csv", b"index,name\n0,a\n2,b\n", "not 0, 1, 2"),
        ("empty.csv", b"", "no classes"),
        ("broken.json", b"[", "Expecting value"),
        ("number.json", b"[1, 2]", "not a list of names"),
    ],
)
def test_a_file_without_a_list_of_names_is_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    file = tmp_path / name
    file.write_bytes(data)

    with pytest.raises(InceptionError, match=message) as error:
        read_classes(file)

    assert str(error.value).startswith(f"{file}: ")
    assert "give one class name per line" in str(error.value)


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InceptionError, match=r"none\.txt: no such file"):
        read_classes(tmp_path / "none.txt")
