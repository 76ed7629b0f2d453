"""The tasks and actors of a cluster, without a cluster."""

import pickle
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from records import run_config
from stub_network import WEIGHTS

from inception_cli.config import Plan, RunConfig, Settings
from inception_cli.images.dataset import load_batches
from inception_cli.inference import ray_backend
from inception_cli.inference.predictor import BatchResult, DevicePredictor
from inception_cli.storage.input_list import InputList


@pytest.fixture
def run(stub: str) -> RunConfig:
    """The stub network with batches of four."""
    return replace(run_config(batch_size=4, top_k=5), weights=(WEIGHTS,))


def path_list(photos: Path, number: int) -> InputList:
    """Return some photos, and one that does not exist."""
    return InputList.of([*sorted(map(str, photos.rglob("*.jpg")))[:number], "gone.jpg"])


def piece_of(paths: InputList, first: int) -> dict[str, Any]:
    return {"first": first, "paths": paths.encoded(range(len(paths)))}


@pytest.mark.parametrize(("shard", "per_batch"), [(range(2000, 3008), 16), (range(64, 71), 4), (range(1), 16)])
def test_a_shard_is_split_into_whole_batches(shard: range, per_batch: int) -> None:
    pieces = [*ray_backend._split_shard(shard, per_batch)]

    assert [position for piece in pieces for position in piece] == [*shard]
    assert all(len(piece) % per_batch == 0 for piece in pieces[:-1])
    assert len(pieces) <= ray_backend.TASKS_PER_SHARD


@pytest.mark.parametrize("remote", [False, True])
def test_a_decoding_task_makes_the_batches_of_a_plain_run(
    remote: bool, run: RunConfig, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_backend, "REMOTE_IMAGES", 8)
    monkeypatch.setattr(ray_backend, "is_remote", lambda path: remote)
    paths = path_list(photos, 17)

    decoded = [*ray_backend._decode(piece_of(paths, 1000), run, str(Path.cwd()))]

    plain = [*load_batches(paths, run.pixels, run.loader)]
    assert [each["first"] - 1000 for each in decoded] == [batch.first for batch in plain]
    assert [path for each in decoded for path in InputList(each["paths"])] == [*paths]
    assert all(
        torch.equal(torch.tensor(each["pixels"]), batch.pixels) for each, batch in zip(decoded, plain, strict=True)
    )
    assert [pickle.loads(each["rest"]) for each in decoded] == [(batch.failures, None) for batch in plain]
    assert plain[-1].failures != ()


@pytest.mark.parametrize("decode", ["exact", "gpu"])
def test_an_actor_predicts_what_a_plain_run_predicts(decode: Any, run: RunConfig, photos: Path) -> None:
    """With `gpu` the decoding task leaves JPEGs to the actor."""
    run = replace(run, pixels=replace(run.pixels, decode=decode))
    paths = path_list(photos, 7)
    actor = object.__new__(ray_backend._Actor)
    actor._predictor = DevicePredictor(run).load()

    sent = [*ray_backend._decode(piece_of(paths, 0), run, str(Path.cwd()))]
    results: list[BatchResult] = [pickle.loads(actor(each)["result"]) for each in sent]

    assert [result.first for result in results] == [0, 4]
    assert results == [*DevicePredictor(run).predict(paths, [range(8)])]
    assert results[-1].predictions[-1].status == "missing"
    assert [each["pixels"].shape[0] for each in sent] == ([0, 1] if decode == "gpu" else [4, 4])


def test_an_actor_reports_a_reduced_batch(run: RunConfig, photos: Path) -> None:
    actor = object.__new__(ray_backend._Actor)
    actor._predictor = DevicePredictor(run).load()
    actor._predictor.reduced_batch = 2
    (piece,) = ray_backend._decode(piece_of(path_list(photos, 3), 8), run, str(Path.cwd()))

    result: BatchResult = pickle.loads(actor(piece)["result"])

    assert (result.first, result.reduced_batch, len(result.predictions)) == (8, 2, 4)


@pytest.fixture
def _cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in place of Ray, for a cluster of three nodes: one with 8 cores, one with 4, one without."""
    cores, alive = (8, 4, 0, 16), (True, True, True, False)
    nodes = [{"Resources": {"CPU": n} if n else {}, "Alive": up} for n, up in zip(cores, alive, strict=True)]
    ray = ModuleType("ray")
    vars(ray).update(nodes=lambda: nodes, cluster_resources=lambda: {"GPU": 3.0})
    monkeypatch.setitem(sys.modules, "ray", ray)


@pytest.mark.usefixtures("_cluster")
@pytest.mark.parametrize(
    ("actors", "device", "expected"), [("auto", "cpu", 2), ("auto", "cuda", 3), (5, "cpu", 5), (1, "cuda", 1)]
)
def test_there_is_an_actor_for_each_gpu_or_node(actors: Any, device: str, expected: int) -> None:
    settings = Settings(engine="ray", actors=actors)

    assert ray_backend.count_actors(settings, Plan(device)) == expected


@pytest.mark.usefixtures("_cluster")
@pytest.mark.parametrize(("actors", "threads"), [(1, 8), (2, 6), (3, 4), (100, 1)])
def test_each_actor_gets_its_share_of_the_cores(actors: int, threads: int) -> None:
    assert ray_backend._threads(actors) == threads


def test_an_actor_gets_all_files_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics of the training photos are beside weights in timm's layout, and nodes have no copy of the files."""
    ray = ModuleType("ray")
    vars(ray).update(get=lambda stored: stored)
    monkeypatch.setitem(sys.modules, "ray", ray)
    networks = ("one", "other")
    runs: list[RunConfig] = []
    contents: list[bytes] = []

    class Predictor:
        def __init__(self, run: RunConfig) -> None:
            runs.append(run)

        def load(self) -> None:
            for weights in runs[0].weights:
                contents.extend(file.read_bytes() for file in sorted(Path(weights.file).parent.iterdir()))

    monkeypatch.setattr(ray_backend, "DevicePredictor", Predictor)
    run = run_config()
    weights = tuple(replace(run.weights[0], name=name, file=f"/{name}/model.safetensors") for name in networks)
    files = [{"model.safetensors": name.encode(), "familiarity.safetensors": b"statistics"} for name in networks]

    ray_backend._Actor(replace(run, weights=weights), files)

    assert contents == [b"statistics", b"one", b"statistics", b"other"]
    assert {Path(each.file).name for each in runs[0].weights} == {"model.safetensors"}
