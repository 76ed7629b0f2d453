"""Features and scores of every image, in .npy files beside the predictions."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from limits import file_size_limit
from records import new_manifest
from running import Ended, Inception
from stub_network import WEIGHTS
from torch import Tensor, nn

from inception_cli import Classifier
from inception_cli.config import LoaderConfig, PixelConfig
from inception_cli.errors import InceptionError
from inception_cli.images.dataset import load_batches
from inception_cli.inference.predictor import DevicePredictor
from inception_cli.predictions.prediction import Prediction
from inception_cli.storage import array_store
from inception_cli.storage.array_store import ArrayFile
from inception_cli.storage.file_store import FileStore
from inception_cli.storage.store import read_manifest

Classify = Callable[..., Ended]


@pytest.fixture
def classify(inception: Inception, stub: str, photos: Path, tmp_path: Path) -> Classify:
    """Classify 24 photos and two broken files into `p.csv`, `f.npy` and `s.npy` of a folder."""
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")

    def run(folder: str, *options: object, arrays: tuple[str, ...] = ("features", "scores")) -> Ended:
        (tmp_path / folder).mkdir(exist_ok=True)
        files = [(f"--{name}", tmp_path / folder / f"{name[0]}.npy") for name in arrays]
        inputs = (photos / "a", broken, photos / "b", tmp_path / "gone.jpg", photos)
        words = ("-w", stub, "-b", 4, "-j", 0, "--precision", "fp32", "-o", tmp_path / folder / "p.csv")
        return inception("classify", *inputs, *words, *(word for pair in files for word in pair), *options)

    return run


def stop_at(first: int, patch: pytest.MonkeyPatch) -> None:
    """Let runs fail at the batch that begins at this position."""
    result = DevicePredictor._result

    def failing(predictor: DevicePredictor, paths: Any, batch: Any, answer: Any) -> Any:
        if batch.first == first:
            raise InceptionError("stopped")
        return result(predictor, paths, batch, answer)

    patch.setattr(DevicePredictor, "_result", failing)


def recorded(call: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    """Return a function that adds its name to `calls`."""

    def recording(*arguments: Any) -> Any:
        calls.append(call.__name__)
        return call(*arguments)

    return recording


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"}


# The values


def test_row_i_is_that_of_input_i_and_nan_without_a_prediction(classify: Classify, tmp_path: Path) -> None:
    ended = classify("plain")

    assert ended.code == 3
    rows = pd.read_csv(tmp_path / "plain/p.csv")
    features, scores = np.load(tmp_path / "plain/f.npy"), np.load(tmp_path / "plain/s.npy")
    ok = rows.status == "ok"
    assert (features.shape, features.dtype) == ((len(rows), 2048), np.float32)
    assert (scores.shape, scores.dtype) == ((len(rows), 10), np.float32)
    assert (ok.sum(), (~ok).sum()) == (len(rows) - 2, 2)
    assert (np.isnan(features).any(1) == ~ok).all()
    assert (np.isnan(scores).all(1) == ~ok).all()
    assert (scores[ok].argmax(1) == rows.top1_index[ok]).all()
    assert np.allclose(scores[ok].max(1), rows.top1_score[ok], rtol=1e-5)
    assert len({*rows.top1_index[ok]}) >= 5
    assert np.allclose(scores[ok].sum(1), 1)
    # The same photo is twice in the list: at its own position, and in the whole folder.
    first, again = (rows.index[rows.path.str.endswith("a/00.jpg")]).tolist()
    assert (features[first] == features[again]).all()
    assert (features[first] != features[first + 1]).any()


def test_arrays_leave_the_predictions_as_they_are(classify: Classify, tmp_path: Path) -> None:
    classify("plain", arrays=())
    classify("arrays")

    assert contents_of(tmp_path / "plain") == {"p.csv": (tmp_path / "arrays/p.csv").read_bytes()}


def test_crops_are_averaged(stub: str, photos: Path, inception: Inception, tmp_path: Path) -> None:
    options = ("-w", stub, "-b", 24, "-j", 0, "--precision", "fp32", "--crops", 12, "--decode", "exact")
    names = ("-o", tmp_path / "p.csv", "--features", tmp_path / "f.npy", "--scores", tmp_path / "s.npy")

    assert inception("classify", photos / "a", *options, *names).code == 0

    files = sorted(map(str, (photos / "a").iterdir()))
    (batch,) = load_batches(files, PixelConfig(WEIGHTS.preset, crops=12), LoaderConfig(500))
    views = torch.cat([batch.pixels, batch.pixels.flip(3)], 1)  # (N, 12, S, S, 3), with the mirror images
    tiles = nn.functional.adaptive_avg_pool2d(views.float().flatten(0, 1).permute(0, 3, 1, 2), 4).flatten(1)
    tiles = tiles.view(len(files), 12, 48)
    assert np.allclose(np.load(tmp_path / "f.npy")[:, :48], tiles.mean(1), rtol=1e-5)
    assert not np.allclose(tiles[:, :6].mean(1), tiles.mean(1), rtol=1e-2)
    best = pd.read_csv(tmp_path / "p.csv").top1_score
    assert np.allclose(np.load(tmp_path / "s.npy").max(1), best, rtol=1e-5)


def test_an_ensemble_has_scores(classify: Classify, stub: str, tmp_path: Path) -> None:
    assert classify("one", arrays=("scores",)).code == 3
    assert classify("two", "-w", stub, arrays=("scores",)).code == 3

    assert np.allclose(np.load(tmp_path / "two/s.npy"), np.load(tmp_path / "one/s.npy"), equal_nan=True)


def test_half_precision_is_rounded(classify: Classify, tmp_path: Path) -> None:
    classify("single")
    classify("half", "--array-type", "float16")

    for name in ("f.npy", "s.npy"):
        half, single = (np.load(tmp_path / folder / name) for folder in ("half", "single"))
        assert half.dtype == np.float16
        assert np.array_equal(half, single.astype(np.float16), equal_nan=True)


def test_a_halved_batch_has_all_rows(classify: Classify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classify("whole")
    best_classes = DevicePredictor._best_classes

    def limited(predictor: DevicePredictor, pixels: Tensor) -> tuple[Tensor, ...]:
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return best_classes(predictor, pixels)

    monkeypatch.setattr(DevicePredictor, "_best_classes", limited)
    classify("halved")

    for name in ("f.npy", "s.npy"):
        whole, halved = (np.load(tmp_path / folder / name) for folder in ("whole", "halved"))
        assert np.allclose(whole, halved, rtol=1e-5, equal_nan=True)


def test_a_classifier_gives_the_features_of_each_image(
    stub: str, classify: Classify, photos: Path, tmp_path: Path
) -> None:
    classify("command", arrays=("features",))
    classifier = Classifier(stub, features=True, precision="fp32", batch_size=4, workers=0)

    first, gone = classifier([photos / "a/00.jpg", tmp_path / "broken.jpg"])

    assert first.features is not None
    assert np.array_equal(first.features, np.load(tmp_path / "command/f.npy")[0])
    assert gone.features is None
    (plain,) = Classifier(stub, precision="fp32", workers=0)(photos / "a/00.jpg")
    assert plain.features is None
    assert plain.classes == first.classes


# Files


def test_the_manifest_names_the_arrays(classify: Classify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = classify("run", "--array-type", "float16")

    manifest = read_manifest(tmp_path / "run/p.csv")
    assert manifest
    assert manifest.file
    assert manifest.file.arrays == {name: str(tmp_path / f"run/{name[0]}.npy") for name in ("features", "scores")}
    assert (manifest.run.arrays, manifest.run.array_type) == (("features", "scores"), "float16")
    assert f"written to {tmp_path}/run/p.csv, {tmp_path}/run/f.npy, {tmp_path}/run/s.npy" in ended.err


@pytest.mark.parametrize(
    ("cut", "kept"), [(None, 12), (128 + 2048 * 4 * 6, 4), (0, 0), ("gone", 0), ("other", 0)]
)  # six rows: the second batch is not whole
def test_a_resumed_run_has_the_same_bytes(
    classify: Classify, tmp_path: Path, cut: int | str | None, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when somebody has cut or removed the array meanwhile: the run goes on after the shorter one."""
    classify("whole")
    with monkeypatch.context() as patch:
        stop_at(12, patch)
        assert classify("killed").err.endswith("error: stopped\n")
    part = tmp_path / "killed/f.npy.part"
    if isinstance(cut, int):
        os.truncate(part, cut)
    elif cut == "gone":
        part.unlink()
    elif cut == "other":
        part.write_bytes(b"\x93NUMPY of something else" * 99_999)

    ended = classify("killed")

    assert (f"({kept} of them from the interrupted run)" in ended.err) == bool(kept)
    assert contents_of(tmp_path / "killed") == contents_of(tmp_path / "whole")


def test_rows_are_synced_before_the_predictions_of_the_same_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("pwrite", "fsync", "write"):
        monkeypatch.setattr(os, name, recorded(getattr(os, name), calls))
    manifest = replace(new_manifest(2), run=replace(new_manifest(2).run, arrays=("scores",)))

    with FileStore.open(tmp_path / "p.csv", arrays={"scores": tmp_path / "s.npy"}) as store:
        store.open_inputs(lambda: ["a.jpg", "b.jpg"])
        store.begin(manifest)
        calls.clear()
        rows = [Prediction(name, "ok", (1,), ("one",), (0.5,)) for name in ("a.jpg", "b.jpg")]
        store.write(0, rows, [np.zeros((2, 10), np.float32)])

        assert calls == ["pwrite", "fsync", "write"]
        assert (tmp_path / "s.npy.part").stat().st_blocks * 512 >= 128 + 2 * 10 * 4  # reserved, no hole


def test_another_array_is_not_resumed(
    classify: Classify, stub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(4, patch)
        classify("run")
    before = contents_of(tmp_path / "run")

    for arrays, options, difference in (
        (("features",), (), "scores: "),
        ((), (), "features: "),
        (("features", "scores"), ("--array-type", "float16"), "--array-type: float32 → float16"),
        (("features",), ("--scores", tmp_path / "other.npy"), "other.npy); give the same ones"),
    ):
        ended = classify("run", *options, arrays=arrays)
        assert ended.code == 1
        assert ended.err.count("\n") == 1
        assert difference in ended.err
        assert "--restart" in ended.err
        assert contents_of(tmp_path / "run") == before
        assert not (tmp_path / "other.npy.part").exists()


def test_an_existing_array_is_replaced_with_force_alone(classify: Classify, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/f.npy").write_bytes(b"precious")

    ended = classify("run")

    assert (ended.code, ended.err) == (1, f"error: {tmp_path}/run/f.npy exists; --force replaces it\n")
    assert contents_of(tmp_path / "run") == {"f.npy": b"precious"}
    assert classify("run", "--force").code == 3
    assert np.load(tmp_path / "run/f.npy").shape[1] == 2048


def test_the_array_of_another_interrupted_run_is_not_replaced(
    classify: Classify, stub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else that run would resume with rows of this one."""
    with monkeypatch.context() as patch:
        stop_at(8, patch)
        classify("run")
    before = contents_of(tmp_path / "run")

    ended = classify("run", "-o", tmp_path / "run/other.csv")

    assert ended.code == 1
    assert "f.npy.part: it belongs to an interrupted run; " in ended.err
    assert contents_of(tmp_path / "run") == before
    assert classify("run", "-o", tmp_path / "run/other.csv", "--restart").code == 3
    assert np.load(tmp_path / "run/f.npy").shape[1] == 2048


def test_two_runs_do_not_write_one_array(classify: Classify, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    holder = "import sys; from inception_cli.files.atomic import lock; from pathlib import Path; "
    holder += "lock(Path(sys.argv[1])); print(flush=True); input()"
    command = [sys.executable, "-c", holder, str(tmp_path / "run/f.npy.part")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        ended = classify("run")
        process.communicate(b"\n")

    assert ended.code == 1
    assert "f.npy.part: another run is writing it" in ended.err
    assert [*contents_of(tmp_path / "run")] == ["f.npy.part"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--features", "-"), "--features -: an array is written to a file, not standard output"),
        (("--scores", "s.csv"), "--scores s.csv: an array is written to a .npy file"),
        (("--features", "f.npy", "-o", "-"), "--features needs a file of predictions: give --out FILE"),
        (("--features", "x.npy", "--scores", "x.npy"), "--scores x.npy: it would overwrite x.npy"),
        (("--features", "f.npy", "-w", "stub"), "features: they are of one network, not of an ensemble"),
        (("--array-type", "float16"), "array_type needs features or scores"),
        (("--scores", "s.npy", "--engine", "ray", "-o", "folder"), "scores: engine ray keeps no arrays"),
    ],
)
def test_what_arrays_cannot_do_is_refused_in_a_line(
    inception: Inception, stub: str, photos: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    ended = inception("classify", photos, "-w", stub, "-o", tmp_path / "p.csv", *options)

    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert [*tmp_path.iterdir()] == []


def test_a_full_disk_is_one_line_before_anything_is_classified(classify: Classify, tmp_path: Path) -> None:
    with file_size_limit(40_000):
        ended = classify("run")

    assert ended.code == 1
    assert ended.err.startswith(f"error: {tmp_path}/run/f.npy.part: file too large; ")
    assert ended.err.count("\n") == 1
    assert contents_of(tmp_path / "run") == {}
    assert classify("run").code == 3


def test_a_disk_that_fills_up_meanwhile_is_one_line_and_the_run_resumes(
    classify: Classify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system reserves nothing."""
    classify("whole")
    monkeypatch.setattr(array_store, "reserve", lambda descriptor, size: None)
    with file_size_limit(100_000):
        ended = classify("run")

    assert ended.code == 1
    assert "f.npy.part: file too large" in ended.err
    assert ended.err.count("error") == 1
    assert classify("run").code == 3
    assert contents_of(tmp_path / "run") == contents_of(tmp_path / "whole")


@pytest.mark.slow
def test_a_hundred_thousand_rows_take_constant_memory(tmp_path: Path) -> None:
    batch = np.random.default_rng(0).random((500, 2048), np.float32).astype(np.float16)
    array = ArrayFile.open(tmp_path / "f.npy")
    array.set_shape(100_000, 2048, "float16")
    array.begin(0)
    array.write(0, batch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for first in range(500, 100_000, 500):
        array.write(first, batch)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KB
    array.close()
    written = np.load(tmp_path / "f.npy.part", mmap_mode="r")
    assert written.shape == (100_000, 2048)
    assert (written[-500:] == batch).all()
