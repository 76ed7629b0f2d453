"""The command `export`: a network as a file for other programs."""

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from inception_cli.cli import options as o
from inception_cli.cli.outputs import ONNX_MARKER, OutputFile, check_outputs
from inception_cli.errors import UsageError

Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show the check against our own scores.", rich_help_panel=o.OUTPUT)
]


def export(
    out: o.OnnxOut = None,
    weights: o.ExportedWeights = ["torchvision"],  # noqa: B006 - Typer copies it
    preset: o.Preset = None,
    classes: o.ClassesFile = None,
    offline: o.Offline = False,
    force: o.Force = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: Verbose = False,
    debug: o.Debug = False,
) -> None:
    """Write a network as an ONNX file, for ONNX Runtime and OpenVINO.

    \b
    inception export --weights mine.safetensors --out mine.onnx

    Input: "pixels", RGB uint8 (N, S, S, 3), resized and cropped as the preset says. Output: "scores", fp32 (N, C).
    The keys of its metadata are classes, preset, weights, sha256 and inception; their values are JSON.
    """
    from inception_cli.cli import console
    from inception_cli.cli.progress import ProgressBar

    if not out:
        raise UsageError(f"--out FILE is missing: give --out {Path(weights[0]).stem}.onnx, for example")
    if len(weights) > 1:
        raise UsageError(f"export writes one network, not an ensemble of {len(weights)}: give --weights once")
    check_outputs([OutputFile("--out", out, ONNX_MARKER)], [*weights, classes], force)
    with ProgressBar("export", quiet) as bar:
        bar.loading(weights)
        from inception_cli.actions import export_onnx
        from inception_cli.predictions.classes import read_classes
        from inception_cli.weights.load import find_weights

        export_onnx.require_exporter()  # before a download
        names = read_classes(Path(classes)) if classes else None
        found = find_weights(weights[0], preset, names, offline, bar.downloading)
        bar.working(f"exporting {Path(out).name}")
        exported = export_onnx.export(found, Path(out))
    if not quiet:
        console.print_exported(exported, verbose)
    if json:
        print(jsonlib.dumps(exported.to_json()))
