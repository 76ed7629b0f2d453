"""Export a network as an ONNX file: uint8 pixels (N, S, S, 3) in, softmax scores (N, C) in fp32 out.

Pixels are RGB, 0…255, resized and cropped as the preset in the file says; its mean and std are already part of the
graph. `metadata_props` of the file hold these keys, each value being JSON:

    classes     list of class names, in the order of the scores
    preset      {name, size, resize, filter, antialias, mean, std, exif}: see `config.Preset`
    weights     name of the weights
    sha256      of the file of the weights
    inception   version of this program
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inception_cli import __version__
from inception_cli.config import Plan, Preset, Weights
from inception_cli.errors import InceptionError, one_line
from inception_cli.files.atomic import replacing
from inception_cli.network.fusion import fold_all, optimize
from inception_cli.network.model import InceptionV3
from inception_cli.weights.load import load_network

if TYPE_CHECKING:
    from onnx import ModelProto

#: The version of ONNX's operators.
OPSET = 18
#: Names of the input and the output.
PIXELS, SCORES = "pixels", "scores"
#: Largest difference between a score in ONNX Runtime and ours.
TOLERANCE = 1e-4
#: Pixels of a side of the random grids that the pictures of the check are drawn from: broad areas to fine noise.
GRIDS = (2, 5, 16, 75)
INSTALL = "pip install onnx onnxscript onnxruntime"
UPDATE = f"update the exporter: {INSTALL} --upgrade"


class PixelsToScores(nn.Module):
    """A network with the uint8 pixels (N, S, S, 3) of pictures as its input and softmax scores (N, C) as its output."""

    def __init__(self, network: InceptionV3, preset: Preset) -> None:
        super().__init__()
        self.network = fold_all(network, preset.mean, preset.std)

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels.permute(0, 3, 1, 2).float()
        for _, stage in self.network.stages():
            x = stage(x)
        # Not forward_head: its flattening would become a reshape that reads the size of the batch.
        logits: Tensor = self.network.fc(x.mean((2, 3)))
        return logits.softmax(1)


@dataclass(frozen=True)
class Check:
    """A comparison of the scores of ONNX Runtime with ours, on drawn pictures."""

    onnxruntime: str  # its version
    pictures: int
    max_difference: float


@dataclass(frozen=True)
class Exported:
    """An ONNX file that was written; `check` is None where ONNX Runtime is not installed."""

    file: str
    bytes: int
    weights: Weights
    check: Check | None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of `inception export`."""
        return {
            "file": self.file,
            "bytes": self.bytes,
            "opset": OPSET,
            "input": {"name": PIXELS, "type": "uint8", "shape": ["N", *[self.weights.preset.size] * 2, 3]},
            "output": {"name": SCORES, "type": "float32", "shape": ["N", len(self.weights.classes)]},
            "metadata": describe(self.weights),
            "check": asdict(self.check) if self.check else None,
        }


def require_exporter() -> None:
    """Raise InceptionError if the packages are missing that torch's exporter needs."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InceptionError(f"export needs onnx and onnxscript ({one_line(error)}): {INSTALL}") from error


def export(weights: Weights, file: Path) -> Exported:
    """Write the network of the weights to an ONNX file, replacing it atomically.

    The new file is read by ONNX Runtime, if that is installed, before it gets its name: InceptionError when its scores
    are not ours, and then `file` is as it was.
    """
    network = load_network(weights)
    model = to_onnx(PixelsToScores(network, weights.preset), weights.preset.size)
    model.producer_name, model.producer_version = "inception", __version__
    for key, value in describe(weights).items():
        model.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
    data = model.SerializeToString(deterministic=True)
    with replacing(file) as new:
        new.write(data)
        new.flush()
        check = compare(Path(new.name), network, weights.preset)
        if check and not check.max_difference <= TOLERANCE:  # also where it is not a number
            raise InceptionError(
                f"{file}: not written, since its scores in ONNX Runtime {check.onnxruntime} differ from those of "
                f"inception by {check.max_difference:.2g}; {UPDATE}"
            )
    return Exported(str(file), len(data), weights, check)


def describe(weights: Weights) -> dict[str, Any]:
    """Return the metadata of the file; weights from a file have the name of the file, without its folder."""
    return {
        "classes": list(weights.classes.names),
        "preset": asdict(weights.preset),
        "weights": Path(weights.name).name if weights.source == weights.file else weights.name,
        "sha256": weights.sha256,
        "inception": __version__,
    }


def to_onnx(network: nn.Module, size: int) -> "ModelProto":
    """Return a network with uint8 pixels (N, S, S, 3) as its input in ONNX; the same bytes for the same network."""
    pixels = torch.zeros(2, size, size, 3, dtype=torch.uint8)  # of a batch of 1, torch would fix the size
    try:
        with _quiet():
            program = torch.onnx.export(
                network.requires_grad_(False),
                (pixels,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[PIXELS],
                output_names=[SCORES],
                dynamic_shapes=({0: torch.export.Dim("N")},),
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, ImportError) as error:
        reason = _first_cause(error)
        if isinstance(reason, KeyboardInterrupt):  # during an import of torch's
            raise KeyboardInterrupt from error
        raise InceptionError(
            f"torch {torch.__version__} cannot export to ONNX: {one_line(reason)}; {UPDATE}"
        ) from error
    assert program
    model: ModelProto = program.model_proto
    graph = model.graph
    for part in (*graph.input, *graph.output, *graph.node, *graph.value_info, *graph.initializer, graph, model):
        del part.metadata_props[:]  # torch's traces of the Python code, with the paths of this machine
    return model


def compare(file: Path, network: InceptionV3, preset: Preset) -> Check | None:
    """Compare the scores of an ONNX file in ONNX Runtime with ours; None where ONNX Runtime is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    pictures = draw_pictures(preset.size)
    with torch.inference_mode():
        ours = optimize(network, preset.mean, preset.std, Plan())(pictures.permute(0, 3, 1, 2)).softmax(1)
    try:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        (scores,) = session.run([SCORES], {PIXELS: pictures.numpy()})
    except Exception as error:  # its exceptions have no base class of their own
        raise InceptionError(
            f"ONNX Runtime {onnxruntime.__version__} cannot run the exported network: {one_line(error)}; {UPDATE}"
        ) from error
    difference = (torch.from_numpy(scores) - ours).abs().max().item()
    return Check(onnxruntime.__version__, len(pictures), difference)


def draw_pictures(side: int) -> Tensor:
    """Return a picture for each of GRIDS, a random grid of colours that is enlarged: uint8 (N, S, S, 3)."""
    generator = torch.Generator().manual_seed(0)
    grids = [256 * torch.rand(1, 3, cells, cells, generator=generator) for cells in GRIDS]
    return torch.cat([F.interpolate(grid, side, mode="bilinear") for grid in grids]).permute(0, 2, 3, 1).byte()


def _first_cause(error: BaseException) -> BaseException:
    """Return the exception with which a chain of exceptions has begun."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the warnings of torch's exporter off the screen."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(disabled)
