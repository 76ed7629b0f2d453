"""A folder of shards: each is there completely or not at all; evaluate and report read the folder like a file."""

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from limits import file_size_limit
from records import MANIFEST_0_1, new_manifest
from running import Inception

from inception_cli.config import PRESETS, PixelConfig, Thresholds
from inception_cli.errors import InceptionError
from inception_cli.images.decode import FetchedFile, read
from inception_cli.images.discovery import Discovery
from inception_cli.images.failure import Failure
from inception_cli.images.fetch import fetch_remote
from inception_cli.predictions.formats import read_predictions
from inception_cli.predictions.prediction import Prediction, with_decision
from inception_cli.predictions.table import read_table
from inception_cli.storage.folder_store import FolderStore, shard_size
from inception_cli.storage.store import FolderState, read_manifest

pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install pyarrow")

MANIFEST = new_manifest(batch_size=10, top_k=2)


def row(number: int) -> Prediction:
    if number % 5 == 4:
        return Prediction(f"{number}.jpg", "corrupt", error="damaged")
    return Prediction(
        f"{number}.jpg", "ok", (0, 1), ("tench, Tinca tinca", "goldfish, Carassius auratus"), (0.75, 0.25)
    )


ROWS = [row(number) for number in range(2500)]
PATHS = [each.path for each in ROWS]


def begin(store: FolderStore) -> Counter[tuple[str, str]]:
    """Begin or resume the run; return the rows that are there by status and reason."""
    assert list(store.open_inputs(lambda: PATHS)) == PATHS
    return store.begin(MANIFEST)


def begun(out: Path) -> FolderStore:
    """Return the store of a run of 2,500 images in three shards, in batches of 10."""
    store = FolderStore.open(str(out))
    assert begin(store) == {}
    return store


def write(store: FolderStore, positions: range) -> None:
    """Write batches, the last one first: they arrive in any order."""
    for first in reversed(positions[::10]):
        store.write(first, ROWS[first : first + 10])


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    store = begun(tmp_path / "preds")
    write(store, range(2500))
    store.publish(MANIFEST)
    return tmp_path / "preds"


def test_two_runs_at_once_write_the_same_rows(tmp_path: Path) -> None:
    one = begun(tmp_path / "preds")
    other = FolderStore.open(one.out)  # which resumes it
    begin(other)
    write(one, range(2500))
    one.publish(MANIFEST)

    write(other, range(2500))
    other.publish(MANIFEST)

    assert [*read_predictions(tmp_path / "preds")] == ROWS
    assert not [*(tmp_path / "preds").glob("_[!m]*")]


class OtherRunBetween:
    """A file system whose `method` lets another run work, once, before it returns."""

    def __init__(self, store: Any, method: str, other_run: Callable[[], None]) -> None:
        self._store, self._method, self._other_run = store, method, other_run

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._store, name)
        return self._and_other_run if name == self._method else function

    def _and_other_run(self, *names: str) -> Any:
        method, self._method = self._method, ""
        opened = getattr(self._store, method)(*names) if method == "open_output_stream" else None
        self._other_run()
        return opened or getattr(self._store, method)(*names)


@pytest.mark.parametrize("method", ["open_output_stream", "move"])
def test_two_runs_write_the_same_shard_at_the_same_moment(tmp_path: Path, method: str) -> None:
    one = begun(tmp_path / "preds")
    other = FolderStore.open(one.out)
    begin(other)
    shard = tmp_path / "preds" / "part-00000.parquet"

    def other_run() -> None:
        write(other, range(1000))
        assert [*read_predictions(shard)] == ROWS[:1000]

    one._store = OtherRunBetween(one._store, method, other_run)
    write(one, range(1000))

    assert [*read_predictions(shard)] == ROWS[:1000]
    assert sorted(file.name for file in shard.parent.iterdir()) == ["_inputs", "_run.json", shard.name]


def test_what_a_killed_run_was_writing_is_removed_at_the_end(tmp_path: Path) -> None:
    begun(tmp_path)
    mine = tmp_path / "_mine.0123abcd.tmp"
    for name in ("_part-00001.parquet.0123abcd.tmp", "__run.json.0123abcd.tmp", "_part-00000.parquet.tmp", mine.name):
        (tmp_path / name).touch()
    store = FolderStore.open(str(tmp_path))
    begin(store)

    write(store, range(2500))
    store.publish(MANIFEST)

    assert [*tmp_path.glob("*.tmp")] == [mine]


def test_a_disk_that_is_full_leaves_no_piece_of_a_file(tmp_path: Path) -> None:
    store = begun(tmp_path / "preds")

    with file_size_limit(1000), pytest.raises(InceptionError, match="fix that, or choose another --out"):
        write(store, range(1000))

    assert sorted(file.name for file in (tmp_path / "preds").iterdir()) == ["_inputs", "_run.json"]


@pytest.mark.parametrize(
    ("images", "size"), [(1, 1008), (2_000_000, 2000), (100_000_000, 10_000)], ids=["few", "millions", "very many"]
)
def test_shards_hold_whole_batches(images: int, size: int) -> None:
    assert shard_size(images, 16) == size


def test_a_folder_holds_the_rows_in_order_and_the_manifest(finished: Path) -> None:
    assert [*read_predictions(finished)] == ROWS
    assert sorted(file.name for file in finished.iterdir()) == [
        *("_manifest.json", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet"),
    ]
    manifest = read_manifest(finished)
    assert manifest
    assert manifest.folder
    assert replace(manifest, folder=None) == MANIFEST
    assert (manifest.folder.images, manifest.folder.shard_size) == (2500, 1000)


def test_pandas_reads_a_folder(finished: Path) -> None:
    pandas = pytest.importorskip("pandas")

    assert pandas.read_parquet(finished)["path"].tolist() == PATHS


def test_a_shard_is_written_when_it_is_complete_and_not_before(tmp_path: Path) -> None:
    store = begun(tmp_path)
    assert store.pending() == [range(1000), range(1000, 2000), range(2000, 2500)]
    write(store, range(10, 1000))
    assert [*tmp_path.glob("part-*")] == []

    write(store, range(10))

    assert [file.name for file in tmp_path.glob("part-*")] == ["part-00000.parquet"]
    assert store.pending() == [range(1000, 2000), range(2000, 2500)]


def test_a_batch_that_arrives_twice_is_kept_once(tmp_path: Path) -> None:
    store = begun(tmp_path)
    write(store, range(990))
    write(store, range(500))
    write(store, range(990, 2500))

    assert [*read_predictions(tmp_path)] == ROWS


def test_a_run_that_lacks_rows_is_not_published(tmp_path: Path) -> None:
    store = begun(tmp_path)
    write(store, range(2000))

    with pytest.raises(InceptionError, match="2,000 rows for 2,500 inputs"):
        store.publish(MANIFEST)

    assert (tmp_path / "_run.json").exists()
    assert not (tmp_path / "_manifest.json").exists()


def test_a_damaged_shard_is_written_again(tmp_path: Path) -> None:
    store = begun(tmp_path)
    write(store, range(2000))
    file = tmp_path / "part-00001.parquet"
    file.write_bytes(file.read_bytes()[:100])

    again = FolderStore.open(str(tmp_path))

    assert again.manifest
    assert (again.manifest.inputs, again.manifest.run) == (MANIFEST.inputs, MANIFEST.run)
    assert list(again.open_inputs(list)) == PATHS  # those of the interrupted run, without a search
    assert again.begin(again.manifest) == {("ok", ""): 800, ("corrupt", "damaged"): 200}
    assert again.pending() == [range(1000, 2000), range(2000, 2500)]


def test_what_changes_during_a_run_is_in_the_manifest_of_an_interrupted_run(tmp_path: Path) -> None:
    store = begun(tmp_path)
    store.update(replace(MANIFEST, reduced_batch=2))

    again = FolderStore.open(str(tmp_path))

    assert again.manifest
    assert again.manifest.reduced_batch == 2
    assert isinstance(again.manifest.folder, FolderState)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("_manifest.json", "holds a finished run; --force"),
        ("notes.txt", "holds other files"),
        ("part-00000.parquet", "holds other files"),  # which are no predictions
        ("part-00000-1b2c-c000.snappy.parquet", "holds other files"),  # of Spark
        ("part-0.parquet", "holds other files"),  # of PyArrow
    ],
)
def test_a_folder_with_other_contents_is_not_changed(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")

    for restart in (False, True)[: 1 + name.startswith("part-")]:
        with pytest.raises(InceptionError, match=message):
            FolderStore.open(str(tmp_path), restart=restart, force=restart)

    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_the_folder_of_another_program_is_not_changed(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"path": ["a.jpg"], "status": ["new"]}).to_parquet(tmp_path / "part-00000.parquet")
    (tmp_path / "_SUCCESS").touch()

    for restart in (False, True):
        with pytest.raises(InceptionError, match="holds other files"):
            FolderStore.open(str(tmp_path), restart=restart, force=restart)

    assert len([*tmp_path.iterdir()]) == 2


def test_shards_without_a_manifest_are_discarded_with_restart_only(finished: Path) -> None:
    (finished / "_manifest.json").unlink()

    with pytest.raises(InceptionError, match=r"_run\.json is missing.*--restart"):
        FolderStore.open(str(finished))
    FolderStore.open(str(finished), restart=True)

    assert [*finished.iterdir()] == []


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "preds").write_text("precious")

    with pytest.raises(InceptionError, match="is a file"):
        FolderStore.open(str(tmp_path / "preds"))


def test_force_and_restart_start_again(finished: Path) -> None:
    assert FolderStore.open(str(finished), force=True).manifest is None
    assert [*finished.iterdir()] == []
    write(begun(finished), range(1000))

    assert FolderStore.open(str(finished), restart=True).manifest is None
    assert [*finished.iterdir()] == []


@pytest.mark.parametrize("name", ["_run.json", "_inputs"])
def test_a_damaged_run_is_refused_with_the_remedy(name: str, tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / name).write_text("[")

    with pytest.raises(InceptionError, match=f"{name} is damaged.*--restart"):
        FolderStore.open(str(tmp_path)).open_inputs(list)


def test_a_run_of_an_older_version_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "_run.json").write_text(json.dumps(MANIFEST_0_1))

    with pytest.raises(InceptionError, match=r"_run\.json was written by an older version.*--restart"):
        FolderStore.open(str(tmp_path))


def test_evaluate_and_report_read_a_folder(finished: Path, inception: Inception, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(f"{each.path},0\n" for each in ROWS))
    (finished / "_manifest.json").unlink()  # its classes are not those of the rows

    evaluated = inception("evaluate", "--predictions", finished, "--labels", tmp_path / "labels.csv", "--json")
    reported = inception("report", finished, "--out", tmp_path / "report.html")

    assert (evaluated.code, json.loads(evaluated.out)["n"], json.loads(evaluated.out)["top1"]) == (3, 2000, 100.0)
    assert (reported.code, "2,500" in (tmp_path / "report.html").read_text()) == (0, True)


def test_an_unfinished_run_is_not_evaluated(tmp_path: Path, inception: Inception) -> None:
    write(begun(tmp_path / "preds"), range(1000))

    ended = inception("evaluate", "--predictions", tmp_path / "preds")

    assert (ended.code, "is not finished" in ended.err) == (1, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--engine", "spark"), "'local', 'ray'"),
        (("--engine", "ray"), "give --out FOLDER"),
        (("--engine", "ray", "--out", "preds.csv"), "writes a folder"),
        (("--actors", 2), "need engine ray"),
    ],
)
def test_options_that_do_not_go_together(
    words: tuple[object, ...], message: str, inception: Inception, photos: Path
) -> None:
    ended = inception("classify", photos, "-w", "demo", *words)

    assert (ended.code, message in ended.err) == (2, True), ended.err


def test_remote_photos_need_the_engine_ray(inception: Inception, tmp_path: Path) -> None:
    ended = inception("classify", "s3://bucket/photos", "-w", "demo", "--out", tmp_path / "preds.csv")

    assert (ended.code, "--engine ray" in ended.err) == (2, True)
    assert [*tmp_path.iterdir()] == []


@pytest.fixture
def memory(photos: Path) -> str:
    """A remote store with photos, a hidden file and other files, in the memory of this process."""
    fsspec = pytest.importorskip("fsspec")  # which torch brings
    store = fsspec.filesystem("memory")
    data = next(photos.rglob("*.jpg")).read_bytes()
    for name in ("b/1 ä.JPG", "b/2%20.jpg", "a.jpg", ".hidden/3.jpg", "b/@eaDir/4.jpg", "b/notes.txt", "c.heic"):
        store.pipe(f"/photos/{name}", data)
    return "fsspec+memory://photos"


def test_a_remote_folder_is_listed_like_a_local_one(memory: str) -> None:
    discovery = Discovery([memory])

    assert [*discovery] == [f"{memory}/{name}" for name in ("a.jpg", "b/1 ä.JPG", "b/2%20.jpg", "c.heic")]
    assert dict(discovery.skipped) == {".txt": 1}


def test_a_missing_remote_folder_is_an_error(memory: str) -> None:
    with pytest.raises(InceptionError, match="no such file or folder"):
        [*Discovery([f"{memory}/nowhere"])]


def test_remote_files_are_decoded_or_become_failures(memory: str, photos: Path) -> None:
    pixels = PixelConfig(PRESETS["torchvision"])
    local = str(next(photos.rglob("*.jpg")))

    results = [read(each, pixels) for each in fetch_remote([f"{memory}/a.jpg", local, f"{memory}/gone.jpg"])]

    assert not isinstance(results[0], Failure)
    assert not isinstance(results[1], Failure)
    assert (results[0].size, results[0].tobytes()) == (results[1].size, results[1].tobytes())
    assert results[2] == Failure("missing", "no such file")


def test_fetched_bytes_fail_like_the_local_file(tmp_path: Path, photos: Path) -> None:
    whole = next(photos.rglob("*.jpg")).read_bytes()
    pixels = PixelConfig(PRESETS["torchvision"])
    for number, data in enumerate((b"", b"none", whole[:1500], b"RIFF\xff\0\0\0WEBPVP8 " + bytes(40))):
        file = tmp_path / f"{number}.jpg"
        file.write_bytes(data)

        failure = read(FetchedFile(os.fspath(file), data), pixels)

        assert (isinstance(failure, Failure), failure) == (True, read(str(file), pixels))


def test_shards_hold_the_decisions_of_a_run_with_thresholds(tmp_path: Path) -> None:
    manifest = replace(MANIFEST, run=replace(MANIFEST.run, thresholds=Thresholds(0.8)))
    paths = [(("animal", 0.9), ("dog", 0.75)) if number < 1000 else () for number in range(2500)]  # none in two shards
    rows = [with_decision(each, path, Thresholds(0.8), None) for each, path in zip(ROWS, paths, strict=True)]
    store = FolderStore.open(str(tmp_path / "preds"))
    store.open_inputs(lambda: PATHS)
    store.begin(manifest)
    for first in range(0, 2500, 10):
        store.write(first, rows[first : first + 10])
    store.publish(manifest)

    assert list(read_predictions(tmp_path / "preds")) == rows
    table = read_table(tmp_path / "preds")
    assert table["label_path"].dropna().tolist() == ["animal:0.9>dog:0.75"] * 800 + [""] * 1200
    assert (table["label"].dropna() == "unknown").all()
    assert read_manifest(tmp_path / "preds") is not None
