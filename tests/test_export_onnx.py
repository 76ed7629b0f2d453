"""An exported network gives our scores in ONNX Runtime and OpenVINO, and a file that does not is never published."""

import json
import runpy
import sys
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from lively import lively, pictures, scaled
from PIL import Image
from records import run_config
from running import Inception, code_of
from torch import Tensor, nn

from inception_cli import __version__
from inception_cli.actions import export_onnx
from inception_cli.config import PRESETS, Classes
from inception_cli.errors import InceptionError
from inception_cli.files.hashing import sha256
from inception_cli.network.model import InceptionV3
from inception_cli.weights import load
from inception_cli.weights.load import save_weights

#: A preset whose channels differ, so that a mix-up of channels changes the scores.
PRESET = replace(
    PRESETS["torchvision"], name="small", size=139, resize=159, mean=(0.5, 0.45, 0.55), std=(0.5, 0.55, 0.45)
)
CLASSES = tuple(f"class {letter} ü" for letter in "abcdefghijkl")
#: The weights of the tests with a tiny network: ten classes, 75 pixels.
WEIGHTS = run_config().weights[0]
EXAMPLE = Path(__file__).parent / "examples" / "onnx_runtime.py"


@pytest.fixture(scope="module")
def network() -> InceptionV3:
    return lively(len(CLASSES))


@pytest.fixture(scope="module")
def weights(network: InceptionV3, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    save_weights(file, network, CLASSES, PRESET, {})
    return file


@pytest.fixture(scope="module")
def exported(weights: Path) -> Path:
    """The exported network; its export, which takes seconds, is done once for all tests."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    file = weights.with_name("mine.onnx")
    assert code_of("export", "-w", weights, "--out", file) == 0
    return file


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """Drawn pictures, uint8 (6, S, S, 3)."""
    return pictures(6, seed=3, side=PRESET.size).permute(0, 2, 3, 1).contiguous()


def scores_of(network: nn.Module, pixels: Tensor, preset: Any = PRESET) -> Tensor:
    """Return the scores (N, C) of the network as it was trained: nothing is folded."""
    with torch.inference_mode():
        logits: Tensor = network(scaled(pixels.permute(0, 3, 1, 2), preset.mean, preset.std))
    return logits.softmax(1)


@pytest.fixture(scope="module")
def expected(network: InceptionV3, pixels: Tensor) -> Tensor:
    scores = scores_of(network, pixels)
    assert len(set(scores.argmax(1).tolist())) >= len(pixels) / 3
    return scores


@pytest.fixture(scope="module")
def session(exported: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])


def run(session: Any, pixels: Tensor) -> Tensor:
    (scores,) = session.run(["scores"], {"pixels": pixels.numpy()})
    return torch.from_numpy(scores)


@pytest.fixture(scope="module")
def scores(session: Any, pixels: Tensor) -> Tensor:
    """The scores in ONNX Runtime."""
    return run(session, pixels)


def are_equal(actual: Tensor, expected: Tensor) -> bool:
    return (actual - expected).abs().max().item() <= 1e-4


def test_onnx_runtime_gives_the_scores_of_the_network(scores: Tensor, expected: Tensor) -> None:
    assert scores.dtype == torch.float32
    assert are_equal(scores, expected)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_batch_may_have_any_size(n: int, session: Any, pixels: Tensor, expected: Tensor) -> None:
    assert are_equal(run(session, pixels[:n]), expected[:n])


@pytest.mark.parametrize("layer", ["Conv2d_1a_3x3.conv", "Mixed_6c.branch7x7dbl_3.bn", "fc"])
def test_the_scores_differ_when_one_weight_is_changed(
    layer: str, network: InceptionV3, scores: Tensor, pixels: Tensor
) -> None:
    weight = network.get_submodule(layer).get_parameter("weight").data.view(-1)
    before = weight[0].item()
    weight[0] += 0.5
    changed = scores_of(network, pixels)
    weight[0] = before

    assert not are_equal(scores, changed)


def test_the_scores_differ_with_another_preset(network: InceptionV3, scores: Tensor, pixels: Tensor) -> None:
    assert not are_equal(scores, scores_of(network, pixels, PRESETS["torchvision"]))


def test_openvino_gives_the_scores_of_the_network(exported: Path, pixels: Tensor, expected: Tensor) -> None:
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()

    model = core.compile_model(core.read_model(exported), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    assert are_equal(torch.from_numpy(model({"pixels": pixels.numpy()})["scores"]), expected)


def test_the_file_describes_itself(session: Any, weights: Path) -> None:
    metadata = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    ((given,), (returned,)) = session.get_inputs(), session.get_outputs()

    assert metadata == {
        "classes": list(CLASSES),
        "preset": json.loads(json.dumps(asdict(PRESET))),
        "weights": "mine.safetensors",
        "sha256": sha256(weights),
        "inception": __version__,
    }
    assert (given.name, given.type, given.shape) == ("pixels", "tensor(uint8)", ["N", 139, 139, 3])
    assert (returned.name, returned.type, returned.shape) == ("scores", "tensor(float)", ["N", len(CLASSES)])


def test_the_graph_has_opset_18_and_nothing_is_left_to_fold(exported: Path) -> None:
    import onnx

    model = onnx.load(exported, load_external_data=False)

    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    operators = [node.op_type for node in model.graph.node]
    assert set(operators) == {
        *("Transpose", "Cast", "Conv", "Relu", "MaxPool", "AveragePool", "Concat", "ReduceMean", "Gemm", "Softmax")
    }
    assert operators.count("Conv") == 94
    assert [each.name for each in model.graph.initializer if each.external_data] == []


def test_the_file_says_nothing_about_this_machine(exported: Path) -> None:
    import onnx

    model = onnx.load(exported, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")  # among so many bytes of weights any three are found by chance
    data = model.SerializeToString()

    assert [text for text in (b"stack_trace", b".py", bytes(exported.parent)) if text in data] == []


class TinyNetwork(nn.Module):
    """A network with the input and output of an exported one, which takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.logits(pixels.permute(0, 3, 1, 2)).softmax(1)

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits (N, 10) of pixels (N, 3, S, S)."""
        logits: Tensor = self.fc(x.float().mean((2, 3)) / 255)
        return logits


@pytest.fixture(scope="module")
def tiny() -> tuple[TinyNetwork, bytes]:
    """A tiny network, and the same in ONNX."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    network = TinyNetwork()
    return network, export_onnx.to_onnx(network, 75).SerializeToString(deterministic=True)


def test_the_same_network_gives_the_same_bytes_and_torch_prints_nothing(
    tiny: tuple[TinyNetwork, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    network, data = tiny

    assert export_onnx.to_onnx(network, 75).SerializeToString(deterministic=True) == data
    assert capfd.readouterr() == ("", "")


def export_that_fails(cause: type[BaseException]) -> Any:
    """Return what stands for torch's exporter: it fails for this cause, and hides it in an error of its own."""

    def export(*_: object, **options: object) -> None:
        try:
            raise cause("no operator for aten::conv2d")
        except BaseException as error:
            raise torch.onnx.OnnxExporterError("\x1b[96mThis is step 1/3\x1b[0m") from error

    return export


def test_a_failure_of_torch_names_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "export", export_that_fails(ValueError))

    with pytest.raises(InceptionError, match=r"cannot export to ONNX: no operator for aten::conv2d; update the exp"):
        export_onnx.to_onnx(TinyNetwork(), 75)


def test_an_interruption_is_no_failure_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "export", export_that_fails(KeyboardInterrupt))

    with pytest.raises(KeyboardInterrupt):
        export_onnx.to_onnx(TinyNetwork(), 75)


@pytest.mark.slow
def test_the_same_weights_give_the_same_file(
    exported: Path, weights: Path, inception: Inception, tmp_path: Path
) -> None:
    ended = inception("export", "-w", weights, "-o", tmp_path / "again.onnx", "-q")

    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()


@pytest.fixture
def model(tiny: tuple[TinyNetwork, bytes], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tiny network in ONNX, which the next export writes, with the changes of a test."""
    import onnx

    network, data = tiny
    model = onnx.load_from_string(data)
    monkeypatch.setattr(load, "find_weights", lambda *_: WEIGHTS)
    monkeypatch.setattr(export_onnx, "load_network", lambda _: network)
    monkeypatch.setattr(export_onnx, "PixelsToScores", lambda *_: network)
    monkeypatch.setattr(export_onnx, "optimize", lambda *_: network.logits)
    monkeypatch.setattr(export_onnx, "to_onnx", lambda *_: model)
    return model


@pytest.mark.usefixtures("model")
def test_only_two_lines_and_json_are_printed(inception: Inception, tmp_path: Path) -> None:
    file = tmp_path / "x.onnx"

    ended = inception("export", "-w", "demo", "-o", file, "--json", "-v")

    first, second = ended.err.splitlines()
    printed = json.loads(ended.out)
    assert first == f"written to {file}: 0.0 MB, 75 x 75 pixels, 10 classes"
    assert second.startswith("checked: ONNX Runtime ")
    assert printed["bytes"] == file.stat().st_size
    assert printed["input"] == {"name": "pixels", "type": "uint8", "shape": ["N", 75, 75, 3]}
    assert printed["output"] == {"name": "scores", "type": "float32", "shape": ["N", 10]}
    assert printed["metadata"]["classes"] == list(WEIGHTS.classes.names)
    assert printed["check"]["max_difference"] <= 1e-4


def set_first_bias(model: Any, value: float) -> None:
    bias = next(each for each in model.graph.initializer if each.name == "fc.bias")
    values = np.frombuffer(bias.raw_data, np.float32).copy()
    values[0] = value
    bias.raw_data = values.tobytes()


def change_one_weight(model: Any) -> None:
    set_first_bias(model, 3)


def not_a_number(model: Any) -> None:
    set_first_bias(model, np.nan)


def unknown_operator(model: Any) -> None:
    model.graph.node[1].op_type = "Unknown"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_one_weight, "not written, since its scores in ONNX Runtime"),
        (not_a_number, "differ from those of inception by nan; update"),
        (unknown_operator, "cannot run the exported network: "),
    ],
)
def test_a_file_that_fails_the_check_is_not_published(
    damage: Any, message: str, model: Any, inception: Inception, tmp_path: Path
) -> None:
    file = tmp_path / "x.onnx"
    file.write_bytes(b"before")
    damage(model)

    ended = inception("export", "-w", "demo", "-o", file, "--force")

    assert ended.code == 1
    assert message in ended.err
    assert "update the exporter: pip install onnx onnxscript onnxruntime --upgrade" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("x.onnx", b"before")]


@pytest.mark.usefixtures("model")
def test_without_onnx_runtime_the_file_is_written_unchecked(
    inception: Inception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    ended = inception("export", "-w", "demo", "-o", tmp_path / "x.onnx", "-v", "--json")

    assert ended.code == 0
    assert "not checked, for lack of ONNX Runtime: pip install onnxruntime" in ended.err
    assert json.loads(ended.out)["check"] is None
    assert (tmp_path / "x.onnx").stat().st_size == json.loads(ended.out)["bytes"]


@pytest.mark.usefixtures("model")
def test_a_file_of_this_command_is_replaced_and_no_other(inception: Inception, tmp_path: Path) -> None:
    file = tmp_path / "x.onnx"

    assert inception("export", "-w", "demo", "-o", file).code == 0
    assert inception("export", "-w", "demo", "-o", file).code == 0
    file.write_bytes(b"\x08\x0a\x12\x07pytorch")
    ended = inception("export", "-w", "demo", "-o", file)

    assert (ended.code, file.read_bytes()) == (1, b"\x08\x0a\x12\x07pytorch")
    assert "exists and was not written by inception; --force replaces it" in ended.err


@pytest.mark.usefixtures("model")
def test_assumptions_about_the_weights_are_printed(
    inception: Inception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join("abcdefghij"))
    find_weights = Mock(return_value=replace(WEIGHTS, notes=("the file names no preset: torchvision's is used",)))
    monkeypatch.setattr(load, "find_weights", find_weights)

    ended = inception(
        "export", "-w", "my.pth", "--preset", "timm", "--classes", names, "--offline", "-o", tmp_path / "x.onnx"
    )

    assert ended.err.startswith("small: the file names no preset: torchvision's is used\nwritten to ")
    assert find_weights.call_args.args[:4] == ("my.pth", "timm", Classes(tuple("abcdefghij")), True)


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_extra_is_reported_before_a_download(
    package: str, inception: Inception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(load, "find_weights", lambda *_: pytest.fail("it must not be reached"))

    ended = inception("export", "-w", "torchvision", "-o", tmp_path / "x.onnx")

    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert ended.err.endswith(": pip install onnx onnxscript onnxruntime\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-w", "demo"], "--out FILE is missing: give --out demo.onnx, for example"),
        (["-w", "demo", "-w", "torchvision", "-o", "x.onnx"], "not an ensemble of 2: give --weights once"),
        (["-w", "demo", "-o", "x.pb"], "--out x.pb: give a file on this machine, with a name that ends in .onnx"),
        (["-w", "demo", "-o", "s3://models/x.onnx"], "give a file on this machine"),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], message: str, inception: Inception) -> None:
    ended = inception("export", *words)

    assert ended.code == 2
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1


def test_the_example_gives_the_class_and_score_of_classify(
    exported: Path, weights: Path, inception: Inception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [tmp_path / f"{number}.png" for number in range(3)]
    for photo, picture in zip(photos, pictures(3, seed=5, side=200), strict=True):
        image = Image.fromarray(picture.permute(1, 2, 0).numpy()[:, 30:])
        if photo == photos[0]:
            image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(photo)
    settings = ("-w", weights, "-j", 0, "--decode", "exact", "--precision", "fp32")
    rows = json.loads(inception("classify", *photos, *settings, "--json").out)["predictions"]
    monkeypatch.setattr(sys, "argv", [EXAMPLE.name, str(exported), *map(str, photos)])

    with redirect_stdout(StringIO()) as out:
        runpy.run_path(str(EXAMPLE))

    printed = [line.split("\t") for line in out.getvalue().splitlines()]
    assert [line[1] for line in printed] == [row["labels"][0] for row in rows]
    assert [float(line[2]) for line in printed] == pytest.approx([row["scores"][0] for row in rows], abs=1e-3)


def test_the_example_refuses_pixels_that_it_cannot_make(monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = Mock()
    session.get_modelmeta().custom_metadata_map = {
        "classes": "[]",
        "preset": json.dumps(asdict(PRESETS["mmpretrain"])),
    }
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda file: session)
    monkeypatch.setattr(sys, "argv", [EXAMPLE.name, "mm.onnx", "photo.jpg"])

    with pytest.raises(SystemExit, match=r"mm.onnx: photos of the preset mmpretrain are resized by cv2.resize"):
        runpy.run_path(str(EXAMPLE))
