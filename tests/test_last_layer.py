"""The last layer that is fitted again after the last epoch."""

from collections.abc import Iterator
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from running import Inception
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from tiny_training import Tiny, draw
from torch import Tensor

from inception_cli.errors import InceptionError
from inception_cli.evaluation.training import describe_accuracy
from inception_cli.training import train
from inception_cli.training.augment import CropBatch, EpochPlan, training_batches
from inception_cli.training.dataset import ImageDataset
from inception_cli.training.last_layer import ClassStatistics, FitError, LastLayerFit, best_scale, fit_last_layer
from inception_cli.training.recipe import Recipe
from inception_cli.training.settings import TrainConfig
from inception_cli.training.train import Trainer
from inception_cli.weights.read import read_checkpoint
from inception_cli.weights.training_record import TrainingRecord

CLASSES, SIZE = 3, 6


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    monkeypatch.setattr(train, "cores", lambda: 1)  # tests run in parallel
    monkeypatch.setattr(train, "InceptionV3", Tiny)
    photos = draw(tmp_path / "photos", {"blue": 12, "green": 12, "red": 12})
    val = draw(tmp_path / "val", {"blue": 4, "green": 4, "red": 4}, side=100)
    return TrainConfig(photos, tmp_path / "mine.safetensors", val_dir=val, size=80, epochs=1, batch_size=8)


def gaussian_features(images: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return features (N, SIZE) of classes with different means and one covariance, and the labels (N,)."""
    random = np.random.default_rng(seed)
    labels = np.arange(images) % CLASSES
    spread = random.normal(size=(SIZE, SIZE))
    return 5 + labels[:, None] * np.linspace(0, 1, SIZE) + random.normal(size=(images, SIZE)) @ spread, labels


def statistics_of(features: NDArray[np.float64], labels: NDArray[np.int64], batch: int = 7) -> ClassStatistics:
    statistics = ClassStatistics(CLASSES)
    for first in range(0, len(labels), batch):
        rows = slice(first, first + batch)
        statistics.add(torch.from_numpy(features[rows]), torch.from_numpy(labels[rows]))
    return statistics


@pytest.mark.parametrize("shrinkage", [0.01, 0.5])
def test_scores_are_those_of_scikit_learn(shrinkage: float) -> None:
    features, labels = gaussian_features(90)
    others, _ = gaussian_features(50, seed=1)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=[1 / CLASSES] * CLASSES)
    expected = reference.fit(features, labels).predict_proba(others)

    weight, bias = statistics_of(features, labels).discriminant(shrinkage)

    scores = (torch.from_numpy(others) @ weight.T + bias).softmax(1)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-6, atol=1e-12)
    assert expected.max(1).min() < 0.6  # the classes overlap: not all scores are 0 or 1
    torch.testing.assert_close(weight.sum(0), torch.zeros(SIZE, dtype=torch.float64), rtol=0, atol=1e-9)
    assert abs(bias.sum().item()) < 1e-9


def test_rare_classes_are_as_likely_as_frequent_ones() -> None:
    """Scores are those of normal distributions with the covariance of all photos and equal priors."""
    features, labels = gaussian_features(120)
    kept = (labels > 0) | (np.arange(120) < 30)  # 10 photos of the first class, 40 of each other one
    features, labels = features[kept], labels[kept]
    means = np.stack([features[labels == label].mean(0) for label in range(CLASSES)])
    covariance = np.cov((features - means[labels]).T, bias=True)
    normal = torch.distributions.MultivariateNormal(torch.from_numpy(means), torch.from_numpy(covariance))
    expected = normal.log_prob(torch.from_numpy(features)[:, None]).softmax(1)  # type: ignore[no-untyped-call]

    weight, bias = statistics_of(features, labels).discriminant(0)

    torch.testing.assert_close((torch.from_numpy(features) @ weight.T + bias).softmax(1), expected)


def test_the_statistics_do_not_depend_on_the_batches() -> None:
    features, labels = gaussian_features(60)

    small, whole = (statistics_of(features, labels, batch).discriminant(0.01) for batch in (1, 60))

    torch.testing.assert_close(small, whole)


def test_fewer_images_than_features_have_a_layer() -> None:
    features, labels = gaussian_features(CLASSES + 1)

    weight, bias = statistics_of(features, labels).discriminant(0.01)

    assert torch.isfinite(weight).all()
    assert torch.isfinite(bias).all()


@pytest.mark.parametrize("value", [1.0, float("nan"), float("inf")])
def test_features_that_do_not_vary_or_are_not_finite_have_none(value: float) -> None:
    features, labels = np.full((9, SIZE), value), np.arange(9) % CLASSES

    with pytest.raises(FitError, match="the variance of the features within the classes is"):
        statistics_of(features, labels).discriminant(0.01)


def test_the_scale_gives_the_most_likely_scores() -> None:
    """Logits (a, -a), right for a share p of the images: the best factor f has sigmoid(2 f a) = p."""
    logits = torch.tensor([[3.0, -3.0]]).expand(10, 2)

    scale = best_scale(logits, torch.tensor([0] * 8 + [1] * 2), label_smoothing=0)

    assert scale == pytest.approx(log(0.8 / 0.2) / 6, rel=0.006)


def test_images_that_are_all_right_have_the_score_of_the_label_smoothing() -> None:
    """With a smoothing of 0.1 over two classes the target is 0.95."""
    logits = torch.tensor([[50.0, -50.0]])

    scale = best_scale(logits, torch.tensor([0]), label_smoothing=0.1)

    assert (scale * logits).softmax(1)[0, 0] == pytest.approx(0.95, abs=0.003)


@pytest.mark.parametrize("size", [1e-9, 1, 1e9])
def test_the_scale_does_not_depend_on_the_size_of_the_logits(size: float) -> None:
    logits = size * torch.tensor([[3.0, -3.0]], dtype=torch.float64).expand(10, 2)

    scale = best_scale(logits, torch.tensor([0] * 8 + [1] * 2), label_smoothing=0)

    assert scale * size == pytest.approx(log(0.8 / 0.2) / 6, rel=0.01)


def test_logits_that_are_not_finite_have_no_scale() -> None:
    with pytest.raises(FitError, match="not finite"):
        best_scale(torch.tensor([[1.0, float("nan")]]), torch.tensor([0]), label_smoothing=0.1)


def test_the_layer_is_fitted_on_the_training_images_and_scaled_on_the_others() -> None:
    features, labels = (torch.from_numpy(values) for values in gaussian_features(90))
    others, other_labels = (torch.from_numpy(values) for values in gaussian_features(30, seed=1))
    weight, bias = statistics_of(features.numpy(), labels.numpy()).discriminant(0.01)
    scale = best_scale(others @ weight.T + bias, other_labels, 0.1)

    crops = [(features[:50], labels[:50]), (features[50:], labels[50:])]
    fitted = fit_last_layer(crops, [(others, other_labels)], CLASSES, 0.01, 0.1)

    torch.testing.assert_close(fitted, (scale * weight, scale * bias))


def test_each_image_has_as_many_crops_and_no_change_but_of_place(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[EpochPlan] = []

    def recorded(images: ImageDataset, plan: EpochPlan, *rest: Any) -> Iterator[CropBatch]:
        plans.append(plan)
        for batch in training_batches(images, plan, *rest):
            if plan.seed[1] != train.CROPPING:
                assert batch.pixels.shape == (plan.batch_size, 80, 80, 3)
                assert torch.equal(batch.colour_transforms, torch.eye(3, 4).expand(plan.batch_size, 3, 4))
                assert not batch.pasted.any()
            yield batch

    monkeypatch.setattr(train, "training_batches", recorded)
    done: list[tuple[int, int]] = []
    trainer = Trainer(replace(config, epochs=1))
    [*trainer.epochs()]

    trainer.fit_last_layer(lambda *counts: done.append(counts))

    _, statistics, fit = plans
    assert (len(statistics.positions), statistics.batch_size) == (36, 18)  # at most four times 8
    assert np.bincount(fit.positions).tolist() == [4] * 4 + [3] * 32  # 112 crops, in batches of 8
    assert fit.batch_size == 8
    assert len({plan.seed for plan in plans}) == 3
    assert done == [(count, 112) for count in range(8, 113, 8)]


def test_the_features_are_what_the_last_layer_reads(config: TrainConfig) -> None:
    learner = Trainer(config).learner
    images = torch.randn(4, 3, 80, 80)

    features = learner.features(images)

    layer = learner.averaged_network.fc
    with torch.inference_mode():
        torch.testing.assert_close(features @ layer.weight.T + layer.bias, learner.predict(images))
    assert not layer._forward_pre_hooks


def trained(config: TrainConfig, layer: Tensor | None = None) -> Trainer:
    """Return a training after its epochs; its last layer's weight is replaced by another one, if that is given."""
    trainer = Trainer(config)
    [*trainer.epochs()]
    if layer is not None:
        trainer._best_weights = {**trainer._best_weights, "fc.weight": layer.clone(), "fc.bias": torch.zeros(3)}
        trainer._load_best_weights()
        trainer._best_validation = trainer._evaluate(trainer._val)
    return trainer


def test_a_fitted_layer_is_kept_if_more_validation_images_are_right(config: TrainConfig) -> None:
    trainer = trained(config, torch.zeros(3, 8))  # predicts the first class: a third is right
    trainer.history[-1] = replace(trainer.history[-1], train_top1=12.5)  # of the layer as trained
    kept = {name: value.clone() for name, value in trainer._best_weights.items()}

    trainer.fit_last_layer()
    metadata = trainer.save()

    saved = read_checkpoint(config.out).tensors
    assert metadata["last_layer"] == "fitted again: 100.0 % of the validation images are right, 33.3 % as trained"
    assert (metadata["val_top1"], metadata["val_class_average"], metadata["train_top1"]) == (100, 100, 100)
    assert metadata["val_per_class"] == {"n": [4, 4, 4], "right": [4, 4, 4], "predicted": [4, 4, 4]}
    assert trainer.best_validation.top1 == 100
    assert {name for name, value in kept.items() if not torch.equal(saved[name], value)} == {"fc.weight", "fc.bias"}


def test_the_layer_stays_as_trained_if_no_more_images_are_right(config: TrainConfig) -> None:
    trainer = trained(config)
    trainer.fit_last_layer()
    perfect = trainer._best_weights["fc.weight"]
    again = trained(replace(config, out=config.out.with_name("again.safetensors")), perfect)
    again._best_weights = trainer._best_weights
    again._best_validation = trainer.best_validation

    again.fit_last_layer()
    metadata = again.save()

    assert (
        metadata["last_layer"]
        == "as trained: 100.0 % of the validation images are right, 100.0 % with one fitted again"
    )
    assert metadata["val_top1"] == 100
    saved = read_checkpoint(again.config.out).tensors
    assert torch.equal(saved["fc.weight"], perfect)


def test_a_finished_training_that_is_resumed_has_the_same_layer(config: TrainConfig) -> None:
    whole = trained(config)
    whole.fit_last_layer()
    expected = whole._best_weights["fc.weight"].clone()

    resumed = Trainer(config)  # from the part file, which has the layer as trained
    resumed.fit_last_layer()

    assert resumed.finished
    assert torch.equal(resumed._best_weights["fc.weight"], expected)


def test_weights_are_saved_as_trained_when_a_photo_is_gone(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trained(config)
    before = trainer._best_weights["fc.weight"].clone()

    def unreadable(images: ImageDataset, position: int) -> object:
        raise InceptionError(f"{config.train_dir}/blue/000.png: became unreadable during the training")

    with monkeypatch.context() as patch:
        patch.setattr(ImageDataset, "__getitem__", unreadable)
        trainer.fit_last_layer()

    metadata = trainer.save()
    assert metadata["last_layer"] == "as trained: not fitted again, as an image could no longer be read"
    assert not metadata["last_layer_compared"]
    assert "last layer" not in describe_accuracy(TrainingRecord.of(metadata))
    assert torch.equal(read_checkpoint(config.out).tensors["fc.weight"], before)


def test_weights_are_saved_as_trained_when_the_features_do_not_vary(config: TrainConfig) -> None:
    trainer = trained(config)
    trainer._best_weights = {**trainer._best_weights, "bn.weight": torch.zeros(8), "bn.bias": torch.ones(8)}

    trainer.fit_last_layer()

    expected = "as trained: not fitted again, as the variance of the features within the classes is 0"
    assert trainer.save()["last_layer"] == expected


def test_the_recipe_of_the_fit_is_in_the_metadata(config: TrainConfig) -> None:
    trainer = Trainer(config, Recipe(last_layer=LastLayerFit(crops=1, shrinkage=0.25)))
    [*trainer.epochs()]
    trainer.fit_last_layer()

    assert '"last_layer": {"crops": 1, "shrinkage": 0.25}' in trainer.save()["recipe"]


def test_the_command_prints_what_became_of_the_last_layer(
    config: TrainConfig, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.out.parent)
    words = "train photos --from scratch --val-dir val --size 80 -b 8 --device cpu --epochs 1 -o mine.safetensors"

    ended = inception(*words.split(), "--report", "page.html")

    assert ended.code == 0, ended.err
    lines = [line for line in ended.err.splitlines() if line.startswith("last layer ")]
    assert len(lines) == 1
    sentence = lines[0].removeprefix("last layer ")
    assert "% of the validation images are right" in sentence
    assert read_checkpoint(config.out).metadata.trained["last_layer"] == sentence
    assert f"<dt>Last layer</dt><dd>{sentence}</dd>" in Path("page.html").read_text().replace("\n", "")
    assert "it also chose the last layer, so expect a little less on other images" in ended.err
