"""Programs of other libraries that classify files and write the top 5 to a CSV, with Inception V3 at 299 pixels.

    python tests/bench/peers.py NAME FOLDER OUT

The weights are random, since speed does not depend on them. The other scripts of this folder run these programs;
forward.py uses the networks alone (`NETWORKS`).
"""

import csv
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

CORES = len(os.sched_getaffinity(0))
SCALE = transforms.Compose(
    [
        transforms.Resize(342, antialias=True),
        transforms.CenterCrop(299),
        transforms.ToTensor(),
        transforms.Normalize((0.5,) * 3, (0.5,) * 3),
    ]
)
SHAPE = (3, 299, 299)
Infer = Callable[[Tensor], object]


class Files(Dataset[Tensor]):
    """Transformed images of a list of paths."""

    def __init__(self, paths: list[str], transform: Callable[[Image.Image], Tensor]) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB"))


def torchvision_network() -> nn.Module:
    return torchvision.models.inception_v3(weights=None, aux_logits=True, init_weights=False).eval()  # type: ignore[no-any-return]


def timm_network() -> nn.Module:
    import timm

    network: nn.Module = timm.create_model("inception_v3", pretrained=False).eval()
    return network


def eager(network: nn.Module) -> Infer:
    return network


def compiled(network: nn.Module) -> Infer:
    return torch.compile(network)


def onnxruntime(batch: int) -> Infer:
    import io

    import onnxruntime as ort

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            torchvision_network(), (torch.zeros(batch, 3, 299, 299),), dynamo=True, verbose=False
        )
    assert program is not None
    program.save(file)  # type: ignore[arg-type]  # it also takes an open file
    options = ort.SessionOptions()
    options.intra_op_num_threads = CORES
    session = ort.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    return lambda images: session.run(None, {name: images.numpy()})


def openvino_model(precision: str) -> Any:
    """Return a compiled model; "int8": quantised after training by NNCF's defaults, on 64 made-up images."""
    import openvino as ov

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ov.convert_model(
            torchvision_network(), example_input=torch.zeros(1, 3, 299, 299), input=[1, 3, 299, 299]
        )
    options = {"PERFORMANCE_HINT": "THROUGHPUT"}
    if precision == "int8":
        import nncf

        images = np.random.default_rng(0).uniform(-1, 1, (64, 1, *SHAPE)).astype(np.float32)
        model = nncf.quantize(model, nncf.Dataset(images))
    else:
        options["INFERENCE_PRECISION_HINT"] = precision
    return ov.Core().compile_model(model, "CPU", options)


def openvino(precision: str) -> Infer:
    import openvino as ov

    queue = ov.AsyncInferQueue(openvino_model(precision))

    def infer(images: Tensor) -> None:
        for image in images.numpy():
            queue.start_async({0: image[None]})
        queue.wait_all()

    return infer


#: Build the networks alone for a batch size; their input is scaled fp32 images (N, 3, 299, 299).
NETWORKS: dict[str, Callable[[int], Infer]] = {
    "torchvision eager fp32": lambda batch: eager(torchvision_network()),
    "timm eager fp32": lambda batch: eager(timm_network()),
    "timm compiled fp32": lambda batch: compiled(timm_network()),
    "ONNX Runtime fp32": onnxruntime,
    "OpenVINO fp32": lambda batch: openvino("f32"),
    "OpenVINO bf16": lambda batch: openvino("bf16"),
    "OpenVINO int8": lambda batch: openvino("int8"),
}


def by_dataloader(infer: Infer, paths: list[str], transform: Callable[[Image.Image], Tensor]) -> Iterator[np.ndarray]:
    """Yield the top-5 classes, with a DataLoader of two workers."""
    loader = DataLoader(Files(paths, transform), batch_size=32, num_workers=2)
    with torch.inference_mode():
        for images in loader:
            logits = infer(images)
            yield from logits.softmax(1).topk(5).indices.numpy()  # type: ignore[attr-defined]


def by_openvino(precision: str, paths: list[str]) -> Iterator[np.ndarray]:
    """Yield the top-5 classes, with asynchronous requests and images decoded by Pillow in threads."""
    import openvino as ov

    top5: dict[int, np.ndarray] = {}
    queue = ov.AsyncInferQueue(openvino_model(precision))

    def done(request: Any, index: int) -> None:
        top5[index] = np.argsort(-request.get_output_tensor().data[0])[:5].copy()

    queue.set_callback(done)
    files = Files(paths, SCALE)
    with ThreadPoolExecutor(CORES) as pool:
        ahead = 64
        waiting = [pool.submit(files.__getitem__, index) for index in range(min(ahead, len(paths)))]
        for index in range(len(paths)):
            image = waiting[index].result().numpy()[None]
            waiting[index] = None  # type: ignore[call-overload]
            if index + ahead < len(paths):
                waiting.append(pool.submit(files.__getitem__, index + ahead))
            queue.start_async({0: image}, index)
    queue.wait_all()
    yield from (top5[index] for index in range(len(paths)))


def timm_transform() -> Callable[[Image.Image], Tensor]:
    from timm import data

    config = data.resolve_model_data_config(timm_network())  # type: ignore[attr-defined, no-untyped-call]
    transform: Callable[[Image.Image], Tensor] = data.create_transform(**config, is_training=False)  # type: ignore[attr-defined]
    return transform


PROGRAMS: dict[str, Callable[[list[str]], Iterator[np.ndarray]]] = {
    "torchvision": lambda paths: by_dataloader(eager(torchvision_network()), paths, SCALE),
    "timm": lambda paths: by_dataloader(eager(timm_network()), paths, timm_transform()),
    "timm-compiled": lambda paths: by_dataloader(compiled(timm_network()), paths, timm_transform()),
    "openvino-fp32": lambda paths: by_openvino("f32", paths),
    "openvino-bf16": lambda paths: by_openvino("bf16", paths),
    "openvino-int8": lambda paths: by_openvino("int8", paths),
}


def main() -> None:
    name, folder, out = sys.argv[1:]
    torch.set_num_threads(CORES)
    paths = sorted(str(path) for path in Path(folder).iterdir())
    with Path(out).open("w", newline="") as file:
        writer = csv.writer(file)
        for path, best in zip(paths, PROGRAMS[name](paths), strict=True):
            writer.writerow([path, *best])


if __name__ == "__main__":
    main()
