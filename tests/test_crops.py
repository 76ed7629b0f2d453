"""The papers' protocols with several crops: which squares, how many, and where they are mirrored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from draw import picture
from PIL import Image
from torchvision.transforms import functional

from inception_cli.config import PRESETS, PixelConfig, RunConfig, Settings
from inception_cli.errors import UsageError
from inception_cli.images.preprocess import central_view, resized_size, shipped_views, views
from inception_cli.inference.predictor import DevicePredictor
from inception_cli.inference.resolve import resolve, resolve_plan
from inception_cli.network.fusion import optimize
from inception_cli.weights.load import load_network

PRESET = PRESETS["torchvision"]
SHAPES = [(400, 300), (300, 400), (320, 320)]


def in_any_order(squares: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> list[bytes]:
    return sorted(square.tobytes() for square in squares)


def resolved(settings: Settings) -> RunConfig:
    return resolve(settings, resolve_plan(settings))


@pytest.mark.parametrize("shape", SHAPES)
def test_ten_crops_equal_torchvisions_of_the_centre_square(shape: tuple[int, int]) -> None:
    image = picture("apple", 3, shape)
    resized = image.resize(resized_size(*shape, 342), Image.Resampling.BILINEAR)
    square = functional.center_crop(resized, [342, 342])
    expected = np.stack([np.asarray(crop) for crop in functional.ten_crop(square, [299, 299])])

    actual = views(image, PixelConfig(PRESET, crops=10))

    assert in_any_order(actual) == in_any_order(expected)


def test_twelve_crops_are_corners_centre_and_the_whole_square() -> None:
    image = picture("pear", 4, (400, 300))
    square = functional.center_crop(image.resize((456, 342), Image.Resampling.BILINEAR), [342, 342])

    actual = views(image, PixelConfig(PRESET, crops=12))

    assert actual.shape == (6, 299, 299, 3)
    assert np.array_equal(actual[:5], views(image, PixelConfig(PRESET, crops=10))[:5])
    assert np.array_equal(actual[5], np.asarray(square.resize((299, 299), Image.Resampling.BILINEAR)))


@pytest.mark.parametrize("shape", SHAPES)
def test_144_crops_are_four_scales_of_three_squares_of_six_views(shape: tuple[int, int]) -> None:
    image = picture("melon", 5, shape)
    expected = []
    for short in (342, 384, 427, 470):  # 299 / 224 of GoogLeNet's 256, 288, 320, 352
        width, height = resized_size(*shape, short)
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        for share in (0, 0.5, 1):
            left, top = round(share * (width - short)), round(share * (height - short))
            square = resized.crop((left, top, left + short, top + short))
            expected += [np.asarray(crop) for crop in functional.five_crop(square, [299, 299])]
            expected.append(np.asarray(square.resize((299, 299), Image.Resampling.BILINEAR)))

    actual = views(image, PixelConfig(PRESET, crops=144))

    assert len(actual) == shipped_views(144) == 72
    assert in_any_order(actual) == in_any_order(np.stack(expected))


@pytest.mark.parametrize("short", [86, 107])  # the first and the third of 144 crops; offsets with and without a half
@pytest.mark.parametrize("shape", SHAPES)
def test_the_central_view_is_the_nearest_to_a_single_crop(short: int, shape: tuple[int, int]) -> None:
    image, preset = picture("melon", 5, shape), replace(PRESET, size=75, resize=short)
    (single,) = views(image, PixelConfig(preset)).astype(int)

    for crops in (1, 10, 12, 144):
        config = PixelConfig(preset, crops=crops)
        differences = [np.abs(view - single).mean() for view in views(image, config)]
        assert differences[central_view(config)] == min(differences), crops
        assert short == 86 or min(differences) == 0


def test_every_preset_makes_every_number_of_crops() -> None:
    for preset in PRESETS.values():
        for crops in (1, 10, 12, 144):
            assert len(views(picture("apple", 1, (120, 90)), PixelConfig(preset, crops=crops))) == shipped_views(crops)


def test_an_unsupported_number_of_crops_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="choose from 1, 10, 12, 144"):
        PixelConfig(PRESET, crops=7)


def test_scores_are_the_mean_softmax_over_views_and_mirrored_views(checkpoint: Path) -> None:
    run = resolved(Settings((str(checkpoint),), precision="fp32", crops=12, top_k=1000, device="cpu"))
    preset = replace(PRESET, size=107, resize=122)
    weights = replace(run.weights[0], preset=preset)
    run = replace(run, pixels=replace(run.pixels, preset=preset), weights=(weights,))
    network = optimize(load_network(weights), weights.preset.mean, weights.preset.std, run.plan)
    pixels = torch.from_numpy(views(picture("apple", 3), run.pixels))
    mirrored = torch.cat([pixels, pixels.flip(2)])
    with torch.inference_mode():
        expected, unmirrored = (network(each.permute(0, 3, 1, 2)).softmax(1).mean(0) for each in (mirrored, pixels))

    classes, scores = DevicePredictor(run)(pixels[None])

    assert torch.allclose(expected[classes[0]], scores[0], atol=1e-6)
    assert not torch.allclose(expected, unmirrored)


def test_only_classes_restricts_the_predicted_classes(checkpoint: Path) -> None:
    run = resolved(Settings((str(checkpoint),), precision="fp32", only_classes="a", top_k=200, device="cpu"))
    everything = DevicePredictor(replace(run, only_classes=(), top_k=1000))
    pixels = torch.from_numpy(views(picture("apple", 3), run.pixels))[None]
    all_classes, all_scores = (each[0] for each in everything(pixels))
    kept = torch.tensor([int(index) in run.only_classes for index in all_classes])

    classes, scores = (each[0] for each in DevicePredictor(run)(pixels))

    assert len(run.only_classes) == 200
    assert torch.equal(classes, all_classes[kept])
    assert torch.allclose(scores, all_scores[kept] / all_scores[kept].sum(), atol=1e-6)
