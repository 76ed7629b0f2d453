"""Photos to sort, predictions for them, and what is in a folder."""

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from records import new_manifest

from inception_cli.files.hashing import sha256
from inception_cli.predictions.formats import csv_header, to_csv
from inception_cli.predictions.prediction import Prediction

#: 1 January 2020 plus a few nanoseconds.
TIME = 1_577_836_800_123_456_789


def make_photo(file: Path, content: str | None = None, mode: int = 0o640) -> Path:
    """Write a file with its name as content, its own time and these permissions."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(os.fsencode(file.name if content is None else content) * 300)
    file.chmod(mode)
    os.utime(file, ns=(TIME, TIME + 1000 * len(os.fsencode(file.name))))
    return file


def write_rows(
    file: Path, labels: Mapping[str, str], not_ok: Sequence[str] = (), directory: Path | None = None
) -> Path:
    """Write a file of predictions with the label of each path; with `directory` also a manifest that names it."""
    names = list(dict.fromkeys(labels.values()))
    ok = [Prediction(path, "ok", (names.index(label),), (label,), (0.75,)) for path, label in labels.items()]
    bad = [Prediction(path, "corrupt", error="damaged") for path in not_ok]
    file.write_bytes(csv_header(1) + to_csv([*ok, *bad], 1))
    if directory:
        file.with_name(f"{file.name}.json").write_bytes(replace(new_manifest(), directory=str(directory)).encode())
    return file


def content(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return what is in a folder by path: text of links; hash, time and permissions of files. Without empty folders."""
    found: dict[str, tuple[object, ...]] = {}
    for root, _, names in os.walk(folder):
        for name in names:
            file = Path(root, name)
            status = file.lstat()
            described: tuple[object, ...] = (sha256(file), status.st_mtime_ns, stat.S_IMODE(status.st_mode))
            found[str(file.relative_to(folder))] = (str(file.readlink()),) if file.is_symlink() else described
    return found


def hashes(folder: Path) -> set[object]:
    """Return the hashes of all files in a folder."""
    return {each[0] for each in content(folder).values()}
