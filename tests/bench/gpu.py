"""Throughput on one GPU: the network alone, files to CSV, decoding; GPU utilisation and share of peak arithmetic.

    python tests/bench/gpu.py FOLDER [--device cuda:0] [--photos 20000] [--seconds 3] [--batches 64,128,256,512]

The photos in FOLDER are repeated by symbolic links until there are as many as `--photos`. Prints a table, then one line
of JSON. With `--device cpu` only predictions are compared, with torchvision's CPU decoder in place of nvJPEG.
"""

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.models import inception_v3

from inception_cli.config import PRESETS, LoaderConfig, PixelConfig, Plan, RunConfig, Settings
from inception_cli.images.dataset import load_batches
from inception_cli.images.decode import Failure, read
from inception_cli.images.discovery import Discovery
from inception_cli.images.gpu_decode import GpuDecoder
from inception_cli.images.preprocess import views
from inception_cli.inference.predictor import DECODING_THREADS, DevicePredictor
from inception_cli.inference.resolve import resolve, resolve_plan
from inception_cli.machine import cores
from inception_cli.network.cuda_pipeline import map_ahead
from inception_cli.network.fusion import optimize
from inception_cli.network.model import InceptionV3
from inception_cli.predictions.classes import imagenet
from inception_cli.storage.input_list import InputList
from inception_cli.weights.load import save_weights

HALF = (0.5,) * 3
GFLOPS = 2 * 5.713216096  # per image; a multiply-accumulate is two operations
NO_GPU = "no GPU here: torch sees no CUDA device, so there is nothing to measure"


def per_second(call: Callable[[], object], count: float, seconds: float) -> float:
    """Return how many items per second a function processes on the GPU, with `count` items per call."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        call()
        calls += 1
        if calls % 4 == 0:  # a few batches are queued, as in a run
            torch.cuda.synchronize()
    torch.cuda.synchronize()
    return calls * count / (time.perf_counter() - start)


def peers() -> dict[str, tuple[nn.Module, torch.dtype]]:
    """Return torchvision's network in fp32 as it is, and timm's in bf16, channels-last and compiled."""
    import timm

    network: nn.Module = timm.create_model("inception_v3", pretrained=False).eval().cuda()
    compiled = network.to(torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]
    compiled.compile(mode="reduce-overhead", dynamic=False)
    eager = inception_v3(weights=None, init_weights=False).eval().cuda()
    return {"torchvision fp32": (eager, torch.float32), "timm compiled bf16": (compiled, torch.bfloat16)}


@torch.inference_mode()
def networks_alone(device: str, sizes: list[int], seconds: float) -> dict[str, float]:
    """Return images per second by network and batch size, for the batches that fit into memory."""
    ours: InceptionV3 = InceptionV3().initialise(0)
    plans = [Plan(device, precision) for precision in ("fp32", "fp16", "bf16")]
    plans += [Plan(device, precision, compile=True) for precision in ("fp16", "bf16")]
    rates = {}
    our_networks: dict[str, tuple[nn.Module, torch.dtype]] = {
        f"ours {plan.precision}{' compiled' if plan.compile else ''}": (optimize(ours, HALF, HALF, plan), torch.uint8)
        for plan in plans
    }
    for name, (network, dtype) in {**our_networks, **peers()}.items():
        for size in sizes[-2:] if "compiled" in name else sizes:  # each size is compiled anew
            pixels = torch.randint(0, 256, (size, 299, 299, 3), dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
            images = pixels if dtype == torch.uint8 else (pixels / 127.5 - 1).to(dtype)
            try:
                rates[f"{name}, {size}"] = per_second(lambda: network(images), size, seconds)  # noqa: B023 - called at once
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
    return rates


@torch.inference_mode()
def arithmetic_peak(device: str, seconds: float) -> float:
    """Return the GFLOP/s of a bf16 matrix product."""
    a, b = (torch.randn(8192, 8192, dtype=torch.bfloat16, device=device) for _ in range(2))
    return per_second(lambda: a @ b, 2 * 8192**3 / 1e9, seconds)


def repeated(folder: Path, into: Path, number: int) -> Path:
    """Create a folder of `number` links to the photos of another folder."""
    into.mkdir()
    photos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    for position, path in enumerate(islice(cycle(photos), number)):
        (into / f"{position:07}.jpg").symlink_to(path.resolve())
    return into


def files_to_csv(
    device: str, decode: str, compiled: str, folder: Path, short: Path, temporary: Path
) -> tuple[float, float]:
    """Return images per second of the command without its start-up, which a short run measures, and GPU utilisation."""
    file = temporary / "random.safetensors"
    save_weights(file, InceptionV3().initialise(0), imagenet().names, PRESETS["torchvision"], {})
    utilisation: list[float] = []
    done = threading.Event()

    def watch() -> None:
        number = str(torch.device(device).index or 0)
        command = ["nvidia-smi", "-i", number, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not done.wait(0.5):
            utilisation.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))

    def seconds(photos: Path) -> float:
        arguments = ["classify", str(photos), "-w", str(file), "--device", device, "--compile", compiled]
        arguments += ["--decode", decode]
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "inception_cli", *arguments, "-o", str(temporary / "p.csv"), "-fq"], check=True
        )
        return time.perf_counter() - start

    seconds(folder)  # measures the batch size, once, and compiles
    start_up = seconds(short)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        rate = (len([*folder.iterdir()]) - len([*short.iterdir()])) / (seconds(folder) - start_up)
    finally:
        done.set()
        watcher.join()
    while_busy = [percent for percent in utilisation if percent]
    return rate, statistics.median(while_busy) if while_busy else 0.0


def decoding(device: str, paths: InputList, seconds: float) -> dict[str, float]:
    """Return images per second of our workers alone, and of nvJPEG alone, which decodes baseline JPEGs."""
    config, loader = PixelConfig(PRESETS["torchvision"], decode="fast"), LoaderConfig(128, cores())
    batches = load_batches(paths, config, loader, range(-(-len(paths) // loader.batch_size)))
    next(batches)  # starts the workers
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch.pixels)
        if time.perf_counter() - start > 5 * seconds:
            break
    rates = {f"CPU, {cores()} workers": count / (time.perf_counter() - start)}
    rates[f"CPU, {cores()} processes"] = decoding_processes(paths[:400], config, seconds)
    for name, batches_of in (("files", None), ("GpuDecoder", GpuDecoder(replace(config, decode="gpu"), device))):
        loaded = load_batches(paths, replace(config, decode="gpu"), LoaderConfig(256, min(8, cores())))
        start, count = time.perf_counter(), 0
        for batch in map_ahead(loaded, batches_of, DECODING_THREADS) if batches_of else loaded:
            count += len(batch)
        rates[f"{name}, {min(8, cores())} workers"] = count / (time.perf_counter() - start)
    data = [torch.frombuffer(bytearray(Path(path).read_bytes()), dtype=torch.uint8) for path in paths[:128]]
    try:
        rates["nvJPEG"] = per_second(lambda: decode_jpeg(data, ImageReadMode.RGB, device), len(data), seconds)
    except RuntimeError as error:
        print(f"nvJPEG: {' '.join(str(error).split())[:100]}")
    return rates


def decoding_processes(paths: Sequence[str], config: PixelConfig, seconds: float) -> float:
    """Return images per second of one independent process a core, each of which decodes all paths again and again."""
    with multiprocessing.get_context("spawn").Pool(cores()) as pool:
        return sum(pool.starmap(decode_alone, [(paths, config, seconds)] * cores(), chunksize=1))


def decode_alone(paths: Sequence[str], config: PixelConfig, seconds: float) -> float:
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        image = read(paths[count % len(paths)], config)
        assert not isinstance(image, Failure)
        views(image, config)
        count += 1
    return count / (time.perf_counter() - start)


@torch.inference_mode()
def fp32_check(device: str) -> dict[str, float | str]:
    """Return the distance of logits in fp32 from the CPU's, and whether two batch sizes have the same classes."""
    network, pixels = InceptionV3().initialise(0), torch.randint(0, 256, (64, 3, 299, 299), dtype=torch.uint8)
    ours = optimize(network, HALF, HALF, Plan(device))
    whole = ours(pixels.to(device)).cpu()
    parts = torch.cat([ours(part.to(device)).cpu() for part in torch.split(pixels, 7)])
    expected = optimize(network, HALF, HALF, Plan("cpu"))(pixels[:16])
    return {
        "fp32: distance of logits from the CPU's": f"{float((whole[:16] - expected).norm() / expected.norm()):.1e}",
        "fp32: same class at batches 64 and 7": f"{int((whole.argmax(1) == parts.argmax(1)).sum())} of 64",
    }


def agreement(device: str, paths: InputList) -> dict[str, str]:
    """Return how many photos have the same class as in fp32 with exact decoding, with the bundled weights."""
    settings = Settings(("demo",), device=device, precision="fp32", compile="off", batch_size=64)
    run = resolve(settings, resolve_plan(settings))
    others = {
        "same class: bf16": replace(run, plan=replace(run.plan, precision="bf16")),
        "same class: --decode gpu": replace(run, pixels=replace(run.pixels, decode="gpu")),
    }
    reference = top1_classes(paths, run)
    agreements = {}
    for name, other in others.items():
        same = sum(map(tuple.__eq__, reference, top1_classes(paths, other)))
        agreements[name] = f"{same} of {len(reference)}, {100 * same / len(reference):.2f} %"
    return agreements


def top1_classes(paths: InputList, run: RunConfig) -> list[tuple[int, ...]]:
    """Return the best class of each photo, an empty tuple for one without prediction."""
    results = DevicePredictor(run).predict(paths, [range(len(paths))])
    return [prediction.classes[:1] for result in results for prediction in result.predictions]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--batches", default="64,128,256,512")
    args = parser.parse_args()
    if args.device == "cpu":
        paths = InputList.of(Discovery([str(args.folder)]))
        print_results({"bench": "gpu", "device": "cpu", "agreement": agreement("cpu", paths)})
        return
    if not torch.cuda.is_available():
        print(NO_GPU)
        return
    results: dict[str, Any] = {"bench": "gpu", "device": torch.cuda.get_device_name(args.device), "cores": cores()}
    torch.cuda.set_device(args.device)
    results["peak_gflops"] = arithmetic_peak(args.device, args.seconds)
    results["images_per_s"] = networks_alone(args.device, [int(each) for each in args.batches.split(",")], args.seconds)
    best = {
        library: max((rate for name, rate in results["images_per_s"].items() if name.startswith(library)), default=0.0)
        for library in ("ours", "timm")
    }
    results["ours / timm"] = best["ours"] / best["timm"] if best["timm"] else None
    results["share_of_peak"] = best["ours"] * GFLOPS / results["peak_gflops"]
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        folder = repeated(args.folder, temporary / "long", args.photos)
        short = repeated(args.folder, temporary / "short", min(1000, args.photos // 10))
        results["decoding_per_s"] = decoding(args.device, InputList.of(Discovery([str(folder)])), args.seconds)
        for decode, compiled in (("fast", "off"), ("gpu", "off"), ("gpu", "on")):
            rate, busy = files_to_csv(args.device, decode, compiled, folder, short, temporary)
            name = f"decode {decode}, compile {compiled}"
            results[f"files to CSV/s, {name}"], results[f"GPU busy percent, {name}"] = rate, busy
            print(name, rate, busy, flush=True)
    results["fp32"] = fp32_check(args.device)
    results["agreement"] = agreement(args.device, InputList.of(Discovery([str(args.folder)])))
    print_results(results)


def print_results(results: dict[str, Any]) -> None:
    for name, value in results.items():
        for row, number in (value if isinstance(value, dict) else {name: value}).items():
            print(f"{row:<28} {number:>12.1f}" if isinstance(number, float) else f"{row:<28} {number}")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
