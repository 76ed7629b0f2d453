"""Lists of classes and labels that are damaged or hostile: one line that names the file, or no label; little memory."""

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from running import Inception

from inception_cli.config import Classes
from inception_cli.errors import InceptionError, UsageError
from inception_cli.evaluation.class_numbering import label_lookup
from inception_cli.evaluation.label_files import read_image_names, read_labels
from inception_cli.evaluation.labels import labels_from_file, labels_from_folders
from inception_cli.predictions.classes import is_number, read_classes
from inception_cli.predictions.tree import find_classes

CLASSES = Classes(tuple(f"class {number}" for number in range(10)))
DIGITS = "9" * 5000
DEEP = "[" * 100_000
LONG = "x" * 5000


def assert_one_line(error: BaseException, file: Path) -> None:
    text = str(error)
    assert text.startswith(f"{file}: ")
    assert text.isprintable()
    assert len(text.removeprefix(str(file))) <= 300


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.txt", "a\n\nb\n", "line 2 is empty"),
        ("c.txt", "a\nb\na\n", "'a' occurs twice, in the lines 1 and 3"),
        ("c.txt", LONG, "more than 4,096 characters"),
        ("c.txt", f"{LONG}\n{LONG}\n", "xx … x+' occurs twice"),
        ("c.txt", f"0 {LONG}\n0 {LONG}2\n", "both have the number 0"),
        ("c.txt", f"{DIGITS} a\n0 b\n", "has the number '999"),
        ("c.txt", "2000000000 a\n0 b\n", "has the number '2000000000'"),
        ("c.txt", "-5 a\n0 b\n1 c\n", "line 1 has no number"),
        ("c.csv", "index,name\n0,a\n1\n", "line 3 has not 2 fields but 1"),
        ("c.csv", "index,name\n0,a\n1,\n", "class 1 has no name"),
        ("c.csv", "index,name\n0,a\n1,a\n", "'a' occurs twice"),
        ("c.csv", f"index,name\n0,a\n{DIGITS},b\n", "has the number '999"),
        ("c.csv", f"index,name\n{DIGITS},a\n", "has the number|class"),
        ("c.csv", "index,name\n0,a\n-5,b\n", "has the number '-5'|not 0, 1, 2"),
        ("c.json", DEEP, "nested too deeply"),
        ("c.json", f'{{"a": {DIGITS}}}', "not a list of names|has the number '999"),
        ("c.json", f'{{"a": 0, "b": {DIGITS}}}', "not a list of names|has the number '999"),
        ("c.json", '{"a": 0, "b": -5}', "has the number '-5'"),
        ("c.json", '{"a": 0, "b": 2000000000}', "has the number '2000000000'"),
        ("c.json", '{"a": 0, "b": true}', "not a list of names|has the number"),
        ("c.json", '{"a": 0, "b": 1.7}', "not a list of names|has the number"),
        ("c.json", '["a", 5]', "not a list of names"),
        ("c.json", "[NaN]", "not a list of names"),
        ("c.json", f"[{DIGITS}]", "not a list of names"),
    ],
)
def test_a_list_of_classes_is_refused_in_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    file = tmp_path / name
    file.write_text(text, newline="")

    with pytest.raises(InceptionError, match=message) as error:
        read_classes(file)

    assert_one_line(error.value, file)


@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"])
def test_a_list_of_empty_lines_takes_little_memory(tmp_path: Path, line_end: str) -> None:
    file = tmp_path / "c.txt"
    file.write_text(line_end * 4_000_000, newline="")

    tracemalloc.start()
    try:
        with pytest.raises(InceptionError, match="over 1,000,000 lines"):
            read_classes(file)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.json", DEEP, "nested too deeply"),
        ("l.json", "[[1], [true]]", "image 2 has the label true"),
        ("l.json", "[[1.7]]", r"image 1 has the label 1\.7"),
        ("l.json", "[[null]]", "image 1 has the label null"),
        ("l.json", "[[[1]]]", r"image 1 has the label \[\"1\"\]"),
        ("l.json", "[[NaN]]", "image 1 has the label NaN"),
        ("l.csv", "path,label\na.jpg,1\nb.jpg\n", "line 3: b.jpg has no label"),
        ("l.csv", "\n\npath,label\n\na.jpg,1\nb.jpg\n", "line 6: b.jpg has no label"),
        ("l.csv", "path,label\na.jpg,1\na.jpg,2\n", "line 3: a.jpg is labelled 1 and 2"),
        ("l.csv", f"path,label\n{LONG},{LONG}\n{LONG},{LONG}2\n{LONG},1\n", "line 3: x.* is labelled"),
        ("l.csv", f"{LONG},{LONG}\n", "has no column called"),
        ("l.txt", "a.jpg 1\n\nb.jpg\n", "line 3 has no label"),
        ("l.txt", "a.jpg 1\n\na.jpg 2\n", "line 3: a.jpg is labelled 1 and 2"),
    ],
)
def test_a_label_file_is_refused_in_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    file = tmp_path / name
    file.write_text(text)

    with pytest.raises(InceptionError, match=message) as error:
        read_labels(file, CLASSES)

    assert_one_line(error.value, file)


@pytest.mark.parametrize("label", ["-5", "10", "2000000000", DIGITS, "1.7", "true", LONG])
def test_a_label_that_is_no_class_counts_as_unknown(tmp_path: Path, label: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"path,label\na.jpg,3\nb.jpg,{label}\n")

    labels = labels_from_file(file, ["a.jpg", "b.jpg"], CLASSES)

    assert (labels.of(0), labels.of(1), labels.unknown.count, labels.unlabelled.names) == ((3,), (), 1, ("b.jpg",))
    assert len(labels.unknown.names[0]) <= 200


def test_numbers_of_5000_digits_are_no_numbers_of_images_and_classes(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text(f"[[3, {DIGITS}]]")
    (tmp_path / "list.txt").write_text(f"{DIGITS}\n")

    assert not is_number(DIGITS)
    assert label_lookup("number", CLASSES)(DIGITS) == -1
    assert labels_from_file(tmp_path / "real.json", ["ILSVRC2012_val_00000001.JPEG"], CLASSES).of(0) == (3,)
    assert read_image_names(tmp_path / "list.txt") == (DIGITS,)
    with pytest.raises(UsageError, match=r"label_format 'skip-999.* choose from"):
        label_lookup(f"skip-{DIGITS}", CLASSES)
    with pytest.raises(InceptionError, match="is not a class") as error:
        find_classes(str(tmp_path / "list.txt"), CLASSES)
    assert_one_line(error.value, tmp_path / "list.txt")


def test_folders_with_long_names_make_a_line_that_can_be_read() -> None:
    with pytest.raises(InceptionError, match="no class is called") as error:
        labels_from_folders([f"val/{LONG}/a.jpg"], "val", Classes((LONG[:4000], "b")))

    assert len(str(error.value)) <= 300


def test_a_refused_list_of_classes_leaves_no_file(
    tmp_path: Path, stub: str, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (76, 76)).save("a.png")
    Path("c.csv").write_text("index,name\n0,a\n1\n")

    for words in (
        ("classify", "a.png", "--classes", "c.csv"),
        ("evaluate", "--val-dir", ".", "--only-classes", "c.csv"),
    ):
        ended = inception(*words, "-w", stub, "-j", 0, "-o", "preds.csv")
        assert (ended.code, ended.err.count("\n")) == (1, 1), ended.err
        assert ended.err.startswith("error: c.csv: ")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "c.csv"]


@pytest.mark.parametrize(
    "read", [lambda file: read_labels(file, CLASSES), read_image_names, lambda file: find_classes(str(file), CLASSES)]
)
@pytest.mark.parametrize("content", ["zeros", "lines", "device"])
def test_a_list_that_is_too_long_is_refused_before_it_takes_memory(
    tmp_path: Path, content: str, read: Callable[[Path], object]
) -> None:
    file = Path("/dev/zero") if content == "device" else tmp_path / "list.csv"
    if content == "zeros":
        with file.open("wb") as stream:
            stream.truncate(3 << 30)
    elif content == "lines":
        file.write_bytes(b"\n" * 5_000_001)

    started = time.process_time()
    with pytest.raises(InceptionError, match=r"over .* (MB|lines)") as error:
        read(file)

    assert time.process_time() - started < 1
    assert_one_line(error.value, file)


def test_a_first_line_of_many_columns_is_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("path," + ",".join(map(str, range(200_000))) + "\n")

    with pytest.raises(InceptionError, match="200,001 columns"):
        read_labels(file, CLASSES)
