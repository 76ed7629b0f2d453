"""A run over very many photos needs no more memory than one over a few."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: The command's own run, with a decoder that reads nothing and a network that answers nothing; 75 pixels.
PROGRAM = '''
import json, multiprocessing, os, signal, sys
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from inception_cli import predict, session
from inception_cli.images import decode

PICTURE = Image.new("RGB", (75, 75), "orange")
decode.read = lambda path, pixels: PICTURE  # in spawned workers too, as they import this file


def small(run):
    preset = replace(run.pixels.preset, size=75, resize=75)
    return replace(run, pixels=replace(run.pixels, preset=preset), weights=(replace(run.weights[0], preset=preset),))


class Network(predict.Networks):
    def __init__(self, run):
        self.run, self.labels, self.at_once = run, run.weights[0].classes.names, None

    def _best(self, pixels):
        return torch.arange(5).repeat(len(pixels), 1), torch.full((len(pixels), 5), 0.2)


def memory():
    """Bytes of this process and its workers, what they share counted once."""
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    rollups = "".join(Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return sum(int(line.split()[1]) for line in rollups.splitlines() if line.startswith("Pss:")) * 1024


class Watch:
    def __init__(self):
        self.batches, self.first, self.most, self.stop_at = 0, 0, 0, 0

    def fetching(self, *_):
        pass

    def update(self, tally):
        self.batches += 1
        if self.batches == 20:  # both workers have begun
            self.first = self.most = self.first or memory()
        if self.batches % 100 == 0 or tally.done == tally.total:
            self.most = max(self.most, memory())
        if self.stop_at and tally.done >= self.stop_at:
            self.stop_at = 0
            os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    folder, out, images, method = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    multiprocessing.set_start_method(method)
    predict.Networks = Network
    resolve = session.resolve
    session.resolve = lambda *words, **more: small(resolve(*words, **more))
    settings = session.Settings(weights=("demo",), batch_size=64, workers=2, precision="fp32", device="cpu")
    watch = Watch()
    watch.stop_at = images // 2
    first = session.to_file([folder], settings, out, False, False, watch)
    second = session.to_file([folder], settings, out, False, False, watch)
    watch.most = max(watch.most, memory())
    print(json.dumps({"stopped": first.interrupted, "rows": second.tally.done, "resumed": second.resumed,
                      "growth_mb": (watch.most - watch.first) / 1e6}))
'''


def growth(images: int, method: str, folder: Path) -> float:
    """Megabytes by which a run, stopped half-way and gone on with, grew."""
    photos = folder / "photos"
    for number in range(images):
        if number % 1000 == 0:
            place = photos / f"{number // 1000:04}"
            place.mkdir(parents=True)
        os.close(os.open(place / f"a photo with a name of some length {number:07}.jpg", os.O_CREAT))
    program = folder / "program.py"
    program.write_text(PROGRAM)
    words = [sys.executable, str(program), str(photos), str(folder / "p.csv"), str(images), method]
    ended = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert ended.returncode == 0, ended.stderr

    told = json.loads(ended.stdout)
    assert (told["stopped"], told["rows"]) == (True, images)
    assert images // 2 <= told["resumed"] < images
    print(f"{images:,} images, {method}: grew by {told['growth_mb']:.0f} MB")
    return float(told["growth_mb"])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_twenty_thousand_photos(method: str, tmp_path: Path) -> None:
    assert growth(20_000, method, tmp_path) < 50


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_million_photos(method: str, tmp_path: Path) -> None:
    assert growth(1_000_000, method, tmp_path) < 200
