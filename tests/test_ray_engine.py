"""What a cluster's tasks do, without a cluster."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inception_cli import ray_engine
from inception_cli.images.inputs import PathList
from inception_cli.images.loader import batches
from inception_cli.predict import Networks, classify
from inception_cli.results.rows import to_csv
from inception_cli.settings import Settings, resolve


@pytest.mark.parametrize(("shard", "per_batch"), [(range(2000, 3008), 16), (range(64, 71), 4), (range(1), 16)])
def test_shard_is_cut_into_whole_batches(shard: range, per_batch: int) -> None:
    pieces = [*ray_engine._cut(shard, per_batch)]

    assert [position for piece in pieces for position in piece] == [*shard]
    assert all(len(piece) % per_batch == 0 for piece in pieces[:-1])
    assert len(pieces) <= ray_engine.TASKS_PER_SHARD


@pytest.mark.parametrize("remote", [False, True])
def test_decoding_task_makes_the_batches_of_the_plain_run(
    remote: bool, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "FETCHED", 8)
    monkeypatch.setattr(ray_engine, "is_remote", lambda path: remote)
    run = resolve(Settings(weights=("demo",), batch_size=4, workers=0))
    paths = PathList.of([*sorted(map(str, photos.rglob("*.jpg")))[:17], "gone.jpg"])
    piece = {"first": 1000, "paths": paths.encoded(range(len(paths)))}

    found = [*ray_engine._decode(piece, run, str(Path.cwd()))]

    plain = [*batches(paths, run.pixels, replace(run.loading, workers=0))]
    assert [each["first"] - 1000 for each in found] == [batch.first for batch in plain]
    assert [path for each in found for path in PathList(each["paths"])] == [*paths]
    assert all(
        torch.equal(torch.tensor(each["pixels"]), batch.pixels) for each, batch in zip(found, plain, strict=True)
    )
    assert [pickle.loads(each["rest"]) for each in found] == [(batch.failures, None) for batch in plain]
    assert plain[-1].failures != ()


def test_network_decodes_what_the_decoding_task_left_to_the_gpu(photos: Path) -> None:
    settings = Settings(weights=("demo",), batch_size=4, workers=0, device="cpu", precision="fp32")
    exact = replace(resolve(settings), threads=torch.get_num_threads())
    run = replace(exact, pixels=replace(exact.pixels, decode="gpu"))
    paths = PathList.of([*sorted(map(str, photos.rglob("*.jpg")))[:7], "gone.jpg"])
    piece = {"first": 0, "paths": paths.encoded(range(len(paths)))}
    actor = object.__new__(ray_engine._Actor)
    actor.networks = Networks(run)

    found = [actor(each) for each in ray_engine._decode(piece, run, str(Path.cwd()))]

    assert [each["first"] for each in found] == [0, 4]
    assert [each["rows"] for each in found] == [to_csv(rows, run.top_k) for rows in classify(paths, run)]
