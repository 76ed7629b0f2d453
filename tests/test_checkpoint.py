"""Checkpoints as people save them, and hostile ones: refused in one line, within bounds of memory and time."""

import argparse
import errno
import io
import json
import os
import pickle
import pickletools
import struct
import sys
import time
import types
import warnings
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from numpy.testing._private.utils import runstring
from records import run_config
from running import Inception
from safetensors.torch import save, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from inception_cli.config import MAX_CLASSES, PRESETS, Weights
from inception_cli.errors import InceptionError
from inception_cli.network.model import InceptionV3, network_without_values
from inception_cli.weights import checkpoint, read
from inception_cli.weights.checkpoint import CheckpointError, compress, convert, unwrap
from inception_cli.weights.load import find_weights, load_network
from inception_cli.weights.read import read_checkpoint

State = dict[str, Tensor]

BN = "Mixed_5b.branch1x1.bn"
MEGABYTES = 1 << 20


@pytest.fixture(scope="module")
def state() -> State:
    """The state dict of a network with three classes; each tensor has another value."""
    shapes = network_without_values(num_classes=3).state_dict()
    return {name: torch.full_like(like, number, device="cpu") for number, (name, like) in enumerate(shapes.items())}


@pytest.fixture(scope="module")
def network(state: State) -> InceptionV3:
    network = network_without_values(num_classes=3)
    network.load_state_dict(state, assign=True)
    return network


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def assert_loads(content: object, state: State, file: Path) -> Weights:
    """Assert that a file with this content gives a network with these tensors; return its record."""
    torch.save(content, file)
    weights = find_weights(str(file))
    loaded = load_network(weights).state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    return weights


def about_the_file(weights: Weights) -> list[str]:
    """Return the notes that are not about the preset or the names of classes."""
    return [note for note in weights.notes if "preset" not in note and "without names" not in note]


# Names of files


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_a_name_that_is_not_utf8_can_be_read(suffix: str, tmp_path: Path) -> None:
    tensors, file = {"fc.bias": torch.arange(3.0)}, tmp_path / os.fsdecode(b"caf\xe9" + suffix.encode())
    with file.open("wb") as stream:
        if suffix == ".safetensors":
            stream.write(save(tensors | {"familiarity.means": torch.ones(2)}, {"inception": '{"trained": {"a": 1}}'}))
        else:
            torch.save(tensors, stream, _use_new_zipfile_serialization=suffix == ".pth")

    found = read_checkpoint(file)

    assert (list(found.tensors), found.tensors["fc.bias"].tolist()) == (["fc.bias"], [0, 1, 2])
    if suffix == ".safetensors":
        assert (read.read_trained(file), read.find_familiarity(file)) == ({"a": 1}, file)
        assert read.has_metadata(file)
        assert read.read_familiarity(file)["means"].tolist() == [1, 1]


# Wrappers and prefixes


#: Of torchvision's references, timm, Lightning and common examples.
WRAPPERS = ("model_ema", "state_dict_ema", "state_dict", "model", "model_state_dict", "net")


@pytest.mark.parametrize("outer", WRAPPERS)
@pytest.mark.parametrize("inner", [None, "state_dict", "model"])
def test_every_wrapper_is_removed(outer: str, inner: str | None, state: State) -> None:
    wrapped = {"epoch": 7, outer: {inner: state, "step": 3} if inner else state, "best": torch.tensor(77.3)}

    tensors, notes = unwrap(wrapped)

    assert tensors == state
    assert notes == ()


PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.")


@pytest.mark.parametrize("prefix", [*map("".join, permutations(PREFIXES, 2)), *PREFIXES, "".join(PREFIXES), "net."])
def test_every_prefix_is_removed(prefix: str, state: State) -> None:
    converted = convert(prefixed(prefix, state))

    assert converted.tensors == state
    assert converted.notes == ()


def test_wrappers_and_prefixes_in_one_file_are_removed(state: State, tmp_path: Path) -> None:
    nested = {"net": {"model_state_dict": prefixed("module._orig_mod.model.backbone.", state)}}

    assert about_the_file(assert_loads(nested, state, tmp_path / "nested.pth")) == []


def test_prefixes_in_safetensors_are_removed(state: State, tmp_path: Path) -> None:
    save_file(prefixed("_orig_mod.", state), tmp_path / "compiled.safetensors")

    loaded = load_network(find_weights(str(tmp_path / "compiled.safetensors"))).state_dict()

    assert all(torch.equal(loaded[name], state[name]) for name in state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda network: AveragedModel(nn.DataParallel(network)),
        nn.DataParallel,
        pytest.param(torch.compile, marks=pytest.mark.slow),  # importing the compiler takes 2 s
    ],
)
def test_module_that_torch_wraps_is_loaded(
    wrap: Callable[[nn.Module], nn.Module], network: InceptionV3, state: State
) -> None:
    tensors, _ = unwrap(wrap(network).state_dict())

    converted = convert(tensors)

    assert all(torch.equal(converted.tensors[name], state[name]) for name in state)
    assert converted.notes == ()


def sgd(network: nn.Module) -> dict[str, Any]:
    """Return the state dict of an optimizer after a step, with a tensor for each parameter."""
    copy = {name: nn.Parameter(value.clone()) for name, value in network.named_parameters() if ".bn." in name}
    optimizer = torch.optim.SGD(list(copy.values()), momentum=0.9)
    for value in copy.values():
        value.grad = torch.ones_like(value)
    optimizer.step()
    return optimizer.state_dict()


def make_class(module: str, name: str, *bases: type) -> type:
    """Return a class of a library that is not installed here, whose objects can be pickled."""
    made = type(name, bases, {"__module__": module})
    parents = module.split(".")
    for end in range(1, len(parents) + 1):
        sys.modules.setdefault(".".join(parents[:end]), types.ModuleType(".".join(parents[:end])))
    setattr(sys.modules[module], name, made)
    return made


def torchvision_references(state: State, network: nn.Module) -> dict[str, Any]:
    """Return what `references/classification/train.py` saves with --model-ema."""
    return {
        "model": {name: value + 1 for name, value in state.items()},
        "optimizer": sgd(network),
        "lr_scheduler": {"base_lrs": [0.1], "last_epoch": 3},
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, opt="sgd", output_dir=Path("out")),
        "model_ema": prefixed("module.", state) | {"n_averaged": torch.tensor(7)},
    }


def timm_train(state: State, network: nn.Module) -> dict[str, Any]:
    """Return what timm's `CheckpointSaver` saves."""
    return {
        "epoch": 3,
        "arch": "inception_v3",
        "state_dict": state,
        "optimizer": sgd(network),
        "version": 2,
        "args": argparse.Namespace(model="inception_v3", mean=None),
        "amp_scaler": {"scale": 65536.0},
        "metric": np.float64(77.3),
    }


def lightning(state: State, network: nn.Module) -> dict[str, Any]:
    """Return what Lightning's `Trainer.save_checkpoint` saves."""
    hyperparameters = make_class("lightning.fabric.utilities.data", "AttributeDict", dict)(lr=0.1)
    history: defaultdict[str, list[float]] = defaultdict(list, loss=[1.5, 0.7])
    return {
        "epoch": 3,
        "global_step": 900,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": prefixed("model.", state) | {"loss.weight": torch.ones(3), "val_acc.tp": torch.zeros(3)},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_acc'}": {"best_model_score": torch.tensor(0.7)}},
        "optimizer_states": [sgd(network)],
        "hyper_parameters": hyperparameters,
        "history": history,
    }


def imagenet_example(state: State, network: nn.Module) -> dict[str, Any]:
    """Return what `pytorch/examples/imagenet/main.py` saves."""
    return {
        "epoch": 3,
        "arch": "inception_v3",
        "state_dict": OrderedDict(prefixed("module.", state)),
        "best_acc1": torch.tensor(77.3),
        "optimizer": sgd(network),
    }


def mmengine(state: State, network: nn.Module) -> dict[str, Any]:
    """Return what mmengine's `CheckpointHook` saves, whose message hub contains arrays of numpy."""
    buffer = make_class("mmengine.logging.history_buffer", "HistoryBuffer")()
    buffer.__dict__.update(_log_history=np.array([1.5, 0.7]), _count_history=np.array([1, 1]))
    return {
        "meta": {"epoch": 3, "cfg": "model = dict(type='ImageClassifier')"},
        "state_dict": prefixed("backbone.", state),
        "message_hub": {"log_scalars": {"train/loss": buffer}},
        "optimizer": sgd(network),
    }


SCRIPTS = (torchvision_references, timm_train, lightning, imagenet_example, mmengine)


@pytest.mark.parametrize("script", SCRIPTS)
def test_checkpoint_of_a_training_script_is_loaded(
    script: Callable[[State, nn.Module], dict[str, Any]], network: InceptionV3, state: State, tmp_path: Path
) -> None:
    weights = assert_loads(script(state, network), state, tmp_path / "checkpoint.pth.tar")

    assert about_the_file(weights) == {
        "torchvision_references": ["the file contains several state dicts: model_ema is used, not model"],
        "lightning": ["left out, since they are not part of model: loss.weight, val_acc.tp"],
    }.get(script.__name__, [])


def test_two_networks_are_refused(state: State) -> None:
    with pytest.raises(CheckpointError, match=r"contains 2 networks \(teacher\., student\.\); save the state_dict"):
        convert(prefixed("teacher.", state) | prefixed("student.", state))


def test_state_dict_that_contains_itself_is_refused() -> None:
    itself: dict[str, object] = {"epoch": 3}
    itself["model"] = itself

    with pytest.raises(CheckpointError, match="contains no state dict"):
        unwrap(itself)


def test_other_network_in_a_wrapper_is_named() -> None:
    with pytest.raises(CheckpointError, match="it seems to be a ResNet"):
        convert({"module.layer1.0.conv1.weight": torch.ones(1)})


# Heads


def with_head(state: State, **head: Tensor) -> State:
    """Return the state dict with other tensors instead of `fc`; `__` in a name is a full stop."""
    trunk = {name: value for name, value in state.items() if not name.startswith("fc.")}
    return trunk | {name.replace("__", "."): value for name, value in head.items()}


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ({"fc__1__weight": torch.ones(5, 2048), "fc__1__bias": torch.ones(5)}, "fc: fc.1.weight (5 × 2,048)"),
        (
            {"classifier__0__weight": torch.ones(8, 2048), "classifier__3__weight": torch.ones(5, 8)},
            "fc: classifier.0.weight (8 × 2,048), classifier.3.weight (5 × 8)",
        ),
        ({"last_linear__weight": torch.ones(5, 2048)}, "fc: last_linear.weight (5 × 2,048)"),
        ({"fc__weight": torch.ones(5, 2048, 1, 1)}, "fc.weight is 5 × 2,048 × 1 × 1, not classes × 2048"),
        ({"fc__weight": torch.ones(5, 512)}, "fc.weight is 5 × 512, not classes × 2048"),
        ({"fc__weight": torch.tensor(1.0)}, "fc.weight is a number, not classes × 2048"),
        ({"fc__weight": torch.ones(0, 2048)}, "fc.weight has 0 classes"),
        ({"fc__weight": torch.ones(5, 2048)}, "1 missing (fc.bias)"),
        ({}, "an Inception V3 with no classifier, fc.weight"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_another_head_is_named(head: State, problem: str, prefix: str, state: State) -> None:
    with pytest.raises(CheckpointError) as error:
        convert(prefixed(prefix, with_head(state, **head)))

    assert problem in str(error.value)


@pytest.mark.parametrize("fc", [True, False])
def test_head_outside_of_the_backbone_is_named(fc: bool, state: State) -> None:
    backbone = prefixed("backbone.", state if fc else with_head(state))

    with pytest.raises(CheckpointError, match=r"classifier\.weight \(5 × 3\); the classifier must be one linear layer"):
        convert(backbone | {"classifier.weight": torch.ones(5, 3), "classifier.bias": torch.ones(5)})


def test_single_class_is_noted(state: State) -> None:
    converted = convert(with_head(state, fc__weight=torch.ones(1, 2048), fc__bias=torch.ones(1)))

    assert converted.notes == ("the network has a single class, which every photo gets with the score 1",)


# Tensors


def refusal(file: Path) -> str:
    """Return the error of a file, which is one line that begins with it."""
    with pytest.raises(InceptionError) as error:
        find_weights(str(file))
    message = str(error.value)
    assert message.startswith(f"{file}: ")
    assert "; " in message  # the remedy
    assert "\n" not in message
    assert len(message) <= 300
    return message


def status_megabytes(key: str) -> float:
    """Return a value of this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))


@contextmanager
def within_bounds(file: Path) -> Iterator[None]:
    """Assert that the block takes at most 2 s, and 200 MB more than the file."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak to the present size
    before, start = status_megabytes("VmRSS"), time.process_time()
    yield
    assert time.process_time() - start <= 2
    assert status_megabytes("VmHWM") - before <= 200 + file.stat().st_size / MEGABYTES


def csr() -> Tensor:
    return torch.sparse_csr_tensor(torch.tensor([0, 1, 1, 1]), torch.tensor([0]), torch.ones(1), (3, 2048))


UNUSABLE: dict[str, tuple[Callable[[], Tensor], str]] = {
    "quantised": (lambda: torch.quantize_per_tensor(torch.ones(3, 2048), 0.1, 0, torch.qint8), "is quantised"),
    "quantised by channel": (
        lambda: torch.quantize_per_channel(torch.ones(3, 2048), torch.ones(3), torch.zeros(3), 0, torch.qint8),
        "is quantised",
    ),
    "sparse": (lambda: torch.eye(3, 2048).to_sparse(), "is sparse"),
    "sparse rows": (csr, "is sparse"),
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "is a tensor of a special class"),
    "meta": (lambda: torch.empty(3, 2048, device="meta"), "is on the device meta, without values"),
    "complex64": (lambda: torch.ones(3, 2048, dtype=torch.complex64), "is complex (complex64)"),
    "complex128": (lambda: torch.ones(3, 2048, dtype=torch.complex128), "is complex (complex128)"),
    "10⁹ classes": (
        lambda: torch.zeros(1, 1).expand(10**9, 2048),
        "is larger (1,000,000,000 × 2,048 values) than its data in the file (4 bytes)",
    ),
    "a value for all": (lambda: torch.ones(1).expand(3, 2048), "is larger (3 × 2,048 values)"),
}


@pytest.mark.filterwarnings("ignore")  # torch's of the kinds of tensor
@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.parametrize("name", ["fc.weight", f"{BN}.running_mean"])
def test_tensor_of_an_unusable_kind_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    make, problem = UNUSABLE[kind]
    file = tmp_path / "hostile.pth"
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.ones(32, 3, 3, 3), name: make()}, file)

    with within_bounds(file):
        message = refusal(file)

    assert f"{name} {problem}" in message


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool, torch.float8_e4m3fn])
def test_data_type_that_is_no_usual_float_is_named(dtype: torch.dtype, state: State) -> None:
    with pytest.raises(CheckpointError, match=rf"^fc\.weight is {str(dtype)[6:]}; save the tensors as float32$"):
        convert(state | {"fc.weight": torch.ones(3, 2048).to(dtype)})


@pytest.mark.parametrize("count", [500, 501])
def test_number_of_classes_is_bounded(count: int, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_CLASSES == 100_000
    monkeypatch.setattr(checkpoint, "MAX_CLASSES", 500)  # 100,000 classes would take 400 MB
    classifier = {"fc.weight": torch.ones(count, 2048), "fc.bias": torch.ones(count)}

    if count == 500:
        assert convert(state | classifier).num_classes == count
    else:
        with pytest.raises(CheckpointError, match=r"^fc\.weight has 501 classes, not 1 to 500"):
            convert(state | classifier)


@pytest.mark.parametrize(
    ("name", "values", "problem"),
    [
        ("fc.bias", torch.tensor([0, float("nan"), 1]), "not finite"),
        ("fc.bias", torch.tensor([0, float("inf"), 1]), "not finite"),
        ("fc.bias", torch.tensor([0, float("-inf"), 1], dtype=torch.float16), "not finite"),
        ("fc.bias", torch.tensor([0, float("nan"), 1], dtype=torch.bfloat16), "not finite"),
        ("fc.bias", torch.tensor([0, 1e39, 1], dtype=torch.float64), "not finite"),  # infinite in float32
        (f"{BN}.weight", torch.full((64,), float("nan")), "not finite"),
        (f"{BN}.running_var", torch.full((64,), float("nan")), "not finite"),
        (f"{BN}.running_var", torch.full((64,), -1.0), "negative values, but is a variance"),
    ],
)
def test_values_that_would_make_scores_nan_are_refused(name: str, values: Tensor, problem: str, state: State) -> None:
    with pytest.raises(CheckpointError) as error:
        convert(state | {name: values})

    assert str(error.value).startswith(f"{name} contains ")
    assert problem in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_scales_of_int8_tensors_must_be_finite(value: float, state: State) -> None:
    compressed = compress(state)
    compressed["fc.weight.int8_scale"][1] = value

    with pytest.raises(CheckpointError, match=r"^fc\.weight\.int8_scale contains values that are not finite"):
        convert(compressed)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("fc.weight.int8_scale", torch.ones(10**6), "fc.weight.int8_scale is 1,000,000, not 3"),
        ("fc.weight.int8_scale", torch.ones(3, dtype=torch.int8), "fc.weight.int8_scale is int8"),
        ("fc.weight", torch.ones(3, 2048), "1 unexpected (fc.weight.int8_scale)"),
        ("Conv2d_1a_3x3.conv.weight", torch.ones(3, dtype=torch.int8), "conv.weight is 3, not 32 × 3 × 3 × 3"),
    ],
)
def test_scales_must_fit_their_tensors(name: str, value: Tensor, problem: str, state: State) -> None:
    with pytest.raises(CheckpointError) as error:
        convert(compress(state) | {name: value})

    assert problem in str(error.value)


def test_file_with_nan_is_refused_before_the_run_begins(state: State, inception: Inception, tmp_path: Path) -> None:
    file, rows = tmp_path / "nan.pth", tmp_path / "rows.csv"
    torch.save(state | {"fc.bias": torch.tensor([0, float("nan"), 1])}, file)
    (tmp_path / "photo.jpg").touch()

    ended = inception("classify", tmp_path / "photo.jpg", "-w", file, "-o", rows)

    assert ended.code == 1
    assert "fc.bias contains values that are not finite" in ended.err
    assert not list(tmp_path.glob("rows*"))


# Files that take more memory or time than their size suggests


def write_zip(file: Path, index: bytes, compression: int = zipfile.ZIP_STORED, long_names: int = 0) -> None:
    """Write a file as torch.save does, with any bytes for the pickle."""
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", index)
        archive.writestr("archive/version", b"3\n")
        for number in range(long_names):
            archive.writestr(f"archive/data/{number:060000}", b"")


def write_old(file: Path, index: bytes) -> None:
    """Write a file as torch before 1.6 did, with any bytes for the pickle of the state dict."""
    buffer = io.BytesIO()
    torch.save({}, buffer, _use_new_zipfile_serialization=False)
    buffer.seek(0)
    for _ in range(3):  # magic number, version, system
        list(pickletools.genops(buffer))
    file.write_bytes(buffer.getvalue()[: buffer.tell()] + index)


def write_bomb(file: Path) -> None:
    """Write 1 MB that inflate to a tensor of 250 MB."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        with archive.open("archive/data/0", "w") as part:
            for _ in range(250):
                part.write(bytes(MEGABYTES))


def write_header(file: Path, header: bytes) -> None:
    """Write a safetensors file with this header."""
    file.write_bytes(struct.pack("<Q", len(header)) + header)


def header_of_tensors(count: int, **tensor: object) -> bytes:
    described = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} | tensor
    return json.dumps({f"t{number}": described for number in range(count)}).encode()


def pickled(operations: bytes) -> bytes:
    return b"\x80\x02" + operations + b"."


LARGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "50 MB of dicts that deflate to 50 kB": (
        lambda file: write_zip(file, pickled(b"}" * 50_000_000), zipfile.ZIP_DEFLATED),
        "its pickle has over 47 MB",
    ),
    "a pickle over 16 MB": (lambda file: write_zip(file, pickled(b"}" * 17_000_000)), "its pickle has over 16 MB"),
    "15 million dicts": (lambda file: write_zip(file, pickled(b"}" * 15_000_000)), "makes over 500,000 objects"),
    "15 million marks": (lambda file: write_zip(file, pickled(b"(" * 15_000_000)), "makes over 500,000 objects"),
    "a bytearray of 2 GB": (
        lambda file: write_zip(file, pickled(b"c__builtin__\nbytearray\n(J\xff\xff\xff\x7ftR")),
        "not a checkpoint of tensors only",
    ),
    "250 MB that deflate to 1 MB": (write_bomb, "compressed parts"),
    "names of parts": (lambda file: write_zip(file, pickled(b"}"), long_names=80), "its list of parts has over 4 MB"),
    "old: 40 million dicts": (
        lambda file: write_old(file, pickled(b"}" * 40_000_000)),
        "its pickle has over 16 MB",
    ),
    "no pickle of torch": (lambda file: file.write_bytes(b"}" * 40_000_000), "makes over 500,000 objects"),
    "zeros": (lambda file: file.write_bytes(bytes(40_000_000)), "not a checkpoint of tensors only"),
    "30,000 tensors": (
        lambda file: torch.save(dict.fromkeys(map(str, range(30_000)), torch.ones(1)), file),
        "has 30,000 tensors",
    ),
}
LARGE_SAFETENSORS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a header of 90 MB": (lambda file: write_header(file, b" " * 90_000_000 + b"{}"), "its header has over 85 MB"),
    "100,000 tensors": (lambda file: write_header(file, header_of_tensors(100_000)), "has 100,000 tensors"),
    "a tensor of 8 TB": (
        lambda file: write_header(file, header_of_tensors(1, shape=[10**9, 2048])),
        "damaged safetensors file",
    ),
    "nested 100,000 deep": (lambda file: write_header(file, b'{"a":' * 100_000), "recursion limit exceeded"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", [*LARGE, *LARGE_SAFETENSORS])
def test_file_that_would_take_memory_or_time_is_refused(kind: str, tmp_path: Path) -> None:
    write, problem = (LARGE | LARGE_SAFETENSORS)[kind]
    file = tmp_path / ("large.pth" if kind in LARGE else "large.safetensors")
    write(file)

    with within_bounds(file):
        message = refusal(file)

    assert problem in message


def test_bounds_allow_a_large_pickle(tmp_path: Path) -> None:
    history = {f"image {number}": number for number in range(100_000)}
    torch.save({"state_dict": {"fc.bias": torch.ones(3)}, "history": history}, tmp_path / "history.pth")

    assert read_checkpoint(tmp_path / "history.pth").tensors.keys() == {"fc.bias"}


@pytest.mark.parametrize("name", ["fifo.pth", "fifo.safetensors"])
def test_pipe_is_refused(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)

    assert "not a regular file" in refusal(tmp_path / name)


def test_device_is_refused() -> None:
    assert "not a regular file" in refusal(Path("/dev/zero"))


def test_pipe_in_place_of_the_weights_of_a_run_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.pth")

    with pytest.raises(InceptionError, match="not a regular file"):
        load_network(replace(run_config().weights[0], file=str(tmp_path / "fifo.pth")))


# Metadata


def preset(**fields: object) -> str:
    values = {name: getattr(PRESETS["timm"], name) for name in PRESETS["timm"].__dataclass_fields__}
    return json.dumps({"preset": values | fields})


METADATA = {
    "[" * 100_000: "Expected `object`, got `array`",
    '{"a":' * 100_000 + "1" + "}" * 100_000: "nested too deeply",
    '{"trained":' * 100_000 + "1" + "}" * 100_000: "nested too deeply",
    "null": "Expected `object`, got `null`",
    "{": "truncated",
    '{"classes":["\\ud800","b","c"]}': "surrogate",
    '{"classes":[]}': "there are no classes",
    '{"classes":{"0":"a"}}': "$.classes",
    json.dumps({"classes": list(map(str, range(10**6)))}): "classes: 1,000,000 names, not 1 to 100,000",
    json.dumps({"classes": ["a" * 900, "a" * 900, "b"]}): "the class 'aaa",
    json.dumps({"classes": ["a" * 10**6, "b", "c"]}): "classes: a name is over 1000",
    preset(size=10**9, resize=10**9): "resize must be at least 1 and at most 100000",
    preset(size=9000, resize=9000): "preset: size 9000",
    preset(size=74, resize=74): "preset: size 74",
    preset(size=10**30): "need 0 < size <= resize",
    preset(size=True): "$.preset.size",
    preset(size=299.5): "$.preset.size",
    '{"preset":{"size":1e999}}': "$.preset.size",
    '{"preset":{"size":NaN}}': "malformed",
    preset(mean=[1e308, 0, 0]): "mean is three numbers from -1000 to 1000",
    preset(std=[1e-300, 1, 1]): "preset: std",
    preset(std=[0, 1, 1]): "std three numbers above 0",
    preset(mean=[0, 0]): "$.preset.mean",
    preset(filter="lanczos"): "$.preset.filter",
    preset(exif="no"): "$.preset.exif",
    preset(name="x" * 10**6): "preset.name has 1,000,000 characters",
    preset(name="x" * 2000): "preset: the name is over 1000",
    preset(name="x" * 999, size=0): "preset xxx",
    '{"trained":[]}': "$.trained",
}


@pytest.mark.parametrize("metadata", METADATA, ids=lambda text: text[:30])
def test_hostile_metadata_is_refused(metadata: str, tmp_path: Path) -> None:
    file = tmp_path / "hostile.safetensors"
    save_file({"fc.weight": torch.ones(3, 2048)}, file, {"inception": metadata})

    with within_bounds(file):
        message = refusal(file)

    assert "invalid metadata: " in message
    assert METADATA[metadata] in message


def test_names_of_tensors_do_not_lengthen_the_message(state: State, tmp_path: Path) -> None:
    torch.save(state | {"x" * 100_000: torch.ones(1), "y\n\x1b[31m" * 1000: torch.ones(1)}, tmp_path / "long.pth")

    assert "2 unexpected (xxxxx" in refusal(tmp_path / "long.pth")


# Code and warnings


class Code:
    """An object whose pickle calls a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def test_function_of_an_ignored_library_is_not_called(state: State, tmp_path: Path) -> None:
    created = tmp_path / "created"
    code = Code(runstring, f"open({str(created)!r}, 'w').close()", {})

    assert_loads({"state_dict": state, "metric": code}, state, tmp_path / "code.pth")

    assert not created.exists()
    pickle.loads(pickle.dumps(code))
    assert created.exists()  # else this test could not fail


@pytest.mark.parametrize("function", [os.system, os.mkdir, eval, exec])
def test_other_functions_are_refused_and_not_called(function: Callable[..., object], tmp_path: Path) -> None:
    created = tmp_path / "created"
    calls = {os.system: f"mkdir {created}", os.mkdir: str(created)}
    code = Code(function, calls.get(function, f"__import__('os').mkdir({str(created)!r})"))
    torch.save({"state_dict": {"fc.weight": torch.ones(3, 2048)}, "metric": code}, tmp_path / "code.pth")

    assert "not a checkpoint of tensors only" in refusal(tmp_path / "code.pth")
    assert not created.exists()


def test_warnings_of_torch_do_not_precede_the_error(tmp_path: Path) -> None:
    tensors = {"fc.weight": csr(), "fc.bias": UNUSABLE["quantised by channel"][0]()}
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.ones(32, 3, 3, 3)} | tensors, tmp_path / "x.pth")
    torch.set_warn_always(True)  # not only the first time in this process
    try:
        with pytest.warns(match="sparse|[Qq]uantiz"):
            torch.load(tmp_path / "x.pth")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "fc.weight is sparse" in refusal(tmp_path / "x.pth")
    finally:
        torch.set_warn_always(False)


def test_bounds_are_those_of_the_module() -> None:
    assert (read.MAX_INDEX, read.MAX_LINE) == (16 * MEGABYTES, 300)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "too many open files"),
        (
            RuntimeError("unable to open file <w.pth> in read-only mode: Too many open files (24)"),
            "too many open files",
        ),
        (RuntimeError("unable to mmap 875 bytes from file <w.pth>: Cannot allocate memory (12)"), "cannot allocate"),
        (MemoryError("Cannot allocate memory (os error 12)"), "cannot allocate memory"),
        (MemoryError(), "out of memory"),
    ],
    ids=str,
)
def test_limit_of_the_system_is_not_blamed_on_the_file(
    suffix: str, error: Exception, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"w{suffix}"
    file.touch()
    monkeypatch.setattr(
        read, "_read_safetensors" if suffix == ".safetensors" else "_read_torch", Mock(side_effect=error)
    )

    message = refusal(file)

    assert reason in message
    assert "ulimit -n 1024" in message
    assert "checkpoint" not in message
