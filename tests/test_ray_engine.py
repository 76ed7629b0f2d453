"""What a cluster's tasks do, without a cluster."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inception_cli import ray_engine
from inception_cli.images.inputs import PathList
from inception_cli.images.loader import batches
from inception_cli.settings import Settings, resolve


@pytest.mark.parametrize(("shard", "per_batch"), [(range(2000, 3008), 16), (range(64, 71), 4), (range(1), 16)])
def test_shard_is_cut_into_whole_batches(shard: range, per_batch: int) -> None:
    pieces = [*ray_engine._cut(shard, per_batch)]

    assert [position for piece in pieces for position in piece] == [*shard]
    assert all(len(piece) % per_batch == 0 for piece in pieces[:-1])
    assert len(pieces) <= ray_engine.TASKS_PER_SHARD


def test_decoding_task_makes_the_batches_of_the_plain_run(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "IMAGES", 8)
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
    assert [pickle.loads(each["failures"]) for each in found] == [batch.failures for batch in plain]
    assert plain[-1].failures != ()
