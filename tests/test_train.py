"""Training: datasets, augmentation, optimisation, choice of the best epoch, resuming."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from limits import file_size_limit
from PIL import Image
from running import Inception
from tiny_training import Tiny, draw
from torch import Tensor

from inception_cli.cli.training import print_beginning, print_unvalidated
from inception_cli.config import PRESETS, PixelConfig, Plan
from inception_cli.errors import InceptionError, UsageError
from inception_cli.images.preprocess import views
from inception_cli.network import familiarity as network_familiarity
from inception_cli.network.model import InceptionV3
from inception_cli.report import training as training_report
from inception_cli.training import augment, checkpoint, dataset, familiarity, resolve, train
from inception_cli.training.augment import Augmentation, CropBatch, EpochPlan
from inception_cli.training.checkpoint import read_part, write_part
from inception_cli.training.dataset import ImageDataset, Sample
from inception_cli.training.learner import EMA_INTERVAL, Hyperparameters, Learner, parameter_groups
from inception_cli.training.recipe import Recipe
from inception_cli.training.settings import TrainConfig, TrainSettings
from inception_cli.training.train import EpochProgress, Trainer
from inception_cli.training.validation import ValidationPredictions, is_best
from inception_cli.weights.load import find_weights, load_network, save_weights
from inception_cli.weights.read import read_checkpoint
from inception_cli.weights.training_record import EpochResult, TrainingRecord


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit torch to one thread: tests run in parallel."""
    monkeypatch.setattr(train, "cores", lambda: 1)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "InceptionV3", Tiny)


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    photos = draw(tmp_path / "photos", {"blue": 6, "green": 5, "red": 5})
    return TrainConfig(photos, tmp_path / "mine.safetensors", size=80, epochs=3, batch_size=4)


def losses(epochs: Iterator[EpochResult]) -> list[float]:
    return [result.loss for result in epochs]


# Images and class folders


def test_training_needs_two_classes(tmp_path: Path) -> None:
    with pytest.raises(InceptionError, match=r"photos: has only one class folder \(red\); .* one folder per class"):
        Trainer(TrainConfig(draw(tmp_path / "photos", {"red": 3}), tmp_path / "mine.safetensors"))


def make_folders(root: Path, *photos: str) -> Path:
    """Make a file for each path below `root`; finding classes looks at names alone."""
    for photo in photos:
        (root / photo).parent.mkdir(parents=True, exist_ok=True)
        (root / photo).touch()
    return root


@pytest.mark.parametrize(
    ("photos", "remedy"),
    [
        ("train/a/1.jpg train/b/1.jpg valid/a/2.jpg test/a/3.jpg", "train {}/train --val-dir {}/valid"),
        ("Training/a/1.jpg Validation/a/2.jpg", "train {}/Training --val-dir {}/Validation"),
        ("TRAIN/a/1.jpg VAL/a/2.jpg", "train {}/TRAIN --val-dir {}/VAL"),
        ("seg_train/a/1.jpg dev/a/2.jpg seg_pred/1.jpg", "train {}/seg_train --val-dir {}/dev"),
        ("train2017/a/1.jpg val2017/a/2.jpg annotations/x.json", "train {}/train2017 --val-dir {}/val2017"),
        ("training_set/a/1.jpg test_set/a/2.jpg", "train {}/training_set, .* evaluate --val-dir {}/test_set"),
        ("train/a/1.jpg test/1.jpg", "train {}/train$"),
        ("train/a/1.jpg train/b/1.jpg", "train {}/train$"),
        ("val/a/1.jpg test/a/1.jpg", "train {}/val, .* evaluate --val-dir {}/test"),
    ],
)
def test_the_root_of_a_data_set_is_refused_with_the_folders_to_train_on(
    photos: str, remedy: str, tmp_path: Path
) -> None:
    root = make_folders(tmp_path / "data", *photos.split())

    with pytest.raises(InceptionError, match="not classes; use inception " + remedy.format(root, root)) as error:
        dataset.find_classes(root)

    assert str(error.value).startswith(f"{root}: holds the splits of a data set (")
    assert "\n" not in str(error.value)


def test_a_split_beside_class_folders_is_refused(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "data", "cat/1.jpg", "dog/1.jpg", "test/cat/2.jpg", "test/dog/2.jpg")

    with pytest.raises(InceptionError, match=r"data/test: a split .* the classes cat, dog again; move it out of"):
        dataset.find_classes(root)


def test_the_proposed_command_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "my data", "train/a/1.jpg", "val/a/2.jpg")

    with pytest.raises(InceptionError, match=r"train '.*/my data/train' --val-dir '.*/my data/val'$"):
        dataset.find_classes(root)


@pytest.mark.parametrize(
    "photos",
    [
        "train/1.jpg bus/1.jpg",
        "train/1.jpg test/1.jpg",
        "train/steam/1.jpg train/diesel/1.jpg bus/1.jpg",
        "train/.cache/1.jpg test/@eaDir/1.jpg",
        "valid/2024/1.jpg invalid/2024/1.jpg",
        "testament/1.jpg trainer/1.jpg",
        "red/train/1.jpg blue/test/1.jpg",
    ],
)
def test_classes_may_have_the_names_of_splits(photos: str, tmp_path: Path) -> None:
    root = make_folders(tmp_path / "toys", *photos.split())

    assert dataset.find_classes(root) == tuple(sorted({photo.split("/")[0] for photo in photos.split()}))


def test_the_root_of_a_data_set_is_refused_before_weights_are_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folders(tmp_path / "data", "train/a/1.jpg", "val/a/2.jpg")
    monkeypatch.setattr(resolve, "find_weights", lambda *_, **__: pytest.fail("weights were requested"))

    with pytest.raises(InceptionError, match="splits of a data set"):
        resolve.resolve(TrainSettings(str(root), str(tmp_path / "mine.safetensors")))


def test_an_empty_class_folder_is_an_error_that_names_it(config: TrainConfig) -> None:
    (config.train_dir / "violet").mkdir()
    with pytest.raises(InceptionError, match="violet: no readable image"):
        Trainer(config)


@pytest.mark.usefixtures("tiny")
def test_a_class_without_a_readable_image_is_an_error_with_the_first_reason(config: TrainConfig) -> None:
    (config.train_dir / "red" / "000.png").write_bytes(b"not an image")  # of another class
    (config.train_dir / "violet").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (config.train_dir / "violet" / name).write_bytes(b"")
    with pytest.raises(
        InceptionError,
        match=r"violet: no readable image in this class folder \(a\.jpg: corrupt, .*empty.*\); add some, or remove",
    ):
        Trainer(config)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("unreadable", ["000.png", "001.png"])
def test_a_class_with_one_readable_image_is_trained_on_it(
    unreadable: str, config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """Test both, as one of the two is for validation."""
    draw(config.out.parent / "two", {"red": 2})
    (config.out.parent / "two" / "red").rename(config.train_dir / "violet")
    (config.train_dir / "violet" / unreadable).write_bytes(b"not an image")

    trainer = Trainer(config)

    assert np.bincount(trainer._train.labels).tolist() == [5, 4, 4, 1]
    assert trainer.images.val_per_class == [1, 1, 1, 0]
    assert len(trainer.skipped) == 1
    print_beginning(trainer, by_class=False)
    assert "1 class has no validation image: violet\n" in capsys.readouterr().err
    interrupted(config, 1)
    assert len(Trainer(config).history) == 1


@pytest.mark.usefixtures("tiny")
def test_images_of_the_validation_folder_are_not_trained_on(config: TrainConfig) -> None:
    val = draw(config.out.parent / "val", {"blue": 1, "green": 1, "red": 1})
    for photo in (config.train_dir / "red").iterdir():
        photo.write_bytes(b"not an image")
    with pytest.raises(InceptionError, match=r"photos/red: no readable image .*\(000\.png: corrupt, "):
        Trainer(replace(config, val_dir=val))


def test_classes_without_validation_images_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    print_unvalidated([f"class {number}" for number in range(12)], [1, *[0] * 10, 1])
    print_unvalidated(["a", "b"], [1, 1])

    listed = ", ".join(f"class {number}" for number in range(1, 9))
    assert capsys.readouterr().err == f"10 classes have no validation image: {listed} and 2 more\n"


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("shared", ["same folder", "link to the folder", "link to a file", "hard link"])
def test_validation_images_that_are_training_images_are_refused(shared: str, config: TrainConfig) -> None:
    val = config.train_dir
    if shared != "same folder":
        val = config.out.parent / "val"
    if shared == "link to the folder":
        val.symlink_to(config.train_dir)
    elif shared != "same folder":
        draw(val, {"blue": 1, "green": 1, "red": 1})
        (val / "red" / "000.png").unlink()
        place = val / "red" / "same.png"
        (place.symlink_to if shared == "link to a file" else place.hardlink_to)(config.train_dir / "red" / "002.png")

    other_name = "" if shared == "same folder" else r" \(.*photos/.*\.png\)"
    with pytest.raises(
        InceptionError, match=rf"\w+\.png: is a training image as well{other_name}; give --val-dir a folder of"
    ) as error:
        Trainer(replace(config, val_dir=val))
    assert str(val) in str(error.value)


@pytest.mark.usefixtures("tiny")
def test_unreadable_images_are_skipped_and_listed(config: TrainConfig) -> None:
    for_training, for_validation = "000.jpg", "zzz.jpg"  # the sixth image of a class is for validation
    unreadable = [config.train_dir / "red" / for_training, config.train_dir / "green" / for_validation]
    for file in unreadable:
        file.write_bytes(b"not an image")
    trainer = Trainer(config)
    assert {str(file) for file in unreadable} == trainer.skipped.keys()
    assert {"corrupt"} == {failure.status for failure in trainer.skipped.values()}
    assert len([*trainer.epochs()]) == 3
    assert trainer.save()["skipped"] == 2


@pytest.mark.usefixtures("tiny")
def test_a_training_does_not_resume_when_other_images_are_readable(config: TrainConfig) -> None:
    """Test a file that became unreadable at its size, or a decoder that was installed: the batches would differ."""
    interrupted(config, 1)
    photo = config.train_dir / "red" / "000.png"
    photo.write_bytes(b"?" * photo.stat().st_size)

    with pytest.raises(
        InceptionError, match=r"part: other images .* began \(training images: 13 \(\w+\) → 12 \(\w+\)\); restore the"
    ):
        Trainer(config)


@pytest.mark.usefixtures("tiny")
def test_a_training_does_not_resume_when_as_many_other_images_are_readable(config: TrainConfig) -> None:
    one, other = (config.train_dir / "red" / name for name in ("000.png", "001.png"))
    intact = {photo: photo.read_bytes() for photo in (one, other)}
    one.write_bytes(b"?" * len(intact[one]))
    interrupted(config, 1)
    one.write_bytes(intact[one])
    other.write_bytes(b"?" * len(intact[other]))

    with pytest.raises(InceptionError, match=r"other images are readable .* \(training images: 12 \(\w+\) → 12 \("):
        Trainer(config)


@pytest.mark.usefixtures("tiny")
def test_a_training_does_not_resume_when_a_link_has_another_target(config: TrainConfig) -> None:
    outside = draw(config.out.parent / "outside", {"red": 2})
    link = config.train_dir / "red" / "000-link.png"
    link.symlink_to(outside / "red" / "000.png")
    interrupted(config, 1)
    link.unlink()
    link.symlink_to(outside / "red" / "001.png")

    with pytest.raises(InceptionError, match=r"training images: 14 \(\w+\) → 14 \("):
        Trainer(config)


@pytest.mark.usefixtures("tiny")
def test_a_link_without_a_target_is_skipped(config: TrainConfig) -> None:
    (config.train_dir / "red" / "link.png").symlink_to("gone.png")

    assert [failure.status for failure in Trainer(config).skipped.values()] == ["missing"]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("library", ["inception", "torch"])
def test_a_training_resumes_only_with_the_same_minor_versions(
    library: str, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"inception": "0.1.0", "torch": "2.15.0+cpu"}
    monkeypatch.setattr(checkpoint, "library_versions", lambda: versions)
    interrupted(config, 1)
    monkeypatch.setattr(checkpoint, "library_versions", lambda: versions | {library: versions[library][:-1] + "9"})
    assert len(Trainer(config).history) == 1

    monkeypatch.setattr(checkpoint, "library_versions", lambda: versions | {library: "9.9"})
    with pytest.raises(InceptionError, match=rf"other settings \(versions\.{library}: .* → 9\.9\)"):
        Trainer(config)


def test_validation_needs_the_classes_of_training(config: TrainConfig, tmp_path: Path) -> None:
    val = draw(tmp_path / "val", {"blue": 1, "red": 1})
    (val / "violet").mkdir()
    with pytest.raises(
        InceptionError, match=r"val: class folders differ \(green missing; violet unknown\); use those of"
    ):
        Trainer(replace(config, val_dir=val))


def test_a_class_with_a_single_image_cannot_be_split(tmp_path: Path) -> None:
    photos = draw(tmp_path / "photos", {"blue": 1, "red": 4})
    with pytest.raises(InceptionError, match=r"000\.png: the only image of its class.*validation folder"):
        Trainer(TrainConfig(photos, tmp_path / "mine.safetensors"))


def test_an_existing_output_file_is_not_overwritten(config: TrainConfig) -> None:
    config.out.write_bytes(b"precious")
    with pytest.raises(
        InceptionError, match=r"mine\.safetensors: already exists; .* --from .*mine\.safetensors to train"
    ):
        Trainer(config)
    assert config.out.read_bytes() == b"precious"


@pytest.mark.parametrize(
    "wrong", [{"size": 74}, {"epochs": 0}, {"batch_size": 1}, {"precision": "fp16"}, {"out": Path("mine.pth")}]
)
def test_invalid_values_are_refused(config: TrainConfig, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        replace(config, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (3, 1), (10, 1), (45, 4), (100, 10), (864, 90)])
def test_a_tenth_of_each_class_is_for_validation(count: int, held_out: int) -> None:
    samples = [Sample(f"{number:04}", label) for label in range(2) for number in range(count)]
    training, validation = dataset.split_samples(samples, every=10, run_length=10)
    assert [held_out, held_out] == np.bincount([sample.label for sample in validation]).tolist()
    assert sorted([*training, *validation], key=lambda sample: (sample.label, sample.path)) == samples


def test_validation_takes_consecutive_files() -> None:
    samples = [Sample(f"{number:04}", 0) for number in range(100)]
    _, validation = dataset.split_samples(samples, every=10, run_length=10)
    assert [f"{number:04}" for number in range(50, 60)] == [sample.path for sample in validation]


# Sampling and augmentation


def test_classes_are_sampled_in_proportion_to_the_root_of_their_size() -> None:
    labels = np.repeat([0, 1], [900, 100])
    positions = dataset.sample_balanced(labels, 1000, 0.5, np.random.default_rng(0))
    counts = np.bincount(labels[positions])
    assert abs(counts[0] - 750) <= 1
    assert counts.sum() == 1000


def test_images_of_a_class_are_sampled_equally_often() -> None:
    labels = np.repeat([0, 1], [40, 10])
    positions = dataset.sample_balanced(labels, 100, 1.0, np.random.default_rng(0))
    times = np.bincount(positions, minlength=50)
    assert {1, 2} == {*times[:40].tolist()}
    assert {5} == {*times[40:].tolist()}


@pytest.mark.usefixtures("tiny")
def test_every_epoch_has_another_sample_and_other_crops(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[EpochPlan] = []

    def recorded(images: ImageDataset, plan: EpochPlan, *rest: Any) -> Iterator[CropBatch]:
        plans.append(plan)
        return augment.training_batches(images, plan, *rest)

    monkeypatch.setattr(train, "training_batches", recorded)
    for _ in Trainer(config).epochs():
        pass
    plans = [plan for plan in plans if plan.seed[1] == train.CROPPING]
    assert len({plan.seed for plan in plans}) == 3
    assert len({plan.positions.tobytes() for plan in plans}) == 3


def test_a_folder_that_cannot_be_read_is_an_error(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    private = config.train_dir / "red" / "private"
    private.mkdir()
    scandir = os.scandir

    def refuse(path: bytes) -> object:
        if path.rstrip(b"/").endswith(b"private"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        with pytest.raises(InceptionError, match=r"^1 folder cannot be read \(.*/private: permission denied\); change"):
            dataset.list_samples(config.train_dir, ["blue", "green", "red"])


def dataset_of(folder: Path, prepare: str = "shrink") -> ImageDataset:
    pixels = PixelConfig(replace(PRESETS["torchvision"], size=80, resize=92))
    samples = dataset.list_samples(folder, dataset.find_classes(folder))
    if prepare == "centre_crop":
        return ImageDataset(samples, pixels, lambda image: dataset.centre_crop(image, pixels), workers=1)
    return ImageDataset(samples, pixels, lambda image: dataset.shrink(image, 100), workers=1)


def test_crops_depend_on_the_seed_and_their_position_alone(config: TrainConfig) -> None:
    images = dataset_of(config.train_dir)
    plan = EpochPlan(np.tile(np.arange(4), 2), batch_size=4, crop_size=75, seed=(1, 2, 3))
    one, three = ([*augment.training_batches(images, plan, Augmentation(), workers)] for workers in (1, 3))
    other = next(augment.training_batches(images, replace(plan, seed=(1, 2, 4)), Augmentation(), 1))
    for name in ("pixels", "colour_transforms", "pasted"):
        assert all(torch.equal(getattr(a, name), getattr(b, name)) for a, b in zip(one, three, strict=True))
        assert not torch.equal(getattr(one[0], name), getattr(other, name))  # another epoch
        assert not torch.equal(getattr(one[0], name), getattr(one[1], name))  # the same images later in the epoch


def test_cutmix_returns_the_share_of_the_pasted_window() -> None:
    pixels = np.repeat(np.arange(8, dtype=np.uint8), 50 * 50 * 3).reshape(8, 50, 50, 3)
    generators = [np.random.default_rng(number) for number in range(8)]
    pasted = augment.cutmix(pixels, Augmentation(cutmix=1), generators)
    for slot in range(8):
        assert {slot, (slot - 1) % 8} >= {*pixels[slot].ravel().tolist()}
        assert pasted[slot] == pytest.approx((pixels[slot] == (slot - 1) % 8).mean())
    assert pasted.max() > 0.3


def test_targets_of_mixed_crops_are_the_classes_by_their_shares(config: TrainConfig, tiny: None) -> None:
    trainer = Trainer(config)
    batch = CropBatch(torch.empty(0), torch.empty(0), torch.tensor([0.25, 0.0, 0.5]))
    targets = trainer._targets(batch, torch.tensor([0, 1, 2]))
    assert targets.tolist() == [[0.75, 0.0, 0.25], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5]]


def test_the_identity_transform_only_normalises() -> None:
    pixels = torch.randint(256, (2, 5, 5, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])
    expected = ((pixels / 255 - mean) / std).permute(0, 3, 1, 2)
    actual = augment.colour_and_normalise(pixels, torch.eye(3, 4).expand(2, 3, 4), mean, std)
    torch.testing.assert_close(actual, expected)
    assert actual.is_contiguous(memory_format=torch.channels_last)


def test_empty_ranges_give_the_identity_transform() -> None:
    unchanged = Augmentation(brightness=0, contrast=0, saturation=0, tint=0)
    transform = augment.random_colour_transform(unchanged, np.random.default_rng(0))
    np.testing.assert_allclose(transform, np.eye(3, 4), atol=1e-6)


def test_a_change_of_saturation_keeps_greys() -> None:
    random = np.random.default_rng(0)
    only_saturation = Augmentation(brightness=0, contrast=0, tint=0, saturation=0.3)
    transform = augment.random_colour_transform(only_saturation, random)
    np.testing.assert_allclose(transform[:, :3].sum(1), 1, atol=1e-6)
    assert np.ptp(transform @ np.array([200.0, 100, 50, 1])) != 150


def test_validation_has_the_pixels_of_classification(config: TrainConfig) -> None:
    images = dataset_of(config.train_dir, prepare="centre_crop")
    pixels = PixelConfig(replace(PRESETS["torchvision"], size=80, resize=92))
    (batch,) = augment.validation_batches(images, 100, workers=1)
    samples = dataset.list_samples(config.train_dir, ["blue", "green", "red"])
    for actual, sample in zip(batch.pixels, samples, strict=True):
        with Image.open(sample.path) as image:
            assert np.array_equal(views(image, pixels)[0], actual)


def test_images_beyond_the_cache_are_decoded_again(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = dataset_of(config.train_dir)
    monkeypatch.setattr(dataset, "CACHE_BYTES", 4 * 90 * 90 * 3)
    partly_cached = dataset_of(config.train_dir)
    assert len(cached) == len(partly_cached) == 16
    assert all(cached[at].tobytes() == partly_cached[at].tobytes() for at in range(16))
    (config.train_dir / "red" / "004.png").unlink()
    with pytest.raises(InceptionError, match=r"red/004\.png: became unreadable during the training"):
        partly_cached[15]


# Optimisation


def test_the_learning_rate_rises_and_then_falls_to_zero() -> None:
    learner = Learner(InceptionV3(2, aux=True), Hyperparameters(learning_rate=1.0, warmup=0.1), 100, Plan())
    rates = []
    for learner.steps_done in range(100):
        rates.append(learner.learning_rate())
    assert max(rates) == rates[10] == 1.0
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001


def test_batch_norms_and_biases_have_no_weight_decay() -> None:
    network = InceptionV3(2, aux=True)
    with_decay, without_decay = parameter_groups(network, 0.1)
    assert (with_decay["weight_decay"], without_decay["weight_decay"]) == (0.1, 0.0)
    ids = {id(parameter) for parameter in without_decay["params"]}
    names = {name for name, parameter in network.named_parameters() if id(parameter) in ids}
    assert {name for name, _ in network.named_parameters() if ".bn." in name or name.endswith("bias")} == names


def test_the_averaged_weights_are_an_exponential_moving_average() -> None:
    torch.manual_seed(0)
    network = Tiny(2, aux=True, dropout=0.0)
    learner = Learner(network, Hyperparameters(ema_window=0.5), 32, Plan())  # type: ignore[arg-type]
    expected = torch.zeros(8)
    for step in range(1, 33):
        learner.step(torch.randn(4, 3, 75, 75), torch.eye(2)[[0, 1, 0, 1]])
        if step % EMA_INTERVAL == 0:
            latest = network.state_dict()["conv.bias"]
            expected = latest.clone() if step == EMA_INTERVAL else 0.75 * expected + 0.25 * latest
    torch.testing.assert_close(learner.averaged_network.state_dict()["conv.bias"], expected)


def test_batch_norm_statistics_are_means_over_the_batches() -> None:
    torch.manual_seed(0)
    tiny = Tiny(2, aux=True, dropout=0.5)
    learner = Learner(tiny, Hyperparameters(), 8, Plan())  # type: ignore[arg-type]
    network = learner.averaged_network
    batches = [torch.randn(4, 3, 75, 75) + shift for shift in (0, 5)]
    with torch.no_grad():
        outputs = [tiny.conv(batch) for batch in batches]  # the average has the same weights before the first step

    learner.measure_statistics(iter(batches))

    mean = torch.stack([output.mean((0, 2, 3)) for output in outputs]).mean(0)
    variance = torch.stack([output.var((0, 2, 3)) for output in outputs]).mean(0)
    torch.testing.assert_close(network.state_dict()["bn.running_mean"], mean)
    torch.testing.assert_close(network.state_dict()["bn.running_var"], variance)


@pytest.mark.usefixtures("tiny")
def test_the_statistics_are_of_training_crops_without_cutmix_and_colours(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are measured after the epoch and before its evaluation, on as many crops as the recipe says at most."""
    trainer = Trainer(replace(config, epochs=1), Recipe(statistics_crops=12, statistics_batch=7))
    seen: list[Tensor] = []
    measure = trainer.learner.measure_statistics

    def recorded(batches: Iterator[Tensor]) -> None:
        seen.extend(batches)
        measure(iter(seen))

    monkeypatch.setattr(trainer.learner, "measure_statistics", recorded)

    next(trainer.epochs())

    plan = EpochPlan(np.arange(0), 4, 80, (0, train.STATISTICS))
    assert [batch.shape for batch in seen] == [(6, 3, 80, 80)] * 2
    labels, images = trainer._train.labels, trainer._train
    positions = dataset.sample_balanced(labels, 12, 0.5, np.random.default_rng((0, train.STATISTICS)))
    crops = [
        augment.random_crop(images[at], 80, trainer.recipe.plain_crops, np.random.default_rng((*plan.seed, slot)))
        for slot, at in enumerate(positions.tolist())
    ]
    expected = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(torch.cat(seen), expected, rtol=0, atol=1e-5)
    stored = read_part(config.part, trainer._configuration)
    assert stored is not None
    measure(iter(seen))
    again = trainer.learner.averaged_weights()["bn.running_var"]
    torch.testing.assert_close(stored["learner"]["averaged"]["module.bn.running_var"], again)


@pytest.mark.parametrize(
    ("images", "batch_size", "expected"),
    [
        (2221, 32, (4, 128)),
        (2221, 8, (16, 32)),
        (255, 32, (2, 128)),
        (129, 32, (2, 65)),
        (36, 8, (2, 18)),
        (1, 8, (1, 2)),
    ],
)
def test_the_statistics_are_of_equal_batches(images: int, batch_size: int, expected: tuple[int, int]) -> None:
    assert Recipe().statistics_batches(images, batch_size) == expected


@pytest.mark.gpu
def test_tensors_are_the_same_on_a_gpu() -> None:
    learner = Learner(InceptionV3(2, aux=True), Hyperparameters(), 8, Plan("cuda:0"))

    for tensor in (torch.rand(4, 3, 5, 5), torch.eye(3, 4).expand(2, 3, 4)):
        assert torch.equal(learner.to_device(tensor).cpu(), tensor)


def test_gradients_are_clipped() -> None:
    torch.manual_seed(0)
    network = Tiny(2, aux=True, dropout=0.0)
    learner = Learner(network, Hyperparameters(clip_norm=1e-3), 8, Plan())  # type: ignore[arg-type]
    learner.step(torch.randn(4, 3, 75, 75), torch.eye(2)[[0, 1, 0, 1]])
    norm = torch.stack([each.grad.norm() for each in network.parameters() if each.grad is not None]).norm()
    assert norm <= 1.001e-3


@pytest.mark.parametrize(
    ("size", "first", "last"), [(75, 75, 75), (96, 96, 96), (128, 112, 112), (176, 112, 144), (299, 176, 256)]
)
def test_crops_are_not_smaller_than_the_network_can_learn_from(size: int, first: int, last: int) -> None:
    sizes = Recipe().crop_sizes(size, epochs=20)

    assert (sizes[0], sizes[-1], len(sizes)) == (first, last, 20)


def test_the_crop_size_grows_to_its_last_value() -> None:
    sizes = Recipe().crop_sizes(176, epochs=20)

    assert (sizes[0], sizes[-1]) == (112, 144)
    assert sizes == sorted(sizes)


def test_existing_weights_initialise_the_trunk_but_not_the_classifier(config: TrainConfig, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    network = InceptionV3(4).initialise(5)
    save_weights(start, network, ("a", "b", "c", "d"), config.preset, {})
    trainer = Trainer(replace(config, start=find_weights(str(start), None, None)))
    initial, last = trainer.learner.network.state_dict(), "Mixed_7c.branch1x1.conv.weight"
    assert torch.equal(initial[last], network.state_dict()[last])
    assert initial["fc.weight"].shape == (3, 2048)
    assert trainer.learner.hyperparameters.learning_rate == pytest.approx(Hyperparameters().learning_rate * 4 / 32 / 4)


@pytest.mark.usefixtures("tiny")
def test_the_training_accuracy_is_of_training_images_prepared_as_for_validation(config: TrainConfig) -> None:
    photos = draw(config.out.parent / "more", {"blue": 30, "green": 20, "red": 20})
    trainer = Trainer(replace(config, train_dir=photos, size=100))
    subset, preset = trainer._measured, trainer.config.preset

    (batch,) = augment.validation_batches(subset, 99, 1)

    assert (len(trainer._train), len(trainer._val), len(subset)) == (63, 7, 32)
    assert np.bincount(subset.labels).tolist() == [14, 9, 9]
    assert all(
        Path(path).parent.name == trainer.classes[label]
        for path, label in zip(subset.paths, subset.labels, strict=True)
    )
    for path, pixels in zip(subset.paths, batch.pixels, strict=True):  # 90 pixels are not shrunk before
        with Image.open(path) as image:
            assert np.array_equal(views(image, PixelConfig(preset))[0], pixels)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("preset", ["torchvision", "mmpretrain"])
def test_measured_training_images_have_the_pixels_of_classification(
    preset: str, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = draw(config.out.parent / "large", {"blue": 3, "green": 3, "red": 3}, side=160)
    chosen = replace(PRESETS[preset], size=80, resize=92)
    monkeypatch.setattr(TrainConfig, "preset", chosen)

    trainer = Trainer(replace(config, train_dir=photos))

    assert min(trainer._train[0].size) == 120  # the crops of training are from smaller images
    (batch,) = augment.validation_batches(trainer._measured, 99, 1)
    assert len(batch.pixels) == 6
    for path, pixels in zip(trainer._measured.paths, batch.pixels, strict=True):
        with Image.open(path) as image:
            assert np.array_equal(views(image, PixelConfig(chosen))[0], pixels)


def test_the_training_accuracy_is_of_a_bounded_number_of_images() -> None:
    assert dataset.spread(20, 3).tolist() == [*range(20)]
    assert dataset.spread(63, 7).tolist()[:3] == [0, 2, 4]
    assert len(dataset.spread(500, 50)) == 50
    assert len({*dataset.spread(100_000, 50_000).tolist()}) == 1000


@pytest.mark.parametrize("names", [("blue", "green", "red"), ("red", "blue", "green")])
def test_existing_weights_of_the_same_classes_keep_their_classifier(
    names: tuple[str, ...], config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = InceptionV3(3).initialise(5)
    save_weights(tmp_path / "start.safetensors", network, names, config.preset, {})

    trainer = Trainer(replace(config, start=find_weights(str(tmp_path / "start.safetensors"))))

    of_class = dict(zip(names, zip(network.fc.weight, network.fc.bias, strict=True), strict=True))
    fc = trainer.learner.network.fc
    for name, weight, bias in zip(trainer.classes, fc.weight, fc.bias, strict=True):
        assert torch.equal(weight, of_class[name][0])
        assert torch.equal(bias, of_class[name][1])
    print_beginning(trainer, by_class=False)
    assert "start.safetensors has the same classes: its classifier is trained further\n" in capsys.readouterr().err


def test_the_preset_has_only_the_input_resolution_of_the_last_training(config: TrainConfig, tmp_path: Path) -> None:
    save_weights(tmp_path / "start.safetensors", InceptionV3(3), ("blue", "green", "red"), config.preset, {})

    again = replace(config, start=find_weights(str(tmp_path / "start.safetensors")), size=96)

    assert (config.preset.name, again.preset.name) == ("torchvision-80", "torchvision-96")


# The best epoch, and resuming


def fix_scores(trainer: Trainer, *top1: float) -> None:
    """Replace the validation of the next epochs by these accuracies."""
    accuracies, measure = iter(top1), trainer._evaluate

    def evaluate(images: object) -> ValidationPredictions:
        if images is trainer._measured:
            return measure(trainer._measured)
        labels, predicted = np.zeros(10, np.int64), np.arange(10) >= next(accuracies) / 10
        return ValidationPredictions(("x.jpg",) * 10, labels, predicted.astype(np.int64), np.ones(10, np.float32))

    trainer._evaluate = evaluate  # type: ignore[method-assign]


@pytest.mark.usefixtures("tiny")
def test_the_weights_of_the_best_epoch_are_saved(config: TrainConfig) -> None:
    trainer = Trainer(config)
    fix_scores(trainer, 50, 90, 60)
    weights = [trainer.learner.averaged_network.fc.weight.clone() for _ in trainer.epochs()]
    assert trainer.save()["best_epoch"] == 2
    saved = read_checkpoint(config.out)[0]["fc.weight"]
    assert [torch.equal(each, saved) for each in weights] == [False, True, False]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(("accuracies", "best"), [((50, 90, 10), 1), ((50, 60, 90), 2)])
def test_a_resumed_training_saves_the_weights_of_the_best_epoch(
    accuracies: tuple[int, ...], best: int, config: TrainConfig
) -> None:
    trainer = Trainer(config)
    fix_scores(trainer, *accuracies)
    weights = [trainer.learner.averaged_network.fc.weight.clone() for _ in trainer.epochs()]

    Trainer(config).save()  # from the part file

    saved = read_checkpoint(config.out).tensors["fc.weight"]
    assert [torch.equal(each, saved) for each in weights] == [epoch == best for epoch in range(3)]


@pytest.mark.usefixtures("tiny")
def test_among_epochs_within_one_standard_error_the_last_is_the_best(config: TrainConfig) -> None:
    trainer = Trainer(config)
    fix_scores(trainer, 50, 90, 80)
    assert [result.best for result in trainer.epochs()] == [True, True, True]
    assert trainer.save()["best_epoch"] == 3


@pytest.mark.parametrize(
    ("top1", "earlier", "val_images", "best"),
    [
        (50, [], 9, True),
        (99, [99], 200, True),
        (99.07, [99.53], 214, True),
        (98.5, [99.53], 214, False),
        (99, [100], 9, False),
    ],
)
def test_an_epoch_is_best_within_one_standard_error(
    top1: float, earlier: list[float], val_images: int, best: bool
) -> None:
    assert is_best(top1, earlier, val_images) == best


def test_validation_predictions_are_counted_by_class() -> None:
    labels, predicted = np.array([0, 0, 0, 2, 2]), np.array([0, 0, 2, 0, 2])
    validation = ValidationPredictions(tuple("abcde"), labels, predicted, np.full(5, 0.5, np.float32))

    assert validation.per_class(3) == {"n": [3, 0, 2], "right": [2, 0, 1], "predicted": [3, 0, 2]}
    assert (validation.right, validation.top1) == (3, 60)
    assert validation.class_average == pytest.approx(100 * (2 / 3 + 1 / 2) / 2)


@pytest.mark.usefixtures("tiny")
def test_the_predictions_of_the_best_epoch_are_kept_and_survive_resuming(config: TrainConfig) -> None:
    config = replace(config, val_dir=draw(config.out.parent / "val", {"blue": 4, "green": 3, "red": 2}))
    trainer = Trainer(config)
    best = next(trainer.epochs())
    fix_scores(trainer, 0)  # the second epoch is worse
    next(trainer.epochs())

    validation = Trainer(config).best_validation  # from the part file

    assert [Path(path).parent.name for path in validation.paths] == ["blue"] * 4 + ["green"] * 3 + ["red"] * 2
    assert validation.labels.tolist() == [0] * 4 + [1] * 3 + [2] * 2
    assert (validation.top1, validation.class_average) == (best.top1, best.class_average)
    assert np.array_equal(validation.predicted, trainer.best_validation.predicted)
    assert np.array_equal(validation.scores, trainer.best_validation.scores)
    assert ((validation.scores > 0.333) & (validation.scores <= 1)).all()
    assert trainer.save()["val_per_class"] == validation.per_class(3)


@pytest.mark.usefixtures("tiny")
def test_training_stops_after_epochs_without_improvement(config: TrainConfig) -> None:
    trainer = Trainer(replace(config, epochs=10), Recipe(patience=0.2))
    fix_scores(trainer, 50, 90, 60, 60, 60, 60)
    assert [result.number for result in trainer.epochs()] == [1, 2, 3, 4]
    assert trainer.save()["stopped_early"] is True


@pytest.mark.usefixtures("tiny")
def test_an_interrupted_training_resumes_with_the_same_losses(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(Hyperparameters(ema_window=2.0))  # long enough that the average is not just the last step
    uninterrupted = Trainer(replace(config, out=config.out.with_name("uninterrupted.safetensors")), recipe)
    expected = losses(uninterrupted.epochs())
    interrupted = Trainer(config, recipe)
    steps = interrupted._steps_per_epoch

    def step(learner: Learner, images: Tensor, targets: Tensor) -> Tensor:
        if learner.steps_done == steps + 1:
            raise KeyboardInterrupt
        return real(learner, images, targets)

    real = Learner.step
    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(KeyboardInterrupt):
        losses(interrupted.epochs())
    monkeypatch.setattr(Learner, "step", real)
    resumed = Trainer(config, recipe)
    assert [result.number for result in resumed.history] == [1]
    losses(resumed.epochs())
    assert pytest.approx(expected, abs=1e-6) == [result.loss for result in resumed.history]
    assert [result.top1 for result in uninterrupted.history] == [result.top1 for result in resumed.history]
    uninterrupted.save(), resumed.save()
    one, other = (read_checkpoint(run.config.out)[0] for run in (uninterrupted, resumed))
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


def interrupted(config: TrainConfig, epochs: int) -> None:
    """Train for some epochs and stop."""
    training = Trainer(config).epochs()
    for _ in range(epochs):
        next(training)


@pytest.mark.usefixtures("tiny")
def test_more_epochs_than_planned_resume_with_the_schedule_of_all(config: TrainConfig) -> None:
    interrupted(replace(config, epochs=4), 2)

    trainer = Trainer(replace(config, epochs=8))
    rate, (third, *_) = trainer.learner.learning_rate(), trainer.epochs()

    # After 2 of 8 epochs, of which 5 % warm up: half a cosine from 0.4 epochs to 8.
    steps, highest = trainer._steps_per_epoch, Hyperparameters().learning_rate * 4 / 32
    assert rate == pytest.approx(highest * (1 + np.cos(np.pi * (2 - 0.4) / (8 - 0.4))) / 2)
    assert (third.number, third.planned, third.learning_rate) == (3, 8, rate)
    assert trainer.learner.steps_done == 8 * steps
    instead = highest * (1 + np.cos(np.pi * (2 - 1 / steps) / (4 - 1 / steps))) / 2
    assert trainer.resumed == (
        "resuming after epoch 2 of 4: from here on learning rate and crop size follow the schedule of 8 epochs "
        f"(next learning rate {rate:.2g} instead of {instead:.2g})"
    )
    record = TrainingRecord.of(trainer.save())
    assert record is not None
    assert record.schedule == "4 epochs, from epoch 3 on 8"


@pytest.mark.usefixtures("tiny")
def test_a_training_with_more_epochs_is_the_same_however_often_it_is_interrupted(config: TrainConfig) -> None:
    once, often = (replace(config, out=config.out.with_name(f"{name}.safetensors")) for name in ("once", "often"))
    for each in (once, often):
        interrupted(replace(each, epochs=2), 1)
    interrupted(replace(once, epochs=4), 3)
    for _ in range(3):
        interrupted(replace(often, epochs=4), 1)

    results = [Trainer(replace(each, epochs=4)) for each in (once, often)]

    one, other = (losses(iter(result.history)) for result in results)
    assert len(one) == 4
    assert one == other
    for result in results:
        result.save()
    expected, actual = (read_checkpoint(each.out).tensors for each in (once, often))
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


@pytest.mark.usefixtures("tiny")
def test_as_many_epochs_as_are_done_save_the_best_of_them(config: TrainConfig) -> None:
    interrupted(config, 2)

    trainer = Trainer(replace(config, epochs=2))

    assert trainer.resumed == "resuming after epoch 2 of 3: --epochs 2 ends the training here"
    assert [*trainer.epochs()] == []
    record = TrainingRecord.of(trainer.save())
    assert (record.epochs, record.stopped_early) == (2, False)


@pytest.mark.usefixtures("tiny")
def test_a_finished_training_of_a_single_step_resumes_with_more_epochs(config: TrainConfig) -> None:
    single = replace(config, epochs=1, batch_size=32)
    interrupted(single, 1)

    trainer = Trainer(replace(single, epochs=2))

    assert trainer.resumed.endswith(" instead of 0)")
    assert len([*trainer.epochs()]) == 1


@pytest.mark.usefixtures("tiny")
def test_fewer_epochs_than_are_done_are_refused(config: TrainConfig) -> None:
    interrupted(config, 2)
    with pytest.raises(UsageError, match=r"--epochs 1: .*part has 2 epochs already; give --epochs 2 to save the best"):
        Trainer(replace(config, epochs=1))


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("best", [True, False])
def test_the_part_file_holds_each_weight_as_often_as_resuming_needs(best: bool, config: TrainConfig) -> None:
    trainer = Trainer(config)
    fix_scores(trainer, 90, 90 if best else 10)
    training = trainer.epochs()
    next(training), next(training)

    saved = torch.load(config.part, weights_only=True)

    weights = sum(value.numel() for value in trainer.learner.network.state_dict().values())
    parameters = sum(value.numel() for value in trainer.learner.network.parameters())
    values = weights * (2 if best else 3) + parameters  # the network, the average, the best epoch; the momentum
    assert numbers_in(saved["learner"]) + numbers_in(saved["best"]) - 1 == values  # n_averaged is one more
    assert trainer.part_bytes[not best] == pytest.approx(4 * values, rel=0.02)  # one counter has 8 bytes


def test_the_part_file_has_no_average_of_the_auxiliary_classifier() -> None:
    learner = Learner(InceptionV3(2, aux=True), Hyperparameters(), 8, Plan())

    state = learner.state_dict()

    assert any(name.startswith("AuxLogits.") for name in state["network"])
    assert not any("AuxLogits." in name for name in state["averaged"])
    learner.load_state_dict(state)
    del state["averaged"]["module.fc.bias"], state["network"]["fc.bias"]
    with pytest.raises(RuntimeError, match=r"fc\.bias"):
        learner.load_state_dict(state)


def numbers_in(state: Any) -> int:
    """Return how many numbers the tensors in nested records have."""
    if isinstance(state, Tensor):
        return state.numel()
    return sum(map(numbers_in, state.values())) if isinstance(state, dict) else 0


@pytest.mark.usefixtures("tiny")
def test_another_random_seed_gives_other_losses(config: TrainConfig) -> None:
    one = losses(Trainer(config).epochs())
    other = losses(Trainer(replace(config, seed=1, out=config.out.with_name("1.safetensors"))).epochs())
    assert one[-1] != pytest.approx(other[-1], abs=1e-3)


@pytest.mark.usefixtures("tiny")
def test_a_part_file_of_other_settings_is_refused(config: TrainConfig) -> None:
    next(Trainer(config).epochs())
    with pytest.raises(InceptionError, match=r"random seed: 0 → 7.*remove .*mine\.safetensors\.part to start over"):
        Trainer(replace(config, seed=7))
    (config.train_dir / "red" / "000.png").unlink()
    with pytest.raises(InceptionError, match=r"training images: 13 \(.*\) → 12 \("):
        Trainer(config)


@pytest.mark.usefixtures("tiny")
def test_a_training_resumes_with_other_workers(config: TrainConfig) -> None:
    next(Trainer(config).epochs())
    assert len([*Trainer(replace(config, workers=3)).epochs()]) == 2


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("precision", "remedy"), [("fp32", "other start weights or a smaller --batch-size"), ("bf16", "--precision fp32")]
)
def test_a_loss_that_is_not_finite_ends_the_training(
    precision: Any, remedy: str, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(replace(config, precision=precision))
    epochs = trainer.epochs()
    next(epochs)
    before = config.part.read_bytes()
    monkeypatch.setattr(Learner, "step", lambda *_: torch.tensor(float("nan")))

    with pytest.raises(InceptionError) as error:
        next(epochs)

    assert str(error.value) == (
        f"epoch 2 of 3: the loss is not finite (nan); remove {config.part} and train with {remedy}, or keep the best "
        "epoch so far with --epochs 1"
    )
    assert config.part.read_bytes() == before
    with pytest.raises(InceptionError, match=rf"^epoch 1 of 3: the loss is not finite \(nan\); train with {remedy}$"):
        next(Trainer(replace(config, precision=precision, out=config.out.with_name("new.safetensors"))).epochs())


def test_two_images_per_class_of_which_one_is_unreadable_leave_none_for_validation(tmp_path: Path) -> None:
    draw(tmp_path / "photos", {"blue": 2, "red": 2})
    config = TrainConfig(tmp_path / "photos", tmp_path / "m.safetensors", size=80)
    for first in ("blue", "red"):
        min((tmp_path / "photos" / first).iterdir()).write_bytes(b"not an image")
    with pytest.raises(InceptionError, match=r"photos: no readable image is left for validation, since each class"):
        Trainer(config)


def test_a_part_file_that_cannot_be_read_is_kept(config: TrainConfig) -> None:
    config.part.mkdir()
    with pytest.raises(InceptionError, match=r"safetensors\.part: is a directory; move it away, or make it readable"):
        Trainer(config)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            OSError(errno.EIO, "Input/output error"),
            InceptionError(".part: input/output error; move it away"),
        ),
        (MemoryError("of Python"), MemoryError("of Python")),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), RuntimeError("can't allocate memory")),
    ],
    ids=repr,
)
def test_a_part_file_is_not_called_damaged_when_the_machine_cannot_read_it(
    error: Exception, expected: Exception, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    config.part.touch()
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(type(expected), match=re.escape(str(expected))):
        read_part(config.part, {})


def test_a_damaged_part_file_is_refused(config: TrainConfig) -> None:
    config.part.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(InceptionError, match=r"mine\.safetensors\.part: damaged.*remove"):
        Trainer(config)


@pytest.mark.usefixtures("tiny")
def test_a_part_file_of_an_earlier_version_is_refused(config: TrainConfig) -> None:
    next(Trainer(config).epochs())
    saved = torch.load(config.part, weights_only=True)
    del saved["version"]
    torch.save(saved, config.part)
    with pytest.raises(InceptionError, match=r"part: damaged, or not a training checkpoint of this version.*remove"):
        Trainer(config)


@pytest.mark.usefixtures("tiny")
def test_a_full_disk_keeps_the_last_part_file(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(config)
    next(trainer.epochs())
    before = config.part.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InceptionError, match=r"no space left.*run the same command again"):
        next(trainer.epochs())
    assert config.part.read_bytes() == before
    assert [config.part] == [*config.out.parent.glob("*mine*")]


def test_a_failed_write_names_the_reason_and_keeps_the_last_part_file(tmp_path: Path) -> None:
    part = tmp_path / "mine.safetensors.part"
    part.write_bytes(b"before")
    with (
        file_size_limit(500_000),
        pytest.raises(InceptionError, match=r"mine\.safetensors\.part: file too large; allow"),
    ):
        write_part(part, {}, {"weights": torch.zeros(1_000_000)})
    assert part.read_bytes() == b"before"
    assert [part] == [*tmp_path.iterdir()]


@pytest.mark.usefixtures("tiny")
def test_temporary_files_of_a_killed_training_are_removed(config: TrainConfig) -> None:
    leftovers = [config.out.with_name(f".{name}.0123abcd.tmp") for name in (config.out.name, config.part.name)]
    for file in leftovers:
        file.touch()
    Trainer(config)
    assert not any(file.exists() for file in leftovers)


def test_saved_weights_contain_classes_and_preset(config: TrainConfig) -> None:
    trainer = Trainer(replace(config, epochs=1, batch_size=8))
    assert [result.number for result in trainer.epochs()] == [1]
    trainer.save()
    assert not config.part.exists()
    record = find_weights(str(config.out), None, None)
    assert record.classes.names == ("blue", "green", "red")
    assert record.preset == config.preset
    assert (record.preset.size, record.preset.resize) == (80, 92)
    network = load_network(record)
    images, averaged = torch.randn(2, 3, 80, 80).double(), trainer.learner.averaged_network.eval()
    torch.testing.assert_close(network.double()(images), averaged.double()(images))  # within 1e-7 in fp64


# The command


@pytest.fixture
def command(config: TrainConfig, tiny: None, inception: Inception, monkeypatch: pytest.MonkeyPatch) -> Inception:
    """Return a function that trains a tiny network into m.safetensors, with more options."""
    monkeypatch.chdir(config.out.parent)
    words = "train photos --from scratch --size 80 -b 4 --device cpu -o m.safetensors"
    return lambda *more: inception(*words.split(), *more)


def interrupt(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt the next training in the epoch after so many."""
    run_epoch = Trainer._run_epoch

    def interrupted(trainer: Trainer, epoch: int, progress: EpochProgress) -> object:
        if epoch == after:
            raise KeyboardInterrupt
        return run_epoch(trainer, epoch, progress)

    monkeypatch.setattr(Trainer, "_run_epoch", interrupted)


def test_an_interrupted_training_goes_on_with_more_epochs(command: Inception, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt(2, patch)
        stopped = command("--epochs", 4, "--log", "log.csv")
    lines = Path("log.csv").read_text().splitlines()

    refused = command("--epochs", 1)
    ended = command("--epochs", 6, "--log", "log.csv")

    assert stopped.code == 130
    assert refused.err == (
        "error: --epochs 1: m.safetensors.part has 2 epochs already; give --epochs 2 to save the best of them, or more "
        "to train on\n"
    )
    assert refused.code == 2
    assert ended.code == 0
    assert "resuming after epoch 2 of 4: from here on learning rate and crop size follow the schedule of 6" in ended.err
    assert [line[:9] for line in ended.err.splitlines() if line.startswith("epoch")] == [
        f"epoch {n}/6" for n in range(3, 7)
    ]
    assert Path("log.csv").read_text().splitlines()[:3] == lines
    assert pd.read_csv("log.csv")["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert not Path("m.safetensors.part").exists()


def test_the_report_of_a_training_shows_its_validation_images(command: Inception) -> None:
    ended = command("--epochs", 2, "--report", "page.html")

    page = Path("page.html").read_text()
    assert ended.code == 0
    assert "report written to page.html; open it in a browser" in ended.err.splitlines()
    assert "<dt>Data</dt><dd>photos: 13 training images of 3 classes, 3 validation images</dd>" in page
    mistakes = page.count('class="card wrong" href="photos/')
    right = re.search(r"<h1>Training of m\.safetensors: ([\d.]+) % on 3 images</h1>", page)
    assert right
    assert float(right[1]) == pytest.approx(100 * (3 - mistakes) / 3, abs=0.1)
    assert page.count("data:image/jpeg;base64,") == mistakes


def test_unreadable_images_are_exit_code_3_and_weights_are_written(command: Inception) -> None:
    Path("photos/red/000.png").write_bytes(b"not an image")

    ended = command("--epochs", 1)

    assert ended.code == 3
    assert "1 image is unreadable and left out:\n  photos/red/000.png: corrupt, " in ended.err
    assert read_checkpoint(Path("m.safetensors")).metadata.trained["skipped"] == 1


def test_the_report_names_both_folders(command: Inception) -> None:
    draw(Path("val"), {"blue": 1, "green": 1, "red": 1})

    ended = command("--epochs", 1, "--val-dir", "val", "--report", "page.html")

    page = Path("page.html").read_text()
    assert ended.code == 0
    assert "with 3 classes, trained on 16 images in photos, validated on 3 images in val.</p>" in page
    assert "<dd>photos: 16 training images of 3 classes; val: 3 validation images</dd>" in page


def test_weights_are_saved_without_statistics_when_photos_are_gone(
    command: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = SimpleNamespace(to=lambda device: None)
    monkeypatch.setattr(familiarity, "copy_modules", lambda _: network)
    monkeypatch.setattr(familiarity, "optimize", lambda *_, **__: lambda pixels: (None, pixels.flatten(1)))
    monkeypatch.setattr(network_familiarity, "MIN_PHOTOS", 10)
    monkeypatch.setattr(network_familiarity, "MIN_PER_CLASS", 4)
    train_epochs = Trainer.epochs

    def epochs(trainer: Trainer, progress: EpochProgress) -> Iterator[EpochResult]:
        yield from train_epochs(trainer, progress)
        shutil.rmtree("photos/red")

    monkeypatch.setattr(Trainer, "epochs", epochs)

    ended = command("--epochs", 1, "--json")

    reason = (
        "4 photos could no longer be read after the last epoch; there are 9 training photos, and 0 in the smallest "
        "class; it needs at least 10, and 4 in each class"
    )
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["familiarity"] == reason
    assert f"no statistics for --familiar: {reason}" in ended.err
    assert Path("m.safetensors").exists()
    assert not Path("m.safetensors.part").exists()


def test_a_report_that_cannot_be_written_leaves_a_training_that_resumes(
    command: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise InceptionError("page.html: no space left on device; free some disk space and run the same command again")

    with monkeypatch.context() as patch:
        patch.setattr(training_report, "write_training_report", full)
        failed = command("--epochs", 2, "--report", "page.html")
    assert Path("m.safetensors").exists()
    again = command("--epochs", 2, "--report", "page.html")

    assert failed.code == 1
    assert failed.err.splitlines()[-1].startswith("error: page.html: no space left")
    assert again.code == 0
    assert "resuming after epoch 2 of 2" in again.err
    assert Path("page.html").exists()
    assert not Path("m.safetensors.part").exists()


def test_an_accuracy_that_is_chance_ends_in_a_remedy_instead_of_the_next_command(command: Inception) -> None:
    ended = command("--epochs", 1)  # 3 images are too few to be better than chance, unless all are right

    *_, last = ended.err.splitlines()
    assert re.match('(no|not clearly) better than chance: always predicting "blue" is right for 33.3 % of', last)
    assert "classify" not in ended.err


def test_the_log_can_be_wanted_when_the_training_resumes(command: Inception, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt(1, patch)
        command("--epochs", 2)

    ended = command("--epochs", 2, "--log", "log.csv")

    assert ended.code == 0
    assert pd.read_csv("log.csv")["epoch"].tolist() == [1, 2]


SCRIPT = """
import sys
from pathlib import Path
from inception_cli.training.settings import TrainConfig
from inception_cli.training.train import EpochProgress, Trainer
trainer = Trainer(TrainConfig(Path(sys.argv[1]), Path(sys.argv[2]), size=80, epochs=3, batch_size=4))
for result in trainer.epochs():
    print(result.number, flush=True)
print(*[result.loss for result in trainer.history])
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the whole network, three times over
def test_a_killed_training_resumes_with_the_same_losses(config: TrainConfig) -> None:
    def command(out: str) -> list[str]:
        return [sys.executable, "-c", SCRIPT, str(config.train_dir), str(config.out.with_name(out))]

    uninterrupted = subprocess.run(
        command("uninterrupted.safetensors"), capture_output=True, text=True, check=True
    ).stdout
    with subprocess.Popen(command("killed.safetensors"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGKILL)
    again = subprocess.run(command("killed.safetensors"), capture_output=True, text=True, check=True).stdout
    assert again.splitlines()[:2] == ["2", "3"]
    expected, actual = ([*map(float, output.splitlines()[-1].split())] for output in (uninterrupted, again))
    assert expected == pytest.approx(actual, abs=1e-3)
