"""The photos that a file names, found among the paths of rows."""

import re
from collections.abc import Collection, Sequence
from itertools import takewhile
from pathlib import Path

from inception_cli.errors import InceptionError
from inception_cli.results.label_files import imagenet_photo
from inception_cli.results.rows import written

_SUFFIX = re.compile(r"\.\w+$")


def match(file: Path, names: Collection[str], paths: Sequence[str]) -> list[str | None]:
    """For each of `paths` the one of `names` that means it, or None; a suffix may be missing in names.

    A name means the paths that end in it; where that finds none at all, in what is left of it below the folder that all
    names share. Photos of ImageNet's validation set go by their number. InceptionError when a name means two photos.
    """
    if not names:
        raise InceptionError(f"{file}: names no photos; is it the right list?")
    found = _find_all(file, {_key(name): name for name in names}, paths)
    if not any(found):
        shared = _shared_folder(names)
        found = _find_all(file, {_key(name[shared:]): name for name in names}, paths)
    if not any(found):
        raise InceptionError(
            f"{file}: names none of the photos, but such as {next(iter(names))}; is it the right list?"
        )
    return found


def _find_all(file: Path, by_key: dict[str, str], paths: Sequence[str]) -> list[str | None]:
    depth = max(key.count("/") for key in by_key) + 1
    found: list[str | None] = []
    photos: dict[str, str] = {}  # name → the path that it means
    for path in map(written, paths):
        name = _find(by_key, depth, path)
        if name and photos.setdefault(name, path) != path and not imagenet_photo(name):
            raise InceptionError(
                f"{file}: {name} means both {photos[name]} and {path}; name photos with their folders there"
            )
        found.append(name)
    return found


def _find(by_key: dict[str, str], depth: int, path: str) -> str | None:
    photo = imagenet_photo(path)
    if photo in by_key:
        return by_key[photo]
    for ending in (path, _SUFFIX.sub("", path)):
        parts = ending.split("/")[-depth:]
        for start in range(len(parts)):  # the longest first: it says the most
            name = by_key.get("/".join(parts[start:]))
            if name is not None:
                return name
    return None


def _key(name: str) -> str:
    return imagenet_photo(name) or name.removeprefix("./")


def _shared_folder(names: Collection[str]) -> int:
    """The length of the folder, with its slash, in which all names lie."""
    folders = {tuple(name.split("/")[:-1]) for name in names}
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(min(folders), max(folders), strict=False))
    return sum(len(folder) + 1 for folder, _ in shared)
