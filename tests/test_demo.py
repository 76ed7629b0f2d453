"""The bundled weights: their size, classes, model card, and accuracy on the sample images."""

import json
from pathlib import Path

from draw import CLASSES
from running import Inception

from inception_cli.weights.load import find_weights
from inception_cli.weights.read import read_checkpoint
from inception_cli.weights.registry import demo_file

ROOT = Path(__file__).parent.parent


def test_file_is_small_and_has_ten_classes() -> None:
    weights = find_weights("demo")

    assert demo_file().stat().st_size <= 25_000_000
    assert weights.classes.names == CLASSES
    assert weights.notes == ()


def test_model_card_and_licence_are_beside_it() -> None:
    card = demo_file().with_name("MODEL_CARD.md").read_text()

    assert [name for name in CLASSES if f"| {name} |" not in card] == []
    assert "Marcus Klasson" in demo_file().with_name("LICENSE").read_text()


def test_weights_are_int8_with_scales() -> None:
    tensors, metadata, _ = read_checkpoint(demo_file())

    assert str(tensors["Mixed_6b.branch1x1.conv.weight"].dtype) == "torch.int8"
    assert "Mixed_6b.branch1x1.conv.weight.int8_scale" in tensors
    assert metadata.trained["start"] == "scratch"  # as the model card says


def test_model_card_has_the_accuracy_on_the_sample_images(inception: Inception) -> None:
    ended = inception("evaluate", "--val-dir", ROOT / "sample_images", "-w", "demo", "-j", 0, "--json")

    metrics = json.loads(ended.out)
    assert ended.code == 0
    assert metrics["n"] == 40
    assert metrics["top1"] >= 95
    assert f"{metrics['top1']:.1f} (40; " in demo_file().with_name("MODEL_CARD.md").read_text()
