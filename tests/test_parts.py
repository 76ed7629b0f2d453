"""The folder of a run on a cluster: parts are whole or not there; evaluate and report read it as a file."""

import json
import os
from pathlib import Path

import pytest
from running import Inception

from inception_cli.errors import InceptionError
from inception_cli.images.decode import Failure, Fetched, read
from inception_cli.images.inputs import Inputs, encode
from inception_cli.images.preprocess import PRESETS, Pixels
from inception_cli.images.remote import fetched
from inception_cli.results.formats import read_rows
from inception_cli.results.parts import Parts, shard_size
from inception_cli.results.rows import Prediction, to_csv

pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'inception-cli[parquet]'")

K = 2
MANIFEST = {"command": "classify", "inputs": ["photos"]}


def row(number: int) -> Prediction:
    if number % 5 == 4:
        return Prediction(f"{number}.jpg", "corrupt", error="damaged")
    return Prediction(
        f"{number}.jpg", "ok", (0, 1), ("tench, Tinca tinca", "goldfish, Carassius auratus"), (0.75, 0.25)
    )


ROWS = [row(number) for number in range(2500)]


def begun(out: Path) -> Parts:
    """A run of 2,500 images in three shards, in batches of 10."""
    parts = Parts.open(str(out))
    parts.begin(dict(MANIFEST), b"".join(encode(each.path) for each in ROWS), 10)
    return parts


def add(parts: Parts, positions: range) -> None:
    for first in reversed(positions[::10]):  # in any order
        parts.add(first, to_csv(ROWS[first : first + 10], K), K)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    parts = begun(tmp_path / "preds")
    add(parts, range(2500))
    parts.publish(dict(MANIFEST))
    return tmp_path / "preds"


def test_two_runs_at_once_end_with_the_same_rows(tmp_path: Path) -> None:
    one = begun(tmp_path / "preds")
    other = Parts.open(one.out)  # which goes on with it
    add(one, range(2500))
    one.publish(dict(MANIFEST))

    add(other, range(2500))
    other.publish(dict(MANIFEST))

    assert [*read_rows(tmp_path / "preds")] == ROWS
    assert not [*(tmp_path / "preds").glob("_[!m]*")]


@pytest.mark.parametrize(
    ("images", "size"), [(1, 1008), (2_000_000, 2000), (100_000_000, 10_000)], ids=["few", "millions", "very many"]
)
def test_shards_hold_whole_batches(images: int, size: int) -> None:
    assert shard_size(images, 16) == size


def test_folder_holds_the_rows_in_order(finished: Path) -> None:
    assert [*read_rows(finished)] == ROWS
    assert sorted(file.name for file in finished.iterdir()) == [
        *("_manifest.json", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet"),
    ]


def test_folder_is_read_by_pandas(finished: Path) -> None:
    pandas = pytest.importorskip("pandas")

    assert pandas.read_parquet(finished)["path"].tolist() == [each.path for each in ROWS]


def test_shard_is_written_when_it_is_whole_and_not_before(tmp_path: Path) -> None:
    parts = begun(tmp_path)
    add(parts, range(10, 1000))
    assert [*tmp_path.glob("part-*")] == []

    add(parts, range(10))

    assert [file.name for file in tmp_path.glob("part-*")] == ["part-00000.parquet"]


def test_rows_that_come_twice_are_kept_once(tmp_path: Path) -> None:
    parts = begun(tmp_path)
    add(parts, range(990))
    add(parts, range(500))
    add(parts, range(990, 2500))

    assert [*read_rows(tmp_path)] == ROWS


def test_damaged_part_is_made_again(tmp_path: Path) -> None:
    parts = begun(tmp_path)
    add(parts, range(2000))
    file = tmp_path / "part-00001.parquet"
    file.write_bytes(file.read_bytes()[:100])

    again = Parts.open(str(tmp_path))

    assert (again.manifest or {})["inputs"] == ["photos"]
    assert again.inputs() == b"".join(encode(each.path) for each in ROWS)
    assert {shard: dict(counts) for shard, counts in again.done().items()} == {0: {"ok": 800, "corrupt": 200}}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("_manifest.json", "holds a finished run; --force"),
        ("notes.txt", "holds other files"),
        ("part-00000.parquet", "is lost"),
    ],
)
def test_folder_of_something_else_is_left_alone(name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")

    with pytest.raises(InceptionError, match=told):
        Parts.open(str(tmp_path))

    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_force_and_restart_begin_anew(finished: Path) -> None:
    assert Parts.open(str(finished), force=True).manifest is None
    assert [*finished.iterdir()] == []
    add(begun(finished), range(1000))

    assert Parts.open(str(finished), restart=True).manifest is None
    assert [*finished.iterdir()] == []


@pytest.mark.parametrize("name", ["_run.json", "_inputs"])
def test_damaged_run_is_told(name: str, tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / name).write_text("[")

    with pytest.raises(InceptionError, match=f"{name} is damaged.*--restart"):
        Parts.open(str(tmp_path)).inputs()


def test_evaluate_and_report_read_a_folder(finished: Path, inception: Inception, tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("path,label\n" + "".join(f"{each.path},0\n" for each in ROWS))
    (finished / "_manifest.json").unlink()  # whose run this is no whole one

    judged = inception("evaluate", "--predictions", finished, "--labels", tmp_path / "truth.csv", "--json")
    shown = inception("report", finished, "--out", tmp_path / "report.html")

    assert (judged.code, json.loads(judged.out)["n"], json.loads(judged.out)["top1"]) == (3, 2000, 100.0)
    assert (shown.code, "2,500" in (tmp_path / "report.html").read_text()) == (0, True)


def test_unfinished_run_is_not_judged(tmp_path: Path, inception: Inception) -> None:
    add(begun(tmp_path / "preds"), range(1000))

    ended = inception("evaluate", "--predictions", tmp_path / "preds")

    assert (ended.code, "is not finished" in ended.err) == (1, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--engine", "spark"), "choose local or ray"),
        (("--engine", "ray"), "give --out FOLDER"),
        (("--engine", "ray", "--out", "preds.csv"), "writes a folder"),
        (("--actors", 2), "are for --engine ray"),
    ],
)
def test_words_that_do_not_go_together(
    words: tuple[object, ...], told: str, inception: Inception, photos: Path
) -> None:
    ended = inception("classify", photos, "-w", "demo", *words)

    assert (ended.code, told in ended.err) == (2, True)


def test_photos_of_a_store_need_the_engine(inception: Inception, tmp_path: Path) -> None:
    ended = inception("classify", "s3://bucket/photos", "-w", "demo", "--out", tmp_path / "preds.csv")

    assert (ended.code, "--engine ray" in ended.err) == (2, True)


@pytest.fixture
def memory(photos: Path) -> str:
    """A store of fsspec's, with photos, a hidden one, and what is none."""
    fsspec = pytest.importorskip("fsspec")  # which torch brings
    store = fsspec.filesystem("memory")
    data = next(photos.rglob("*.jpg")).read_bytes()
    for name in ("b/1 ä.JPG", "b/2%20.jpg", "a.jpg", ".hidden/3.jpg", "b/@eaDir/4.jpg", "b/notes.txt", "c.heic"):
        store.pipe(f"/photos/{name}", data)
    return "fsspec+memory://photos"


def test_folder_of_a_store_is_listed_as_one_of_a_disk(memory: str) -> None:
    inputs = Inputs([memory])

    assert [*inputs] == [f"{memory}/{name}" for name in ("a.jpg", "b/1 ä.JPG", "b/2%20.jpg", "c.heic")]
    assert dict(inputs.skipped) == {".txt": 1}


def test_store_without_such_a_folder_is_told(memory: str) -> None:
    with pytest.raises(InceptionError, match="no such file or folder"):
        [*Inputs([f"{memory}/nowhere"])]


def test_files_of_a_store_become_pictures_or_rows(memory: str, photos: Path) -> None:
    pixels = Pixels(PRESETS["torchvision"])
    local = str(next(photos.rglob("*.jpg")))

    found = [read(each, pixels) for each in fetched([f"{memory}/a.jpg", local, f"{memory}/gone.jpg"])]

    assert not isinstance(found[0], Failure)
    assert not isinstance(found[1], Failure)
    assert (found[0].size, found[0].tobytes()) == (found[1].size, found[1].tobytes())
    assert found[2] == Failure("missing", "no such file")


def test_fetched_bytes_fail_as_the_file_does(tmp_path: Path, photos: Path) -> None:
    whole = next(photos.rglob("*.jpg")).read_bytes()
    pixels = Pixels(PRESETS["torchvision"])
    for number, data in enumerate((b"", b"none", whole[:1500], b"RIFF\xff\0\0\0WEBPVP8 " + bytes(40))):
        file = tmp_path / f"{number}.jpg"
        file.write_bytes(data)

        failure = read(Fetched(os.fspath(file), data), pixels)

        assert (isinstance(failure, Failure), failure) == (True, read(str(file), pixels))
