"""The bundled weights: small enough, whole, and right on the sample images, without any download."""

import json
from pathlib import Path

from draw import CLASSES
from running import Inception

from inception_cli import weights
from inception_cli.published import demo

ROOT = Path(__file__).parent.parent


def test_it_is_small_and_knows_the_ten_classes() -> None:
    found = weights.find("demo")

    assert demo().stat().st_size <= 25_000_000
    assert found.classes.names == CLASSES
    assert found.notes == ()


def test_its_card_and_licence_lie_beside_it() -> None:
    card = demo().with_name("MODEL_CARD.md").read_text()

    assert [name for name in CLASSES if f"| {name} |" not in card] == []
    assert "Marcus Klasson" in demo().with_name("LICENSE").read_text()


def test_its_tensors_are_int8_with_scales() -> None:
    tensors, metadata = weights.read(demo())

    assert str(tensors["Mixed_6b.branch1x1.conv.weight"].dtype) == "torch.int8"
    assert metadata["trained"]["start"] == "first.safetensors"  # itself from scratch: the model card tells


def test_its_card_tells_its_accuracy_on_the_sample_images(inception: Inception) -> None:
    ended = inception("evaluate", "--val-dir", ROOT / "sample_images", "-w", "demo", "-j", 0, "--json")

    figures = json.loads(ended.out)
    assert ended.code == 0
    assert figures["n"] == 40
    assert figures["top1"] >= 95
    assert f"{figures['top1']:.1f} (40; " in demo().with_name("MODEL_CARD.md").read_text()
