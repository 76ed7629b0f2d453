"""One GPU: the network alone, files to CSV, decoding, how busy it is, and what of its arithmetic is used.

    python tests/bench/gpu.py FOLDER [--device cuda:0] [--photos 20000] [--seconds 3] [--batches 64,128,256,512]

FOLDER has photos; they are repeated to the number asked for by links. A table, then one line of JSON. With
`--device cpu` only the answers are compared, torchvision's own decoder in nvJPEG's place.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.io import ImageReadMode, decode_jpeg

from inception_cli import weights
from inception_cli.images.inputs import Inputs, PathList
from inception_cli.images.loader import Loading, batches
from inception_cli.images.preprocess import PRESETS, Pixels
from inception_cli.network.model import InceptionV3
from inception_cli.network.optimize import Plan, optimize
from inception_cli.predict import classify
from inception_cli.results.classes import imagenet
from inception_cli.settings import Settings, cores, resolve

HALF = (0.5,) * 3
GFLOPS = 2 * 5.713216096  # of an image: two for a multiplication with an addition
NO_GPU = "no GPU here: torch sees no CUDA device, so there is nothing to measure"


def per_second(act: Callable[[], object], count: float, seconds: float) -> float:
    """How many a second, `count` each time; what is queued on the device is waited for."""
    for _ in range(3):
        act()
    torch.cuda.synchronize()
    began, times = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        act()
        times += 1
        if times % 4 == 0:  # a few in the queue, as a run has them
            torch.cuda.synchronize()
    torch.cuda.synchronize()
    return times * count / (time.perf_counter() - began)


def timm_networks() -> dict[str, tuple[nn.Module, torch.dtype]]:
    """What people use instead, in bf16, eager and compiled."""
    import timm

    def network() -> nn.Module:
        made: nn.Module = timm.create_model("inception_v3", pretrained=False).eval().cuda()
        return made.to(torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    compiled = network()
    compiled.compile(mode="reduce-overhead", dynamic=False)
    return {"timm eager bf16": (network(), torch.bfloat16), "timm compiled bf16": (compiled, torch.bfloat16)}


@torch.inference_mode()
def networks_alone(device: str, sizes: list[int], seconds: float) -> dict[str, float]:
    """Images a second by network and batch; what has no room is left out."""
    ours: InceptionV3 = InceptionV3().initialise(0)
    plans = [Plan(device, precision, compiled) for precision in ("fp32", "fp16", "bf16") for compiled in (False, True)]
    rates = {}
    made: dict[str, tuple[nn.Module, torch.dtype]] = {
        f"ours {plan.precision}{' compiled' if plan.compile else ''}": (optimize(ours, HALF, HALF, plan), torch.uint8)
        for plan in plans
    }
    for name, (network, dtype) in {**made, **timm_networks()}.items():
        for size in sizes:
            pixels = torch.randint(0, 256, (size, 299, 299, 3), dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
            images = pixels if dtype == torch.uint8 else (pixels / 127.5 - 1).to(dtype)
            try:
                rates[f"{name}, {size}"] = per_second(lambda: network(images), size, seconds)  # noqa: B023 - now
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
    return rates


@torch.inference_mode()
def arithmetic_peak(device: str, seconds: float) -> float:
    """GFLOP/s of a bf16 matrix product."""
    a, b = (torch.randn(8192, 8192, dtype=torch.bfloat16, device=device) for _ in range(2))
    return per_second(lambda: a @ b, 2 * 8192**3 / 1e9, seconds)


def repeated(folder: Path, into: Path, number: int) -> Path:
    """A folder of `number` links to the photos of another."""
    into.mkdir()
    photos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    for position, path in enumerate(islice(cycle(photos), number)):
        (into / f"{position:07}.jpg").symlink_to(path.resolve())
    return into


def files_to_csv(device: str, decode: str, folder: Path, short: Path, room: Path) -> tuple[float, float]:
    """Images a second of whole commands, start-up taken out by a short run; how busy the GPU was, in percent."""
    file = room / "random.safetensors"
    weights.save(file, InceptionV3().initialise(0), imagenet().names, PRESETS["torchvision"], {})
    busy: list[float] = []
    done = threading.Event()

    def watch() -> None:
        number = str(torch.device(device).index or 0)
        words = ["nvidia-smi", "-i", number, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not done.wait(0.5):
            busy.append(float(subprocess.run(words, check=True, capture_output=True, text=True).stdout))

    def seconds(photos: Path) -> float:
        words = ["classify", str(photos), "-w", str(file), "--device", device, "--compile", "on"]
        words += ["--decode", decode]
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "inception_cli", *words, "-o", str(room / "p.csv"), "-fq"], check=True)
        return time.perf_counter() - began

    seconds(folder)  # which also measures the batch size, once, and compiles
    start = seconds(short)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        rate = (len([*folder.iterdir()]) - len([*short.iterdir()])) / (seconds(folder) - start)
    finally:
        done.set()
        watcher.join()
    at_work = [each for each in busy if each]
    return rate, statistics.median(at_work) if at_work else 0.0


def decoding(device: str, paths: PathList, seconds: float) -> dict[str, float]:
    """Images a second: our workers alone, and nvJPEG alone, which takes baseline files."""
    stream = batches(paths, Pixels(PRESETS["torchvision"], decode="fast"), Loading(128, cores()))
    next(stream)  # the workers have started
    began, count = time.perf_counter(), 0
    for batch in stream:
        count += len(batch.pixels)
        if time.perf_counter() - began > 5 * seconds:
            break
    rates = {f"CPU, {cores()} workers": count / (time.perf_counter() - began)}
    data = [torch.frombuffer(bytearray(Path(path).read_bytes()), dtype=torch.uint8) for path in paths[:128]]
    try:
        rates["nvJPEG"] = per_second(lambda: decode_jpeg(data, ImageReadMode.RGB, device), len(data), seconds)
    except RuntimeError as error:
        print(f"nvJPEG: {' '.join(str(error).split())[:100]}")
    return rates


def agreement(device: str, paths: PathList) -> dict[str, str]:
    """Of how many photos the best class is that of fp32 and exact pixels, by the bundled weights."""
    run = resolve(Settings(("demo",), device=device, precision="fp32", compile="off", batch_size=64))
    others = {
        "same class: bf16": replace(run, plan=replace(run.plan, precision="bf16")),
        "same class: --decode gpu": replace(run, pixels=replace(run.pixels, decode="gpu")),
    }
    exact = [row.classes[:1] for rows in classify(paths, run) for row in rows]
    found = {}
    for name, other in others.items():
        classes = (row.classes[:1] for rows in classify(paths, other) for row in rows)
        same = sum(map(tuple.__eq__, exact, classes))
        found[name] = f"{same} of {len(exact)}, {100 * same / len(exact):.2f} %"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--batches", default="64,128,256,512")
    asked = parser.parse_args()
    if asked.device == "cpu":
        tell({"bench": "gpu", "device": "cpu", "agreement": agreement("cpu", PathList.of(Inputs([str(asked.folder)])))})
        return
    if not torch.cuda.is_available():
        print(NO_GPU)
        return
    found: dict[str, Any] = {"bench": "gpu", "device": torch.cuda.get_device_name(asked.device), "cores": cores()}
    torch.cuda.set_device(asked.device)
    found["peak_gflops"] = arithmetic_peak(asked.device, asked.seconds)
    found["images_per_s"] = networks_alone(
        asked.device, [int(each) for each in asked.batches.split(",")], asked.seconds
    )
    best = {
        who: max((rate for name, rate in found["images_per_s"].items() if name.startswith(who)), default=0.0)
        for who in ("ours", "timm")
    }
    found["ours / timm"] = best["ours"] / best["timm"] if best["timm"] else None
    found["share_of_peak"] = best["ours"] * GFLOPS / found["peak_gflops"]
    with tempfile.TemporaryDirectory() as place:
        room = Path(place)
        folder = repeated(asked.folder, room / "long", asked.photos)
        short = repeated(asked.folder, room / "short", min(1000, asked.photos // 10))
        found["decoding_per_s"] = decoding(asked.device, PathList.of(Inputs([str(folder)])), asked.seconds)
        for decode in ("fast", "gpu"):
            rate, busy = files_to_csv(asked.device, decode, folder, short, room)
            found[f"files_to_csv_per_s, {decode}"], found[f"busy_percent, {decode}"] = rate, busy
    found["agreement"] = agreement(asked.device, PathList.of(Inputs([str(asked.folder)])))
    tell(found)


def tell(found: dict[str, Any]) -> None:
    for name, value in found.items():
        for each, rate in (value if isinstance(value, dict) else {name: value}).items():
            print(f"{each:<28} {rate:>12.1f}" if isinstance(rate, float) else f"{each:<28} {rate}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
