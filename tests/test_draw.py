"""tests/helpers/draw.py, and the pictures that it left in sample_images."""

from pathlib import Path

import draw
import numpy as np
import pytest
from PIL import Image, ImageOps

SAMPLES = Path(__file__).parent.parent / "sample_images"


def opened(file: Path) -> Image.Image:
    with Image.open(file) as image:
        image.load()
        return image


@pytest.mark.parametrize("name", draw.CLASSES)
def test_a_seed_gives_one_picture(name: str) -> None:
    first, again, other = (np.asarray(draw.picture(name, seed, (96, 80))) for seed in (5, 5, 6))
    assert first.shape == (80, 96, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_pictures_take_the_classes_and_shapes_in_turn() -> None:
    drawn = draw.pictures(3, seed=40)
    expected = [draw.picture(name, 40 + i, draw.SHAPES[i]) for i, name in enumerate(("apple", "banana", "carton"))]
    assert [image.size for image in expected] == [image.size for image in drawn]
    assert [image.tobytes() for image in expected] == [image.tobytes() for image in drawn]


def test_the_samples_are_what_the_script_would_write() -> None:
    found = {str(file.relative_to(SAMPLES)) for file in SAMPLES.rglob("*") if file.is_file()}
    assert set(draw.sample_names()) == found
    assert set(draw.CLASSES) == {folder.name for folder in SAMPLES.iterdir()}
    assert sum((SAMPLES / name).stat().st_size for name in found) < 1_000_000


def test_a_sample_is_the_picture_of_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = {path: sample for path, sample in draw.sample_names().items() if sample[0] in ("orange", "tomato")}
    monkeypatch.setattr(draw, "sample_names", lambda: some)
    draw.write_samples(tmp_path)
    for path in some:  # another libjpeg may round otherwise
        kept, again = opened(SAMPLES / path), opened(tmp_path / path)
        assert (kept.mode, kept.size, dict(kept.getexif())) == (again.mode, again.size, dict(again.getexif()))
        assert np.abs(np.asarray(kept, np.float32) - np.asarray(again, np.float32)).mean() < 2


def test_four_samples_are_odd() -> None:
    paths = {sample: SAMPLES / path for path, sample in draw.sample_names().items()}
    assert opened(paths[draw.GREY]).mode == "L"
    assert opened(paths[draw.ALPHA]).convert("RGBA").getchannel("A").getextrema() == (0, 255)
    assert not paths[draw.NAMED].name.isascii()
    assert " " in paths[draw.NAMED].name
    stored = opened(paths[draw.TURNED])
    upright = np.asarray(ImageOps.exif_transpose(stored), np.float32)
    size = (upright.shape[1], upright.shape[0])
    assert stored.size == size[::-1]
    assert stored.getexif()[draw.ORIENTATION] == 6
    assert np.abs(upright - np.asarray(draw.picture(*draw.TURNED, size), np.float32)).mean() < 5


def test_further_pictures_have_seeds_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, int]] = []

    def picture(name: str, seed: int, size: draw.Size) -> Image.Image:
        drawn.append((name, seed))
        return Image.new("RGB", size)

    monkeypatch.setattr(draw, "picture", picture)
    for seed in (0, 1):
        draw.write_pictures(tmp_path, per_class=50, seed=seed)
    assert 2 * 50 * len(draw.CLASSES) == len(set(drawn)) == len(list(tmp_path.glob("*/*.jpg")))
    assert set(drawn).isdisjoint(draw.sample_names().values())
