"""Training: what is drawn, learnt, judged, kept, and gone on with."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from inception_cli import train, weights
from inception_cli.errors import InceptionError, UsageError
from inception_cli.images import augment, labelled
from inception_cli.images.augment import Augmentation, Draws
from inception_cli.images.labelled import Photo, Photos
from inception_cli.images.preprocess import PRESETS, Pixels, views
from inception_cli.network.learner import AVERAGED_STEPS, Learner, Learning, parameter_groups
from inception_cli.network.model import InceptionV3
from inception_cli.network.optimize import Plan
from inception_cli.settings import TrainSettings
from inception_cli.train import Epoch, Recipe, Training

COLOURS = {"blue": (40, 60, 200), "green": (30, 180, 60), "red": (210, 40, 50)}


class Tiny(nn.Module):
    """A network of one convolution, for tests of what is around the network."""

    def __init__(self, num_classes: int, aux: bool, dropout: float) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 7, stride=7), nn.BatchNorm2d(8)
        self.dropout, self.fc = nn.Dropout(dropout), nn.Linear(8, num_classes)

    def initialise(self, seed: int) -> "Tiny":
        torch.manual_seed(seed)
        self.conv.reset_parameters()
        self.fc.reset_parameters()
        return self

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.dropout(self.bn(self.conv(x)).relu().mean((2, 3))))
        return logits

    def forward_train(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self(x)
        return logits, logits


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of many tests side by side would wait for each other."""
    monkeypatch.setattr(train, "cores", lambda: 1)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "InceptionV3", Tiny)


def draw(folder: Path, counts: dict[str, int], side: int = 90) -> Path:
    """Class folders of noisy pictures in the class's colour."""
    random = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            noisy = np.array(COLOURS[name]) + random.normal(0, 40, (side, side + number % 3, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number:03}.png")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> TrainSettings:
    photos = draw(tmp_path / "photos", {"blue": 6, "green": 5, "red": 5})
    return TrainSettings(photos, tmp_path / "mine.safetensors", size=80, epochs=3, batch_size=4)


def losses(epochs: Iterator[Epoch]) -> list[float]:
    return [epoch.loss for epoch in epochs]


# What it takes for photos


def test_one_class_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InceptionError, match=r"photos: holds one class folder, red, .* one folder a class"):
        Training(TrainSettings(draw(tmp_path / "photos", {"red": 3}), tmp_path / "mine.safetensors"))


def test_an_empty_class_is_refused_by_name(settings: TrainSettings) -> None:
    (settings.train_dir / "violet").mkdir()
    with pytest.raises(InceptionError, match="violet: holds no photo that can be read"):
        Training(settings)


@pytest.mark.usefixtures("tiny")
def test_a_class_of_unreadable_photos_is_refused_by_name(settings: TrainSettings) -> None:
    (settings.train_dir / "violet").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (settings.train_dir / "violet" / name).write_bytes(b"no picture")
    with pytest.raises(InceptionError, match="violet: holds no photo that can be read"):
        Training(settings)


@pytest.mark.usefixtures("tiny")
def test_unreadable_photos_are_skipped_and_named(settings: TrainSettings) -> None:
    to_learn, to_judge = "000.jpg", "zzz.jpg"  # the sixth of a class judges
    bad = [settings.train_dir / "red" / to_learn, settings.train_dir / "green" / to_judge]
    for file in bad:
        file.write_bytes(b"no picture")
    training = Training(settings)
    assert {str(file) for file in bad} == training.skipped.keys()
    assert {"corrupt"} == {failure.status for failure in training.skipped.values()}
    assert len([*training.epochs()]) == 3
    assert training.save()["skipped"] == 2


def test_validation_folders_must_be_the_same(settings: TrainSettings, tmp_path: Path) -> None:
    val = draw(tmp_path / "val", {"blue": 1, "red": 1})
    (val / "violet").mkdir()
    with pytest.raises(InceptionError, match="val: lacks green and has violet besides: its folders must be those of"):
        Training(replace(settings, val_dir=val))


def test_a_single_photo_cannot_both_teach_and_judge(tmp_path: Path) -> None:
    photos = draw(tmp_path / "photos", {"blue": 1, "red": 4})
    with pytest.raises(InceptionError, match=r"000\.png: is its class's only photo.*--val-dir"):
        Training(TrainSettings(photos, tmp_path / "mine.safetensors"))


def test_a_finished_file_is_not_overwritten(settings: TrainSettings) -> None:
    settings.out.write_bytes(b"dear")
    with pytest.raises(InceptionError, match=r"mine\.safetensors: is there already"):
        Training(settings)
    assert settings.out.read_bytes() == b"dear"


@pytest.mark.parametrize(
    "wrong", [{"size": 74}, {"epochs": 0}, {"batch_size": 1}, {"precision": "fp16"}, {"out": Path("mine.pth")}]
)
def test_settings_that_cannot_be_are_refused(settings: TrainSettings, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        replace(settings, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (3, 1), (10, 1), (45, 4), (100, 10), (864, 90)])
def test_a_tenth_of_each_class_judges(count: int, held_out: int) -> None:
    photos = [Photo(f"{number:04}", label) for label in range(2) for number in range(count)]
    learn, judge = labelled.split(photos, every=10, run=10)
    assert [held_out, held_out] == np.bincount([photo.label for photo in judge]).tolist()
    assert sorted([*learn, *judge], key=lambda photo: (photo.label, photo.path)) == photos


def test_neighbours_by_name_judge_together() -> None:
    _, judge = labelled.split([Photo(f"{number:04}", 0) for number in range(100)], every=10, run=10)
    assert [f"{number:04}" for number in range(50, 60)] == [photo.path for photo in judge]


# What is drawn


def test_classes_are_drawn_by_the_root_of_their_size() -> None:
    labels = np.repeat([0, 1], [900, 100])
    drawn = train.balanced(labels, 1000, 0.5, np.random.default_rng(0))
    counts = np.bincount(labels[drawn])
    assert abs(counts[0] - 750) <= 1
    assert counts.sum() == 1000


def test_each_photo_is_drawn_as_often_as_its_neighbours() -> None:
    labels = np.repeat([0, 1], [40, 10])
    drawn = train.balanced(labels, 100, 1.0, np.random.default_rng(0))
    times = np.bincount(drawn, minlength=50)
    assert {1, 2} == {*times[:40].tolist()}
    assert {5} == {*times[40:].tolist()}


@pytest.mark.usefixtures("tiny")
def test_every_epoch_draws_and_crops_anew(settings: TrainSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Draws] = []
    crops = augment.crops

    def seen(photos: Photos, draws: Draws, *rest: Any) -> Iterator[augment.Crops]:
        drawn.append(draws)
        return crops(photos, draws, *rest)

    monkeypatch.setattr(augment, "crops", seen)
    for _ in Training(settings).epochs():
        pass
    assert len({draws.seed for draws in drawn}) == 3
    assert len({draws.positions.tobytes() for draws in drawn}) == 3


def photos_of(folder: Path, prepare: str = "reduced") -> Photos:
    pixels = Pixels(replace(PRESETS["torchvision"], size=80, resize=92))
    listed = labelled.labelled(folder, labelled.class_names(folder))
    if prepare == "centre":
        return Photos(listed, pixels, lambda image: labelled.centre(image, pixels), workers=1)
    return Photos(listed, pixels, lambda image: labelled.reduced(image, 100), workers=1)


def test_crops_depend_on_seed_and_place_alone(settings: TrainSettings) -> None:
    photos = photos_of(settings.train_dir)
    draws = Draws(np.tile(np.arange(4), 2), batch=4, side=75, seed=(1, 2, 3))
    one, three = ([*augment.crops(photos, draws, Augmentation(), workers)] for workers in (1, 3))
    other = next(augment.crops(photos, replace(draws, seed=(1, 2, 4)), Augmentation(), 1))
    for name in ("pixels", "colours", "foreign"):
        assert all(torch.equal(getattr(a, name), getattr(b, name)) for a, b in zip(one, three, strict=True))
        assert not torch.equal(getattr(one[0], name), getattr(other, name))  # another epoch
        assert not torch.equal(getattr(one[0], name), getattr(one[1], name))  # the same photos later on


def test_a_mixed_crop_shows_the_one_before_by_its_share() -> None:
    pixels = np.repeat(np.arange(8, dtype=np.uint8), 50 * 50 * 3).reshape(8, 50, 50, 3)
    randoms = [np.random.default_rng(number) for number in range(8)]
    foreign = augment.mix(pixels, Augmentation(mixed=1), randoms)
    for slot in range(8):
        assert {slot, (slot - 1) % 8} >= {*pixels[slot].ravel().tolist()}
        assert foreign[slot] == pytest.approx((pixels[slot] == (slot - 1) % 8).mean())
    assert foreign.max() > 0.3


def test_targets_are_the_classes_shown_by_their_share(settings: TrainSettings, tiny: None) -> None:
    training = Training(settings)
    crops = augment.Crops(torch.empty(0), torch.empty(0), torch.tensor([0.25, 0.0, 0.5]))
    targets = training._targets(crops, torch.tensor([0, 1, 2]))
    assert targets.tolist() == [[0.75, 0.0, 0.25], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5]]


def test_without_colours_pixels_are_only_scaled() -> None:
    pixels = torch.randint(256, (2, 5, 5, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])
    expected = ((pixels / 255 - mean) / std).permute(0, 3, 1, 2)
    got = augment.recolour(pixels, torch.eye(3, 4).expand(2, 3, 4), mean, std)
    torch.testing.assert_close(got, expected)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_without_reach_colours_stay_as_they_are() -> None:
    still = augment.colour(Augmentation(brightness=0, contrast=0, saturation=0, tint=0), np.random.default_rng(0))
    np.testing.assert_allclose(still, np.eye(3, 4), atol=1e-6)


def test_no_saturation_is_grey() -> None:
    random = np.random.default_rng(0)
    moved = augment.colour(Augmentation(brightness=0, contrast=0, tint=0, saturation=0.3), random)
    np.testing.assert_allclose(moved[:, :3].sum(1), 1, atol=1e-6)  # grey stays grey
    assert np.ptp(moved @ np.array([200.0, 100, 50, 1])) != 150


def test_validation_sees_what_classify_sees(settings: TrainSettings) -> None:
    photos = photos_of(settings.train_dir, prepare="centre")
    pixels = Pixels(replace(PRESETS["torchvision"], size=80, resize=92))
    (crops,) = augment.plain(photos, 100, workers=1)
    for shown, photo in zip(crops.pixels, labelled.labelled(settings.train_dir, ["blue", "green", "red"]), strict=True):
        with Image.open(photo.path) as image:
            assert np.array_equal(views(image, pixels)[0], shown)


def test_photos_over_the_memory_bound_are_read_again(settings: TrainSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    held = photos_of(settings.train_dir)
    monkeypatch.setattr(labelled, "HELD_BYTES", 4 * 90 * 90 * 3)
    some = photos_of(settings.train_dir)
    assert len(held) == len(some) == 16
    assert all(held[at].tobytes() == some[at].tobytes() for at in range(16))
    (settings.train_dir / "red" / "004.png").unlink()
    with pytest.raises(InceptionError, match=r"red/004\.png: could be read when training began"):
        some[15]


# What is learnt


def test_the_rate_rises_then_falls_to_nothing() -> None:
    learner = Learner(InceptionV3(2, aux=True), Learning(learning_rate=1.0, warmup=0.1), 100, Plan())
    rates = []
    for learner.done in range(100):
        rates.append(learner.learning_rate())
    assert max(rates) == rates[10] == 1.0
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001


def test_batch_norms_and_biases_do_not_decay() -> None:
    network = InceptionV3(2, aux=True)
    decaying, still_ones = parameter_groups(network, 0.1)
    assert (decaying["weight_decay"], still_ones["weight_decay"]) == (0.1, 0.0)
    still = {id(parameter) for parameter in still_ones["params"]}
    named = {name for name, parameter in network.named_parameters() if id(parameter) in still}
    assert {name for name, _ in network.named_parameters() if ".bn." in name or name.endswith("bias")} == named


def test_the_average_looks_back() -> None:
    torch.manual_seed(0)
    network = Tiny(2, aux=True, dropout=0.0)
    learner = Learner(network, Learning(average=0.5), 32, Plan())  # type: ignore[arg-type]
    expected = torch.zeros(8)
    for step in range(1, 33):
        learner.step(torch.randn(4, 3, 75, 75), torch.eye(2)[[0, 1, 0, 1]])
        if step % AVERAGED_STEPS == 0:
            latest = network.state_dict()["bn.running_mean"]
            expected = latest.clone() if step == AVERAGED_STEPS else 0.75 * expected + 0.25 * latest
    torch.testing.assert_close(learner.average.state_dict()["bn.running_mean"], expected)


def test_gradients_are_clipped() -> None:
    torch.manual_seed(0)
    network = Tiny(2, aux=True, dropout=0.0)
    learner = Learner(network, Learning(clip=1e-3), 8, Plan())  # type: ignore[arg-type]
    learner.step(torch.randn(4, 3, 75, 75), torch.eye(2)[[0, 1, 0, 1]])
    norm = torch.stack([each.grad.norm() for each in network.parameters() if each.grad is not None]).norm()
    assert norm <= 1.001e-3


def test_the_side_grows_to_its_last(settings: TrainSettings, tiny: None) -> None:
    training = Training(replace(settings, size=176, epochs=20))
    sides = [training._side(number) for number in range(20)]
    assert (sides[0], sides[-1]) == (112, 144)
    assert sides == sorted(sides)


def test_published_weights_start_the_trunk_but_not_the_classifier(settings: TrainSettings, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    network = InceptionV3(4).initialise(5)
    weights.save(start, network, ("a", "b", "c", "d"), settings.preset, {})
    training = Training(replace(settings, start=weights.find(str(start), None, None)))
    begun, last = training.learner.network.state_dict(), "Mixed_7c.branch1x1.conv.weight"
    assert torch.equal(begun[last], network.state_dict()[last])
    assert begun["fc.weight"].shape == (3, 2048)
    assert training.learner.learning.learning_rate == pytest.approx(Learning().learning_rate * 4 / 32 / 4)


# What is kept, and gone on with


def judged(training: Training, *top1: float) -> None:
    """Let the validation of the coming epochs come to this."""
    scores = iter(top1)
    training._score = lambda: train.Score(next(scores), 0.0)  # type: ignore[method-assign]


@pytest.mark.usefixtures("tiny")
def test_the_best_weights_are_kept(settings: TrainSettings) -> None:
    training = Training(settings)
    judged(training, 50, 90, 60)
    seen = [training.learner.average.fc.weight.clone() for _ in training.epochs()]
    assert training.save()["best_epoch"] == 2
    saved = weights.read(settings.out)[0]["fc.weight"]
    assert [torch.equal(each, saved) for each in seen] == [False, True, False]


@pytest.mark.usefixtures("tiny")
def test_of_those_that_only_chance_tells_apart_the_last_is_kept(settings: TrainSettings) -> None:
    training = Training(settings)
    judged(training, 50, 90, 80)
    assert [epoch.best for epoch in training.epochs()] == [True, True, True]
    assert training.save()["best_epoch"] == 3


@pytest.mark.parametrize(
    ("top1", "earlier", "photos", "kept"),
    [
        (50, [], 9, True),
        (99, [99], 200, True),
        (99.07, [99.53], 214, True),
        (98.5, [99.53], 214, False),
        (99, [100], 9, False),
    ],
)
def test_chance_is_one_standard_error(top1: float, earlier: list[float], photos: int, kept: bool) -> None:
    assert train.good_enough(top1, earlier, photos) == kept


@pytest.mark.usefixtures("tiny")
def test_patience_ends(settings: TrainSettings) -> None:
    training = Training(replace(settings, epochs=10), Recipe(patience=0.2))
    judged(training, 50, 90, 60, 60, 60, 60)
    assert [epoch.number for epoch in training.epochs()] == [1, 2, 3, 4]


@pytest.mark.usefixtures("tiny")
def test_a_stopped_training_goes_on_with_the_same_losses(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(learning=Learning(average=2.0))  # so long that the average is not just the last step
    quiet = Training(replace(settings, out=settings.out.with_name("quiet.safetensors")), recipe)
    expected = losses(quiet.epochs())
    stopped = Training(settings, recipe)
    steps = stopped._steps

    def step(learner: Learner, images: Tensor, targets: Tensor) -> Tensor:
        if learner.done == steps + 1:
            raise KeyboardInterrupt
        return real(learner, images, targets)

    real = Learner.step
    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(KeyboardInterrupt):
        losses(stopped.epochs())
    monkeypatch.setattr(Learner, "step", real)
    gone_on = Training(settings, recipe)
    assert [epoch.number for epoch in gone_on.history] == [1]
    losses(gone_on.epochs())
    assert pytest.approx(expected, abs=1e-6) == [epoch.loss for epoch in gone_on.history]
    assert [epoch.top1 for epoch in quiet.history] == [epoch.top1 for epoch in gone_on.history]
    quiet.save(), gone_on.save()
    one, other = (weights.read(run.settings.out)[0] for run in (quiet, gone_on))
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


@pytest.mark.usefixtures("tiny")
def test_another_seed_has_other_losses(settings: TrainSettings) -> None:
    one = losses(Training(settings).epochs())
    other = losses(Training(replace(settings, seed=1, out=settings.out.with_name("1.safetensors"))).epochs())
    assert one[-1] != pytest.approx(other[-1], abs=1e-3)


@pytest.mark.usefixtures("tiny")
def test_other_settings_than_the_parts_are_refused_with_the_cure(settings: TrainSettings) -> None:
    next(Training(settings).epochs())
    with pytest.raises(InceptionError, match=r"seed: 0 → 7.*remove .*mine\.safetensors\.part to begin anew"):
        Training(replace(settings, seed=7))
    (settings.train_dir / "red" / "000.png").unlink()
    with pytest.raises(InceptionError, match=r"photos: 13 \(.*\) → 12 \("):
        Training(settings)


@pytest.mark.usefixtures("tiny")
def test_workers_may_change_on_the_way(settings: TrainSettings) -> None:
    next(Training(settings).epochs())
    assert len([*Training(replace(settings, workers=3)).epochs()]) == 2


def test_a_damaged_part_is_refused_with_the_cure(settings: TrainSettings) -> None:
    settings.part.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(InceptionError, match=r"mine\.safetensors\.part: damaged.*remove"):
        Training(settings)


@pytest.mark.usefixtures("tiny")
def test_a_part_that_cannot_be_written_is_told_in_one_line(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(settings)
    next(training.epochs())
    before = settings.part.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InceptionError, match=r"No space left.*the same command goes on"):
        next(training.epochs())
    assert settings.part.read_bytes() == before
    assert [settings.part] == [*settings.out.parent.glob("mine*")]


def test_saved_weights_classify_by_themselves(settings: TrainSettings) -> None:
    training = Training(replace(settings, epochs=2))
    assert [epoch.number for epoch in training.epochs()] == [1, 2]
    training.save()
    assert not settings.part.exists()
    record = weights.find(str(settings.out), None, None)
    assert record.classes.names == ("blue", "green", "red")
    assert record.preset == settings.preset
    assert (record.preset.size, record.preset.resize) == (80, 92)
    network = weights.load(record)
    images = torch.randn(2, 3, 80, 80)
    torch.testing.assert_close(network(images), training.learner.average.eval()(images))


SCRIPT = """
import sys
from pathlib import Path
from inception_cli.settings import TrainSettings
from inception_cli.train import Training
training = Training(TrainSettings(Path(sys.argv[1]), Path(sys.argv[2]), size=80, epochs=3, batch_size=4))
for epoch in training.epochs():
    print(epoch.number, flush=True)
print(*[each.loss for each in training.history])
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the whole network, three times over
def test_a_killed_training_goes_on_with_the_same_losses(settings: TrainSettings) -> None:
    def command(out: str) -> list[str]:
        return [sys.executable, "-c", SCRIPT, str(settings.train_dir), str(settings.out.with_name(out))]

    quiet = subprocess.run(command("quiet.safetensors"), capture_output=True, text=True, check=True).stdout
    with subprocess.Popen(command("killed.safetensors"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGKILL)
    again = subprocess.run(command("killed.safetensors"), capture_output=True, text=True, check=True).stdout
    assert again.splitlines()[:2] == ["2", "3"]
    expected, got = ([*map(float, told.splitlines()[-1].split())] for told in (quiet, again))
    assert expected == pytest.approx(got, abs=1e-3)
