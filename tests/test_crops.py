"""The paper's protocols of several crops: which squares, how many, mirrored where."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from draw import picture
from PIL import Image
from torchvision.transforms import functional

from inception_cli.errors import UsageError
from inception_cli.images.preprocess import PRESETS, Pixels, resized_size, shipped, views
from inception_cli.predict import Networks
from inception_cli.settings import Settings, resolve

PRESET = PRESETS["torchvision"]
SHAPES = [(400, 300), (300, 400), (320, 320)]


def as_sets(squares: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> list[bytes]:
    return sorted(square.tobytes() for square in squares)


@pytest.mark.parametrize("shape", SHAPES)
def test_ten_crops_are_torchvisions_of_the_centre_square(shape: tuple[int, int]) -> None:
    image = picture("apple", 3, shape)
    resized = image.resize(resized_size(*shape, 342), Image.Resampling.BILINEAR)
    square = functional.center_crop(resized, [342, 342])
    expected = np.stack([np.asarray(crop) for crop in functional.ten_crop(square, [299, 299])])

    found = views(image, Pixels(PRESET, crops=10))

    assert as_sets(found) == as_sets(expected)


def test_twelve_crops_are_those_and_the_square_whole() -> None:
    image = picture("pear", 4, (400, 300))
    square = functional.center_crop(image.resize((456, 342), Image.Resampling.BILINEAR), [342, 342])

    found = views(image, Pixels(PRESET, crops=12))

    assert found.shape == (6, 299, 299, 3)
    assert np.array_equal(found[:5], views(image, Pixels(PRESET, crops=10))[:5])
    assert np.array_equal(found[5], np.asarray(square.resize((299, 299), Image.Resampling.BILINEAR)))


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

    found = views(image, Pixels(PRESET, crops=144))

    assert len(found) == shipped(144) == 72
    assert as_sets(found) == as_sets(np.stack(expected))


def test_every_preset_cuts_every_protocol() -> None:
    for preset in PRESETS.values():
        for crops in (1, 10, 12, 144):
            assert len(views(picture("apple", 1, (120, 90)), Pixels(preset, crops=crops))) == shipped(crops)


def test_a_number_of_crops_that_no_protocol_has_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="choose from 1, 10, 12, 144"):
        Pixels(PRESET, crops=7)


def test_scores_are_the_mean_of_the_softmax_over_views_and_mirrors(checkpoint: Path) -> None:
    run = resolve(Settings((str(checkpoint),), precision="fp32", crops=12, top_k=1000, device="cpu"))
    classifier = Networks(run)
    shipped_views = torch.from_numpy(views(picture("apple", 3), run.pixels))
    all_views = torch.cat([shipped_views, shipped_views.flip(2)])
    with torch.inference_mode():
        expected = classifier.networks[0](all_views.permute(0, 3, 1, 2)).softmax(1).mean(0)

    classes, scores = classifier(shipped_views[None])

    assert torch.allclose(expected[classes[0]], scores[0], atol=1e-6)
    assert not torch.allclose(expected, classifier.networks[0](shipped_views.permute(0, 3, 1, 2)).softmax(1).mean(0))


def test_only_some_classes_may_be_answered(checkpoint: Path) -> None:
    run = resolve(Settings((str(checkpoint),), precision="fp32", only_classes="a", top_k=200, device="cpu"))
    everything = Networks(replace(run, only=(), top_k=1000))
    pixels = torch.from_numpy(views(picture("apple", 3), run.pixels))[None]
    all_classes, all_scores = (each[0] for each in everything(pixels))
    kept = torch.tensor([int(index) in run.only for index in all_classes])

    classes, scores = (each[0] for each in Networks(run)(pixels))

    assert len(run.only) == 200
    assert torch.equal(classes, all_classes[kept])
    assert torch.allclose(scores, all_scores[kept] / all_scores[kept].sum(), atol=1e-6)
