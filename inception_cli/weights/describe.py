"""Describe the network, the available weights and this machine for `inception info`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from inception_cli import machine
from inception_cli.config import PRESETS, Preset
from inception_cli.network.counting import Counts, count
from inception_cli.predictions.classes import read_classes
from inception_cli.storage.store import NetworkCounts
from inception_cli.weights.download import UnknownHash, cached_path
from inception_cli.weights.load import find_weights
from inception_cli.weights.read import read_trained
from inception_cli.weights.registry import DEMO, PUBLISHED


def describe(
    weights: Sequence[str], preset: str | None, classes: str | None, device: str, crops: int = 1
) -> dict[str, Any]:
    """Return the JSON of `inception info`: counts of the network, weights, device and fastest precision.

    Without `weights`, all that are published are described. The network's counts are for the classes and input
    resolution of the first weights, and `protocol` for all `weights`, if they can be an ensemble, and `crops`. Nothing
    is downloaded.
    """
    entries = [_describe_weights(name, preset, classes) for name in weights or (*PUBLISHED, DEMO)]
    counts = [count(entry["num_classes"], entry["preset_resolved"]["size"]) for entry in entries]
    for entry, entry_counts in zip(entries, counts, strict=True):
        entry |= {"params": entry_counts.params, "mmpretrain_count": entry_counts.mmpretrain_count}
    network = asdict(counts[0])
    stages = network.pop("stages")
    networks = len(weights) if weights and len({_ensemble_key(entry) for entry in entries}) == 1 else 1
    total = _network_counts(counts[0]).per_photo(networks, crops)
    device = machine.find_device(device)
    return {
        **network,
        "stages": stages,
        "protocol": {"networks": networks, "views": crops, "total": asdict(total)},
        "weights": entries,
        "notes": same_weights([(entry["name"], entry["sha256"]) for entry in entries if "sha256" in entry]),
        "device": device,
        "precision": machine.fastest_precision(device),
    }


def same_weights(hashes: Sequence[tuple[str, str]]) -> list[str]:
    """Return a remark for each of the (name, sha256) that occur more than once."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for name, sha256 in hashes:
        names[sha256].append(name)
    return [
        f"{' and '.join(same)} are the same weights: in an ensemble they count {len(same)} times"
        for same in names.values()
        if len(same) > 1
    ]


def _ensemble_key(entry: Mapping[str, Any]) -> tuple[object, ...]:
    """Return what the weights of an ensemble have in common."""
    return entry["num_classes"], *(entry["preset_resolved"][name] for name in ("size", "resize", "filter", "antialias"))


def _network_counts(counts: Counts) -> NetworkCounts:
    return NetworkCounts(counts.params, counts.macs, counts.flops, counts.mmpretrain_count)


def _describe_weights(name: str, preset: str | None, classes: str | None) -> dict[str, Any]:
    if name in PUBLISHED and not cached_path(PUBLISHED[name]).is_file():
        return _describe_published(name, preset)
    try:
        weights = find_weights(name, preset, read_classes(Path(classes)) if classes else None, offline=True)
    except UnknownHash:  # of published weights: as at the first use, the hub must be asked
        return _describe_published(name, preset)
    return {
        "name": name,
        "top1": weights.top1,
        "top5": weights.top5,
        "num_classes": len(weights.classes),
        "preset": weights.preset.name,
        "preset_resolved": _describe_preset(weights.preset),
        "cached": True,
        "path": weights.file,
        "source": weights.source,
        "licence": weights.licence,
        "sha256": weights.sha256,
        "classes": list(weights.classes.names),
        "notes": list(weights.notes),
        "trained": read_trained(Path(weights.file)),
    }


def _describe_published(name: str, preset: str | None) -> dict[str, Any]:
    """Describe published weights that are not on this machine, or cannot be used offline."""
    entry = PUBLISHED[name]
    chosen = preset or entry.preset
    return {
        "name": name,
        "top1": entry.top1,
        "top5": entry.top5,
        "num_classes": 1000,
        "preset": chosen,
        "preset_resolved": _describe_preset(PRESETS[chosen]),
        "cached": False,
        "path": str(cached_path(entry)),
        "source": entry.source,
        "licence": entry.licence,
    }


def _describe_preset(preset: Preset) -> dict[str, Any]:
    """Return the preset, and for each channel the range of values at the network's first convolution."""
    input_range = [
        (round(-mean / std, 4), round((1 - mean) / std, 4)) for mean, std in zip(preset.mean, preset.std, strict=True)
    ]
    return asdict(preset) | {"input_range": input_range}
