"""Match the images that a label file names with the paths of predictions."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain, takewhile
from pathlib import Path
from unicodedata import normalize

from inception_cli.errors import InceptionError
from inception_cli.evaluation.label_files import validation_image_of
from inception_cli.predictions.text import escape_bytes

_SUFFIX = re.compile(r"\.\w+$")


def match_paths(file: Path, names: Collection[str], paths: Sequence[str]) -> list[str | None]:
    """Return for each path the name in `names` that matches it, or None; names may lack the suffix.

    A name matches the paths that end in it. If no name matches any path, the folder that all names share is left out of
    the names. Images of ImageNet's validation set match by their number. A name in another Unicode form matches where
    none matches exactly: macOS writes accents as characters of their own. InceptionError if one name matches two paths.
    """
    if not names:
        raise InceptionError(f"{file}: names no photos; check that this is the right list")
    matches = _match_all(file, _by_key(names, 0), paths)
    if not any(matches):
        shared = _shared_folder(names)
        matches = _match_all(file, _by_key(names, shared), paths)
    if not any(matches):
        raise InceptionError(
            f"{file}: names none of these photos (its first is {next(iter(names))}); check that this is the right list"
        )
    return matches


def _match_all(file: Path, by_key: dict[str, str], paths: Sequence[str]) -> list[str | None]:
    depth = max(key.count("/") for key in by_key) + 1
    matches: list[str | None] = []
    matched: dict[str, str] = {}  # name → path
    for path in map(escape_bytes, paths):
        name = _match(by_key, depth, path)
        if name and matched.setdefault(name, path) != path and not validation_image_of(name):
            same_stem = _SUFFIX.sub("", matched[name]) == _SUFFIX.sub("", path)  # a.jpg and a.png in one folder
            remedy = f"give names with their {'suffixes' if same_stem else 'folders'}"
            raise InceptionError(f"{file}: {name} matches both {matched[name]} and {path}; {remedy}")
        matches.append(name)
    return matches


def _match(by_key: dict[str, str], depth: int, path: str) -> str | None:
    image = validation_image_of(path)
    if image in by_key:
        return by_key[image]
    forms = (path,) if path.isascii() else (path, normalize("NFC", path))
    for ending in chain.from_iterable((form, _SUFFIX.sub("", form)) for form in forms):
        parts = ending.split("/")[-depth:]
        for start in range(len(parts)):  # the longest ending first: it is the most specific
            name = by_key.get("/".join(parts[start:]))
            if name is not None:
                return name
    return None


def _by_key(names: Collection[str], start: int) -> dict[str, str]:
    """Return the names by what paths end in, without their first `start` characters; first in NFC, then as they are."""
    keys = {name: _key(name[start:]) for name in names}
    composed = {name: normalize("NFC", key) for name, key in keys.items() if not key.isascii()}
    counts = Counter(composed.values())
    by_composed = {key: name for name, key in composed.items() if counts[key] == 1}
    return by_composed | {key: name for name, key in keys.items()}


def _key(name: str) -> str:
    return validation_image_of(name) or name.removeprefix("./")


def _shared_folder(names: Collection[str]) -> int:
    """Return the length of the folder, including its slash, that all names begin with."""
    folders = {tuple(name.split("/")[:-1]) for name in names}
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(min(folders), max(folders), strict=False))
    return sum(len(folder) + 1 for folder, _ in shared)
