"""A run over very many photos needs no more memory than one over a few."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: A job whose decoder reads no file and whose network computes nothing, with 75 × 75 pixels.
PROGRAM = '''
import json, multiprocessing, os, signal, sys
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from inception_cli.config import Settings
from inception_cli.images import decode
from inception_cli.inference import runner
from inception_cli.inference.predictor import DevicePredictor
from inception_cli.storage.file_store import FileStore

IMAGE = Image.new("RGB", (75, 75), "orange")
decode.read = lambda path, config: IMAGE  # in spawned workers too, as they import this file


def with_small_images(run):
    preset = replace(run.pixels.preset, size=75, resize=75)
    return replace(run, pixels=replace(run.pixels, preset=preset), weights=(replace(run.weights[0], preset=preset),))


class Predictor(DevicePredictor):
    def load(self):
        return self

    def decode_on_device(self, batches):
        return batches

    def _best_classes(self, pixels):
        return torch.arange(5).repeat(len(pixels), 1), torch.full((len(pixels), 5), 0.2)


def memory():
    """Return the bytes of this process and its workers; what they share is counted once."""
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    rollups = "".join(Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return sum(int(line.split()[1]) for line in rollups.splitlines() if line.startswith("Pss:")) * 1024


class Callback:
    """Measures the memory; interrupts the first run half-way."""

    def __init__(self, stop_at):
        self.batches, self.first, self.most, self.stop_at = 0, 0, 0, stop_at

    def preparing(self, *_):
        pass

    def downloading(self, *_):
        pass

    def update(self, progress):
        self.batches += 1
        if self.batches == 20:  # both workers have started
            self.first = self.most = self.first or memory()
        if self.batches % 100 == 0 or progress.done == progress.total:
            self.most = max(self.most, memory())
        if self.stop_at and progress.done >= self.stop_at:
            self.stop_at = 0
            os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    folder, out, images, method = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    multiprocessing.set_start_method(method)
    runner.DevicePredictor = Predictor
    resolve = runner.resolve
    runner.resolve = lambda *arguments: with_small_images(resolve(*arguments))
    settings = Settings(weights=("demo",), batch_size=64, workers=2, precision="fp32", device="cpu")
    callback = Callback(stop_at=images // 2)
    first = runner.run_job([folder], settings, FileStore.open(out), callback)
    second = runner.run_job([folder], settings, FileStore.open(out), callback)
    callback.most = max(callback.most, memory())
    print(json.dumps({"interrupted": first.interrupted, "rows": second.progress.done,
                      "resumed": second.progress.resumed, "growth_mb": (callback.most - callback.first) / 1e6}))
'''


def growth(images: int, method: str, folder: Path) -> float:
    """Return the megabytes by which a run grew that was interrupted half-way and resumed."""
    photos = folder / "photos"
    for number in range(images):
        if number % 1000 == 0:
            place = photos / f"{number // 1000:04}"
            place.mkdir(parents=True)
        os.close(os.open(place / f"a photo with a name of some length {number:07}.jpg", os.O_CREAT))
    program = folder / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), str(photos), str(folder / "p.csv"), str(images), method]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert ended.returncode == 0, ended.stderr

    result = json.loads(ended.stdout)
    assert (result["interrupted"], result["rows"]) == (True, images)
    assert images // 2 <= result["resumed"] < images
    print(f"{images:,} images, {method}: grew by {result['growth_mb']:.0f} MB")
    return float(result["growth_mb"])


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_twenty_thousand_photos_need_no_more_memory_than_a_thousand(method: str, tmp_path: Path) -> None:
    assert growth(20_000, method, tmp_path) < 50


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_million_photos_need_no_more_memory_than_a_thousand(method: str, tmp_path: Path) -> None:
    assert growth(1_000_000, method, tmp_path) < 200
