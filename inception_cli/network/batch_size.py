"""Find the batch size that fills a GPU: measured once, and kept in the user's cache folder.

A size that memory limited is not kept: another program may have used the memory, and may have ended at the next run.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from inception_cli.config import Plan
from inception_cli.files.cache import add_to_cache, in_cache_folder, read_cache
from inception_cli.network.fusion import optimize
from inception_cli.network.model import InceptionV3

SMALLEST, LARGEST = 32, 1024  # images; beyond the largest a batch costs more memory than it saves time
MIN_SPEEDUP = 1.03  # by which a batch of twice the size must be faster
MEASURED_SECONDS = 0.3  # for each batch size
MEMORY_SHARE = 0.8  # of the free memory that a batch may take

#: Return the images per second at a batch size, and the bytes of memory used; raise MemoryError if it does not fit.
Measure = Callable[[int], tuple[float, int]]


def find_batch_size(plan: Plan, side: int, num_classes: int) -> int:
    """Return the batch size that fills the plan's GPU with images of `side` pixels; from the cache, else measured."""
    device = torch.cuda.get_device_name(plan.device)
    key = f"{device}, {plan.precision}, {plan.compile}, {side}, torch {torch.__version__}"
    if known := _read_sizes(cache_file()).get(key):
        return known
    free_memory, _ = torch.cuda.mem_get_info(plan.device)
    size, limited = choose_batch_size(_measure_on_gpu(plan, side, num_classes), free_memory)
    if not limited:
        add_to_cache(cache_file(), key, size)
    return size


def choose_batch_size(measure: Measure, free_memory: int) -> tuple[int, bool]:
    """Double the batch size while that gains 3 % or more and fits into MEMORY_SHARE of `free_memory` bytes.

    Returns the size, and whether it would be larger, or measured further, with more memory.
    """
    best, best_rate = SMALLEST, 0.0
    size = SMALLEST
    while size <= LARGEST:
        try:
            rate, used = measure(size)
        except MemoryError:
            return best, True
        if rate < MIN_SPEEDUP * best_rate:
            break
        best, best_rate = size, rate
        size *= 2
        if size <= LARGEST and 2 * used > MEMORY_SHARE * free_memory:
            return best, True
    return best, False


def cache_file() -> Path:
    """Return the file of measured batch sizes, in the user's cache folder."""
    return in_cache_folder("batch-sizes.json")


def _read_sizes(file: Path) -> dict[str, int]:
    """Return the measured batch sizes; none when the file is missing or damaged."""
    return {key: size for key, size in read_cache(file).items() if type(size) is int and SMALLEST <= size <= LARGEST}


def _measure_on_gpu(plan: Plan, side: int, num_classes: int) -> Measure:
    """Return the function that measures on the plan's GPU.

    Without compiling, which would take a minute for each batch size: a compiled network fills a GPU at the same size.
    """
    network = optimize(InceptionV3(num_classes).initialise(0), (0.5,) * 3, (0.5,) * 3, replace(plan, compile=False))

    @torch.inference_mode()
    def measure(size: int) -> tuple[float, int]:
        torch.cuda.reset_peak_memory_stats(plan.device)
        try:
            pixels = torch.zeros(size, side, side, 3, dtype=torch.uint8, device=plan.device).permute(0, 3, 1, 2)
            network(pixels)  # warm-up: the first call chooses kernels
            torch.cuda.synchronize(plan.device)
            start, images = time.perf_counter(), 0
            while time.perf_counter() - start < MEASURED_SECONDS:
                network(pixels)
                torch.cuda.synchronize(plan.device)
                images += size
            return images / (time.perf_counter() - start), torch.cuda.max_memory_allocated(plan.device)
        except torch.OutOfMemoryError as error:
            raise MemoryError from error
        finally:
            torch.cuda.empty_cache()

    return measure
