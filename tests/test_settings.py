"""Every auto is a value before the first row, and a run comes back from its manifest as it was."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inception_cli.errors import InceptionError, UsageError
from inception_cli.settings import Run, Settings, cores, fastest_precision, resolve


@pytest.fixture
def settings(checkpoint: Path) -> Settings:
    return Settings(weights=(str(checkpoint),))


def test_a_run_survives_json_and_pickle(settings: Settings) -> None:
    run = resolve(settings)

    assert Run.from_json(json.loads(json.dumps(run.to_json()))) == run
    assert pickle.loads(pickle.dumps(run)) == run


def test_every_auto_is_a_value(settings: Settings) -> None:
    run = resolve(settings)

    assert run.plan.device in ("cpu", "cuda", "mps")
    assert run.plan.precision in ("fp32", "bf16", "fp16")
    assert run.loading.batch_size >= 1
    assert 0 < run.pixels.max_pixels <= 500_000_000
    assert run.threads == cores()


@pytest.mark.parametrize(("preset", "made"), [("torchvision", "fast"), ("mmpretrain", "exact")])
def test_a_run_tells_how_its_pixels_are_made(settings: Settings, preset: str, made: str) -> None:
    assert resolve(replace(settings, preset=preset, decode="fast")).pixels.decode == made


def test_auto_takes_the_interrupted_runs_value(settings: Settings) -> None:
    earlier = resolve(replace(settings, batch_size=7, precision="fp32", device="cpu"))
    earlier = replace(earlier, threads=99)

    run = resolve(settings, earlier)

    assert (run.loading.batch_size, run.plan, run.threads) == (7, earlier.plan, 99)
    assert run.rows_depend_on() == earlier.rows_depend_on()


def test_rows_depend_on_neither_workers_nor_patience(settings: Settings) -> None:
    one, other = (resolve(replace(settings, workers=w, timeout=t)) for w, t in ((0, 5), (2, 50)))

    assert one.rows_depend_on() == other.rows_depend_on()
    assert one.rows_depend_on() != resolve(replace(settings, batch_size=3)).rows_depend_on()


def test_top_k_is_clamped_to_the_classes(settings: Settings) -> None:
    assert resolve(replace(settings, top_k=2000)).top_k == 1000


@pytest.mark.parametrize(
    "wrong", [{"precision": "bf61"}, {"device": "gpu"}, {"device": "cuda:x"}, {"top_k": 0}, {"preset": "tim"}]
)
def test_wrong_words_are_usage_errors(settings: Settings, wrong: dict[str, str | int]) -> None:
    with pytest.raises(UsageError):
        resolve(replace(settings, **wrong))  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_refused_with_the_cure(settings: Settings) -> None:
    with pytest.raises(InceptionError, match="use --device cpu"):
        resolve(replace(settings, device="cuda"))


@pytest.mark.parametrize(("major", "precision"), [(9, "bf16"), (8, "bf16"), (7, "fp16"), (6, "fp32")])
def test_cuda_gets_what_it_has_natively(major: int, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))

    assert fastest_precision("cuda") == precision


def test_an_ensemble_has_one_set_of_classes_and_one_geometry(checkpoint: Path) -> None:
    run = resolve(Settings(weights=(str(checkpoint),)))
    other = replace(run.weights[0], preset=replace(run.weights[0].preset, size=224))

    with pytest.raises(UsageError, match="no ensemble"):
        replace(run, weights=(run.weights[0], other))
