"""Calibrate a run in int8 on its own photos, and compare it with fp32 before the first row."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import mean

import torch
from torch import Tensor

from inception_cli.config import RunConfig
from inception_cli.errors import InceptionError, UsageError, plural
from inception_cli.images.dataset import load_batches
from inception_cli.images.fetch import fetch_remote
from inception_cli.inference.predictor import DevicePredictor
from inception_cli.machine import int8_instructions
from inception_cli.network.fusion import fold_all
from inception_cli.network.int8 import available, find_ranges
from inception_cli.storage.store import Int8Check
from inception_cli.weights.load import load_network

#: Inputs from which int8 saves more time than calibration and check take.
MIN_INPUTS = 300
#: Photos to calibrate on, and to compare on: CHECKED, or one of CHECK_ONE_IN inputs if that is less.
CALIBRATED, CHECKED, CHECK_ONE_IN = 64, 128, 10
#: Least number of them that can be read, and least share of them that must get the same class.
MIN_READABLE, MIN_SAME = 8, 0.95


def require_enough_inputs(inputs: int) -> None:
    """Raise UsageError when a run is too short for int8."""
    if inputs < MIN_INPUTS:
        raise UsageError(
            f"precision int8: the run has only {plural(inputs, 'input')}, and int8 pays from {MIN_INPUTS} on; "
            "leave --precision out"
        )


def require_instructions() -> None:
    """Raise InceptionError when this machine cannot compute in int8; the plan may be that of another in a cluster."""
    if not available():
        raise InceptionError(
            "precision int8: it is calibrated and checked on the machine that starts the run, and this processor has "
            "neither VNNI nor AMX instructions; start the run on a machine that has them, or use bf16 or fp32"
        )


def calibrate(run: RunConfig, paths: Sequence[str]) -> RunConfig:
    """Return the run with the ranges of its networks' outputs for photos of the list, taken at equal distances."""
    if not paths:
        raise UsageError("precision int8: it needs photos to be calibrated on; give calibration=[paths]")
    torch.set_num_threads(run.plan.threads)
    ranges = []
    for each in run.weights:
        views = _read(run, paths, _spread(range(len(paths)), CALIBRATED), "calibrate on")
        batches = (batch.flatten(0, 1).permute(0, 3, 1, 2) for batch in views)
        ranges.append(find_ranges(fold_all(load_network(each), each.preset.mean, each.preset.std), batches))
    return replace(run, int8_ranges=tuple(ranges))


def check(run: RunConfig, paths: Sequence[str]) -> Int8Check:
    """Return how a calibrated run agrees with fp32 on other photos of the list; InceptionError if it does not."""
    calibrated = set(_spread(range(len(paths)), CALIBRATED))
    others = [position for position in range(len(paths)) if position not in calibrated]
    full = replace(run, top_k=len(run.only_classes) or len(run.classes))
    fp32 = DevicePredictor(replace(full, plan=replace(run.plan, precision="fp32"), int8_ranges=()))
    int8 = DevicePredictor(full)
    same, differences = 0, []
    for pixels in _read(run, paths, _spread(others, min(CHECKED, len(paths) // CHECK_ONE_IN)), "compare on"):
        (expected, expected_scores), (actual, actual_scores) = fp32(pixels), int8(pixels)
        same += int((actual[:, 0] == expected[:, 0]).sum())
        # Of the score of fp32's best class, wherever int8 has it.
        differences += (actual_scores[actual == expected[:, :1]] - expected_scores[:, 0]).abs().tolist()
    checked = Int8Check(len(differences), same, mean(differences), int8_instructions())
    if checked.share < MIN_SAME:
        raise InceptionError(f"precision int8: {checked}, less than {MIN_SAME:.0%}; use bf16 or fp32 for these photos")
    return checked


def _spread(positions: Sequence[int], number: int) -> list[int]:
    """Return `number` of the positions at equal distances, or all if there are fewer."""
    number = min(number, len(positions))
    return [positions[place * len(positions) // number] for place in range(number)]


def _read(run: RunConfig, paths: Sequence[str], positions: Sequence[int], purpose: str) -> Iterator[Tensor]:
    """Yield the views (N, V, S, S, 3) uint8 of the inputs at these positions that can be read, batch by batch."""
    read = 0
    for batch in load_batches(fetch_remote([paths[position] for position in positions]), run.pixels, run.loader):
        failed = {offset for offset, _ in batch.failures}
        if readable := [offset for offset in range(len(batch.pixels)) if offset not in failed]:
            read += len(readable)
            yield batch.pixels[readable]
    if read < MIN_READABLE:
        raise InceptionError(
            f"precision int8: of {plural(len(positions), 'photo')} to {purpose} {read} can be read, fewer than "
            f"{MIN_READABLE}; use bf16 or fp32"
        )
