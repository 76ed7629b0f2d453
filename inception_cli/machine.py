"""What this machine has: cores, memory, devices, the fastest precision, the versions of libraries."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from inception_cli import __version__
from inception_cli.config import Precision
from inception_cli.errors import InceptionError, UsageError, plural

#: Images with more pixels than this are not decoded by default: 2 GB in Pillow, four bytes a pixel.
MAX_PIXELS = 500_000_000
#: The control groups of this process, and their limits, on Linux.
CGROUPS = Path("/proc/self/cgroup")
LIMITS = Path("/sys/fs/cgroup")


def cores() -> int:
    """Return the processor cores that this process may use: its affinity, or the quota of a container if less."""
    allotted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = _limits("cpu", "cpu.max") + _limits("cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us")
    return max(1, min([allotted, *(quota // period for quota, period in quotas)]))


def library_versions() -> dict[str, str]:
    """Return the versions of this program and of the libraries that pixels and numbers depend on."""
    libraries = ("torch", "torchvision", "pillow", "simplejpeg")
    return {"inception": __version__} | {name: version(name) for name in libraries}


def major_minor(versions: Mapping[str, str]) -> dict[str, str]:
    """Return the major and minor versions, without Python's: `2.14` of `2.14.1+cu130`."""
    return {name: ".".join(text.split(".")[:2]) for name, text in versions.items() if name != "python"}


def max_pixels() -> int:
    """Return the default bound on an image's pixels: MAX_PIXELS, or a sixteenth of the memory in bytes if less.

    The memory is the machine's, or the limit of a container if less.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = _limits("memory", "memory.max") + _limits("memory", "memory.limit_in_bytes")
    return min(MAX_PIXELS, min([memory, *(limit for (limit,) in limits)]) // 16)


def _limits(controller: str, *names: str) -> list[list[int]]:
    """Return the numbers in files of the control groups of this process and of their parents, a list for each group.

    Groups without these files, or without a limit ("max" in cgroup v2, -1 in v1), are left out. See cgroups(7).
    """
    found = []
    for line in CGROUPS.read_text().splitlines() if CGROUPS.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = LIMITS / controller if controllers else LIMITS  # v1, or v2
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts) + 1):
            try:
                files = [root.joinpath(*parts[:depth], name).read_text() for name in names]
                numbers = [int(number) for file in files for number in file.split()]
            except (OSError, ValueError):
                continue
            if min(numbers, default=0) > 0:
                found.append(numbers)
    return found


def find_device(requested: str) -> str:
    """Return the requested device if it is here; for "auto" CUDA, else Apple's Metal, else the CPU.

    Raises UsageError for a name that is no device, InceptionError for one that this machine lacks.
    """
    import torch

    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if requested == "auto":
        return "cuda" if here["cuda"] else "mps" if here["mps"] else "cpu"
    kind, _, number = requested.partition(":")
    if kind not in here or (number and not number.isdigit()):
        raise UsageError(f"device {requested!r}: choose auto, cpu, cuda, cuda:N or mps")
    if not here[kind]:
        raise InceptionError(f"device {requested}: torch {torch.__version__} finds none here; use the device cpu")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise InceptionError(
            f"device {requested}: this machine has {plural(torch.cuda.device_count(), 'CUDA device')}, counted from 0; "
            "use cuda:0"
        )
    return requested


def fastest_precision(device: str) -> Precision:
    """Return the fastest precision that the hardware computes natively."""
    import torch

    if device.startswith("cuda"):
        major, _ = torch.cuda.get_device_capability(device)
        return "bf16" if major >= 8 else "fp16" if major >= 7 else "fp32"
    if device == "cpu":
        has = torch.cpu.get_capabilities()
        return "bf16" if has.get("avx512_bf16") or has.get("amx_bf16") else "fp32"
    return "fp32"


def describe(device: str) -> str:
    """Return the name of a device's hardware: the GPU, or the processor and its cores."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor() or platform.machine()}, {plural(cores(), 'core')}"


def int8_instructions() -> str:
    """Return the instructions that multiply uint8 by int8 here, "" if there are none: without them sums saturate."""
    import torch

    has = torch.cpu.get_capabilities()
    names = {"amx_int8": "AMX", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX-VNNI"}
    return next((name for capability, name in names.items() if has.get(capability)), "")
