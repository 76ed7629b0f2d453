"""Rows that lie in a store are read as if they were here. The store is fsspec's, in memory."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from draw import pictures
from running import Inception

from inception_cli.errors import InceptionError
from inception_cli.images.inputs import Inputs
from inception_cli.results.parts import Parts
from inception_cli.results.rows import Prediction, to_csv
from inception_cli.stores import nearby

pytest.importorskip("pyarrow", reason="stores are read by pyarrow: pip install 'inception-cli[parquet]'")
fsspec = pytest.importorskip("fsspec")

STORE = "fsspec+memory://bucket"


@pytest.fixture
def store() -> Iterator[str]:
    """An empty store."""
    yield STORE
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


@pytest.fixture
def rows(store: str) -> str:
    """A finished folder of parts there: three photos of two classes, one of them wrong, one gone."""
    classes = ("apple", "banana")
    found = [
        Prediction(
            f"photos/{classes[label]}/{number}.jpg",
            "ok",
            (best, 1 - best),
            (classes[best], classes[1 - best]),
            (0.8, 0.2),
        )
        for number, (label, best) in enumerate([(0, 0), (1, 1), (1, 0)])
    ]
    found.append(Prediction("photos/apple/3.jpg", "missing", error="no such file"))
    folder = Parts.open(f"{store}/preds")
    folder.begin({"inputs": ["photos"]}, b"".join(row.path.encode() + b"\0" for row in found), 2)
    folder.add(0, to_csv(found, 2), 2)
    folder.publish({"inputs": ["photos"]})
    return f"{store}/preds"


def test_a_name_of_this_machine_is_itself(tmp_path: Path) -> None:
    with nearby(str(tmp_path)) as found:
        assert found == tmp_path


def test_a_folder_is_here_for_as_long_as_it_is_needed(rows: str) -> None:
    with nearby(rows + "/") as found:
        assert found.name == "preds"
        assert sorted(file.name for file in found.iterdir()) == ["_manifest.json", "part-00000.parquet"]

    assert not found.exists()


def test_a_file_is_too(store: str) -> None:
    fsspec.filesystem("memory").pipe("/bucket/rows.csv", b"path,status\n")

    with nearby(f"{store}/rows.csv") as found:
        assert found.read_bytes() == b"path,status\n"


def test_what_is_not_there_is_told_in_a_line(store: str) -> None:
    with pytest.raises(InceptionError, match=f"^{re.escape(store)}/nowhere: nothing is there; check the name"):
        nearby(f"{store}/nowhere").__enter__()


def test_evaluate_judges_rows_of_a_store(rows: str, inception: Inception, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "path,label\n" + "".join(f"{n}.jpg,{(n and 'banana') or 'apple'}\n" for n in range(3))
    )

    ended = inception(
        "evaluate", "--predictions", rows, "--labels", tmp_path / "labels.csv", "--json", "--against", rows
    )

    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["n"] == 3
    assert found["top1"] == pytest.approx(200 / 3)
    assert found["against"]["n"] == 3


def test_report_shows_rows_and_photos_of_a_store(store: str, rows: str, inception: Inception, tmp_path: Path) -> None:
    ended = inception("report", rows, "--out", tmp_path / "report.html")

    assert ended.code == 0, ended.err
    assert "photos/banana/1.jpg" in (tmp_path / "report.html").read_text()


def test_damage_is_told_by_the_name_in_the_store(rows: str, inception: Inception, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/bucket/preds/part-00000.parquet", b"no Parquet at all")

    ended = inception("report", rows, "--out", tmp_path / "report.html")

    assert ended.code == 1
    assert f"{rows}/part-00000.parquet" in ended.err
    assert "/tmp" not in ended.err


def test_a_report_has_thumbnails_of_photos_in_a_store(store: str, inception: Inception, tmp_path: Path) -> None:
    pictures(1)[0].save(tmp_path / "x.jpg")
    fsspec.filesystem("memory").pipe("/bucket/photos/x.jpg", (tmp_path / "x.jpg").read_bytes())
    row = Prediction(f"{store}/photos/x.jpg", "ok", (0,), ("apple",), (1.0,))
    (tmp_path / "rows.csv").write_bytes(b"path,status,top1_index,top1_label,top1_score,error\n" + to_csv([row], 1))

    assert inception("report", tmp_path / "rows.csv", "--out", tmp_path / "report.html").code == 0
    with_photo = (tmp_path / "report.html").read_text().count("data:image/jpeg")
    fsspec.filesystem("memory").rm("/bucket/photos/x.jpg")
    assert inception("report", tmp_path / "rows.csv", "--out", tmp_path / "report.html", "-q").code == 0
    assert with_photo > 0
    assert not (tmp_path / "report.html").read_text().count("data:image/jpeg")


@pytest.mark.parametrize(
    ("name", "found"),
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
def test_photos_of_a_store_are_listed_as_here(store: str, name: str, found: list[str], tmp_path: Path) -> None:
    for path in ("a/1.jpg", "a/2.PNG", "a/.hidden/5.jpg", "b/c/3.jpg", "b/notes.txt", "d.jpg"):
        fsspec.filesystem("memory").pipe(f"/bucket/photos/{path}", b"x")
        (tmp_path / "photos" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / path).write_bytes(b"x")
    there, here = Inputs([f"{store}/{name}"]), Inputs([f"{tmp_path}/{name}"])

    assert [*there] == [f"{store}/photos/{path}" for path in found]
    assert [path.removeprefix(str(tmp_path)) for path in here] == [f"/photos/{path}" for path in found]
    if not found:
        assert [*there.skipped][-1].startswith("pattern without an image")


@pytest.mark.parametrize(
    ("rows", "page"),
    [("preds.csv", "preds.html"), ("out/preds", "out/preds.html"), (f"{STORE}/out/preds/", "preds.html")],
)
def test_a_page_is_named_after_its_rows(rows: str, page: str, inception: Inception) -> None:
    ended = inception("report", rows)

    assert (ended.code, f"give --out {page}, say" in ended.err) == (2, True)
