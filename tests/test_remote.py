"""Remote files are read like local ones. The store of the tests is fsspec's, in memory."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from draw import pictures
from records import new_manifest
from running import Inception

from inception_cli.config import Classes
from inception_cli.errors import InceptionError
from inception_cli.files.remote import local_copy, open_store
from inception_cli.images.discovery import Discovery
from inception_cli.predictions.formats import csv_header, to_csv
from inception_cli.predictions.prediction import Prediction
from inception_cli.storage.folder_store import FolderStore

pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install pyarrow")
fsspec = pytest.importorskip("fsspec")

STORE = "fsspec+memory://bucket"


@pytest.fixture
def store() -> Iterator[str]:
    """Return the address of an empty store."""
    yield STORE
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


@pytest.fixture
def rows(store: str) -> str:
    """Return the address of a finished run in the store: two correct predictions, a wrong one, a missing file."""
    names = ("apple", "banana")
    predictions = [
        Prediction(
            f"photos/{names[label]}/{number}.jpg",
            "ok",
            (best, 1 - best),
            (names[best], names[1 - best]),
            (0.8, 0.2),
        )
        for number, (label, best) in enumerate([(0, 0), (1, 1), (1, 0)])
    ]
    predictions.append(Prediction("photos/apple/3.jpg", "missing", error="no such file"))
    manifest = new_manifest(top_k=2)
    weights = replace(manifest.run.weights[0], classes=Classes(names))
    manifest = replace(manifest, run=replace(manifest.run, weights=(weights,)))
    with FolderStore.open(f"{store}/preds") as folder:
        folder.open_inputs(lambda: [row.path for row in predictions])
        folder.begin(manifest)
        folder.write(0, predictions)
        folder.publish(manifest)
    return f"{store}/preds"


def test_a_local_path_is_its_own_copy(tmp_path: Path) -> None:
    with local_copy(str(tmp_path)) as copy:
        assert copy == tmp_path

    assert tmp_path.exists()


def test_the_copy_of_a_remote_folder_exists_within_the_block(rows: str) -> None:
    with local_copy(rows + "/") as copy:
        assert copy.name == "preds"
        assert sorted(file.name for file in copy.iterdir()) == ["_manifest.json", "part-00000.parquet"]

    assert not copy.exists()


def test_a_remote_file_is_copied(store: str) -> None:
    fsspec.filesystem("memory").pipe("/bucket/rows.csv", b"path,status\n")

    with local_copy(f"{store}/rows.csv") as copy:
        assert copy.read_bytes() == b"path,status\n"


def test_an_error_about_the_copy_names_the_remote_file(store: str) -> None:
    fsspec.filesystem("memory").pipe("/bucket/rows.csv", b"path,status\n")

    with pytest.raises(InceptionError) as raised, local_copy(f"{store}/rows.csv") as copy:
        raise InceptionError(f"{copy}: damaged")

    assert str(raised.value) == f"{store}/rows.csv: damaged"


def test_a_missing_remote_file_is_a_one_line_error(store: str) -> None:
    with pytest.raises(InceptionError, match=f"^{re.escape(store)}/nowhere: no such file or folder; check the address"):
        local_copy(f"{store}/nowhere").__enter__()


def test_an_unknown_kind_of_store_is_a_one_line_error() -> None:
    with pytest.raises(InceptionError, match=r"^nosuch://bucket/: cannot be opened \(.*\); check the address"):
        open_store("nosuch://bucket/photos")


@pytest.mark.parametrize("path", ["s3://bucket/photos", "photos"])
def test_without_pyarrow_the_error_names_it(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.fs", None)

    with pytest.raises(InceptionError, match=f"^{path}: needs pyarrow: pip install pyarrow$"):
        open_store(path)


def test_evaluate_reads_remote_predictions(rows: str, inception: Inception, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "path,label\n" + "".join(f"{n}.jpg,{(n and 'banana') or 'apple'}\n" for n in range(3))
    )

    ended = inception(
        "evaluate", "--predictions", rows, "--labels", tmp_path / "labels.csv", "--json", "--against", rows
    )

    assert ended.code == 0, ended.err
    metrics = json.loads(ended.out)
    assert metrics["n"] == 3
    assert metrics["top1"] == pytest.approx(200 / 3)
    assert metrics["against"]["n"] == 3


def test_report_reads_remote_predictions(store: str, rows: str, inception: Inception, tmp_path: Path) -> None:
    ended = inception("report", rows, "--out", tmp_path / "report.html")

    assert ended.code == 0, ended.err
    assert "photos/banana/1.jpg" in (tmp_path / "report.html").read_text()


def test_a_damaged_remote_file_is_an_error_that_names_it(rows: str, inception: Inception, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/bucket/preds/part-00000.parquet", b"not Parquet")

    ended = inception("report", rows, "--out", tmp_path / "report.html")

    assert ended.code == 1
    assert f"{rows}/part-00000.parquet" in ended.err
    assert "/tmp" not in ended.err


def test_a_report_has_thumbnails_of_remote_images(store: str, inception: Inception, tmp_path: Path) -> None:
    pictures(1)[0].save(tmp_path / "x.jpg")
    fsspec.filesystem("memory").pipe("/bucket/photos/x.jpg", (tmp_path / "x.jpg").read_bytes())
    row = Prediction(f"{store}/photos/x.jpg", "ok", (0,), ("apple",), (1.0,))
    (tmp_path / "rows.csv").write_bytes(csv_header(1) + to_csv([row], 1))

    assert inception("report", tmp_path / "rows.csv", "--out", tmp_path / "report.html").code == 0
    thumbnails = (tmp_path / "report.html").read_text().count("data:image/jpeg")
    fsspec.filesystem("memory").rm("/bucket/photos/x.jpg")
    assert inception("report", tmp_path / "rows.csv", "--out", tmp_path / "report.html", "-q").code == 0
    assert thumbnails > 0
    assert not (tmp_path / "report.html").read_text().count("data:image/jpeg")


@pytest.mark.parametrize(
    ("pattern", "images"),
    [
        ("photos", ["a/1.jpg", "a/2.PNG", "b/c/3.jpg", "d.jpg"]),
        ("photos/", ["a/1.jpg", "a/2.PNG", "b/c/3.jpg", "d.jpg"]),
        ("photos/d.jpg", ["d.jpg"]),
        ("photos/*.jpg", ["d.jpg"]),
        ("photos/*/", ["a/1.jpg", "a/2.PNG", "b/c/3.jpg"]),
        ("photos/[ab]", ["a/1.jpg", "a/2.PNG", "b/c/3.jpg"]),
        ("photos/**/*.jpg", ["a/1.jpg", "b/c/3.jpg", "d.jpg"]),
        ("photos/*.gif", []),
    ],
)
def test_remote_images_are_found_by_the_same_rules_as_local_ones(
    store: str, pattern: str, images: list[str], tmp_path: Path
) -> None:
    for path in ("a/1.jpg", "a/2.PNG", "a/.hidden/5.jpg", "b/c/3.jpg", "b/notes.txt", "d.jpg"):
        fsspec.filesystem("memory").pipe(f"/bucket/photos/{path}", b"x")
        (tmp_path / "photos" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / path).write_bytes(b"x")
    remote, local = Discovery([f"{store}/{pattern}"]), Discovery([f"{tmp_path}/{pattern}"])

    assert [*remote] == [f"{store}/photos/{path}" for path in images]
    assert [path.removeprefix(str(tmp_path)) for path in local] == [f"/photos/{path}" for path in images]
    if not images:
        assert remote.unreadable.examples == [f"{store}/{pattern}: no match"]


@pytest.mark.parametrize(
    ("rows", "page"),
    [("preds.csv", "preds.html"), ("out/preds.csv", "out/preds.html"), (f"{STORE}/out/preds/", "preds.html")],
)
def test_the_suggested_report_is_named_after_its_predictions(
    rows: str, page: str, inception: Inception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    for name in ("preds.csv", "out/preds.csv"):
        Path(name).touch()

    ended = inception("report", rows)

    assert (ended.code, f"--out {page}" in ended.err) == (2, True)
