"""What `inception info` tells: the network, the weights that can be had, this machine."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from inception_cli import published, weights
from inception_cli.images.preprocess import PRESETS, Preset
from inception_cli.network.counting import count
from inception_cli.results.classes import read_classes
from inception_cli.settings import Settings, resolve_plan


def facts(names: Sequence[str], preset: str | None, classes: str | None, device: str) -> dict[str, Any]:
    """Counts of the network, stage by stage, at the size of the first weights named; the weights; this machine.

    Without names: all that are published, and where their files lie here.
    """
    entries = [_found(name, preset, classes) for name in names or (*published.PUBLISHED, published.DEMO)]
    for entry in entries:
        of_entry = count(entry["num_classes"], entry["preset_resolved"]["size"])
        entry |= {"params": of_entry.params, "mmpretrain_count": of_entry.mmpretrain_count}
    counts = count(entries[0]["num_classes"], entries[0]["preset_resolved"]["size"])
    plan = resolve_plan(Settings(device=device))
    return {
        "params": counts.params,
        "params_aux": counts.params_aux,
        "macs": counts.macs,
        "flops": counts.flops,
        "mmpretrain_count": counts.mmpretrain_count,
        "stages": [asdict(stage) for stage in counts.stages],
        "weights": entries,
        "device": plan.device,
        "precision": plan.precision,
    }


def _published(name: str) -> dict[str, Any]:
    entry = published.PUBLISHED[name]
    path = published.place(entry)
    return {
        "name": name,
        "top1": entry.top1,
        "top5": entry.top5,
        "num_classes": 1000,
        "preset": entry.preset,
        "preset_resolved": _resolved(PRESETS[entry.preset]),
        "cached": path.is_file(),
        "path": str(path),
        "source": entry.source,
        "licence": entry.licence,
    }


def _found(name: str, preset: str | None, classes: str | None) -> dict[str, Any]:
    if name in published.PUBLISHED and not published.place(published.PUBLISHED[name]).is_file():
        return _published(name)  # `info` downloads nothing
    found = weights.find(name, preset, read_classes(Path(classes)) if classes else None)
    return {
        "name": name,
        "top1": found.top1,
        "top5": found.top5,
        "num_classes": len(found.classes),
        "preset": found.preset.name,
        "preset_resolved": _resolved(found.preset),
        "cached": True,
        "path": found.file,
        "source": found.source,
        "licence": found.licence,
        "sha256": found.sha256,
        "classes": list(found.classes.names),
        "notes": list(found.notes),
    }


def _resolved(preset: Preset) -> dict[str, Any]:
    """The preset with the range of values that the network's first convolution sees, channel by channel."""
    ends = [
        (round(-mean / std, 4), round((1 - mean) / std, 4)) for mean, std in zip(preset.mean, preset.std, strict=True)
    ]
    return asdict(preset) | {"input_range": ends}
