"""How many images fill a GPU: measured once, and remembered in the user's cache folder."""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from inception_cli.network.model import InceptionV3
from inception_cli.network.optimize import Plan, optimize

FIRST, LAST = 32, 1024  # images a batch; over the last, one takes more memory than it saves time
GAIN = 1.03  # below which twice the images are not worth their memory
SECONDS = 0.3  # that a rate is measured for
SHARE = 0.8  # of the free memory that a batch may take

#: Images a second in batches of so many, and the bytes of memory that they take; MemoryError where there is no room.
Measure = Callable[[int], tuple[float, int]]


def saturating(measure: Measure, room: int) -> int:
    """The batch from which on twice the images are under 3 % faster, or take more than their share of `room` bytes."""
    best, rate = FIRST, 0.0
    number = FIRST
    while number <= LAST:
        try:
            further, taken = measure(number)
        except MemoryError:
            break
        if further < GAIN * rate:
            break
        best, rate = number, further
        if 2 * taken > SHARE * room:
            break
        number *= 2
    return best


def batch_size(plan: Plan, size: int, classes: int, measure: Measure | None = None) -> int:
    """The batch that fills the plan's GPU with images of `size` pixels a side: remembered, else measured."""
    device = torch.cuda.get_device_name(plan.device)
    key = f"{device}, {plan.precision}, {plan.compile}, {size}, torch {torch.__version__}"
    file = remembered_in()
    known = _read(file)
    if key not in known:
        room, _ = torch.cuda.mem_get_info(plan.device)
        known[key] = saturating(measure or _measure(plan, size, classes), room)
        _write(file, known)
    return known[key]


def remembered_in() -> Path:
    """The file of batch sizes by device, in the user's cache folder."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "inception-cli" / "batch-sizes.json"


def _read(file: Path) -> dict[str, int]:
    """What is remembered; nothing of a file that is not there, or is damaged."""
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {key: number for key, number in known.items() if type(number) is int and FIRST <= number <= LAST}


def _write(file: Path, known: dict[str, int]) -> None:
    """Remember, where the folder can be written; whole or not at all, whoever else writes."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f"{file.name}.{os.getpid()}")
        part.write_text(json.dumps(known, indent=1))
        part.replace(file)


def _measure(plan: Plan, size: int, classes: int) -> Measure:
    """Measure on the plan's GPU, without compiling: that would take a minute a batch, and fills a GPU the same way."""
    network = optimize(InceptionV3(classes).initialise(0), (0.5,) * 3, (0.5,) * 3, replace(plan, compile=False))

    @torch.inference_mode()
    def measure(number: int) -> tuple[float, int]:
        torch.cuda.reset_peak_memory_stats(plan.device)
        try:
            pixels = torch.zeros(number, size, size, 3, dtype=torch.uint8, device=plan.device).permute(0, 3, 1, 2)
            network(pixels)  # the first one chooses its kernels
            torch.cuda.synchronize(plan.device)
            began, images = time.perf_counter(), 0
            while time.perf_counter() - began < SECONDS:
                network(pixels)
                torch.cuda.synchronize(plan.device)
                images += number
            return images / (time.perf_counter() - began), torch.cuda.max_memory_allocated(plan.device)
        except torch.OutOfMemoryError as error:
            raise MemoryError from error
        finally:
            torch.cuda.empty_cache()

    return measure
