"""Measure the speed of `inception train` against a bare loop over the same network, size and precision, in turns.

    python tests/bench/train.py [FOLDER]       FOLDER: class folders of images; without it, drawn images

The bare loop only runs the network: one batch that is already on the device, forward, loss, backward, step. Training
also augments images, clips gradients and averages weights. Neither figure includes validation or writing
the checkpoint. The last line is JSON.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path[:0] = [str(Path(__file__).parents[1] / "helpers"), str(Path(__file__).parents[2])]

from draw import write_pictures  # noqa: E402

from inception_cli.machine import fastest_precision  # noqa: E402
from inception_cli.network.model import InceptionV3  # noqa: E402
from inception_cli.training.recipe import Recipe  # noqa: E402
from inception_cli.training.settings import TrainConfig  # noqa: E402
from inception_cli.training.train import Trainer  # noqa: E402

TARGET_RATIO = 0.9


class BareLoop:
    """The same network and optimizer on one batch of noise."""

    def __init__(self, classes: int, side: int, config: TrainConfig) -> None:
        device = config.device
        self.kind, self.bf16 = device.partition(":")[0], config.precision == "bf16"
        self.network = InceptionV3(classes, aux=True).initialise(0).to(device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.network.parameters(), 0.01, 0.9, nesterov=True, fused=self.kind != "mps")
        images = torch.randn(config.batch_size, 3, side, side, device=device)
        self.images = images.to(memory_format=torch.channels_last)
        self.labels = torch.randint(classes, (config.batch_size,), device=device)

    def images_per_s(self, steps: int) -> float:
        started = time.monotonic()
        for _ in range(steps):
            with torch.autocast(self.kind, torch.bfloat16, enabled=self.bf16):
                logits, aux_logits = self.network.forward_train(self.images)
            loss = F.cross_entropy(logits.float(), self.labels) + 0.3 * F.cross_entropy(aux_logits.float(), self.labels)
            self.optimizer.zero_grad()
            torch.autograd.backward(loss)
            self.optimizer.step()
        loss.item()  # wait for the device
        return steps * len(self.images) / (time.monotonic() - started)


def measure(folder: Path, args: argparse.Namespace) -> dict[str, object]:
    """Return the images/s of both, the medians of `args.rounds` turns after one turn to warm up."""
    with tempfile.TemporaryDirectory() as out:
        config = TrainConfig(
            folder,
            Path(out) / "bench.safetensors",
            size=args.side,
            epochs=args.rounds + 1,
            batch_size=args.batch_size,
            device=args.device,
            precision=fastest_precision(args.device),
        )
        trainer = Trainer(config, Recipe(first_crop=1.0, last_crop=1.0, patience=2.0))
        bare = None
        pairs = []
        for result in trainer.epochs():
            bare = bare or BareLoop(len(trainer.classes), result.crop_size, config)
            steps = max(4, round(args.seconds * result.images_per_s / args.batch_size))
            pairs.append((result.images_per_s, bare.images_per_s(steps)))
            print(f"{result.number:5}  {pairs[-1][0]:8.1f}  {pairs[-1][1]:8.1f}  {pairs[-1][0] / pairs[-1][1]:6.3f}")
    ours, theirs = (statistics.median(column) for column in zip(*pairs[1:], strict=True))
    ratio = statistics.median(a / b for a, b in pairs[1:])
    return {"side": result.crop_size, "precision": config.precision, "train": ours, "bare": theirs, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8, help="length of each turn of the bare loop")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    print("round     train      bare   ratio   (images/s)")
    with tempfile.TemporaryDirectory() as drawn:
        if args.folder is None:
            write_pictures(Path(drawn), per_class=58, seed=7)
        result = measure(args.folder or Path(drawn), args)
    print(json.dumps(result | {"bar": TARGET_RATIO, "met": float(str(result["ratio"])) >= TARGET_RATIO}))


if __name__ == "__main__":
    main()
