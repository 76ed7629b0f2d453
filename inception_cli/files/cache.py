"""JSON files in the program's own cache folder."""

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from inception_cli.errors import InceptionError
from inception_cli.files.atomic import beside, replacing


def in_cache_folder(name: str) -> Path:
    """Return the path of a file in the program's folder below the user's cache folder (`XDG_CACHE_HOME`)."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # A relative folder is to be ignored: XDG Base Directory Specification, "Basics".
    return (folder if folder.is_absolute() else Path.home() / ".cache") / "inception-cli" / name


def read_cache(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one when the file is missing or damaged."""
    try:
        values = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def add_to_cache(file: Path, key: str, value: Any) -> None:
    """Set a value of the object in a JSON file, unless the folder is not writable: then it is not kept.

    Processes that do this at the same time wait for each other, so that none undoes what another has added.
    """
    with suppress(OSError, InceptionError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with beside(file, ".lock").open("w") as lock:
            with suppress(OSError):  # a file system without locks
                fcntl.lockf(lock, fcntl.LOCK_EX)
            with replacing(file) as new:
                new.write(json.dumps(read_cache(file) | {key: value}, indent=1).encode())
