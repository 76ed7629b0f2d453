"""Every "auto" is a value before the first row."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from records import new_manifest

from inception_cli import machine
from inception_cli.config import Plan, RunConfig, Settings, Weights
from inception_cli.errors import InceptionError, UsageError
from inception_cli.inference import resolve as module
from inception_cli.inference.resolve import resolve, resolve_plan
from inception_cli.network import batch_size
from inception_cli.storage.store import Manifest


@pytest.fixture
def settings(checkpoint: Path) -> Settings:
    return Settings(weights=(str(checkpoint),))


def resolved(settings: Settings, earlier: RunConfig | None = None, images: int = 0) -> RunConfig:
    return resolve(settings, resolve_plan(settings, earlier, images), earlier, images)


def test_a_run_can_be_pickled(settings: Settings) -> None:
    run = resolved(settings)

    assert pickle.loads(pickle.dumps(run)) == run


def test_a_run_is_read_from_its_manifest_as_it_was(settings: Settings) -> None:
    run = resolved(replace(settings, crops=12, preset="mmpretrain"))
    manifest = replace(new_manifest(), run=run)

    assert Manifest.decode(manifest.encode()).run == run


def test_every_auto_becomes_a_value(settings: Settings) -> None:
    run = resolved(settings)

    assert run.plan.device in ("cpu", "cuda", "mps")
    assert run.plan.precision in ("fp32", "bf16", "fp16")
    assert run.loader.batch_size >= 1
    assert 0 <= run.loader.workers <= 16
    assert 0 < run.pixels.max_pixels <= 500_000_000
    assert run.plan.threads == machine.cores()
    assert "auto" not in str(run.rows_depend_on())


@pytest.mark.parametrize(("preset", "decode"), [("torchvision", "fast"), ("mmpretrain", "exact")])
def test_a_preset_without_antialias_is_decoded_exactly(settings: Settings, preset: Any, decode: str) -> None:
    assert resolved(replace(settings, preset=preset, decode="fast")).pixels.decode == decode


@pytest.mark.parametrize(("preset", "exif"), [("torchvision", False), ("mmpretrain", True)])
def test_exif_is_applied_as_the_publisher_does_unless_it_is_set(settings: Settings, preset: Any, exif: bool) -> None:
    settings = replace(settings, preset=preset)

    assert resolved(settings).pixels.exif is exif
    assert resolved(replace(settings, exif=not exif)).pixels.exif is not exif


def test_auto_takes_the_value_of_the_interrupted_run(settings: Settings) -> None:
    earlier = resolved(replace(settings, batch_size=7, precision="bf16", device="cpu", max_pixels=1000, compile="on"))
    earlier = replace(earlier, plan=replace(earlier.plan, threads=99))

    run = resolved(settings, earlier)

    assert (run.loader.batch_size, run.plan, run.pixels.max_pixels) == (7, earlier.plan, 1000)
    assert run.rows_depend_on() == earlier.rows_depend_on()


def test_explicit_values_replace_those_of_the_interrupted_run(settings: Settings) -> None:
    earlier = resolved(replace(settings, batch_size=7, precision="bf16", device="cpu", max_pixels=1000))

    run = resolved(replace(settings, batch_size=3, precision="fp32", max_pixels=2000), earlier)

    assert (run.loader.batch_size, run.plan.precision, run.pixels.max_pixels) == (3, "fp32", 2000)


@pytest.mark.parametrize(
    ("images", "choice", "pays", "compiled"),
    [
        (9_999, "auto", True, False),
        (10_000, "auto", True, True),
        (10_000, "auto", False, False),
        (1, "on", False, True),
        (10_000, "off", True, False),
    ],
)
def test_long_runs_are_compiled_where_that_pays(
    images: int, choice: Any, pays: bool, compiled: bool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "compiling_pays", lambda device: pays)

    assert resolve_plan(replace(settings, device="cpu", compile=choice), None, images).compile is compiled


@pytest.mark.parametrize(
    ("images", "crops", "compiled"), [(1_999_999, 1, False), (2_000_000, 1, True), (20_000, 144, True)]
)
def test_a_gpu_compiles_for_millions_of_views(
    images: int, crops: Any, compiled: bool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "compiling_pays", lambda device: True)
    monkeypatch.setattr(machine, "find_device", lambda requested: "cuda")
    monkeypatch.setattr(machine, "fastest_precision", lambda device: "bf16")

    assert resolve_plan(replace(settings, crops=crops), None, images).compile is compiled


def test_the_batch_size_of_a_gpu_is_measured_in_long_runs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "find_batch_size", lambda plan, side, classes: 300 + side + classes)
    plan = Plan("cuda", "bf16")

    def size(**values: Any) -> int:
        return resolve(replace(settings, **values), plan, None, images=10_000).loader.batch_size

    assert size() == 300 + 299 + 1000
    assert size(batch_size=5) == 5
    assert resolve(settings, plan, None, images=9_999).loader.batch_size == 128
    assert resolve(settings, Plan(), None, images=10_000).loader.batch_size == 32


def test_rows_depend_on_neither_workers_nor_timeout(settings: Settings) -> None:
    one, other = (resolved(replace(settings, workers=w, timeout=t)) for w, t in ((0, 5), (2, 50)))

    assert one != other
    assert one.rows_depend_on() == other.rows_depend_on()
    assert one.rows_depend_on() != resolved(replace(settings, batch_size=3)).rows_depend_on()


def test_top_k_is_at_most_the_number_of_classes(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("0\n7\n")

    assert resolved(replace(settings, top_k=2000)).top_k == 1000
    run = resolved(replace(settings, top_k=5, only_classes=str(tmp_path / "two.txt")))
    assert (run.top_k, run.only_classes) == (2, (0, 7))


def test_decoding_on_a_gpu_needs_the_network_on_a_gpu(settings: Settings) -> None:
    with pytest.raises(UsageError, match="decode gpu: the network runs on cpu"):
        resolve(replace(settings, decode="gpu"), Plan("cpu"))
    assert resolve(replace(settings, decode="gpu"), Plan("cuda:1", "bf16")).pixels.decode == "gpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_device_is_refused_with_the_remedy(settings: Settings) -> None:
    with pytest.raises(InceptionError, match=r"device cuda: torch .* finds none here; use the device cpu"):
        resolve_plan(replace(settings, device="cuda"))


def test_an_ensemble_needs_the_same_classes_and_input_size(settings: Settings) -> None:
    run = resolved(settings)

    def other(**values: Any) -> Weights:
        return replace(run.weights[0], **values)

    preset = run.weights[0].preset
    assert replace(run, weights=(run.weights[0], other(preset=replace(preset, mean=(0, 0, 0))))).classes == run.classes
    for wrong in (other(preset=replace(preset, size=224)), other(classes=replace(run.classes, names=("a",)))):
        with pytest.raises(UsageError, match="cannot be an ensemble"):
            replace(run, weights=(run.weights[0], wrong))
