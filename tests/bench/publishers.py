"""Our predictions and those of the publishers' own code, photo by photo, on a folder of real photos.

    python tests/bench/publishers.py PHOTOS [--limit 300]

All use one made-up, lively checkpoint, each with the model and transform of the publisher: torchvision's
Inception_V3_Weights transforms and inception_v3, timm's evaluation transform and model, and for mmpretrain cv2's resize
with its rules (short side 342, INTER_LINEAR, centre 299, its mean and std) before torchvision's network without
transform_input. Prints for each the number of photos whose five classes are equal, the largest difference of a score,
the relative norm of the difference of the logits, and the number of pixels that differ; every photo with other classes
is listed with its scores. The last line is JSON.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from lively import lively

from inception_cli.config import PRESETS, PixelConfig, PresetName, Settings
from inception_cli.images.decode import read
from inception_cli.images.discovery import Discovery
from inception_cli.images.failure import Failure
from inception_cli.images.preprocess import views
from inception_cli.inference.predictor import DevicePredictor
from inception_cli.inference.resolve import resolve, resolve_plan
from inception_cli.network.fusion import optimize
from inception_cli.predictions.classes import imagenet
from inception_cli.weights.load import load_network, save_weights

Preprocess = Callable[[str], Tensor]  # path → uint8 (S, S, 3)


def torchvision_pixels(path: str) -> Tensor:
    crop = torchvision.models.Inception_V3_Weights.IMAGENET1K_V1.transforms()
    crop.mean, crop.std = [0.0] * 3, [1.0] * 3
    pixels: Tensor = crop(Image.open(path).convert("RGB"))
    return (pixels * 255).round().byte().permute(1, 2, 0)


def timm_pixels(path: str) -> Tensor:
    from timm.data.transforms_factory import create_transform

    transform = create_transform((3, 299, 299), interpolation="bicubic", crop_pct=0.875)
    crop = torchvision.transforms.Compose(transform.transforms[:-2])  # without ToTensor (MaybeToTensor) and Normalize
    return torch.from_numpy(np.array(crop(Image.open(path).convert("RGB"))))


def mmpretrain_pixels(path: str) -> Tensor:
    import cv2

    bgr = cv2.imread(path, cv2.IMREAD_COLOR)
    assert bgr is not None
    image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    height, width = image.shape[:2]
    size = (342, int(342 * height / width)) if width < height else (int(342 * width / height), 342)
    resized = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    top, left = (max(0, round((side - 299) / 2)) for side in resized.shape[:2])
    return torch.from_numpy(np.ascontiguousarray(resized[top : top + 299, left : left + 299]))


def torchvision_network(state: dict[str, Tensor]) -> nn.Module:
    network = torchvision.models.inception_v3(weights=None, aux_logits=False, init_weights=False, transform_input=False)
    network.load_state_dict(state)
    network.eval()
    assert isinstance(network, nn.Module)
    return network


def timm_network(state: dict[str, Tensor]) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model("inception_v3", pretrained=False)
    network.load_state_dict(state)
    return network.eval()


PUBLISHERS: dict[PresetName, tuple[Preprocess, Callable[[dict[str, Tensor]], nn.Module]]] = {
    "torchvision": (torchvision_pixels, torchvision_network),
    "timm": (timm_pixels, timm_network),
    "timm-gluon": (timm_pixels, timm_network),
    "mmpretrain": (mmpretrain_pixels, torchvision_network),
}


@torch.inference_mode()
def compare(name: PresetName, paths: list[str], checkpoint: Path) -> dict[str, Any]:
    """Compare our predictions for photos with those of one publisher's code."""
    publisher_pixels, publisher_network = PUBLISHERS[name]
    settings = Settings((str(checkpoint),), preset=name, precision="fp32", device="cpu", batch_size=1)
    run = resolve(settings, resolve_plan(settings))
    predictor, theirs = DevicePredictor(run), publisher_network(lively().state_dict())
    preset = PRESETS[name]
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (preset.mean, preset.std))
    ours = optimize(load_network(run.weights[0]), preset.mean, preset.std, run.plan)
    results = {"photos": 0, "equal": 0, "score": 0.0, "pixels": 0, "of": 0, "level": 0}
    difference = reference = 0.0
    top1_classes = set()
    for path in paths:
        image = read(path, replace(run.pixels, exif=preset.exif))
        if isinstance(image, Failure):
            print(f"{path}: {image.status}")
            continue
        pixels, expected_pixels = torch.from_numpy(views(image, PixelConfig(preset))), publisher_pixels(path)
        classes, scores = (each[0] for each in predictor(pixels[None]))
        logits = ours(pixels.permute(0, 3, 1, 2))
        expected_logits = theirs(((expected_pixels.permute(2, 0, 1) / 255 - mean) / std)[None])
        expected = expected_logits.softmax(1)[0].topk(5)
        pixel_difference = (pixels[0].int() - expected_pixels.int()).abs()
        difference += float((logits - expected_logits).norm() ** 2)
        reference += float(expected_logits.norm() ** 2)
        results["photos"] += 1
        results["equal"] += torch.equal(classes, expected.indices)
        results["score"] = max(results["score"], float((scores - expected.values).abs().max()))
        results["pixels"] += int((pixel_difference > 0).sum())
        results["of"] += pixel_difference.numel()
        results["level"] = max(results["level"], int(pixel_difference.max()))
        top1_classes.add(int(classes[0]))
        if not torch.equal(classes, expected.indices):
            print(f"{path}: {classes.tolist()} {scores.tolist()}, theirs {expected.indices.tolist()}")
    return {"publisher": name, **results, "logits": (difference / reference) ** 0.5, "distinct": len(top1_classes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--limit", type=int, default=300)
    args = parser.parse_args()
    photos = list(Discovery([args.photos]))
    paths = photos[:: max(1, len(photos) // args.limit)][: args.limit]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "lively.safetensors")
        save_weights(checkpoint, lively(), imagenet().names, PRESETS["torchvision"], {})
        results = [compare(name, paths, checkpoint) for name in PUBLISHERS]
    titles = (
        ("photos", 7),
        ("equal", 7),
        ("score ≤", 10),
        ("logits", 10),
        ("pixels ≠", 10),
        ("level", 6),
        ("classes", 9),
    )
    print(f"{'publisher':<14}" + "".join(f"{title:>{width}}" for title, width in titles))
    for each in results:
        print(
            f"{each['publisher']:<14}{each['photos']:>7}{each['equal']:>7}{each['score']:>10.1e}{each['logits']:>10.1e}"
            f"{each['pixels'] / each['of']:>10.2%}{each['level']:>6}{each['distinct']:>9}"
        )
    print(json.dumps({"bench": "publishers", "results": results}))


if __name__ == "__main__":
    main()
