"""Pixels are equal to the publishers' own, for images of any shape."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.models import Inception_V3_Weights
from torchvision.transforms import functional

from inception_cli.config import PRESETS, PixelConfig, Preset
from inception_cli.images import preprocess
from inception_cli.images.preprocess import resized_size, views

Square = NDArray[np.uint8]
RNG = np.random.default_rng(0)
# Around each publisher's short side and crop, half and double, one pixel, one line, long and thin; then random ones.
EDGES = [1, 2, 3, 150, 171, 298, 299, 300, 340, 341, 342, 343, 513, 684]
SHAPES = [(1, 9), (9, 1), (2, 30), (150, 9), (684, 912), (912, 684), (1024, 683), (500, 375), (375, 500)]
SHAPES += [(side, side) for side in EDGES]
SHAPES += [(int(w), int(h)) for w, h in RNG.integers(20, 500, (45, 2))]


def picture(shape: tuple[int, int]) -> Image.Image:
    """Return a gradient with noise: neighbouring pixels differ, so an offset of one pixel is noticed."""
    width, height = shape
    slope = np.linspace(0, 200, width)[None, :, None] + np.linspace(0, 30, height)[:, None, None]
    return Image.fromarray((slope + RNG.integers(0, 25, (height, width, 3))).astype(np.uint8))


def centre(image: Image.Image, preset: Preset) -> Square:
    square: Square
    (square,) = views(image, PixelConfig(preset))
    return square


def tensor(view: Square) -> torch.Tensor:
    converted: torch.Tensor = functional.to_tensor(Image.fromarray(view))
    return converted


def evaluation_transform(model: str) -> Callable[[Image.Image], torch.Tensor]:
    """Return timm's own transform, by the configuration that it publishes with the weights."""
    import timm

    data: Any = timm.data
    published: Any = timm.models.get_pretrained_cfg(model)
    transform: Callable[[Image.Image], torch.Tensor] = data.create_transform(
        **data.resolve_data_config(pretrained_cfg=published.to_dict())
    )
    return transform


def centre_by_cv2(image: Image.Image) -> Square:
    """Return what mmpretrain's ResizeEdge(scale=342, edge="short") and mmcv's CenterCrop(299) give, with cv2."""
    width, height = image.size
    size = (342, int(342 * height / width)) if width < height else (int(342 * width / height), 342)
    resized = cv2.resize(np.asarray(image), size, interpolation=cv2.INTER_LINEAR)
    top, left = (max(0, round((side - 299) / 2)) for side in resized.shape[:2])
    return np.asarray(resized[top : top + 299, left : left + 299], np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_torchvision_preset_equals_the_transforms_of_the_weights(shape: tuple[int, int]) -> None:
    image = picture(shape)
    transforms = Inception_V3_Weights.IMAGENET1K_V1.transforms()
    expected = transforms(image)
    actual = functional.normalize(tensor(centre(image, PRESETS["torchvision"])), transforms.mean, transforms.std)
    assert torch.equal(expected, actual)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_timm_preset_equals_timms_evaluation_transform(shape: tuple[int, int]) -> None:
    image, preset = picture(shape), PRESETS["timm"]
    actual = functional.normalize(tensor(centre(image, preset)), list(preset.mean), list(preset.std))
    assert torch.equal(evaluation_transform("inception_v3.tv_in1k")(image), actual)


@pytest.mark.parametrize(
    ("model", "name"), [("tv_in1k", "timm"), ("tf_in1k", "timm"), ("tf_adv_in1k", "timm"), ("gluon_in1k", "timm-gluon")]
)
def test_the_preset_of_each_timm_model_equals_its_transform(model: str, name: str) -> None:
    image, preset = picture((150, 131)), PRESETS[name]
    actual = functional.normalize(tensor(centre(image, preset)), list(preset.mean), list(preset.std))
    assert torch.equal(evaluation_transform(f"inception_v3.{model}")(image), actual)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_mmpretrain_preset_equals_cv2(shape: tuple[int, int]) -> None:
    image = picture(shape)
    expected, actual = centre_by_cv2(image).astype(int), centre(image, PRESETS["mmpretrain"]).astype(int)
    assert abs(expected - actual).max() <= 1  # the promise
    assert np.array_equal(expected, actual)  # true for all known versions


def test_presets_give_different_pixels() -> None:
    image = picture((500, 375))
    pixels = {name: centre(image, preset).tobytes() for name, preset in PRESETS.items()}
    assert pixels.pop("timm-gluon") == pixels["timm"]  # they differ only in mean and std
    assert len(set(pixels.values())) == len(pixels) == 3


def test_the_view_is_one_square_of_uint8() -> None:
    actual = views(picture((60, 40)), PixelConfig(PRESETS["torchvision"]))
    assert actual.shape == (1, 299, 299, 3)
    assert actual.dtype == np.uint8


@pytest.mark.parametrize("preset", PRESETS.values(), ids=str)
def test_an_image_of_one_pixel_fills_its_view(preset: Preset) -> None:
    assert (centre(Image.new("RGB", (1, 1), (10, 200, 30)), preset) == (10, 200, 30)).all()


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((500, 375), (456, 342)),
        ((375, 500), (342, 456)),
        ((1024, 683), (512, 342)),  # 512.7 is rounded down, not to the nearest
        ((683, 1024), (342, 512)),
        ((342, 342), (342, 342)),
        ((1, 1), (342, 342)),
    ],
)
def test_the_long_side_is_rounded_down(size: tuple[int, int], resized: tuple[int, int]) -> None:
    assert resized_size(*size, 342) == resized


@pytest.mark.parametrize("preset", PRESETS.values(), ids=str)
@pytest.mark.parametrize("shape", [(1, 30_000), (30_000, 1), (2, 30_000)])
def test_a_long_thin_image_is_resized_from_the_window_of_its_crop(shape: tuple[int, int], preset: Preset) -> None:
    """The whole image would be resized to 342 × 10 million pixels."""
    width, height = shape
    slope = np.linspace(0, 255, max(shape))
    grey = np.broadcast_to(slope[:, None] if height > width else slope[None], (height, width))
    image = Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    assert abs(centre(image, preset).astype(int) - 127).max() <= 1  # the middle of the gradient


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_resizing_only_the_window_equals_resizing_the_whole_within_two_levels(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [picture(shape) for shape in ((500, 375), (375, 500), (40, 900), (1, 40), (299, 299))]
    whole = [centre(image, PRESETS[name]).astype(int) for image in images]
    monkeypatch.setattr(preprocess, "MAX_RESIZED", 0)
    for expected, image in zip(whole, images, strict=True):
        assert abs(expected - centre(image, PRESETS[name])).max() <= 2  # Pillow may resize vertically first


def test_a_large_image_of_a_common_shape_is_resized_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """MAX_RESIZED limits the resized image, not the original: one of a common shape has the publisher's pixels."""
    monkeypatch.setattr(preprocess, "MAX_RESIZED", 1_000_000)
    image = picture((2000, 1000))
    resized = image.resize((684, 342), Image.Resampling.BILINEAR)
    expected = np.asarray(resized.crop((192, 22, 491, 321)))  # (684 - 299) / 2 and (342 - 299) / 2, halves to even
    assert np.array_equal(expected, centre(image, PRESETS["torchvision"]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 400},
        {"size": 0},
        {"filter": "lanczos"},
        {"filter": "bicubic", "antialias": False},
        {"std": (1.0, 0.0, 1.0)},
        {"mean": (0.5, 0.5)},
    ],
)
def test_an_invalid_preset_is_refused(wrong: dict[str, object]) -> None:
    make: Callable[..., Preset] = replace
    with pytest.raises(ValueError, match="preset torchvision"):
        make(PRESETS["torchvision"], **wrong)


def test_an_invalid_pixel_config_is_refused() -> None:
    with pytest.raises(ValueError, match="max_pixels"):
        PixelConfig(PRESETS["torchvision"], max_pixels=0)
