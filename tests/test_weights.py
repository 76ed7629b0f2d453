"""Checkpoints of every library, saved weights, and files that are refused."""

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import msgspec
import pytest
import torch
import torchvision
from lively import lively
from safetensors.torch import save_file
from torch import Tensor, nn

from inception_cli.config import PRESETS, Classes, Weights
from inception_cli.errors import InceptionError, UsageError
from inception_cli.network.model import InceptionV3
from inception_cli.predictions.classes import imagenet
from inception_cli.weights import load
from inception_cli.weights.load import find_weights, load_network, save_weights
from inception_cli.weights.read import read_checkpoint
from inception_cli.weights.registry import demo_file

State = dict[str, Tensor]


def with_background(state: State) -> State:
    """Return the state dict with TensorFlow's classifier, whose first class is the background."""
    return state | {
        "fc.weight": torch.cat([torch.full((1, 2048), 7.0), state["fc.weight"]]),
        "fc.bias": torch.cat([torch.ones(1), state["fc.bias"]]),
    }


def with_auxiliary(state: State) -> State:
    return state | {f"AuxLogits.{name}": value for name, value in nn.Linear(2, 3).state_dict().items()}


FORMATS: dict[str, Callable[[State], object]] = {
    "torchvision": lambda state: state,
    "with the auxiliary classifier": with_auxiliary,
    "without batch counters": lambda state: {k: v for k, v in state.items() if "num_batches" not in k},
    "wrapped in state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "DataParallel": lambda state: {f"module.{name}": value for name, value in state.items()},
    "wrapped and DataParallel": lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
    "mmpretrain": lambda state: {"meta": {}, "state_dict": {f"backbone.{k}": v for k, v in state.items()}},
    "TensorFlow's 1001 classes": with_background,
}


@pytest.fixture(scope="module")
def network() -> InceptionV3:
    return lively()


@pytest.fixture(scope="module")
def three() -> InceptionV3:
    """A network of three classes."""
    return lively(num_classes=3)


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.rand(2, 3, 107, 107, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def expected(network: InceptionV3, pixels: Tensor) -> Tensor:
    return logits(network, pixels)


@torch.inference_mode()
def logits(network: nn.Module, pixels: Tensor) -> Tensor:
    result: Tensor = network.eval()(pixels)
    return result


@pytest.mark.parametrize("library", FORMATS)
def test_checkpoint_of_every_library_gives_equal_logits(
    library: str, network: InceptionV3, pixels: Tensor, expected: Tensor, tmp_path: Path
) -> None:
    torch.save(FORMATS[library](network.state_dict()), tmp_path / "some.pth")

    weights = find_weights(str(tmp_path / "some.pth"))

    assert weights.classes == imagenet()
    assert torch.equal(logits(load_network(weights), pixels), expected)


def test_file_format_of_torch_before_1_6_is_loaded(
    network: InceptionV3, pixels: Tensor, expected: Tensor, tmp_path: Path
) -> None:
    torch.save(network.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)

    loaded = load_network(find_weights(str(tmp_path / "old.pt")))

    assert torch.equal(logits(loaded, pixels), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_checkpoint_is_loaded_in_fp32(dtype: torch.dtype, network: InceptionV3, tmp_path: Path) -> None:
    halved = {k: v.to(dtype) if v.is_floating_point() else v for k, v in network.state_dict().items()}
    save_file(halved, tmp_path / "half.safetensors")

    loaded = load_network(find_weights(str(tmp_path / "half.safetensors")))

    assert {each.dtype for each in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.fc.weight, network.fc.weight.to(dtype).float())


def test_saved_weights_are_loaded_unchanged(
    network: InceptionV3, pixels: Tensor, expected: Tensor, tmp_path: Path
) -> None:
    names = tuple(f"class {number}" for number in range(1000))
    save_weights(tmp_path / "own.safetensors", network, names, PRESETS["timm"], {"epochs": 3})

    weights = find_weights(str(tmp_path / "own.safetensors"))

    assert weights.classes == Classes(names)
    assert weights.preset == PRESETS["timm"]
    assert weights.notes == ()
    assert read_checkpoint(tmp_path / "own.safetensors")[1].trained == {"epochs": 3}
    assert torch.equal(logits(load_network(weights), pixels), expected)
    assert [each.name for each in tmp_path.iterdir()] == ["own.safetensors"]


def test_weights_record_is_unchanged_by_json(checkpoint: Path) -> None:
    weights = find_weights(str(checkpoint))

    assert msgspec.convert(json.loads(json.dumps(asdict(weights))), Weights) == weights


def write_with_metadata(file: Path, network: nn.Module, metadata: object) -> None:
    save_file(network.state_dict(), file, {"inception": json.dumps(metadata)})


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ([], "Expected `object`"),
        ({"classes": "cat"}, "$.classes"),
        ({"classes": ["cat", 7, "dog"]}, "$.classes[1]"),
        ({"classes": ["cat", "", "dog"]}, "class 1 has no name"),
        ({"classes": ["cat", "dog", "cat"]}, "the class 'cat' occurs twice"),
        ({"classes": ["cat", "dog"]}, "classes has 2 names for 3 classes"),
        ({"preset": "torchvision"}, "$.preset"),
        ({"preset": {"name": "own"}}, "missing required field `size`"),
        ({"preset": asdict(PRESETS["timm"]) | {"size": "large"}}, "$.preset.size"),
        ({"preset": asdict(PRESETS["timm"]) | {"size": 999}}, "need 0 < size <= resize"),
        ({"trained": 7}, "$.trained"),
    ],
)
def test_invalid_metadata_is_one_line_with_file_and_field(
    metadata: object, problem: str, three: InceptionV3, tmp_path: Path
) -> None:
    file = tmp_path / "own.safetensors"
    write_with_metadata(file, three, metadata)

    message = refusal(file)

    assert "invalid metadata" in message
    assert problem in message


def test_metadata_of_a_newer_version_may_have_more_fields(three: InceptionV3, tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    write_with_metadata(file, three, {"classes": ["a", "b", "c"], "more": 1})

    assert find_weights(str(file)).classes.names == ("a", "b", "c")


def test_file_without_preset_gets_that_of_torchvision_with_a_note(network: InceptionV3, tmp_path: Path) -> None:
    save_file(network.state_dict(), tmp_path / "bare.safetensors")

    weights = find_weights(str(tmp_path / "bare.safetensors"))

    assert weights.preset == PRESETS["torchvision"]
    assert [note for note in weights.notes if "preset" in note] == [
        "the file names no preset: torchvision's is used; choose another with --preset"
    ]
    assert any("ImageNet's are used" in note for note in weights.notes)
    without_options = find_weights(str(tmp_path / "bare.safetensors"), can_choose=False)
    assert without_options.notes == (
        "the file names no preset: torchvision's is used",
        "1000 classes without names: ImageNet's are used",
    )


def test_a_record_that_is_no_json_is_not_saved(three: InceptionV3, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_weights(tmp_path / "w.safetensors", three, ("a", "b", "c"), PRESETS["timm"], {"loss": float("nan")})

    assert [*tmp_path.iterdir()] == []


def test_given_preset_replaces_the_own_one_with_a_note(checkpoint: Path) -> None:
    weights = find_weights(str(checkpoint), preset="timm")

    assert weights.preset == PRESETS["timm"]
    assert weights.notes == ("preset timm is used instead of the weights' own, torchvision",)


def test_a_class_that_is_a_parent_is_said_not_to_count() -> None:
    given = Classes(("a", "b"), (("a", "c"),))

    with pytest.raises(
        UsageError, match=r"classes: 2 names \(a name in the column parent is a node above classes\), but"
    ):
        find_weights("demo", classes=given)


def test_wrong_number_of_class_names_is_refused(checkpoint: Path) -> None:
    with pytest.raises(UsageError, match=r"^classes: 2 names, but .* has 1,000 classes"):
        find_weights(str(checkpoint), classes=Classes(("cat", "dog")))


def test_classes_without_names_are_named_by_their_numbers(three: InceptionV3, tmp_path: Path) -> None:
    save_file(three.state_dict(), tmp_path / "three.safetensors")

    weights = find_weights(str(tmp_path / "three.safetensors"))

    assert weights.classes.names == ("0", "1", "2")


def test_1001_classes_with_1001_names_are_all_kept(network: InceptionV3, tmp_path: Path) -> None:
    save_file(with_background(network.state_dict()), tmp_path / "own.safetensors")
    names = Classes(tuple(map(str, range(1001))))

    weights = find_weights(str(tmp_path / "own.safetensors"), classes=names)

    assert load_network(weights).fc.weight.shape == (1001, 2048)


def refusal(file: Path) -> str:
    with pytest.raises(InceptionError) as error:
        find_weights(str(file))
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(file))
    return message


def test_checkpoint_of_another_network_is_refused_with_the_name_of_that_network(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "other.pth")

    assert "it seems to be a ResNet" in refusal(tmp_path / "other.pth")


def test_inception_of_the_frechet_distance_is_refused(network: InceptionV3, tmp_path: Path) -> None:
    state = network.state_dict()
    state["fc.weight"], state["fc.bias"] = torch.zeros(1008, 2048), torch.zeros(1008)
    torch.save(state, tmp_path / "fid.pth")

    assert "Fréchet" in refusal(tmp_path / "fid.pth")


def test_missing_and_unexpected_tensors_are_named(network: InceptionV3, tmp_path: Path) -> None:
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("Mixed_7c")} | {"more": torch.ones(1)}
    torch.save(state, tmp_path / "part.pth")

    message = refusal(tmp_path / "part.pth")

    assert re.search(r"\d+ missing \(Mixed_7c\.branch1x1\.conv\.weight, .*…\); 1 unexpected \(more\)", message)


def test_tensor_of_another_shape_is_named(network: InceptionV3, tmp_path: Path) -> None:
    torch.save(network.state_dict() | {"Mixed_5b.branch1x1.bn.bias": torch.ones(7)}, tmp_path / "shape.pth")

    assert "Mixed_5b.branch1x1.bn.bias is 7, not 64" in refusal(tmp_path / "shape.pth")


class Payload:
    """An object that creates a file when it is unpickled."""

    def __init__(self, created: Path) -> None:
        self.created = created

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.created,)


def write_hostile(kind: str, file: Path, created: Path) -> None:
    """Write a file that is no checkpoint; one that contains code would create the file `created`."""
    match kind:
        case "pickle with code":
            file.write_bytes(pickle.dumps({"fc.weight": Payload(created)}))
        case "torch.save of an object":
            torch.save({"state_dict": Payload(created)}, file)
        case "torch.save of a module":
            torch.save(nn.Linear(2, 2), file)
        case "TorchScript":
            torch.jit.script(nn.Linear(2, 2)).save(str(file))  # type: ignore[no-untyped-call]
        case "no state dict":
            torch.save([1, 2, 3], file)
        case "safetensors with a header of 2^60 bytes":
            file.write_bytes((2**60).to_bytes(8, "little") + b"{}")
        case "truncated safetensors":
            save_file({"fc.weight": torch.ones(1000, 2048)}, file)
            file.write_bytes(file.read_bytes()[:5000])
        case "empty":
            file.touch()
        case "text":
            file.write_text("<html>not found</html>")
        case "a folder":
            file.mkdir()


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # which writes one of the files
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "kind",
    [
        "pickle with code",
        "torch.save of an object",
        "torch.save of a module",
        "TorchScript",
        "no state dict",
        "safetensors with a header of 2^60 bytes",
        "truncated safetensors",
        "empty",
        "text",
        "a folder",
    ],
)
def test_file_that_is_no_checkpoint_is_refused_and_its_code_does_not_run(
    kind: str, suffix: str, tmp_path: Path
) -> None:
    file, created = tmp_path / f"hostile{suffix}", tmp_path / "created"
    write_hostile(kind, file, created)

    refusal(file)

    assert not created.exists()


def test_code_in_a_pickle_runs_when_it_is_loaded_unsafely(tmp_path: Path) -> None:
    write_hostile("torch.save of an object", tmp_path / "hostile.pth", tmp_path / "created")

    torch.load(tmp_path / "hostile.pth", weights_only=False)

    assert (tmp_path / "created").exists()


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.pth")


def test_unknown_name_suggests_the_nearest_one() -> None:
    with pytest.raises(UsageError, match=r"^weights 'torchvison' is unknown: did you mean torchvision\?"):
        find_weights("torchvison")


def test_weights_are_hashed_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = mock.Mock(return_value="0" * 64)
    monkeypatch.setattr(load, "sha256", hashed)
    load._hash_of_state.cache_clear()

    load_network(find_weights("demo"))

    hashed.assert_called_once_with(demo_file())
    load._hash_of_state.cache_clear()


def test_weights_file_that_changed_during_a_run_is_refused(three: InceptionV3, tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    state = three.state_dict()
    save_file(state, file)
    weights = find_weights(str(file))
    save_file(state | {"fc.bias": state["fc.bias"] + 1}, file)

    # Also for `train` and `export`, which have no --restart.
    with pytest.raises(InceptionError, match="changed since this command began; run the command again, or restore"):
        load_network(weights)
