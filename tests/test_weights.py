"""Checkpoints in every dialect, and everything that is refused."""

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torchvision
from lively import lively
from safetensors.torch import save_file
from torch import Tensor, nn

from inception_cli import weights
from inception_cli.errors import InceptionError, UsageError
from inception_cli.images.preprocess import PRESETS
from inception_cli.network.model import InceptionV3
from inception_cli.results.classes import Classes, imagenet

State = dict[str, Tensor]


def with_background(state: State) -> State:
    """The classifier as TensorFlow has it: one more class, first."""
    return state | {
        "fc.weight": torch.cat([torch.full((1, 2048), 7.0), state["fc.weight"]]),
        "fc.bias": torch.cat([torch.ones(1), state["fc.bias"]]),
    }


def with_auxiliary(state: State) -> State:
    return state | {f"AuxLogits.{name}": value for name, value in nn.Linear(2, 3).state_dict().items()}


DIALECTS: dict[str, Callable[[State], object]] = {
    "torchvision": lambda state: state,
    "with auxiliary classifier": with_auxiliary,
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
def pixels() -> Tensor:
    return torch.rand(2, 3, 299, 299, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.inference_mode()
def logits(network: nn.Module, pixels: Tensor) -> Tensor:
    result: Tensor = network.eval()(pixels)
    return result


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_equal_logits(dialect: str, network: InceptionV3, pixels: Tensor, tmp_path: Path) -> None:
    torch.save(DIALECTS[dialect](network.state_dict()), tmp_path / "some.pth")

    found = weights.find(str(tmp_path / "some.pth"))

    assert found.classes == imagenet()
    assert torch.equal(logits(weights.load(found), pixels), logits(network, pixels))


def test_the_format_of_torch_before_1_6_loads(network: InceptionV3, pixels: Tensor, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)

    loaded = weights.load(weights.find(str(tmp_path / "old.pt")))

    assert torch.equal(logits(loaded, pixels), logits(network, pixels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_checkpoint_is_computed_in_fp32(
    dtype: torch.dtype, network: InceptionV3, tmp_path: Path
) -> None:
    halved = {k: v.to(dtype) if v.is_floating_point() else v for k, v in network.state_dict().items()}
    save_file(halved, tmp_path / "half.safetensors")

    loaded = weights.load(weights.find(str(tmp_path / "half.safetensors")))

    assert {each.dtype for each in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.fc.weight, network.fc.weight.to(dtype).float())


def test_what_is_saved_comes_back_whole(network: InceptionV3, pixels: Tensor, tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(1000))
    weights.save(tmp_path / "own.safetensors", network, names, PRESETS["timm"], {"epochs": 3})

    found = weights.find(str(tmp_path / "own.safetensors"))

    assert found.classes == Classes(names)
    assert found.preset == PRESETS["timm"]
    assert found.notes == ()
    assert weights.read(tmp_path / "own.safetensors")[1]["trained"] == {"epochs": 3}
    assert torch.equal(logits(weights.load(found), pixels), logits(network, pixels))
    assert [each.name for each in tmp_path.iterdir()] == ["own.safetensors"]


def test_the_record_survives_json(checkpoint: Path) -> None:
    found = weights.find(str(checkpoint))

    assert weights.Weights.from_json(json.loads(json.dumps(asdict(found)))) == found


def test_a_file_without_a_preset_gets_torchvisions_and_says_so(network: InceptionV3, tmp_path: Path) -> None:
    save_file(network.state_dict(), tmp_path / "bare.safetensors")

    found = weights.find(str(tmp_path / "bare.safetensors"))

    assert found.preset == PRESETS["torchvision"]
    assert [note for note in found.notes if "preset" in note] == [
        "it names no preset: torchvision's is taken (--preset says otherwise)"
    ]
    assert any("taken for ImageNet's" in note for note in found.notes)


def test_a_preset_that_is_given_wins_and_that_is_said(checkpoint: Path) -> None:
    found = weights.find(str(checkpoint), preset="timm")

    assert found.preset == PRESETS["timm"]
    assert found.notes == ("preset timm is taken in place of its own, torchvision",)


def test_classes_that_do_not_fit_are_refused(checkpoint: Path) -> None:
    with pytest.raises(UsageError, match=r"names 2 classes, but .* has 1000"):
        weights.find(str(checkpoint), classes=Classes(("cat", "dog")))


def test_a_head_without_names_is_called_by_numbers(tmp_path: Path) -> None:
    save_file(lively(num_classes=3).state_dict(), tmp_path / "three.safetensors")

    found = weights.find(str(tmp_path / "three.safetensors"))

    assert found.classes.names == ("0", "1", "2")


def test_1001_classes_with_names_of_their_own_stay_1001(network: InceptionV3, tmp_path: Path) -> None:
    save_file(with_background(network.state_dict()), tmp_path / "own.safetensors")
    names = Classes(tuple(map(str, range(1001))))

    found = weights.find(str(tmp_path / "own.safetensors"), classes=names)

    assert weights.load(found).fc.weight.shape == (1001, 2048)


def refusal(file: Path) -> str:
    with pytest.raises(InceptionError) as refused:
        weights.find(str(file))
    message = str(refused.value)
    assert "\n" not in message
    assert message.startswith(str(file))
    return message


def test_another_networks_checkpoint_is_called_by_its_name(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "other.pth")

    assert "it seems to be a ResNet" in refusal(tmp_path / "other.pth")


def test_the_inception_of_fid_is_refused(network: InceptionV3, tmp_path: Path) -> None:
    state = network.state_dict()
    state["fc.weight"], state["fc.bias"] = torch.zeros(1008, 2048), torch.zeros(1008)
    torch.save(state, tmp_path / "fid.pth")

    assert "Fréchet" in refusal(tmp_path / "fid.pth")


def test_missing_and_unexpected_tensors_are_named(network: InceptionV3, tmp_path: Path) -> None:
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("Mixed_7c")} | {"more": torch.ones(1)}
    torch.save(state, tmp_path / "part.pth")

    message = refusal(tmp_path / "part.pth")

    assert re.search(r"\d+ missing \(Mixed_7c\.branch1x1\.conv\.weight, .*…\); 1 unexpected \(more\)", message)


def test_a_tensor_of_another_shape_is_named(network: InceptionV3, tmp_path: Path) -> None:
    torch.save(network.state_dict() | {"Mixed_5b.branch1x1.bn.bias": torch.ones(7)}, tmp_path / "shape.pth")

    assert "Mixed_5b.branch1x1.bn.bias is 7, not 64" in refusal(tmp_path / "shape.pth")


class Mark:
    """A pickle that leaves a mark when it is opened without care."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def hostile(kind: str, file: Path, mark: Path) -> None:
    match kind:
        case "pickle with code":
            file.write_bytes(pickle.dumps({"fc.weight": Mark(mark)}))
        case "torch.save of an object":
            torch.save({"state_dict": Mark(mark)}, file)
        case "torch.save of a module":
            torch.save(nn.Linear(2, 2), file)
        case "TorchScript":
            torch.jit.script(nn.Linear(2, 2)).save(str(file))  # type: ignore[no-untyped-call]
        case "no state dict":
            torch.save([1, 2, 3], file)
        case "safetensors with an absurd header":
            file.write_bytes((2**60).to_bytes(8, "little") + b"{}")
        case "safetensors cut short":
            save_file({"fc.weight": torch.ones(1000, 2048)}, file)
            file.write_bytes(file.read_bytes()[:5000])
        case "empty":
            file.touch()
        case "text":
            file.write_text("<html>not found</html>")
        case "a folder":
            file.mkdir()


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # which makes one of the files
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "kind",
    [
        "pickle with code",
        "torch.save of an object",
        "torch.save of a module",
        "TorchScript",
        "no state dict",
        "safetensors with an absurd header",
        "safetensors cut short",
        "empty",
        "text",
        "a folder",
    ],
)
def test_nothing_in_a_file_is_ever_run(kind: str, suffix: str, tmp_path: Path) -> None:
    file, mark = tmp_path / f"hostile{suffix}", tmp_path / "mark"
    hostile(kind, file, mark)

    refusal(file)

    assert not mark.exists()


def test_the_payload_would_leave_a_mark(tmp_path: Path) -> None:
    hostile("torch.save of an object", tmp_path / "hostile.pth", tmp_path / "mark")

    torch.load(tmp_path / "hostile.pth", weights_only=False)

    assert (tmp_path / "mark").exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.pth")


def test_a_mistyped_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean torchvision"):
        weights.find("torchvison")


def test_weights_that_changed_since_they_were_found_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    save_file(lively(num_classes=3).state_dict(), file)
    found = weights.find(str(file))
    save_file(lively(num_classes=3, seed=1).state_dict(), file)

    with pytest.raises(InceptionError, match="changed since the run began"):
        weights.load(found)
