"""The records of a run: validated when they are built, and importable without torch."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from records import run_config

from inception_cli.config import PRESETS, LoaderConfig, PixelConfig, Plan, Settings, images_per_batch
from inception_cli.errors import UsageError
from inception_cli.training.settings import TrainConfig

RUN = run_config()
TRAIN = TrainConfig(Path("photos"), Path("mine.safetensors"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("precision", "bf61"),
        ("device", "gpu"),
        ("device", "cuda:x"),
        ("top_k", 0),
        ("top_k", "auto2"),
        ("preset", "tim"),
        ("crops", 7),
        ("decode", "quick"),
        ("compile", "yes"),
        ("engine", "spark"),
        ("timeout", 0),
        ("batch_size", 0),
        ("batch_size", "some"),
        ("workers", -1),
        ("max_pixels", 0),
        ("actors", 0),
        ("weights", ()),
        ("only_classes", ["apple"]),
        ("min_score", 50),
    ],
)
def test_a_wrong_setting_is_a_usage_error_that_names_the_field(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=field) as error:
        replace(Settings(), **{field: value})
    assert "--" not in str(error.value)
    assert isinstance(error.value, ValueError)


def test_a_number_in_a_text_is_shown_as_text() -> None:
    with pytest.raises(UsageError, match=r"min_score must be at least 0 and at most 1, not '0\.5'"):
        replace(Settings(), min_score="0.5")  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [{"ray_address": "auto"}, {"actors": 2}])
def test_settings_of_a_cluster_need_the_engine(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="need engine ray"):
        Settings(**values)
    assert Settings(engine="ray", **values).engine == "ray"


def test_a_cluster_sets_the_number_of_workers() -> None:
    with pytest.raises(UsageError, match="workers: engine ray sets their number; leave it out"):
        Settings(engine="ray", workers=2)


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:12"])
def test_devices(device: str) -> None:
    assert Settings(device=device).device == device


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        (Plan(), "precision", "bf61"),
        (Plan(), "device", "auto"),
        (Plan(), "threads", 0),
        (LoaderConfig(1), "batch_size", 0),
        (LoaderConfig(1), "workers", -1),
        (LoaderConfig(1), "timeout", 0),
        (PixelConfig(PRESETS["timm"]), "crops", 7),
        (PixelConfig(PRESETS["timm"]), "decode", "quick"),
        (PixelConfig(PRESETS["timm"]), "max_pixels", 0),
        (PRESETS["timm"], "size", 0),
        (PRESETS["timm"], "size", 342),
        (PRESETS["timm"], "filter", "lanczos"),
        (PRESETS["timm"], "antialias", False),
        (PRESETS["timm"], "std", (0, 1, 1)),
        (RUN, "weights", ()),
        (RUN.classes, "names", ()),
        (TRAIN, "size", 74),
        (TRAIN, "epochs", 0),
        (TRAIN, "batch_size", 1),
        (TRAIN, "workers", -1),
        (TRAIN, "seed", -1),
        (TRAIN, "seed", 2**63),
        (TRAIN, "precision", "fp16"),
        (TRAIN, "out", Path("mine.pth")),
    ],
)
def test_a_record_with_a_wrong_value_is_refused(record: Any, field: str, value: Any) -> None:
    with pytest.raises(UsageError) as error:
        replace(record, **{field: value})
    assert "\n" not in str(error.value)


def test_records_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        RUN.top_k = 3  # type: ignore[misc]


@pytest.mark.parametrize(("batch_size", "views", "images"), [(32, 1, 32), (32, 12, 2), (1, 144, 1), (144, 144, 1)])
def test_a_batch_of_views_holds_at_least_one_image(batch_size: int, views: int, images: int) -> None:
    assert images_per_batch(batch_size, views) == images
    run = replace(RUN, loader=LoaderConfig(batch_size), pixels=replace(RUN.pixels, crops=views))
    assert run.images_per_batch == images


def test_rows_depend_on_what_changes_their_bytes() -> None:
    def depends(**values: Any) -> bool:
        return replace(RUN, **values).rows_depend_on() != RUN.rows_depend_on()

    weights = RUN.weights[0]
    assert depends(top_k=2)
    assert depends(loader=LoaderConfig(5))
    assert depends(plan=Plan(threads=2))
    assert depends(pixels=replace(RUN.pixels, exif=False))
    assert depends(weights=(replace(weights, sha256="1" * 64),))
    assert depends(weights=(weights, weights))
    assert depends(only_classes=(1,))
    assert not depends(loader=LoaderConfig(4, workers=3, timeout=1))
    assert not depends(weights=(replace(weights, file="elsewhere", source="s", notes=("n",), licence="l", top1=1.0),))


def test_config_imports_neither_torch_nor_numpy_nor_pillow() -> None:
    program = "import sys, inception_cli.config; print({'torch', 'numpy', 'PIL', 'pandas'} & set(sys.modules))"

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == "set()"
