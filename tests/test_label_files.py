"""Which column of a label file holds the labels, its separators, line ends and encoding."""

from pathlib import Path

import pytest

from inception_cli.config import Classes
from inception_cli.errors import InceptionError, UsageError
from inception_cli.evaluation.label_files import read_image_names, read_labels, validation_image
from inception_cli.predictions.classes import imagenet

FRUIT = Classes(("apple", "red pear", "kiwi"))
NUMBERED = Classes(tuple(f"fruit {letter}" for letter in "abcdefghij"))


def labels_in(file: Path, text: str, classes: Classes = FRUIT, format: str | None = None) -> dict[str, str]:
    """Return the one label of each image in a file with this text."""
    file.write_text(text, encoding="utf-8", newline="")
    return {name: label for name, (label,) in read_labels(file, classes, format).labels.items()}


@pytest.mark.parametrize(
    "text",
    [
        "index,filename,label\n0,a.jpg,kiwi\n1,b.jpg,apple\n2,c.jpg,kiwi\n",  # the index numbers the rows
        "index,filename,label\n7,a.jpg,kiwi\n2,b.jpg,apple\n1,c.jpg,kiwi\n",  # rows of a list that was split
        "filename,class_id,label\na.jpg,3,kiwi\nb.jpg,1,apple\nc.jpg,3,kiwi\n",  # counted from 1
        "filename,class_id,label\na.jpg,2,kiwi\nb.jpg,1,apple\nc.jpg,2,kiwi\n",  # from 1, without the last number
        "label,class_id,filename\nkiwi,2,a.jpg\napple,0,b.jpg\nkiwi,2,c.jpg\n",
        "wnid,class,path\nx1,kiwi,a.jpg\nx2,apple,b.jpg\nx1,kiwi,c.jpg\n",  # a column of wnids that are no classes
        "target,category,path\nfruit,kiwi,a.jpg\nfruit,apple,b.jpg\nfruit,kiwi,c.jpg\n",
        "path,fruit\na.jpg,kiwi\nb.jpg,apple\nc.jpg,kiwi\n",
        "index,path,fruit\n0,a.jpg,kiwi\n1,b.jpg,apple\n2,c.jpg,kiwi\n",
        "path,index,truth\na.jpg,0,kiwi\nb.jpg,1,apple\nc.jpg,2,kiwi\n",
    ],
)
def test_the_column_whose_values_are_classes_holds_the_labels(tmp_path: Path, text: str) -> None:
    assert labels_in(tmp_path / "labels.csv", text) == {"a.jpg": "kiwi", "b.jpg": "apple", "c.jpg": "kiwi"}


def test_a_column_of_labels_may_have_a_few_values_that_are_no_class(tmp_path: Path) -> None:
    text = "index,filename,label\n0,a.jpg,kiwi\n1,b.jpg,plum\n2,c.jpg,apple\n"

    assert labels_in(tmp_path / "labels.csv", text) == {"a.jpg": "kiwi", "b.jpg": "plum", "c.jpg": "apple"}


def test_row_numbers_are_no_labels_beside_a_column_of_class_numbers(tmp_path: Path) -> None:
    text = "index,filename,label\n" + "".join(f"{n},{n}.jpg,{n % 2 + 4}\n" for n in range(6))

    assert set(labels_in(tmp_path / "labels.csv", text, NUMBERED).values()) == {"4", "5"}


def test_a_given_format_selects_the_column(tmp_path: Path) -> None:
    text = "filename,class_id,label\na.jpg,3,kiwi\nb.jpg,1,apple\nc.jpg,3,kiwi\n"

    labels = labels_in(tmp_path / "labels.csv", text, format="minus-1")

    assert labels == {"a.jpg": "3", "b.jpg": "1", "c.jpg": "3"}


def test_an_unknown_format_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose from wnid"):
        labels_in(tmp_path / "labels.csv", "path,label\na.jpg,kiwi\n", format="nmae")


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("path,label,class\na.jpg,kiwi,kiwi\nb.jpg,apple,kiwi\nc.jpg,kiwi,kiwi\n", "label and class"),
        ("path,class_id,label\na.jpg,1,0\nb.jpg,1,0\nc.jpg,2,1\n", "class_id and label"),
        ("path,class_id,label\na.jpg,0,kiwi\nb.jpg,0,apple\nc.jpg,2,kiwi\n", "label and class_id"),
        ("path,label,best\na.jpg,0,kiwi\nb.jpg,0,apple\nc.jpg,2,kiwi\n", "best and label"),
    ],
)
def test_columns_that_contradict_each_other_are_refused(tmp_path: Path, text: str, columns: str) -> None:
    with pytest.raises(InceptionError, match=rf"the columns {columns} contradict each other \(first at .\.jpg\)"):
        labels_in(tmp_path / "labels.csv", text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("val.txt", "my photo.jpg\tred pear\nb.jpg\tkiwi\n"),
        ("val.txt", "my photo.jpg\tred pear\r\nb.jpg\tkiwi\r\n"),
        ("val.txt", "my photo.jpg\tred pear\rb.jpg\tkiwi\r"),
        ("val.tsv", "path\tlabel\nmy photo.jpg\tred pear\nb.jpg\tkiwi\n"),
        ("val.csv", "path,label\rmy photo.jpg,red pear\rb.jpg,kiwi\r"),
    ],
)
def test_tabs_separate_before_spaces_and_lines_may_end_in_cr(tmp_path: Path, name: str, text: str) -> None:
    assert labels_in(tmp_path / name, text) == {"my photo.jpg": "red pear", "b.jpg": "kiwi"}


@pytest.mark.parametrize(("text", "line"), [("1\n\n3\n4\n", 2), ("\n\n2\n", 1), ("1\n2\n \n4\n\n", 3)])
def test_a_blank_line_in_a_devkit_list_is_refused(text: str, line: int, tmp_path: Path) -> None:
    file = tmp_path / "ground_truth.txt"
    file.write_text(text)

    with pytest.raises(InceptionError, match=rf"ground_truth\.txt: line {line} is blank"):
        read_labels(file, imagenet())


def test_blank_lines_at_the_end_of_a_devkit_list_are_no_labels(tmp_path: Path) -> None:
    file = tmp_path / "ground_truth.txt"
    file.write_text("1\n2\n\n \n")

    assert read_labels(file, imagenet()).labels == {validation_image(1): ("1",), validation_image(2): ("2",)}


def test_a_quoted_header_is_one_whatever_the_suffix(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text('"path","wnid"\n"a, b.jpg","n01440764"\n')

    assert read_labels(file, imagenet()).labels == {"a, b.jpg": ("n01440764",)}


def test_lines_of_a_devkit_list_may_end_in_cr(tmp_path: Path) -> None:
    assert [*labels_in(tmp_path / "truth.txt", "490\r361\r171\r").values()] == ["490", "361", "171"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_text_with_a_byte_order_mark_is_read(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes("path,label\np\u00eache.jpg,kiwi\n".encode(encoding))

    assert read_labels(file, FRUIT).labels == {"p\u00eache.jpg": ("kiwi",)}


@pytest.mark.parametrize("name", ["labels.csv", "labels.txt"])
def test_text_in_another_encoding_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes("path,label\np\u00eache.jpg,kiwi\n".encode("cp1252"))

    with pytest.raises(InceptionError, match="line 2 is not UTF-8; save the file as UTF-8"):
        read_labels(file, FRUIT)
    with pytest.raises(InceptionError, match="line 2 is not UTF-8; save the file as UTF-8"):
        read_image_names(file)


def test_two_spellings_of_a_path_cannot_have_different_labels(tmp_path: Path) -> None:
    with pytest.raises(InceptionError, match=r"x/a\.jpg is labelled kiwi and apple"):
        labels_in(tmp_path / "labels.csv", "path,label\n./x/a.jpg,kiwi\nx/a.jpg,apple\n")
