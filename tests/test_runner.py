"""One loop for every store: list the inputs, resume, predict, write, publish."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from records import run_config

from inception_cli.config import Engine, RunConfig, Settings
from inception_cli.errors import InceptionError, NoImages, UsageError, excerpt
from inception_cli.images.failure import PILLOW_DECODES_IT
from inception_cli.inference import runner
from inception_cli.inference.predictor import BatchResult
from inception_cli.inference.runner import RunProgress, run_job
from inception_cli.predictions.formats import read_predictions
from inception_cli.predictions.prediction import Prediction
from inception_cli.storage import folder_store
from inception_cli.storage.file_store import FileStore
from inception_cli.storage.folder_store import FolderStore
from inception_cli.storage.label_sources import LabelSources
from inception_cli.storage.store import RunStore, read_manifest
from inception_cli.storage.stream_store import StreamStore

RUN = run_config(batch_size=4, top_k=1)
SETTINGS = Settings(weights=("small",), batch_size=4, top_k=1)


def prediction(path: str) -> Prediction:
    """Return what the stub predicts: the class is the number in the name."""
    number = int(Path(path).stem)
    if number % 5 == 4:
        return Prediction(path, "corrupt", error="damaged")
    return Prediction(path, "ok", (number % 10,), (f"class {number % 10}",), (0.5,))


class StubPredictor:
    """Predictions without a network; `reduced_batch` from the second batch on."""

    def __init__(self, reduced_batch: int | None = None, backwards: bool = False) -> None:
        self.reduced_batch, self.backwards = reduced_batch, backwards
        self.predicted: list[int] = []  # positions of the batches

    def predict(self, paths: Sequence[str], pending: Sequence[range]) -> Iterator[BatchResult]:
        batches = [positions[at : at + 4] for positions in pending for at in range(0, len(positions), 4)]
        for positions in reversed(batches) if self.backwards else batches:
            self.predicted.append(positions.start)
            reduced = self.reduced_batch if len(self.predicted) > 1 else None
            yield BatchResult(positions.start, [prediction(paths[each]) for each in positions], reduced)


class Callback:
    """A progress callback that counts the batches, and sends a signal after some of them."""

    def __init__(self, signal_after: int = 0, number: signal.Signals = signal.SIGINT) -> None:
        self.signal_after, self.number = signal_after, number
        self.done: list[int] = []

    def update(self, progress: RunProgress) -> None:
        self.done.append(progress.done)
        if len(self.done) == self.signal_after:
            os.kill(os.getpid(), self.number)

    def preparing(self, description: str) -> None:
        pass

    def downloading(self, name: str, done: int, total: int) -> None:
        raise AssertionError("nothing is downloaded")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with 30 files."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02}.jpg").touch()
    (folder / "notes.txt").touch()
    return folder


@pytest.fixture
def stub_predictor(monkeypatch: pytest.MonkeyPatch) -> StubPredictor:
    """Let runs use this predictor and the configuration RUN; shards hold 12 images."""

    def resolve(settings: Settings, earlier: object, images: int, callback: object) -> RunConfig:
        return replace(RUN, top_k=settings.top_k)

    stub = StubPredictor()
    monkeypatch.setattr(runner, "_resolve", resolve)
    monkeypatch.setattr(runner, "_predictor", lambda settings, run, directory: stub)
    monkeypatch.setattr(folder_store, "shard_size", lambda images, per_batch: 12)
    return stub


OpenStore = Callable[[], RunStore]


@pytest.fixture(params=["file", "folder"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Open the store of a run that can be interrupted and resumed."""
    if request.param == "file":
        return lambda: FileStore.open(tmp_path / "preds.csv")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install pyarrow")
    return lambda: FolderStore.open(str(tmp_path / "preds"))


def predictions_of(store: RunStore) -> list[Prediction]:
    return [*read_predictions(Path(store.name))]


def expected(folder: Path) -> list[Prediction]:
    return [prediction(str(folder / f"{number:02}.jpg")) for number in range(30)]


def test_a_run_writes_a_row_for_every_input_and_the_manifest(
    open_store: OpenStore, stub_predictor: StubPredictor, folder: Path
) -> None:
    store, callback, labels = open_store(), Callback(), LabelSources(val_dir=str(folder))

    outcome = run_job([str(folder)], SETTINGS, store, callback, labels)

    assert predictions_of(store) == expected(folder)
    assert not outcome.interrupted
    assert outcome.progress.counts == {"ok": 24, "corrupt": 6}
    assert (outcome.progress.total, outcome.progress.done, outcome.progress.not_ok) == (30, 30, 6)
    assert dict(outcome.skipped) == {".txt": 1}
    assert callback.done == [4, 8, 12, 16, 20, 24, 28, 30]
    manifest = read_manifest(Path(store.name))
    assert manifest
    assert replace(manifest, file=None, folder=None) == outcome.manifest
    assert (manifest.inputs, manifest.directory) == ((str(folder),), str(Path.cwd()))
    assert (manifest.counts, manifest.labels, manifest.run) == ({"ok": 24, "corrupt": 6}, labels, RUN)
    assert manifest.reduced_batch is None
    assert {"inception", "python", "torch", "torchvision", "pillow"} <= manifest.versions.keys()


def test_a_stream_gets_every_batch_in_order(stub_predictor: StubPredictor, folder: Path) -> None:
    batches: list[Sequence[Prediction]] = []

    outcome = run_job([str(folder)], SETTINGS, StreamStore(batches.append), Callback())

    assert [len(batch) for batch in batches] == [4] * 7 + [2]
    assert [row for batch in batches for row in batch] == expected(folder)
    assert outcome.manifest.n == 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_run_after_the_batch_and_the_next_run_resumes_it(
    number: signal.Signals, open_store: OpenStore, stub_predictor: StubPredictor, folder: Path
) -> None:
    handlers = [*map(signal.getsignal, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))]
    store = open_store()
    first = run_job([str(folder)], SETTINGS, store, Callback(4, number))
    assert (first.interrupted, first.progress.done, stub_predictor.predicted) == (True, 16, [0, 4, 8, 12])
    assert [*map(signal.getsignal, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))] == handlers
    assert first.manifest.n == 0
    (folder / "30.jpg").touch()

    second = run_job([str(folder)], SETTINGS, open_store(), Callback())

    kept = 16 if isinstance(store, FileStore) else 12  # whole batches, or whole shards
    assert stub_predictor.predicted[4:] == [*range(kept, 30, 4)]
    assert (second.interrupted, second.progress.resumed, second.progress.done) == (False, kept, 30)
    assert second.progress.counts == {"ok": 24, "corrupt": 6}
    assert predictions_of(store) == expected(folder)
    assert second.added == [str(folder / "30.jpg")]
    manifest = read_manifest(Path(store.name))
    assert manifest
    assert (manifest.n, manifest.counts) == (30, {"ok": 24, "corrupt": 6})


def test_a_signal_during_the_last_batch_changes_nothing(
    open_store: OpenStore, stub_predictor: StubPredictor, folder: Path
) -> None:
    store = open_store()

    outcome = run_job([str(folder)], SETTINGS, store, Callback(8))

    assert not outcome.interrupted
    assert predictions_of(store) == expected(folder)


def test_an_interrupted_stream_is_not_resumed(stub_predictor: StubPredictor, folder: Path) -> None:
    outcome = run_job([str(folder)], SETTINGS, StreamStore(lambda batch: None), Callback(2))

    assert (outcome.interrupted, outcome.progress.done) == (True, 8)


def test_a_reduced_batch_is_in_the_manifest_and_the_notes(
    open_store: OpenStore, stub_predictor: StubPredictor, folder: Path
) -> None:
    stub_predictor.reduced_batch = 2
    first = run_job([str(folder)], SETTINGS, open_store(), Callback(2))
    stub_predictor.reduced_batch = None

    store = open_store()
    assert store.manifest
    assert store.manifest.reduced_batch == 2
    second = run_job([str(folder)], SETTINGS, store, Callback())

    assert [note for note in first.notes if "2 images at once instead of 4" in note]
    manifest = read_manifest(Path(store.name))
    assert manifest
    assert (manifest.reduced_batch, second.manifest.reduced_batch) == (2, 2)


def test_other_settings_are_refused_with_the_difference_and_the_remedy(
    open_store: OpenStore, stub_predictor: StubPredictor, folder: Path
) -> None:
    run_job([str(folder)], SETTINGS, open_store(), Callback(1))

    for inputs, settings, difference in (
        (folder, replace(SETTINGS, top_k=2), "differ in --top-k: 1 → 2"),
        (folder.parent, SETTINGS, f"input 1: {excerpt(str(folder), 76)} → {excerpt(str(folder.parent), 76)}"),
    ):
        with pytest.raises(InceptionError) as error:
            run_job([str(inputs)], settings, open_store(), Callback())
        assert difference in str(error.value)
        assert str(error.value).count("→") == 1
        assert "--restart" in str(error.value)


def test_a_run_without_images_leaves_nothing(
    open_store: OpenStore, stub_predictor: StubPredictor, folder: Path, tmp_path: Path
) -> None:
    for file in folder.glob("*.jpg"):
        file.unlink()

    with pytest.raises(NoImages, match=r"1 \.txt"):
        run_job([str(folder)], SETTINGS, open_store(), Callback())

    assert [*tmp_path.iterdir()] == [folder]


def test_a_finished_publishing_is_not_predicted_again(
    stub_predictor: StubPredictor, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "preds.csv"
    run_job([str(folder)], SETTINGS, FileStore.open(out), Callback())
    (tmp_path / "preds.csv.json").rename(tmp_path / "preds.csv.part.json")
    out.rename(tmp_path / "preds.csv.part")
    stub_predictor.predicted.clear()

    outcome = run_job([str(folder)], SETTINGS, FileStore.open(out), Callback())

    assert stub_predictor.predicted == []
    assert (outcome.progress.done, outcome.progress.resumed, outcome.manifest.n) == (30, 30, 30)
    assert predictions_of(FileStore.open(out, force=True)) == expected(folder)


def test_batches_of_a_cluster_arrive_in_any_order(stub_predictor: StubPredictor, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install pyarrow")
    stub_predictor.backwards = True

    run_job([str(folder)], SETTINGS, FolderStore.open(str(tmp_path / "preds")), Callback())

    assert [*read_predictions(tmp_path / "preds")] == expected(folder)


def test_remote_files_need_the_engine_ray(stub_predictor: StubPredictor, folder: Path) -> None:
    engine: Engine = "local"

    with pytest.raises(UsageError, match=r"s3://bucket/a\.jpg.*--engine ray"):
        run_job(
            [str(folder), "s3://bucket/a.jpg"],
            replace(SETTINGS, engine=engine),
            StreamStore(lambda batch: None),
            Callback(),
        )


def test_a_second_signal_stops_at_once() -> None:
    with runner._stop_on_signal() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_damaged_images_that_a_publisher_would_count_are_noted(
    stub_predictor: StubPredictor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(path: str) -> Prediction:
        error = f"damaged {PILLOW_DECODES_IT}" if path.endswith(("03.jpg", "07.jpg")) else "damaged"
        return Prediction(path, "corrupt", error=error)

    monkeypatch.setattr(sys.modules[__name__], "prediction", damaged)

    outcome = run_job([str(folder)], SETTINGS, StreamStore(lambda predictions: None), Callback())

    assert [note for note in outcome.notes if note.startswith("2 damaged images have no prediction")]


def test_a_folder_that_cannot_be_read_is_in_the_manifest_and_makes_the_run_incomplete(
    open_store: OpenStore, stub_predictor: StubPredictor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "private").mkdir()
    scandir = os.scandir

    def deny(path: os.PathLike[str] | bytes) -> object:  # root may read every folder
        if b"private" in os.fsencode(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    monkeypatch.setattr(sys.modules[__name__], "prediction", lambda path: Prediction(path, "ok", (0,), ("a",), (0.5,)))

    outcome = run_job([str(folder)], SETTINGS, open_store(), Callback())

    assert (outcome.progress.not_ok, outcome.incomplete) == (0, True)
    assert outcome.manifest.unreadable_folders == 1
    assert outcome.manifest.unreadable_examples == (f"{folder}/private: permission denied",)


def test_a_pattern_without_a_match_makes_the_run_incomplete(
    open_store: OpenStore, stub_predictor: StubPredictor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "prediction", lambda path: Prediction(path, "ok", (0,), ("a",), (0.5,)))

    outcome = run_job([str(folder), f"{folder}/none*.jpg"], SETTINGS, open_store(), Callback())

    assert (outcome.progress.not_ok, outcome.incomplete) == (0, True)
    assert outcome.manifest.unreadable_examples == (f"{folder}/none*.jpg: no match",)


def test_a_pattern_that_matches_nothing_any_more_is_no_added_image(folder: Path) -> None:
    (folder / "new.jpg").touch()
    added = runner._added_images([str(folder / "gone*.jpg"), str(folder / "n*.jpg")], [str(folder / "gone1.jpg")])
    assert added == [str(folder / "new.jpg")]
