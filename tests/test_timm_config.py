"""timm's config.json: read as timm reads it, damaged ones refused; written so that timm gives our pixels and logits."""

import json
import sys
from dataclasses import replace
from importlib import import_module
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lively import lively, pictures
from PIL import Image

from inception_cli.config import PRESETS, PixelConfig, Preset
from inception_cli.errors import InceptionError
from inception_cli.images.preprocess import views
from inception_cli.weights.load import find_weights, load_network, save_folder
from inception_cli.weights.timm_config import ModelConfig, config_fields, crop_pct, read_config

timm: Any = import_module("timm")

NAMES = tuple(f"class {number}" for number in range(40))
SMALL = replace(PRESETS["torchvision"], name="torchvision-160", size=160, resize=183)
#: The config.json of timm/inception_v3.tf_in1k, as timm 0.9 wrote it.
TF_IN1K = {
    "architecture": "inception_v3",
    "num_classes": 1000,
    "num_features": 2048,
    "pretrained_cfg": {
        "tag": "tf_in1k",
        "custom_load": False,
        "input_size": [3, 299, 299],
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 0.875,
        "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "num_classes": 1000,
        "pool_size": [8, 8],
        "first_conv": "Conv2d_1a_3x3.conv",
        "classifier": "fc",
    },
}


def read(folder: Path, fields: object) -> ModelConfig:
    """Write a config.json and read it."""
    (folder / "config.json").write_text(fields if isinstance(fields, str) else json.dumps(fields))
    return read_config(folder / "config.json")


def with_pretrained(**fields: object) -> dict[str, Any]:
    """Return timm's configuration with other fields in `pretrained_cfg`; None removes a field."""
    pretrained = TF_IN1K["pretrained_cfg"]
    assert isinstance(pretrained, dict)
    return TF_IN1K | {"pretrained_cfg": pretrained | fields}


# Reading


def test_the_published_configuration_is_the_preset_timm(tmp_path: Path) -> None:
    config = read(tmp_path, TF_IN1K)

    assert (config.preset, config.num_classes, config.classes) == (PRESETS["timm"], 1000, None)
    assert (config.label_offset, config.notes) == (0, ())


def test_fields_of_old_versions_are_beside_one_another(tmp_path: Path) -> None:
    old = {
        "architecture": "tf_inception_v3",
        "num_classes": 3,
        "global_pool": "avg",
        "input_size": [3, 160, 160],
        "crop_pct": 0.9,
        "interpolation": "bilinear",
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "labels": ["a", "b", "c"],
        "first_conv": "Conv2d_1a_3x3.conv",
        "classifier": "fc",
    }

    config = read(tmp_path, old)

    assert config.classes == ("a", "b", "c")
    assert config.preset == Preset(
        "config.json", 160, 177, "bilinear", antialias=True, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), exif=False
    )


@pytest.mark.parametrize("pretrained", [{}, {"crop_pct": None, "mean": None, "input_size": None}])
def test_absent_fields_have_the_defaults_of_timm(pretrained: dict[str, object], tmp_path: Path) -> None:
    preset = read(tmp_path, {"architecture": "inception_v3", "pretrained_cfg": pretrained}).preset

    data = timm.data.resolve_data_config(pretrained_cfg=timm.models.PretrainedCfg(**pretrained).to_dict())
    assert (preset.size, preset.filter, preset.mean, preset.std) == (
        *(data["input_size"][1], data["interpolation"]),
        *(data["mean"], data["std"]),
    )
    assert preset.resize == floor(preset.size / data["crop_pct"])


@pytest.mark.parametrize(
    "names", [["a", "b", "c"], {"0": "a", "1": "b", "2": "c"}, {"2": "c", "0": "a", "1": "b"}, None, []]
)
@pytest.mark.parametrize("place", ["beside", "in pretrained_cfg"])
def test_class_names_are_a_list_or_by_index(names: object, place: str, tmp_path: Path) -> None:
    named = {"label_names": names, "num_classes": 3}
    descriptions = {"label_descriptions": {"a": "an apple"}}
    fields = TF_IN1K | named | descriptions if place == "beside" else with_pretrained(**named, **descriptions)
    if place == "in pretrained_cfg":
        del fields["num_classes"]

    assert read(tmp_path, fields).classes == (("a", "b", "c") if names else None)


def test_fields_beside_pretrained_cfg_replace_those_in_it(tmp_path: Path) -> None:
    fields = with_pretrained(num_classes=7, label_names=["x"]) | {"num_classes": 2, "label_names": ["a", "b"]}

    assert read(tmp_path, fields).classes == ("a", "b")


def test_sizes_for_tests_are_left_out_with_a_note(tmp_path: Path) -> None:
    config = read(tmp_path, with_pretrained(test_input_size=[3, 342, 342], test_crop_pct=1.0))

    assert config.preset == PRESETS["timm"]
    assert config.notes == ("test_input_size and test_crop_pct are not used, as by default in timm",)


@pytest.mark.parametrize(
    "arguments", [{"drop_rate": 0.2, "aux_logits": True, "in_chans": 3, "norm_eps": 0.001, "num_classes": 1000}, {}]
)
def test_arguments_without_an_effect_are_accepted(arguments: dict[str, object], tmp_path: Path) -> None:
    assert read(tmp_path, TF_IN1K | {"model_args": arguments}).preset == PRESETS["timm"]


TOO_WIDE = 10**6
REFUSED: dict[str, tuple[object, str]] = {
    "empty": ("", "it is empty"),
    "cut": ('{"architecture": "incep', "Input data was truncated"),
    "a list": ([1], "it is not a JSON object"),
    "null": ("null", "it is not a JSON object"),
    "nested": ("[" * 100_000, "ecursion"),
    "NaN": (json.dumps(with_pretrained(crop_pct=float("nan"))), "JSON is malformed"),
    "another byte order": ("\0{\0}", "JSON is malformed"),
    "no architecture": ({"model_type": "bert"}, "it names no architecture, so it is not timm's layout"),
    "another architecture": (
        TF_IN1K | {"architecture": "resnet50.a1_in1k"},
        "the architecture is 'resnet50.a1_in1k'; give",
    ),
    "Inception V4": (TF_IN1K | {"architecture": "inception_v4"}, "the architecture is 'inception_v4'; give"),
    "a line break": (TF_IN1K | {"architecture": "a\nb"}, r"the architecture is 'a\nb'; give"),
    "architecture of another type": (
        TF_IN1K | {"architecture": ["inception_v3"]},
        "the architecture is \"['inception_v3']\"; give",
    ),
    "pretrained_cfg": (TF_IN1K | {"pretrained_cfg": [1]}, "pretrained_cfg is not a JSON object"),
    "num_classes": (TF_IN1K | {"num_classes": 0}, "num_classes is 0, not 1 to 100,000"),
    "negative classes": (TF_IN1K | {"num_classes": -1}, "num_classes is -1"),
    "classes of another type": (TF_IN1K | {"num_classes": "3"}, "Expected `int | null`, got `str`: at `num_classes`"),
    "too many classes": (TF_IN1K | {"num_classes": 10**9}, "num_classes is 1000000000"),
    "input_size": (with_pretrained(input_size=[3, 299]), "`array` of length 3"),
    "input_size of another type": (with_pretrained(input_size=299), "at `input_size`"),
    "a fraction of a pixel": (with_pretrained(input_size=[3, 299.5, 299.5]), "at `input_size[1]`"),
    "one channel": (with_pretrained(input_size=[1, 299, 299]), "input_size has 1 channels, not the 3 of RGB"),
    "not a square": (with_pretrained(input_size=[3, 299, 300]), "input_size is 299 × 300: only squares"),
    "too small": (with_pretrained(input_size=[3, 74, 74]), "size 74 and resize 84 are not from 75 to"),
    "too large": (with_pretrained(input_size=[3, TOO_WIDE, TOO_WIDE]), "resize"),
    "negative size": (with_pretrained(input_size=[3, -299, -299]), "need 0 < size"),
    "padding": (with_pretrained(crop_pct=1.1), "crop_pct is 1.1, not above 0 and at most 1"),
    "negative crop_pct": (with_pretrained(crop_pct=-0.9), "crop_pct is -0.9"),
    "tiny crop_pct": (with_pretrained(crop_pct=1e-300), "resize"),
    "crop_pct of another type": (with_pretrained(crop_pct="0.9"), "at `crop_pct`"),
    "crop_mode": (with_pretrained(crop_mode="squash"), "crop_mode 'squash' is not supported, only 'center' is"),
    "interpolation": (with_pretrained(interpolation="lanczos"), "interpolation 'lanczos' is not supported, only bilin"),
    "random interpolation": (with_pretrained(interpolation="random"), "interpolation 'random' is not supported"),
    "mean": (with_pretrained(mean=[0.5]), "at `mean`"),
    "mean of another type": (with_pretrained(mean=["a", "b", "c"]), "at `mean[0]`"),
    "mean out of range": (with_pretrained(mean=[1e9, 0, 0]), "mean is three numbers"),
    "std": (with_pretrained(std=[0.5, 0.5, 0]), "std three numbers above 0"),
    "tiny std": (with_pretrained(std=[1e-9, 0.5, 0.5]), "std"),
    "infinite": (json.dumps(with_pretrained()).replace("0.875", "1e999"), "Number out of range"),
    "too few names": (TF_IN1K | {"label_names": ["a"]}, "label_names has 1 name for 1,000 classes"),
    "a name twice": (
        TF_IN1K | {"num_classes": 2, "label_names": ["a", "a"]},
        "label_names: the class 'a' occurs twice",
    ),
    "a name that is empty": (
        TF_IN1K | {"num_classes": 2, "label_names": ["a", ""]},
        "label_names: class 1 has no name",
    ),
    "a name of another type": (TF_IN1K | {"num_classes": 2, "label_names": ["a", 2]}, "label_names"),
    "a gap": (TF_IN1K | {"num_classes": 3, "label_names": {"0": "a", "2": "c"}}, "label_names has no name for class 1"),
    "no class": (TF_IN1K | {"num_classes": 1, "label_names": {"0": "a", "9": "c"}}, "label_names: '9' is no class"),
    "label_offset": (with_pretrained(label_offset=2), "label_offset is 2: only 0 is supported, and 1 before"),
    "offset of own classes": (with_pretrained(label_offset=1) | {"num_classes": 3}, "label_offset is 1"),
    "in_chans": (TF_IN1K | {"model_args": {"in_chans": 1}}, "model_args: in_chans is 1, not 3"),
    "act_layer": (TF_IN1K | {"model_args": {"act_layer": "silu"}}, "model_args: act_layer is 'silu', not 'relu'"),
    "norm_eps": (TF_IN1K | {"model_args": {"norm_eps": 1e-5}}, "model_args: norm_eps is 1e-05, not 0.001"),
    "model classes": (TF_IN1K | {"model_args": {"num_classes": 9}}, "model_args: num_classes is 9, not 1000"),
    "unknown argument": (
        TF_IN1K | {"model_args": {"img_size": 9}},
        "model_args: img_size is 9, which is not supported",
    ),
    "arguments of another type": (TF_IN1K | {"model_args": [1]}, "at `model_args`"),
    "old pooling": ({"architecture": "inception_v3", "global_pool": "max"}, "global_pool 'max' is not supported"),
    "custom_load": (with_pretrained(custom_load="hf"), "custom_load is 'hf': the weights are not timm's"),
    "hf_hub_filename": (with_pretrained(hf_hub_filename="x.npz"), "hf_hub_filename 'x.npz' is not supported"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_config_that_is_damaged_or_cannot_be_reproduced_is_refused_by_the_field(kind: str, tmp_path: Path) -> None:
    fields, reason = REFUSED[kind]

    with pytest.raises(InceptionError) as error:
        read(tmp_path, fields)

    message = str(error.value)
    assert message.startswith(f"{tmp_path}/config.json: ")
    assert reason in message
    others = ", give others with --classes FILE (not for train)," if "label_names" in message else ","
    correct = f"correct it{others} or give the file of the weights itself"
    assert message.endswith("; give weights of inception_v3" if "architecture is" in reason else f"; {correct}")
    assert "\n" not in message
    assert len(message) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    "kind", ["too few names", "a name twice", "a name that is empty", "a name of another type", "a gap", "no class"]
)
def test_wrong_names_do_not_matter_where_others_are_given(kind: str, tmp_path: Path) -> None:
    fields, _ = REFUSED[kind]
    (tmp_path / "config.json").write_text(json.dumps(fields))

    config = read_config(tmp_path / "config.json", with_names=False)

    assert isinstance(fields, dict)
    assert (config.classes, config.num_classes) == (None, fields["num_classes"])


def test_a_config_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(InceptionError, match=r"config\.json: is a directory; give a folder with timm's config\.json"):
        read_config(tmp_path / "config.json")
    with (tmp_path / "large.json").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(InceptionError, match=r"large\.json: it is empty, or has over 16 MB; "):
        read_config(tmp_path / "large.json")


# Writing


@pytest.mark.parametrize("size", [75, 80, 107, 176, 224, 299, 512, 1000])
def test_timm_resizes_to_our_short_side(size: int) -> None:
    for resize in range(size, 2 * size):
        fraction = crop_pct(size, resize)
        assert floor(size / fraction) == resize
        assert 0 < fraction <= 1
        assert len(str(fraction)) <= 7


@pytest.mark.parametrize(("size", "resize", "fraction"), [(299, 341, 0.875), (299, 342, 0.873), (176, 176, 1.0)])
def test_the_fraction_is_short(size: int, resize: int, fraction: float) -> None:
    assert crop_pct(size, resize) == fraction


@pytest.mark.parametrize("name", ["torchvision", "timm", "timm-gluon", "small"])
def test_a_written_configuration_is_read_unchanged(name: str, tmp_path: Path) -> None:
    preset = {**PRESETS, "small": SMALL}[name]

    config = read(tmp_path, config_fields(preset, NAMES))

    assert (config.classes, config.num_classes, config.notes) == (NAMES, 40, ())
    assert config.preset == replace(preset, name="config.json" if name == "small" else name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "forty"
    save_folder(folder, lively(num_classes=40), NAMES, SMALL, {}, "# forty\n")
    return folder


def timm_model(folder: Path) -> Any:
    """Return timm's network of a folder, without the seconds that random weights would take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["timm.models.inception_v3"], "trunc_normal_", lambda *_, **__: None)
        return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


@pytest.mark.parametrize("name", ["torchvision", "timm", "timm-gluon", "small"])
@pytest.mark.parametrize("shape", [(533, 400), (400, 533), (301, 299), (90, 1001), (76, 75)])
def test_the_transform_of_timm_gives_our_pixels(name: str, shape: tuple[int, int]) -> None:
    preset = {**PRESETS, "small": SMALL}[name]
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    image = Image.fromarray(pixels).resize((shape[1], shape[0]))
    configured = timm.models.PretrainedCfg(**config_fields(preset, NAMES)["pretrained_cfg"]).to_dict()

    transform = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=configured), normalize=False)

    ours = views(image, PixelConfig(preset))[0]
    assert np.array_equal(np.asarray(transform(image)).transpose(1, 2, 0), ours)
    other = replace(preset, resize=preset.resize + 1)
    assert not np.array_equal(views(image, PixelConfig(other))[0], ours)


def test_timm_gives_our_logits(folder: Path) -> None:
    model, ours = timm_model(folder), load_network(find_weights(f"local-dir:{folder}"))
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    images = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in pictures(6, seed=1, side=200)]
    pixels = torch.from_numpy(np.stack([views(image, PixelConfig(SMALL))[0] for image in images])).permute(0, 3, 1, 2)

    with torch.inference_mode():
        expected = model(torch.stack([transform(image) for image in images]))
        logits = ours((pixels / 255 - 0.5) / 0.5)

    assert tuple(model.pretrained_cfg["label_names"]) == NAMES
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert len(set(logits.argmax(1).tolist())) >= len(images) / 3
    with torch.inference_mode():
        model.get_parameter("Mixed_5b.branch1x1.conv.weight")[0, 0] += 0.5
        assert (model(pixels / 127.5 - 1) - logits).abs().max() > 1e-3


def test_a_folder_that_timm_has_saved_gives_its_logits(folder: Path, tmp_path: Path) -> None:
    model = timm_model(folder)
    pixel_settings = {"input_size": (3, 107, 107), "crop_pct": 0.9, "interpolation": "bilinear", "std": (0.5, 0.4, 0.3)}
    model.pretrained_cfg |= pixel_settings
    labels = {"label_names": list(NAMES)}
    import_module("timm.models._hub").save_config_for_hf(model, tmp_path / "config.json", labels)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")

    weights = find_weights(f"local-dir:{tmp_path}")

    assert Path(weights.file).name == "pytorch_model.bin"
    assert weights.classes.names == NAMES
    assert (weights.preset.size, weights.preset.resize, weights.preset.std) == (107, 118, (0.5, 0.4, 0.3))
    pixels = torch.rand(2, 3, 107, 107, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(load_network(weights)(pixels), model(pixels))
