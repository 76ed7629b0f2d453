"""Class names, and ImageNet's table."""

import json
from pathlib import Path
from time import process_time

import pytest

from inception_cli.config import Classes
from inception_cli.errors import InceptionError, UsageError
from inception_cli.predictions.classes import find_class, imagenet, is_imagenet, read_classes, synsets


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
        ("spaces.txt", "2 kiwi\n0 apple\n1 red pear\n"),
        ("colons.txt", "2: kiwi\n0: apple\n1:red pear\n"),
        ("tabs.txt", "2\tkiwi\n0\tapple\n1\tred pear\n"),
        ("dots.txt", "2. kiwi\n0. apple\n1. red pear\n"),
        ("commas.txt", "2,kiwi\n0,apple\n1,red pear\n"),
        ("padded.txt", "002 kiwi\n000 apple\n001 red pear\n"),
        ("behind.txt", "kiwi: 2\napple: 0\nred pear: 1\n"),
        ("from-1.txt", "1 apple\n2 red pear\n3 kiwi\n"),
        ("cr.txt", "apple\rred pear\rkiwi\r"),
        ("id.csv", "id,name\n2,kiwi\n0,apple\n1,red pear\n"),
        ("class_id.csv", "name,class_id\nkiwi,2\napple,0\nred pear,1\n"),
        ("class_index.csv", "class_index,class\n2,kiwi\n0,apple\n1,red pear\n"),
        ("label.csv", "label,name\n2,kiwi\n0,apple\n1,red pear\n"),
        ("two.csv", "id,index,name\n17,2,kiwi\n4,0,apple\n9,1,red pear\n"),
        ("agreeing.csv", "id,index,name\n1,0,apple\n2,1,red pear\n3,2,kiwi\n"),
        ("semicolons.csv", "index;name\n2;kiwi\n0;apple\n1;red pear\n"),
        ("untitled.csv", "2,kiwi\n0,apple\n1,red pear\n"),
        ("reversed.csv", "kiwi,2\napple,0\nred pear,1\n"),
        ("lines.csv", "2 kiwi\n0 apple\n1 red pear\n"),
        ("numbers.json", '{"kiwi": 2, "apple": 0, "red pear": 1}'),
        ("digits.json", '{"kiwi": "2", "apple": "0", "red pear": "1"}'),
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
        ("empty.txt", b"", "there are no classes"),
        ("gap.txt", b"apple\n\nkiwi\n", "line 2 is empty"),
        ("twice.txt", b"apple\napple\n", "occurs twice"),
        ("columns.csv", b"a,b\n1,2\n", "no column is called name, label, class"),
        ("hole.csv", b"index,name\n0,a\n2,b\n", "not 0, 1, 2"),
        ("empty.csv", b"", "no classes"),
        ("gaps.txt", b"0 a\n9 tomato\n", "not 0, 1, 2, … \\(no class has 1\\)"),
        ("double.txt", b"0 a\n1 b\n1 c\n", "'b' and 'c' both have the number 1"),
        ("some.txt", b"0 a\nb\n1 c\n", "line 2 has no number"),
        ("ids.txt", b"2 a\n1 b\n3 c\n", "no class has 0"),
        ("double.csv", b"id,name\n0,a\n0,b\n", "'a' and 'b' both have the number 0"),
        ("ids.csv", b"id,name\n2,a\n1,b\n3,c\n", "no class has 0"),
        ("text.csv", b"index,name\n0,a\nx,b\n", "'b' has the number 'x'"),
        ("short.csv", b"index,name\n0,a\n1\n", "line 3 has not 2 fields but 1"),
        ("long.csv", b"index,name\n0,tench, Tinca tinca\n", "line 2 has not 2 fields but 3"),
        ("orders.csv", b"index,id,name\n0,1,a\n1,0,b\n", "the columns index and id number the classes in different"),
        ("double.json", b'{"0": "a", "0": "b"}', "'a' and 'b' both have the number 0"),
        ("same.json", b'{"a": 0, "b": 0}', "'a' and 'b' both have the number 0"),
        ("gap.json", b'{"a": 0, "b": 2}', "no class has 1"),
        ("below.json", b'{"a": -1, "b": 0}', "'a' has the number '-1'"),
        ("deep.json", b"[" * 100_000, "nested too deeply"),
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


@pytest.mark.parametrize(
    "names",
    [
        tuple(f"class {number}" for number in (2, 0, 1)),
        ("7up", "3 stars", "apple", "747"),
        ("0", "1", "2"),
        ("boeing 747", "boeing 737"),
    ],
)
def test_numbers_that_are_part_of_the_names_stay_there(tmp_path: Path, names: tuple[str, ...]) -> None:
    for suffix in (".txt", ".csv"):
        file = tmp_path / f"names{suffix}"
        file.write_text("\n".join(names))

        assert read_classes(file).names == names


def test_names_that_begin_with_numbers_can_be_given_in_a_csv(tmp_path: Path) -> None:
    file = tmp_path / "names.csv"
    file.write_text("name\n5 dollars\n10 dollars\n")

    assert read_classes(file).names == ("5 dollars", "10 dollars")


def test_class_names_in_another_encoding_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes(b"apple\np\xeache\n")

    with pytest.raises(InceptionError, match=r"latin\.txt: line 2 is not UTF-8; save the file as UTF-8"):
        read_classes(file)


def test_class_names_in_utf_16_are_read(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_bytes("1 p\u00eache\r\n0 apple\r\n".encode("utf-16"))

    assert read_classes(file).names == ("apple", "p\u00eache")


@pytest.mark.parametrize("name", ["names.txt", "names.csv", "names.json", "numbered.json"])
def test_a_list_of_a_million_names_is_refused_quickly(tmp_path: Path, name: str) -> None:
    file, names = tmp_path / name, [f"name{number}" for number in range(1_000_000)]
    text = json.dumps(dict(zip(names, range(len(names)), strict=True)) if "numbered" in name else names)
    file.write_text(text if file.suffix == ".json" else "\n".join(names))

    start = process_time()
    with pytest.raises(InceptionError, match=r"more than 100,000 classes|too many for such a list"):
        read_classes(file)

    assert process_time() - start < 5  # seconds


@pytest.mark.parametrize("text", ["Egyptian cat", "egyptian_cat", "285", "n02124075"])
def test_a_class_is_found_by_its_name_number_or_wnid(text: str) -> None:
    assert find_class(text, imagenet()) == 285


def test_a_class_whose_name_is_a_number_is_found_by_its_name() -> None:
    assert find_class("1", Classes(("1", "0"))) == 0


@pytest.mark.parametrize("text", ["Egyptian cad", "1000", "n00000000", ""])
def test_an_unknown_class_is_refused_with_names_that_exist(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no class of the weights: (did you mean|the classes are) .+") as refused:
        find_class(text, imagenet())

    assert ("Egyptian cat" in str(refused.value)) == text.startswith("Egyptian")
