"""Compare the rows of a folder of real photos at several numbers of workers and batch sizes, and with torchvision.

    python tests/bench/same_rows.py PHOTOS

Targets: the same bytes at 0, 1 and 2 workers; at batch sizes 1, 7 and 64, and in a plain torchvision loop, the same
five classes and scores within 1e-5. The checkpoint is made up; fp32. Prints a line for each, then one line of JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torchvision
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from lively import lively

from inception_cli.config import PRESETS
from inception_cli.predictions.classes import imagenet
from inception_cli.predictions.formats import read_predictions
from inception_cli.predictions.prediction import Prediction
from inception_cli.weights.load import save_weights


def classify(photos: str, checkpoint: Path, out: Path, *words: str) -> list[Prediction]:
    """Return the rows of the command, run in its own process."""
    fixed = ("--precision", "fp32", "--decode", "exact", "--no-exif", "--allow-failures", "-q")
    program = "from inception_cli.__main__ import main; main()"
    command = [sys.executable, "-c", program, "classify", photos, "-w", str(checkpoint), *fixed, *words, "-o", str(out)]
    subprocess.run(command, check=True)
    return list(read_predictions(out))


def classify_with_torchvision(rows: list[Prediction]) -> list[Prediction]:
    """Return the rows of the same photos by torchvision's model and transforms, one at a time."""
    network = torchvision.models.inception_v3(weights=None, aux_logits=False, init_weights=False, transform_input=True)
    network.load_state_dict(lively().state_dict())
    network.eval()
    transforms = torchvision.models.Inception_V3_Weights.IMAGENET1K_V1.transforms()
    predictions = []
    for row in rows:
        with torch.inference_mode():
            best = network(transforms(Image.open(row.path).convert("RGB"))[None]).softmax(1)[0].topk(5)
        classes = tuple(best.indices.tolist())
        predictions.append(Prediction(row.path, "ok", classes, tuple(map(str, classes)), tuple(best.values.tolist())))
    return predictions


def compare(name: str, some: list[Prediction], others: list[Prediction]) -> dict[str, object]:
    """Print and return how many rows have the same classes, and the largest difference of scores."""
    pairs = [(one, other) for one, other in zip(some, others, strict=True) if one.status == "ok"]
    same = sum(one.classes == other.classes for one, other in pairs)
    apart = max(abs(a - b) for one, other in pairs for a, b in zip(one.scores, other.scores, strict=True))
    print(f"{name:<24} {same} of {len(pairs)} rows have the same five classes; scores within {apart:.1e}")
    for one, other in pairs:
        if one.classes != other.classes:
            print(f"  {one.path}: {one.classes} {one.scores} | {other.classes} {other.scores}")
    return {"compared": name, "rows": len(pairs), "same_classes": same, "scores_within": apart}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    photos = parser.parse_args().photos
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, outs = Path(folder, "lively.safetensors"), [Path(folder, f"{workers}.csv") for workers in range(3)]
        save_weights(checkpoint, lively(), imagenet().names, PRESETS["torchvision"], {})
        for workers, out in enumerate(outs):
            classify(photos, checkpoint, out, "-j", str(workers))
        same_bytes = len({out.read_bytes() for out in outs}) == 1
        rows = list(read_predictions(outs[0]))
        distinct = len({row.classes[0] for row in rows if row.classes})
        print(f"{len(rows)} rows, {distinct} distinct classes; the same bytes at 0, 1 and 2 workers: {same_bytes}")
        results = []
        for size in (1, 7, 64):
            out = Path(folder, f"batch-{size}.csv")
            results.append(compare(f"batches of {size}", classify(photos, checkpoint, out, "-b", str(size)), rows))
    good = [row for row in rows if row.status == "ok"]
    results.append(compare("plain torchvision loop", good, classify_with_torchvision(good)))
    print(json.dumps({"bench": "same_rows", "rows": len(rows), "same_bytes": same_bytes, "results": results}))


if __name__ == "__main__":
    main()
