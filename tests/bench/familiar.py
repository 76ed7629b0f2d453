"""Measure how well `--familiar` tells photos that are nothing of the weights' classes, beside other scores.

    python tests/bench/familiar.py TRAIN --kept VAL --unknown OTHER [--weights demo] [--write]

TRAIN has the photos that the weights were trained on, VAL other photos of their classes, each with one folder per
class; OTHER has photos of something else, in any folders. For each score it prints, at the threshold below which 95 %
of the held-out training photos are, the share of VAL that is kept and of OTHER that is unknown, with 95 % Wilson
intervals, and the AUROC of VAL against OTHER with its interval (Hanley and McNeil, 1982); the Mahalanobis distance for
several numbers of directions. Then the time of the distances for a batch of 32, and one line of JSON. `--write` puts
the statistics of TRAIN into the weights' file.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from math import sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from inception_cli.config import LoaderConfig, PixelConfig, Plan, Precision, Weights
from inception_cli.files.atomic import replacing
from inception_cli.images.dataset import load_batches
from inception_cli.images.discovery import Discovery
from inception_cli.network.familiarity import (
    FOLDS,
    MAX_DIRECTIONS,
    PHOTOS_PER_DIRECTION,
    Familiarity,
    fit,
    folds_of,
    statistics_of,
)
from inception_cli.network.fusion import optimize
from inception_cli.predictions.intervals import wilson
from inception_cli.weights.load import find_weights, load_network
from inception_cli.weights.read import FAMILIARITY

SHARE = 0.95
BATCH, ROUNDS = 32, 100
#: Of the covariance, beside the number that is used.
DIRECTIONS = (64, 128, 256, 497)


class Photos(NamedTuple):
    """The outputs for the photos in a folder: logits (N, C), features (N, 2048) and (N, 1536), and the paths."""

    logits: Tensor
    features: Tensor
    middle_features: Tensor
    paths: list[str]


def classify(weights: Weights, folder: str, precision: Precision) -> Photos:
    plan = Plan("cpu", precision, threads=torch.get_num_threads())
    mean, std = weights.preset.mean, weights.preset.std
    network = optimize(load_network(weights), mean, std, plan, features=True, middle_features=True)
    paths = list(Discovery([folder]))

    def outputs() -> Iterator[tuple[Tensor, ...]]:
        for batch in load_batches(paths, PixelConfig(weights.preset, decode="fast"), LoaderConfig(BATCH)):
            yield tuple(each.clone() for each in network(batch.pixels.flatten(0, 1).permute(0, 3, 1, 2)))

    with torch.inference_mode():
        logits, features, middle_features = map(torch.cat, zip(*outputs(), strict=True))
    return Photos(logits.clone(), features.clone(), middle_features.clone(), paths)


def measure(training: Photos, others: Sequence[Photos], labels: Tensor, classes: int) -> dict[str, list[Tensor]]:
    """Return the scores of the field, higher for less familiar photos: of held-out training photos, and of `others`."""
    rank, one_class = min(MAX_DIRECTIONS, len(labels) // PHOTOS_PER_DIRECTION), torch.zeros_like(labels)
    middle, last = ([getattr(each, name) for each in (training, *others)] for name in ("middle_features", "features"))
    found = {
        f"Mahalanobis, middle features, {each} directions": distances(middle, labels, classes, each)
        for each in sorted({*DIRECTIONS, rank})
    }
    used = found[f"Mahalanobis, middle features, {rank} directions"]
    background = distances(middle, one_class, 1, rank, folds_of(labels))
    return {
        **found,
        "relative Mahalanobis, middle features": [own - other for own, other in zip(used, background, strict=True)],
        "Mahalanobis, last features": distances(last, labels, classes, rank),
        "energy": [-each.logits.logsumexp(1) for each in (training, *others)],
    }


def distances(
    features: Sequence[Tensor], labels: Tensor, classes: int, rank: int, folds: Tensor | None = None
) -> list[Tensor]:
    """Return the distances of held-out training photos and of others, from the features of training and others."""
    training, *others = (F.normalize(each.double()) for each in features)
    folds, held_out = folds_of(labels) if folds is None else folds, torch.empty(len(labels), dtype=torch.float64)
    for fold in range(FOLDS):
        inside = folds != fold
        statistics = statistics_of(training[inside], labels[inside], classes, rank)
        held_out[~inside] = statistics.distances(training[~inside])
    whole = statistics_of(training, labels, classes, rank)
    return [held_out, *map(whole.distances, others)]


def auroc(kept: NDArray[np.float64], unknown: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the area under the ROC curve and its 95 % interval (Hanley and McNeil, 1982)."""
    less, equal = kept[:, None] < unknown, kept[:, None] == unknown
    area, n, m = float((less + equal / 2).mean()), len(unknown), len(kept)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = sqrt((area * (1 - area) + (n - 1) * (q1 - area**2) + (m - 1) * (q2 - area**2)) / (n * m))
    return area, area - 1.96 * error, area + 1.96 * error


def write(file: Path, statistics: Familiarity) -> None:
    """Put statistics into a safetensors file; its other tensors and its metadata stay as they are."""
    with safe_open(file, framework="pt") as stream:
        tensors, metadata = {name: stream.get_tensor(name) for name in stream.keys()}, stream.metadata()  # noqa: SIM118
    with replacing(file) as new:
        new.write(save(tensors | {FAMILIARITY + name: each for name, each in statistics.tensors().items()}, metadata))


def percent(hits: int, n: int) -> str:
    low, high = wilson(hits, n)
    return f"{100 * hits / n:.1f} % ({low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("--kept", required=True, metavar="VAL")
    parser.add_argument("--unknown", required=True, metavar="OTHER")
    parser.add_argument("--weights", default="demo")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    weights = find_weights(args.weights)
    training, kept, unknown = (
        classify(weights, folder, args.precision) for folder in (args.train, args.kept, args.unknown)
    )
    labels = torch.tensor([weights.classes.index[Path(path).parent.name] for path in training.paths])
    results = {}
    for name, (held_out, of_kept, of_unknown) in measure(
        training, (kept, unknown), labels, len(weights.classes)
    ).items():
        threshold = held_out.double().quantile(SHARE)
        rows = int((of_kept <= threshold).sum()), int((of_unknown > threshold).sum())
        area = auroc(of_kept.double().numpy(), of_unknown.double().numpy())
        print(
            f"{name}: kept {percent(rows[0], len(of_kept))}, unknown {percent(rows[1], len(of_unknown))}, "
            f"AUROC {area[0]:.3f} ({area[1]:.3f} to {area[2]:.3f})"
        )
        results[name] = {"kept": rows[0] / len(of_kept), "unknown": rows[1] / len(of_unknown), "auroc": area}
    statistics = fit(training.middle_features, labels, len(weights.classes))
    if args.write:
        write(Path(weights.file), statistics)
        print(f"written to {weights.file}: {Path(weights.file).stat().st_size / 1e6:.2f} MB")
    stored = Familiarity.from_tensors(statistics.tensors()).to("cpu")
    limit, kept_rows = stored.threshold(SHARE), stored.distances(kept.middle_features)
    print(f"as stored: kept {percent(int((kept_rows <= limit).sum()), len(kept_rows))}")
    started = time.perf_counter()
    for _ in range(ROUNDS):
        stored.distances(training.middle_features[:BATCH])
    milliseconds = 1000 * (time.perf_counter() - started) / ROUNDS / BATCH
    print(f"{milliseconds:.4f} ms a photo for the distances, on {torch.get_num_threads()} threads")
    print(json.dumps({"bench": "familiar", "precision": args.precision, "ms": milliseconds, "scores": results}))


if __name__ == "__main__":
    main()
