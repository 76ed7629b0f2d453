"""Check the output files of a command before it begins."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from inception_cli.errors import InceptionError, UsageError, os_errors
from inception_cli.files.file_kind import file_id, file_kind
from inception_cli.files.remote import is_remote

#: What the beginning of each kind of output file contains.
REPORT_MARKER = b'<meta name="generator" content="inception'
PER_CLASS_MARKER = b"index,label,support,predicted,right,precision,recall,f1"
CONFUSION_MARKER = b"label\\predicted,"
LABELLED_ROWS_MARKER = b",error,true_label,correct\n"
HEAT_MAP_MARKER = b"inception heat map"  # in the metadata of a picture
ONNX_MARKER = b"\x12\x09inception\x1a"  # the field producer_name, and the number of the field after it
LOG_MARKER = b"epoch,learning_rate,crop_size,loss,"


@dataclass(frozen=True)
class OutputFile:
    """A file that a command writes; a file with the marker was written by this program and may be replaced."""

    option: str
    path: str | None
    marker: bytes = b""  # empty: the store that writes the file checks this


def check_outputs(
    outputs: Iterable[OutputFile], inputs: Iterable[str | None], force: bool = False, can_force: bool = True
) -> None:
    """Check the output files of a command before it begins.

    Raises UsageError for an output that is an input or another output as well. Raises InceptionError for a folder that
    does not exist or is not writable, for a pipe or a device, which would be replaced by a file, and for an existing
    file that this program did not write, unless `force` allows replacing it; `can_force` is whether the command has
    that option.
    """
    used = {_real(path): path for path in inputs if path and path != "-"}
    for output in outputs:
        if not output.path or output.path == "-" or is_remote(output.path):
            continue
        if other := used.get(_real(output.path)):
            raise UsageError(
                f"{output.option} {output.path}: it would overwrite {other}, which this command uses; give another name"
            )
        used[_real(output.path)] = output.path
        if not output.marker:
            continue
        file = Path(output.path)
        other_name = f"give another name to {output.option}"
        kind = file_kind(file, other_name)
        if file_kind(file.parent, other_name) != "folder":
            raise InceptionError(f"{file.parent}: no such folder; create it, or {other_name}")
        if kind == "folder":
            raise InceptionError(f"{file} is a folder; name a file in it for {output.option}")
        if kind == "other":
            raise InceptionError(f"{file}: not a regular file; {other_name}")
        if not os.access(file.parent, os.W_OK):
            raise InceptionError(f"{file.parent}: not a writable folder; {other_name}")
        if kind == "file" and not force and output.marker not in _beginning(file):
            remedy = "--force replaces it" if can_force else other_name
            raise InceptionError(f"{output.path} exists and was not written by inception; {remedy}")


def outputs_of_classify(
    out: str | None, report: str | None, arrays: Mapping[str, str], heat_map: str | None = None
) -> list[OutputFile]:
    """Return the output files; UsageError if one of them needs the predictions in a file, and there is none."""
    others = [OutputFile("--report", report, REPORT_MARKER)]
    others += [OutputFile(f"--{name}", file) for name, file in arrays.items()]
    for other in others:
        if other.path and out in (None, "-"):
            raise UsageError(f"{other.option} needs a file of predictions: give --out FILE as well")
    return [OutputFile("--out", out), *others, OutputFile("--explain", heat_map, HEAT_MAP_MARKER)]


def _real(path: str) -> object:
    """Return what two names of one file have in common: device and inode, or the resolved path of a new file."""
    return file_id(path) or os.path.realpath(path)


def _beginning(file: Path) -> bytes:
    with os_errors(file, "give another name"), file.open("rb") as stream:
        return stream.read(16_384)
