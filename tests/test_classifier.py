"""`Classifier`, from Python."""

import subprocess
import sys
from pathlib import Path

import pytest
from running import Inception

import inception_cli
from inception_cli import Classifier, Prediction
from inception_cli.errors import InceptionError
from inception_cli.results.rows import read_csv, to_csv, written


@pytest.fixture(scope="module")
def classify() -> Classifier:
    return Classifier("demo", precision="fp32", batch_size=4, workers=0)


def test_its_rows_are_the_commands(classify: Classifier, inception: Inception, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    assert (
        inception(
            *("classify", photos / "a", broken, "-w", "demo", "--precision", "fp32"), "-b", 4, "-j", 0, "-o", out
        ).code
        == 3
    )

    rows = classify([photos / "a", str(broken)])

    assert [(written(row.path), row.status) for row in rows] == [(row.path, row.status) for row in read_csv(out)]
    assert to_csv(rows, 5) == b"".join(out.read_bytes().splitlines(keepends=True)[1:])
    assert rows[-1] == Prediction(str(broken), "corrupt", error="not a picture, or its header is damaged")


def test_one_path_is_a_list_of_one(classify: Classifier, photos: Path) -> None:
    (photo,) = classify(photos / "a/00.jpg")

    assert photo.labels[0] in classify.labels
    assert len(classify.labels) == 10


def test_rows_come_as_a_stream(classify: Classifier, photos: Path) -> None:
    assert next(classify.stream([photos])).path == f"{photos}/02.jpg"


def test_nothing_is_nothing_and_what_does_not_exist_is_told(classify: Classifier, tmp_path: Path) -> None:
    assert classify([]) == []
    with pytest.raises(InceptionError, match=r"none\.jpg: no such file"):
        classify(tmp_path / "none.jpg")


def test_what_cannot_be_had_is_told() -> None:
    with pytest.raises(InceptionError, match="did you mean demo"):
        Classifier("deno")


def test_the_package_alone_imports_nothing_heavy() -> None:
    program = "import sys, inception_cli; print(inception_cli.Prediction.__name__, 'torch' in sys.modules)"

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ended.stdout.split() == ["Prediction", "False"]
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        inception_cli.Nonsense  # noqa: B018
