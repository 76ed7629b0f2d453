"""`train --out DIR/`: timm's layout with a model card, written whole or not at all; nothing else is overwritten."""

import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from records import run_config
from running import Inception
from tiny_training import Tiny, draw

from inception_cli.config import PRESETS, Weights
from inception_cli.errors import InceptionError, UsageError
from inception_cli.files.atomic import new_folder, remove_temporaries
from inception_cli.training import train
from inception_cli.training.model_card import model_card
from inception_cli.training.resolve import resolve
from inception_cli.training.settings import TrainConfig, TrainSettings
from inception_cli.training.train import Trainer
from inception_cli.weights import load
from inception_cli.weights.read import read_checkpoint

WRITTEN = ["README.md", "config.json", "model.safetensors"]
RECORD: dict[str, Any] = {
    "start": "scratch",
    "photos": 400,
    "skipped": 2,
    "val_photos": 40,
    "val_top1": 95.0,
    "val_class_average": 90.0,
    "val_per_class": {"n": [30, 10, 0], "right": [30, 8, 0], "predicted": [31, 8, 1]},
    "epochs": 12,
    "best_epoch": 9,
    "seed": 7,
    "batch_size": 32,
    "device": "cpu",
    "precision": "bf16",
    "seconds": 61.4,
    "recipe": '{"balance": 0.5}',
    "last_layer": "fitted again: 95.0 % of the validation images are right, 92.5 % as trained",
    "last_layer_compared": True,
}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Draw class folders, and train a tiny network."""
    monkeypatch.setattr(train, "InceptionV3", Tiny)
    monkeypatch.setattr(train, "cores", lambda: 1)
    return draw(tmp_path / "photos", {"blue": 6, "green": 5, "red": 5})


@pytest.fixture
def config(photos: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(photos, tmp_path / "mine", size=80, epochs=1, batch_size=4, folder=True)


def trained(config: TrainConfig) -> Trainer:
    trainer = Trainer(config)
    for _ in trainer.epochs():
        pass
    return trainer


def names_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_train_writes_a_folder(
    photos: Path, tmp_path: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inception_cli.evaluation.training.describe_chance", lambda *_: "")  # a tiny network's accuracy
    options = ("--from", "scratch", "--size", 80, "-b", 4, "--epochs", 1, "--device", "cpu")

    ended = inception("train", photos, "-o", f"{tmp_path}/mine/", *options)

    assert ended.code == 0
    assert (names_in(tmp_path), names_in(tmp_path / "mine")) == (["mine", "photos"], WRITTEN)
    config = json.loads((tmp_path / "mine/config.json").read_text())
    assert (config["architecture"], config["label_names"]) == ("inception_v3", ["blue", "green", "red"])
    assert config["pretrained_cfg"]["input_size"] == [3, 80, 80]
    assert read_checkpoint(tmp_path / "mine/model.safetensors").metadata.trained["epochs"] == 1
    assert "# mine\n" in (tmp_path / "mine/README.md").read_text()
    assert f"--weights local-dir:{tmp_path}/mine/ --out preds.csv" in " ".join(ended.err.split())


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("mine", "--out mine: give a file that ends in .safetensors, or a folder (timm's layout) that ends in /"),
        ("mine.pth", "--out mine.pth: give a file that ends in .safetensors"),
        ("mine.safetensors/", "--out mine.safetensors/: give a file that ends in .safetensors"),
        ("photos/", "it would overwrite photos"),
        ("photos/new/", "photos/new: is in photos, where it would be a class; choose another output folder"),
        ("none/mine/", "none: not a writable folder; create it"),
        ("full/", "full: already exists; move it away, or choose another output folder"),
        ("file/", "file: already exists; move it away, or choose another output folder\n"),
        ("loop/", "loop/: too many levels of symbolic links; give another name to --out\n"),
        (f"{'x' * 237}/", "the name has 237 bytes; give one of at most 236"),
        ("/", "give the name of a new folder, such as mine/"),
        ("./", "give the name of a new folder, such as mine/"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_training(
    out: str, message: str, photos: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    (photos.parent / "full").mkdir()
    (photos.parent / "full/precious.txt").write_text("mine")
    (photos.parent / "file").touch()
    (photos.parent / "loop").symlink_to("loop")

    ended = inception("train", "photos", "-o", out, "--from", "scratch", "--device", "cpu", "--size", 80)

    assert ended.code in (1, 2)
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert (photos.parent / "full/precious.txt").read_text() == "mine"


def test_an_empty_folder_or_a_link_to_one_is_filled(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    config.out.symlink_to("elsewhere")
    settings = TrainSettings(str(config.train_dir), str(config.out), start="scratch", size=80, epochs=1)

    trained(replace(resolve(settings), batch_size=4)).save()

    assert config.out.is_symlink()
    assert names_in(tmp_path / "elsewhere") == WRITTEN


def test_the_longest_name_is_written(config: TrainConfig) -> None:
    config = replace(config, out=config.out.with_name("x" * 236))

    trained(config).save()

    assert names_in(config.out) == WRITTEN


def test_files_that_appear_during_the_training_are_kept(config: TrainConfig) -> None:
    trainer = trained(config)
    config.out.mkdir()
    (config.out / "precious.txt").write_text("mine")

    with pytest.raises(InceptionError, match=r"mine: directory not empty; choose another output folder"):
        trainer.save()

    assert names_in(config.out) == ["precious.txt"]
    assert names_in(config.out.parent) == ["mine", "mine.part", "photos"]
    with pytest.raises(InceptionError, match=r"mine: already exists; move it away"):
        Trainer(config)


@pytest.mark.parametrize("killed_at", ["writing", "renaming"])
def test_an_interrupted_save_leaves_no_folder_and_is_resumed(
    killed_at: str, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trained(config)
    with monkeypatch.context() as patch:
        name = "write_text" if killed_at == "writing" else "rename"
        patch.setattr(Path, name, lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            trainer.save()

    assert names_in(config.out.parent) == ["mine.part", "photos"]
    trained(config).save()
    assert names_in(config.out) == WRITTEN


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("files", [0, 1, 2])
def test_a_killed_save_leaves_no_folder(files: int, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    if not (child := os.fork()):
        with new_folder(folder) as new:
            for number in range(files):
                (new / f"{number}").write_bytes(b"data")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])

    assert not folder.exists()
    assert len(names_in(tmp_path)) == 1
    remove_temporaries(folder)
    assert names_in(tmp_path) == []


def test_a_training_that_was_killed_after_its_folder_was_written_ends(config: TrainConfig) -> None:
    def killed(metadata: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(config).save(killed)
    before = (config.out / "model.safetensors").stat().st_ino
    assert names_in(config.out.parent) == ["mine", "mine.part", "photos"]

    trained(config).save()

    assert (names_in(config.out.parent), names_in(config.out)) == (["mine", "photos"], WRITTEN)
    assert (config.out / "model.safetensors").stat().st_ino != before


@pytest.mark.parametrize("change", ["another file", "no card", "other weights"])
def test_a_folder_of_others_is_not_replaced_even_if_there_is_a_checkpoint(change: str, config: TrainConfig) -> None:
    trained(config).save()
    match change:
        case "another file":
            (config.out / "notes.txt").touch()
        case "no card":
            (config.out / "README.md").unlink()
        case "other weights":
            (config.out / "model.safetensors").write_bytes(b"other")
    config.part.write_bytes(b"")
    before = names_in(config.out)

    with pytest.raises(InceptionError, match=r"mine: already exists; move it away, or choose another output folder"):
        Trainer(config)

    assert names_in(config.out) == before


def test_a_full_disk_is_one_line_and_leaves_no_folder(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    trainer = trained(config)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InceptionError, match=r"mine: no space left on device; free some disk space and run the same"):
        trainer.save()

    assert names_in(config.out.parent) == ["mine.part", "photos"]


def test_pixels_that_timm_cannot_make_are_refused_before_the_training(config: TrainConfig) -> None:
    start = replace(run_config().weights[0], name="mmpretrain", preset=PRESETS["mmpretrain"])

    with pytest.raises(UsageError, match=r"mine: timm cannot resize as the preset mmpretrain-80 does, without antiali"):
        replace(config, start=start)
    assert replace(config, start=start, folder=False, out=Path("mine.safetensors")).preset.antialias is False


# The model card


def card(config: TrainConfig, classes: tuple[str, ...] = ("apple", "pear", "plum"), **changes: object) -> str:
    return model_card(config, classes, RECORD | changes)


def start(name: str, licence: str = "") -> Weights:
    return replace(run_config().weights[0], name=name, licence=licence)


def test_the_card_has_the_figures(config: TrainConfig) -> None:
    """Intervals by hand: 38 of 40 are 95 %, Wilson (83.5, 98.6); 30 of 30 (88.6, 100); 8 of 10 (49.0, 94.3)."""
    text = card(config)

    words = " ".join(text.split())
    assert (
        "On 40 validation photos: top-1 **95.0 %** (95 % interval 83.5 to 98.6), mean of the classes 90.0 %." in words
    )
    assert [line for line in text.splitlines() if line.startswith("| ")][1:] == [
        "| apple | 30 | 100.0 | 88.6 to 100.0 | 96.8 |",
        "| pear | 10 | 80.0 | 49.0 to 94.3 | 100.0 |",
        "| plum | 0 | – | – | 0.0 |",
    ]
    assert "400 photos for training and 40 for validation, in one folder per class; 2 could not be read." in words
    assert "- started from: random weights\n" in text
    assert "- epochs: 12, of which the best is number 9\n- last layer fitted again: 95.0 % of the validation" in text
    assert "but they chose the best epoch and the last layer, so expect a little less on new photos." in words
    assert '"balance": 0.5' in text
    assert "short side of 92 pixels (bilinear, with antialias), and cut to the centre of 80 × 80 pixels" in words
    assert "\n\n\n" not in text


def test_the_licence_is_left_to_the_user(config: TrainConfig) -> None:
    front_matter = card(config).split("---")[1]
    assert "license" not in front_matter
    assert "library_name: timm\npipeline_tag: image-classification\n" in front_matter
    text = card(replace(config, start=start("torchvision", "BSD-3-Clause")))
    assert "The training started from `torchvision`, whose licence is BSD-3-Clause." in text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/home/me/old.safetensors", "old.safetensors"),
        ("hf-hub:me/fruit@v1", "hf-hub:me/fruit@v1"),
        ("local-dir:/home/me/old/", "old"),
        ("local-dir:old", "old"),
    ],
)
def test_the_card_names_no_folder_of_this_machine(name: str, shown: str, config: TrainConfig) -> None:
    text = card(replace(config, start=start(name)))

    assert f"- started from: `{shown}` (sha256 " in text
    assert "/home" not in text
    assert str(config.train_dir) not in text


def test_names_are_escaped(config: TrainConfig) -> None:
    text = card(config, ("<b>a|b</b>", "*x*_y_ [z](u)", "line\nbreak"))

    assert r"| \<b\>a\|b\</b\> |" in text
    assert r"| \*x\*\_y\_ \[z\]\(u\) |" in text
    assert r"| line\\nbreak |" in text
    odd = card(replace(config, out=Path("my 'model` <x>")))
    assert "\n# my 'model\\` \\<x\\>\n" in odd
    assert 'create_model("local-dir:my \'model` <x>", pretrained=True)' in odd


def test_the_python_of_the_card_compiles(config: TrainConfig) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", card(config), re.DOTALL)

    compile(program, "card", "exec")
    assert "exif_transpose" in program


def test_statistics_are_mentioned_where_they_are(config: TrainConfig) -> None:
    sentence = "`familiarity.safetensors` has statistics of the training photos"
    assert sentence not in card(config)
    assert sentence in model_card(config, ("a", "b", "c"), RECORD, has_familiarity=True)


def test_is_saved_folder_knows_its_own(config: TrainConfig, tmp_path: Path) -> None:
    assert not load.is_saved_folder(tmp_path / "none")
    trained(config).save()
    assert load.is_saved_folder(config.out)
