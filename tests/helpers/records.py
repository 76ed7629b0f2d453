"""Make the records of a run for tests that load no network."""

from dataclasses import replace

from inception_cli.config import PRESETS, Classes, LoaderConfig, PixelConfig, Plan, RunConfig, Weights
from inception_cli.storage.store import Manifest, NetworkCounts


def run_config(batch_size: int = 4, top_k: int = 1) -> RunConfig:
    """Return the configuration of a run with ten classes."""
    classes = Classes(tuple(f"class {number}" for number in range(10)))
    preset = replace(PRESETS["torchvision"], name="small", size=75, resize=75)
    weights = Weights("small", "small.safetensors", "small.safetensors", "0" * 64, preset, classes)
    return RunConfig(PixelConfig(preset), LoaderConfig(batch_size), Plan(), top_k, (weights,))


def new_manifest(batch_size: int = 4, top_k: int = 1) -> Manifest:
    """Return the manifest of a run that has just begun."""
    return Manifest(
        inputs=("photos",),
        directory="/home/user",
        run=run_config(batch_size, top_k),
        versions={"inception": "0.2.0"},
        network=NetworkCounts(params=3, macs=5, flops=10, mmpretrain_count=6),
    )


_PRESET_0_1 = {
    "name": "torchvision-176-176",
    "size": 176,
    "resize": 201,
    "filter": "bilinear",
    "antialias": True,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "exif": True,
}
#: A manifest as version 0.1.0 wrote it, from `inception evaluate --val-dir sample_images -w demo --only-classes FILE`.
MANIFEST_0_1 = {
    "command": "classify",
    "inputs": ["sample_images"],
    "run": {
        "pixels": {"preset": _PRESET_0_1, "crops": 1, "decode": "exact", "exif": True, "max_pixels": 500_000_000},
        "loading": {"batch_size": 32, "workers": 2, "timeout": 60.0},
        "plan": {"device": "cpu", "precision": "fp32", "compile": False},
        "top_k": 1,
        "weights": [
            {
                "name": "demo",
                "file": "inception_cli/demo/demo.safetensors",
                "source": "inception_cli/demo/demo.safetensors",
                "sha256": "6c9968244235fb425285ed4d68cfdace61d16dc88bb1e041b0dc0ee146c1cd72",
                "preset": _PRESET_0_1,
                "classes": {"names": ["apple", "banana", "carton"]},
                "top1": None,
                "top5": None,
                "licence": "",
                "notes": [],
            }
        ],
        "threads": 2,
        "only": [0, 1],
    },
    "versions": {"inception": "0.1.0", "python": "3.11.7", "torch": "2.14.1"},
    "network": {"params": 21806058, "macs": 1653918560, "flops": 3307837120, "mmpretrain_count": 1663678192},
    "truth": {"val_dir": "sample_images", "labels": [], "label_form": None, "exclude": None, "sha256": {}},
    "split_to": 16,
    "n": 40,
    "counts": {"ok": 38, "corrupt": 2},
    "images_per_s": 4.122401714380059,
    "ledger": {
        "images": 40,
        "inputs_sha256": "9cc4830a870f285db92ff5c9a05b1e5e6d73cce5547a9628ef86ee707c443e75",
        "bytes": 2643,
        "header": "path,status,top1_index,top1_label,top1_score,error\n",
    },
}
