"""Cross-validate the training recipe of the bundled weights: five folds of photos, split by scene.

    python tests/bench/cross_validation.py scenes TRAIN --out scenes.csv
    python tests/bench/cross_validation.py train TRAIN --scenes scenes.csv --out WORK --fold 0 [--epochs 80]
    python tests/bench/cross_validation.py train TRAIN --scenes scenes.csv --out WORK2 --fold 0 --start WORK --epochs 4
    python tests/bench/cross_validation.py refit TRAIN --scenes scenes.csv --out WORK3 --fold 0 --start WORK
    python tests/bench/cross_validation.py score TRAIN --scenes scenes.csv --out WORK [--against OTHER_WORK]

TRAIN has one folder of photos per class. `scenes` finds photos of the same scene and writes path, scene and fold of
each photo. `train` trains a network on the photos of the other folds, from scratch or from that of the same fold in
`--start`, without fitting the last layer again; `--recipe` changes fields of the recipe, such as '{"balance": 1.0}' or
'{"hyperparameters": {"dropout": 0.5}}'. `refit` does the last steps of a training again for the network in `--start`:
batch-norm statistics and, without `--only-statistics`, the last layer. `score` classifies each photo with the network
that has not seen its fold, in several ways (see `VARIANTS`), and writes the rows of each way to WORK/NAME.csv. It
prints top-1 and the mean of the per-class accuracies, and for each other way the difference from the first, with
McNemar's exact p.

Photos of a scene are right or wrong together, so the 95 % intervals come from drawing whole scenes again (bootstrap);
McNemar's p takes the photos as independent and is too small.
"""

import argparse
import json
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from refit import refit

from inception_cli.classifier import Classifier
from inception_cli.config import Preset
from inception_cli.evaluation.compare import mcnemar
from inception_cli.images.discovery import Discovery
from inception_cli.machine import cores, fastest_precision
from inception_cli.predictions.prediction import Prediction
from inception_cli.training.recipe import Recipe
from inception_cli.training.settings import TrainConfig
from inception_cli.training.train import Trainer
from inception_cli.weights.load import find_weights, load_network, save_weights

FOLDS = 5
KEYPOINTS = 300  # per photo
DISTANCE_RATIO = 0.75  # Lowe's test: a match is much closer than the second best
#: Two photos show the same scene if so many matches agree with one fundamental matrix.
INLIERS = 20
RESAMPLES = 4000  # of the bootstrap
#: Classes of packages: those of two products share printed parts, so only photos of one product are compared. Its name
#: is that of the file, up to the number.
PACKAGED = {"carton"}


def scaled(factor: float) -> Callable[[Preset], Preset]:
    """Return the change of a preset to a larger input resolution of the same part of the photo."""
    return lambda preset: replace(preset, size=round(preset.size * factor), resize=round(preset.resize * factor))


@dataclass(frozen=True)
class Variant:
    """A way to classify with the same network."""

    change: Callable[[Preset], Preset] = lambda preset: preset
    crops: int = 1
    prior: float = 0.0  # scores are multiplied by this power of the number of training photos of their class


#: The first is how the weights are used.
VARIANTS = {
    "as trained": Variant(),
    "resolution x 0.85": Variant(scaled(0.85)),
    "resolution x 1.14": Variant(scaled(1.14)),
    "resolution x 1.27": Variant(scaled(1.27)),
    "whole short side": Variant(lambda preset: replace(preset, resize=preset.size)),
    "12 crops": Variant(crops=12),
    "frequent classes likelier": Variant(prior=0.5),
    "rare classes likelier": Variant(prior=-0.5),
}


def list_photos(folder: Path) -> list[Path]:
    return [*map(Path, Discovery([str(folder)]))]


class Keypoints:
    """The SIFT keypoints of a photo: positions (K, 2) in pixels, and descriptors (K, 128) of length 1."""

    def __init__(self, path: Path) -> None:
        import cv2

        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        points, descriptors = cv2.SIFT_create(nfeatures=KEYPOINTS).detectAndCompute(grey, None)  # type: ignore[attr-defined]
        self.positions = np.array([point.pt for point in points], np.float32).reshape(-1, 2)
        found = torch.from_numpy(descriptors if descriptors is not None else np.zeros((0, 128), np.float32))
        self.descriptors = torch.nn.functional.normalize(found)


def same_scene(one: Keypoints, other: Keypoints) -> bool:
    """Return whether two photos show the same things from two positions of the camera."""
    import cv2

    if min(len(one.positions), len(other.positions)) < INLIERS:
        return False
    nearest = (one.descriptors @ other.descriptors.T).topk(2, dim=1)
    distances = (2 - 2 * nearest.values).clamp(min=0).sqrt()
    matched = (distances[:, 0] < DISTANCE_RATIO * distances[:, 1]).numpy()
    if matched.sum() < INLIERS:
        return False
    positions = other.positions[nearest.indices[:, 0].numpy()]
    _, inliers = cv2.findFundamentalMat(one.positions[matched], positions[matched], cv2.FM_RANSAC, 2.0, 0.99, 200)
    return inliers is not None and int(inliers.sum()) >= INLIERS


def find_scenes(photos: Sequence[Path]) -> list[int]:
    """Return the scene of each photo: photos of a class that are connected by pairs of the same scene."""
    scenes = list(range(len(photos)))

    def root(position: int) -> int:
        while scenes[position] != position:
            position = scenes[position]
        return position

    by_class: dict[str, list[int]] = defaultdict(list)
    for position, photo in enumerate(photos):
        by_class[photo.parent.name].append(position)
    for name, positions in by_class.items():
        keypoints = {position: Keypoints(photos[position]) for position in positions}
        for one, other in combinations(positions, 2):
            products = {photos[position].name.rpartition("_")[0] for position in (one, other)}
            if name in PACKAGED and len(products) > 1:
                continue
            if root(one) != root(other) and same_scene(keypoints[one], keypoints[other]):
                scenes[root(other)] = root(one)
        print(f"{name}: {len(positions)} photos, {len({root(each) for each in positions})} scenes", flush=True)
    return [root(position) for position in range(len(photos))]


def assign_folds(photos: Sequence[Path], scenes: Sequence[int]) -> list[int]:
    """Return the fold of each photo: each scene, the largest first, goes where its class has the fewest photos."""
    sizes = Counter(scenes)
    filled: Counter[tuple[str, int]] = Counter()
    fold_of: dict[int, int] = {}
    for scene, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        name = photos[scene].parent.name
        fold = min(range(FOLDS), key=lambda each: (filled[name, each], filled["", each], each))
        fold_of[scene] = fold
        filled[name, fold] += size
        filled["", fold] += size
    return [fold_of[scene] for scene in scenes]


def write_scenes(args: argparse.Namespace) -> None:
    photos = list_photos(args.train)
    scenes = find_scenes(photos)
    names = [photo.relative_to(args.train).as_posix() for photo in photos]
    table = pd.DataFrame({"path": names, "scene": scenes, "fold": assign_folds(photos, scenes)})
    table.to_csv(args.out, index=False)
    print(table.groupby("fold").size().to_string())


def link_other_folds(args: argparse.Namespace) -> Path:
    """Return a folder with links to the photos of all folds but one."""
    table, folder = pd.read_csv(args.scenes), Path(args.out, f"fold{args.fold}")
    shutil.rmtree(folder, ignore_errors=True)  # links of another scenes file
    for path in table.loc[table["fold"] != args.fold, "path"]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).symlink_to((args.train / path).resolve())
    return folder


def train_fold(args: argparse.Namespace) -> None:
    """Train on all folds but one; a finished fold is left as it is."""
    out = args.out / f"fold{args.fold}.safetensors"
    if out.exists():
        return
    config = TrainConfig(
        train_dir=link_other_folds(args),
        out=out,
        start=find_weights(os.fspath(args.start / out.name)) if args.start else None,
        size=args.size,
        batch_size=args.batch_size,
        epochs=args.epochs,
        workers=args.workers,
        device=args.device,
        precision="bf16" if fastest_precision(args.device) == "bf16" else "fp32",
    )
    trainer = Trainer(config, changed(Recipe(), json.loads(args.recipe)))
    for epoch in trainer.epochs():
        print(f"fold {args.fold}, epoch {epoch.number}: {epoch.top1:.1f} %, {epoch.seconds:.0f} s", flush=True)
    trainer.save()


def refit_fold(args: argparse.Namespace) -> None:
    """Do the last steps of the training of a fold's network again: batch-norm statistics and last layer."""
    name = f"fold{args.fold}.safetensors"
    record = refit(link_other_folds(args), args.start / name, args.out / name, args.only_statistics)
    print(f"fold {args.fold}: {record.val_top1:.1f} %, last layer {record.last_layer or 'unchanged'}", flush=True)


def changed(record: Any, changes: dict[str, Any]) -> Any:
    """Return a record with some fields changed, nested records by a dictionary of their own."""
    return replace(
        record,
        **{
            name: changed(getattr(record, name), value) if isinstance(value, dict) else value
            for name, value in changes.items()
        },
    )


def classify_folds(args: argparse.Namespace, table: pd.DataFrame, variant: Variant) -> Iterator[pd.DataFrame]:
    """Yield the rows of each fold with the column top1_label, from the network that has not seen the fold."""
    counts = table["label"].value_counts()
    for fold, of_fold in table.groupby("fold"):
        with tempfile.TemporaryDirectory() as temporary:
            weights, copy = find_weights(str(args.out / f"fold{fold}.safetensors")), Path(temporary, "w.safetensors")
            save_weights(copy, load_network(weights), weights.classes.names, variant.change(weights.preset), {})
            classifier = Classifier(os.fspath(copy), top_k=len(counts), crops=variant.crops, workers=1)
            rows = classifier([args.train / path for path in of_fold["path"]])
        yield of_fold.assign(top1_label=[likeliest(row, counts, variant.prior) for row in rows])


def likeliest(row: Prediction, counts: "pd.Series[int]", prior: float) -> str:
    """Return the class with the highest score, each multiplied by a power of the number of photos of its class."""
    scores = {label: score * counts[label] ** prior for label, score in zip(row.labels, row.scores, strict=True)}
    return max(scores, key=lambda label: scores[label])


def resampled(values: NDArray[np.float64], scenes: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of values (N,) of photos, when whole scenes are drawn with replacement."""
    _, scene_of = np.unique(scenes, return_inverse=True)
    sizes, sums = np.bincount(scene_of), np.bincount(scene_of, values)
    drawn = np.random.default_rng(0).multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), RESAMPLES)
    low, high = np.percentile(drawn @ sums / (drawn @ sizes), [2.5, 97.5])
    return float(low), float(high)


def summary(rows: pd.DataFrame) -> str:
    low, high = resampled(rows["correct"].to_numpy(float), rows["scene"].to_numpy())
    average = rows.groupby("label")["correct"].mean().mean()
    return (
        f"top-1 {100 * rows['correct'].mean():.2f} % ({100 * low:.2f} to {100 * high:.2f}; n = {len(rows)} photos of "
        f"{rows['scene'].nunique()} scenes), class average {100 * average:.2f} %"
    )


def difference(rows: pd.DataFrame, reference: pd.DataFrame) -> str:
    """Return how much better the rows are than the reference, over the photos of both."""
    both = rows.merge(reference[["path", "correct"]], on="path", suffixes=("", "_reference"))
    gain = both["correct"].to_numpy(int) - both["correct_reference"].to_numpy(int)
    low, high = resampled(gain.astype(float), both["scene"].to_numpy())
    gained, lost = int((gain > 0).sum()), int((gain < 0).sum())
    return (
        f"{100 * gain.mean():+.2f} points ({100 * low:+.2f} to {100 * high:+.2f}): {gained} gained, {lost} lost, "
        f"McNemar's p = {mcnemar(gained, lost):.3g}"
    )


def score_folds(args: argparse.Namespace) -> None:
    """Print the figures of each way to classify, against the first one and against another training."""
    table = pd.read_csv(args.scenes)
    table["label"] = table["path"].str.split("/").str[0]
    trained = [fold for fold in range(FOLDS) if (args.out / f"fold{fold}.safetensors").exists()]
    print(f"{args.out}: folds {', '.join(map(str, trained)) or 'none'} of {FOLDS}")
    table = table[table["fold"].isin(trained)]
    reference: pd.DataFrame | None = None
    for name in VARIANTS:
        rows = scored(args, table, name)
        print(f"{name}: {summary(rows)}")
        if reference is None:
            reference = rows
            print(pd.crosstab(rows["label"], rows["top1_label"]).to_string())
            if args.against:
                other = with_correct(pd.read_csv(args.against / f"{name}.csv"))
                print(f"  against {args.against}: {difference(rows, other)}")
            if args.only_first:
                return
        else:
            print(f"  {difference(rows, reference)}")


def scored(args: argparse.Namespace, table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of a way to classify; its file is written first unless it has all photos."""
    file = args.out / f"{name}.csv"
    if not file.exists() or len(pd.read_csv(file)) != len(table):
        pd.concat(classify_folds(args, table, VARIANTS[name])).to_csv(file, index=False)
    return with_correct(pd.read_csv(file))


def with_correct(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(correct=rows["top1_label"] == rows["label"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("scenes", "train", "refit", "score"))
    parser.add_argument("train", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=Path)
    parser.add_argument("--fold", type=int, choices=range(FOLDS))
    parser.add_argument("--size", type=int, default=176)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--recipe", default="{}")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu", help="train: where")
    parser.add_argument("--workers", type=int, default=max(1, cores() // 2), help="train: threads that crop")
    parser.add_argument("--against", type=Path)
    parser.add_argument("--only-statistics", action="store_true", help="refit: leave the last layer as it is")
    parser.add_argument("--only-first", action="store_true", help="score the first way only")
    args = parser.parse_args()
    steps = {"scenes": write_scenes, "train": train_fold, "refit": refit_fold, "score": score_folds}
    steps[args.step](args)


if __name__ == "__main__":
    main()
